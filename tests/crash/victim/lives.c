/* What becomes of a host while it lives: clients come and go, it daemonizes, starts anew, is stopped, delivers. */
#include "victim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/ioctl.h>

static void wait_for_line(void)
{
    char line[64];

    if (fgets(line, sizeof line, stdin) == NULL)
        exit(93);
}

enum { CLIENT_THREADS = 8, CLIENTS_PER_THREAD = 125 };

static int installed_by_many;

static void *make_clients(void *argument)
{
    for (int i = 0; i < *(int *)argument; i++) {
        ondat_telemetry *client = NULL;
        char errbuf[256];

        if (make_client(&client, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
            printf("init: %s\n", errbuf);
            exit(95);
        }
        /* INVALID_STATE while another thread's client has it. */
        if (ondat_telemetry_install_crash_handler(client, 0, errbuf, sizeof errbuf) == ONDAT_TELEMETRY_OK)
            __atomic_add_fetch(&installed_by_many, 1, __ATOMIC_RELAXED);
        ondat_telemetry_close(client, 0);
    }
    return NULL;
}

static void make_clients_on_threads(int each)
{
    pthread_t made[CLIENT_THREADS];

    for (int i = 0; i < CLIENT_THREADS; i++)
        pthread_create(&made[i], NULL, make_clients, &each);
    for (int i = 0; i < CLIENT_THREADS; i++)
        pthread_join(made[i], NULL);
}

static int entries(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);

    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* Pages of the address space. */
static long pages(void)
{
    long count = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (fscanf(file, "%ld", &count) != 1)
        exit(94);
    fclose(file);
    return count;
}

static void clients(void)
{
    /* What is made once, caches and arenas among it, is there afterwards. */
    int descriptors, tasks;
    long size;

    make_clients_on_threads(CLIENTS_PER_THREAD / 2);
    descriptors = entries("/proc/self/fd");
    tasks = entries("/proc/self/task");
    size = pages();
    make_clients_on_threads(CLIENTS_PER_THREAD);
    printf("installed %d descriptors %d tasks %d pages %ld\n", installed_by_many,
           entries("/proc/self/fd") - descriptors, entries("/proc/self/task") - tasks, pages() - size);
    wait_for_line();
    exit(0);
}

static void install_again(void)
{
    char errbuf[256] = "";
    ondat_telemetry *second = NULL;

    if (telemetry != NULL) {
        int same = ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf), other;

        make_client(&second, NULL, 0);
        other = ondat_telemetry_install_crash_handler(second, 0, NULL, 0);
        ondat_telemetry_close(second, 0);
        printf("again %d %d %s\n", same, other, errbuf);
    }
    segv();
}

static int mappings_of_the_library(void)
{
    int count = 0;
    char line[512];
    FILE *file = fopen("/proc/self/maps", "r");

    while (fgets(line, sizeof line, file) != NULL)
        count += strstr(line, "libondat_telemetry.so") != NULL;
    fclose(file);
    return count;
}

static void unload(void)
{
    /* In a namespace of its own this is a second copy, of which nobody else holds a reference. */
    int before = mappings_of_the_library(), loaded;
    const char *(*function)(void) = ondat_telemetry_version;
    void *address, *handle;
    Dl_info info;

    memcpy(&address, &function, sizeof address);
    dladdr(address, &info);
    handle = dlmopen(LM_ID_NEWLM, info.dli_fname, RTLD_NOW);
    loaded = mappings_of_the_library();
    dlclose(handle);
    printf("loaded %d kept %d\n", loaded > before, mappings_of_the_library() == loaded);
    segv();
}

static void leave(void)
{
    if (fork() != 0)
        _exit(0);
    setsid();
    if (fork() != 0)
        _exit(0);
}

/* The old client is the parent's and of no use to the daemon, which makes a new one. */
static void daemonize(void)
{
    char errbuf[256] = "";

    leave();
    if (telemetry != NULL)
        printf("old %d\n", (int)ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf));
    install();
    printf("daemon %d\n", (int)getpid());
    wait_for_line();
    segv();
}

static void say_who(void)
{
    printf("daemon %d\n", (int)getpid());
    wait_for_line();
    segv();
}

static void start_anew(void)
{
    execl("/proc/self/exe", "victim", "with", "segv", (char *)NULL);
}

