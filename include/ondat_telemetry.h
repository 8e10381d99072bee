/*
 * ondat_telemetry - version check, sealed daily report and crash reports for storage daemons.
 *
 * CONVENTIONS
 *
 *   Results     are status codes, 0 = OK. Outputs are written only on OK.
 *   errbuf      gets one line saying why (NULL, 0 to do without); always NUL-terminated.
 *   Ownership   Only ondat_telemetry_config and ondat_telemetry are yours to free; freeing NULL does nothing.
 *               What you pass in is copied before the call returns. What you are handed is static, or valid
 *               until your callback returns.
 *   Strings     are NUL-terminated UTF-8, unless a length goes with them.
 *   Config      Setters return nothing: the first bad value is remembered and reported by ondat_telemetry_init.
 *               A config is used by one thread at a time.
 *   Threads     Every call with ondat_telemetry may be made from any thread at any time, except
 *               ondat_telemetry_close, which must be the last. No call is async-signal-safe.
 *   Blocking    No call takes longer than its timeout_ms (milliseconds); those without one do not wait for
 *               the network. ondat_telemetry_report_exit, _set_switches and _close do not wait for a disk
 *               either, beyond what they say.
 *   Callbacks   run without any lock held, must return normally, and may not call what waits (INVALID_STATE).
 *               None runs after ondat_telemetry_close has returned. free_userdata is called exactly once, also
 *               when registering failed. Called in a callback, ondat_telemetry_close marks the client as closing
 *               and returns: no callback starts any more, and whoever made this one goes on to the end and
 *               frees everything then.
 *   Cancelling  A thread is not cancelled (pthread_cancel(3)) within a call, callbacks included; a request that
 *               comes meanwhile is followed at the next cancellation point after it. A thread whose
 *               cancellation is asynchronous may make no call.
 *   Signals     No write of the library raises SIGPIPE or SIGXFSZ in the process. Callbacks have the signal
 *               mask of the thread that makes the call; on the library's threads all signals are blocked.
 *   fork(2)     A forked child's calls fail with INVALID_STATE and never wait (ondat_telemetry_switches is 0,
 *               ondat_telemetry_close does nothing): daemonize before ondat_telemetry_init. The child may make
 *               a client of its own.
 *   Descriptors The library's are close-on-exec and above 2, also where 0, 1 or 2 is closed. Those that you close
 *               are made anew where they are needed; what you have under their numbers is left alone.
 *   ABI         Within one SONAME (libondat_telemetry.so.0) symbols, enum values and struct fields are added,
 *               never removed, renumbered or moved. A struct starts with its struct_size; neither side reads
 *               beyond what the other gave.
 *
 * This file is generated from the library's source; do not edit it.
 */


#ifndef ONDAT_TELEMETRY_H
#define ONDAT_TELEMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** What was said: settings for a client. Opaque. */
typedef struct ondat_telemetry_config ondat_telemetry_config;
/** A client. Opaque. */
typedef struct ondat_telemetry ondat_telemetry;
/** A report in the making; exists inside a report callback only. Opaque. */
typedef struct ondat_telemetry_report ondat_telemetry_report;

/**
 * Version of the header; ondat_telemetry_version() tells that of the library.
 */
#define ONDAT_TELEMETRY_VERSION_MAJOR 0

/**
 * See ONDAT_TELEMETRY_VERSION_MAJOR.
 */
#define ONDAT_TELEMETRY_VERSION_MINOR 1

/**
 * See ONDAT_TELEMETRY_VERSION_MAJOR.
 */
#define ONDAT_TELEMETRY_VERSION_PATCH 0

/**
 * Switch: the DNS query for the latest version.
 */
#define ONDAT_TELEMETRY_VERSION_CHECK 1

/**
 * Switch: the sealed daily report over HTTPS.
 */
#define ONDAT_TELEMETRY_DAILY_REPORT 2

/**
 * Switch: crash reports to Sentry over HTTPS.
 */
#define ONDAT_TELEMETRY_CRASH_REPORTS 4

/**
 * Verdict: no answer yet, or none that can be applied (a development build).
 */
#define ONDAT_TELEMETRY_VERSION_UNKNOWN 0

