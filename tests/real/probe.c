/*
 * Makes calls of the library and prints what came of them, one "name value" a line.
 *
 *   probe check                         ask for the latest version
 *   probe submit FILE                   send the report of the day
 *   probe flush                         deliver what is stored
 *   probe reap CODE                     a child exits with CODE; reap it, report it, deliver the report
 *   probe all FILE [mask BITS|spec YAML]
 *                                       everything that could use the network, with the host's or a cluster's word
 *
 * Settings come from the environment: ONDAT_TELEMETRY_*, DISABLE_*, DO_NOT_TRACK. Every log line goes to standard error,
 * after its priority.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_MS 8000
/* Where nobody answers: a UDP question learns that from the clock alone. */
#define NOBODY_TIMEOUT_MS 1500

static char errbuf[512];

static ondat_telemetry_status said(const char *call, ondat_telemetry_status status)
{
    printf("%s %d\n", call, (int)status);
    if (status != ONDAT_TELEMETRY_OK)
        printf("%s_why %s\n", call, errbuf);
    return status;
}

static char *read_file(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    char *bytes;
    long size;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        perror(path);
        exit(2);
    }
    rewind(file);
    *length = (size_t)size;
    bytes = malloc(*length + 1);
    if (bytes == NULL || fread(bytes, 1, *length, file) != *length) {
        perror(path);
        exit(2);
    }
    bytes[*length] = '\0';
    fclose(file);
    return bytes;
}

static void on_log(int level, const char *message, void *userdata)
{
    (void)userdata;
    fprintf(stderr, "log %d %s\n", level, message);
}

static void on_version(const ondat_telemetry_version_info *info, void *userdata)
{
    (void)userdata;
    printf("running %s\nlatest %s\nadvisory %s\nverdict %d\nauthenticated %d\n", info->running,
           info->latest ? info->latest : "-", info->advisory ? info->advisory : "-", (int)info->verdict,
           info->authenticated);
}

static void on_text(const char *text, size_t len, void *userdata)
{
    (void)userdata;
    printf("explained %.*s\n", (int)len, text);
}

static void check(ondat_telemetry *telemetry, uint32_t timeout_ms)
{
    said("check_version",
         ondat_telemetry_check_version(telemetry, timeout_ms, on_version, NULL, errbuf, sizeof errbuf));
}

static void submit(ondat_telemetry *telemetry, const char *path)
{
    size_t length;
    char *json = read_file(path, &length);

    said("submit_report", ondat_telemetry_submit_report(telemetry, json, length, TIMEOUT_MS, errbuf, sizeof errbuf));
    free(json);
}

static void report_exit(ondat_telemetry *telemetry, int wait_status)
{
    said("report_exit",
         ondat_telemetry_report_exit(telemetry, "controlplane", wait_status, NULL, errbuf, sizeof errbuf));
}

static void flush(ondat_telemetry *telemetry)
{
    said("flush", ondat_telemetry_flush(telemetry, TIMEOUT_MS, errbuf, sizeof errbuf));
}

static void reap(ondat_telemetry *telemetry, int code)
{
    int wait_status = -1;
    pid_t child = fork();

    if (child == 0)
        _exit(code);
    if (child < 0 || waitpid(child, &wait_status, 0) != child) {
        perror("reap");
        exit(2);
    }
    printf("wait_status %d\n", wait_status);
    report_exit(telemetry, wait_status);
    flush(telemetry);
}

static void all(ondat_telemetry *telemetry, const char *report)
{
    printf("switches %u\n", ondat_telemetry_switches(telemetry));
    ondat_telemetry_explain_switches(telemetry, on_text, NULL);
    check(telemetry, NOBODY_TIMEOUT_MS);
    submit(telemetry, report);
    said("install_crash_handler", ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf));
    report_exit(telemetry, 3 * 256);
    said("start", ondat_telemetry_start(telemetry, errbuf, sizeof errbuf));
}

int main(int argc, char **argv)
{
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    ondat_telemetry *telemetry = NULL;
    const char *mode = argc > 1 ? argv[1] : "";
    const char *argument = argc > 2 ? argv[2] : "";

    ondat_telemetry_config_set_component(config, "probe");
    ondat_telemetry_config_set_log_callback(config, 7, on_log, NULL, NULL);
    ondat_telemetry_config_load_env(config);
    if (argc == 5 && strcmp(argv[3], "mask") == 0) {
        ondat_telemetry_config_set_switches(config, (uint32_t)strtoul(argv[4], NULL, 10));
    } else if (argc == 5 && strcmp(argv[3], "spec") == 0) {
        size_t length;
        char *spec = read_file(argv[4], &length);

        ondat_telemetry_config_load_cluster_spec(config, spec, length);
        free(spec);
    }
    if (said("init", ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf)) != ONDAT_TELEMETRY_OK)
        return 1;
    ondat_telemetry_config_free(config);

    if (strcmp(mode, "check") == 0) {
        check(telemetry, TIMEOUT_MS);
    } else if (strcmp(mode, "submit") == 0) {
        submit(telemetry, argument);
    } else if (strcmp(mode, "flush") == 0) {
        flush(telemetry);
    } else if (strcmp(mode, "reap") == 0) {
        reap(telemetry, atoi(argument));
    } else if (strcmp(mode, "all") == 0) {
        all(telemetry, argument);
    } else {
        fprintf(stderr, "probe: no such mode: %s\n", mode);
        return 2;
    }
    ondat_telemetry_close(telemetry, 2000);
    printf("closed 0\n");
    return 0;
}
