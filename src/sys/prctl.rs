//! prctl(2), by system calls alone: also for forked children of a host with threads.
#![allow(unsafe_code, reason = "prctl(2) has no safe form")]

use libc::{c_int, c_ulong};

/// This process is killed when the thread that has made it ends.
pub fn die_with_parent() {
    set(libc::PR_SET_PDEATHSIG, libc::SIGKILL.unsigned_abs().into());
}

/// This process leaves no core file, and cannot be traced.
pub fn be_undumpable() {
    set(libc::PR_SET_DUMPABLE, 0);
}

/// This thread's timers are as late as they were when the process began, which 0 stands for.
pub fn forget_timer_slack() {
    set(libc::PR_SET_TIMERSLACK, 0);
}

/// The kernel reads unsigned longs. Of an int, a call with variable arguments leaves the upper half open; some options fail where
/// what they do not use is not 0.
fn set(option: c_int, value: c_ulong) {
    const UNUSED: c_ulong = 0;
    // SAFETY: none of the options above takes an address.
    unsafe { libc::prctl(option, value, UNUSED, UNUSED, UNUSED) };
}
