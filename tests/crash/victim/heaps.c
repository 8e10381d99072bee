/* A heap in disorder, and locks that are held. */
#include "victim.h"

#include <malloc.h>

static void double_free(void)
{
    void *volatile block = malloc(64);

    free(block);
    free(block);
}

static void double_free_large(void)
{
    /* Too large for the thread's own cache: the arena is locked when the disorder is found. */
    void *volatile block = malloc(20000);
    void *volatile next = malloc(20000);

    free(block);
    free(block);
    free(next);
}

static void top_chunk(void)
{
    char *volatile block = malloc(20000);

    /* What is left of the heap follows, with its size first. */
    memset(block + malloc_usable_size(block), 0xff, 8);
    block = malloc(100000);
}

const struct scenario heaps[] = {
    { "double_free", NULL, double_free },
    { "double_free_large", NULL, double_free_large },
    { "top_chunk", NULL, top_chunk },
    { NULL, NULL, NULL },
};
