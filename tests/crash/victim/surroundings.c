/* What a host has around itself, and what the library may not take from it. */
#include "victim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

static void wait_for_line(void)
{
    char line[64];

    if (fgets(line, sizeof line, stdin) == NULL)
        exit(93);
}

static void look_and_segv(void)
{
    struct rlimit limit;
    mode_t mask = umask(0);

    getrlimit(RLIMIT_FSIZE, &limit);
    printf("umask %o fsize %ld policy %d null %d\n", (unsigned)mask, (long)limit.rlim_cur, sched_getscheduler(0),
           access("/dev/null", F_OK));
    segv();
}

/* Closed at the start, as some supervisors do. The library is used where the environment has its settings. */
static void closed_stdio(void)
{
    int open_below_3 = 0;

    for (int number = 0; number < 3; number++) {
        if (fcntl(number, F_DUPFD, 100 + number) != 100 + number)
            exit(95);
        close(number);
    }
    if (getenv("ONDAT_TELEMETRY_SENTRY_DSN") != NULL)
        telemetry = try_install();
    for (int number = 0; number < 3; number++)
        open_below_3 += fcntl(number, F_GETFD) != -1;
    for (int number = 0; number < 3; number++)
        dup2(100 + number, number);
    printf("open below 3: %d\n", open_below_3);
    wait_for_line();
    segv();
}

static void become_subreaper(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* As a container's first process does that ends with its last child. */
static void wait_for_all(void)
{
    int status, reaped = 0;

    for (int i = 0; i < 3; i++)
        if (fork() == 0)
            _exit(0);
    while (wait(&status) > 0)
        reaped++;
    printf("reaped %d errno %d\n", reaped, errno);
    wait_for_line();
    segv();
}

static void leave_pid_namespace(void)
{
    if (unshare(CLONE_NEWPID) != 0)
        exit(95);
}

static void fork_once(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(getpid() == 1 ? 5 : 6);
    if (child > 0)
        waitpid(child, &status, 0);
    printf("fork %d status %x\n", child > 0, (unsigned)status);
    exit(0);
}

/* The child has the library's descriptors, which close in the host by exec alone. It ends with the host's new image. */
static void start_anew_beside_a_child(void)
{
    char byte;
    int life[2];

    if (pipe(life) != 0)
        exit(95);
    if (fork() == 0) {
        close(life[1]);
        _exit((int)read(life[0], &byte, 1));
    }
    execl("/proc/self/exe", "victim", getenv("VICTIM_NEXT"), "segv", (char *)NULL);
    exit(95);
}

/* A worker that serves on when its parent is gone, until the test ends it. It leaves the test's pipes alone. */
static void prefork(void)
{
    pid_t worker = fork();

    if (worker == 0) {
        setsid();
        for (int number = 0; number < 3; number++)
            close(number);
        /* Whatever becomes of the test. */
        alarm(60);
        for (;;)
            pause();
    }
    printf("worker %d\n", (int)worker);
    wait_for_line();
    segv();
}

/* A function of another copy of the library, with the type that the program's own has. */
#define FUNCTION(name, object)                       \
    __typeof__(ondat_telemetry_##name) *name = NULL; \
    function_of(object, "ondat_telemetry_" #name, &name)

static void function_of(void *object, const char *name, void *function)
{
    void *symbol = dlsym(object, name);

    if (symbol == NULL)
        exit(95);
    memcpy(function, &symbol, sizeof symbol);
}

/* A plugin that brings its own copy, beside the program's. */
static void two_copies(void)
{
    void *copy = dlopen(getenv("VICTIM_COPY"), RTLD_NOW | RTLD_LOCAL);
    ondat_telemetry *client = NULL;
    char errbuf[512] = "";
    int installed;

    if (copy == NULL) {
        printf("%s\n", dlerror());
        exit(95);
    }
    FUNCTION(config_new, copy);
    FUNCTION(config_set_component, copy);
    FUNCTION(config_set_version, copy);
    FUNCTION(config_set_cluster_id, copy);
    FUNCTION(config_set_node_id, copy);
    FUNCTION(config_load_env, copy);
    FUNCTION(init, copy);
    FUNCTION(install_crash_handler, copy);
    FUNCTION(version, copy);
    printf("another %d\n", version != ondat_telemetry_version);
    if (telemetry != NULL) {
        ondat_telemetry_config *config = config_new();

        config_set_component(config, "plugin");
        config_set_version(config, "3.2.1");
        config_set_cluster_id(config, "cluster-1");
        config_set_node_id(config, "node-1");
        config_load_env(config);
        if (init(config, &client, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
            printf("init %s\n", errbuf);
        installed = (int)install_crash_handler(client, 0, errbuf, sizeof errbuf);
        printf("second %d %s\n", installed, errbuf);
    }
    segv();
}

static void close_within_500(void)
{
    ondat_telemetry_close(telemetry, 500);
    exit(0);
}

/* What else writes to the state directory, and is to come back. */
static void switch_and_report_exit(void)
{
    char errbuf[256] = "";
    int switched, reported;

    if (telemetry == NULL)
        exit(0);
    switched = (int)ondat_telemetry_set_switches(telemetry, ONDAT_TELEMETRY_CRASH_REPORTS, NULL, 0);
    reported = (int)ondat_telemetry_report_exit(telemetry, "child", 3 << 8, NULL, errbuf, sizeof errbuf);
    printf("switched %d reported %d %s\n", switched, reported, errbuf);
    wait_for_line();
    printf("flushed %d\n", (int)ondat_telemetry_flush(telemetry, 10000, NULL, 0));
    exit(0);
}

/* A process that its parent leaves behind ends as the test wants, and the program ends well once it is gone. */
static void orphan(void)
{
    const char *end = getenv("VICTIM_ORPHAN");
    int orphaned[2], status;
    pid_t parent, child = 0;

    if (pipe(orphaned) != 0)
        exit(95);
    parent = fork();
    if (parent == 0) {
        pid_t before = getpid();

        child = fork();
        if (child == 0) {
            while (getppid() == before)
                sched_yield();
            prctl(PR_SET_NAME, "straggler");
            if (strcmp(end, "segv") == 0)
                segv();
            if (strcmp(end, "kill") == 0)
                raise(SIGKILL);
            _exit(3);
        }
        (void)!write(orphaned[1], &child, sizeof child);
        _exit(0);
    }
    waitpid(parent, &status, 0);
    if (read(orphaned[0], &child, sizeof child) != sizeof child)
        exit(95);
    while (kill(child, 0) == 0)
        sched_yield();
    printf("gone %d\n", errno == ESRCH);
    exit(0);
}

const struct scenario surroundings[] = {
    { "look_and_segv", NULL, look_and_segv },
    { "closed_stdio", NULL, closed_stdio },
    { "wait_for_all", NULL, wait_for_all },
    { "wait_for_all_as_subreaper", become_subreaper, wait_for_all },
    { "fork_in_new_pid_namespace", leave_pid_namespace, fork_once },
    { "start_anew_beside_a_child", NULL, start_anew_beside_a_child },
    { "prefork", NULL, prefork },
    { "two_copies", NULL, two_copies },
    { "close_within_500", NULL, close_within_500 },
    { "switch_and_report_exit", NULL, switch_and_report_exit },
    { "orphan", NULL, orphan },
    { NULL, NULL, NULL },
};