/**
 * Verdict: the running version is the latest, or newer.
 */
#define ONDAT_TELEMETRY_VERSION_CURRENT 1

/**
 * Verdict: a newer version exists.
 */
#define ONDAT_TELEMETRY_VERSION_OUTDATED 2

/**
 * Verdict: the vendor recommends to upgrade.
 */
#define ONDAT_TELEMETRY_VERSION_UPGRADE_RECOMMENDED 3

/**
 * Verdict: the vendor says an upgrade is required.
 */
#define ONDAT_TELEMETRY_VERSION_UPGRADE_REQUIRED 4

/**
 * Flag of ondat_telemetry_install_crash_handler: the process contains a Go runtime, which keeps its own handlers
 * for SIGSEGV, SIGBUS and SIGFPE.
 */
#define ONDAT_TELEMETRY_CRASH_GO_HOST 1

/**
 * Flag of ondat_telemetry_install_crash_handler: raise the soft RLIMIT_CORE to the hard one.
 */
#define ONDAT_TELEMETRY_CRASH_CORE_DUMPS 2

/**
 * What a call came to. Numbers are never reused.
 */
enum ondat_telemetry_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It worked.
     */
    ONDAT_TELEMETRY_OK = 0,
    /**
     * NULL, not UTF-8, too long, out of range.
     */
    ONDAT_TELEMETRY_INVALID_ARGUMENT = 1,
    /**
     * A missing, malformed or contradictory setting; errbuf names it.
     */
    ONDAT_TELEMETRY_INVALID_CONFIG = 2,
    /**
     * Started twice, from a callback, in a forked child, second report of a day.
     */
    ONDAT_TELEMETRY_INVALID_STATE = 3,
    /**
     * errbuf names the field, the record and what was expected.
     */
    ONDAT_TELEMETRY_INVALID_REPORT = 4,
    /**
     * The switch is off: nothing was sent or stored.
     */
    ONDAT_TELEMETRY_DISABLED = 5,
    /**
     * Not delivered yet, stored and retried.
     */
    ONDAT_TELEMETRY_QUEUED = 6,
    /**
     * The time given was not enough.
     */
    ONDAT_TELEMETRY_TIMED_OUT = 7,
    /**
     * DNS, TCP, TLS or proxy failed.
     */
    ONDAT_TELEMETRY_NETWORK = 8,
    /**
     * The server said no.
     */
    ONDAT_TELEMETRY_REFUSED = 9,
    /**
     * The answer is not signed by the configured key, has expired, or makes no sense.
     */
    ONDAT_TELEMETRY_UNTRUSTED = 10,
    /**
     * The state directory could not be read or written.
     */
    ONDAT_TELEMETRY_IO = 11,
    /**
     * Not on this kernel or in this process; errbuf says which.
     */
    ONDAT_TELEMETRY_UNSUPPORTED = 12,
    /**
     * A bug in the library, contained.
     */
    ONDAT_TELEMETRY_INTERNAL = 13,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ondat_telemetry_status ondat_telemetry_status;
#else
typedef int32_t ondat_telemetry_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Takes log lines; level is a syslog(3) priority.
 */
typedef void (*ondat_telemetry_log_fn)(int level, const char *message, void *userdata);

/**
 * Frees a callback's userdata: called exactly once, also when registering failed.
 */
typedef void (*ondat_telemetry_free_fn)(void *userdata);

/**
 * What is known about versions. Read no field that lies beyond struct_size.
 */
typedef struct ondat_telemetry_version_info {
    /**
     * The size the library knows, in bytes.
     */
    size_t struct_size;
    /**
     * The version given in the config.
     */
    const char *running;
    /**
     * The latest version; NULL when unknown.
     */
    const char *latest;
    /**
     * The advisory behind a recommendation, or NULL.
     */
    const char *advisory;
    /**
     * ONDAT_TELEMETRY_VERSION_UNKNOWN to ONDAT_TELEMETRY_VERSION_UPGRADE_REQUIRED.
     */
    int32_t verdict;
    /**
     * The answer's signature verified.
     */
    bool authenticated;
    /**
     * Unix seconds of the answer this rests on, 0 when none.
     */
    int64_t checked_at;
} ondat_telemetry_version_info;

