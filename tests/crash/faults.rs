//! Faults of an instruction, and signals that say the same.

use crate::victim::killed;

#[test]
fn null_dereference() {
    killed("segv", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn null_dereference_in_a_thread() {
    killed("segv_thread", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn null_dereference_in_a_thread_with_all_signals_blocked() {
    killed("segv_blocked", libc::SIGSEGV, "SIGSEGV", None);
}

#[test]
fn bus_error() {
    killed("bus", libc::SIGBUS, "SIGBUS", Some("address beyond the object"));
}

#[cfg(target_arch = "x86_64")] // aarch64 divides by zero without a fault
#[test]
fn division_by_zero() {
    killed("fpe", libc::SIGFPE, "SIGFPE", Some("integer division by zero"));
}

#[test]
fn illegal_instruction() {
    killed("ill", libc::SIGILL, "SIGILL", Some("illegal instruction"));
}

#[test]
fn breakpoint() {
    killed("trap", libc::SIGTRAP, "SIGTRAP", Some("trap"));
}

#[test]
fn abort() {
    killed("abort", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn raised_segv() {
    killed("raise_segv", libc::SIGSEGV, "SIGSEGV", Some("sent by a process"));
}

#[test]
fn sent_sigsys() {
    killed("kill_sys", libc::SIGSYS, "SIGSYS", Some("sent by a process"));
}

#[test]
fn raised_xcpu() {
    killed("xcpu", libc::SIGXCPU, "SIGXCPU", Some("sent by a process"));
}
