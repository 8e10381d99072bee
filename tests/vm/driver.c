/*
 * Runs inside a kernel under test (see tools/test-vm): lets a host end in every way under every kind of parent, starts
 * the component once more on the same state directory, and counts what reached the server.
 *
 *   driver [--runs N] [--slow] [--only PARENT] [--systemd]
 *
 *   --runs N     how often each cell is run (5)
 *   --slow       the machine is emulated: more time until a process is taken for one that hangs
 *   --only NAME  only this parent, or "disks": only the disks that hang
 *   --systemd    instead of all that, what systemd makes of a service that crashes; this is started by it
 *
 * Its folder holds host, the library, the monitor, tini, dumb-init, stuck (a file system) and ext4.img. It works in the
 * current directory, as root, with /proc mounted and the loopback interface up. The last line is "N passed, M failed".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])
/* Whoever has not the rights of root: Debian's nobody. */
#define NOBODY 65534
/* Field 9 of /proc/PID/stat, PF_KTHREAD of the kernel's sched.h. */
#define KERNEL_THREAD 0x00200000u
/* What a process may take to be dead after its fault, by the contract. */
#define DEAD_WITHIN_MS 200

static char folder[512];
static char socket_name[64];
static int listener;
static int runs = 5;
static bool is_slow;
static bool is_beside_others;
static int passed, failed;

static void die(const char *what)
{
    fprintf(stderr, "driver: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* How long is waited for what should be there long before. */
static int patience_ms(void)
{
    return is_slow ? 120000 : 30000;
}

static bool is_readable(int fd, double until)
{
    struct pollfd one = {fd, POLLIN, 0};

    for (;;) {
        double left = until - now_ms();
        int ready = poll(&one, 1, left > 0 ? (int)left + 1 : 0);

        if (ready >= 0)
            return ready == 1;
    }
}

/* ---- The server: keeps what each report says. */

struct report {
    int project;
    char id[33], signal[24], code[24], words[160];
};

static struct report reports[65536];
static size_t report_count;
static pthread_mutex_t reports_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t report_came = PTHREAD_COND_INITIALIZER;
static int server_port;

/* The text after this key; the library's JSON has no white space. */
static void text_of(const char *json, const char *key, char *text, size_t size)
{
    char quoted[64];
    const char *at;
    size_t length;

    snprintf(quoted, sizeof quoted, "\"%s\":\"", key);
    at = strstr(json, quoted);
    at = at ? at + strlen(quoted) : "";
    length = strcspn(at, "\"");
    snprintf(text, size, "%.*s", (int)length, at);
}

static void keep(const char *request, const char *body)
{
    struct report report = {0};
    const char *path = strstr(request, "/api/"), *event = strstr(body, "\"exception\"");

    if (!path || !event)
        return;
    report.project = atoi(path + 5);
    text_of(body, "event_id", report.id, sizeof report.id);
    text_of(body, "signal", report.signal, sizeof report.signal);
    text_of(body, "exit_code", report.code, sizeof report.code);
    text_of(event, "value", report.words, sizeof report.words);
    pthread_mutex_lock(&reports_lock);
    if (report_count < LENGTH(reports))
        reports[report_count++] = report;
    pthread_cond_broadcast(&report_came);
    pthread_mutex_unlock(&reports_lock);
}

static void *serve(void *listening)
{
    static char request[1 << 18];

    for (;;) {
        int client = accept4(*(int *)listening, NULL, NULL, SOCK_CLOEXEC);
        size_t got = 0;
        double until = now_ms() + patience_ms();

        if (client < 0)
            continue;
        /* Who sends may be killed in the middle: then the connection ends without a whole request. */
        while (got < sizeof request - 1 && is_readable(client, until)) {
            ssize_t more = recv(client, request + got, sizeof request - 1 - got, 0);
            char *body, *field;

            if (more <= 0)
                break;
            got += (size_t)more;
            request[got] = 0;
            body = strstr(request, "\r\n\r\n");
            field = body ? strcasestr(request, "\r\ncontent-length:") : NULL;
            if (field && field < body && strlen(body + 4) >= strtoul(field + 17, NULL, 10)) {
                static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";

                keep(request, body + 4);
                send(client, ok, sizeof ok - 1, MSG_NOSIGNAL);
                break;
            }
        }
        close(client);
    }
    return NULL;
}

static void start_server(void)
{
    static int listening;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    pthread_t thread;

    listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listening, (struct sockaddr *)&address, size) || listen(listening, 64) ||
        getsockname(listening, (struct sockaddr *)&address, &size))
        die("the server");
    server_port = ntohs(address.sin_port);
    if (pthread_create(&thread, NULL, serve, &listening))
        die("pthread_create");
}

