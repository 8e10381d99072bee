/*
 * ondat_telemetry - version check, sealed daily report and crash reports for storage daemons.
 *
 * CONVENTIONS
 *
 *   Results     Calls return a status; 0 is OK. Outputs are written only on OK.
 *   errbuf      receives one line that says why a call failed, always NUL-terminated. Pass NULL, 0 to do without.
 *   Ownership   You free ondat_telemetry_config and ondat_telemetry, and nothing else. Freeing NULL does nothing.
 *               Arguments are copied before the call returns. What you receive is static, or valid until your
 *               callback returns.
 *   Strings     are NUL-terminated UTF-8, unless a length is passed with them.
 *   Config      Setters return nothing: ondat_telemetry_init reports the first bad value. A config must be used by
 *               one thread at a time.
 *   Threads     Any thread may make any call on a client at any time, except ondat_telemetry_close, which must be
 *               the last call. No call is async-signal-safe.
 *   Blocking    timeout_ms (milliseconds) bounds how long a call uses the network and waits for other processes.
 *               Calls without a timeout_ms do not wait for the network. A timeout_ms does not bound
 *               - your own callbacks, which a call may run or, in ondat_telemetry_close, wait for;
 *               - ondat_telemetry_submit_report while it reads, seals and stores the report;
 *               - a disk that hangs. Only ondat_telemetry_flush, _report_exit, _set_switches and _close promise
 *                 to give up waiting for the state directory's disk: flush 10 ms after its timeout_ms, the others
 *                 as their comments say.
 *   Callbacks   run without any lock held and must return normally. In a callback, calls that can wait return
 *               INVALID_STATE. No callback runs after ondat_telemetry_close has returned. free_userdata is called
 *               exactly once, also if the registration failed. If a callback calls ondat_telemetry_close, the
 *               client is marked as closing and the call returns at once: no further callback starts, and the
 *               thread that runs this callback frees everything afterwards.
 *   Cancelling  A thread is not cancelled (pthread_cancel(3)) within a call, callbacks included. A request that
 *               arrives meanwhile takes effect at the next cancellation point after the call. A thread with
 *               asynchronous cancellation must not make calls.
 *   Signals     The library's writes raise neither SIGPIPE nor SIGXFSZ in the process. A callback has the signal
 *               mask of the thread that makes the call. On the library's threads all signals are blocked.
 *   fork(2)     In a forked child, calls on the parent's client fail with INVALID_STATE and never wait
 *               (ondat_telemetry_switches returns 0, ondat_telemetry_close does nothing). So daemonize before
 *               ondat_telemetry_init. The child may create a client of its own.
 *   Descriptors The library's descriptors are close-on-exec and above 2, even if 0, 1 or 2 is closed. If you close
 *               one of them, the library opens it again when it needs it, and leaves alone what you have opened
 *               under its number.
 *   ABI         Within one SONAME (libondat_telemetry.so.0) symbols, enum values and struct fields are added,
 *               never removed, renumbered or moved. A struct starts with its struct_size. Neither side reads
 *               beyond what the other side gave.
 *
 * This file is generated from the library's source; do not edit it.
 */


#ifndef ONDAT_TELEMETRY_H
#define ONDAT_TELEMETRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Settings for a client. Opaque. */
typedef struct ondat_telemetry_config ondat_telemetry_config;
/** A client. Opaque. */
typedef struct ondat_telemetry ondat_telemetry;
/** The report that a report callback fills. It exists only inside that callback. Opaque. */
typedef struct ondat_telemetry_report ondat_telemetry_report;

/**
 * The version of the header. ondat_telemetry_version() returns that of the library.
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
 * Verdict: there is no answer yet, or none that applies (a development build).
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
 * Verdict: the vendor recommends an upgrade.
 */
#define ONDAT_TELEMETRY_VERSION_UPGRADE_RECOMMENDED 3

/**
 * Verdict: the vendor requires an upgrade.
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
 * The result of a call. Numbers are never reused.
 */