/**
 * Takes what is known about versions.
 */
typedef void (*ondat_telemetry_version_fn)(const struct ondat_telemetry_version_info *info,
                                           void *userdata);

/**
 * Fills the daily report with ondat_telemetry_report_set_cluster, _add_node and _add_volume.
 */
typedef void (*ondat_telemetry_report_fn)(ondat_telemetry_report *report, void *userdata);

/**
 * Takes a text of len bytes, which a NUL follows.
 */
typedef void (*ondat_telemetry_text_fn)(const char *text, size_t len, void *userdata);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * A new config; free it with ondat_telemetry_config_free. NULL only when memory is exhausted.
 */
ondat_telemetry_config *ondat_telemetry_config_new(void);

/**
 * Frees a config. Clients made from it live on.
 */
void ondat_telemetry_config_free(ondat_telemetry_config *config);

/**
 * Required. The process's part in the product, [a-z0-9_.-]{1,64}, such as "dataplane".
 */
void ondat_telemetry_config_set_component(ondat_telemetry_config *config, const char *component);

/**
 * Required. The product's version, SemVer, a leading "v" allowed.
 */
void ondat_telemetry_config_set_version(ondat_telemetry_config *config, const char *version);

/**
 * Required. 1 to 256 bytes without control characters, white space around them not counted; leaves the process only
 * anonymised.
 */
void ondat_telemetry_config_set_cluster_id(ondat_telemetry_config *config,
                                           const char *cluster_id);

/**
 * Required. 1 to 256 bytes without control characters, white space around them not counted; leaves the process only
 * anonymised.
 */
void ondat_telemetry_config_set_node_id(ondat_telemetry_config *config,
                                        const char *node_id);

/**
 * The 32 bytes, shared by the cluster, from which anonymised ids are made. Default: derived from the cluster id, which
 * whoever knows that id can do as well.
 */
void ondat_telemetry_config_set_identity_key(ondat_telemetry_config *config,
                                             const uint8_t *key,
                                             size_t len);

/**
 * A directory; made where it is missing, with the folders above it. Where others may write to it, or it is another user's, as
 * the root of a Kubernetes volume is, the folder ondat-telemetry-UID in it is used. A symlink or a file in its place is IO.
 * Where it cannot be used, for now or for good, init succeeds all the same: the log says why, nothing is remembered, and
 * crash reports are sent at crash time. Default: none; then nothing survives a restart, which the log says once.
 */
void ondat_telemetry_config_set_state_dir(ondat_telemetry_config *config,
                                          const char *path);

/**
 * The host's own word: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and _CRASH_REPORTS. Default: all on.
 */
void ondat_telemetry_config_set_switches(ondat_telemetry_config *config,
                                         uint32_t on);

/**
 * The zone to ask for the latest version, such as "latest.example.com". Default: none, no version check.
 */
void ondat_telemetry_config_set_version_zone(ondat_telemetry_config *config,
                                             const char *zone);

/**
 * Ed25519 public keys in base64, separated by commas. Once set, an unsigned answer is UNTRUSTED.
 */
void ondat_telemetry_config_set_version_key(ondat_telemetry_config *config, const char *keys);

/**
 * The vendor's X25519 public key, 32 bytes in base64. Once set, version queries are sealed for it: no resolver on the
 * way can read the ids or tell who asks again. Default: none. Costs a longer name, which the zone must leave room for.
 */
void ondat_telemetry_config_set_version_seal_key(ondat_telemetry_config *config,
                                                 const char *key);

/**
 * DNS servers such as "127.0.0.1:5300,[::1]:53". Default: the system's.
 */
void ondat_telemetry_config_set_nameservers(ondat_telemetry_config *config,
                                            const char *nameservers);

/**
 * The collector, https; http only for addresses of this machine. Default: none, no reports.
 */
void ondat_telemetry_config_set_report_url(ondat_telemetry_config *config, const char *url);

/**
 * The key set to seal reports for, JSON as in docs/protocols.md. Required with a report URL.
 */
