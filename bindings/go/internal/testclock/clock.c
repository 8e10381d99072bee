//go:build linux && cgo

#define _GNU_SOURCE
#include "../../../../tests/real/clock.h"

void testclock_midnight(void);
void testclock_pass(long seconds);

void testclock_midnight(void)
{
    clock_at_midnight();
}

void testclock_pass(long seconds)
{
    clock_pass(seconds);
}
