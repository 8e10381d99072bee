/*
 * What a daily report costs its host: reports of some made-up volumes through the report callback, from the first record
 * until the sealed report is stored, and what a script would pay for the same volumes.
 *
 *   report FOLDER
 */
#define _GNU_SOURCE
#include "../tests/real/clock.h"

#include <ondat_telemetry.h>

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* X25519, RFC 7748, 6.1: Alice's. */
#define REPORT_KEYS                                                                                                        \
    "{\"keys\":[{\"id\":\"300c9c9603b92a4b\",\"kem\":\"X25519\","                                                          \
    "\"public\":\"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\",\"not_before\":0,\"not_after\":253402300799}]}"
#define LINE_BYTES 4096
/* Volumes that are different from each other; a report of more has them several times. */
#define VOLUMES 100000

static FILE *volumes;
static long wanted;
static double cpu_at_first_record;

struct cost {
    double cpu_seconds, mib_above_idle;
    long bytes;
};

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* CPU seconds of user and kernel together. */
static double cpu(int who)
{
    struct rusage used;

    getrusage(who, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* The most memory that was resident at once, since the last reset. */
static long peak_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/status", "r");

    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "VmHWM: %ld", &kib) != 1)
        ;
    fclose(file);
    return kib;
}

static void reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");

    if (file == NULL || fputs("5", file) < 0 || fclose(file) != 0)
        fail("clear_refs");
}

