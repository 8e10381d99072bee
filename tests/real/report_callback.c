/*
 * Fills the report of the day from a file, as a host does that has too many volumes to hold them in one document.
 *
 *   report_callback FILE TIMES [THREADS]
 *
 * A line of FILE is a letter and what to call with: c the cluster fields, n a node, v a volume. Goes through the file so
 * often, prints status and reason of each call, then "filled", and ends when its standard input does: until then the
 * library has the time to deliver. The last line is the most memory in KiB that the process had. Of several threads, each
 * goes through the whole file, all at once.
 */
#define _GNU_SOURCE
#include "clock.h"

#include <ondat_telemetry.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static char errbuf[512];
static int times, threads = 1;
static const char *path;

static ondat_telemetry_status call(ondat_telemetry_report *report, char what, const char *json, char *errbuf, size_t room)
{
    switch (what) {
    case 'c':
        return ondat_telemetry_report_set_cluster(report, json, strlen(json), errbuf, room);
    case 'n':
        return ondat_telemetry_report_add_node(report, json, strlen(json), errbuf, room);
    default:
        return ondat_telemetry_report_add_volume(report, json, strlen(json), errbuf, room);
    }
}

static void *fill(void *report)
{
    char line[4096], why[512];
    FILE *file = fopen(path, "r");

    if (file == NULL)
        abort();
    for (int time = 0; time < times; time++) {
        rewind(file);
        while (fgets(line, sizeof line, file) != NULL) {
            int status;

            line[strcspn(line, "\n")] = '\0';
            why[0] = '\0';
            status = (int)call((ondat_telemetry_report *)report, line[0], line + 1, why, sizeof why);
            printf("%d %s\n", status, why);
        }
    }
    fclose(file);
    return NULL;
}

static void on_report(ondat_telemetry_report *report, void *userdata)
{
    pthread_t others[16];

    path = userdata;
    for (int other = 1; other < threads; other++)
        if (pthread_create(&others[other], NULL, fill, report) != 0)
            abort();
    fill(report);
    for (int other = 1; other < threads; other++)
        pthread_join(others[other], NULL);
    printf("filled\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct rusage used;
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    if (argc < 3)
        return 2;
    times = atoi(argv[2]);
    if (argc > 3 && (threads = atoi(argv[3])) > 16)
        return 2;
    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_load_env(config);
    ondat_telemetry_config_set_report_callback(config, on_report, argv[1], NULL);
    clock_at_midnight();
    if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
        printf("init: %s\n", errbuf);
        return 1;
    }
    ondat_telemetry_config_free(config);
    clock_pass(NEARLY_A_DAY);
    if (ondat_telemetry_start(telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
        printf("start: %s\n", errbuf);
        return 1;
    }
    while (getchar() != EOF)
        ;
    ondat_telemetry_close(telemetry, 0);
    getrusage(RUSAGE_SELF, &used);
    printf("%ld\n", used.ru_maxrss);
    return 0;
}
