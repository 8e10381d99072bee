/*
 * A small dataplane: learns whether a newer version exists, sends the daily report of this machine, then works
 * until it is told to stop - or to crash, which shows the third thing the library does.
 *
 *   dataplane [crash | exit CODE | idle]
 *
 * Where to ask and whom to tell comes from the environment: ONDAT_TELEMETRY_VERSION_ZONE, _VERSION_KEY,
 * _NAMESERVERS, _REPORT_URL, _REPORT_KEYS, _SENTRY_DSN, _CA_FILE, _STATE_DIR. So do the switches that turn it off:
 * DISABLE_VERSION_CHECK, DISABLE_TELEMETRY, DISABLE_ERROR_REPORTING, DO_NOT_TRACK. DATAPLANE_CLUSTER_SPEC names a
 * file with the StorageOSCluster resource, which may turn them off, too.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define VERSION "2.8.1"
#define TIMEOUT_MS 10000

/* The log: the library says nothing unless it is given one. */
static void on_log(int level, const char *message, void *userdata)
{
    static const char *const names[] = {"emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"};

    (void)userdata;
    printf("dataplane: [%s] %s\n", names[level & 7], message);
    fflush(stdout);
}

/* Where a real dataplane would light a lamp in its user interface. */
static void on_version(const ondat_telemetry_version_info *info, void *userdata)
{
    (void)userdata;
    printf("dataplane: version %s is out, this is %s%s%s%s\n", info->latest ? info->latest : "?", info->running,
           info->advisory ? " (advisory " : "", info->advisory ? info->advisory : "", info->advisory ? ")" : "");
    fflush(stdout);
}

static const char *utc(time_t when, char *buffer, size_t size)
{
    struct tm tm;

    strftime(buffer, size, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&when, &tm));
    return buffer;
}

/* Core files in the working directory, where core_pattern "core" puts them. */
static int core_files(void)
{
    struct stat st;

    return stat("core", &st) == 0 && S_ISREG(st.st_mode);
}

/* What a control plane knows of its cluster: the members of an object. */
static char *make_cluster(void)
{
    char *json = NULL;

    if (asprintf(&json,
            "\"api_call_metrics\":{\"ListNodes\":{\"200\":14},\"CreateVolume\":{\"201\":2,\"409\":1}},"
            "\"cluster_log_format\":\"json\",\"cluster_log_level\":\"info\",\"cluster_tls_provided\":false,"
            "\"k8s_distribution\":\"rancher-1.2\",\"k8s_in_k8s\":%s,\"k8s_scheduler_extender_enabled\":true,"
            "\"k8s_version\":\"v1.31.2+rke2r1\"",
            getenv("KUBERNETES_SERVICE_HOST") ? "true" : "false") < 0)
        return NULL;
    return json;
}

/* The node's record, with this machine's own facts. */
static char *make_node(void)
{
    struct statvfs fs;
    struct utsname kernel;
    struct stat root;
    char clock[32], created[32], *json = NULL;
    uint64_t total, available, unused;

    if (statvfs("/", &fs) != 0 || uname(&kernel) != 0 || stat("/", &root) != 0)
        return NULL;
    total = (uint64_t)fs.f_blocks * fs.f_frsize;
    unused = (uint64_t)fs.f_bfree * fs.f_frsize;
    available = (uint64_t)fs.f_bavail * fs.f_frsize;
    utc(time(NULL), clock, sizeof clock);
    utc(root.st_ctime, created, sizeof created);

    if (asprintf(&json,
            "{\"node_available_bytes\":%" PRIu64 ","
            "\"node_capacity\":{\"total\":%" PRIu64 ",\"free\":%" PRIu64 ",\"available\":%" PRIu64 "},"
            "\"node_crash_files_on_disk\":%d,\"node_created_at_time\":\"%s\","
            "\"node_etcd_config\":{\"endpoints\":3,\"namespaced\":true,\"tls\":true},"
            "\"node_etcd_namespacing_enabled\":true,\"node_etcd_tls_enabled\":true,"
            "\"node_free_bytes\":%" PRIu64 ",\"node_health\":\"online\",\"node_http_tls_enabled\":false,"
            "\"node_id\":\"%s\","
            "\"node_labels\":{\"kubernetes.io/arch\":\"%s\",\"kubernetes.io/os\":\"linux\",\"kernel\":\"%s\"},"
            "\"node_status\":\"alive\",\"node_storageos_version\":\"" VERSION "\","
            "\"node_system_clock_time\":\"%s\",\"node_total_bytes\":%" PRIu64 ",\"node_version\":\"MQ\"}",
            available, total, unused, available, core_files(), created, unused, kernel.nodename, kernel.machine,
            kernel.release, clock, total) < 0)
        return NULL;
    return json;
}

/* The record of a volume. */
#define VOLUME \
    "{\"volume_fs_type\":\"ext4\",\"volume_id\":\"0a4f2f6e-5d6e-4b0e-9a53-0f2f1d8a6b11\"," \
    "\"volume_labels\":{\"storageos.com/replicas\":\"2\",\"app\":\"postgres\"}," \
    "\"volume_master_attach\":4,\"volume_master_delete_deployment\":0,\"volume_master_detach\":3," \
    "\"volume_master_failover_deployment\":1,\"volume_master_promote\":1,\"volume_master_provision\":1," \
    "\"volume_master_recover_replica\":2,\"volume_master_trigger_rejoin\":0," \
    "\"volume_metrics\":{\"read_bytes\":73400320,\"write_latency_seconds\":0.0021}," \
    "\"volume_placement_strategy\":\"recommended\"," \
    "\"volume_provision_source_user_agent\":\"storageos-cli/2.4.2 (linux)\"," \
    "\"volume_replica_delete_deployment\":0,\"volume_replica_failover_deployment\":1," \
    "\"volume_replica_promote\":1,\"volume_replica_provision\":2,\"volume_replicas\":2," \
    "\"volume_replica_trigger_rejoin\":1,\"volume_size_bytes\":5368709120}"

