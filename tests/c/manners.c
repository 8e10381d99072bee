/*
 * A host that is particular about its threads, signals, children and descriptors. The argument says which of them it looks
 * at; it prints what it found.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char why[512];
static ondat_telemetry *host;

static void fail(const char *what)
{
    dprintf(1, "%s: %s (%s)\n", what, why, strerror(errno));
    _exit(1);
}

static ondat_telemetry_config *settings(void)
{
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    ondat_telemetry_config_load_env(config);
    return config;
}

static ondat_telemetry *client_of(ondat_telemetry_config *config)
{
    ondat_telemetry *made = NULL;

    if (ondat_telemetry_init(config, &made, why, sizeof why) != ONDAT_TELEMETRY_OK)
        fail("init");
    ondat_telemetry_config_free(config);
    return made;
}

static void on_text(const char *text, size_t len, void *userdata)
{
    (void)text;
    (void)len;
    if (userdata != NULL)
        ++*(int *)userdata;
}

static void on_version(const ondat_telemetry_version_info *info, void *userdata)
{
    (void)info;
    if (userdata != NULL)
        ++*(int *)userdata;
}

/* Every call that takes a client, but close. Callbacks count. */
enum { CALLS = 13 };
static const char document[] = "{\"nodes\":[],\"volumes\":[]}";

static int make(int call, ondat_telemetry *client, int *called)
{
    int fd = -1;

    switch (call) {
    case 0: return ondat_telemetry_explain_switches(client, on_text, called);
    case 1: return ondat_telemetry_latest_version(client, on_version, called);
    case 2: return ondat_telemetry_set_switches(client, 7, why, sizeof why);
    case 3: return ondat_telemetry_check_version(client, 50, on_version, called, why, sizeof why);
    case 4: return ondat_telemetry_submit_report(client, document, strlen(document), 50, why, sizeof why);
    case 5: return ondat_telemetry_preview_report(client, document, strlen(document), on_text, called, why, sizeof why);
    case 6: return ondat_telemetry_report_exit(client, "child", 3 << 8, NULL, why, sizeof why);
    case 7: return ondat_telemetry_flush(client, 50, why, sizeof why);
    case 8: return ondat_telemetry_crash_output(client, &fd, why, sizeof why);
    case 9: return ondat_telemetry_start(client, why, sizeof why);
    case 10: return ondat_telemetry_install_crash_handler(client, 0, why, sizeof why);
    case 11: return ondat_telemetry_switches(client) == 0 ? ONDAT_TELEMETRY_INVALID_STATE : ONDAT_TELEMETRY_OK;
    default: return ondat_telemetry_set_switches(client, 0, why, sizeof why);
    }
}

/* --- cancelled: a request to cancel waits for each call, and is followed after it --------------------------------- */

static int returned;

static void *cancelled_in(void *call)
{
    pthread_cancel(pthread_self());
    if ((long)call == CALLS) {
        ondat_telemetry *made = client_of(settings());

        ondat_telemetry_close(made, 50);
    } else {
        make((int)(long)call, host, NULL);
    }
    returned++;
    pthread_testcancel();
    return NULL;
}

static int is_disabled_inside;

static void look_at_cancellation(const char *text, size_t len, void *userdata)
{
    int state;

    (void)text;
    (void)len;
    (void)userdata;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    is_disabled_inside = state == PTHREAD_CANCEL_DISABLE;
    pthread_setcancelstate(state, NULL);
}

static int cancelled(void)
{
    int ended = 0, state;

    host = client_of(settings());
    for (long call = 0; call <= CALLS; call++) {
        pthread_t thread;
        void *end;

        pthread_create(&thread, NULL, cancelled_in, (void *)call);
        pthread_join(thread, &end);
        ended += end == PTHREAD_CANCELED;
    }
    ondat_telemetry_explain_switches(host, look_at_cancellation, NULL);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    make(0, host, NULL);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    ondat_telemetry_close(host, 0);
    printf("of %d returned %d, cancelled afterwards %d, off in callbacks %d, as it was %d\n", CALLS + 1, returned, ended,
           is_disabled_inside, state == PTHREAD_CANCEL_DISABLE);
    return 0;
}

/* --- limited: no file may grow, and nothing of that reaches the host ---------------------------------------------- */

static int raised;

static void on_signal(int number)
{
    (void)number;
    raised++;
}

static int is_blocked(int number)
{
    sigset_t mask;

    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    return sigismember(&mask, number);
}

static int blocked_inside = -1;