void ondat_telemetry_config_set_report_keys(ondat_telemetry_config *config, const char *json);

/**
 * Where crash reports go: https://KEY@HOST[:PORT][/PREFIX]/PROJECT. Default: none, no crash reports.
 */
void ondat_telemetry_config_set_sentry_dsn(ondat_telemetry_config *config,
                                           const char *dsn);

/**
 * A proxy for all HTTPS requests (http, https, socks5, socks5h), whatever the environment says; "" for none.
 */
void ondat_telemetry_config_set_proxy(ondat_telemetry_config *config,
                                      const char *url);

/**
 * A PEM file of certificates trusted besides the system's roots. May be called several times.
 */
void ondat_telemetry_config_set_ca_file(ondat_telemetry_config *config, const char *path);

/**
 * The bound of one network call in milliseconds, from 1. Default: 10000.
 */
void ondat_telemetry_config_set_timeout_ms(ondat_telemetry_config *config, uint32_t timeout_ms);

/**
 * The program ondat-telemetry-monitor. Default: beside the library, then in libexec.
 */
void ondat_telemetry_config_set_monitor_path(ondat_telemetry_config *config, const char *path);

/**
 * How long a crashing process waits for its report to be sent, in milliseconds, 0 to 30000. Default: 2000 where the
 * process is PID 1, whose end the crash monitor does not survive; else 0: the monitor sends when the process is dead, and
 * the report then says whether a core was dumped.
 */
void ondat_telemetry_config_set_crash_wait_ms(ondat_telemetry_config *config,
                                              uint32_t crash_wait_ms);

/**
 * How many core files of crashed processes of this state directory are kept, where core_pattern is a plain path: the
 * oldest are removed when another one comes. Default: all. Files that are not known to be such cores are never removed.
 */
void ondat_telemetry_config_set_core_files(ondat_telemetry_config *config,
                                           uint32_t files);

/**
 * How many bytes on disk they may take in all. Default: any number.
 */
void ondat_telemetry_config_set_core_bytes(ondat_telemetry_config *config, uint64_t bytes);

/**
 * Reads DISABLE_*, DO_NOT_TRACK, the proxy variables, SSL_CERT_FILE, SSL_CERT_DIR and ONDAT_TELEMETRY_* (upper-case
 * setting names); nothing else ever reads the environment. Of two words on one setting, the later call's holds. In a
 * set-user-ID or otherwise privileged program (AT_SECURE, getauxval(3)) only DISABLE_* and DO_NOT_TRACK are read.
 */
void ondat_telemetry_config_load_env(ondat_telemetry_config *config);

/**
 * Reads a StorageOSCluster resource, YAML or JSON: spec.disableTelemetry, spec.environment and spec.k8sDistro. Of
 * several in a stream or a list all are read, of other kinds none; a text of other kinds alone is an error.
 */
void ondat_telemetry_config_load_cluster_spec(ondat_telemetry_config *config,
                                              const char *text,
                                              size_t len);

/**
 * Takes log lines up to this syslog(3) priority (4 warning, 5 notice, 6 info, 7 debug). Without it the library is
 * silent.
 */
void ondat_telemetry_config_set_log_callback(ondat_telemetry_config *config,
                                             int level,
                                             ondat_telemetry_log_fn callback,
                                             void *userdata,
                                             ondat_telemetry_free_fn free_userdata);

/**
 * Called when the verdict, the latest version or the advisory changes, on the library's thread or within
 * ondat_telemetry_check_version, and once more after ondat_telemetry_start where a newer version is known. "Current"
 * becomes unknown by itself when its answer expires.
 */
void ondat_telemetry_config_set_version_callback(ondat_telemetry_config *config,
                                                 ondat_telemetry_version_fn callback,
                                                 void *userdata,
                                                 ondat_telemetry_free_fn free_userdata);

/**
 * Called once a day, on the library's thread, to fill the daily report; from ondat_telemetry_start on also whenever an
 * administrator asks what would be sent (ondat-telemetry report next), never two at a time.
 * ondat_telemetry_report_is_preview tells which it is: what a host counts since the previous report, it counts on after a
 * preview. Default: none; then reports are sent only by ondat_telemetry_submit_report, and nobody can ask.
 */
