//! Types and constants of the C interface.
#![allow(non_camel_case_types, reason = "these are C names")]

use std::ffi::{c_char, c_int, c_void};

use crate::callbacks::{Report, VersionInfo};
use crate::error;

/// The version of the header. ondat_telemetry_version() returns that of the library.
pub const ONDAT_TELEMETRY_VERSION_MAJOR: u32 = 0;
/// See ONDAT_TELEMETRY_VERSION_MAJOR.
pub const ONDAT_TELEMETRY_VERSION_MINOR: u32 = 1;
/// See ONDAT_TELEMETRY_VERSION_MAJOR.
pub const ONDAT_TELEMETRY_VERSION_PATCH: u32 = 0;

/// Switch: the DNS query for the latest version.
pub const ONDAT_TELEMETRY_VERSION_CHECK: u32 = 1;
/// Switch: the sealed daily report over HTTPS.
pub const ONDAT_TELEMETRY_DAILY_REPORT: u32 = 2;
/// Switch: crash reports to Sentry over HTTPS.
pub const ONDAT_TELEMETRY_CRASH_REPORTS: u32 = 4;

/// Verdict: there is no answer yet, or none that applies (a development build).
pub const ONDAT_TELEMETRY_VERSION_UNKNOWN: i32 = 0;
/// Verdict: the running version is the latest, or newer.
pub const ONDAT_TELEMETRY_VERSION_CURRENT: i32 = 1;
/// Verdict: a newer version exists.
pub const ONDAT_TELEMETRY_VERSION_OUTDATED: i32 = 2;
/// Verdict: the vendor recommends an upgrade.
pub const ONDAT_TELEMETRY_VERSION_UPGRADE_RECOMMENDED: i32 = 3;
/// Verdict: the vendor requires an upgrade.
pub const ONDAT_TELEMETRY_VERSION_UPGRADE_REQUIRED: i32 = 4;

/// Flag of ondat_telemetry_install_crash_handler: the process contains a Go runtime, which keeps its own handlers
/// for SIGSEGV, SIGBUS and SIGFPE.
pub const ONDAT_TELEMETRY_CRASH_GO_HOST: u32 = 1;
/// Flag of ondat_telemetry_install_crash_handler: raise the soft RLIMIT_CORE to the hard one.
pub const ONDAT_TELEMETRY_CRASH_CORE_DUMPS: u32 = 2;

/// The result of a call. Numbers are never reused.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Success.
    ONDAT_TELEMETRY_OK = 0,
    /// An argument is NULL, not UTF-8, too long or out of range.
    ONDAT_TELEMETRY_INVALID_ARGUMENT = 1,
    /// A setting is missing, malformed or contradicts another one. errbuf names it.
    ONDAT_TELEMETRY_INVALID_CONFIG = 2,
    /// The call is not allowed now: started twice, made from a callback or in a forked child, or a second report of the
    /// same day.
    ONDAT_TELEMETRY_INVALID_STATE = 3,
    /// The report is malformed. errbuf names the record and the field and says what was expected.
    ONDAT_TELEMETRY_INVALID_REPORT = 4,
    /// The switch is off: nothing was sent or stored.
    ONDAT_TELEMETRY_DISABLED = 5,
    /// Something is stored and not delivered yet. Delivery is retried.
    ONDAT_TELEMETRY_QUEUED = 6,
    /// The timeout has expired.
    ONDAT_TELEMETRY_TIMED_OUT = 7,
    /// DNS, TCP, TLS or the proxy failed.
    ONDAT_TELEMETRY_NETWORK = 8,
    /// The server refused.
    ONDAT_TELEMETRY_REFUSED = 9,
    /// The answer is not signed by a configured key, has expired, or is malformed.
    ONDAT_TELEMETRY_UNTRUSTED = 10,
    /// The state directory could not be read or written.
    ONDAT_TELEMETRY_IO = 11,
    /// This kernel or this process does not allow it. errbuf says which of the two and why.
    ONDAT_TELEMETRY_UNSUPPORTED = 12,
    /// A bug in the library. It was contained: the process continues.
    ONDAT_TELEMETRY_INTERNAL = 13,
}

