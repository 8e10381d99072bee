//! Settings.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use super::types::{FreeFn, LogFn, ReportFn, VersionFn, give_version};
use super::{Userdata, contain, read_bytes, read_text, utf8};
use crate::client::Report;
use crate::config::{ConfigBuilder, LONGEST_DOCUMENT, Setting};
use crate::error::Error;

/// A new config; free it with ondat_telemetry_config_free. NULL only when memory is exhausted.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_new() -> *mut ConfigBuilder {
    contain(|| Box::into_raw(Box::new(ConfigBuilder::new()))).unwrap_or(std::ptr::null_mut())
}

/// Frees a config. Clients made from it live on.
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

/// Required. The process's part in the product, [a-z0-9_.-]{1,64}, such as "dataplane".
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_component(config: Option<&mut ConfigBuilder>, component: *const c_char) {
    set_text(config, Setting::Component, component);
}

/// Required. The product's version, SemVer, a leading "v" allowed.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version(config: Option<&mut ConfigBuilder>, version: *const c_char) {
    set_text(config, Setting::Version, version);
}

/// Required. 1 to 256 bytes without control characters, white space around them not counted; leaves the process only
/// anonymised.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_cluster_id(config: Option<&mut ConfigBuilder>, cluster_id: *const c_char) {
    set_text(config, Setting::ClusterId, cluster_id);
}

/// Required. 1 to 256 bytes without control characters, white space around them not counted; leaves the process only
/// anonymised.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_node_id(config: Option<&mut ConfigBuilder>, node_id: *const c_char) {
    set_text(config, Setting::NodeId, node_id);
}

/// The 32 bytes, shared by the cluster, from which anonymised ids are made. Default: derived from the cluster id, which
/// whoever knows that id can do as well.
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

/// A directory; made where it is missing, with the folders above it. Where others may write to it, or it is another user's, as
/// the root of a Kubernetes volume is, the folder ondat-telemetry-UID in it is used. A symlink or a file in its place is IO.
/// Where it cannot be used, for now or for good, init succeeds all the same: the log says why, nothing is remembered, and
/// crash reports are sent at crash time. Default: none; then nothing survives a restart, which the log says once.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_state_dir(config: Option<&mut ConfigBuilder>, path: *const c_char) {
    set_text(config, Setting::StateDir, path);
}

/// The host's own word: a mask of ONDAT_TELEMETRY_VERSION_CHECK, _DAILY_REPORT and _CRASH_REPORTS. Default: all on.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_switches(config: Option<&mut ConfigBuilder>, on: u32) {
    contain(|| {
        if let Some(config) = config {
            config.set_switches(on);
        }
    });
}

/// The zone to ask for the latest version, such as "latest.example.com". Default: none, no version check.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version_zone(config: Option<&mut ConfigBuilder>, zone: *const c_char) {
    set_text(config, Setting::VersionZone, zone);
}

/// Ed25519 public keys in base64, separated by commas. Once set, an unsigned answer is UNTRUSTED.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version_key(config: Option<&mut ConfigBuilder>, keys: *const c_char) {
    set_text(config, Setting::VersionKey, keys);
}

/// The vendor's X25519 public key, 32 bytes in base64. Once set, version queries are sealed for it: no resolver on the
/// way can read the ids or tell who asks again. Default: none. Costs a longer name, which the zone must leave room for.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_version_seal_key(config: Option<&mut ConfigBuilder>, key: *const c_char) {
    set_text(config, Setting::VersionSealKey, key);
}

/// DNS servers such as "127.0.0.1:5300,[::1]:53". Default: the system's.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_nameservers(
    config: Option<&mut ConfigBuilder>,
    nameservers: *const c_char,
) {
    set_text(config, Setting::Nameservers, nameservers);
}

/// The collector, https; http only for addresses of this machine. Default: none, no reports.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_report_url(config: Option<&mut ConfigBuilder>, url: *const c_char) {
    set_text(config, Setting::ReportUrl, url);
}

/// The key set to seal reports for, JSON as in docs/protocols.md. Required with a report URL.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_report_keys(config: Option<&mut ConfigBuilder>, json: *const c_char) {
    set_text(config, Setting::ReportKeys, json);
}