enum ondat_telemetry_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Success.
     */
    ONDAT_TELEMETRY_OK = 0,
    /**
     * An argument is NULL, not UTF-8, too long or out of range.
     */
    ONDAT_TELEMETRY_INVALID_ARGUMENT = 1,
    /**
     * A setting is missing, malformed or contradicts another one. errbuf names it.
     */
    ONDAT_TELEMETRY_INVALID_CONFIG = 2,
    /**
     * The call is not allowed now: started twice, made from a callback or in a forked child, or a second report of the
     * same day.
     */
    ONDAT_TELEMETRY_INVALID_STATE = 3,
    /**
     * The report is malformed. errbuf names the record and the field and says what was expected.
     */
    ONDAT_TELEMETRY_INVALID_REPORT = 4,
    /**
     * The switch is off: nothing was sent or stored.
     */
    ONDAT_TELEMETRY_DISABLED = 5,
    /**
     * Something is stored and not delivered yet. Delivery is retried.
     */
    ONDAT_TELEMETRY_QUEUED = 6,
    /**
     * The timeout has expired.
     */
    ONDAT_TELEMETRY_TIMED_OUT = 7,
    /**
     * DNS, TCP, TLS or the proxy failed.
     */
    ONDAT_TELEMETRY_NETWORK = 8,
    /**
     * The server refused.
     */
    ONDAT_TELEMETRY_REFUSED = 9,
    /**
     * The answer is not signed by a configured key, has expired, or is malformed.
     */
    ONDAT_TELEMETRY_UNTRUSTED = 10,
    /**
     * The state directory could not be read or written.
     */
    ONDAT_TELEMETRY_IO = 11,
    /**
     * This kernel or this process does not allow it. errbuf says which of the two and why.
     */
    ONDAT_TELEMETRY_UNSUPPORTED = 12,
    /**
     * A bug in the library. It was contained: the process continues.
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
 * Receives log lines. level is a syslog(3) priority.
 */
typedef void (*ondat_telemetry_log_fn)(int level, const char *message, void *userdata);

/**
 * Frees a callback's userdata. Called exactly once, also if the registration failed.
 */
typedef void (*ondat_telemetry_free_fn)(void *userdata);

/**
 * What is known about versions. Do not read fields beyond struct_size.
 */
typedef struct ondat_telemetry_version_info {
    /**
     * The size of this struct in the library, in bytes.
     */
    size_t struct_size;
    /**
     * The version that was set in the config.
     */
    const char *running;
    /**
     * The latest version, or NULL when it is unknown.
     */
    const char *latest;
    /**
     * The id of the advisory behind the recommendation, or NULL.
     */
    const char *advisory;
    /**
     * ONDAT_TELEMETRY_VERSION_UNKNOWN to ONDAT_TELEMETRY_VERSION_UPGRADE_REQUIRED.
     */
    int32_t verdict;
    /**
     * Whether the signature of the answer was verified.
     */
    bool authenticated;
    /**
     * When the zone was asked for this, in Unix seconds. 0 when there is no answer.
     */
    int64_t checked_at;
} ondat_telemetry_version_info;

/**
 * Receives what is known about versions.
 */
typedef void (*ondat_telemetry_version_fn)(const struct ondat_telemetry_version_info *info,
                                           void *userdata);

/**
 * Fills the daily report with ondat_telemetry_report_set_cluster, _add_node and _add_volume.
 */
typedef void (*ondat_telemetry_report_fn)(ondat_telemetry_report *report, void *userdata);

/**
 * Receives a text of len bytes, followed by a NUL.
 */
typedef void (*ondat_telemetry_text_fn)(const char *text, size_t len, void *userdata);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Creates a config. Free it with ondat_telemetry_config_free. Returns NULL only when memory is exhausted.
 */
ondat_telemetry_config *ondat_telemetry_config_new(void);

/**
 * Frees a config. Clients that were created from it stay valid.
 */
void ondat_telemetry_config_free(ondat_telemetry_config *config);

/**
 * Required. The name of this process within the product, [a-z0-9_.-]{1,64}, such as "dataplane".
 */
void ondat_telemetry_config_set_component(ondat_telemetry_config *config, const char *component);

/**
 * Required. The version of the product, as SemVer. A leading "v" is allowed.
 */
