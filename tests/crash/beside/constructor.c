/* A shared object that faults while it is loaded. */
#include <stddef.h>

static void __attribute__((constructor)) fault(void)
{
    *(volatile char *)NULL = 1;
}
