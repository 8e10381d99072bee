/*
 * Reports the wait statuses of real children, and of children that have only stopped or gone on: prints what each was,
 * the status, and what ondat_telemetry_report_exit returned.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static ondat_telemetry *telemetry;
static char errbuf[512];

static void report(const char *what, pid_t child)
{
    int status = -1;

    if (waitpid(child, &status, WUNTRACED | WCONTINUED) != child) {
        perror("waitpid");
        exit(1);
    }
    printf("%s %#x %d\n", what, (unsigned)status,
           (int)ondat_telemetry_report_exit(telemetry, "child", status, NULL, errbuf, sizeof errbuf));
}

/* A child that exits with this code, or waits for a signal where it is negative. */
static pid_t start(int code)
{
    pid_t child = fork();

    if (child == 0) {
        if (code >= 0)
            _exit(code);
        for (;;)
            pause();
    }
    return child;
}

int main(void)
{
    const struct rlimit no_core = { 0, 0 };
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    pid_t child;

    setrlimit(RLIMIT_CORE, &no_core);
    setvbuf(stdout, NULL, _IOLBF, 0);
    ondat_telemetry_config_set_component(config, "parent");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    ondat_telemetry_config_load_env(config);
    if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
        fprintf(stderr, "%s\n", errbuf);
        return 1;
    }
    ondat_telemetry_config_free(config);

    report("exited", start(0));
    report("exited", start(7));
    report("exited", start(255));
    child = start(-1);
    kill(child, SIGSTOP);
    report("stopped", child);
    kill(child, SIGCONT);
    report("continued", child);
    kill(child, SIGKILL);
    report("killed", child);
    child = start(-1);
    kill(child, SIGTERM);
    report("killed", child);
    child = start(-1);
    kill(child, SIGSEGV);
    report("killed", child);
    child = start(-1);
    kill(child, SIGRTMAX);
    report("killed", child);
    ondat_telemetry_close(telemetry, 0);
    return 0;
}
