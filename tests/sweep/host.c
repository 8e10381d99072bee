/*
 * A host for tests/sweep. Prints "NAME STATUS MILLISECONDS" after each call of the library, and says to who traces it which
 * system calls are the library's. Settings come from the environment.
 *
 *   host crash     makes every kind of call and dies of a null pointer
 *   host close     makes every kind of call and closes
 *   host recover   delivers what is left, and closes
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MARK 0x7e570000
#define COUNT(on) syscall(SYS_prctl, (unsigned long)MARK, (unsigned long)(on), 0UL, 0UL, 0UL)

static char why[512];
static const char document[] = "{\"k8s_version\":\"v1.31.2\",\"nodes\":[{\"node_id\":\"n\"}],\"volumes\":[{\"volume_id\":\"v\"}]}";

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + (double)now.tv_nsec / 1e6;
}

#define CALL(name, expression)                                                                  \
    do {                                                                                        \
        double begun_ = milliseconds();                                                         \
        why[0] = 0;                                                                             \
        COUNT(1);                                                                               \
        int status_ = (int)(expression);                                                        \
        COUNT(0);                                                                               \
        dprintf(1, "%s %d %.0f %s\n", name, status_, milliseconds() - begun_, why);             \
    } while (0)

static int close_it(ondat_telemetry *telemetry)
{
    ondat_telemetry_close(telemetry, 500);
    return 0;
}

int main(int n, char **v)
{
    if (n != 2) return 2;
    int is_recovering = !strcmp(v[1], "recover");
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    ondat_telemetry_config_load_env(config);
    CALL("init", ondat_telemetry_init(config, &telemetry, why, sizeof why));
    ondat_telemetry_config_free(config);
    CALL("switches", ondat_telemetry_switches(telemetry));
    CALL("install", ondat_telemetry_install_crash_handler(telemetry, 0, why, sizeof why));
    if (!is_recovering) {
        CALL("start", ondat_telemetry_start(telemetry, why, sizeof why));
        CALL("check", ondat_telemetry_check_version(telemetry, 1000, NULL, NULL, why, sizeof why));
        CALL("submit", ondat_telemetry_submit_report(telemetry, document, strlen(document), 1000, why, sizeof why));
        CALL("exit", ondat_telemetry_report_exit(telemetry, "child", SIGKILL, NULL, why, sizeof why));
    }
    CALL("flush", ondat_telemetry_flush(telemetry, is_recovering ? 10000 : 1000, why, sizeof why));
    CALL("still", ondat_telemetry_switches(telemetry));
    if (!strcmp(v[1], "crash")) {
        COUNT(1);
        *(volatile int *)8 = 0;
    }
    CALL("close", close_it(telemetry));
    return 0;
}