/* Whether a report of this project is there, at the latest then. */
static bool await_report(int project, int timeout_ms)
{
    struct timespec until;
    bool is_there = false;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    pthread_mutex_lock(&reports_lock);
    do {
        for (size_t i = 0; i < report_count; i++)
            is_there |= reports[i].project == project;
    } while (!is_there && pthread_cond_timedwait(&report_came, &reports_lock, &until) == 0);
    pthread_mutex_unlock(&reports_lock);
    return is_there;
}

/* ---- The ends and what is right of each. */

enum rule {
    CLEAN,  /* no report, ever */
    CERTAIN, /* one report, always */
    RATE    /* one report or none; always one where the kernel tells others than the parent */
};

struct end {
    const char *name;
    enum rule rule;
    /* What the driver sends, or 0: the host does it itself. */
    int sent;
    /* The wait status without the library. */
    int status;
    const char *signal, *code;
};

static const struct end ends[] = {
    {"return 0", CLEAN, 0, 0, NULL, NULL},
    {"exit 0", CLEAN, 0, 0, NULL, NULL},
    {"_exit 0", CLEAN, 0, 0, NULL, NULL},
    {"SIGTERM", CLEAN, SIGTERM, SIGTERM, NULL, NULL},
    {"exit 3", CERTAIN, 0, 3 << 8, "none", "3"},
    {"return 3", CERTAIN, 0, 3 << 8, "none", "3"},
    {"SIGSEGV", CERTAIN, 0, SIGSEGV, "SIGSEGV", "none"},
    {"abort", CERTAIN, 0, SIGABRT, "SIGABRT", "none"},
    {"_exit 3", RATE, 0, 3 << 8, "none", "3"},
    {"SIGKILL", RATE, SIGKILL, SIGKILL, "SIGKILL", "none"},
    {"SIGPIPE", RATE, 0, SIGPIPE, "SIGPIPE", "none"},
};

/* ---- The parents. */

enum parent { WAITPID, IGNORED, SIGNALFD, SUBREAPER, HIDEPID, TINI, DUMB_INIT, PID_1 };

static const struct {
    const char *name;
    /* The monitor is not killed with the host: what the kernel tells is then certain. */
    bool monitor_outlives;
} parents[] = {
    [WAITPID] = {"waitpid", true},
    [IGNORED] = {"SIGCHLD ignored", true},
    [SIGNALFD] = {"signalfd", true},
    [SUBREAPER] = {"subreaper", true},
    [HIDEPID] = {"hidepid=2, nobody", true},
    [TINI] = {"tini as PID 1", false},
    [DUMB_INIT] = {"dumb-init as PID 1", false},
    [PID_1] = {"host as PID 1", false},
};

struct reaped {
    pid_t pid;
    int status;
};

/* Says who was reaped and how it ended. */
static void tell(int pipe_end, pid_t pid, int status)
{
    struct reaped one = {pid, status};

    if (write(pipe_end, &one, sizeof one) != sizeof one)
        _exit(2);
}

static void mount_proc(const char *options)
{
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", "/proc", "proc", 0, options))
        _exit(2);
}

static void become_host(enum parent parent, char **arguments)
{
    char *in_between[8] = {NULL};
    char init[600];
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (parent == HIDEPID && (setgid(NOBODY) || setuid(NOBODY)))
        _exit(2);
    if (parent == TINI || parent == DUMB_INIT) {
        snprintf(init, sizeof init, "%s/%s", folder, parent == TINI ? "tini" : "dumb-init");
        in_between[0] = init;
        in_between[1] = (char *)"--";
        memcpy(in_between + 2, arguments, 5 * sizeof *arguments);
        arguments = in_between;
    }
    execv(arguments[0], arguments);
    _exit(2);
}

/* The process between the driver and the host. It reaps until the driver kills it. */
static void be_parent(enum parent parent, char **arguments, int pipe_end)
{
    sigset_t child;
    pid_t pid;
    int status, signals = -1;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    if (parent == IGNORED)
        signal(SIGCHLD, SIG_IGN);
    if (parent == SIGNALFD) {
        sigprocmask(SIG_BLOCK, &child, NULL);
        signals = signalfd(-1, &child, SFD_CLOEXEC);
    }
    if (parent == SUBREAPER)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (parent == HIDEPID) {
        if (unshare(CLONE_NEWNS))
            _exit(2);
        mount_proc("hidepid=2");
    }
    if (parent >= TINI && unshare(CLONE_NEWNS | CLONE_NEWPID))
        _exit(2);
    pid = fork();
    if (pid < 0)
        _exit(2);
    if (pid == 0) {
        if (parent == SUBREAPER && (pid = fork()) != 0)
            _exit(pid < 0 ? 2 : 0);
        if (parent >= TINI)
            mount_proc(NULL);
        become_host(parent, arguments);
    }
    for (;;) {
        struct signalfd_siginfo one;

        if (parent == SIGNALFD && read(signals, &one, sizeof one) != sizeof one)
            _exit(2);
        while ((pid = waitpid(-1, &status, parent == SIGNALFD ? WNOHANG : 0)) > 0)
            tell(pipe_end, pid, status);
        if (parent != SIGNALFD)
            break;
    }
    for (;;)
        pause();
}

