/* What hosts do besides dying: handlers of their own, children, other programs, descriptors. */
#include "victim.h"

static sigjmp_buf recovered;
static volatile int handler_calls;

static void recover(int signal_number)
{
    (void)signal_number;
    handler_calls++;
    siglongjmp(recovered, 1);
}

static void handle_segv_by_recovering(void)
{
    signal(SIGSEGV, recover);
}

static void handler_recovers(void)
{
    if (sigsetjmp(recovered, 1) == 0)
        segv();
    printf("recovered %d\n", handler_calls);
    exit(0);
}

static void exit_42(int signal_number)
{
    (void)signal_number;
    _exit(42);
}

static void handle_segv_by_exiting(void)
{
    signal(SIGSEGV, exit_42);
}

static void ignore_abrt(void)
{
    signal(SIGABRT, SIG_IGN);
}

static void ignored_abrt(void)
{
    raise(SIGABRT);
    printf("still here\n");
    exit(0);
}

static void fork_child(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        segv();
    waitpid(child, &status, 0);
    printf("child %d\n", status & 0x7f);
    exit(0);
}

static void exec(void)
{
    execl("/bin/sh", "sh", "-c", "read line; exit 9", (char *)NULL);
}

static void close_fds(void)
{
    syscall(SYS_close_range, 3, ~0u, 0);
    segv();
}

static void wait_any(void)
{
    /* A host that reaps whatever comes must see no child of ours. */
    printf("children %d\n", (int)waitpid(-1, NULL, WNOHANG));
    exit(0);
}

const struct scenario hosts[] = {
    { "handler_recovers", handle_segv_by_recovering, handler_recovers },
    { "handler_exits", handle_segv_by_exiting, segv },
    { "ignored_abrt", ignore_abrt, ignored_abrt },
    { "fork_child", NULL, fork_child },
    { "exec", NULL, exec },
    { "close_fds", NULL, close_fds },
    { "wait_any", NULL, wait_any },
    { NULL, NULL, NULL },
};
