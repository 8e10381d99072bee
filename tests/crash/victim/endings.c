/* Ends without a fault. */
#include "victim.h"

#include <sys/time.h>

static void exit_3(void)
{
    exit(3);
}

static void _exit_0(void)
{
    _exit(0);
}

static void _exit_7(void)
{
    _exit(7);
}

static void exit_0(void)
{
    exit(0);
}

static void hog(void)
{
    for (;;)
        memset(malloc(1 << 20), 1, 1 << 20);
}

static void wait_for_the_end(void)
{
    for (;;)
        pause();
}

static void refuse_to_be_dumped(void)
{
    prctl(PR_SET_DUMPABLE, 0);
}

static void close_and_segv(void)
{
    ondat_telemetry_close(telemetry, 0);
    segv();
}

static void close_and_exit_0(void)
{
    ondat_telemetry_close(telemetry, 0);
    exit(0);
}

static void *exit_3_on_thread(void *unused)
{
    (void)unused;
    exit(3);
}

static void exit_3_thread(void)
{
    run_thread(exit_3_on_thread, NULL);
}

static void *_exit_3_on_thread(void *unused)
{
    (void)unused;
    _exit(3);
}

static void _exit_3_thread(void)
{
    run_thread(_exit_3_on_thread, NULL);
}

static void quick_exit_3(void)
{
    quick_exit(3);
}

static void atexit_segv(void)
{
    atexit(segv);
    exit(0);
}

static void cpu_limit(void)
{
    struct rlimit limit = { 1, RLIM_INFINITY };

    setrlimit(RLIMIT_CPU, &limit);
    for (;;)
        ;
}

static void file_size_limit(void)
{
    struct rlimit limit = { 1, RLIM_INFINITY };
    FILE *file = tmpfile();

    setrlimit(RLIMIT_FSIZE, &limit);
    for (;;)
        (void)!write(fileno(file), "ab", 2);
}

static void broken_pipe(void)
{
    int ends[2];

    (void)!pipe(ends);
    close(ends[0]);
    (void)!write(ends[1], "x", 1);
}

static void alarm_clock(void)
{
    struct itimerval soon = { { 0, 0 }, { 0, 1000 } };

    setitimer(ITIMER_REAL, &soon, NULL);
    for (;;)
        pause();
}

static void usr1(void)
{
    raise(SIGUSR1);
}

const struct scenario endings[] = {
    { "exit_3", NULL, exit_3 },
    { "_exit_0", NULL, _exit_0 },
    { "_exit_7", NULL, _exit_7 },
    { "exit_0", NULL, exit_0 },
    { "hog", NULL, hog },
    { "wait", NULL, wait_for_the_end },
    { "undumpable", refuse_to_be_dumped, segv },
    { "close", NULL, close_and_segv },
    { "close_and_exit_0", NULL, close_and_exit_0 },
    { "exit_3_thread", NULL, exit_3_thread },
    { "_exit_3_thread", NULL, _exit_3_thread },
    { "quick_exit_3", NULL, quick_exit_3 },
    { "atexit_segv", NULL, atexit_segv },
    { "cpu_limit", NULL, cpu_limit },
    { "file_size_limit", NULL, file_size_limit },
    { "broken_pipe", NULL, broken_pipe },
    { "alarm_clock", NULL, alarm_clock },
    { "usr1", NULL, usr1 },
    { NULL, NULL, NULL },
};
