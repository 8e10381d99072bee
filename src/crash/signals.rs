//! Names of signals and of their causes.

/// Signals of Linux on x86_64 and aarch64 by number, signal(7).
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The signal's name; real-time signals have numbers only.
pub fn name(signal: i32) -> String {
    let named = usize::try_from(signal).ok().and_then(|number| NAMES.get(number.checked_sub(1)?));
    named.map_or_else(|| format!("SIG{signal}"), |name| (*name).to_owned())
}

/// Why the kernel sent the signal (`si_code`, sigaction(2)); none where nothing is known or a process sent it.
pub fn cause(signal: i32, code: i32) -> Option<&'static str> {
    Some(match (signal, code) {
        (libc::SIGSEGV, 1) => "address not mapped",
        (libc::SIGSEGV, 2) => "access not permitted",
        (libc::SIGSEGV, 3) => "bounds check failed",
        (libc::SIGSEGV, 4) => "protection key",
        (libc::SIGSEGV, 0x80) => "general protection",
        (libc::SIGBUS, 1) => "misaligned address",
        (libc::SIGBUS, 2) => "address beyond the object",
        (libc::SIGBUS, 3) => "object error",
        (libc::SIGBUS, 4 | 5) => "memory error",
        (libc::SIGFPE, 1) => "integer division by zero",
        (libc::SIGFPE, 2) => "integer overflow",
        (libc::SIGFPE, 3) => "division by zero",
        (libc::SIGFPE, 4..=8) => "floating-point exception",
        (libc::SIGILL, 1..=8) => "illegal instruction",
        (libc::SIGTRAP, 1 | 2 | 0x80) => "trap",
        (libc::SIGSYS, 1) => "system call not allowed",
        (_, 0 | -1 | -6) => "sent by a process",
        _ => return None,
    })
}
