/*
 * What crashes in crash.py: a program with so much memory, with the library (-DWITH_LIBRARY) or without it.
 *
 *   crash_host MIB look|- THREADS
 *
 * It has so many busy threads. Once everything is installed it prints what it saw in itself, one `name value` a line, then `ready`, and waits for a
 * line on stdin. Descriptor 3 is memory that it shares with who started it, into which it writes the moment of its fault.
 */
#define _GNU_SOURCE
#ifdef WITH_LIBRARY
#include <ondat_telemetry.h>
#endif

#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* An address that is not mapped, unknown to the compiler. */
static volatile char *volatile nowhere;

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "crash_host: %s\n", what);
    exit(1);
}

/* Memory of small pages, all of it in use. */
static void hold(size_t mib)
{
    char *memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED || madvise(memory, mib << 20, MADV_NOHUGEPAGE) != 0)
        fail("memory");
    for (size_t at = 0; at < mib << 20; at += 4096)
        memory[at] = 1;
}

static void *be_busy(void *unused)
{
    (void)unused;
    for (;;)
        __asm__ volatile("");
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

static void look(const char *when)
{
    static char text[4096];
    int file = open("/proc/self/smaps_rollup", O_RDONLY);
    ssize_t length = read(file, text, sizeof text - 1);

    close(file);
    text[length > 0 ? length : 0] = '\0';
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char name[32];
        long kib;

        if (sscanf(line, "%31[^:]: %ld kB", name, &kib) == 2)
            printf("%s_%s %ld\n", when, name, kib);
    }
    printf("%s_threads %d\n%s_descriptors %d\n", when, count("/proc/self/task"), when, count("/proc/self/fd"));
}

#ifdef WITH_LIBRARY
/* The monitor is ready when it has taken its setup out of the socket: nothing of ours is left in the queue. */
static void wait_for_monitor(void)
{
    for (int fd = 4; fd < 64; fd++) {
        struct stat st;
        int queued = 0;

        if (fstat(fd, &st) != 0 || !S_ISSOCK(st.st_mode))
            continue;
        while (ioctl(fd, SIOCOUTQ, &queued) == 0 && queued > 0)
            ;
    }
}

static void install(void)
{
    char errbuf[512] = "";
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    int64_t start, middle, end, ready;

    ondat_telemetry_config_set_component(config, "bench");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "cluster-1");
    ondat_telemetry_config_set_node_id(config, "node-1");
    ondat_telemetry_config_load_env(config);
    start = now_ns();
    if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
        fail(errbuf);
    middle = now_ns();
    if (ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
        fail(errbuf);
    end = now_ns();
    wait_for_monitor();
    ready = now_ns();
    printf("init_ns %ld\ninstall_ns %ld\ncalls_ns %ld\nready_ns %ld\n", (long)(middle - start), (long)(end - middle),
           (long)(end - start), (long)(ready - start));
    ondat_telemetry_config_free(config);
}
#else
static void install(void)
{
}
#endif

int main(int argc, char **argv)
{
    volatile int64_t *fault;
    pthread_t thread;
    char line[8];

    if (argc != 4)
        fail("usage: crash_host MIB look|- THREADS");
    fault = mmap(NULL, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
    if (fault == MAP_FAILED)
        fail("descriptor 3");
    *fault = 0;
    hold((size_t)atol(argv[1]) + 1);
    for (int left = atoi(argv[3]); left > 0; left--)
        if (pthread_create(&thread, NULL, be_busy, NULL) != 0)
            fail("a thread");
    if (strcmp(argv[2], "look") == 0)
        look("before");
    install();
    if (strcmp(argv[2], "look") == 0)
        look("after");
    puts("ready");
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        return 0;
    *fault = now_ns();
    *nowhere = 1;
    return 0;
}
