/*
 * What the library costs its host: the median of 50 for ondat_telemetry_init and for installing the crash handler until
 * its monitor is ready, and what stays open.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 50

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static void print(const char *what, double *times)
{
    qsort(times, ROUNDS, sizeof *times, compare);
    printf("%-44s median %7.3f ms   max %7.3f ms   (of %d)\n", what, times[ROUNDS / 2], times[ROUNDS - 1], ROUNDS);
}

static int count(const char *folder)
{
    int entries = 0;
    DIR *dir = opendir(folder);

    while (readdir(dir) != NULL)
        entries++;
    closedir(dir);
    return entries;
}

/* The monitor is ready when it has taken its setup out of the socket: nothing of ours is left in the queue. */
static void wait_for_monitor(void)
{
    for (int fd = 3; fd < 64; fd++) {
        struct stat st;
        int queued = 0;

        if (fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode))
            continue;
        while (ioctl(fd, SIOCOUTQ, &queued) == 0 && queued > 0)
            ;
    }
}

static long resident_kib(void)
{
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (fscanf(file, "%ld %ld", &total, &resident) != 2)
        resident = 0;
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(void)
{
    double init[ROUNDS], install[ROUNDS];
    char errbuf[512];
    int descriptors = count("/proc/self/fd"), threads = count("/proc/self/task");
    long resident = resident_kib();
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    ondat_telemetry_config_set_component(config, "bench");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    ondat_telemetry_config_load_env(config);
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ms();

        if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
            goto failed;
        init[round] = now_ms() - start;
        start = now_ms();
        if (ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
            goto failed;
        wait_for_monitor();
        install[round] = now_ms() - start;
        if (round == 0) {
            if (ondat_telemetry_start(telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
                goto failed;
            printf("%-44s %d threads, %d descriptors, %ld KiB resident\n", "in the host, everything running",
                   count("/proc/self/task") - threads, count("/proc/self/fd") - descriptors, resident_kib() - resident);
        }
        ondat_telemetry_close(telemetry, 0);
    }
    print("ondat_telemetry_init", init);
    print("install_crash_handler until monitor is ready", install);
    return 0;
failed:
    fprintf(stderr, "%s\n", errbuf);
    return 1;
}
