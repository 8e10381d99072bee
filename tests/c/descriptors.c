/* What a host has more with the library than without: descriptors and threads, at rest. */
#include <ondat_telemetry.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int count(const char *folder)
{
    int entries = 0;
    DIR *dir = opendir(folder);

    while (readdir(dir) != NULL)
        entries++;
    closedir(dir);
    return entries;
}

static void on_report(ondat_telemetry_report *report, void *userdata)
{
    (void)report;
    (void)userdata;
}

/* At rest: what the thread opens for a moment after its start is closed again. More than most for ten seconds is told as it is. */
static int at_rest(int before, int most)
{
    const struct timespec moment = {0, 1000000};
    int open = count("/proc/self/fd") - before;

    for (int looks = 0; open > most && looks < 10000; looks++) {
        nanosleep(&moment, NULL);
        open = count("/proc/self/fd") - before;
    }
    return open;
}

/* The first argument is how many descriptors there are at rest. With another one it has a report callback. */
int main(int argc, char **argv)
{
    char errbuf[512];
    int descriptors = count("/proc/self/fd"), threads = count("/proc/self/task");
    int most = argc > 1 ? atoi(argv[1]) : 0;
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    ondat_telemetry_config_load_env(config);
    if (argc > 2)
        ondat_telemetry_config_set_report_callback(config, on_report, argv[2], NULL);
    for (int round = 0; round < 20; round++) {
        if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK ||
            ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK ||
            ondat_telemetry_start(telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
            printf("%s\n", errbuf);
            return 1;
        }
        if (round == 0)
            printf("running %d %d\n", at_rest(descriptors, most), count("/proc/self/task") - threads);
        ondat_telemetry_close(telemetry, 0);
    }
    ondat_telemetry_config_free(config);
    printf("closed %d %d\n", count("/proc/self/fd") - descriptors, count("/proc/self/task") - threads);
    return 0;
}
