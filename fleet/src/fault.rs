//! What went wrong, where, and what to do about it, in one line, as an error of the library. The exit statuses are those
//! of the other commands.

use std::fmt;
use std::path::Path;

use ondat_telemetry::error::Error;

/// A file that an option names, or what is in it, is of no use.
pub(crate) fn unusable(what: &str, path: &Path, why: impl fmt::Display) -> Error {
    Error::InvalidArgument(line(what, path, why))
}

/// The data folder, or something in it, cannot be read or written.
pub(crate) fn disk(what: &str, path: &Path, why: impl fmt::Display) -> Error {
    Error::Io(line(what, path, why))
}

fn line(what: &str, path: &Path, why: impl fmt::Display) -> String {
    format!("cannot {what} {}: {why}", path.display())
}
