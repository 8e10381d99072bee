//! Signals, and the descriptors that a program is started with.
#![allow(unsafe_code, reason = "signal(2) and inherited descriptors have no safe form")]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

use super::thread;
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

/// The signals that a write raises in its thread: SIGPIPE without a reader, SIGXFSZ beyond RLIMIT_FSIZE. Both end a process
/// that does not expect them.
const OF_WRITES: [libc::c_int; 2] = [libc::SIGPIPE, libc::SIGXFSZ];

thread_local! {
    static HELD: Cell<Option<Held>> = const { Cell::new(None) };
}

/// How the thread was before they were held.
#[derive(Clone, Copy)]
struct Held {
    mask: libc::sigset_t,
    was_pending: [bool; 2],
}

impl Held {
    fn begin() -> Self {
        // SAFETY: sets on the stack, initialised before they are read.
        let mask: libc::sigset_t = unsafe {
            let (mut before, mut held) = (MaybeUninit::zeroed(), MaybeUninit::<libc::sigset_t>::zeroed());
            libc::sigemptyset(held.as_mut_ptr());
            for signal in OF_WRITES {
                libc::sigaddset(held.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, held.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        // What was not blocked was delivered, and so is not pending. A system call for each record of a report would be felt.
        // SAFETY: a set that the kernel has filled.
        let was_blocked = OF_WRITES.iter().any(|signal| unsafe { libc::sigismember(&raw const mask, *signal) } == 1);
        Self { mask, was_pending: if was_blocked { pending() } else { [false; 2] } }
    }

    fn end(self) {
        let is_pending = pending();
        for (number, signal) in OF_WRITES.into_iter().enumerate() {
            if is_pending[number] && !self.was_pending[number] {
                take_own(signal);
            }
        }
        // SAFETY: the mask that the thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, ptr::null_mut()) };
    }
}

fn pending() -> [bool; 2] {
    // SAFETY: the kernel fills the set, which is empty where it does not.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigpending(set.as_mut_ptr());
        OF_WRITES.map(|signal| libc::sigismember(set.as_ptr(), signal) == 1)
    }
}

/// Takes a pending signal of our own. One that another process has sent meanwhile is sent again.
fn take_own(signal: libc::c_int) {
    // SAFETY: sets on the stack; no time to wait. Of two, the kernel gives the thread's own first, which is that of a write
    // and bears this process's number.
    unsafe {
        let (mut set, mut info) = (MaybeUninit::<libc::sigset_t>::zeroed(), MaybeUninit::<libc::siginfo_t>::zeroed());
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        if libc::sigtimedwait(set.as_ptr(), info.as_mut_ptr(), &raw const none) == signal {
            let info = info.assume_init();
            if info.si_code != libc::SI_USER || info.si_pid() != libc::getpid() {
                libc::kill(libc::getpid(), signal);
            }
        }
    }
}

/// Until this is dropped, writes of the calling thread raise no signal that the host gets: they fail, which is enough.
pub struct WritesRaiseNothing {
    outer: Option<Held>,
}

impl WritesRaiseNothing {
    /// From now on. Threads of ours have all signals blocked, and never take what is pending.
    pub fn set() -> Self {
        Self { outer: HELD.replace((!thread::is_ours()).then(Held::begin)) }
    }
}

impl Drop for WritesRaiseNothing {
    fn drop(&mut self) {
        if let Some(held) = HELD.replace(self.outer) {
            held.end();
        }
    }
}

/// Runs the host's code in the middle of a call, with the signals as the host had them.
pub fn as_the_host<T>(callback: impl FnOnce() -> T) -> T {
    struct Again(bool);
    impl Drop for Again {
        fn drop(&mut self) {
            if self.0 {
                // The host may have changed its mask meanwhile.
                HELD.set(Some(Held::begin()));
            }
        }
    }
    let held = HELD.take();
    let _again = Again(held.is_some());
    if let Some(held) = held {
        held.end();
    }
    callback()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A write that raises SIGPIPE where it is not held back.
    fn write_into_nothing() -> nix::Error {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        nix::unistd::write(&writer, b"x").unwrap_err()
    }

    fn blocked_sigpipe() -> bool {
        SigSet::thread_get_mask().unwrap().contains(nix::sys::signal::SIGPIPE)
    }

    #[test]
    fn a_write_into_nothing_raises_nothing_and_leaves_nothing_pending() {
        // Rust's runtime ignores SIGPIPE in tests: then none would come.
        set_default(libc::SIGPIPE);
        let held = WritesRaiseNothing::set();
        assert_eq!(write_into_nothing(), nix::Error::EPIPE);
        assert_eq!(pending(), [true, false]);
        as_the_host(|| assert!(!blocked_sigpipe()));
        assert_eq!(pending(), [false, false]);
        write_into_nothing();
        {
            let _inner = WritesRaiseNothing::set();
            write_into_nothing();
        }
        drop(held);
        assert_eq!(pending(), [false, false]);
        assert!(!blocked_sigpipe());
    }

    #[test]
    fn what_the_host_held_pending_stays() {
        set_default(libc::SIGPIPE);
        block(libc::SIGPIPE);
        write_into_nothing();
        assert!(pending()[0]);
        let held = WritesRaiseNothing::set();
        write_into_nothing();
        drop(held);
        assert!(pending()[0] && blocked_sigpipe());
        take_own(libc::SIGPIPE);
        assert!(!pending()[0]);
        unblock(libc::SIGPIPE);
    }
}
