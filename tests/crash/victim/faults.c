/* Faults of an instruction, and signals that say the same. */
#include "victim.h"

static void *segv_on_thread(void *unused)
{
    (void)unused;
    segv();
    return NULL;
}

static void segv_thread(void)
{
    run_thread(segv_on_thread, NULL);
}

static void *block_all_and_segv(void *unused)
{
    sigset_t all;

    (void)unused;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    segv();
    return NULL;
}

static void segv_blocked(void)
{
    run_thread(block_all_and_segv, NULL);
}

static void bus(void)
{
    FILE *file = tmpfile();
    volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);

    page[0] = 1;
}

static void fpe(void)
{
    volatile int zero = 0;

    printf("%d\n", 12345 / zero);
}

static void ill(void)
{
#if defined(__x86_64__)
    __asm__ volatile("ud2");
#else
    __asm__ volatile("udf #0");
#endif
}

static void trap(void)
{
#if defined(__x86_64__)
    __asm__ volatile("int3");
#else
    __asm__ volatile("brk #0");
#endif
}

static void raise_segv(void)
{
    raise(SIGSEGV);
}

static void kill_sys(void)
{
    kill(getpid(), SIGSYS);
}

static void xcpu(void)
{
    raise(SIGXCPU);
}

const struct scenario faults[] = {
    { "segv", NULL, segv },
    { "segv_thread", NULL, segv_thread },
    { "segv_blocked", NULL, segv_blocked },
    { "bus", NULL, bus },
    { "fpe", NULL, fpe },
    { "ill", NULL, ill },
    { "trap", NULL, trap },
    { "abort", NULL, abort },
    { "raise_segv", NULL, raise_segv },
    { "kill_sys", NULL, kill_sys },
    { "xcpu", NULL, xcpu },
    { NULL, NULL, NULL },
};