void ondat_telemetry_config_set_version(ondat_telemetry_config *config, const char *version);

/**
 * Required. 1 to 256 bytes without control characters; surrounding white space is removed. The id leaves the process
 * only in anonymised form.
 */
void ondat_telemetry_config_set_cluster_id(ondat_telemetry_config *config,
                                           const char *cluster_id);

/**
 * Required. 1 to 256 bytes without control characters; surrounding white space is removed. The id leaves the process
 * only in anonymised form.
 */
void ondat_telemetry_config_set_node_id(ondat_telemetry_config *config,
                                        const char *node_id);

/**
 * The key with which ids are anonymised: 32 bytes, the same on all nodes of the cluster. Default: derived from the
 * cluster id, so anybody who knows that id can derive the key.
 */
void ondat_telemetry_config_set_identity_key(ondat_telemetry_config *config,
                                             const uint8_t *key,
                                             size_t len);

/**
 * The state directory. It is created if it is missing, with its parents. If others may write to it, or if it belongs
 * to another user (as the root of a Kubernetes volume does), the folder ondat-telemetry-UID in it is used. A symlink
 * or a file in its place is an IO error. If the directory cannot be used, now or later, ondat_telemetry_init succeeds
 * all the same: the log says why, nothing is remembered, and crash reports are sent at crash time. Default: none.
 * Nothing then survives a restart, and the log says so once.
 */
void ondat_telemetry_config_set_state_dir(ondat_telemetry_config *config,
                                          const char *path);

/**
 * The host's own choice: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and _CRASH_REPORTS. Default: all on.
 * Other sources can turn a switch off, but not on.
 */
void ondat_telemetry_config_set_switches(ondat_telemetry_config *config,
                                         uint32_t on);

/**
 * The DNS zone that is asked for the latest version, such as "latest.example.com". Default: none, which means no
 * version check.
 */
void ondat_telemetry_config_set_version_zone(ondat_telemetry_config *config,
                                             const char *zone);

/**
 * Ed25519 public keys in base64, separated by commas. Once a key is set, an unsigned answer is UNTRUSTED.
 */
void ondat_telemetry_config_set_version_key(ondat_telemetry_config *config,
                                            const char *keys);

/**
 * The vendor's X25519 public key, 32 bytes in base64. Once it is set, the ids in version queries are encrypted to it:
 * no resolver on the path can read them or tell which queries come from the same node. The query name becomes longer,
 * and the zone's name must leave room for that. Default: none.
 */
void ondat_telemetry_config_set_version_seal_key(ondat_telemetry_config *config,
                                                 const char *key);

/**
 * The DNS servers, such as "127.0.0.1:5300,[::1]:53". Default: those of the system.
 */
void ondat_telemetry_config_set_nameservers(ondat_telemetry_config *config,
                                            const char *nameservers);

/**
 * The URL of the collector: https, or http for addresses of this machine. Default: none, which means no reports.
 */
void ondat_telemetry_config_set_report_url(ondat_telemetry_config *config,
                                           const char *url);

/**
 * The key set for which reports are sealed, as JSON (docs/protocols.md). Required if a report URL is set.
 */
void ondat_telemetry_config_set_report_keys(ondat_telemetry_config *config,
                                            const char *json);

/**
 * The DSN to which crash reports are sent: https://KEY@HOST[:PORT][/PREFIX]/PROJECT. Default: none, which means no
 * crash reports.
 */
void ondat_telemetry_config_set_sentry_dsn(ondat_telemetry_config *config,
                                           const char *dsn);

/**
 * The proxy for all HTTPS requests (http, https, socks5 or socks5h). It overrides the environment; "" means no proxy.
 * Default: the proxy variables, if ondat_telemetry_config_load_env is called.
 */
void ondat_telemetry_config_set_proxy(ondat_telemetry_config *config,
                                      const char *url);

/**
 * A PEM file of certificates that are trusted in addition to the system's roots. May be called several times.
 */
void ondat_telemetry_config_set_ca_file(ondat_telemetry_config *config,
                                        const char *path);

/**
 * The timeout of one network call, in milliseconds, at least 1. Default: 10000.
 */