impl From<error::Status> for Status {
    fn from(status: error::Status) -> Self {
        match status {
            error::Status::Ok => Self::ONDAT_TELEMETRY_OK,
            error::Status::InvalidArgument => Self::ONDAT_TELEMETRY_INVALID_ARGUMENT,
            error::Status::InvalidConfig => Self::ONDAT_TELEMETRY_INVALID_CONFIG,
            error::Status::InvalidState => Self::ONDAT_TELEMETRY_INVALID_STATE,
            error::Status::InvalidReport => Self::ONDAT_TELEMETRY_INVALID_REPORT,
            error::Status::Disabled => Self::ONDAT_TELEMETRY_DISABLED,
            error::Status::Queued => Self::ONDAT_TELEMETRY_QUEUED,
            error::Status::TimedOut => Self::ONDAT_TELEMETRY_TIMED_OUT,
            error::Status::Network => Self::ONDAT_TELEMETRY_NETWORK,
            error::Status::Refused => Self::ONDAT_TELEMETRY_REFUSED,
            error::Status::Untrusted => Self::ONDAT_TELEMETRY_UNTRUSTED,
            error::Status::Io => Self::ONDAT_TELEMETRY_IO,
            error::Status::Unsupported => Self::ONDAT_TELEMETRY_UNSUPPORTED,
            error::Status::Internal => Self::ONDAT_TELEMETRY_INTERNAL,
        }
    }
}

/// What is known about versions. Do not read fields beyond struct_size.
#[repr(C)]
#[derive(Debug)]
pub struct CVersionInfo {
    /// The size of this struct in the library, in bytes.
    pub struct_size: usize,
    /// The version that was set in the config.
    pub running: *const c_char,
    /// The latest version, or NULL when it is unknown.
    pub latest: *const c_char,
    /// The id of the advisory behind the recommendation, or NULL.
    pub advisory: *const c_char,
    /// ONDAT_TELEMETRY_VERSION_UNKNOWN to ONDAT_TELEMETRY_VERSION_UPGRADE_REQUIRED.
    pub verdict: i32,
    /// Whether the signature of the answer was verified.
    pub authenticated: bool,
    /// When the zone was asked for this, in Unix seconds. 0 when there is no answer.
    pub checked_at: i64,
}

/// Receives log lines. level is a syslog(3) priority.
pub type LogFn = Option<unsafe extern "C" fn(level: c_int, message: *const c_char, userdata: *mut c_void)>;
/// Receives what is known about versions.
pub type VersionFn = Option<unsafe extern "C" fn(info: *const CVersionInfo, userdata: *mut c_void)>;
/// Fills the daily report with ondat_telemetry_report_set_cluster, _add_node and _add_volume.
pub type ReportFn = Option<unsafe extern "C" fn(report: *mut Report, userdata: *mut c_void)>;
/// Receives a text of len bytes, followed by a NUL.
pub type TextFn = Option<unsafe extern "C" fn(text: *const c_char, len: usize, userdata: *mut c_void)>;
/// Frees a callback's userdata. Called exactly once, also if the registration failed.
pub type FreeFn = Option<unsafe extern "C" fn(userdata: *mut c_void)>;

/// Hands the information to a callback in C's form.
pub(super) fn give_version(info: &VersionInfo, give: impl FnOnce(*const CVersionInfo)) {
    let text = |text: &str| std::ffi::CString::new(text).unwrap_or_default();
    let running = text(&info.running);
    let latest = info.latest.as_deref().map(text);
    let advisory = info.advisory.as_deref().map(text);
    let or_null = |text: &Option<std::ffi::CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    let given = CVersionInfo {
        struct_size: size_of::<CVersionInfo>(),
        running: running.as_ptr(),
        latest: or_null(&latest),
        advisory: or_null(&advisory),
        verdict: info.verdict as i32,
        authenticated: info.authenticated,
        checked_at: info.checked_at,
    };
    give(&raw const given);
}
