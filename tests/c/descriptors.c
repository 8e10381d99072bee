/* What a host has more with the library than without: descriptors and threads, at rest. */
#include <ondat_telemetry.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>

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

/* With an argument it has a report callback. */
int main(int argc, char **argv)
{
    char errbuf[512];
    int descriptors = count("/proc/self/fd"), threads = count("/proc/self/task");
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    ondat_telemetry_config_load_env(config);
    if (argc > 1)
        ondat_telemetry_config_set_report_callback(config, on_report, argv[1], NULL);
    for (int round = 0; round < 20; round++) {
        if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK ||
            ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK ||
            ondat_telemetry_start(telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
            printf("%s\n", errbuf);
            return 1;
        }
        if (round == 0)
            printf("running %d %d\n", count("/proc/self/fd") - descriptors, count("/proc/self/task") - threads);
        ondat_telemetry_close(telemetry, 0);
    }
    ondat_telemetry_config_free(config);
    printf("closed %d %d\n", count("/proc/self/fd") - descriptors, count("/proc/self/task") - threads);
    return 0;
}
