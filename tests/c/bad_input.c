/*
 * Everything wrong that can be given to the library: each must come back as a status and one line, and nothing may
 * crash. Compiled as C99 and as C++17, by gcc and clang, linked shared and static.
 */
#include <ondat_telemetry.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int failures;

static void expect(int line, int32_t status, int32_t expected, const char *errbuf, const char *text)
{
    if (status != expected || (text != NULL && strstr(errbuf, text) == NULL)) {
        printf("line %d: status %d (%s), expected %d; errbuf \"%s\", expected \"%s\"\n", line, (int)status,
               ondat_telemetry_strerror(status), (int)expected, errbuf, text ? text : "");
        failures++;
    }
    if (strchr(errbuf, '\n') != NULL) {
        printf("line %d: errbuf is more than one line\n", line);
        failures++;
    }
}

#define EXPECT(call, expected, text) \
    do { \
        strcpy(errbuf, "untouched"); \
        expect(__LINE__, (int32_t)(call), (int32_t)(expected), errbuf, (text)); \
    } while (0)

static ondat_telemetry_config *complete(void)
{
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_set_version(config, "v1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    return config;
}

static int freed;

static void count_free(void *userdata)
{
    (void)userdata;
    freed++;
}

static void on_log(int level, const char *message, void *userdata)
{
    (void)level;
    (void)message;
    (void)userdata;
}

static void on_text(const char *text, size_t len, void *userdata)
{
    *(size_t *)userdata = strlen(text) == len ? len : 0;
}

static void on_version(const ondat_telemetry_version_info *info, void *userdata)
{
    *(int *)userdata = info->struct_size == sizeof *info && info->latest == NULL && info->checked_at == 0 &&
                       info->verdict == ONDAT_TELEMETRY_VERSION_UNKNOWN && strcmp(info->running, "v1.2.3") == 0;
}

static void settings(void)
{
    /* Each of these, alone, makes init fail and name the setting. */
    static const struct {
        void (*set)(ondat_telemetry_config *, const char *);
        const char *value;
        int32_t status;
        const char *text;
    } bad[] = {
        {ondat_telemetry_config_set_component, NULL, ONDAT_TELEMETRY_INVALID_ARGUMENT, "component is NULL"},
        {ondat_telemetry_config_set_component, "\xff", ONDAT_TELEMETRY_INVALID_ARGUMENT, "component is not UTF-8"},
        {ondat_telemetry_config_set_component, "Data Plane", ONDAT_TELEMETRY_INVALID_CONFIG, "component:"},
        {ondat_telemetry_config_set_version, "2.8", ONDAT_TELEMETRY_INVALID_CONFIG, "version:"},
        {ondat_telemetry_config_set_cluster_id, "", ONDAT_TELEMETRY_INVALID_CONFIG, "cluster_id:"},
        {ondat_telemetry_config_set_node_id, NULL, ONDAT_TELEMETRY_INVALID_ARGUMENT, "node_id is NULL"},
        {ondat_telemetry_config_set_version_zone, "a b", ONDAT_TELEMETRY_INVALID_CONFIG, "version_zone:"},
        {ondat_telemetry_config_set_version_key, "AAAA", ONDAT_TELEMETRY_INVALID_CONFIG, "version_key:"},
        {ondat_telemetry_config_set_nameservers, "dns.example.com", ONDAT_TELEMETRY_INVALID_CONFIG, "nameservers:"},
        {ondat_telemetry_config_set_report_url, "http://example.com", ONDAT_TELEMETRY_INVALID_CONFIG, "report_url:"},
        {ondat_telemetry_config_set_report_url, "https://example.com", ONDAT_TELEMETRY_INVALID_CONFIG, "report_keys"},
        {ondat_telemetry_config_set_report_keys, "{", ONDAT_TELEMETRY_INVALID_CONFIG, "report_keys:"},
        {ondat_telemetry_config_set_sentry_dsn, "https://nokey/1", ONDAT_TELEMETRY_INVALID_CONFIG, "sentry_dsn:"},
        {ondat_telemetry_config_set_proxy, "gopher://x", ONDAT_TELEMETRY_INVALID_CONFIG, "proxy:"},
        {ondat_telemetry_config_set_ca_file, "/nonexistent.pem", ONDAT_TELEMETRY_INVALID_CONFIG, "ca_file: /nonexistent.pem"},
        {ondat_telemetry_config_set_ca_file, "/etc/passwd", ONDAT_TELEMETRY_INVALID_CONFIG, "ca_file: /etc/passwd"},
        {ondat_telemetry_config_set_state_dir, "/etc/passwd", ONDAT_TELEMETRY_IO, "not a directory"},
    };
    char errbuf[512];
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        config = complete();
        bad[i].set(config, bad[i].value);
        EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), bad[i].status, bad[i].text);
        ondat_telemetry_config_free(config);
    }

    config = ondat_telemetry_config_new();
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_CONFIG, "component is required");
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, 5), ONDAT_TELEMETRY_INVALID_CONFIG, "comp");
    expect(__LINE__, (int32_t)strlen(errbuf), 4, errbuf, NULL);
    ondat_telemetry_config_free(config);

    config = complete();
    ondat_telemetry_config_set_switches(config, 8);
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "switches");
    ondat_telemetry_config_free(config);

    config = complete();
    ondat_telemetry_config_set_timeout_ms(config, 0);
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_CONFIG, "timeout_ms");
    ondat_telemetry_config_free(config);

    config = complete();
    ondat_telemetry_config_set_identity_key(config, (const uint8_t *)"short", 5);
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_CONFIG, "identity_key: 5 bytes");
    ondat_telemetry_config_free(config);

    config = complete();
    ondat_telemetry_config_load_cluster_spec(config, "spec: {disableTelemetry: 7}", 27);
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_CONFIG, "spec.disableTelemetry");
    ondat_telemetry_config_free(config);

    {
        char *huge = (char *)malloc(100001);

        memset(huge, 'a', 100000);
        huge[100000] = 0;
        config = complete();
        ondat_telemetry_config_set_node_id(config, huge);
        EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "node_id is longer");
        ondat_telemetry_config_free(config);
        free(huge);
    }
}

