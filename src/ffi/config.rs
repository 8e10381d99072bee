//! Settings.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use super::types::{FreeFn, LogFn, ReportFn, VersionFn, give_version};
use super::{Userdata, contain, read_bytes, read_text, utf8};
use crate::callbacks::Report;
use crate::config::builder::ConfigBuilder;
use crate::config::setting::{LONGEST_DOCUMENT, Number, Setting};
use crate::error::Error;

/// Creates a config. Free it with ondat_telemetry_config_free. Returns NULL only when memory is exhausted.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_new() -> *mut ConfigBuilder {
    contain(|| Box::into_raw(Box::new(ConfigBuilder::new()))).unwrap_or(std::ptr::null_mut())
}

/// Frees a config. Clients that were created from it stay valid.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_free(config: *mut ConfigBuilder) {
    if !config.is_null() {
        // SAFETY: CONVENTIONS: made by ondat_telemetry_config_new and freed once.
        contain(|| drop(unsafe { Box::from_raw(config) }));
    }
}

fn set_text(config: Option<&mut ConfigBuilder>, setting: Setting, value: *const c_char) {
    contain(|| {
        let Some(config) = config else { return };
        // SAFETY: CONVENTIONS: a NUL-terminated string or NULL.
        match unsafe { read_text(setting.name(), value, setting.longest()) } {
            Ok(text) => config.set(setting, text),
            Err(error) => config.remember(error),
        }
    });
}

fn set_number(config: Option<&mut ConfigBuilder>, number: Number, value: u64) {
    contain(|| {
        if let Some(config) = config {
            config.set_number(number, value);
        }
    });
}

/// Required. The name of this process within the product, [a-z0-9_.-]{1,64}, such as "dataplane".
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_component(config: Option<&mut ConfigBuilder>, component: *const c_char) {
    set_text(config, Setting::Component, component);
}

/// Required. The version of the product, as SemVer. A leading "v" is allowed.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version(config: Option<&mut ConfigBuilder>, version: *const c_char) {
    set_text(config, Setting::Version, version);
}

/// Required. 1 to 256 bytes without control characters; surrounding white space is removed. The id leaves the process
/// only in anonymised form.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_cluster_id(config: Option<&mut ConfigBuilder>, cluster_id: *const c_char) {
    set_text(config, Setting::ClusterId, cluster_id);
}

/// Required. 1 to 256 bytes without control characters; surrounding white space is removed. The id leaves the process
/// only in anonymised form.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_node_id(config: Option<&mut ConfigBuilder>, node_id: *const c_char) {
    set_text(config, Setting::NodeId, node_id);
}

/// The key with which ids are anonymised: 32 bytes, the same on all nodes of the cluster. Default: derived from the
/// cluster id, so anybody who knows that id can derive the key.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_identity_key(
    config: Option<&mut ConfigBuilder>,
    key: *const u8,
    len: usize,
) {
    contain(|| {
        let Some(config) = config else { return };
        // SAFETY: CONVENTIONS: `len` bytes or NULL.
        match unsafe { read_bytes("identity_key", key.cast(), len, LONGEST_DOCUMENT) } {
            Ok(key) => config.set_identity_key(key),
            Err(error) => config.remember(error),
        }
    });
}

/// The state directory. It is created if it is missing, with its parents. If others may write to it, or if it belongs
/// to another user (as the root of a Kubernetes volume does), the folder ondat-telemetry-UID in it is used. A symlink
/// or a file in its place is an IO error. If the directory cannot be used, now or later, ondat_telemetry_init succeeds
/// all the same: the log says why, nothing is remembered, and crash reports are sent at crash time. Default: none.
/// Nothing then survives a restart, and the log says so once.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_state_dir(config: Option<&mut ConfigBuilder>, path: *const c_char) {
    set_text(config, Setting::StateDir, path);
}

/// The host's own choice: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and _CRASH_REPORTS. Default: all on.
/// Other sources can turn a switch off, but not on.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_switches(config: Option<&mut ConfigBuilder>, on: u32) {
    contain(|| {
        if let Some(config) = config {
            config.set_switches(on);
        }
    });
}

