//! The log of `serve` on standard error. The cluster's settings say its level and format.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use ondat_telemetry::sys::clock::{Clock, SystemClock};
use ondat_telemetry_protocol::time::rfc3339;
use serde_json::json;

use crate::administration::Word;
use crate::complain;

/// The level of a line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Each request.
    Debug,
    /// Each change, with its author.
    Info,
    /// A condition that somebody should look at.
    Warn,
    /// A failure.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The log, which follows the settings.
pub(crate) struct Log {
    least: AtomicU8,
    is_json: AtomicBool,
}

impl Log {
    /// Creates a log with the level and format of these settings.
    pub(crate) fn new(word: Option<&Word>) -> Self {
        let log = Self { least: AtomicU8::new(Level::Info as u8), is_json: AtomicBool::new(false) };
        if let Some(word) = word {
            log.follow(word);
        }
        log
    }

    /// Adopts changed settings.
    pub(crate) fn follow(&self, word: &Word) {
        let levels = [Level::Debug, Level::Info, Level::Warn, Level::Error];
        let least = levels.into_iter().find(|level| level.name() == word.log_level()).unwrap_or(Level::Info);
        self.least.store(least as u8, Ordering::Relaxed);
        self.is_json.store(word.log_format() == "json", Ordering::Relaxed);
    }

    /// Writes a line if its level is on.
    pub(crate) fn say(&self, level: Level, text: &str) {
        if (level as u8) >= self.least.load(Ordering::Relaxed) {
            self.insist(level, text);
        }
    }

    /// Writes a line at any level.
    pub(crate) fn insist(&self, level: Level, text: &str) {
        if self.is_json.load(Ordering::Relaxed) {
            let time = rfc3339(SystemClock::new().now().unix);
            let line = json!({ "level": level.name(), "msg": text, "time": time });
            // If standard error is closed, there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{line}");
        } else {
            // Names and addresses come from clients. One line must stay one line.
            let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            complain(&format!("serve: {text}"));
        }
    }
}
