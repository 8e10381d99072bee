//! Signals, and the descriptors that a program is started with.
#![allow(unsafe_code, reason = "signal(2) and inherited descriptors have no safe form")]

use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::{io, ptr};

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

/// The signal mask that this process was started with.
pub struct Mask(SigSet);

impl Mask {
    /// Blocks every signal and keeps what was. A fault of this process itself ends it all the same.
    pub fn block_all() -> nix::Result<Self> {
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
        Ok(Self(before))
    }

    /// Sets it again.
    pub fn restore(&self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.0), None);
    }
}

/// Unblocks one signal.
pub fn unblock(signal: i32) {
    change_mask(libc::SIG_UNBLOCK, signal);
}

/// Blocks one signal.
pub fn block(signal: i32) {
    change_mask(libc::SIG_BLOCK, signal);
}

fn change_mask(how: i32, signal: i32) {
    // SAFETY: a set on the stack that sigemptyset fills before it is read; real-time signals are not in nix's enum.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(how, set.as_ptr(), ptr::null_mut());
    }
}

/// Whether the process ignores this signal.
pub fn is_ignored(signal: i32) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a query; the kernel fills the structure.
    unsafe {
        libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) == 0 && now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Sets this signal to its default action; what a parent ignored stays ignored in its children.
pub fn set_default(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
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

/// The descriptor with this number that this process was started with, if it is open and not taken yet.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: asks whether the number is open; if so, the caller says that nothing else in this process owns it.
    unsafe {
        if libc::fcntl(number, libc::F_GETFD) < 0 {
            return None;
        }
        Some(OwnedFd::from_raw_fd(number))
    }
}
