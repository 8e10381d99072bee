/*
 * What version checks leave behind in a host.
 *
 *   version_cost CHECKS TIMEOUT_MS STATUS
 *
 * Makes the checks, each of which must have this status, and prints what the process has after a tenth of them and after
 * all: descriptors, threads, allocated bytes, resident KiB. A first tenth, because the C library makes things once.
 */
#include <ondat_telemetry.h>

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count(const char *folder)
{
    int entries = 0;
    DIR *dir = opendir(folder);

    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        entries += entry->d_name[0] != '.';
    closedir(dir);
    return entries;
}

static long resident_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");

    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "VmRSS: %ld", &kib) != 1)
        ;
    fclose(file);
    return kib;
}

struct held {
    int descriptors, threads;
    size_t allocated;
    long resident_kib;
};

static struct held held_now(void)
{
    struct mallinfo2 heap = mallinfo2();

    return (struct held){count("/proc/self/fd"), count("/proc/self/task"), heap.uordblks + heap.hblkhd, resident_kib()};
}

static void print(struct held held)
{
    printf("%d %d %zu %ld\n", held.descriptors, held.threads, held.allocated, held.resident_kib);
}

int main(int argc, char **argv)
{
    char errbuf[512] = "";
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    struct held early = {0};
    int checks, expected;
    uint32_t timeout_ms;

    if (argc != 4)
        return 2;
    checks = atoi(argv[1]);
    timeout_ms = (uint32_t)atoi(argv[2]);
    expected = atoi(argv[3]);
    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_set_version(config, "2.8.2");
    ondat_telemetry_config_set_cluster_id(config, "cluster-1");
    ondat_telemetry_config_set_node_id(config, "node-1");
    ondat_telemetry_config_load_env(config);
    if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
        printf("init: %s\n", errbuf);
        return 1;
    }
    ondat_telemetry_config_free(config);
    for (int done = 1; done <= checks; done++) {
        ondat_telemetry_status status =
            ondat_telemetry_check_version(telemetry, timeout_ms, NULL, NULL, errbuf, sizeof errbuf);

        if ((int)status != expected) {
            printf("check %d: %d %s\n", done, (int)status, errbuf);
            return 1;
        }
        if (done == checks / 10)
            early = held_now();
    }
    /* Printing allocates, so it comes last. */
    struct held late = held_now();
    print(early);
    print(late);
    ondat_telemetry_close(telemetry, 0);
    return 0;
}