/// Where crash reports go: https://KEY@HOST[:PORT][/PREFIX]/PROJECT. Default: none, no crash reports.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_sentry_dsn(config: Option<&mut ConfigBuilder>, dsn: *const c_char) {
    set_text(config, Setting::SentryDsn, dsn);
}

/// A proxy for all HTTPS requests (http, https, socks5, socks5h), whatever the environment says; "" for none.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_proxy(config: Option<&mut ConfigBuilder>, url: *const c_char) {
    set_text(config, Setting::Proxy, url);
}

/// A PEM file of certificates trusted besides the system's roots. May be called several times.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_ca_file(config: Option<&mut ConfigBuilder>, path: *const c_char) {
    set_text(config, Setting::CaFile, path);
}

/// The bound of one network call in milliseconds, from 1. Default: 10000.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_timeout_ms(config: Option<&mut ConfigBuilder>, timeout_ms: u32) {
    contain(|| {
        if let Some(config) = config {
            config.set_timeout_ms(timeout_ms);
        }
    });
}

/// The program ondat-telemetry-monitor. Default: beside the library, then in libexec.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_monitor_path(config: Option<&mut ConfigBuilder>, path: *const c_char) {
    set_text(config, Setting::MonitorPath, path);
}

/// How long a crashing process waits for its report to be sent, in milliseconds, 0 to 30000. Default: 2000 where the
/// process is PID 1, whose end the crash monitor does not survive; else 0: the monitor sends when the process is dead, and
/// the report then says whether a core was dumped.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_crash_wait_ms(config: Option<&mut ConfigBuilder>, crash_wait_ms: u32) {
    contain(|| {
        if let Some(config) = config {
            config.set_crash_wait_ms(crash_wait_ms);
        }
    });
}

/// How many core files of crashed processes of this state directory are kept, where core_pattern is a plain path: the
/// oldest are removed when another one comes. Default: all. Files that are not known to be such cores are never removed.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_core_files(config: Option<&mut ConfigBuilder>, files: u32) {
    contain(|| {
        if let Some(config) = config {
            config.set_core_files(files);
        }
    });
}

/// How many bytes on disk they may take in all. Default: any number.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_set_core_bytes(config: Option<&mut ConfigBuilder>, bytes: u64) {
    contain(|| {
        if let Some(config) = config {
            config.set_core_bytes(bytes);
        }
    });
}

/// Reads DISABLE_*, DO_NOT_TRACK, the proxy variables, SSL_CERT_FILE, SSL_CERT_DIR and ONDAT_TELEMETRY_* (upper-case
/// setting names); nothing else ever reads the environment. Of two words on one setting, the later call's holds. In a
/// set-user-ID or otherwise privileged program (AT_SECURE, getauxval(3)) only DISABLE_* and DO_NOT_TRACK are read.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_config_load_env(config: Option<&mut ConfigBuilder>) {
    contain(|| {
        if let Some(config) = config {
            config.load_env();
        }
    });
}

/// Reads a StorageOSCluster resource, YAML or JSON: spec.disableTelemetry, spec.environment and spec.k8sDistro. Of
/// several in a stream or a list all are read, of other kinds none; a text of other kinds alone is an error.
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

/// Registers a callback: `take` gets it with its userdata, which is freed here if there is nobody to take it.
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

/// Takes log lines up to this syslog(3) priority (4 warning, 5 notice, 6 info, 7 debug). Without it the library is
/// silent.
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

/// Called when the verdict, the latest version or the advisory changes, on the library's thread or within
/// ondat_telemetry_check_version, and once more after ondat_telemetry_start where a newer version is known. "Current"
/// becomes unknown by itself when its answer expires.
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

/// Called once a day, on the library's thread, to fill the daily report; from ondat_telemetry_start on also whenever an
/// administrator asks what would be sent (ondat-telemetry report next), never two at a time.
/// ondat_telemetry_report_is_preview tells which it is: what a host counts since the previous report, it counts on after a
/// preview. Default: none; then reports are sent only by ondat_telemetry_submit_report, and nobody can ask.
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
