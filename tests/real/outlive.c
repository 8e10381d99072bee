/*
 * Runs a program, and returns only when every process that the program has left behind is gone as well: what they had
 * to do is done then.
 *
 *   outlive PROGRAM [ARGUMENT]...
 *
 * The last line it prints is "wait_status N processes M": the program's wait status, and how many processes ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int status, wait_status = -1, processes = 0;
    pid_t child, ended;

    if (argc < 2 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 || (child = fork()) < 0) {
        perror("outlive");
        return 2;
    }
    if (child == 0) {
        execv(argv[1], argv + 1);
        perror(argv[1]);
        _exit(127);
    }
    /* ECHILD ends it: nobody is left. */
    while ((ended = waitpid(-1, &status, 0)) > 0 || errno == EINTR) {
        if (ended <= 0)
            continue;
        processes++;
        if (ended == child)
            wait_status = status;
    }
    printf("wait_status %d processes %d\n", wait_status, processes);
    return 0;
}
