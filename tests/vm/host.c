/*
 * A host for tools/test-vm: it has the crash handler installed, tells the driver that it is ready, and ends as it is
 * told.
 *
 *   host SOCKET DSN STATE END
 *
 * SOCKET is the driver's, of the abstract kind; END one of the names in main, or "next": the start after, which
 * delivers what an earlier one has left.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* Codes that no scenario ends with: 90 and above is a scenario that did not happen. */
enum { NO_DRIVER = 90, NO_LIBRARY = 91, SURVIVED = 92, NOT_DELIVERED = 93 };

static int driver = -1;

static int connect_to(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name), size = offsetof(struct sockaddr_un, sun_path) + 1 + length;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path + 1, name, length);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, (socklen_t)size))
        _exit(NO_DRIVER);
    return fd;
}

static void say(const char *words)
{
    if (send(driver, words, strlen(words), MSG_NOSIGNAL) < 0)
        _exit(NO_DRIVER);
}

static void fail(const char *call, const char *why)
{
    char line[512];

    snprintf(line, sizeof line, "%s: %s", call, why);
    say(line);
    _exit(NO_LIBRARY);
}

/* Asks the kernel: the C library keeps two real-time signals to itself. */
static void ignore_all(void)
{
    const struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask;
    } ignore = {SIG_IGN, 0, NULL, 0};

    for (int number = 1; number <= 64; number++)
        syscall(SYS_rt_sigaction, number, &ignore, NULL, sizeof ignore.mask);
}

int main(int argc, char **argv)
{
    const struct rlimit no_core = {0, 0};
    const char *end = argv[argc > 4 ? 4 : 0];
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    ondat_telemetry *telemetry;
    char why[256], word;

    if (argc != 5)
        return NO_DRIVER;
    driver = connect_to(argv[1]);
    setrlimit(RLIMIT_CORE, &no_core);
    ondat_telemetry_config_set_component(config, "host");
    ondat_telemetry_config_set_version(config, "1.0.0");
    ondat_telemetry_config_set_cluster_id(config, "cluster");
    ondat_telemetry_config_set_node_id(config, "node");
    ondat_telemetry_config_set_state_dir(config, argv[3]);
    ondat_telemetry_config_set_sentry_dsn(config, argv[2]);
    if (ondat_telemetry_init(config, &telemetry, why, sizeof why))
        fail("init", why);
    ondat_telemetry_config_free(config);
    if (ondat_telemetry_start(telemetry, why, sizeof why))
        fail("start", why);
    if (ondat_telemetry_install_crash_handler(telemetry, 0, why, sizeof why))
        fail("install_crash_handler", why);
    if (!strcmp(end, "next")) {
        if (ondat_telemetry_flush(telemetry, 20000, why, sizeof why))
            fail("flush", why);
        ondat_telemetry_close(telemetry, 5000);
        return 0;
    }
    if (!strcmp(end, "ignoring"))
        ignore_all();
    say("ready");
    /* A signal of the driver may come instead of its word. */
    if (recv(driver, &word, 1, 0) != 1)
        _exit(NO_DRIVER);
    if (!strcmp(end, "return 0"))
        return 0;
    if (!strcmp(end, "return 3"))
        return 3;
    if (!strcmp(end, "exit 0"))
        exit(0);
    if (!strcmp(end, "exit 3"))
        exit(3);
    if (!strcmp(end, "_exit 0"))
        _exit(0);
    if (!strcmp(end, "_exit 3"))
        _exit(3);
    if (!strcmp(end, "abort"))
        abort();
    if (!strcmp(end, "SIGSEGV") || !strcmp(end, "ignoring"))
        *(volatile int *)NULL = 0;
    if (!strcmp(end, "close 500")) {
        ondat_telemetry_close(telemetry, 500);
        _exit(0);
    }
    if (!strcmp(end, "SIGPIPE")) {
        int ends[2];

        if (pipe(ends) == 0) {
            close(ends[0]);
            if (write(ends[1], "x", 1) == 1)
                _exit(NOT_DELIVERED);
        }
    }
    _exit(SURVIVED);
}
