//! How far it is, on a terminal; and what went wrong, each on a line of its own.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// As often is the line written anew.
const PAUSE: Duration = Duration::from_millis(200);

/// A line that is overwritten, where the standard error is a terminal.
pub(crate) struct Progress {
    is_shown: bool,
    done: usize,
    all: usize,
    shown: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), done: 0, all: 0, shown: None }
    }

    pub(crate) fn expect(&mut self, all: usize) {
        self.all = all;
    }

    pub(crate) fn pass(&mut self, done: usize) {
        self.done += done;
        if self.is_shown && self.shown.is_none_or(|shown| shown.elapsed() >= PAUSE) {
            let _ = write!(std::io::stderr(), "\r{} of {} bodies\x1b[K", self.done, self.all);
            self.shown = Some(Instant::now());
        }
    }

    /// Says a line.
    pub(crate) fn complain(&mut self, line: &str) {
        self.end();
        crate::complain(line);
    }

    /// Takes the line away.
    pub(crate) fn end(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
