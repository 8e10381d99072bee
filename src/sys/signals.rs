//! Signals, and the descriptors a program is started with.
#![allow(unsafe_code, reason = "signal(2) and inherited descriptors have no safe form")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use crate::error::Error;

/// All signals are blocked on this thread until dropped; a thread started meanwhile inherits the mask.
pub struct AllSignalsBlocked {
    before: SigSet,
}

impl AllSignalsBlocked {
    /// Blocks them.
    pub fn set() -> Result<Self, Error> {
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
            .map_err(|error| Error::Unsupported(format!("blocking signals: {error}")))?;
        Ok(Self { before })
    }
}

impl Drop for AllSignalsBlocked {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Ignores these signals in the whole process.
pub fn ignore(signals: &[i32]) -> io::Result<()> {
    for &signal in signals {
        // SAFETY: no handler is installed, only the disposition SIG_IGN.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The descriptor with this number, if it is open and nobody else's: one that this process was started with.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: asks whether the number is open; if so, the caller says that nothing else in this process owns it.
    unsafe {
        if libc::fcntl(number, libc::F_GETFD) < 0 {
            return None;
        }
        Some(OwnedFd::from_raw_fd(number))
    }
}