void ondat_telemetry_config_set_timeout_ms(ondat_telemetry_config *config, uint32_t timeout_ms);

/**
 * The path of the program ondat-telemetry-monitor. Default: next to the library, then in libexec.
 */
void ondat_telemetry_config_set_monitor_path(ondat_telemetry_config *config, const char *path);

/**
 * How long a crashing process waits for its report to be sent, in milliseconds, 0 to 30000. Default: 2000 if the
 * process is PID 1, because the crash monitor does not survive the end of PID 1. Otherwise 0: the monitor sends after
 * the process is dead, and only then can the report say whether a core was dumped.
 */
void ondat_telemetry_config_set_crash_wait_ms(ondat_telemetry_config *config,
                                              uint32_t crash_wait_ms);

/**
 * How many core files of crashed processes of this state directory are kept, if core_pattern is a plain path. When
 * another one comes, the oldest are removed. Only files that are known to be such cores are removed. Default: all are
 * kept.
 */
void ondat_telemetry_config_set_core_files(ondat_telemetry_config *config,
                                           uint32_t files);

/**
 * How many bytes on disk these core files may take in total. Default: unlimited.
 */
void ondat_telemetry_config_set_core_bytes(ondat_telemetry_config *config, uint64_t bytes);

/**
 * Reads DISABLE_*, DO_NOT_TRACK, the proxy variables, SSL_CERT_FILE, SSL_CERT_DIR and ONDAT_TELEMETRY_* (setting names
 * in upper case) from the environment. Nothing else in the library reads the environment. If a setting is given twice,
 * the later call wins. In a set-user-ID or otherwise privileged program (AT_SECURE, getauxval(3)) only DISABLE_* and
 * DO_NOT_TRACK are read.
 */
void ondat_telemetry_config_load_env(ondat_telemetry_config *config);

/**
 * Reads a StorageOSCluster resource in YAML or JSON: spec.disableTelemetry, spec.environment and spec.k8sDistro. If
 * the text is a stream or a list of resources, every StorageOSCluster in it is read and other kinds are ignored. A
 * text without a StorageOSCluster is an error.
 */
void ondat_telemetry_config_load_cluster_spec(ondat_telemetry_config *config,
                                              const char *text,
                                              size_t len);

/**
 * Receives log lines up to this syslog(3) priority (4 warning, 5 notice, 6 info, 7 debug). Without this callback the
 * library is silent.
 */
void ondat_telemetry_config_set_log_callback(ondat_telemetry_config *config,
                                             int level,
                                             ondat_telemetry_log_fn callback,
                                             void *userdata,
                                             ondat_telemetry_free_fn free_userdata);

/**
 * Called when the verdict, the latest version or the advisory changes: on the library's thread or within
 * ondat_telemetry_check_version. Called once more after ondat_telemetry_start if a newer version is already known.
 * "Current" becomes unknown by itself when its answer expires.
 */
void ondat_telemetry_config_set_version_callback(ondat_telemetry_config *config,
                                                 ondat_telemetry_version_fn callback,
                                                 void *userdata,
                                                 ondat_telemetry_free_fn free_userdata);

/**
 * Called once a day, on the library's thread, to fill the daily report. From ondat_telemetry_start on it is also
 * called when an administrator asks what would be sent (ondat-telemetry report next). Two calls never overlap.
 * ondat_telemetry_report_is_preview tells which of the two it is: do not reset counters after a preview. Default:
 * none. Reports are then sent only by ondat_telemetry_submit_report, and administrators cannot ask.
 */
void ondat_telemetry_config_set_report_callback(ondat_telemetry_config *config,
                                                ondat_telemetry_report_fn callback,
                                                void *userdata,
                                                ondat_telemetry_free_fn free_userdata);

/**
 * The version of the library, a static string.
 */
const char *ondat_telemetry_version(void);

/**
 * Describes a status in a few words, as a static string. Also accepts numbers that are no status.
 */
const char *ondat_telemetry_strerror(int32_t status);

/**
 * Creates a client with these settings in *out. End it with ondat_telemetry_close. Starts no thread and uses no
 * network.
 */