/* What the parent sees, the kind of parent counted; -1 where nobody is told. */
static int status_seen(enum parent parent, const struct end *end)
{
    int signal = end->status & 0x7f;

    if (parent == IGNORED)
        return -1;
    /* They end with the shell's code; so does a PID 1, which its own abort(3) does not kill. */
    if (signal && (parent == TINI || parent == DUMB_INIT || (parent == PID_1 && signal == SIGABRT)))
        return (128 + signal) << 8;
    return end->status;
}

/* ---- One process under a parent. */

/* Processes of the test itself that stay while others are waited for. */
static pid_t ours[4];

static void keep_ours(pid_t pid, bool is_kept)
{
    for (size_t i = 0; i < LENGTH(ours); i++) {
        if (ours[i] == (is_kept ? 0 : pid)) {
            ours[i] = is_kept ? pid : 0;
            return;
        }
    }
}

static bool is_ours(pid_t pid)
{
    for (size_t i = 0; i < LENGTH(ours); i++)
        if (ours[i] == pid)
            return true;
    return pid <= 1 || pid == getpid() || pid == getppid();
}

struct started {
    pid_t parent, host;
    int reaped, words, pidfd;
};

/* Starts a host and waits until it has connected. */
static bool start_host(struct started *started, enum parent parent, int project, const char *state, const char *end,
                       char *why, size_t size)
{
    char program[600], dsn[64];
    char *arguments[] = {program, socket_name, dsn, (char *)state, (char *)end, NULL};
    int ends_of_pipe[2];
    struct ucred peer;
    socklen_t peer_size = sizeof peer;

    snprintf(program, sizeof program, "%s/host", folder);
    snprintf(dsn, sizeof dsn, "http://key@127.0.0.1:%d/%d", server_port, project);
    if (pipe2(ends_of_pipe, O_CLOEXEC))
        die("pipe2");
    started->parent = fork();
    if (started->parent < 0)
        die("fork");
    if (started->parent == 0)
        be_parent(parent, arguments, ends_of_pipe[1]);
    keep_ours(started->parent, true);
    close(ends_of_pipe[1]);
    started->reaped = ends_of_pipe[0];
    started->words = started->pidfd = -1;
    started->host = 0;
    if (!is_readable(listener, now_ms() + patience_ms())) {
        snprintf(why, size, "the host did not start");
        return false;
    }
    started->words = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (getsockopt(started->words, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size))
        die("SO_PEERCRED");
    started->host = peer.pid;
    started->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    if (started->pidfd < 0)
        die("pidfd_open");
    return true;
}

static bool is_ready(const struct started *started, char *why, size_t size)
{
    char words[512] = "";

    if (!is_readable(started->words, now_ms() + patience_ms()) ||
        recv(started->words, words, sizeof words - 1, 0) < 0 || strcmp(words, "ready")) {
        snprintf(why, size, "%s", words[0] ? words : "the host says nothing");
        return false;
    }
    return true;
}

/* The wait status as the parent saw it, or -1. */
static int await_status(const struct started *started, pid_t pid, double until)
{
    struct reaped one;

    while (is_readable(started->reaped, until) && read(started->reaped, &one, sizeof one) == sizeof one)
        if (pid == 0 || one.pid == pid)
            return one.status;
    return -1;
}

static void put_away(struct started *started)
{
    if (started->host)
        kill(started->host, SIGKILL);
    kill(started->parent, SIGKILL);
    waitpid(started->parent, NULL, 0);
    keep_ours(started->parent, false);
    close(started->reaped);
    if (started->words >= 0)
        close(started->words);
    if (started->pidfd >= 0)
        close(started->pidfd);
}

