//! The signals that a server follows.

use std::io;

use ondat_telemetry::error::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// SIGHUP: to read the certificate anew, and go on.
    Reload,
    /// SIGTERM, SIGINT.
    End,
}

/// What is watched for, from when it is made: an early signal is not lost.
pub struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to watch.
    pub fn new() -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Internal(format!("cannot watch for signals: {error}"));
        Ok(Self {
            hang_up: signal(SignalKind::hangup()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
        }
    }
}
