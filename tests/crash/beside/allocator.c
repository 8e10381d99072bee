/* Preloaded: ends the process with code 77 where memory is allocated or a mutex locked after `forbid`. */
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>

/* glibc's own names. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);
extern int __pthread_mutex_lock(pthread_mutex_t *mutex);
extern int __pthread_mutex_trylock(pthread_mutex_t *mutex);

static volatile int is_forbidden;

void forbid(void)
{
    is_forbidden = 1;
}

static void check(void)
{
    if (is_forbidden)
        _exit(77);
}

void *malloc(size_t size)
{
    check();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    check();
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    check();
    return __libc_realloc(block, size);
}

void *memalign(size_t alignment, size_t size)
{
    check();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    check();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    check();
    *block = __libc_memalign(alignment, size);
    return *block == NULL ? 12 : 0;
}

void free(void *block)
{
    check();
    __libc_free(block);
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    check();
    return __pthread_mutex_lock(mutex);
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    check();
    return __pthread_mutex_trylock(mutex);
}