/* A process that is neither one of ours nor the kernel's, and not dead: 0 for none. */
static pid_t find_left(char *name, size_t size)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    pid_t left = 0;

    if (!processes)
        die("/proc");
    while (!left && (entry = readdir(processes))) {
        pid_t pid = atoi(entry->d_name);
        char path[64], line[512], state = 0, *comm_end;
        unsigned int flags = 0;
        FILE *file;

        if (is_ours(pid))
            continue;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        file = fopen(path, "re");
        if (!file)
            continue;
        if (fgets(line, sizeof line, file) && (comm_end = strrchr(line, ')')) &&
            sscanf(comm_end + 2, "%c %*d %*d %*d %*d %*d %u", &state, &flags) == 2 && !(flags & KERNEL_THREAD) &&
            !strchr("ZX", state)) {
            left = pid;
            snprintf(name, size, "%.*s", (int)(comm_end - strchr(line, '(') + 1), strchr(line, '('));
        }
        fclose(file);
    }
    closedir(processes);
    return left;
}

/* Waits until the monitor of the last host has done what it had to. */
static bool settle(char *why, size_t size)
{
    double until = now_ms() + patience_ms();
    char name[64] = "";
    pid_t left;

    /* Beside a service manager's own processes there is no telling. */
    while (!is_beside_others && (left = find_left(name, sizeof name))) {
        int pidfd = (int)syscall(SYS_pidfd_open, left, 0);
        bool has_ended = pidfd < 0 || is_readable(pidfd, until);

        if (pidfd >= 0)
            close(pidfd);
        if (!has_ended) {
            snprintf(why, size, "%s stays after its host", name);
            kill(left, SIGKILL);
            return false;
        }
    }
    return true;
}

static void remove_tree(const char *path)
{
    char command[700];

    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command))
        die(command);
}

/* The next start of the component, which delivers what is stored. */
static bool start_next(enum parent parent, int project, const char *state, char *why, size_t size)
{
    struct started next;
    char words[512] = "";
    bool is_good = start_host(&next, parent, project, state, "next", why, size);

    if (is_good) {
        /* It says something only when something is wrong. */
        is_good = is_readable(next.pidfd, now_ms() + patience_ms());
        is_good = is_good && recv(next.words, words, sizeof words - 1, 0) == 0;
        if (!is_good)
            snprintf(why, size, "next start: %s", words[0] ? words : "it hangs");
    }
    put_away(&next);
    return settle(why, size) && is_good;
}

/* ---- Counting. */

enum outcome { NONE, RIGHT, WRONG, TWICE, BROKEN };

static enum outcome judge(int project, const struct end *end, char *why, size_t size)
{
    const struct report *first = NULL;
    enum outcome outcome = NONE;

    pthread_mutex_lock(&reports_lock);
    for (size_t i = 0; i < report_count; i++) {
        const struct report *one = &reports[i];

        /* Servers take two events of one id for one. */
        if (one->project != project || (first && !strcmp(first->id, one->id)))
            continue;
        if (!end->signal || strcmp(one->signal, end->signal) || strcmp(one->code, end->code)) {
            outcome = WRONG;
            snprintf(why, size, "reported: %s", one->words);
            break;
        }
        outcome = first ? TWICE : RIGHT;
        snprintf(why, size, "%s: %s", first ? "twice" : "reported", one->words);
        first = one;
    }
    pthread_mutex_unlock(&reports_lock);
    return outcome;
}

static int next_project(void)
{
    static int project;

    return ++project;
}

static void make_state(char *state, size_t size, enum parent parent, int project)
{
    char here[512];

    if (!getcwd(here, sizeof here))
        die("getcwd");
    snprintf(state, size, "%s/state-%d", here, project);
    if (mkdir(state, 0700) || (parent == HIDEPID && chown(state, NOBODY, NOBODY)))
        die(state);
}

static enum outcome run_once(enum parent parent, const struct end *end, char *why, size_t size)
{
    struct started host;
    char state[600];
    int project = next_project(), seen, wanted = status_seen(parent, end);
    bool is_good;

    make_state(state, sizeof state, parent, project);
    is_good = start_host(&host, parent, project, state, end->name, why, size) && is_ready(&host, why, size);
    if (is_good) {
        if (end->sent ? kill(host.host, end->sent) : send(host.words, "g", 1, MSG_NOSIGNAL) != 1)
            die("the host is gone");
        is_good = is_readable(host.pidfd, now_ms() + patience_ms());
        if (!is_good)
            snprintf(why, size, "it does not end");
    }
    if (is_good && wanted >= 0) {
        /* Of an init the parent sees the init. */
        seen = await_status(&host, parent >= TINI ? 0 : host.host, now_ms() + patience_ms());
        is_good = (seen & ~0x80) == wanted;
        if (!is_good)
            snprintf(why, size, "it ended with the wait status %#x, not %#x", seen, wanted);
    }
    /* Where the parent ends too, nobody would reap orphans: it stays until all is done. */
    if (settle(why, size) && is_good)
        is_good = start_next(parent, project, state, why, size);
    else
        is_good = false;
    put_away(&host);
    is_good = settle(why, size) && is_good;
    remove_tree(state);
    return is_good ? judge(project, end, why, size) : BROKEN;
}