/// The DNS zone that is asked for the latest version, such as "latest.example.com". Default: none, which means no
/// version check.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version_zone(config: Option<&mut ConfigBuilder>, zone: *const c_char) {
    set_text(config, Setting::VersionZone, zone);
}

/// Ed25519 public keys in base64, separated by commas. Once a key is set, an unsigned answer is UNTRUSTED.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version_key(config: Option<&mut ConfigBuilder>, keys: *const c_char) {
    set_text(config, Setting::VersionKey, keys);
}

/// The vendor's X25519 public key, 32 bytes in base64. Once it is set, the ids in version queries are encrypted to it:
/// no resolver on the path can read them or tell which queries come from the same node. The query name becomes longer,
/// and the zone's name must leave room for that. Default: none.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version_seal_key(config: Option<&mut ConfigBuilder>, key: *const c_char) {
    set_text(config, Setting::VersionSealKey, key);
}

/// The DNS servers, such as "127.0.0.1:5300,[::1]:53". Default: those of the system.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_nameservers(
    config: Option<&mut ConfigBuilder>,
    nameservers: *const c_char,
) {
    set_text(config, Setting::Nameservers, nameservers);
}

/// The URL of the collector: https, or http for addresses of this machine. Default: none, which means no reports.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_report_url(config: Option<&mut ConfigBuilder>, url: *const c_char) {
    set_text(config, Setting::ReportUrl, url);
}

/// The key set for which reports are sealed, as JSON (docs/protocols.md). Required if a report URL is set.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_report_keys(config: Option<&mut ConfigBuilder>, json: *const c_char) {
    set_text(config, Setting::ReportKeys, json);
}

/// The DSN to which crash reports are sent: https://KEY@HOST[:PORT][/PREFIX]/PROJECT. Default: none, which means no
/// crash reports.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_sentry_dsn(config: Option<&mut ConfigBuilder>, dsn: *const c_char) {
    set_text(config, Setting::SentryDsn, dsn);
}

/// The proxy for all HTTPS requests (http, https, socks5 or socks5h). It overrides the environment; "" means no proxy.
/// Default: the proxy variables, if ondat_telemetry_config_load_env is called.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_proxy(config: Option<&mut ConfigBuilder>, url: *const c_char) {
    set_text(config, Setting::Proxy, url);
}

/// A PEM file of certificates that are trusted in addition to the system's roots. May be called several times.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_ca_file(config: Option<&mut ConfigBuilder>, path: *const c_char) {
    set_text(config, Setting::CaFile, path);
}

/// The timeout of one network call, in milliseconds, at least 1. Default: 10000.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_timeout_ms(config: Option<&mut ConfigBuilder>, timeout_ms: u32) {
    set_number(config, Number::TimeoutMs, timeout_ms.into());
}

/// The path of the program ondat-telemetry-monitor. Default: next to the library, then in libexec.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_monitor_path(config: Option<&mut ConfigBuilder>, path: *const c_char) {
    set_text(config, Setting::MonitorPath, path);
}

/// How long a crashing process waits for its report to be sent, in milliseconds, 0 to 30000. Default: 2000 if the
/// process is PID 1, because the crash monitor does not survive the end of PID 1. Otherwise 0: the monitor sends after
/// the process is dead, and only then can the report say whether a core was dumped.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_crash_wait_ms(config: Option<&mut ConfigBuilder>, crash_wait_ms: u32) {
    set_number(config, Number::CrashWaitMs, crash_wait_ms.into());
}

/// How many core files of crashed processes of this state directory are kept, if core_pattern is a plain path. When
/// another one comes, the oldest are removed. Only files that are known to be such cores are removed. Default: all are
/// kept.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_core_files(config: Option<&mut ConfigBuilder>, files: u32) {
    set_number(config, Number::CoreFiles, files.into());
}

/// How many bytes on disk these core files may take in total. Default: unlimited.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_core_bytes(config: Option<&mut ConfigBuilder>, bytes: u64) {
    set_number(config, Number::CoreBytes, bytes);
}

/// Reads DISABLE_*, DO_NOT_TRACK, the proxy variables, SSL_CERT_FILE, SSL_CERT_DIR and ONDAT_TELEMETRY_* (setting names
/// in upper case) from the environment. Nothing else in the library reads the environment. If a setting is given twice,
/// the later call wins. In a set-user-ID or otherwise privileged program (AT_SECURE, getauxval(3)) only DISABLE_* and
/// DO_NOT_TRACK are read.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_load_env(config: Option<&mut ConfigBuilder>) {
    contain(|| {
        if let Some(config) = config {
            config.load_env();
        }
    });
}

