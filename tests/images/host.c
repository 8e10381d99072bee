/*
 * A host for tools/test-images: it says how it runs, and ends as it is told.
 *
 *   host with|without END
 *
 * "with" installs the crash handler, with all its settings from the environment; "without" does not use the library.
 */
#include <ondat_telemetry.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A code that no scenario ends with. */
enum { SURVIVED = 92 };

static void on_log(int level, const char *message, void *userdata)
{
    (void)level;
    (void)userdata;
    fprintf(stderr, "host: %s\n", message);
}

/* NULL where there is none: the program runs without it. */
static ondat_telemetry *begin(void)
{
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    ondat_telemetry *telemetry = NULL;
    char why[512];

    ondat_telemetry_config_set_log_callback(config, 4, on_log, NULL, NULL);
    ondat_telemetry_config_load_env(config);
    if (ondat_telemetry_init(config, &telemetry, why, sizeof why))
        fprintf(stderr, "host: init: %s\n", why);
    else if (ondat_telemetry_install_crash_handler(telemetry, 0, why, sizeof why))
        fprintf(stderr, "host: install: %s\n", why);
    else
        printf("watched ");
    ondat_telemetry_config_free(config);
    return telemetry;
}

/* The line of /proc/self/status that says whether system calls are filtered: 2 if they are. */
static void print_seccomp(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];

    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (!strncmp(line, "Seccomp:", 8))
            printf("seccomp %c ", line[9]);
    if (status != NULL)
        fclose(status);
}

int main(int argc, char **argv)
{
    const struct rlimit no_core = {0, 0};
    ondat_telemetry *telemetry = NULL;
    const char *end;
    sigset_t stop;
    int number;

    if (argc != 3)
        return SURVIVED;
    end = argv[2];
    setrlimit(RLIMIT_CORE, &no_core);
    /* As daemons do: PID 1 gets no signal for which it has not asked. */
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    if (!strcmp(argv[1], "with"))
        telemetry = begin();
    print_seccomp();
    printf("uid %d pid %d ready\n", (int)getuid(), (int)getpid());
    fflush(stdout);

    if (!strcmp(end, "SIGTERM")) {
        sigwait(&stop, &number);
        ondat_telemetry_close(telemetry, 1000);
        return 0;
    }
    if (!strcmp(end, "return 0"))
        return 0;
    if (!strcmp(end, "exit 3"))
        exit(3);
    if (!strcmp(end, "abort"))
        abort();
    if (!strcmp(end, "SIGSEGV"))
        *(volatile int *)NULL = 0;
    if (!strcmp(end, "memory"))
        for (;;) {
            volatile char *block = malloc(1 << 20);

            for (size_t at = 0; block != NULL && at < 1 << 20; at += 1024)
                block[at] = 1;
        }
    _exit(SURVIVED);
}
