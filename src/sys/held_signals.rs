//! The signals that a write raises: held back while the library writes, and let through while the host's code runs.
#![allow(unsafe_code, reason = "pending signals have no safe form")]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;

use super::thread;

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

#[cfg(test)]
mod tests {
    use nix::sys::signal::SigSet;

    use super::*;
    use crate::sys::signals::{block, set_default, unblock};

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