void ondat_telemetry_config_set_report_callback(ondat_telemetry_config *config,
                                                ondat_telemetry_report_fn callback,
                                                void *userdata,
                                                ondat_telemetry_free_fn free_userdata);

/**
 * The library's version, static.
 */
const char *ondat_telemetry_version(void);

/**
 * A status in a few words, static; also for numbers that are none.
 */
const char *ondat_telemetry_strerror(int32_t status);

/**
 * A client with these settings, in *out; end it with ondat_telemetry_close. Starts no thread and uses no network.
 */
ondat_telemetry_status ondat_telemetry_init(const ondat_telemetry_config *config,
                                            ondat_telemetry **out,
                                            char *errbuf,
                                            size_t errbuf_len);

/**
 * Begins the schedule, on one thread of the library; while that works, a second one follows the switches. Call it after
 * daemonizing.
 */
ondat_telemetry_status ondat_telemetry_start(const ondat_telemetry *telemetry,
                                             char *errbuf,
                                             size_t errbuf_len);

/**
 * Delivers what is stored, cuts off what is under way, takes the crash handler off and frees everything. It waits for
 * delivery, also of what another process is delivering, for at most timeout_ms; then for a crash handler that is at work in
 * another thread and for the crash monitor, 100 ms each at most; for the schedule's thread and the state directory's disk
 * until timeout_ms is over, or 100 ms where less is left: all in all at most 210 ms longer than timeout_ms. What does not end by
 * then is left to end by itself. Besides, and without a limit, it waits for callbacks of the host's that are running on other
 * threads or that it makes itself, such as the log's. In a callback it returns at once, see CONVENTIONS.
 */
void ondat_telemetry_close(ondat_telemetry *telemetry,
                           uint32_t timeout_ms);

/**
 * What is on, all sources counted: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and _CRASH_REPORTS.
 */
uint32_t ondat_telemetry_switches(const ondat_telemetry *telemetry);

/**
 * Changes the host's word, at once. What goes off is interrupted, and what was stored for it is removed: where the disk
 * takes more than 500 ms for that, later.
 */
ondat_telemetry_status ondat_telemetry_set_switches(const ondat_telemetry *telemetry,
                                                    uint32_t on,
                                                    char *errbuf,
                                                    size_t errbuf_len);

/**
 * JSON: {"version_check": {"on": bool, "off_by": [source, ...]}, "daily_report": ..., "crash_reports": ...}.
 */
ondat_telemetry_status ondat_telemetry_explain_switches(const ondat_telemetry *telemetry,
                                                        ondat_telemetry_text_fn callback,
                                                        void *userdata);

/**
 * Asks the version zone now, for at most timeout_ms, and hands what is known then to the callback (NULL to do
 * without). The callback is called on OK only, before this returns.
 */
ondat_telemetry_status ondat_telemetry_check_version(const ondat_telemetry *telemetry,
                                                     uint32_t timeout_ms,
                                                     ondat_telemetry_version_fn callback,
                                                     void *userdata,
                                                     char *errbuf,
                                                     size_t errbuf_len);

/**
 * Hands to the callback what is known without asking, also right after a restart.
 */
ondat_telemetry_status ondat_telemetry_latest_version(const ondat_telemetry *telemetry,
                                                      ondat_telemetry_version_fn callback,
                                                      void *userdata);

/**
 * Reports every abnormal end of this process from now on: installs signal handlers and starts the monitor process.
 * flags: 0, ONDAT_TELEMETRY_CRASH_GO_HOST, ONDAT_TELEMETRY_CRASH_CORE_DUMPS. UNSUPPORTED when the monitor cannot run:
 * crashes are then stored and reported at the next start. One client of a process can have it.
 */
ondat_telemetry_status ondat_telemetry_install_crash_handler(const ondat_telemetry *telemetry,
                                                             uint32_t flags,
                                                             char *errbuf,
                                                             size_t errbuf_len);