/* ---- The matrix. */

static bool is_at_least(int major, int minor)
{
    struct utsname name;
    int has_major = 0, has_minor = 0;

    uname(&name);
    sscanf(name.release, "%d.%d", &has_major, &has_minor);
    return has_major > major || (has_major == major && has_minor >= minor);
}

static char complaints[256][400];
static size_t complaint_count;

static void complain(const char *format, ...)
{
    va_list arguments;

    if (complaint_count == LENGTH(complaints))
        return;
    va_start(arguments, format);
    vsnprintf(complaints[complaint_count++], sizeof complaints[0], format, arguments);
    va_end(arguments);
}

static void run_cell(enum parent parent, const struct end *end)
{
    /* PIDFD_INFO_EXIT came with Linux 6.15. */
    bool is_told = is_at_least(6, 15) && parents[parent].monitor_outlives;
    bool is_certain = end->rule == CERTAIN || (end->rule == RATE && is_told);
    int counts[BROKEN + 1] = {0}, reported;
    char why[512] = "", bad[512] = "", cell[32];
    bool is_good;

    /* What is not forced ends no PID 1 that has no handler for it: pid_namespaces(7). */
    if (parent == PID_1 && (end->status == SIGTERM || end->status == SIGPIPE)) {
        printf(" %9s", "-");
        fflush(stdout);
        return;
    }
    for (int run = 0; run < runs; run++) {
        enum outcome outcome;

        why[0] = 0;
        outcome = run_once(parent, end, why, sizeof why);
        counts[outcome]++;
        if (!bad[0] && (outcome > RIGHT || (outcome == NONE && is_certain)))
            snprintf(bad, sizeof bad, "%s", why[0] ? why : "no report");
    }
    reported = counts[RIGHT] + counts[TWICE] + counts[WRONG];
    is_good = !counts[BROKEN] && !counts[TWICE] && !counts[WRONG];
    if (end->rule == CLEAN)
        is_good &= reported == 0;
    else if (is_certain)
        is_good &= counts[RIGHT] == runs;
    snprintf(cell, sizeof cell, "%d/%d%s", reported, runs, is_good ? "" : " !");
    printf(" %9s", cell);
    fflush(stdout);
    *(is_good ? &passed : &failed) += 1;
    if (!is_good)
        complain("%s, %s: %d right, %d none, %d wrong, %d twice, %d did not happen of %d; %s", parents[parent].name,
                 end->name, counts[RIGHT], counts[NONE], counts[WRONG], counts[TWICE], counts[BROKEN], runs, bad);
}

/* ---- A disk that hangs. */

enum disk { EXT4, FUSE };

static const char *const disk_names[] = {[EXT4] = "frozen ext4", [FUSE] = "FUSE that does not answer"};

static pid_t server_of_fuse;

static bool mount_disk(enum disk disk, const char *at, char *why, size_t size)
{
    char command[1400], program[600], behind[600], number[16], word;
    int mounted[2];

    mkdir(at, 0755);
    if (disk == EXT4) {
        snprintf(command, sizeof command, "cp '%s/ext4.img' ext4.img && mount -o loop ext4.img '%s'", folder, at);
        snprintf(why, size, "no loop device or no ext4");
        if (system(command))
            return false;
        why[0] = 0;
        /* It lives as long as it is mounted. */
        return unlink("ext4.img") == 0;
    }
    snprintf(behind, sizeof behind, "%s.behind", at);
    mkdir(behind, 0755);
    if (pipe(mounted))
        die("pipe");
    server_of_fuse = fork();
    if (server_of_fuse == 0) {
        snprintf(program, sizeof program, "%s/stuck", folder);
        snprintf(number, sizeof number, "%d", mounted[1]);
        execl(program, program, behind, at, number, (char *)NULL);
        _exit(2);
    }
    keep_ours(server_of_fuse, true);
    close(mounted[1]);
    snprintf(why, size, "FUSE cannot be mounted");
    if (server_of_fuse < 0 || read(mounted[0], &word, 1) != 1)
        return false;
    why[0] = 0;
    close(mounted[0]);
    return true;
}

static void unmount_disk(enum disk disk, const char *at)
{
    umount2(at, MNT_DETACH);
    if (disk == FUSE) {
        kill(server_of_fuse, SIGKILL);
        waitpid(server_of_fuse, NULL, 0);
        keep_ours(server_of_fuse, false);
    }
}

