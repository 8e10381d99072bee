/* Several threads at once, and crashes at the edges of the library's life. */
#include "victim.h"

#include <dirent.h>
#include <malloc.h>
#include <sched.h>

static int expected, arrived;

/* Returns in all threads at once, as far as there are processors. */
static void meet(void)
{
    __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < expected)
        sched_yield();
    /* Said right before the end: how many came to it. */
    (void)!write(STDOUT_FILENO, "x", 1);
}

static void *meet_and_segv(void *unused)
{
    (void)unused;
    meet();
    segv();
    return NULL;
}

static void *meet_and_abort(void *unused)
{
    (void)unused;
    meet();
    abort();
}

static void segv_threads(void)
{
    pthread_t thread;

    expected = atoi(getenv("THREADS"));
    for (int i = 0; i < expected; i++)
        pthread_create(&thread, NULL, meet_and_segv, NULL);
    for (;;)
        pause();
}

static void segv_and_abort(void)
{
    pthread_t thread;

    expected = 2;
    pthread_create(&thread, NULL, meet_and_segv, NULL);
    pthread_create(&thread, NULL, meet_and_abort, NULL);
    for (;;)
        pause();
}

static int rounds;

static void *open_and_close(void *unused)
{
    (void)unused;
    for (;;) {
        ondat_telemetry *client = try_install();

        /* Installing takes longer than taking off: faults are to come in between, too. */
        for (volatile int i = 0; i < 200000; i++)
            ;
        ondat_telemetry_close(client, 0);
        __atomic_add_fetch(&rounds, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

static void segv_while_opening_and_closing(void)
{
    pthread_t thread;

    if (telemetry == NULL)
        segv();
    ondat_telemetry_close(telemetry, 0);
    pthread_create(&thread, NULL, open_and_close, NULL);
    while (__atomic_load_n(&rounds, __ATOMIC_SEQ_CST) < 3)
        sched_yield();
    /* At one of many points within a round. */
    for (volatile int i = atoi(getenv("DELAY")); i > 0; i--)
        ;
    segv();
}

static int count_files(const char *folder)
{
    DIR *opened = opendir(folder);
    int count = 0;

    while (readdir(opened) != NULL)
        count++;
    closedir(opened);
    return count;
}

static void *open_and_close_125_times(void *unused)
{
    for (int i = 0; i < 125; i++)
        ondat_telemetry_close(try_install(), 0);
    return unused;
}

static void open_and_close_from_8_threads(void)
{
    pthread_t threads[8];

    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, open_and_close_125_times, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}

static void open_and_close_1000_times(void)
{
    int files, tasks;
    size_t bytes;

    if (telemetry == NULL)
        exit(0);
    ondat_telemetry_close(telemetry, 0);
    /* What is made once and kept is made in the first thousand. */
    open_and_close_from_8_threads();
    files = count_files("/proc/self/fd");
    tasks = count_files("/proc/self/task");
    bytes = mallinfo2().uordblks;
    open_and_close_from_8_threads();
    printf("%d descriptors, %d threads, %ld KiB\n", count_files("/proc/self/fd") - files,
           count_files("/proc/self/task") - tasks, ((long)mallinfo2().uordblks - (long)bytes) / 1024);
    for (;;)
        pause();
}

const struct scenario threads[] = {
    { "segv_threads", NULL, segv_threads },
    { "segv_and_abort", NULL, segv_and_abort },
    { "segv_while_opening_and_closing", NULL, segv_while_opening_and_closing },
    { "open_and_close_1000_times", NULL, open_and_close_1000_times },
    { NULL, NULL, NULL },
};
