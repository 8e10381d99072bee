//! The exit status of a failure: scripts branch on it, so it is part of the interface.

use ondat_telemetry::error::{Error, Status};

/// The exit status of a failure.
pub fn of_error(error: &Error) -> u8 {
    match error.status() {
        Status::InvalidArgument | Status::InvalidConfig | Status::InvalidState | Status::InvalidReport => 2,
        Status::Disabled => 3,
        Status::TimedOut | Status::Network => 4,
        Status::Untrusted => 5,
        Status::Queued => 6,
        Status::Refused => 7,
        Status::Io => 8,
        Status::Ok | Status::Unsupported | Status::Internal => 1,
    }
}
