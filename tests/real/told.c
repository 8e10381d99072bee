/*
 * A host that does what its standard input says, a line each, and answers with a line: COMMAND STATUS why. Its settings come
 * from the environment; warnings of its log are lines that begin with "warning".
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static ondat_telemetry *host;

static void on_log(int priority, const char *line, void *userdata)
{
    (void)userdata;
    if (priority <= 4)
        printf("warning %s\n", line);
}

static char *document(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 16);

    if (file != NULL && text != NULL) {
        *length = fread(text, 1, (1 << 16) - 1, file);
        fclose(file);
    }
    return text;
}

/* From now on a system call is answered with this error, for every thread. */
static int refuse(unsigned call, unsigned error)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, steps};

    steps[1].k = call;
    steps[2].k |= error;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static int leak(void)
{
    struct rlimit limit = {64, 64};

    setrlimit(RLIMIT_NOFILE, &limit);
    while (open("/dev/null", O_RDONLY) >= 0) {
    }
    return 0;
}

static int does(const char *word, const char *argument, const char *second, char *why, size_t size)
{
    unsigned number = (unsigned)strtoul(argument, NULL, 10);
    size_t length = 0;

    if (strcmp(word, "start") == 0)
        return ondat_telemetry_start(host, why, size);
    if (strcmp(word, "install") == 0)
        return ondat_telemetry_install_crash_handler(host, 0, why, size);
    if (strcmp(word, "switches") == 0)
        return (int)ondat_telemetry_switches(host);
    if (strcmp(word, "set") == 0)
        return ondat_telemetry_set_switches(host, number, why, size);
    if (strcmp(word, "check") == 0)
        return ondat_telemetry_check_version(host, number, NULL, NULL, why, size);
    if (strcmp(word, "exit") == 0)
        return ondat_telemetry_report_exit(host, "child", (int)(number << 8), NULL, why, size);
    if (strcmp(word, "flush") == 0)
        return ondat_telemetry_flush(host, number, why, size);
    if (strcmp(word, "close") == 0) {
        ondat_telemetry_close(host, number);
        return 0;
    }
    if (strcmp(word, "submit") == 0) {
        char *text = document(argument, &length);
        int status = ondat_telemetry_submit_report(host, text, length, 20000, why, size);

        free(text);
        return status;
    }
    if (strcmp(word, "chroot") == 0)
        return chroot(argument) == 0 && chdir("/") == 0 ? 0 : -1;
    if (strcmp(word, "refuse") == 0)
        return refuse(number, (unsigned)strtoul(second, NULL, 10));
    if (strcmp(word, "leak") == 0)
        return leak();
    if (strcmp(word, "segv") == 0)
        *(volatile int *)0 = 1;
    return -1;
}

int main(void)
{
    char line[4096], word[64], argument[4000], second[64], why[512] = "";
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    int status;

    setvbuf(stdout, NULL, _IOLBF, 0);
    ondat_telemetry_config_set_component(config, "told");
    ondat_telemetry_config_set_version(config, "2.8.1");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    ondat_telemetry_config_set_log_callback(config, 4, on_log, NULL, NULL);
    ondat_telemetry_config_load_env(config);
    status = ondat_telemetry_init(config, &host, why, sizeof why);
    ondat_telemetry_config_free(config);
    printf("init %d %s\n", status, why);
    while (host != NULL && fgets(line, sizeof line, stdin) != NULL) {
        argument[0] = second[0] = why[0] = '\0';
        sscanf(line, "%63s %3999s %63s", word, argument, second);
        status = does(word, argument, second, why, sizeof why);
        printf("%s %d %s\n", word, status, why);
    }
    return 0;
}
