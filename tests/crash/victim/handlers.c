/* Handlers of the host's own and of other crash reporters, and what damages the library's. */
#include "victim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdint.h>
#include <sys/socket.h>

static void on(int signal_number, void (*handler)(int), int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

    sigaction(signal_number, &action, NULL);
}

static void segv_again(int signal_number)
{
    (void)signal_number;
    segv();
}

static void handle_segv_by_another(void)
{
    on(SIGSEGV, segv_again, 0);
}

static volatile sig_atomic_t calls;

static void exit_42_the_second_time(int signal_number)
{
    (void)signal_number;
    if (++calls == 2)
        _exit(42);
    segv();
}

static void handle_segv_without_deferring(void)
{
    on(SIGSEGV, exit_42_the_second_time, SA_NODEFER);
}

static void exit_42_with_much_stack(int signal_number)
{
    volatile char much[256 * 1024];

    for (size_t i = 0; i < sizeof much; i += 1024)
        much[i] = (char)signal_number;
    _exit(42);
}

static void handle_segv_on_the_threads_stack(void)
{
    on(SIGSEGV, exit_42_with_much_stack, 0);
}

static void ignore_segv(void)
{
    signal(SIGSEGV, SIG_IGN);
}

static void ignored_segv(void)
{
    raise(SIGSEGV);
    printf("still here\n");
    segv();
}

static void exit_42(int signal_number)
{
    (void)signal_number;
    _exit(42);
}

static void replaced_handler(void)
{
    on(SIGSEGV, exit_42, 0);
    segv();
}

static void removed_handler(void)
{
    signal(SIGSEGV, SIG_DFL);
    segv();
}

/* Another crash reporter: what it found when it was installed, by signal. */
static struct sigaction found[64];

static void report(int signal_number)
{
    static const char text[] = "reported by another\n";

    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
        _exit(95);
    (void)signal_number;
}

/* Calls what it found, as a function. */
static void report_and_call(int signal_number, siginfo_t *info, void *context)
{
    report(signal_number);
    if (found[signal_number].sa_flags & SA_SIGINFO) {
        found[signal_number].sa_sigaction(signal_number, info, context);
    } else {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
}

/* Puts back what it found and sends the signal once more. */
static void report_and_raise(int signal_number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    report(signal_number);
    sigaction(signal_number, &found[signal_number], NULL);
    raise(signal_number);
}

static void install_another(void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    sigaction(SIGSEGV, &action, &found[SIGSEGV]);
    sigaction(SIGABRT, &action, &found[SIGABRT]);
}

static void install_caller(void)
{
    install_another(report_and_call);
}

static void install_raiser(void)
{
    install_another(report_and_raise);
}

static void caller_over_ours_segv(void)
{
    install_caller();
    segv();
}

static void caller_over_ours_abort(void)
{
    install_caller();
    abort();
}

static void raiser_over_ours_segv(void)
{
    install_raiser();
    segv();
}

static void raiser_over_ours_abort(void)
{
    install_raiser();
    abort();
}

static void install_again(void)
{
    char line[64];

    if (telemetry != NULL) {
        ondat_telemetry_close(telemetry, 0);
        telemetry = try_install();
    }
    /* The test has to find the new monitor. */
    printf("again\n");
    if (fgets(line, sizeof line, stdin) == NULL)
        exit(97);
}

/* Each has the other below itself. */
static void ours_over_caller_over_ours_segv(void)
{
    install_caller();
    install_again();
    segv();
}

static void ours_over_caller_over_ours_abort(void)
{
    install_caller();
    install_again();
    abort();
}

static volatile sig_atomic_t errno_seen;

static void see_errno(int signal_number)
{
    (void)signal_number;
    errno_seen = errno;
}

static void handle_trap_by_returning(void)
{
    on(SIGTRAP, see_errno, 0);
}

static void keeps_errno(void)
{
    errno = 42;
    raise(SIGTRAP);
    printf("errno %d, in the handler %d\n", errno, (int)errno_seen);
    exit(0);
}

static volatile sig_atomic_t counts[64];

static void count(int signal_number)
{
    counts[signal_number]++;
}

static void count_signals(void)
{
    on(SIGTRAP, count, 0);
    on(SIGPIPE, count, 0);
    on(SIGCHLD, count, 0);
    on(SIGIO, count, 0);
    on(SIGURG, count, 0);
}

static void counted_signals(void)
{
    raise(SIGTRAP);
    printf("trap %d, pipe %d, chld %d, io %d, urg %d\n", counts[SIGTRAP], counts[SIGPIPE], counts[SIGCHLD],
           counts[SIGIO], counts[SIGURG]);
    exit(0);
}

/* Where the library's memory ends, by its program headers. */
static int find_library_end(struct dl_phdr_info *object, size_t size, void *userdata)
{
    unsigned long *library_end = userdata, page = (unsigned long)sysconf(_SC_PAGESIZE);

    (void)size;
    if (strstr(object->dlpi_name, "libondat_telemetry.so") == NULL)
        return 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        unsigned long end = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr + object->dlpi_phdr[i].p_memsz;

        if (object->dlpi_phdr[i].p_type == PT_LOAD && end > *library_end)
            *library_end = (end + page - 1) & ~(page - 1);
    }
    return 1;
}

