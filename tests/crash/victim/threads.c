/* Several threads at once. */
#include "victim.h"

static pthread_barrier_t barrier;

static void *segv_at_barrier(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&barrier);
    segv();
    return NULL;
}

static void segv_8_threads(void)
{
    pthread_t thread;

    pthread_barrier_init(&barrier, NULL, 8);
    for (int i = 0; i < 8; i++)
        pthread_create(&thread, NULL, segv_at_barrier, NULL);
    for (;;)
        pause();
}

const struct scenario threads[] = {
    { "segv_8_threads", NULL, segv_8_threads },
    { NULL, NULL, NULL },
};
