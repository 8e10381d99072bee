/*
 * A clock that the program sets. Its clock_gettime stands before the C library's for everything in the process, the
 * telemetry library included; what it shows differs from the kernel's by what clock_shift says.
 *
 * The report of the day is due five minutes after start at the earliest, and in the node's slot of the UTC day. A program
 * starts its client at midnight and lets the clock go on to half an hour before the end of that day, when the slots of the
 * nodes that the tests have are over: a slow machine does not get into the next day. The day is tomorrow: the kernel's timers
 * know nothing of this, so the clock must never lag behind theirs.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NEARLY_A_DAY (86400 - 1800)

/* Seconds. The wall clock is off by both, the boot's clock by what has passed since midnight. */
static volatile time_t clock_to_midnight, clock_since_midnight;

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, id, now) != 0)
        return -1;
    if (id == CLOCK_REALTIME)
        now->tv_sec += clock_to_midnight + clock_since_midnight;
    if (id == CLOCK_BOOTTIME)
        now->tv_sec += clock_since_midnight;
    return 0;
}

/* It is the midnight before tomorrow, for one client after the other. */
static void clock_at_midnight(void)
{
    struct timespec now;

    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    clock_to_midnight = 86400 - (now.tv_sec + clock_since_midnight) % 86400;
}

/* So many seconds pass at once. */
static void clock_pass(time_t seconds)
{
    clock_since_midnight += seconds;
}

#endif
