/*
 * A file system that cannot do everything: below FAULT_DIR, fsync(2) of a folder fails with FAULT_FOLDER_SYNC, flock(2)
 * with FAULT_LOCK, renameat(2) with FAULT_RENAME. Numbers of errno; what is not set works.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refuses(const char *fault, int fd)
{
    const char *number = getenv(fault), *below = getenv("FAULT_DIR");
    char link[64], path[4096];
    ssize_t length;

    if (number == NULL || below == NULL)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    if (strncmp(path, below, strlen(below)) != 0)
        return 0;
    errno = atoi(number);
    return 1;
}

int fsync(int fd)
{
    struct stat meta;

    if (fstat(fd, &meta) == 0 && S_ISDIR(meta.st_mode) && refuses("FAULT_FOLDER_SYNC", fd))
        return -1;
    return (int)syscall(SYS_fsync, fd);
}

int flock(int fd, int operation)
{
    if ((operation & LOCK_UN) == 0 && refuses("FAULT_LOCK", fd))
        return -1;
    return (int)syscall(SYS_flock, fd, operation);
}

int renameat(int from, const char *old, int to, const char *new)
{
    if (refuses("FAULT_RENAME", to))
        return -1;
    return (int)syscall(SYS_renameat2, from, old, to, new, 0);
}