/* Overwrites what the library may write to: its data and what follows of them without a file. What lies right behind, such as
 * the thread's own data of the C library, is shown in one with it. */
static void scribble(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end, end_before = 0, library_end = 0;
    char line[512], mode[8];
    int is_library = 0, pages = 0;

    dl_iterate_phdr(find_library_end, &library_end);
    while (fgets(line, sizeof line, maps) != NULL) {
        if (sscanf(line, "%lx-%lx %7s", &start, &end, mode) != 3)
            exit(95);
        if (strstr(line, "libondat_telemetry.so") != NULL)
            is_library = 1;
        else if (strchr(line, '/') != NULL || strchr(line, '[') != NULL || start != end_before)
            is_library = 0;
        end_before = end;
        if (end > library_end)
            end = library_end;
        if (is_library && start < end && strncmp(mode, "rw", 2) == 0) {
            memset((void *)start, 0xa5, end - start);
            pages++;
        }
    }
    if (telemetry != NULL && pages == 0)
        exit(95);
}

static void scribble_and_segv(void)
{
    scribble();
    segv();
}

static void scribble_and_abort(void)
{
    scribble();
    abort();
}

/* Closes all descriptors that are not the host's and gives their numbers to this one. */
static void reuse_descriptors(int foreign)
{
    int kept = fcntl(foreign, F_DUPFD, 100);

    syscall(SYS_close_range, 3, 99, 0);
    for (int number = 3; number < 40; number++)
        if (dup2(kept, number) != number)
            exit(95);
}

static void reuse_for_file(void)
{
    reuse_descriptors(open(getenv("FOREIGN"), O_WRONLY | O_CREAT, 0600));
    abort();
}

static void reuse_for_socket(void)
{
    char received[64];
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0)
        exit(95);
    if (fork() == 0) {
        /* Ends when the host does. */
        syscall(SYS_close_range, ends[1], ends[1], 0);
        printf("%d bytes\n", (int)recv(ends[0], received, sizeof received, 0));
        _exit(0);
    }
    reuse_descriptors(ends[1]);
    abort();
}

static void segv_where_nothing_can_be_written(void)
{
    struct rlimit limit = { 0, RLIM_INFINITY };

    setrlimit(RLIMIT_FSIZE, &limit);
    segv();
}

/* Of the preloaded allocator: whoever allocates or locks after it ends with code 77. */
static void forbid_allocation(void)
{
    void *symbol = dlsym(RTLD_DEFAULT, "forbid");
    void (*forbid)(void);

    if (symbol == NULL)
        exit(95);
    memcpy(&forbid, &symbol, sizeof forbid);
    forbid();
}

static void segv_without_allocation(void)
{
    forbid_allocation();
    segv();
}

static void abort_without_allocation(void)
{
    forbid_allocation();
    abort();
}

static void allocate(int signal_number)
{
    void *volatile block = malloc((size_t)signal_number);

    free(block);
}

static void handle_segv_by_allocating(void)
{
    on(SIGSEGV, allocate, 0);
}

static void lock(int signal_number)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

    (void)signal_number;
    pthread_mutex_lock(&mutex);
}

static void handle_segv_by_locking(void)
{
    on(SIGSEGV, lock, 0);
}

const struct scenario handlers[] = {
    { "handler_faults", handle_segv_by_another, segv },
    { "handler_without_deferring", handle_segv_without_deferring, segv },
    { "handler_with_much_stack", handle_segv_on_the_threads_stack, segv },
    { "ignored_segv", ignore_segv, ignored_segv },
    { "replaced_handler", NULL, replaced_handler },
    { "removed_handler", NULL, removed_handler },
    { "ours_over_caller_segv", install_caller, segv },
    { "ours_over_caller_abort", install_caller, abort },
    { "ours_over_raiser_segv", install_raiser, segv },
    { "ours_over_raiser_abort", install_raiser, abort },
    { "caller_over_ours_segv", NULL, caller_over_ours_segv },
    { "caller_over_ours_abort", NULL, caller_over_ours_abort },
    { "raiser_over_ours_segv", NULL, raiser_over_ours_segv },
    { "raiser_over_ours_abort", NULL, raiser_over_ours_abort },
    { "ours_over_caller_over_ours_segv", NULL, ours_over_caller_over_ours_segv },
    { "ours_over_caller_over_ours_abort", NULL, ours_over_caller_over_ours_abort },
    { "keeps_errno", handle_trap_by_returning, keeps_errno },
    { "counted_signals", count_signals, counted_signals },
    { "scribble_and_segv", NULL, scribble_and_segv },
    { "scribble_and_abort", NULL, scribble_and_abort },
    { "reuse_for_file", NULL, reuse_for_file },
    { "reuse_for_socket", NULL, reuse_for_socket },
    { "segv_where_nothing_can_be_written", NULL, segv_where_nothing_can_be_written },
    { "segv_without_allocation", NULL, segv_without_allocation },
    { "abort_without_allocation", NULL, abort_without_allocation },
    { "allocation_in_handler", handle_segv_by_allocating, segv_without_allocation },
    { "lock_in_handler", handle_segv_by_locking, segv_without_allocation },
    { NULL, NULL, NULL },
};