/**
 * For a Go host whose crash handler is installed: a descriptor for debug.SetCrashOutput, *fd, the caller's to close (Go
 * keeps a copy). The monitor keeps whether the text is that of a panic or of a fatal error, and drops the text.
 * UNSUPPORTED when there is no monitor or the handler was not installed with ONDAT_TELEMETRY_CRASH_GO_HOST.
 */
ondat_telemetry_status ondat_telemetry_crash_output(const ondat_telemetry *telemetry,
                                                    int *fd,
                                                    char *errbuf,
                                                    size_t errbuf_len);

/**
 * For a parent that reaps: wait_status is that of waitpid(2), description NULL or up to 200 characters that are sent.
 * OK also when there is nothing to report (exit code 0; SIGTERM, SIGINT, SIGHUP, SIGQUIT). Stored at once, delivered
 * by the schedule or ondat_telemetry_flush. A disk that does not answer is waited for at most 500 ms: the report is then
 * kept in memory and stored when the disk answers, while the process lives, and the status is OK where the schedule was
 * started, which delivers it, or else IO.
 */
ondat_telemetry_status ondat_telemetry_report_exit(const ondat_telemetry *telemetry,
                                                   const char *component,
                                                   int wait_status,
                                                   const char *description,
                                                   char *errbuf,
                                                   size_t errbuf_len);

/**
 * Gives the calling thread an alternate signal stack, unless it has one, so that a stack overflow on it is described
 * in full. Freed when the thread ends.
 */
ondat_telemetry_status ondat_telemetry_thread_init(void);

/**
 * Delivers what is stored, now, for at most timeout_ms. QUEUED when something is left, also where another process is
 * delivering it, or it cannot be read.
 */
ondat_telemetry_status ondat_telemetry_flush(const ondat_telemetry *telemetry,
                                             uint32_t timeout_ms,
                                             char *errbuf,
                                             size_t errbuf_len);

/**
 * Sends the report of the UTC day: {cluster fields..., "nodes": [...], "volumes": [...]}. QUEUED when it is stored but
 * not delivered within timeout_ms; INVALID_STATE on a day whose report was already delivered or stored.
 */
ondat_telemetry_status ondat_telemetry_submit_report(const ondat_telemetry *telemetry,
                                                     const char *json,
                                                     size_t json_len,
                                                     uint32_t timeout_ms,
                                                     char *errbuf,
                                                     size_t errbuf_len);

/**
 * Hands to the callback, byte for byte, what would be sealed for this document. Sends and stores nothing.
 */
ondat_telemetry_status ondat_telemetry_preview_report(const ondat_telemetry *telemetry,
                                                      const char *json,
                                                      size_t json_len,
                                                      ondat_telemetry_text_fn callback,
                                                      void *userdata,
                                                      char *errbuf,
                                                      size_t errbuf_len);

/**
 * Inside a report callback, on any thread: whether an administrator only asks what would be sent. Nothing is sent or stored
 * then, and the report of the day is yet to come. False for NULL.
 */
bool ondat_telemetry_report_is_preview(const ondat_telemetry_report *report);

/**
 * Inside a report callback, on any thread: the cluster fields, one JSON object, once, before the first 1024 records. A refused
 * object changes nothing.
 */
ondat_telemetry_status ondat_telemetry_report_set_cluster(ondat_telemetry_report *report,
                                                          const char *json,
                                                          size_t json_len,
                                                          char *errbuf,
                                                          size_t errbuf_len);

/**
 * Inside a report callback, on any thread: one node, a JSON object of node_ fields. A refused record changes nothing, and errbuf names
 * it by its number among all nodes given so far, from 0: nodes[3].node_health: expected ...
 */
ondat_telemetry_status ondat_telemetry_report_add_node(ondat_telemetry_report *report,
                                                       const char *json,
                                                       size_t json_len,
                                                       char *errbuf,
                                                       size_t errbuf_len);

/**
 * Inside a report callback, on any thread: one volume, a JSON object of volume_ fields; as ondat_telemetry_report_add_node.
 */
ondat_telemetry_status ondat_telemetry_report_add_volume(ondat_telemetry_report *report,
                                                         const char *json,
                                                         size_t json_len,
                                                         char *errbuf,
                                                         size_t errbuf_len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ONDAT_TELEMETRY_H */
