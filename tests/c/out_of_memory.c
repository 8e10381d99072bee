/*
 * Less and less memory: each call comes back with a status, and none ends the process.
 *
 *   out_of_memory
 *
 * Each try is a child with an address space that may grow by a little, more each time, until the call succeeds.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP ((rlim_t)1 << 20)
#define MOST ((rlim_t)64 << 20)

static char errbuf[512];

static void on_text(const char *text, size_t len, void *userdata)
{
    (void)text;
    (void)len;
    (void)userdata;
}

/* `begin`, `middle` so often, each but the first after a comma, `end`. */
static char *document(const char *begin, const char *middle, size_t times, const char *end)
{
    char *text = malloc(strlen(begin) + times * (strlen(middle) + 1) + strlen(end) + 1), *at;

    if (text == NULL)
        exit(2);
    at = stpcpy(text, begin);
    for (size_t time = 0; time < times; time++) {
        if (time > 0)
            *at++ = ',';
        at = stpcpy(at, middle);
    }
    strcpy(at, end);
    return text;
}

/* The library's status in a process that may have so much more; -1 where it has not come back. */
static int in_child(const char *json, rlim_t more)
{
    int status;
    pid_t child = fork();

    if (child < 0)
        exit(2);
    if (child == 0) {
        unsigned long pages;
        struct rlimit limit;
        ondat_telemetry *telemetry = NULL;
        ondat_telemetry_config *config = ondat_telemetry_config_new();
        FILE *file = fopen("/proc/self/statm", "r");

        ondat_telemetry_config_set_component(config, "test");
        ondat_telemetry_config_set_version(config, "1.2.3");
        ondat_telemetry_config_set_cluster_id(config, "c");
        ondat_telemetry_config_set_node_id(config, "n");
        if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK || file == NULL
            || fscanf(file, "%lu", &pages) != 1)
            _exit(100);
        limit.rlim_cur = limit.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + more;
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            _exit(101);
        _exit((int)ondat_telemetry_preview_report(telemetry, json, strlen(json), on_text, NULL, errbuf, sizeof errbuf));
    }
    if (waitpid(child, &status, 0) != child)
        exit(2);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
    static const char volume[] = "{\"volume_id\":\"v\",\"volume_labels\":{\"app\":\"x\",\"tier\":\"y\",\"team\":\"z\"}}";
    struct {
        const char *what;
        char *json;
        int32_t right;
    } documents[] = {
        {"many volumes", document("{\"volumes\":[", volume, 20000, "]}"), ONDAT_TELEMETRY_OK},
        {"many empty nodes", document("{\"nodes\":[", "{}", 20000, "]}"), ONDAT_TELEMETRY_OK},
        {"many numbers", document("{\"volumes\":[{\"volume_metrics\":{\"a\":[", "0", 60000, "]}}]}"),
         ONDAT_TELEMETRY_INVALID_REPORT},
        {"many names", document("{\"api_call_metrics\":{", "\"operation\":{}", 1, "}}"), ONDAT_TELEMETRY_OK},
    };
    int failures = 0;

    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        int status = ONDAT_TELEMETRY_INTERNAL, internal = 0;

        for (rlim_t more = 0; more <= MOST && status == ONDAT_TELEMETRY_INTERNAL; more += STEP) {
            status = in_child(documents[i].json, more);
            internal += status == ONDAT_TELEMETRY_INTERNAL;
            /* Little documents need so little that none of it is asked for. */
            if (status != ONDAT_TELEMETRY_INTERNAL && status != documents[i].right) {
                printf("%s, %lu bytes more: status %d\n", documents[i].what, (unsigned long)more, status);
                failures++;
            }
        }
        if (status != documents[i].right || (strlen(documents[i].json) > 100000 && internal == 0)) {
            printf("%s: ends with status %d after %d that had no memory\n", documents[i].what, status, internal);
            failures++;
        }
        free(documents[i].json);
    }
    printf("%d failures\n", failures);
    return failures != 0;
}