static void look_at_mask(const char *text, size_t len, void *userdata)
{
    (void)text;
    (void)len;
    (void)userdata;
    blocked_inside = is_blocked(SIGXFSZ) || is_blocked(SIGPIPE);
}

static int limited(void)
{
    struct rlimit limit = {0, RLIM_INFINITY};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t pending, mask;
    int refused = 0;

    sigaction(SIGXFSZ, &action, NULL);
    sigaction(SIGPIPE, &action, NULL);
    setrlimit(RLIMIT_FSIZE, &limit);
    host = client_of(settings());
    for (int call = 0; call < CALLS - 1; call++)
        refused += make(call, host, NULL) == ONDAT_TELEMETRY_IO;
    ondat_telemetry_explain_switches(host, look_at_mask, NULL);
    sigpending(&pending);
    printf("raised %d, pending %d, blocked %d, blocked in callbacks %d, refused %d\n", raised,
           sigismember(&pending, SIGXFSZ) || sigismember(&pending, SIGPIPE), is_blocked(SIGXFSZ) || is_blocked(SIGPIPE),
           blocked_inside, refused);
    /* One that the host has of itself, and holds back, is still there afterwards. */
    sigemptyset(&mask);
    sigaddset(&mask, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    raise(SIGXFSZ);
    make(6, host, NULL);
    sigpending(&pending);
    printf("the host's own %d\n", sigismember(&pending, SIGXFSZ));
    pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
    ondat_telemetry_close(host, 0);
    printf("raised %d\n", raised);
    return 0;
}

/* --- forked: a child of a busy host -------------------------------------------------------------------------------- */

static volatile int stop;
static volatile long calls_made;

static void *busy(void *odd)
{
    while (!stop) {
        make(odd != NULL, host, NULL);
        make(2, host, NULL);
        __atomic_add_fetch(&calls_made, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

/* With what system call a child is made: by fork(3), and around it. */
static pid_t fork_by(int way)
{
    if (way == 0)
        return fork();
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void hung(int number)
{
    (void)number;
    _exit(2);
}

/* A child that has anything but INVALID_STATE to tell, or is called back, exits with 1; one that hangs, with 2. */
static void ask_in_child(int way)
{
    int called = 0, bad = 0;

    signal(SIGALRM, hung);
    alarm(20);
    for (int call = 0; call < CALLS; call++) {
        why[0] = 0;
        bad += make(call, host, &called) != ONDAT_TELEMETRY_INVALID_STATE;
        bad += call > 1 && call != 11 && strstr(why, "forked child") == NULL;
    }
    ondat_telemetry_close(host, 1000);
    /* The allocator is only sure to work in children of fork(3). */
    if (way == 0) {
        ondat_telemetry *own = client_of(settings());

        bad += make(0, own, &called) != ONDAT_TELEMETRY_OK || make(2, own, NULL) != ONDAT_TELEMETRY_OK;
        bad += make(9, own, NULL) != ONDAT_TELEMETRY_OK || called != 1;
        ondat_telemetry_close(own, 0);
        called = 0;
    }
    _exit(bad != 0 || called != 0);
}

static int child_in_callback = -1;

static void fork_in_callback(const char *text, size_t len, void *userdata)
{
    pid_t child = fork();

    (void)text;
    (void)len;
    (void)userdata;
    if (child == 0) {
        ondat_telemetry *own = client_of(settings());

        /* In the parent a call that waits is refused here. */
        _exit(ondat_telemetry_flush(own, 10, why, sizeof why) == ONDAT_TELEMETRY_INVALID_STATE);
    }
    waitpid(child, &child_in_callback, 0);
}

static int forked(void)
{
    enum { CHILDREN = 40, THREADS = 6 };
    pthread_t threads[THREADS];
    int wrong = 0, hangs = 0;

    host = client_of(settings());
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, busy, (void *)(i % 2));
    for (int i = 0; i < CHILDREN; i++) {
        long before = calls_made;
        int status;
        pid_t child;

        while (calls_made == before)
            sched_yield();
        child = fork_by(i % 2);
        if (child == 0)
            ask_in_child(i % 2);
        waitpid(child, &status, 0);
        hangs += WIFEXITED(status) && WEXITSTATUS(status) == 2;
        wrong += !WIFEXITED(status) || WEXITSTATUS(status) == 1;
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ondat_telemetry_explain_switches(host, fork_in_callback, NULL);
    printf("of %d children %d hung and %d got something else; in a callback %d; the parent goes on %d\n", CHILDREN, hangs, wrong,
           child_in_callback, make(0, host, NULL));
    ondat_telemetry_close(host, 0);
    return 0;
}

/* --- closed: no standard input, output, error; whatever is printed goes nowhere ------------------------------------ */

static int written;

static void *print_all_the_time(void *nothing)
{
    while (!stop)
        for (int fd = 0; fd < 3; fd++)
            written += write(fd, "A SECRET OF THE HOST\n", 21) > 0;
    return nothing;
}

/* Those that can be read or written; while the library's thread is opening something, its placeholders cannot. */
static int standard_are_usable(void)
{
    int usable = 0;

    for (int fd = 0; fd < 3; fd++) {
        int flags = fcntl(fd, F_GETFL);

        usable += flags >= 0 && (flags & O_PATH) == 0;
    }
    return usable;
}

static int standard_are_open(void)
{
    int open = 0;

    for (int fd = 0; fd < 3; fd++)
        open += fcntl(fd, F_GETFD) >= 0;
    return open;
}

static int closed(void)
{
    pthread_t thread;
    int out = fcntl(1, F_DUPFD, 10), taken = 0;

    for (int fd = 0; fd < 3; fd++)
        close(fd);
    pthread_create(&thread, NULL, print_all_the_time, NULL);
    for (int round = 0; round < 20; round++) {
        host = client_of(settings());
        for (int call = 0; call < CALLS; call++) {
            if (call == 10)
                continue;
            make(call, host, NULL);
            taken += standard_are_usable();
        }
        ondat_telemetry_close(host, 50);
        /* Nothing is left, at the latest when its threads have ended. */
        while (standard_are_open())
            sched_yield();
    }
    stop = 1;
    pthread_join(thread, NULL);
    dprintf(out, "taken %d, written %d\n", taken, written);
    return 0;
}

/* --- taken: the host closes what it does not know, and uses the numbers -------------------------------------------- */

/* Waits until the library's threads are in poll(2): nothing is under way. */
static void wait_until_idle(void)
{
    char path[64], call[64];
    int is_busy;

    do {
        DIR *tasks = opendir("/proc/self/task");
        struct dirent *entry;

        is_busy = 0;
        while ((entry = readdir(tasks)) != NULL) {
            int task = atoi(entry->d_name), number = -1;
            FILE *file;

            if (task == 0 || task == getpid())
                continue;
            snprintf(path, sizeof path, "/proc/self/task/%d/syscall", task);
            file = fopen(path, "r");
            if (file != NULL && fgets(call, sizeof call, file) != NULL)
                number = atoi(call);
            if (file != NULL)
                fclose(file);
            is_busy += number != SYS_ppoll;
#ifdef SYS_poll
            is_busy -= number == SYS_poll;
#endif
        }
        closedir(tasks);
    } while (is_busy);
}

static int taken(void)
{
    enum { PIPES = 8, MESSAGE = 11 };
    char turned_off[512], bytes[64];
    int pipes[PIPES][2], kept = 0;
    FILE *file;

    host = client_of(settings());
    if (ondat_telemetry_start(host, why, sizeof why) != ONDAT_TELEMETRY_OK)
        fail("start");
    wait_until_idle();
    if (syscall(SYS_close_range, 3, ~0u, 0) != 0)
        return 77;
    for (int i = 0; i < PIPES; i++) {
        if (pipe2(pipes[i], O_NONBLOCK) != 0 || write(pipes[i][1], "the host's\n", MESSAGE) != MESSAGE)
            fail("pipe");
    }
    printf("first %d\n", pipes[0][0]);
    fflush(stdout);
    /* Each wakes the library's thread, which looks at what it has. */
    for (int i = 0; i < 5; i++) {
        make(2, host, NULL);
        usleep(20000);
    }
    snprintf(turned_off, sizeof turned_off, "%s/switches.json", getenv("ONDAT_TELEMETRY_STATE_DIR"));
    file = fopen(turned_off, "w");
    fputs("{\"version_check\": false, \"daily_report\": false, \"crash_reports\": false}", file);
    fclose(file);
    while (ondat_telemetry_switches(host) != 0)
        usleep(10000);
    printf("followed\n");
    ondat_telemetry_close(host, 100);
    for (int i = 0; i < PIPES; i++) {
        kept += read(pipes[i][0], bytes, sizeof bytes) == MESSAGE;
        kept += fcntl(pipes[i][1], F_GETFD) >= 0 && write(pipes[i][1], "x", 1) == 1;
    }
    printf("kept %d of %d\n", kept, 2 * PIPES);
    return 0;
}

/* --- refused: the kernel gives no such thing ------------------------------------------------------------------------ */

static void refuse(int number, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        fail("seccomp");
}

static int refused(int number, int error)
{
    char turned_off[512];
    int status;
    FILE *file;
    pid_t child;

    refuse(number, error);
    errno = 0;
    host = client_of(settings());
    status = ondat_telemetry_start(host, why, sizeof why);
    printf("start %d\n", status);
    snprintf(turned_off, sizeof turned_off, "%s/switches.json", getenv("ONDAT_TELEMETRY_STATE_DIR"));
    file = fopen(turned_off, "w");
    fputs("{\"version_check\": false, \"daily_report\": false, \"crash_reports\": false}", file);
    fclose(file);
    while (ondat_telemetry_switches(host) != 0)
        usleep(10000);
    printf("followed\n");
    fflush(stdout);
    child = fork();
    if (child == 0)
        _exit(make(0, host, NULL));
    waitpid(child, &status, 0);
    printf("in a child %d\n", WEXITSTATUS(status));
    ondat_telemetry_close(host, 100);
    return 0;
}

/* --- scheduled: a real-time host on one processor -------------------------------------------------------------------- */

static int scheduled(void)
{
    struct sched_param priority = {.sched_priority = 40};
    cpu_set_t all, one, found;
    struct dirent *entry;
    DIR *tasks;

    sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0 || setpriority(PRIO_PROCESS, 0, -10) != 0 ||
        sched_setscheduler(0, SCHED_FIFO, &priority) != 0)
        return 77;
    host = client_of(settings());
    if (ondat_telemetry_start(host, why, sizeof why) != ONDAT_TELEMETRY_OK)
        fail("start");
    /* It has read the switches when it has found what turns them off: only then has its thread run for sure. */
    tasks = opendir("/proc/self/task");
    while ((entry = readdir(tasks)) != NULL) {
        int task = atoi(entry->d_name);

        if (task == 0 || task == getpid())
            continue;
        while (getpriority(PRIO_PROCESS, task) < 0)
            usleep(1000);
        sched_getaffinity(task, sizeof found, &found);
        printf("policy %d, nice %d, all processors %d\n", sched_getscheduler(task), getpriority(PRIO_PROCESS, task),
               CPU_EQUAL(&found, &all));
    }
    closedir(tasks);
    ondat_telemetry_close(host, 0);
    return 0;
}

/* --- privileged: a set-user-ID program ------------------------------------------------------------------------------- */

static int privileged(void)
{
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    int status;

    ondat_telemetry_config_load_env(config);
    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    status = ondat_telemetry_init(config, &host, why, sizeof why);
    printf("secure %lu, init %d %s\n", getauxval(AT_SECURE), status, why);
    if (status != ONDAT_TELEMETRY_OK)
        return 0;
    printf("switches %u, check %d\n", ondat_telemetry_switches(host), make(3, host, NULL));
    ondat_telemetry_close(host, 0);
    return 0;
}

/* --- closing: close in a callback ------------------------------------------------------------------------------------ */

static int called, late, freed;

static void close_once(void)
{
    called++;
    if (host == NULL) {
        late++;
        return;
    }
    ondat_telemetry_close(host, 1000);
    host = NULL;
}

static void close_on_text(const char *text, size_t len, void *userdata) { (void)text; (void)len; (void)userdata; close_once(); }
static void close_on_version(const ondat_telemetry_version_info *info, void *userdata) { (void)info; (void)userdata; close_once(); }
static void close_on_log(int level, const char *line, void *userdata)
{
    (void)level;
    (void)line;
    (void)userdata;
    /* The first line comes from init, when there is nothing to close yet. */
    if (host != NULL || late + called > 0)
        close_once();
}
static void on_free(void *userdata) { (void)userdata; __atomic_add_fetch(&freed, 1, __ATOMIC_SEQ_CST); }

static int closing(const char *callback)
{
    ondat_telemetry_config *config = settings();
    ondat_telemetry *client;
    int status = 0;

    ondat_telemetry_config_set_version_callback(config, strcmp(callback, "version") == 0 ? close_on_version : on_version, NULL,
                                                on_free);
    ondat_telemetry_config_set_log_callback(config, 7, strcmp(callback, "log") == 0 ? close_on_log : NULL, NULL, on_free);
    client = client_of(config);
    freed = 0;
    host = client;
    if (strcmp(callback, "explain") == 0)
        status = ondat_telemetry_explain_switches(client, close_on_text, NULL);
    else if (strcmp(callback, "preview") == 0)
        status = ondat_telemetry_preview_report(client, document, strlen(document), close_on_text, NULL, why, sizeof why);
    else if (strcmp(callback, "latest") == 0)
        status = ondat_telemetry_latest_version(client, close_on_version, NULL);
    else if (strcmp(callback, "check") == 0)
        status = ondat_telemetry_check_version(client, 5000, close_on_version, NULL, why, sizeof why);
    else if (strcmp(callback, "version") == 0)
        status = ondat_telemetry_check_version(client, 5000, close_on_version, NULL, why, sizeof why);
    else if (strcmp(callback, "log") == 0)
        status = ondat_telemetry_set_switches(client, 0, why, sizeof why);
    printf("status %d, called %d, afterwards %d, freed %d\n", status, called, late, freed);
    return 0;
}

/* --- racing: everything at once, and the end in the middle of a callback --------------------------------------------- */

static int begin;

static void *race(void *number)
{
    while (!__atomic_load_n(&begin, __ATOMIC_SEQ_CST))
        sched_yield();
    for (int round = 0; round < 20; round++)
        make((int)(((long)number * 5 + round) % CALLS), host, NULL);
    return NULL;
}

static void *close_in_callback(void *client)
{
    while (!__atomic_load_n(&begin, __ATOMIC_SEQ_CST))
        sched_yield();
    ondat_telemetry_explain_switches(client, close_on_text, NULL);
    return NULL;
}

static int racing(void)
{
    enum { THREADS = 8, ROUNDS = 10 };
    pthread_t threads[THREADS];

    for (int round = 0; round < ROUNDS; round++) {
        host = client_of(settings());
        begin = 0;
        for (long i = 0; i < THREADS; i++)
            pthread_create(&threads[i], NULL, race, (void *)i);
        __atomic_store_n(&begin, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        /* The thread of the schedule works on while its client is closed in a callback of another one. */
        __atomic_store_n(&begin, 1, __ATOMIC_SEQ_CST);
        close_in_callback(host);
    }
    printf("called %d, afterwards %d\n", called, late);
    return 0;
}

/* --- frozen: the disk of the state directory does not answer ---------------------------------------------------------- */

static int frozen(int is_started)
{
    char line[16];

    host = client_of(settings());
    if (is_started && ondat_telemetry_start(host, why, sizeof why) != ONDAT_TELEMETRY_OK)
        fail("start");
    printf("ready\n");
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        return 1;
    why[0] = 0;
    printf("report_exit %d", ondat_telemetry_report_exit(host, "child", 3 << 8, NULL, why, sizeof why));
    printf(" %s\n", why);
    fflush(stdout);
    printf("set_switches %d\n", ondat_telemetry_set_switches(host, ONDAT_TELEMETRY_CRASH_REPORTS, why, sizeof why));
    fflush(stdout);
    if (is_started) {
        ondat_telemetry_close(host, 500);
        printf("closed\n");
        fflush(stdout);
    }
    /* The disk is thawed now. */
    if (fgets(line, sizeof line, stdin) == NULL)
        return 1;
    if (!is_started) {
        printf("flush %d\n", ondat_telemetry_flush(host, 100, why, sizeof why));
        ondat_telemetry_close(host, 0);
    }
    return 0;
}

int main(int count, char **words)
{
    const char *what = count > 1 ? words[1] : "", *with = count > 2 ? words[2] : "";

    if (strcmp(what, "cancelled") == 0)
        return cancelled();
    if (strcmp(what, "limited") == 0)
        return limited();
    if (strcmp(what, "forked") == 0)
        return forked();
    if (strcmp(what, "closed") == 0)
        return closed();
    if (strcmp(what, "taken") == 0)
        return taken();
    if (strcmp(what, "refused") == 0) {
        if (strcmp(with, "inotify") == 0)
            return refused(SYS_inotify_init1, EMFILE);
        if (strcmp(with, "watch") == 0)
            return refused(SYS_inotify_add_watch, ENOSPC);
        if (strcmp(with, "timer") == 0)
            return refused(SYS_timerfd_create, EINVAL);
        if (strcmp(with, "affinity") == 0)
            return refused(SYS_sched_setaffinity, EPERM);
        if (strcmp(with, "advice") == 0)
            return refused(SYS_madvise, EINVAL);
    }
    if (strcmp(what, "scheduled") == 0)
        return scheduled();
    if (strcmp(what, "privileged") == 0)
        return privileged();
    if (strcmp(what, "closing") == 0)
        return closing(with);
    if (strcmp(what, "racing") == 0)
        return racing();
    if (strcmp(what, "frozen") == 0)
        return frozen(strcmp(with, "started") == 0);
    return 2;
}
