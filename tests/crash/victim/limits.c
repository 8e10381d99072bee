/* A host that has nothing left of something, or may not do something. */
#include "victim.h"

#include <errno.h>
#include <fcntl.h>

enum { NOBODY = 65534 };

static int number_of(const char *name)
{
    const char *value = getenv(name);

    return value == NULL ? 0 : atoi(value);
}

/* Opens files until there are no more; closes the last few again. */
static int open_files_but(int few)
{
    int last = -1, file;
    struct rlimit limit = { 256, 256 };

    setrlimit(RLIMIT_NOFILE, &limit);
    while ((file = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        last = file;
    file = errno;
    while (few-- > 0)
        close(last--);
    return file;
}

static void few_files(void)
{
    open_files_but(number_of("VICTIM_FREE_FILES"));
}

static void many_files(void)
{
    printf("errno %d\n", open_files_but(0));
    segv();
}

static void become_nobody(void)
{
    if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) {
        perror("another user needs root");
        exit(90);
    }
}

static void nobody(void)
{
    become_nobody();
    segv();
}

static void nobody_without_files(void)
{
    become_nobody();
    syscall(SYS_close_range, 3, ~0u, 0);
    segv();
}

/* A child that ends with its parent, also where that has ended already. */
static void last_as_long_as(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    while (getppid() == parent)
        pause();
    _exit(0);
}

static void no_process(void)
{
    pid_t parent = getpid();
    struct rlimit limit = { 1, 1 };

    become_nobody();
    setrlimit(RLIMIT_NPROC, &limit);
    /* Whoever else is nobody counts; the first may still start. */
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();

        if (child < 0) {
            printf("errno %d\n", errno);
            segv();
        }
        if (child == 0)
            last_as_long_as(parent);
    }
    exit(89);
}

/* As many processes as the cgroup lets it have. */
static int fill_cgroup(void)
{
    pid_t parent = getpid();

    for (;;) {
        pid_t child = fork();

        if (child < 0)
            return errno;
        if (child == 0)
            last_as_long_as(parent);
    }
}

static void no_process_at_start(void)
{
    fill_cgroup();
}

static void full_cgroup(void)
{
    printf("errno %d\n", fill_cgroup());
    segv();
}

static void no_address_space(void)
{
    struct rlimit limit = { 1 << 20, 1 << 20 };

    setrlimit(RLIMIT_AS, &limit);
    for (size_t size = (size_t)1 << 30; size >= 4096; size /= 2)
        while (mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
            ;
    printf("errno %d\n", errno);
    segv();
}

/* What the sandbox answers to one system call with arguments that mean nothing. */
static void denied(void)
{
    long answer = syscall(number_of("VICTIM_CALL"), -1L, 0L, -1L, 0L, 0L);

    printf("answer %ld errno %d\n", answer, errno);
    segv();
}

static void undumpable(void)
{
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    segv();
}

static void undumpable_from_the_start(void)
{
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static void read_only(void)
{
    const char *const files[] = { "/victim", "/tmp/victim", "/dev/shm/victim", "/proc/self/stat" };

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int file = i < 3 ? open(files[i], O_CREAT | O_RDWR, 0600) : open(files[i], O_RDONLY);

        printf("%d ", file < 0 ? errno : 0);
    }
    printf("\n");
    segv();
}

/* Until the file system of VICTIM_FOLDER has no byte left. */
static int fill_disk(void)
{
    static const char bytes[1 << 12];
    char name[256];
    int file;

    snprintf(name, sizeof name, "%s/filler", getenv("VICTIM_FOLDER"));
    file = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    while (write(file, bytes, sizeof bytes) > 0)
        ;
    return errno;
}

static void full_disk(void)
{
    printf("errno %d\n", fill_disk());
    segv();
}

static void full_disk_at_start(void)
{
    fill_disk();
}

const struct scenario limits[] = {
    { "few_files", few_files, segv },
    { "many_files", NULL, many_files },
    { "nobody", NULL, nobody },
    { "nobody_without_files", NULL, nobody_without_files },
    { "nobody_from_the_start", become_nobody, segv },
    { "no_process", NULL, no_process },
    { "no_process_at_start", no_process_at_start, segv },
    { "full_cgroup", NULL, full_cgroup },
    { "no_address_space", NULL, no_address_space },
    { "denied", NULL, denied },
    { "undumpable", NULL, undumpable },
    { "undumpable_from_the_start", undumpable_from_the_start, segv },
    { "read_only", NULL, read_only },
    { "full_disk", NULL, full_disk },
    { "full_disk_at_start", full_disk_at_start, segv },
    { NULL, NULL, NULL },
};
