/* Ends that leave evidence of a crash, and ends that leave none. */
#include "victim.h"

#include <errno.h>
#include <sys/ioctl.h>

static void _exit_3(void)
{
    _exit(3);
}

static void exit_143(void)
{
    exit(143);
}

static void return_0(void)
{
    returned = 0;
}

static void return_3(void)
{
    returned = 3;
}

static void term(void)
{
    raise(SIGTERM);
}

static void kill_itself(void)
{
    raise(SIGKILL);
}

/* What the kernel answers to who asks a pidfd for its process's end: _IOWR(0xFF, 11, struct pidfd_info), linux/pidfd.h. */
static void pidfd_info(void)
{
    unsigned long long information[8] = { 0 };
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);

    printf("answer %d", ioctl(self, 0xc040ff0b, information));
    printf(" errno %d\n", errno);
    exit(0);
}

const struct scenario evidence[] = {
    { "_exit_3", NULL, _exit_3 },
    { "exit_143", NULL, exit_143 },
    { "return_0", NULL, return_0 },
    { "return_3", NULL, return_3 },
    { "term", NULL, term },
    { "kill", NULL, kill_itself },
    { "pidfd_info", NULL, pidfd_info },
    { NULL, NULL, NULL },
};