/* What is no directory: needs a directory of the test. */
static void state_directories(const char *dir)
{
    char errbuf[512], path[512];
    FILE *file;
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config;

    snprintf(path, sizeof path, "%s/link", dir);
    if (symlink(dir, path) != 0)
        failures++;
    config = complete();
    ondat_telemetry_config_set_state_dir(config, path);
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_IO, "symlink");
    ondat_telemetry_config_free(config);

    snprintf(path, sizeof path, "%s/file", dir);
    if ((file = fopen(path, "w")) == NULL || fclose(file) != 0)
        failures++;
    config = complete();
    ondat_telemetry_config_set_state_dir(config, path);
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_IO, "not a directory");
    ondat_telemetry_config_free(config);
}

static void calls(void)
{
    static const struct {
        const char *json;
        const char *text;
    } reports[] = {
        {"", "EOF"},
        {"[]", "expected an object"},
        {"{\"cluster_name\":1}", "cluster_name: not one of the fields"},
        {"{\"k8s_in_k8s\":\"yes\"}", "k8s_in_k8s: expected true or false"},
        {"{\"nodes\":[{},{\"node_health\":\"ill\"}]}", "nodes[1].node_health: expected one of online"},
        {"{\"nodes\":[{\"volume_id\":\"x\"}]}", "nodes[0].volume_id: not one of the fields"},
        {"{\"volumes\":[{\"volume_replicas\":6}]}", "volumes[0].volume_replicas: expected an integer from 0 to 5"},
        {"{\"volumes\":[{\"volume_size_bytes\":-1}]}", "volumes[0].volume_size_bytes"},
        {"{\"volumes\":[{\"volume_size_bytes\":18446744073709551616}]}", "volumes[0].volume_size_bytes"},
        {"{\"nodes\":{}}", "list"},
        {"{\"k8s_in_k8s\":true,\"k8s_in_k8s\":true}", "stands twice"},
        {"{\"k8s_version\":NaN}", "line 1"},
        {"{\"k8s_version\":\"\\ud800\"}", "line 1"},
        {"{}x", "trailing"},
    };
    char errbuf[512];
    size_t length = 0;
    int seen = 0;
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = complete();

    freed = 0;
    ondat_telemetry_config_set_log_callback(config, 7, on_log, NULL, count_free);
    EXPECT(ondat_telemetry_init(config, NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "out is NULL");
    EXPECT(ondat_telemetry_init(NULL, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "config is NULL");
    EXPECT(ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_OK, "");
    ondat_telemetry_config_free(config);
    expect(__LINE__, freed, 0, "", NULL);

    for (size_t i = 0; i < sizeof reports / sizeof reports[0]; i++)
        EXPECT(ondat_telemetry_preview_report(telemetry, reports[i].json, strlen(reports[i].json), on_text, &length, errbuf, sizeof errbuf),
               ONDAT_TELEMETRY_INVALID_REPORT, reports[i].text);
    {
        size_t depth = 100000;
        char *deep = (char *)malloc(depth + 1);

        memset(deep, '[', depth);
        memcpy(deep, "{\"a\":", 5);
        EXPECT(ondat_telemetry_preview_report(telemetry, deep, depth, on_text, &length, errbuf, sizeof errbuf),
               ONDAT_TELEMETRY_INVALID_REPORT, "recursion");
        free(deep);
    }
    EXPECT(ondat_telemetry_preview_report(telemetry, "{}", 2, on_text, &length, errbuf, sizeof errbuf), ONDAT_TELEMETRY_OK, "");
    expect(__LINE__, length > 100, 1, "", NULL);
    EXPECT(ondat_telemetry_preview_report(telemetry, "{}", 2, NULL, NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "callback is NULL");
    EXPECT(ondat_telemetry_preview_report(telemetry, NULL, 2, on_text, &length, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "json is NULL");
    EXPECT(ondat_telemetry_submit_report(telemetry, "{}", 2, 100, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_CONFIG, "report_url is not set");
    EXPECT(ondat_telemetry_check_version(telemetry, 100, NULL, NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_CONFIG, "version_zone is not set");
    EXPECT(ondat_telemetry_install_crash_handler(telemetry, 0, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_CONFIG, "sentry_dsn is not set");
    EXPECT(ondat_telemetry_report_exit(telemetry, "Bad Name", 256, NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "component");
    EXPECT(ondat_telemetry_report_exit(telemetry, "x", 0x137f, NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "wait_status 0x137f");
    EXPECT(ondat_telemetry_report_exit(telemetry, "x", 256, "\xff", errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "description is not UTF-8");
    EXPECT(ondat_telemetry_report_exit(telemetry, "x", 0, NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_OK, "");
    EXPECT(ondat_telemetry_set_switches(telemetry, 99, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "switches");
    EXPECT(ondat_telemetry_set_switches(telemetry, 5, errbuf, sizeof errbuf), ONDAT_TELEMETRY_OK, "");
    expect(__LINE__, (int32_t)ondat_telemetry_switches(telemetry), 5, "", NULL);
    EXPECT(ondat_telemetry_explain_switches(telemetry, on_text, &length), ONDAT_TELEMETRY_OK, NULL);
    EXPECT(ondat_telemetry_latest_version(telemetry, on_version, &seen), ONDAT_TELEMETRY_OK, NULL);
    expect(__LINE__, seen, 1, "", NULL);
    EXPECT(ondat_telemetry_thread_init(), ONDAT_TELEMETRY_OK, NULL);
    EXPECT(ondat_telemetry_flush(telemetry, 100, errbuf, sizeof errbuf), ONDAT_TELEMETRY_OK, "");
    EXPECT(ondat_telemetry_start(telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_OK, "");
    EXPECT(ondat_telemetry_start(telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_STATE, "already started");
    {
        int status = 0;
        pid_t child = fork();

        if (child == 0) {
            failures = 0;
            EXPECT(ondat_telemetry_flush(telemetry, 100, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_STATE, "forked child");
            ondat_telemetry_close(telemetry, 100);
            fflush(stdout);
            _exit(failures);
        }
        waitpid(child, &status, 0);
        expect(__LINE__, status, 0, "", NULL);
    }
    errno = 77;
    ondat_telemetry_close(telemetry, 100);
    expect(__LINE__, errno, 77, "", NULL);
    expect(__LINE__, freed, 1, "", NULL);
}

static void null_everywhere(void)
{
    char errbuf[512];
    size_t length = 0;

    ondat_telemetry_config_free(NULL);
    ondat_telemetry_close(NULL, 0);
    ondat_telemetry_config_set_component(NULL, "x");
    ondat_telemetry_config_set_identity_key(NULL, NULL, 0);
    ondat_telemetry_config_set_switches(NULL, 0);
    ondat_telemetry_config_set_timeout_ms(NULL, 1);
    ondat_telemetry_config_load_env(NULL);
    ondat_telemetry_config_load_cluster_spec(NULL, NULL, 0);
    freed = 0;
    ondat_telemetry_config_set_log_callback(NULL, 7, on_log, NULL, count_free);
    ondat_telemetry_config_set_version_callback(NULL, NULL, NULL, count_free);
    ondat_telemetry_config_set_report_callback(NULL, NULL, NULL, count_free);
    expect(__LINE__, freed, 3, "", NULL);
    expect(__LINE__, (int32_t)ondat_telemetry_switches(NULL), 0, "", NULL);
    EXPECT(ondat_telemetry_start(NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "telemetry is NULL");
    EXPECT(ondat_telemetry_start(NULL, NULL, 0), ONDAT_TELEMETRY_INVALID_ARGUMENT, NULL);
    EXPECT(ondat_telemetry_set_switches(NULL, 0, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "telemetry is NULL");
    EXPECT(ondat_telemetry_explain_switches(NULL, on_text, &length), ONDAT_TELEMETRY_INVALID_ARGUMENT, NULL);
    EXPECT(ondat_telemetry_check_version(NULL, 1, NULL, NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "telemetry is NULL");
    EXPECT(ondat_telemetry_latest_version(NULL, NULL, NULL), ONDAT_TELEMETRY_INVALID_ARGUMENT, NULL);
    EXPECT(ondat_telemetry_submit_report(NULL, "{}", 2, 1, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "telemetry is NULL");
    EXPECT(ondat_telemetry_report_set_cluster(NULL, "{}", 2, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "report is NULL");
    EXPECT(ondat_telemetry_report_add_node(NULL, "{}", 2, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "report is NULL");
    EXPECT(ondat_telemetry_report_add_volume(NULL, NULL, 2, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "report is NULL");
    EXPECT(ondat_telemetry_install_crash_handler(NULL, 0, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "telemetry is NULL");
    EXPECT(ondat_telemetry_report_exit(NULL, NULL, 0, NULL, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "telemetry is NULL");
    EXPECT(ondat_telemetry_flush(NULL, 0, errbuf, sizeof errbuf), ONDAT_TELEMETRY_INVALID_ARGUMENT, "telemetry is NULL");
    expect(__LINE__, strcmp(ondat_telemetry_strerror(4711), "unknown status"), 0, "", NULL);
    expect(__LINE__, strcmp(ondat_telemetry_strerror(ONDAT_TELEMETRY_OK), "ok"), 0, "", NULL);
}

int main(int argc, char **argv)
{
    char version[64];

    snprintf(version, sizeof version, "%d.%d.%d", ONDAT_TELEMETRY_VERSION_MAJOR, ONDAT_TELEMETRY_VERSION_MINOR,
             ONDAT_TELEMETRY_VERSION_PATCH);
    expect(__LINE__, strcmp(version, ondat_telemetry_version()), 0, "", NULL);
    null_everywhere();
    settings();
    if (argc > 1)
        state_directories(argv[1]);
    calls();
    printf("%d failures\n", failures);
    return failures != 0;
}
