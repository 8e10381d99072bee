//! What the host gives: the functions that it wants called, and what it is given in them.

use std::cell::Cell;

use crate::sys::held_signals::as_the_host;
use std::ops::Deref;
use std::sync::Arc;

use ondat_telemetry_protocol::fields::Level;

use crate::error::Error;
use crate::version::verdict::Verdict;

/// Takes log lines: a syslog(3) priority and one line.
pub type LogFn = Arc<dyn Fn(i32, &str) + Send + Sync>;
/// Takes news about versions.
pub type VersionFn = Arc<dyn Fn(&VersionInfo) + Send + Sync>;
/// Fills the daily report.
pub type ReportFn = Arc<dyn Fn(&Report<'_>) + Send + Sync>;

/// syslog(3) priorities.
pub mod priority {
    /// Something does not work.
    pub const WARNING: i32 = 4;
    /// Something that people should know.
    pub const NOTICE: i32 = 5;
    /// Normal events.
    pub const INFO: i32 = 6;
    /// Details.
    pub const DEBUG: i32 = 7;
}

/// What is known about versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionInfo {
    /// The running version as it was given.
    pub running: String,
    /// The latest version, when known.
    pub latest: Option<String>,
    /// The advisory behind a recommendation.
    pub advisory: Option<String>,
    /// How the running version stands.
    pub verdict: Verdict,
    /// Whether a configured key signed the answer.
    pub authenticated: bool,
    /// Unix seconds of the answer this rests on, 0 when none.
    pub checked_at: i64,
    /// When that answer expires, Unix seconds.
    pub expires: Option<i64>,
}

/// The host's functions. Dropping the last copy frees their userdata.
#[derive(Clone, Default)]
pub struct Callbacks {
    /// Takes log lines up to this syslog(3) priority.
    pub log: Option<(i32, LogFn)>,
    /// Told when the verdict, the latest version or the advisory changes.
    pub on_version: Option<VersionFn>,
    /// Fills the daily report.
    pub on_report: Option<ReportFn>,
}

/// What a report callback fills.
pub trait Filling {
    /// Whether this is a child of the process that makes the report: both would write into one file.
    fn is_forked(&self) -> bool;
    /// Whether an administrator only asks what would be sent: the report of the day is yet to come.
    fn is_preview(&self) -> bool;
    /// Sets the cluster fields from one JSON object.
    fn set_cluster_json(&self, json: &[u8]) -> Result<(), Error>;
    /// Adds one node or volume from one JSON object.
    fn add_json(&self, level: Level, json: &[u8]) -> Result<(), Error>;
}

/// The report in the making, as the host has it in its callback: what a pointer in C is to.
pub struct Report<'a>(pub &'a (dyn Filling + Sync));

impl<'a> Deref for Report<'a> {
    type Target = dyn Filling + Sync + 'a;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

thread_local! {
    /// The process that runs a host's callback on this thread, 0 for none: a child that is forked in a callback is in none.
    static IN_CALLBACK: Cell<u32> = const { Cell::new(0) };
}

/// Runs a host's callback: calls that wait are refused inside it, and signals are as the host has them.
pub fn in_callback<T>(callback: impl FnOnce() -> T) -> T {
    let _mark = CallbackMark::set();
    as_the_host(callback)
}

/// Whether this thread runs a host's callback.
pub fn is_in_callback() -> bool {
    let process = IN_CALLBACK.get();
    process != 0 && process == std::process::id()
}

/// Marks the calling thread as inside a host's callback until dropped.
struct CallbackMark {
    before: u32,
}

impl CallbackMark {
    fn set() -> Self {
        Self { before: IN_CALLBACK.replace(std::process::id()) }
    }
}

impl Drop for CallbackMark {
    fn drop(&mut self) {
        IN_CALLBACK.set(self.before);
    }
}
