/* Locks that are held when the fault comes: a handler that takes one of them waits for itself. */
#include "victim.h"

#include <dlfcn.h>
#include <link.h>
#include <malloc.h>
#include <semaphore.h>
#include <stdint.h>
#include <time.h>

/* A lock of the C library, by what holds it and what wants it. */
struct lock {
    void (*fault_inside)(void);
    void (*use)(void);
};

static sem_t has_faulted, was_used;
static const struct lock *proven;

static void *use_after_fault(void *unused)
{
    (void)unused;
    sem_wait(&has_faulted);
    proven->use();
    sem_post(&was_used);
    return NULL;
}

static void see_whether_it_is_held(int signal_number)
{
    struct timespec deadline;

    (void)signal_number;
    sem_post(&has_faulted);
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_nsec += 200000000;
    deadline.tv_sec += deadline.tv_nsec / 1000000000;
    deadline.tv_nsec %= 1000000000;
    _exit(sem_timedwait(&was_used, &deadline) == 0 ? 1 : 0);
}

static void *idle(void *unused)
{
    for (;;)
        pause();
    return unused;
}

/* Prints whether another thread can use the lock while the fault is dealt with, tried in a child; then faults. */
static void fault_inside(const struct lock *lock)
{
    pthread_t thread;
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        proven = lock;
        sem_init(&has_faulted, 0, 0);
        sem_init(&was_used, 0, 0);
        pthread_create(&thread, NULL, use_after_fault, NULL);
        signal(SIGSEGV, see_whether_it_is_held);
        lock->fault_inside();
        _exit(2);
    }
    waitpid(child, &status, 0);
    printf("%s\n", status == 0 ? "held" : "not held");
    /* With one thread the C library leaves some locks alone. */
    pthread_create(&thread, NULL, idle, NULL);
    lock->fault_inside();
}

static void fault_in_malloc(void)
{
    char *volatile before, *volatile block, *volatile after;

    /* One arena for all threads, and no block outside it. */
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 1 << 24);
    before = malloc(30000);
    block = malloc(30000);
    after = malloc(30000);
    free(block);
    /* malloc looks at the free block's header. */
    mprotect((void *)((uintptr_t)(block - 16) & ~(uintptr_t)4095), 4096, PROT_NONE);
    block = malloc(100000);
    free(before);
    free(after);
}

static void allocate(void)
{
    void *volatile block = malloc(2000);

    free(block);
}

static void arena(void)
{
    static const struct lock lock = { fault_in_malloc, allocate };

    fault_inside(&lock);
}

static void fault_in_constructor(void)
{
    dlopen(getenv("CONSTRUCTOR"), RTLD_NOW);
}

static void open_itself(void)
{
    dlopen(NULL, RTLD_NOW);
}

static void loader(void)
{
    static const struct lock lock = { fault_in_constructor, open_itself };

    fault_inside(&lock);
}

static int fault_in_callback(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)info, (void)size, (void)unused;
    segv();
    return 0;
}

static void fault_among_objects(void)
{
    dl_iterate_phdr(fault_in_callback, NULL);
}

static int see_object(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)info, (void)size, (void)unused;
    return 0;
}

static void see_objects(void)
{
    dl_iterate_phdr(see_object, NULL);
}

static void objects(void)
{
    static const struct lock lock = { fault_among_objects, see_objects };

    fault_inside(&lock);
}

static void fault_with_stdout(void)
{
    flockfile(stdout);
    segv();
}

static void print(void)
{
    flockfile(stdout);
    funlockfile(stdout);
}

static void stdio(void)
{
    static const struct lock lock = { fault_with_stdout, print };

    fault_inside(&lock);
}

static void fault_in_localtime(void)
{
    time_t now = 0;

    localtime_r(&now, (struct tm *)(uintptr_t)8);
}

static void tell_time(void)
{
    struct tm broken_down;
    time_t now = 0;

    localtime_r(&now, &broken_down);
}

static void time_zone(void)
{
    static const struct lock lock = { fault_in_localtime, tell_time };

    fault_inside(&lock);
}

static void take_text(const char *text, size_t length, void *unused)
{
    (void)text, (void)length, (void)unused;
    segv();
}

static void in_callback(void)
{
    if (telemetry == NULL)
        segv();
    ondat_telemetry_explain_switches(telemetry, take_text, NULL);
    exit(95);
}

static void in_library(void)
{
    if (telemetry == NULL)
        segv();
    /* The library itself writes there. */
    ondat_telemetry_install_crash_handler(telemetry, ~0u, (char *)(uintptr_t)8, 64);
    exit(95);
}

const struct scenario locks[] = {
    { "arena", NULL, arena },
    { "loader", NULL, loader },
    { "objects", NULL, objects },
    { "stdio", NULL, stdio },
    { "time_zone", NULL, time_zone },
    { "in_callback", NULL, in_callback },
    { "in_library", NULL, in_library },
    { NULL, NULL, NULL },
};
