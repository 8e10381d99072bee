/*
 * A daemon with a report callback, which is asked for its next report while it is told what to do.
 *
 *   next FILE TIMES
 *
 * A line of FILE is a letter and what to call with: c the cluster fields, n a node, v a volume. The callback goes through the
 * file so often, and prints "preview OK FAILED" or "report OK FAILED", with the numbers of calls. On the standard input it
 * is told, a line each, and answers with the same word and what has come of it:
 *
 *   pass SECONDS      the clock goes on
 *   switches MASK     the host's word
 *   memory            the most memory in KiB that the process has had since this was asked last
 *   open              how many descriptors are open, and how many threads there are
 *   hold              the next callback says "holding" in its middle and waits until
 *   release           it is let go on, which SIGUSR1 says as well
 *   split             the next callback forks a child, which returns from it as well
 *   fork              the number of a child that closes the client and lives until its parent has ended
 *   close             the client is closed
 *
 * Lines of the library's log are printed after "log".
 */
#define _GNU_SOURCE
#include "clock.h"

#include <ondat_telemetry.h>

#include <dirent.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int times;
static volatile sig_atomic_t is_holding, is_splitting;
static sem_t released;

static ondat_telemetry_status call(ondat_telemetry_report *report, char what, const char *json)
{
    switch (what) {
    case 'c':
        return ondat_telemetry_report_set_cluster(report, json, strlen(json), NULL, 0);
    case 'n':
        return ondat_telemetry_report_add_node(report, json, strlen(json), NULL, 0);
    default:
        return ondat_telemetry_report_add_volume(report, json, strlen(json), NULL, 0);
    }
}

static void hold_if_told(void)
{
    if (!is_holding)
        return;
    is_holding = 0;
    printf("holding\n");
    while (sem_wait(&released) != 0)
        ;
}

static void release(int signal)
{
    (void)signal;
    sem_post(&released);
}

static void on_log(int level, const char *line, void *userdata)
{
    (void)level;
    (void)userdata;
    printf("log %s\n", line);
}

static void on_report(ondat_telemetry_report *report, void *path)
{
    char line[4096];
    long taken[2] = {0, 0};
    FILE *file = fopen(path, "r");

    if (file == NULL)
        abort();
    for (int time = 0; time < times; time++) {
        rewind(file);
        while (fgets(line, sizeof line, file) != NULL) {
            line[strcspn(line, "\n")] = '\0';
            taken[call(report, line[0], line + 1) != ONDAT_TELEMETRY_OK]++;
        }
        hold_if_told();
    }
    fclose(file);
    if (is_splitting) {
        pid_t child = fork();

        is_splitting = 0;
        if (child == 0)
            return;
        waitpid(child, NULL, 0);
    }
    printf("%s %ld %ld\n", ondat_telemetry_report_is_preview(report) ? "preview" : "report", taken[0], taken[1]);
}

static int count(const char *folder)
{
    int entries = -3;
    DIR *dir = opendir(folder);

    while (readdir(dir) != NULL)
        entries++;
    closedir(dir);
    return entries;
}

/* Of /proc/self/status, and forgets it (proc_pid_clear_refs(5)). */
static long peak_memory(void)
{
    char line[256];
    long peak = -1;
    FILE *file = fopen("/proc/self/status", "r");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "VmHWM: %ld", &peak);
    fclose(file);
    file = fopen("/proc/self/clear_refs", "w");
    fputs("5\n", file);
    fclose(file);
    return peak;
}

static int fork_child(ondat_telemetry *telemetry)
{
    pid_t parent = getpid(), child = fork();

    if (child != 0)
        return (int)child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    ondat_telemetry_close(telemetry, 0);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    char line[64], errbuf[512];
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    if (argc != 3)
        return 2;
    times = atoi(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    sem_init(&released, 0, 0);
    signal(SIGUSR1, release);
    ondat_telemetry_config_set_log_callback(config, 6, on_log, NULL, NULL);
    ondat_telemetry_config_load_env(config);
    ondat_telemetry_config_set_report_callback(config, on_report, argv[1], NULL);
    clock_at_midnight();
    if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK ||
        ondat_telemetry_start(telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
        printf("failed %s\n", errbuf);
        return 1;
    }
    ondat_telemetry_config_free(config);
    printf("started\n");
    while (fgets(line, sizeof line, stdin) != NULL) {
        char word[16] = "";
        long number = 0;

        sscanf(line, "%15s %ld", word, &number);
        if (strcmp(word, "pass") == 0) {
            clock_pass(number);
            /* Whoever lets time pass also wakes who waits for it. */
            number = ondat_telemetry_set_switches(telemetry, 7, NULL, 0);
        } else if (strcmp(word, "switches") == 0) {
            number = ondat_telemetry_set_switches(telemetry, (uint32_t)number, NULL, 0);
        } else if (strcmp(word, "memory") == 0) {
            number = peak_memory();
        } else if (strcmp(word, "open") == 0) {
            number = 1000 * count("/proc/self/task") + count("/proc/self/fd");
        } else if (strcmp(word, "hold") == 0) {
            is_holding = 1;
        } else if (strcmp(word, "split") == 0) {
            is_splitting = 1;
        } else if (strcmp(word, "release") == 0) {
            release(0);
        } else if (strcmp(word, "fork") == 0) {
            number = fork_child(telemetry);
        } else if (strcmp(word, "close") == 0) {
            ondat_telemetry_close(telemetry, 0);
        }
        printf("%s %ld\n", word, number);
    }
    return 0;
}