static int disk_folder = -1;

static void hang(enum disk disk)
{
    int status;

    if (disk == EXT4) {
        if (ioctl(disk_folder, FIFREEZE, 0))
            die("FIFREEZE");
    } else if (kill(server_of_fuse, SIGSTOP) || waitpid(server_of_fuse, &status, WUNTRACED) != server_of_fuse ||
               !WIFSTOPPED(status)) {
        die("SIGSTOP");
    }
}

static void go_on(enum disk disk)
{
    if (disk == EXT4 ? ioctl(disk_folder, FITHAW, 0) : kill(server_of_fuse, SIGCONT))
        die("FITHAW");
}

/* Whether something that touches the disk does wait. */
static bool does_hang(const char *at, pid_t *waiting)
{
    pid_t toucher = *waiting = fork();
    char path[600];
    int pidfd, fd;
    bool is_waiting;

    if (toucher == 0) {
        snprintf(path, sizeof path, "%s/touched", at);
        fd = open(path, O_WRONLY | O_CREAT, 0600);
        _exit(fd < 0);
    }
    pidfd = (int)syscall(SYS_pidfd_open, toucher, 0);
    is_waiting = pidfd >= 0 && !is_readable(pidfd, now_ms() + 300);
    close(pidfd);
    return is_waiting;
}

static void run_hanging(enum disk disk, const struct end *end, int limit_ms, bool is_reported)
{
    /* An emulated machine is some twenty times slower than this one. */
    double margin = is_slow ? 1300 : 100, begun, dead_ms = -1, report_ms = -1;
    char why[512] = "", at[560], here[500], state[600];
    struct started host;
    int project = next_project(), status = -1;
    bool is_good, is_dead = false;
    pid_t toucher;
    enum outcome outcome;

    if (!getcwd(here, sizeof here))
        die("getcwd");
    snprintf(at, sizeof at, "%s/disk-%d", here, project);
    snprintf(state, sizeof state, "%s/state", at);
    if (!mount_disk(disk, at, why, sizeof why)) {
        complain("%s, %s: did not happen: %s", disk_names[disk], end->name, why);
        failed++;
        return;
    }
    disk_folder = open(at, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk_folder < 0 || mkdir(state, 0700))
        die(state);
    is_good = start_host(&host, WAITPID, project, state, end->name, why, sizeof why);
    is_good = is_good && is_ready(&host, why, sizeof why);
    if (is_good) {
        hang(disk);
        is_good = does_hang(at, &toucher);
        if (!is_good)
            snprintf(why, sizeof why, "did not happen: the disk does not hang");
        begun = now_ms();
        if (end->sent ? kill(host.host, end->sent) : send(host.words, "g", 1, MSG_NOSIGNAL) != 1)
            die("the host is gone");
        status = await_status(&host, host.host, begun + 10000);
        dead_ms = now_ms() - begun;
        is_dead = status >= 0;
        if (!is_dead) {
            begun = now_ms();
            kill(host.host, SIGKILL);
            status = await_status(&host, host.host, begun + 5000);
            snprintf(why, sizeof why, "not dead within 10 s, %s", status >= 0 ? "SIGKILL ends it" : "nor by SIGKILL");
        } else if (dead_ms > limit_ms + margin) {
            snprintf(why, sizeof why, "late");
        } else if ((status & ~0x80) != end->status) {
            snprintf(why, sizeof why, "it ended with the wait status %#x, not %#x", status, end->status);
        } else if (is_reported) {
            if (await_report(project, 20000))
                report_ms = now_ms() - begun;
            else
                snprintf(why, sizeof why, "no report while the disk hangs");
        }
        is_good = is_good && !why[0];
        go_on(disk);
        waitpid(toucher, NULL, 0);
    }
    if (settle(why, sizeof why) &&
        start_next(WAITPID, project, state, why, sizeof why)) {
        char said[512] = "no report";

        outcome = judge(project, end, said, sizeof said);
        /* SIGKILL before Linux 6.15 may leave no evidence. */
        if (outcome > RIGHT || (is_reported && outcome != RIGHT)) {
            is_good = false;
            if (!why[0])
                snprintf(why, sizeof why, "%s", said);
        }
    } else {
        is_good = false;
    }
    put_away(&host);
    close(disk_folder);
    unmount_disk(disk, at);
    printf("%-28s %-10s", disk_names[disk], end->name);
    if (is_dead)
        printf(" dead after %.1f ms", dead_ms);
    if (report_ms >= 0)
        printf(", report after %.1f ms while it hangs", report_ms);
    printf("%s%s\n", is_good ? "" : "  ! ", is_good ? "" : why);
    fflush(stdout);
    *(is_good ? &passed : &failed) += 1;
}

