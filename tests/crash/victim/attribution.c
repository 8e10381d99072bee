/* Deaths whose cause is not the last thing that was seen. */
#include "victim.h"

#include <errno.h>
#include <time.h>

/* However often a signal comes in between. */
static void sleep_ms(long milliseconds)
{
    struct timespec left = { milliseconds / 1000, milliseconds % 1000 * 1000000 };

    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static void clean_up_and_raise(int signal_number)
{
    static const char text[] = "cleaned up\n";

    sleep_ms(3000);
    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
        _exit(95);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void handle_segv_slowly(void)
{
    signal(SIGSEGV, clean_up_and_raise);
}

static sigjmp_buf recovered;

static void recover(int signal_number)
{
    siglongjmp(recovered, signal_number);
}

static void handle_segv_by_recovering(void)
{
    signal(SIGSEGV, recover);
}

static void survive(void)
{
    int signal_number = sigsetjmp(recovered, 1);

    if (signal_number == 0)
        segv();
    printf("survived %d\n", signal_number);
    sleep_ms(2500);
}

static void survive_and_kill(void)
{
    survive();
    raise(SIGKILL);
}

static void survive_and_abort(void)
{
    survive();
    abort();
}

/* The child is what takes the memory: OOM scores, proc_pid_oom_score_adj(5). */
static void child_at_the_limit(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        FILE *score = fopen("/proc/self/oom_score_adj", "w");

        fputs("1000", score);
        fclose(score);
        for (;;)
            memset(malloc(1 << 20), 1, 1 << 20);
    }
    waitpid(child, &status, 0);
    printf("child %x\n", (unsigned)status);
    sleep_ms(2500);
    raise(SIGKILL);
}

const struct scenario attribution[] = {
    { "slow_handler", handle_segv_slowly, segv },
    { "survive_and_kill", handle_segv_by_recovering, survive_and_kill },
    { "survive_and_abort", handle_segv_by_recovering, survive_and_abort },
    { "child_at_the_limit", NULL, child_at_the_limit },
    { NULL, NULL, NULL },
};
