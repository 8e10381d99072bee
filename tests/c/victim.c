/*
 * A process that ends in a chosen way, with the library or without it.
 *
 *   victim with|without SCENARIO
 *
 * It prints "ready" once everything is installed, then waits for a line on stdin, so that a test can do something to
 * it or its monitor in between.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static sigjmp_buf recovered;
static volatile int handler_calls;

static void __attribute__((noinline)) segv(void)
{
    *(volatile char *)NULL = 1;
}

static int __attribute__((noinline)) recurse(int depth)
{
    volatile char frame[4096];

    if (depth < 0)
        return 0;
    frame[0] = (char)depth;
    return recurse(depth + 1) + frame[0];
}

static void *segv_thread(void *unused)
{
    (void)unused;
    segv();
    return NULL;
}

static void *segv_at_barrier(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&barrier);
    segv();
    return NULL;
}

static void *segv_blocked(void *unused)
{
    sigset_t all;

    (void)unused;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    segv();
    return NULL;
}

static void *overflow_thread(void *init)
{
    if (init != NULL)
        ondat_telemetry_thread_init();
    recurse(0);
    return NULL;
}

static void run_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;

    pthread_create(&thread, NULL, body, argument);
    pthread_join(thread, NULL);
}

static void recover(int signal_number)
{
    (void)signal_number;
    handler_calls++;
    siglongjmp(recovered, 1);
}

static void count_and_exit(int signal_number)
{
    (void)signal_number;
    _exit(42);
}

static void divide_by_zero(void)
{
    volatile int zero = 0;

    printf("%d\n", 12345 / zero);
}

static void bus_error(void)
{
    FILE *file = tmpfile();
    volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);

    page[0] = 1;
}

static void end(const char *scenario)
{
    if (strcmp(scenario, "segv") == 0) {
        segv();
    } else if (strcmp(scenario, "segv_thread") == 0) {
        run_thread(segv_thread, NULL);
    } else if (strcmp(scenario, "segv_blocked") == 0) {
        run_thread(segv_blocked, NULL);
    } else if (strcmp(scenario, "segv_8_threads") == 0) {
        pthread_t thread;

        pthread_barrier_init(&barrier, NULL, 8);
        for (int i = 0; i < 8; i++)
            pthread_create(&thread, NULL, segv_at_barrier, NULL);
        for (;;)
            pause();
    } else if (strcmp(scenario, "bus") == 0) {
        bus_error();
    } else if (strcmp(scenario, "fpe") == 0) {
        divide_by_zero();
    } else if (strcmp(scenario, "ill") == 0) {
#if defined(__x86_64__)
        __asm__ volatile("ud2");
#else
        __asm__ volatile("udf #0");
#endif
    } else if (strcmp(scenario, "trap") == 0) {
#if defined(__x86_64__)
        __asm__ volatile("int3");
#else
        __asm__ volatile("brk #0");
#endif
    } else if (strcmp(scenario, "abort") == 0) {
        abort();
    } else if (strcmp(scenario, "raise_segv") == 0) {
        raise(SIGSEGV);
    } else if (strcmp(scenario, "kill_sys") == 0) {
        kill(getpid(), SIGSYS);
    } else if (strcmp(scenario, "xcpu") == 0) {
        raise(SIGXCPU);
    } else if (strcmp(scenario, "double_free") == 0) {
        void *volatile block = malloc(64);

        free(block);
        free(block);
    } else if (strcmp(scenario, "overflow_main") == 0) {
        recurse(0);
    } else if (strcmp(scenario, "overflow_thread") == 0) {
        run_thread(overflow_thread, NULL);
    } else if (strcmp(scenario, "overflow_thread_init") == 0) {
        run_thread(overflow_thread, &barrier);
    } else if (strcmp(scenario, "exit_3") == 0) {
        exit(3);
    } else if (strcmp(scenario, "_exit_7") == 0) {
        _exit(7);
    } else if (strcmp(scenario, "exit_0") == 0) {
        exit(0);
    } else if (strcmp(scenario, "hog") == 0) {
        for (;;)
            memset(malloc(1 << 20), 1, 1 << 20);
    } else if (strcmp(scenario, "wait") == 0) {
        for (;;)
            pause();
    } else if (strcmp(scenario, "handler_recovers") == 0) {
        if (sigsetjmp(recovered, 1) == 0)
            segv();
        printf("recovered %d\n", handler_calls);
        exit(0);
    } else if (strcmp(scenario, "handler_exits") == 0) {
        segv();
    } else if (strcmp(scenario, "ignored_abrt") == 0) {
        raise(SIGABRT);
        printf("still here\n");
        exit(0);
    } else if (strcmp(scenario, "fork_child") == 0) {
        int status = 0;
        pid_t child = fork();

        if (child == 0)
            segv();
        waitpid(child, &status, 0);
        printf("child %d\n", status & 0x7f);
        exit(0);
    } else if (strcmp(scenario, "exec") == 0) {
        execl("/bin/sh", "sh", "-c", "read line; exit 9", (char *)NULL);
    } else if (strcmp(scenario, "close_fds") == 0) {
        syscall(SYS_close_range, 3, ~0u, 0);
        segv();
    } else if (strcmp(scenario, "wait_any") == 0) {
        /* A host that reaps whatever comes must see no child of ours. */
        printf("children %d\n", (int)waitpid(-1, NULL, WNOHANG));
        exit(0);
    } else {
        fprintf(stderr, "no scenario %s\n", scenario);
        exit(99);
    }
}

int main(int argc, char **argv)
{
    const char *scenario = argc > 2 ? argv[2] : "";
    ondat_telemetry *telemetry = NULL;
    char errbuf[512] = "", line[64];

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(scenario, "handler_recovers") == 0)
        signal(SIGSEGV, recover);
    if (strcmp(scenario, "handler_exits") == 0)
        signal(SIGSEGV, count_and_exit);
    if (strcmp(scenario, "ignored_abrt") == 0)
        signal(SIGABRT, SIG_IGN);

    if (argc > 1 && strcmp(argv[1], "with") == 0) {
        ondat_telemetry_config *config = ondat_telemetry_config_new();
        ondat_telemetry_status status;

        ondat_telemetry_config_set_component(config, "victim");
        ondat_telemetry_config_set_version(config, "1.2.3");
        ondat_telemetry_config_set_cluster_id(config, "cluster-1");
        ondat_telemetry_config_set_node_id(config, "node-1");
        ondat_telemetry_config_load_env(config);
        if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
            fprintf(stderr, "init: %s\n", errbuf);
            return 98;
        }
        ondat_telemetry_config_free(config);
        status = ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf);
        printf("installed %d %s\n", (int)status, errbuf);
    }
    printf("ready\n");
    if (fgets(line, sizeof line, stdin) == NULL)
        return 97;
    if (strcmp(scenario, "close") == 0) {
        ondat_telemetry_close(telemetry, 0);
        segv();
    }
    end(scenario);
    return 96;
}