/* ---- A service. */

static void write_unit(int port, int project, const char *state, const char *end)
{
    FILE *unit;

    mkdir("/run/systemd/system", 0755);
    unit = fopen("/run/systemd/system/host.service", "we");
    if (!unit)
        die("host.service");
    fprintf(unit,
            "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n"
            "[Service]\nType=exec\nRestart=always\nExecStart=%s/host %s http://key@127.0.0.1:%d/%d %s %s\n",
            folder, socket_name, port, project, state, end);
    fclose(unit);
}

static void systemctl(const char *arguments)
{
    char command[256];

    snprintf(command, sizeof command, "systemctl %s", arguments);
    if (system(command))
        die(command);
}

/* The service's host, which has connected; its parent is systemd. */
static bool accept_service(struct started *host, char *why, size_t size)
{
    struct ucred peer;
    socklen_t peer_size = sizeof peer;

    snprintf(why, size, "the service does not start");
    if (!is_readable(listener, now_ms() + patience_ms()))
        return false;
    host->words = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (getsockopt(host->words, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size))
        die("SO_PEERCRED");
    host->host = peer.pid;
    host->pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    why[0] = 0;
    return is_ready(host, why, size);
}

static void say_result(const char *what, const char *figure, const char *why)
{
    printf("%-40s %s%s%s\n", what, figure, why[0] ? "  ! " : "", why);
    fflush(stdout);
    *(why[0] ? &failed : &passed) += 1;
}

static const struct end *end_named(const char *name)
{
    for (size_t i = 0; i < LENGTH(ends); i++)
        if (!strcmp(ends[i].name, name))
            return &ends[i];
    die(name);
    return NULL;
}

/* The endpoint takes the connection and says nothing: the crashed service is there again all the same. */
static void run_restart(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int project = next_project(), silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* systemd waits 100 ms by itself (RestartSec=); for what stays in the service, 90 s. */
    double limit_ms = is_slow ? 5000 : 1000, died;
    char why[512] = "", figure[64] = "", state[600];
    struct started first, second;

    if (bind(silent, (struct sockaddr *)&address, size) || listen(silent, 64) ||
        getsockname(silent, (struct sockaddr *)&address, &size))
        die("the silent server");
    make_state(state, sizeof state, WAITPID, project);
    write_unit(ntohs(address.sin_port), project, state, "SIGSEGV");
    systemctl("daemon-reload");
    systemctl("start --no-block host.service");
    if (accept_service(&first, why, sizeof why)) {
        if (send(first.words, "g", 1, MSG_NOSIGNAL) != 1 || !is_readable(first.pidfd, now_ms() + patience_ms()))
            die("the service does not crash");
        died = now_ms();
        if (accept_service(&second, why, sizeof why)) {
            snprintf(figure, sizeof figure, "ready again %.0f ms after its crash", now_ms() - died);
            if (now_ms() - died > limit_ms)
                snprintf(why, sizeof why, "late");
        }
    }
    say_result("restart beside a silent endpoint", figure, why);
    systemctl("stop host.service");
    /* The report has outlived that. */
    snprintf(figure, sizeof figure, "0");
    why[0] = 0;
    if (start_next(WAITPID, project, state, why, sizeof why)) {
        char said[512] = "no report";

        if (judge(project, end_named("SIGSEGV"), said, sizeof said) == RIGHT)
            snprintf(figure, sizeof figure, "1");
        else
            snprintf(why, sizeof why, "%s", said);
    }
    say_result("reports of that crash at the next start", figure, why);
}

/* The other process of the service. */
static pid_t find_monitor(pid_t host)
{
    FILE *processes = fopen("/sys/fs/cgroup/system.slice/host.service/cgroup.procs", "re");
    pid_t pid, monitor = 0;

    if (!processes)
        die("cgroup.procs");
    while (fscanf(processes, "%d", &pid) == 1)
        if (pid != host)
            monitor = pid;
    fclose(processes);
    return monitor;
}

