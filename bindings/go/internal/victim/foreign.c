//go:build linux && cgo

#include <pthread.h>
#include <stdlib.h>

void foreign_segv(void);
void foreign_abort(void);
void foreign_overflow(void);
void foreign_segv_on_thread(void);
void foreign_abort_on_thread(void);
void foreign_overflow_on_thread(void);

void foreign_segv(void)
{
    *(volatile int *)0 = 1;
}

void foreign_abort(void)
{
    abort();
}

static int deeper(volatile char *above)
{
    volatile char frame[4096];

    frame[0] = above == NULL ? 0 : above[0];
    return deeper(frame) + frame[0];
}

void foreign_overflow(void)
{
    deeper(NULL);
}

static void *call(void *function)
{
    void (*run)(void);

    *(void **)&run = function;
    run();
    return NULL;
}

static void on_thread(void (*run)(void))
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, call, *(void **)&run) == 0)
        pthread_join(thread, NULL);
}

void foreign_segv_on_thread(void)
{
    on_thread(foreign_segv);
}

void foreign_abort_on_thread(void)
{
    on_thread(foreign_abort);
}

void foreign_overflow_on_thread(void)
{
    on_thread(foreign_overflow);
}