/* SplitMix64: the same volumes in every run. */
static uint64_t draw(void)
{
    static uint64_t state = 1;
    uint64_t z = state += 0x9e3779b97f4a7c15;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static const char *uuid(char text[37])
{
    uint64_t high = draw(), low = draw();

    snprintf(text, 37, "%08x-%04x-4%03x-%04x-%012" PRIx64, (unsigned)(high >> 32), (unsigned)(high >> 16 & 0xffff),
             (unsigned)(high & 0xfff), (unsigned)(0x8000 | (low >> 48 & 0x3fff)), low & 0xffffffffffff);
    return text;
}

static unsigned below(unsigned bound)
{
    return (unsigned)(draw() % bound);
}

/* All 22 fields, three labels of which two are not on the public list. */
static void make_volumes(const char *path)
{
    FILE *file = fopen(path, "w");
    char id[37];

    if (file == NULL)
        fail(path);
    for (long done = 0; done < VOLUMES; done++)
        fprintf(file,
                "{\"volume_fs_type\":\"%s\",\"volume_id\":\"%s\",\"volume_labels\":{\"storageos.com/replicas\":\"%u\","
                "\"app.kubernetes.io/name\":\"service-%u\",\"team\":\"payments-%u\"},"
                "\"volume_master_attach\":%u,\"volume_master_delete_deployment\":%u,\"volume_master_detach\":%u,"
                "\"volume_master_failover_deployment\":%u,\"volume_master_promote\":%u,\"volume_master_provision\":1,"
                "\"volume_master_recover_replica\":%u,\"volume_master_trigger_rejoin\":%u,"
                "\"volume_metrics\":{\"read_iops\":%u,\"write_iops\":%u},"
                "\"volume_placement_strategy\":\"recommended\","
                "\"volume_provision_source_user_agent\":\"storageos-cli/2.4.%u (linux/amd64)\","
                "\"volume_replica_delete_deployment\":%u,\"volume_replica_failover_deployment\":%u,"
                "\"volume_replica_promote\":%u,\"volume_replica_provision\":%u,\"volume_replicas\":%u,"
                "\"volume_replica_trigger_rejoin\":%u,\"volume_size_bytes\":%" PRIu64 "}\n",
                below(10) ? "ext4" : "xfs", uuid(id), below(3), below(100), below(40), below(20), below(2), below(20),
                below(3), below(4), below(5), below(2), below(5000), below(5000), below(5), below(2), below(3), below(3),
                below(3), below(3), below(4), (uint64_t)(1 + below(500)) << 30);
    fclose(file);
}

static const char CLUSTER[] =
    "{\"api_call_metrics\":{\"ListNodes\":{\"200\":1440},\"CreateVolume\":{\"201\":5,\"409\":1},\"AttachVolume\":{\"200\":9}},"
    "\"cluster_disable_crash_reporting\":false,\"cluster_disable_version_check\":false,\"cluster_log_format\":\"json\","
    "\"cluster_log_level\":\"info\",\"cluster_tls_provided\":true,\"k8s_distribution\":\"rancher-1.2\",\"k8s_in_k8s\":true,"
    "\"k8s_scheduler_extender_enabled\":true,\"k8s_version\":\"v1.31.2+rke2r1\"}";
static const char NODE[] =
    "{\"node_available_bytes\":70368744177664,\"node_capacity\":{\"total\":109951162777600,\"free\":76965813944320,"
    "\"available\":70368744177664},\"node_crash_files_on_disk\":0,\"node_created_at_time\":\"2026-01-31T12:00:00Z\","
    "\"node_etcd_config\":{\"endpoints\":3,\"namespaced\":true,\"tls\":true},\"node_etcd_namespacing_enabled\":true,"
    "\"node_etcd_tls_enabled\":true,\"node_free_bytes\":76965813944320,\"node_health\":\"online\","
    "\"node_http_tls_enabled\":false,\"node_id\":\"storage-%d.rack-3.corp.internal\",\"node_labels\":{"
    "\"kubernetes.io/arch\":\"amd64\",\"kubernetes.io/hostname\":\"storage-%d\",\"topology.kubernetes.io/zone\":\"b\"},"
    "\"node_status\":\"alive\",\"node_storageos_version\":\"2.8.1\",\"node_system_clock_time\":\"2026-11-24T04:00:00Z\","
    "\"node_total_bytes\":109951162777600,\"node_version\":\"MQ\"}";
#define NODES 3

static void on_report(ondat_telemetry_report *report, void *userdata)
{
    char line[LINE_BYTES], errbuf[512];

    (void)userdata;
    cpu_at_first_record = cpu(RUSAGE_SELF);
    if (ondat_telemetry_report_set_cluster(report, CLUSTER, strlen(CLUSTER), errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
        fail(errbuf);
    for (int node = 0; node < NODES; node++) {
        snprintf(line, sizeof line, NODE, node, node);
        if (ondat_telemetry_report_add_node(report, line, strlen(line), errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
            fail(errbuf);
    }
    for (long done = 0; done < wanted; done++) {
        if (fgets(line, sizeof line, volumes) == NULL) {
            rewind(volumes);
            if (fgets(line, sizeof line, volumes) == NULL)
                fail("no volumes");
        }
        if (ondat_telemetry_report_add_volume(report, line, strlen(line), errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
            fail(errbuf);
    }
}

static void on_log(int32_t priority, const char *line, void *userdata)
{
    (void)priority;
    (void)userdata;
    if (strstr(line, "daily report: ") != NULL)
        fail(line);
}

/* Waits until a file has got its name in the folder, which is when the report is sealed and stored, and returns its size. */
static long stored_bytes(int watch, const char *folder)
{
    union {
        struct inotify_event event;
        char bytes[sizeof(struct inotify_event) + NAME_MAX + 1];
    } moved;
    char path[2 * PATH_MAX];
    struct stat meta;

    if (read(watch, &moved, sizeof moved) <= 0)
        fail("inotify");
    snprintf(path, sizeof path, "%s/%s", folder, moved.event.name);
    if (stat(path, &meta) != 0)
        fail(path);
    return (long)meta.st_size;
}

static struct cost fill(const char *state)
{
    char errbuf[512] = "", folder[PATH_MAX];
    struct cost cost;
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();
    int watch = inotify_init1(IN_CLOEXEC);
    long idle_kib;

    snprintf(folder, sizeof folder, "%s/spool", state);
    if (mkdir(state, 0700) != 0 || mkdir(folder, 0700) != 0)
        fail(state);
    snprintf(folder, sizeof folder, "%s/spool/reports", state);
    if (mkdir(folder, 0700) != 0 || inotify_add_watch(watch, folder, IN_MOVED_TO) < 0)
        fail(folder);
    ondat_telemetry_config_set_component(config, "bench");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "cluster-1");
    ondat_telemetry_config_set_node_id(config, "node-1");
    ondat_telemetry_config_set_state_dir(config, state);
    ondat_telemetry_config_set_report_keys(config, REPORT_KEYS);
    /* Nobody is there: what is measured ends when the report is stored. */
    ondat_telemetry_config_set_report_url(config, "http://127.0.0.1:9");
    ondat_telemetry_config_set_report_callback(config, on_report, NULL, NULL);
    ondat_telemetry_config_set_log_callback(config, 6, on_log, NULL, NULL);
    clock_at_midnight();
    if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
        fail(errbuf);
    ondat_telemetry_config_free(config);
    reset_peak();
    idle_kib = peak_kib();
    clock_pass(DAY - 1);
    if (ondat_telemetry_start(telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK)
        fail(errbuf);
    cost.bytes = stored_bytes(watch, folder);
    cost.cpu_seconds = cpu(RUSAGE_SELF) - cpu_at_first_record;
    cost.mib_above_idle = (double)(peak_kib() - idle_kib) / 1024;
    ondat_telemetry_close(telemetry, 0);
    return cost;
}

/* In a process of its own, as memory is measured by its peak. */
static struct cost cost_of(const char *work, long count)
{
    char path[PATH_MAX];
    static char buffer[1 << 16];
    struct cost cost;
    int pipes[2], status;
    pid_t child;

    if (pipe(pipes) != 0 || (child = fork()) < 0)
        fail("fork");
    if (child == 0) {
        wanted = count;
        snprintf(path, sizeof path, "%s/volumes", work);
        volumes = fopen(path, "r");
        setvbuf(volumes, buffer, _IOFBF, sizeof buffer);
        snprintf(path, sizeof path, "%s/state-%ld", work, count);
        cost = fill(path);
        _exit(write(pipes[1], &cost, sizeof cost) != sizeof cost);
    }
    if (waitpid(child, &status, 0) != child || status != 0 || read(pipes[0], &cost, sizeof cost) != sizeof cost)
        fail("no cost");
    return cost;
}

/* CPU seconds of all processes of the pipe; negative where it cannot run. */
static double script(const char *work)
{
    char command[3 * PATH_MAX];
    double before = cpu(RUSAGE_CHILDREN);

    snprintf(command, sizeof command,
             "echo secret > '%s/pass' && gzip < '%s/volumes' | "
             "openssl enc -aes-256-cbc -pbkdf2 -pass file:'%s/pass' > '%s/volumes.gz.enc'",
             work, work, work, work);
    return system(command) == 0 ? cpu(RUSAGE_CHILDREN) - before : -1;
}

int main(int argc, char **argv)
{
    static const long COUNTS[] = {5, VOLUMES, 10 * VOLUMES};
    char path[PATH_MAX];
    double ours = 0, theirs;

    if (argc != 2)
        fail("usage: report FOLDER");
    snprintf(path, sizeof path, "%s/volumes", argv[1]);
    make_volumes(path);
    for (size_t at = 0; at < sizeof COUNTS / sizeof *COUNTS; at++) {
        struct cost cost = cost_of(argv[1], COUNTS[at]);

        printf("daily report of %7ld volumes %15s %7.2f s of CPU   %4.1f MiB above idle   %ld bytes sealed\n", COUNTS[at],
               "", cost.cpu_seconds, cost.mib_above_idle, cost.bytes);
        if (COUNTS[at] == VOLUMES)
            ours = cost.cpu_seconds;
    }
    theirs = script(argv[1]);
    if (theirs < 0)
        printf("gzip or openssl is missing: nothing to compare with\n");
    else
        printf("gzip | openssl enc over %d volumes %10s %7.2f s of CPU   %4.1f times the report's\n", VOLUMES, "", theirs,
               theirs / ours);
    return 0;
}