/* Whatever is sent to the whole service: the host ignores it, so the monitor has to stay. */
static void run_signals(void)
{
    int project = next_project(), survived = 0, sent = 0;
    char why[512] = "", figure[64] = "", state[600], command[128], lost[256] = "";
    struct started host;
    int monitor = -1;

    make_state(state, sizeof state, WAITPID, project);
    write_unit(server_port, project, state, "ignoring");
    systemctl("daemon-reload");
    systemctl("start --no-block host.service");
    for (int number = 1; number <= SIGRTMAX; number++) {
        if (number == SIGKILL)
            continue;
        if (monitor < 0) {
            pid_t pid;

            if (!accept_service(&host, why, sizeof why))
                break;
            pid = find_monitor(host.host);
            monitor = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
            if (monitor < 0) {
                snprintf(why, sizeof why, "there is no monitor in the service");
                break;
            }
        }
        snprintf(command, sizeof command, "kill --kill-whom=all --signal=%d host.service", number);
        systemctl(command);
        /* What stops it is undone; what continues it ends nothing. */
        if (number == SIGSTOP)
            systemctl("kill --kill-whom=all --signal=SIGCONT host.service");
        sent++;
        if (is_readable(host.pidfd, 0)) {
            snprintf(why, sizeof why, "did not happen: the host does not ignore %d", number);
            break;
        }
        if (!is_readable(monitor, now_ms() + (is_slow ? 300 : 100))) {
            survived++;
            continue;
        }
        snprintf(lost + strlen(lost), sizeof lost - strlen(lost), " %d", number);
        close(monitor);
        monitor = -1;
        /* Another one for the next signal, which knows nothing of this one's end. */
        project = next_project();
        make_state(state, sizeof state, WAITPID, project);
        write_unit(server_port, project, state, "ignoring");
        systemctl("daemon-reload");
        systemctl("kill --kill-whom=all --signal=SIGKILL host.service");
    }
    snprintf(figure, sizeof figure, "%d of %d left it alive", survived, sent);
    if (lost[0] && !why[0])
        snprintf(why, sizeof why, "the monitor was ended by%s", lost);
    say_result("signals to the whole service", figure, why);
    if (monitor < 0)
        return;
    why[0] = 0;
    if (send(host.words, "g", 1, MSG_NOSIGNAL) != 1 || !is_readable(host.pidfd, now_ms() + patience_ms()))
        die("the service does not crash");
    await_report(project, patience_ms());
    if (judge(project, end_named("SIGSEGV"), why, sizeof why) == RIGHT)
        why[0] = 0;
    else if (!why[0])
        snprintf(why, sizeof why, "no report");
    say_result("reports of a crash after all of them", why[0] ? "" : "1", why);
}

static void run_service(void)
{
    struct utsname name;

    uname(&name);
    printf("\nLinux %s, a service of systemd\n", name.release);
    run_restart();
    run_signals();
}

static void run_matrix(const char *only)
{
    struct utsname name;

    uname(&name);
    printf("\nLinux %s, %d runs each: reported/runs\n%-20s", name.release, runs, "");
    for (size_t i = 0; i < LENGTH(ends); i++)
        printf(" %9s", ends[i].name);
    printf("\n");
    for (size_t parent = 0; parent < LENGTH(parents); parent++) {
        if (only && strcmp(only, parents[parent].name))
            continue;
        printf("%-20s", parents[parent].name);
        for (size_t end = 0; end < LENGTH(ends); end++)
            run_cell((enum parent)parent, &ends[end]);
        printf("\n");
    }
    printf("\n");
}

static void run_disks(void)
{
    static const struct end closing = {"close 500", CLEAN, 0, 0, NULL, NULL};

    for (enum disk disk = EXT4; disk <= FUSE; disk++) {
        run_hanging(disk, end_named("SIGSEGV"), DEAD_WITHIN_MS, true);
        run_hanging(disk, end_named("SIGKILL"), DEAD_WITHIN_MS, false);
        run_hanging(disk, &closing, 500, false);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *only = NULL;
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--runs") && i + 1 < argc)
            runs = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--only") && i + 1 < argc)
            only = argv[++i];
        else if (!strcmp(argv[i], "--slow"))
            is_slow = true;
        else if (!strcmp(argv[i], "--systemd"))
            is_beside_others = true;
        else
            return 2;
    }
    if (length < 0 || runs < 1)
        die("usage");
    *strrchr(folder, '/') = 0;
    signal(SIGPIPE, SIG_IGN);
    length = snprintf(socket_name, sizeof socket_name, "ondat-telemetry-test-vm-%d", getpid());
    memcpy(address.sun_path + 1, socket_name, (size_t)length);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    length += (ssize_t)offsetof(struct sockaddr_un, sun_path) + 1;
    if (bind(listener, (struct sockaddr *)&address, (socklen_t)length) || listen(listener, 8))
        die("the driver's socket");
    start_server();
    if (is_beside_others) {
        run_service();
    } else {
        if (!only || strcmp(only, "disks"))
            run_matrix(only);
        if (!only || !strcmp(only, "disks"))
            run_disks();
    }
    for (size_t i = 0; i < complaint_count; i++)
        printf("  %s\n", complaints[i]);
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