/// Reads a StorageOSCluster resource in YAML or JSON: spec.disableTelemetry, spec.environment and spec.k8sDistro. If
/// the text is a stream or a list of resources, every StorageOSCluster in it is read and other kinds are ignored. A
/// text without a StorageOSCluster is an error.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_load_cluster_spec(
    config: Option<&mut ConfigBuilder>,
    text: *const c_char,
    len: usize,
) {
    contain(|| {
        let Some(config) = config else { return };
        // SAFETY: CONVENTIONS: `len` bytes or NULL.
        let bytes = unsafe { read_bytes("cluster spec", text.cast(), len, LONGEST_DOCUMENT) };
        match bytes.and_then(|bytes| utf8("cluster spec", bytes)) {
            Ok(text) => config.load_cluster_spec(text),
            Err(error) => config.remember(error),
        }
    });
}

/// Registers a callback: `take` receives it with its userdata. The userdata is freed here if there is no config or no callback.
fn register<F: Copy>(
    config: Option<&mut ConfigBuilder>,
    callback: Option<F>,
    userdata: *mut c_void,
    free: FreeFn,
    take: impl FnOnce(&mut ConfigBuilder, F, Userdata),
) {
    contain(|| {
        let userdata = Userdata { pointer: userdata, free };
        if let (Some(config), Some(callback)) = (config, callback) {
            take(config, callback, userdata);
        }
    });
}

/// Receives log lines up to this syslog(3) priority (4 warning, 5 notice, 6 info, 7 debug). Without this callback the
/// library is silent.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_log_callback(
    config: Option<&mut ConfigBuilder>,
    level: c_int,
    callback: LogFn,
    userdata: *mut c_void,
    free_userdata: FreeFn,
) {
    register(config, callback, userdata, free_userdata, |config, callback, userdata| {
        if !(0..=7).contains(&level) {
            config.remember(Error::InvalidArgument(format!("log level {level} is not a syslog priority from 0 to 7")));
            return;
        }
        let log = move |priority: i32, line: &str| {
            let line = std::ffi::CString::new(line.replace('\0', "")).unwrap_or_default();
            // SAFETY: the host's function with the host's userdata.
            unsafe { callback(priority, line.as_ptr(), userdata.get()) };
        };
        config.set_log(level, Arc::new(log));
    });
}

/// Called when the verdict, the latest version or the advisory changes: on the library's thread or within
/// ondat_telemetry_check_version. Called once more after ondat_telemetry_start if a newer version is already known.
/// "Current" becomes unknown by itself when its answer expires.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version_callback(
    config: Option<&mut ConfigBuilder>,
    callback: VersionFn,
    userdata: *mut c_void,
    free_userdata: FreeFn,
) {
    register(config, callback, userdata, free_userdata, |config, callback, userdata| {
        config.set_on_version(Arc::new(move |info| {
            // SAFETY: the host's function with the host's userdata; `info` lives until it returns.
            give_version(info, |info| unsafe { callback(info, userdata.get()) });
        }));
    });
}

/// Called once a day, on the library's thread, to fill the daily report. From ondat_telemetry_start on it is also
/// called when an administrator asks what would be sent (ondat-telemetry report next). Two calls never overlap.
/// ondat_telemetry_report_is_preview tells which of the two it is: do not reset counters after a preview. Default:
/// none. Reports are then sent only by ondat_telemetry_submit_report, and administrators cannot ask.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_report_callback(
    config: Option<&mut ConfigBuilder>,
    callback: ReportFn,
    userdata: *mut c_void,
    free_userdata: FreeFn,
) {
    register(config, callback, userdata, free_userdata, |config, callback, userdata| {
        config.set_on_report(Arc::new(move |report: &Report<'_>| {
            let report = std::ptr::from_ref(report).cast_mut();
            // SAFETY: the host's function with the host's userdata; the report lives until it returns.
            unsafe { callback(report.cast(), userdata.get()) };
        }));
    });
}