ondat_telemetry_status ondat_telemetry_init(const ondat_telemetry_config *config,
                                            ondat_telemetry **out,
                                            char *errbuf,
                                            size_t errbuf_len);

/**
 * Starts the schedule on one thread of the library. While that thread works, a second thread watches the switches.
 * Call this after daemonizing.
 */
ondat_telemetry_status ondat_telemetry_start(const ondat_telemetry *telemetry,
                                             char *errbuf,
                                             size_t errbuf_len);

/**
 * Delivers what is stored, interrupts what is under way, removes the crash handler and frees everything.
 *
 * It waits for at most timeout_ms for delivery, also for what another process is delivering. It then waits for at most
 * 100 ms for a crash handler at work in another thread and for at most 100 ms for the crash monitor. For the
 * schedule's thread and the disk of the state directory it waits until timeout_ms is over, or for 100 ms if less is
 * left. In total it takes at most 210 ms longer than timeout_ms. What has not ended by then ends by itself later.
 *
 * In addition, and without a limit, it waits for callbacks: those that are running on other threads, and those that it
 * makes itself, such as the log callback. Called in a callback it returns at once, see CONVENTIONS.
 */
void ondat_telemetry_close(ondat_telemetry *telemetry,
                           uint32_t timeout_ms);

/**
 * Returns what is on, with all sources counted: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and
 * _CRASH_REPORTS.
 */
uint32_t ondat_telemetry_switches(const ondat_telemetry *telemetry);

/**
 * Changes the host's own choice at once. Turning a switch off interrupts what is being sent and removes what was
 * stored for it. If the disk takes more than 500 ms for the removal, it is finished later.
 */
ondat_telemetry_status ondat_telemetry_set_switches(const ondat_telemetry *telemetry,
                                                    uint32_t on,
                                                    char *errbuf,
                                                    size_t errbuf_len);

/**
 * Passes this JSON to the callback: {"version_check": {"on": bool, "off_by": [text, ...], "sources": [{"kind": text,
 * "name": text, "text": text}, ...]}, "daily_report": ..., "crash_reports": ...}. off_by is for people. sources says
 * the same for programs. kind is host, environment, cluster_spec, administrator, api_client, unreadable, or a word of
 * a later version; name is the variable, the field, or why switches.json cannot be read.
 */
ondat_telemetry_status ondat_telemetry_explain_switches(const ondat_telemetry *telemetry,
                                                        ondat_telemetry_text_fn callback,
                                                        void *userdata);

/**
 * Asks the version zone now, for at most timeout_ms, and passes the result to the callback, which may be NULL. The
 * callback is called only on OK, before this function returns.
 */
ondat_telemetry_status ondat_telemetry_check_version(const ondat_telemetry *telemetry,
                                                     uint32_t timeout_ms,
                                                     ondat_telemetry_version_fn callback,
                                                     void *userdata,
                                                     char *errbuf,
                                                     size_t errbuf_len);

/**
 * Passes what is already known to the callback, without asking. Works right after a restart, too.
 */
ondat_telemetry_status ondat_telemetry_latest_version(const ondat_telemetry *telemetry,
                                                      ondat_telemetry_version_fn callback,
                                                      void *userdata);

/**
 * Reports every abnormal end of this process from now on: installs signal handlers and starts the monitor process, for
 * whose answer it waits for at most 5 s. flags: 0, or a combination of ONDAT_TELEMETRY_CRASH_GO_HOST and
 * ONDAT_TELEMETRY_CRASH_CORE_DUMPS. Returns UNSUPPORTED if the monitor cannot run: crashes are then stored and
 * reported at the next start. Only one client of a process can have the crash handler.
 */
ondat_telemetry_status ondat_telemetry_install_crash_handler(const ondat_telemetry *telemetry,
                                                             uint32_t flags,
                                                             char *errbuf,
                                                             size_t errbuf_len);

/**
 * For a Go host whose crash handler is installed: returns a descriptor for debug.SetCrashOutput in *fd. The caller
 * closes it (Go keeps a copy). The monitor only notes whether the text is a panic or a fatal error, and discards the
 * text. Returns UNSUPPORTED if there is no monitor, or if the handler was not installed with
 * ONDAT_TELEMETRY_CRASH_GO_HOST.
 */
