/* A heap in disorder, and locks that are held. */
#include "victim.h"

static void double_free(void)
{
    void *volatile block = malloc(64);

    free(block);
    free(block);
}

const struct scenario heaps[] = {
    { "double_free", NULL, double_free },
    { NULL, NULL, NULL },
};
