//! What went wrong, where, and what to do about it, in one line.

use std::fmt;
use std::path::Path;

/// The program's one error type: a line for the person who started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault(String);

impl Fault {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }

    /// `what` failed on `path`, because of `why`.
    pub(crate) fn at(what: &str, path: &Path, why: impl fmt::Display) -> Self {
        Self(format!("cannot {what} {}: {why}", path.display()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a file name or a sender put into it.
        for part in self.0.split(|c: char| c.is_control()) {
            f.write_str(part)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
