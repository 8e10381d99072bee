/* Stacks that end. */
#include "victim.h"

#include <limits.h>
#include <semaphore.h>
#include <sys/auxv.h>
#include <sys/mman.h>

static int __attribute__((noinline)) recurse(int depth)
{
    /* Small, so that the fault comes at the upper end of the guard page and never beyond its lower one. */
    volatile char frame[512];

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

static sem_t may_overflow;

static void *wait_and_overflow(void *unused)
{
    (void)unused;
    sem_wait(&may_overflow);
    recurse(0);
    return NULL;
}

static void start_thread_that_waits(void)
{
    pthread_t thread;

    sem_init(&may_overflow, 0, 0);
    pthread_create(&thread, NULL, wait_and_overflow, NULL);
}

static void overflow_older_thread(void)
{
    sem_post(&may_overflow);
    for (;;)
        pause();
}

static void overflow_tiny_thread(void)
{
    pthread_attr_t tiny;
    pthread_t thread;

    pthread_attr_init(&tiny);
    pthread_attr_setstacksize(&tiny, PTHREAD_STACK_MIN);
    if (pthread_create(&thread, &tiny, overflow, NULL) != 0)
        exit(95);
    pthread_join(thread, NULL);
}

/* A stack for signals with a page below it that nobody may touch. */
static char *use_alternate_stack(size_t size)
{
    size_t pages = (size + 4095) / 4096 * 4096;
    char *base = mmap(NULL, pages + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = { .ss_sp = base + 4096, .ss_size = size };

    mprotect(base, 4096, PROT_NONE);
    if (sigaltstack(&stack, NULL) != 0)
        exit(95);
    return base + 4096;
}

static void *overflow_on_own_alternate_stack(void *unused)
{
    char *own = use_alternate_stack(65536);
    stack_t now;

    (void)unused;
    ondat_telemetry_thread_init();
    sigaltstack(NULL, &now);
    printf("%s\n", now.ss_sp == (void *)own ? "kept" : "replaced");
    recurse(0);
    return NULL;
}

static void overflow_own_altstack(void)
{
    run_thread(overflow_on_own_alternate_stack, NULL);
}

static void recurse_in_handler(int signal_number)
{
    recurse(signal_number);
}

static void handle_segv_on_alternate_stack(void)
{
    struct sigaction action = { .sa_handler = recurse_in_handler, .sa_flags = SA_ONSTACK };

    use_alternate_stack(65536);
    sigaction(SIGSEGV, &action, NULL);
}

static char *top_of_stack;
static volatile size_t kernel_bytes;

static void measure(int signal_number)
{
    (void)signal_number;
    kernel_bytes = (size_t)(top_of_stack - (char *)__builtin_frame_address(0));
}

static void *segv_on_small_alternate_stack(void *unused)
{
    struct sigaction action = { .sa_handler = measure, .sa_flags = SA_ONSTACK };

    (void)unused;
    top_of_stack = use_alternate_stack(65536) + 65536;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    /* What the kernel puts there fits; what a handler needs does not: below is memory that nobody may touch, as the kernel
     * takes no stack of less than MINSIGSTKSZ. It aligns the processor's state to 64 bytes. */
    size_t fits = (kernel_bytes + 63) & ~(size_t)63;
    size_t least = fits > (size_t)MINSIGSTKSZ ? fits : (size_t)MINSIGSTKSZ;
    size_t below = 65536;
    char *pages = mmap(NULL, 2 * below, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t small = { .ss_sp = pages + below + fits - least, .ss_size = least };

    if (pages == MAP_FAILED || mprotect(pages, below, PROT_NONE) != 0 || sigaltstack(&small, NULL) != 0)
        exit(1);
    segv();
    return NULL;
}

static void small_altstack(void)
{
    run_thread(segv_on_small_alternate_stack, NULL);
}

static void abort_in_handler(int signal_number)
{
    (void)signal_number;
    abort();
}

static void trap_in_handler(int signal_number)
{
    (void)signal_number;
    __builtin_trap();
}

/* Alternate stacks of runtimes have room for what the kernel puts there for two signals, and for little else. */
static void handle_segv_on_runtimes_stack(void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };

    use_alternate_stack(2 * getauxval(AT_MINSIGSTKSZ) + 1024);
    sigaction(SIGSEGV, &action, NULL);
}

static void abort_on_segv(void)
{
    handle_segv_on_runtimes_stack(abort_in_handler);
}

static void trap_on_segv(void)
{
    handle_segv_on_runtimes_stack(trap_in_handler);
}

static void size_of_altstack(void)
{
    stack_t now;

    sigaltstack(NULL, &now);
    printf("%zu of %lu\n", now.ss_flags & SS_DISABLE ? 0 : now.ss_size, getauxval(AT_MINSIGSTKSZ));
    exit(0);
}

const struct scenario stacks[] = {
    { "overflow_main", NULL, overflow_main },
    { "overflow_thread", NULL, overflow_thread },
    { "overflow_thread_init", NULL, overflow_thread_init },
    { "overflow_older_thread", start_thread_that_waits, overflow_older_thread },
    { "overflow_tiny_thread", NULL, overflow_tiny_thread },
    { "overflow_own_altstack", NULL, overflow_own_altstack },
    { "overflow_altstack", handle_segv_on_alternate_stack, overflow_main },
    { "small_altstack", NULL, small_altstack },
    { "abort_on_small_altstack", abort_on_segv, segv },
    { "trap_on_small_altstack", trap_on_segv, segv },
    { "size_of_altstack", NULL, size_of_altstack },
    { NULL, NULL, NULL },
};
