/*
 * Prints each signal that it gets: its number and, where it came by sigqueue(3), its value. Ends with SIGUSR2.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>

int main(void)
{
    sigset_t all;
    siginfo_t info;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    for (;;) {
        int number = sigwaitinfo(&all, &info);

        if (number == SIGUSR2)
            return 0;
        if (number > 0)
            printf("%d %d\n", number, info.si_code == SI_QUEUE ? info.si_value.sival_int : -1);
    }
}
