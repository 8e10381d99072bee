/* Ends without a fault. */
#include "victim.h"

static void exit_3(void)
{
    exit(3);
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

const struct scenario endings[] = {
    { "exit_3", NULL, exit_3 },
    { "_exit_7", NULL, _exit_7 },
    { "exit_0", NULL, exit_0 },
    { "hog", NULL, hog },
    { "wait", NULL, wait_for_the_end },
    { "undumpable", refuse_to_be_dumped, segv },
    { "close", NULL, close_and_segv },
    { NULL, NULL, NULL },
};
