/*
 * A process that ends in a chosen way, with the library or without it.
 *
 *   victim with|without SCENARIO
 *
 * It prints "ready" once everything is installed, then waits for a line on stdin, so that a test can do something to
 * it or its monitor in between.
 */
#include "victim.h"

static const struct scenario *const all[] = { faults, stacks, heaps, threads, endings, hosts, lives, limits, clocks };

ondat_telemetry *telemetry;

void __attribute__((noinline)) segv(void)
{
    *(volatile char *)NULL = 1;
}

void run_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;

    pthread_create(&thread, NULL, body, argument);
    pthread_join(thread, NULL);
}

static const struct scenario *find(const char *name)
{
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (const struct scenario *scenario = all[i]; scenario->name != NULL; scenario++)
            if (strcmp(scenario->name, name) == 0)
                return scenario;
    fprintf(stderr, "no scenario %s\n", name);
    exit(99);
}

ondat_telemetry_status make_client(ondat_telemetry **client, char *errbuf, size_t length)
{
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    ondat_telemetry_status status;

    ondat_telemetry_config_set_component(config, "victim");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "cluster-1");
    ondat_telemetry_config_set_node_id(config, "node-1");
    ondat_telemetry_config_load_env(config);
    status = ondat_telemetry_init(config, client, errbuf, length);
    ondat_telemetry_config_free(config);
    return status;
}

void install(void)
{
    ondat_telemetry_status status;
    char errbuf[512] = "";

    status = make_client(&telemetry, errbuf, sizeof errbuf);
    if (status != ONDAT_TELEMETRY_OK) {
        /* A host goes on without. */
        printf("init %d %s\n", (int)status, errbuf);
        return;
    }
    status = ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf);
    printf("installed %d %s\n", (int)status, errbuf);
}

int main(int argc, char **argv)
{
    const struct scenario *scenario = find(argc > 2 ? argv[2] : "");
    char line[64];

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (scenario->before != NULL)
        scenario->before();
    if (strcmp(argv[1], "with") == 0)
        install();
    printf("ready\n");
    if (fgets(line, sizeof line, stdin) == NULL)
        return 97;
    scenario->run();
    return 96;
}
