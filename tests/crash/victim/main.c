/*
 * A process that ends in a chosen way, with the library or without it.
 *
 *   victim with|without SCENARIO
 *
 * It prints "ready" once everything is installed, then waits for a line on stdin, so that a test can do something to
 * it or its monitor in between. VICTIM_LOG prints the library's log, VICTIM_CORE_DUMPS asks for core dumps, and
 * VICTIM_FOLDER is where it goes on.
 */
#include "victim.h"

static const struct scenario *const all[] = {
    faults, stacks, heaps, locks, threads, endings, handlers, hosts, children, plugins, lives, limits, clocks,
    evidence, surroundings, attribution,
};

ondat_telemetry *telemetry;

int returned = 96;

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

static void print_log(int priority, const char *line, void *unused)
{
    (void)unused;
    printf("log %d %s\n", priority, line);
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
    if (getenv("VICTIM_LOG") != NULL)
        ondat_telemetry_config_set_log_callback(config, 7, print_log, NULL, NULL);
    status = ondat_telemetry_init(config, client, errbuf, length);
    ondat_telemetry_config_free(config);
    return status;
}

static ondat_telemetry_status install_handler(ondat_telemetry *client, char *errbuf, size_t length)
{
    uint32_t flags = getenv("VICTIM_CORE_DUMPS") != NULL ? ONDAT_TELEMETRY_CRASH_CORE_DUMPS : 0;

    return ondat_telemetry_install_crash_handler(client, flags, errbuf, length);
}

ondat_telemetry *try_install(void)
{
    ondat_telemetry *client = NULL;
    char errbuf[512] = "";

    if (make_client(&client, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
        fprintf(stderr, "init: %s\n", errbuf);
        exit(98);
    }
    install_handler(client, errbuf, sizeof errbuf);
    return client;
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
    status = install_handler(telemetry, errbuf, sizeof errbuf);
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
    if (getenv("VICTIM_FOLDER") != NULL && chdir(getenv("VICTIM_FOLDER")) != 0)
        return 95;
    scenario->run();
    return returned;
}
