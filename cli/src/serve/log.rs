//! The log of `serve` on the standard error, in the level and format of the cluster's settings.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use ondat_telemetry::sys::clock::{Clock, SystemClock};
use ondat_telemetry_protocol::time::rfc3339;
use serde_json::json;

use crate::administration::Word;
use crate::complain;

/// How important a line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Every request.
    Debug,
    /// What was changed, and by whom.
    Info,
    /// What somebody should look at.
    Warn,
    /// What does not work.
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

/// The log.
pub(crate) struct Log {
    least: AtomicU8,
    is_json: AtomicBool,
}

impl Log {
    /// As the settings say.
    pub(crate) fn new(word: Option<&Word>) -> Self {
        let log = Self { least: AtomicU8::new(Level::Info as u8), is_json: AtomicBool::new(false) };
        if let Some(word) = word {
            log.follow(word);
        }
        log
    }

    /// The settings have changed.
    pub(crate) fn follow(&self, word: &Word) {
        let levels = [Level::Debug, Level::Info, Level::Warn, Level::Error];
        let least = levels.into_iter().find(|level| level.name() == word.log_level()).unwrap_or(Level::Info);
        self.least.store(least as u8, Ordering::Relaxed);
        self.is_json.store(word.log_format() == "json", Ordering::Relaxed);
    }

    /// Says a line.
    pub(crate) fn say(&self, level: Level, text: &str) {
        if (level as u8) >= self.least.load(Ordering::Relaxed) {
            self.insist(level, text);
        }
    }

    /// Says a line whatever the settings say.
    pub(crate) fn insist(&self, level: Level, text: &str) {
        if self.is_json.load(Ordering::Relaxed) {
            let time = rfc3339(SystemClock::new().now().unix);
            let line = json!({ "level": level.name(), "msg": text, "time": time });
            // Nobody is left to be told that the standard error is closed.
            let _ = writeln!(std::io::stderr(), "{line}");
        } else {
            // Names and addresses come from outside: one line stays one line.
            let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            complain(&format!("serve: {text}"));
        }
    }
}
