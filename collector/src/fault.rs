//! Errors of the library that say in one line what went wrong, where, and what to do about it. The exit statuses are those of
//! `ondat-telemetry`.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use ondat_telemetry::error::Error;
use ondat_telemetry_command::plain;

/// The error about a file that an option names, or about its content.
pub(crate) fn unusable(what: &str, path: &Path, why: impl fmt::Display) -> Error {
    Error::InvalidArgument(line(what, path, why))
}

/// The error about the collector's folder, or something in it, that cannot be read or written.
pub(crate) fn disk(what: &str, path: &Path, why: impl fmt::Display) -> Error {
    Error::Io(line(what, path, why))
}

/// The error that no user can cause.
pub(crate) fn internal(what: &str, why: impl fmt::Display) -> Error {
    Error::Internal(format!("{what}: {why}"))
}

/// Returns whether printing worked. False: nobody reads any more, as after `head`.
pub(crate) fn printed(outcome: io::Result<()>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(why) => Err(internal("standard output", why)),
    }
}

/// Prints a line on standard error. If that fails, there is nobody to tell.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "ondat-telemetry-collector: {}", plain::text(line));
}

fn line(what: &str, path: &Path, why: impl fmt::Display) -> String {
    format!("cannot {what} {}: {why}", path.display())
}
