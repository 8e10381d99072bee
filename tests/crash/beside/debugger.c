/*
 * A debugger that lets every signal pass: debugger PROGRAM ARGUMENTS...
 *
 * It says which signal it saw first, and ends as the program ended.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int status, has_seen = 0;
    pid_t stopped, child = fork();

    if (argc < 2)
        return 95;
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[1], argv + 1);
        _exit(95);
    }
    while ((stopped = waitpid(-1, &status, __WALL)) > 0) {
        int stop;

        if (!WIFSTOPPED(status)) {
            if (stopped == child)
                break;
            continue;
        }
        /* Stops after exec and clone are the debugger's own. */
        stop = WSTOPSIG(status);
        if (stop == SIGTRAP)
            ptrace(PTRACE_SETOPTIONS, stopped, 0, PTRACE_O_TRACECLONE);
        if (stop == SIGTRAP || stop == SIGSTOP)
            stop = 0;
        if (stop != 0 && !has_seen) {
            printf("first chance %d\n", stop);
            fflush(stdout);
            has_seen = 1;
        }
        ptrace(PTRACE_CONT, stopped, 0, stop);
    }
    if (WIFSIGNALED(status)) {
        signal(WTERMSIG(status), SIG_DFL);
        raise(WTERMSIG(status));
    }
    return WEXITSTATUS(status);
}