static volatile sig_atomic_t signals_seen;

static void count_signal(int signal_number)
{
    (void)signal_number;
    signals_seen++;
}

static void count_signals(int signal_number)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = count_signal;
    sigaction(signal_number, &action, NULL);
}

static void count_sigchld(void)
{
    count_signals(SIGCHLD);
}

static void adopt(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    count_signals(SIGCHLD);
}

static int reaped(void)
{
    int count = 0;

    while (waitpid(-1, NULL, WNOHANG) > 0)
        count++;
    return count;
}

/* A host that reaps in a loop, with a child of its own. */
static void reap(void)
{
    int count = reaped(), status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(3);
    waitpid(child, &status, 0);
    printf("reaped %d own %d signals %d\n", count + reaped(), status >> 8, (int)signals_seen);
    exit(0);
}

/* A monitor that the host has adopted ends like any other child: one SIGCHLD, one status. */
static void reap_after_close(void)
{
    sigset_t mask, before;
    int status = -1;
    pid_t child = 0;

    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, &before);
    if (telemetry != NULL) {
        ondat_telemetry_close(telemetry, 0);
        while (signals_seen == 0)
            sigsuspend(&before);
        child = waitpid(-1, &status, WNOHANG);
    }
    printf("reaped %d status %d left %d\n", child > 0, status, (int)waitpid(-1, NULL, WNOHANG));
    exit(0);
}

static void lead_a_group(void)
{
    setsid();
    count_signals(SIGTERM);
}

static void stop_the_group(void)
{
    kill(0, SIGTERM);
    printf("stopped %d\n", (int)signals_seen);
    segv();
}

static int terminal = -1;

static void own_a_terminal(void)
{
    int slave;

    setsid();
    terminal = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(terminal);
    unlockpt(terminal);
    slave = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    if (slave < 0 || ioctl(slave, TIOCSCTTY, 0) != 0) {
        perror("no terminal");
        exit(92);
    }
    count_signals(SIGINT);
}

static void interrupt_key(void)
{
    sigset_t mask, before;

    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigprocmask(SIG_BLOCK, &mask, &before);
    if (write(terminal, "\003", 1) != 1)
        exit(91);
    while (signals_seen == 0)
        sigsuspend(&before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    printf("interrupted %d\n", (int)signals_seen);
    segv();
}

static void notice_stop(void)
{
    count_signals(SIGTERM);
}

/* A shutdown that goes wrong. */
static void crash_when_stopped(void)
{
    sigset_t mask, before;

    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, &before);
    printf("running\n");
    while (signals_seen == 0)
        sigsuspend(&before);
    segv();
}

static void flush(void)
{
    char errbuf[256] = "";

    if (telemetry != NULL)
        printf("flushed %d %s\n", (int)ondat_telemetry_flush(telemetry, 10000, errbuf, sizeof errbuf), errbuf);
    exit(0);
}

static void switch_off(void)
{
    if (telemetry != NULL)
        ondat_telemetry_set_switches(telemetry, ONDAT_TELEMETRY_VERSION_CHECK, NULL, 0);
    segv();
}

static void switch_off_and_on(void)
{
    if (telemetry != NULL) {
        ondat_telemetry_set_switches(telemetry, 0, NULL, 0);
        ondat_telemetry_set_switches(telemetry, ONDAT_TELEMETRY_CRASH_REPORTS, NULL, 0);
    }
    segv();
}

const struct scenario lives[] = {
    { "clients", NULL, clients },
    { "install_again", NULL, install_again },
    { "unload", NULL, unload },
    { "daemonize", NULL, daemonize },
    { "daemon", leave, say_who },
    { "start_anew", NULL, start_anew },
    { "reap", count_sigchld, reap },
    { "adopt", adopt, reap },
    { "adopt_and_close", adopt, reap_after_close },
    { "stop_the_group", lead_a_group, stop_the_group },
    { "interrupt_key", own_a_terminal, interrupt_key },
    { "crash_when_stopped", notice_stop, crash_when_stopped },
    { "flush", NULL, flush },
    { "switch_off", NULL, switch_off },
    { "switch_off_and_on", NULL, switch_off_and_on },
    { NULL, NULL, NULL },
};