/* A report as one document. */
static char *make_report(void)
{
    char *cluster = make_cluster(), *node = make_node(), *json = NULL;

    if (cluster != NULL && node != NULL &&
        asprintf(&json, "{%s,\"nodes\":[%s],\"volumes\":[" VOLUME "]}", cluster, node) < 0)
        json = NULL;
    free(cluster);
    free(node);
    return json;
}

/* The same record by record, as the schedule asks for it every day: a million volumes take no more memory than one. */
static void on_report(ondat_telemetry_report *report, void *userdata)
{
    char *members = make_cluster(), *cluster = NULL, *node = make_node(), errbuf[512];

    (void)userdata;
    if (members == NULL || node == NULL || asprintf(&cluster, "{%s}", members) < 0)
        printf("dataplane: cannot read this machine's facts\n");
    else if (ondat_telemetry_report_set_cluster(report, cluster, strlen(cluster), errbuf, sizeof errbuf) ||
             ondat_telemetry_report_add_node(report, node, strlen(node), errbuf, sizeof errbuf) ||
             ondat_telemetry_report_add_volume(report, VOLUME, strlen(VOLUME), errbuf, sizeof errbuf))
        printf("dataplane: daily report: %s\n", errbuf);
    fflush(stdout);
    free(members);
    free(cluster);
    free(node);
}

/* What the cluster spec says: the library reads the text. One that cannot be read may say no. */
static int load_cluster_spec(ondat_telemetry_config *config, const char *path)
{
    static char text[1 << 20];
    FILE *file = fopen(path, "r");
    size_t length;
    int is_whole;

    if (file == NULL)
        return -1;
    length = fread(text, 1, sizeof text, file);
    is_whole = length < sizeof text && !ferror(file);
    fclose(file);
    if (!is_whole)
        return -1;
    ondat_telemetry_config_load_cluster_spec(config, text, length);
    return 0;
}

/* Three frames deep, so that a core shows something. */
static void __attribute__((noinline)) write_block(volatile char *block)
{
    *block = 1;
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "idle", *spec = getenv("DATAPLANE_CLUSTER_SPEC");
    char hostname[256] = "node", errbuf[512], *report;
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_status status;

    gethostname(hostname, sizeof hostname - 1);
    ondat_telemetry_config_set_component(config, "dataplane");
    ondat_telemetry_config_set_version(config, VERSION);
    ondat_telemetry_config_set_cluster_id(config, "6b1f2a52-8a3c-4d57-9d0c-2f1f6d7a9e10");
    ondat_telemetry_config_set_node_id(config, hostname);
    ondat_telemetry_config_set_log_callback(config, 6, on_log, NULL, NULL);
    ondat_telemetry_config_set_version_callback(config, on_version, NULL, NULL);
    ondat_telemetry_config_set_report_callback(config, on_report, NULL, NULL);
    ondat_telemetry_config_load_env(config);
    if (spec != NULL && load_cluster_spec(config, spec) != 0) {
        fprintf(stderr, "dataplane: cannot read the cluster spec %s\n", spec);
        return 1;
    }

    status = ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf);
    ondat_telemetry_config_free(config);
    if (status != ONDAT_TELEMETRY_OK) {
        fprintf(stderr, "dataplane: telemetry: %s\n", errbuf);
        return 1;
    }

    status = ondat_telemetry_install_crash_handler(telemetry, ONDAT_TELEMETRY_CRASH_CORE_DUMPS, errbuf, sizeof errbuf);
    if (status != ONDAT_TELEMETRY_OK)
        printf("dataplane: crash reports: %s\n", errbuf);

    status = ondat_telemetry_check_version(telemetry, TIMEOUT_MS, NULL, NULL, errbuf, sizeof errbuf);
    if (status != ONDAT_TELEMETRY_OK)
        printf("dataplane: version check: %s\n", errbuf);

    report = make_report();
    if (report == NULL) {
        fprintf(stderr, "dataplane: cannot read this machine's facts\n");
        return 1;
    }
    status = ondat_telemetry_submit_report(telemetry, report, strlen(report), TIMEOUT_MS, errbuf, sizeof errbuf);
    free(report);
    if (status != ONDAT_TELEMETRY_OK)
        printf("dataplane: daily report: %s\n", errbuf);
    fflush(stdout);

    /* From here on the schedule asks and reports by itself, once a day. */
    status = ondat_telemetry_start(telemetry, errbuf, sizeof errbuf);
    if (status != ONDAT_TELEMETRY_OK)
        printf("dataplane: schedule: %s\n", errbuf);

    if (strcmp(mode, "crash") == 0) {
        printf("dataplane: writing a block to nowhere\n");
        fflush(stdout);
        write_block(NULL);
    } else if (strcmp(mode, "exit") == 0) {
        exit(argc > 2 ? atoi(argv[2]) : 3);
    } else {
        sigset_t stop;
        int signal_number;

        printf("dataplane: ready\n");
        fflush(stdout);
        sigemptyset(&stop);
        sigaddset(&stop, SIGINT);
        sigaddset(&stop, SIGTERM);
        sigprocmask(SIG_BLOCK, &stop, NULL);
        sigwait(&stop, &signal_number);
    }
    ondat_telemetry_close(telemetry, 2000);
    return 0;
}
