//! How children have ended, waitpid(2).
#![allow(unsafe_code, reason = "nix knows no children ended by real-time signals")]

use nix::unistd::Pid;

/// How a child has changed.
pub enum Change {
    /// It has ended with this wait status.
    Ended(i32),
    /// This signal has stopped it.
    Stopped(i32),
}

/// A child that has ended and is not reaped yet; none where there is none.
pub fn next_ended() -> Option<Pid> {
    // SAFETY: zeroed memory is a valid structure, which the kernel fills.
    unsafe {
        let mut info = std::mem::zeroed::<libc::siginfo_t>();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, flags) != 0 {
            return None;
        }
        Some(info.si_pid()).filter(|pid| *pid > 0).map(Pid::from_raw)
    }
}

/// The next change of any child; none where nothing has changed.
pub fn next_change() -> Option<(Pid, Change)> {
    loop {
        let mut status = 0;
        // SAFETY: fills a local.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
        if pid <= 0 {
            return None;
        }
        let pid = Pid::from_raw(pid);
        if libc::WIFSTOPPED(status) {
            return Some((pid, Change::Stopped(libc::WSTOPSIG(status))));
        }
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return Some((pid, Change::Ended(status)));
        }
    }
}
