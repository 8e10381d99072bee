//! Every name in the state directory, in one place.

/// The folder in a directory that others may write to: this and the number of the user.
pub const OWN_FOLDER: &str = "ondat-telemetry-";

/// The administrator's word on the switches.
pub const SWITCHES: &str = "switches.json";
/// Room for the next one, for a disk that is full by then.
pub const SWITCHES_RESERVE: &str = "switches.reserve";
/// The lock held from reading to writing the administrator's file.
pub const SWITCHES_LOCK: &str = "switches.lock";
/// The copy of an unreadable one.
pub const SWITCHES_DAMAGED: &str = "switches.json.damaged";
/// One line for each change of a switch or another setting of the administrator.
pub const AUDIT: &str = "audit.jsonl";
/// The name of the audit file once it is full. It replaces the one before.
pub const AUDIT_BEFORE: &str = "audit.jsonl.1";
/// When the administrator was told what is sent.
pub const NOTICE: &str = "notice.json";
/// The key of the anonymised ids, where there is one of its own.
pub const IDENTITY_KEY: &str = "identity.key";
/// Settings for commands in addition to their environment; daemons do not read it.
pub const SETTINGS: &str = "settings.env";
/// The users who may log in to `serve`.
pub const USERS: &str = "users.json";
/// The password of one run of `serve`.
pub const RUN_PASSWORD: &str = "serve.password";

/// What is remembered of the version check.
pub const VERSION: &str = "version.json";
/// Held from reading to writing it.
pub const VERSION_LOCK: &str = "version.lock";
/// What is remembered of daily reports.
pub const REPORT: &str = "report.json";
/// Held from reading to writing it.
pub const REPORT_MEMORY_LOCK: &str = "report-memory.lock";
/// Held while a report is made.
pub const REPORT_LOCK: &str = "report.lock";
/// What is remembered of crash reports.
pub const CRASH: &str = "crash.json";
/// Held from reading to writing it.
pub const CRASH_LOCK: &str = "crash-memory.lock";
/// The core files that are known of.
pub const CORES: &str = "cores.json";
/// Held from reading to writing it.
pub const CORES_LOCK: &str = "cores.lock";

/// Sealed reports that wait.
pub const REPORTS: &str = "spool/reports";
/// Crash reports that wait.
pub const CRASHES: &str = "spool/crashes";
/// Copies of the last reports, for the administrator.
pub const SENT: &str = "sent";
/// Copies of the last crash reports that were delivered, likewise.
pub const SENT_CRASHES: &str = "sent/crashes";
/// Run markers.
pub const RUN: &str = "run";
/// The suffix, after the marker's name, of the folder that is locked while a run goes on.
pub const RUN_LOCK: &str = ".lock";
/// Why the last try of each kind has failed.
pub const FAILURES: &str = "failures";
/// The files in which running processes describe themselves.
pub const PROCESSES: &str = "processes";
/// The suffix, after the process's name, of the socket at which such a process is asked.
pub const DOOR: &str = ".ask";

/// The name of a damaged file once it is set aside.
pub fn damaged(name: &str) -> String {
    format!("{name}.damaged")
}

/// The prefix of files that are being written. One that is not locked was left by a process that died.
pub(super) const TEMPORARY: &str = ".tmp-";
/// The prefix of files that were set aside in their folder.
pub(super) const SET_ASIDE: &str = ".damaged-";
