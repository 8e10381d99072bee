/*
 * A C program with the library, and with Go code that it opens late.
 *
 *   host with|without before|after SCENARIO
 *
 * The crash handler is installed before or after the Go runtime's.
 */
#include <ondat_telemetry.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ondat_telemetry *telemetry;

static void fail(const char *why)
{
    fprintf(stderr, "host: %s\n", why);
    exit(99);
}

static void install(void)
{
    char why[512];
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    ondat_telemetry_config_set_component(config, "victim");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "cluster-1");
    ondat_telemetry_config_set_node_id(config, "node-1");
    ondat_telemetry_config_load_env(config);
    if (ondat_telemetry_init(config, &telemetry, why, sizeof why) != ONDAT_TELEMETRY_OK)
        fail(why);
    ondat_telemetry_config_free(config);
    if (ondat_telemetry_install_crash_handler(telemetry, 0, why, sizeof why) != ONDAT_TELEMETRY_OK)
        fail(why);
}

int main(int argc, char **argv)
{
    int (*recovers)(int);
    void (*panics)(void);
    void *guest;
    int is_with, is_before;

    if (argc != 4)
        return 2;
    is_with = strcmp(argv[1], "with") == 0;
    is_before = strcmp(argv[2], "before") == 0;
    if (is_with && is_before)
        install();
    guest = dlopen(getenv("GUEST"), RTLD_NOW);
    if (guest == NULL)
        fail(dlerror());
    *(void **)&recovers = dlsym(guest, "guest_recovers");
    *(void **)&panics = dlsym(guest, "guest_panics");
    /* The runtime is up when the first call has returned. */
    recovers(0);
    if (is_with && !is_before)
        install();
    printf("ready\n");
    fflush(stdout);
    if (getchar() != '\n')
        return 2;
    if (strcmp(argv[3], "recovers") == 0)
        printf("recovered %d\n", recovers(10000));
    else if (strcmp(argv[3], "panics") == 0)
        panics();
    else if (strcmp(argv[3], "segv") == 0)
        *(volatile int *)0 = 1;
    else
        abort();
    ondat_telemetry_close(telemetry, 0);
    return 0;
}
