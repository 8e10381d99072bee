/* Children of the host, and what they become. */
#include "victim.h"

static void wait_and_print(pid_t child)
{
    int status = 0;

    waitpid(child, &status, 0);
    printf("child %x\n", (unsigned)status);
}

static void fork_child_and_segv(void)
{
    pid_t child = fork();

    if (child == 0)
        segv();
    wait_and_print(child);
    child = fork();
    if (child == 0)
        abort();
    wait_and_print(child);
    segv();
}

static void *segv_on_thread(void *unused)
{
    (void)unused;
    segv();
    return NULL;
}

static void fork_child_with_thread(void)
{
    pid_t child = fork();

    if (child == 0)
        run_thread(segv_on_thread, NULL);
    wait_and_print(child);
    exit(0);
}

static void fork_child_of_child(void)
{
    pid_t child = fork();

    if (child == 0) {
        pid_t grandchild = fork();

        if (grandchild == 0)
            segv();
        waitpid(grandchild, NULL, 0);
        _exit(0);
    }
    wait_and_print(child);
    exit(0);
}

static void fork_children_that_end(void)
{
    pid_t child = fork();

    if (child == 0)
        _exit(3);
    wait_and_print(child);
    for (int i = 0; i < 2; i++) {
        child = fork();
        if (child == 0) {
            signal(SIGPIPE, SIG_DFL);
            raise(i == 0 ? SIGKILL : SIGPIPE);
        }
        wait_and_print(child);
    }
    exit(0);
}

/* All of them at the same time: each waits until its pipe is closed. */
static void fork_many_children(void)
{
    int count = atoi(getenv("CHILDREN")), start[2];
    pid_t children[64];
    char byte;

    if (pipe(start) != 0)
        exit(99);
    for (int i = 0; i < count; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            close(start[1]);
            if (read(start[0], &byte, 1) == 0)
                segv();
            _exit(98);
        }
    }
    close(start[1]);
    for (int i = 0; i < count; i++)
        wait_and_print(children[i]);
    exit(0);
}

/* Its signals and descriptors as it finds them, and then a death that is not the host's. */
static const char look_and_die[] = "grep -e ^SigBlk -e ^SigIgn /proc/self/status; ls /proc/self/fd; kill -SEGV $$";

static void exec_child(void)
{
    pid_t child = fork();

    if (child == 0) {
        execl("/bin/sh", "sh", "-c", look_and_die, (char *)NULL);
        _exit(95);
    }
    wait_and_print(child);
    exit(0);
}

static void vfork_child(void)
{
    pid_t child = vfork();

    if (child == 0) {
        execl("/bin/sh", "sh", "-c", look_and_die, (char *)NULL);
        _exit(95);
    }
    wait_and_print(child);
    exit(0);
}

static void vfork_child_and_segv(void)
{
    pid_t child = vfork();

    /* In the host's own memory. */
    if (child == 0)
        segv();
    wait_and_print(child);
    child = vfork();
    if (child == 0)
        raise(SIGABRT);
    wait_and_print(child);
    segv();
}

const struct scenario children[] = {
    { "fork_child_and_segv", NULL, fork_child_and_segv },
    { "fork_child_with_thread", NULL, fork_child_with_thread },
    { "fork_child_of_child", NULL, fork_child_of_child },
    { "fork_children_that_end", NULL, fork_children_that_end },
    { "fork_many_children", NULL, fork_many_children },
    { "exec_child", NULL, exec_child },
    { "vfork_child", NULL, vfork_child },
    { "vfork_child_and_segv", NULL, vfork_child_and_segv },
    { NULL, NULL, NULL },
};
