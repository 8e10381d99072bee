//! Every name in the state directory, in one place.

/// The folder in a directory that others may write to: this and the number of the user.
pub const OWN_FOLDER: &str = "ondat-telemetry-";

/// The administrator's word on the switches.
pub const SWITCHES: &str = "switches.json";
/// Room for the next one, for a disk that is full by then.
pub const SWITCHES_RESERVE: &str = "switches.reserve";
/// Held from reading to writing of what the administrator changes.
pub const SWITCHES_LOCK: &str = "switches.lock";
/// Where a copy of an unreadable one goes.
pub const SWITCHES_DAMAGED: &str = "switches.json.damaged";
/// One line for each change of the administrator's.
pub const AUDIT: &str = "audit.jsonl";
/// Where it goes when it is full; what was there goes.
pub const AUDIT_BEFORE: &str = "audit.jsonl.1";
/// When the administrator was told what is sent.
pub const NOTICE: &str = "notice.json";
/// The key of the anonymised ids, where there is one of its own.
pub const IDENTITY_KEY: &str = "identity.key";
/// What commands are told beside their environment; daemons do not read it.
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
/// What the name of the folder that is locked while a run goes on has after its marker's.
pub const RUN_LOCK: &str = ".lock";
/// Why the last try of each kind has failed.
pub const FAILURES: &str = "failures";
/// What running processes say of themselves.
pub const PROCESSES: &str = "processes";
/// What the name of the socket at which such a process is asked has after the process's.
pub const DOOR: &str = ".ask";

/// What a damaged file of this name is called once it is out of the way.
pub fn damaged(name: &str) -> String {
    format!("{name}.damaged")
}

/// Names of files being written. Whatever bears one and is not locked was left by a process that died.
pub(super) const TEMPORARY: &str = ".tmp-";
/// Names of files that were put out of the way in their folder.
pub(super) const SET_ASIDE: &str = ".damaged-";
