/* A clock that jumps: the victim's clock_gettime stands before the C library's for the telemetry library too. */
#include "victim.h"

#include <time.h>

static volatile time_t wall_clock;
static volatile int is_set;

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, id, now) != 0)
        return -1;
    if (id == CLOCK_REALTIME && is_set)
        now->tv_sec = wall_clock;
    return 0;
}

static void set_clock(void)
{
    wall_clock = (time_t)strtoll(getenv("VICTIM_CLOCK"), NULL, 10);
    is_set = 1;
}

static void segv_then(void)
{
    struct timespec now;

    set_clock();
    clock_gettime(CLOCK_REALTIME, &now);
    printf("clock %lld\n", (long long)now.tv_sec);
    segv();
}

static void flush_then(void)
{
    char errbuf[256] = "";

    if (telemetry != NULL)
        printf("flushed %d %s\n", (int)ondat_telemetry_flush(telemetry, 10000, errbuf, sizeof errbuf), errbuf);
    exit(0);
}

const struct scenario clocks[] = {
    { "segv_then", NULL, segv_then },
    { "flush_then", set_clock, flush_then },
    { NULL, NULL, NULL },
};
