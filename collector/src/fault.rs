//! What went wrong, where, and what to do about it, in one line, as an error of the library. The exit statuses are
//! those of `ondat-telemetry`.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use ondat_telemetry::error::Error;
use ondat_telemetry_command::plain;

/// A file that an option names, or what is in it, is of no use.
pub(crate) fn unusable(what: &str, path: &Path, why: impl fmt::Display) -> Error {
    Error::InvalidArgument(line(what, path, why))
}

/// The collector's folder, or something in it, cannot be read or written.
pub(crate) fn disk(what: &str, path: &Path, why: impl fmt::Display) -> Error {
    Error::Io(line(what, path, why))
}

/// What happens to no one who has given it what it needs.
pub(crate) fn internal(what: &str, why: impl fmt::Display) -> Error {
    Error::Internal(format!("{what}: {why}"))
}

/// What became of printing. False where nobody reads any more, such as `head`, which has seen enough.
pub(crate) fn printed(outcome: io::Result<()>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(why) => Err(internal("standard output", why)),
    }
}

/// Says a line on the standard error. There is nobody left to tell when that fails.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "ondat-telemetry-collector: {}", plain::text(line));
}

fn line(what: &str, path: &Path, why: impl fmt::Display) -> String {
    format!("cannot {what} {}: {why}", path.display())
}
