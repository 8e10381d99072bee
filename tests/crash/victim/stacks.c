/* Stacks that end. */
#include "victim.h"

static int __attribute__((noinline)) recurse(int depth)
{
    volatile char frame[4096];

    if (depth < 0)
        return 0;
    frame[0] = (char)depth;
    return recurse(depth + 1) + frame[0];
}

static void overflow_main(void)
{
    recurse(0);
}

static void *overflow(void *has_init)
{
    if (has_init != NULL)
        ondat_telemetry_thread_init();
    recurse(0);
    return NULL;
}

static void overflow_thread(void)
{
    run_thread(overflow, NULL);
}

static void overflow_thread_init(void)
{
    run_thread(overflow, "");
}

const struct scenario stacks[] = {
    { "overflow_main", NULL, overflow_main },
    { "overflow_thread", NULL, overflow_thread },
    { "overflow_thread_init", NULL, overflow_thread_init },
    { NULL, NULL, NULL },
};