ondat_telemetry_status ondat_telemetry_crash_output(const ondat_telemetry *telemetry,
                                                    int *fd,
                                                    char *errbuf,
                                                    size_t errbuf_len);

/**
 * For a parent that reaps a child: reports how the child ended. wait_status is that of waitpid(2). description is NULL
 * or a text of which up to 200 characters are sent. Returns OK also if there is nothing to report (exit code 0;
 * SIGTERM, SIGINT, SIGHUP, SIGQUIT).
 *
 * The report is stored at once and delivered by the schedule or by ondat_telemetry_flush. If the disk does not answer
 * within 500 ms, the report is kept in memory and stored when the disk answers, as long as the process lives. The
 * status is then OK if the schedule was started, which will deliver the report, and IO otherwise.
 */
ondat_telemetry_status ondat_telemetry_report_exit(const ondat_telemetry *telemetry,
                                                   const char *component,
                                                   int wait_status,
                                                   const char *description,
                                                   char *errbuf,
                                                   size_t errbuf_len);

/**
 * Gives the calling thread an alternate signal stack, unless it has one, so that a stack overflow on this thread is
 * reported with its cause. The stack is freed when the thread ends.
 */
ondat_telemetry_status ondat_telemetry_thread_init(void);

/**
 * Delivers what is stored, now, for at most timeout_ms. Returns QUEUED if something is left, also if another process
 * is delivering it or if it cannot be read.
 */
ondat_telemetry_status ondat_telemetry_flush(const ondat_telemetry *telemetry,
                                             uint32_t timeout_ms,
                                             char *errbuf,
                                             size_t errbuf_len);

/**
 * Sends the report of the current UTC day: {cluster fields..., "nodes": [...], "volumes": [...]}. Returns QUEUED if
 * the report is stored but not delivered, and INVALID_STATE if the report of this day was already delivered or stored.
 *
 * timeout_ms starts with the call and bounds the delivery. Before the delivery the report is read, sealed and stored.
 * timeout_ms does not cut that short, and a large report takes seconds. If no time is left, the report stays stored.
 */
ondat_telemetry_status ondat_telemetry_submit_report(const ondat_telemetry *telemetry,
                                                     const char *json,
                                                     size_t json_len,
                                                     uint32_t timeout_ms,
                                                     char *errbuf,
                                                     size_t errbuf_len);

/**
 * Passes to the callback, byte for byte, what would be sealed for this document. Sends and stores nothing.
 */
ondat_telemetry_status ondat_telemetry_preview_report(const ondat_telemetry *telemetry,
                                                      const char *json,
                                                      size_t json_len,
                                                      ondat_telemetry_text_fn callback,
                                                      void *userdata,
                                                      char *errbuf,
                                                      size_t errbuf_len);

/**
 * Inside a report callback, on any thread: whether an administrator only asks what would be sent. Nothing is sent or
 * stored then, and the report of the day is still to come. Returns false for NULL.
 */
bool ondat_telemetry_report_is_preview(const ondat_telemetry_report *report);

/**
 * Inside a report callback, on any thread: sets the cluster fields from one JSON object. Call it once, before the
 * first 1024 records are added. A refused object changes nothing.
 */
ondat_telemetry_status ondat_telemetry_report_set_cluster(ondat_telemetry_report *report,
                                                          const char *json,
                                                          size_t json_len,
                                                          char *errbuf,
                                                          size_t errbuf_len);

/**
 * Inside a report callback, on any thread: adds one node, a JSON object of node_ fields. A refused record changes
 * nothing. errbuf names it by its position among all nodes given so far, counted from 0: nodes[3].node_health:
 * expected ...
 */
ondat_telemetry_status ondat_telemetry_report_add_node(ondat_telemetry_report *report,
                                                       const char *json,
                                                       size_t json_len,
                                                       char *errbuf,
                                                       size_t errbuf_len);

/**
 * Inside a report callback, on any thread: adds one volume, a JSON object of volume_ fields. Otherwise as
 * ondat_telemetry_report_add_node.
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
