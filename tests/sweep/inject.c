/*
 * inject LOG SECONDS ROLE CALL NTH ERRNO once|on PROGRAM ARGUMENT...
 *
 * Runs a program, and lets system calls of it or of what it starts fail with this error: the NTH of this number, or that
 * and all later ones; of EINTR no more than 64, as a call that is interrupted is begun anew. ROLE is "host", the program itself, or "monitor", every other process; CALL is a number, -1 for none.
 * Calls of the program's first thread count between prctl(MARK, 1) and prctl(MARK, 0), those of other threads always.
 *
 * LOG gets, when all have ended: "count ROLE CALL TIMES" for what was called, "failed TIMES", "cpu ROLE MILLISECONDS",
 * "end ROLE STATUS" for each process, the status that of waitpid(2), and "late" where SECONDS were too few and all were
 * killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK 0x7e570000
#define CALLS 1024
#define THREADS 4096

enum role { HOST, MONITOR };
static const char *const names[] = {"host", "monitor"};

static struct thread {
    pid_t id, process;
    enum role role;
    int counts;    /* whether its calls count */
    int in_call;   /* between the stops before and after a call */
    int refused;   /* the call that it is in is answered here */
} threads[THREADS];

static pid_t program;
static long counted[2][CALLS], failed;
static double cpu[2];
static volatile sig_atomic_t is_late;
static FILE *output;

static void late(int signal) { (void)signal; is_late = 1; }

static pid_t process_of(pid_t thread)
{
    char path[64], line[256];
    long process = thread;
    snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) if (sscanf(line, "Tgid: %ld", &process) == 1) break;
    if (file) fclose(file);
    return (pid_t)process;
}

static struct thread *find(pid_t id)
{
    struct thread *free_one = NULL;
    for (size_t at = 0; at < THREADS; at++) {
        if (threads[at].id == id) return &threads[at];
        if (!threads[at].id && !free_one) free_one = &threads[at];
    }
    if (!free_one) exit(3);
    pid_t process = process_of(id);
    *free_one = (struct thread){.id = id, .process = process, .role = process == program ? HOST : MONITOR, .counts = id != program};
    return free_one;
}

static void account(const struct thread *one)
{
    char path[96], text[1024];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)one->process, (int)one->id);
    FILE *file = fopen(path, "re");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) fclose(file);
    text[length] = 0;
    const char *rest = strrchr(text, ')');
    if (rest && sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
        cpu[one->role] += 1000.0 * (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void before(struct thread *one, const struct __ptrace_syscall_info *info, char **v)
{
    long number = (long)info->entry.nr;
    if (number == SYS_prctl && info->entry.args[0] == MARK) {
        one->counts = info->entry.args[1] != 0;
        return;
    }
    if (!one->counts || number < 0 || number >= CALLS) return;
    long nth = ++counted[one->role][number];
    int is_meant = !strcmp(v[3], names[one->role]) && number == atol(v[4]);
    long from = atol(v[5]);
    if (!is_meant || nth < from || (!strcmp(v[7], "once") && nth > from)) return;
    if (atoi(v[6]) == EINTR && failed >= 64) return;
    one->refused = 1;
    failed++;
    ptrace(PTRACE_POKEUSER, one->id, offsetof(struct user, regs.orig_rax), -1L);
}

int main(int n, char **v)
{
    if (n < 9) return 2;
    output = fopen(v[1], "we");
    if (!output) return 2;
    program = fork();
    if (!program) {
        raise(SIGSTOP);
        execvp(v[8], v + 8);
        _exit(127);
    }
    int status;
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC
                   | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL;
    waitpid(program, &status, WUNTRACED);
    if (ptrace(PTRACE_SEIZE, program, 0, options)) { perror("ptrace"); return 3; }
    kill(program, SIGCONT);
    struct sigaction action = {.sa_handler = late};
    struct itimerval timer = {.it_value = {.tv_sec = atol(v[2])}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);

    while (!is_late) {
        pid_t id = waitpid(-1, &status, __WALL);
        if (id < 0 && errno == EINTR) continue;
        if (id < 0) break;
        struct thread *one = find(id);
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (one->process == id) fprintf(output, "end %s %d\n", names[one->role], status);
            one->id = 0;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16, deliver = 0;
        if (signal == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info = {0};
            ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof info, &info);
            if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                before(one, &info, v);
            } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && one->refused) {
                one->refused = 0;
                ptrace(PTRACE_POKEUSER, id, offsetof(struct user, regs.rax), -atol(v[6]));
            }
        } else if (event == PTRACE_EVENT_EXIT) {
            account(one);
        } else if (event == PTRACE_EVENT_EXEC) {
            one->refused = 0;
        } else if (event == PTRACE_EVENT_STOP && (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)) {
            ptrace(PTRACE_LISTEN, id, 0, 0);
            continue;
        } else if (!event) {
            deliver = signal;
        }
        ptrace(PTRACE_SYSCALL, id, 0, deliver);
    }
    if (is_late) {
        for (size_t at = 0; at < THREADS; at++) if (threads[at].id) account(&threads[at]);
        fprintf(output, "late\n");
        for (size_t at = 0; at < THREADS; at++) if (threads[at].id) kill(threads[at].process, SIGKILL);
    }
    for (int role = HOST; role <= MONITOR; role++) {
        for (int call = 0; call < CALLS; call++)
            if (counted[role][call]) fprintf(output, "count %s %d %ld\n", names[role], call, counted[role][call]);
        fprintf(output, "cpu %s %.0f\n", names[role], cpu[role]);
    }
    fprintf(output, "failed %ld\n", failed);
    return 0;
}
