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
    faults, stacks, heaps, locks, threads, endings, handlers, hosts, children, plugins,
};

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

static void print_log(int priority, const char *line, void *unused)
{
    (void)unused;
    printf("log %d %s\n", priority, line);
}

/* A client that has installed the crash handler, or has been refused it. */
static ondat_telemetry *client_with_handler(ondat_telemetry_status *status, char *errbuf, size_t room)
{
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    uint32_t flags = getenv("VICTIM_CORE_DUMPS") != NULL ? ONDAT_TELEMETRY_CRASH_CORE_DUMPS : 0;
    ondat_telemetry *client = NULL;

    ondat_telemetry_config_set_component(config, "victim");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "cluster-1");
    ondat_telemetry_config_set_node_id(config, "node-1");
    ondat_telemetry_config_load_env(config);
    if (getenv("VICTIM_LOG") != NULL)
        ondat_telemetry_config_set_log_callback(config, 7, print_log, NULL, NULL);
    if (ondat_telemetry_init(config, &client, errbuf, room) != ONDAT_TELEMETRY_OK) {
        fprintf(stderr, "init: %s\n", errbuf);
        exit(98);
    }
    ondat_telemetry_config_free(config);
    *status = ondat_telemetry_install_crash_handler(client, flags, errbuf, room);
    return client;
}

ondat_telemetry *try_install(void)
{
    ondat_telemetry_status status;
    char errbuf[512] = "";

    return client_with_handler(&status, errbuf, sizeof errbuf);
}

static void install(void)
{
    ondat_telemetry_status status;
    char errbuf[512] = "";

    telemetry = client_with_handler(&status, errbuf, sizeof errbuf);
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
    return 96;
}
