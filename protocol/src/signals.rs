//! Names of signals and of their causes.

/// Numbers of Linux on x86_64 and aarch64, signal(7): the processors that this is built for have the same.
pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGINT: i32 = 2;
pub(crate) const SIGQUIT: i32 = 3;
pub(crate) const SIGILL: i32 = 4;
pub(crate) const SIGTRAP: i32 = 5;
pub(crate) const SIGBUS: i32 = 7;
pub(crate) const SIGFPE: i32 = 8;
pub(crate) const SIGSEGV: i32 = 11;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGSYS: i32 = 31;

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
        (SIGSEGV, 1) => "address not mapped",
        (SIGSEGV, 2) => "access not permitted",
        (SIGSEGV, 3) => "bounds check failed",
        (SIGSEGV, 4) => "protection key",
        (SIGSEGV, 0x80) => "general protection",
        (SIGBUS, 1) => "misaligned address",
        (SIGBUS, 2) => "address beyond the object",
        (SIGBUS, 3) => "object error",
        (SIGBUS, 4 | 5) => "memory error",
        (SIGFPE, 1) => "integer division by zero",
        (SIGFPE, 2) => "integer overflow",
        (SIGFPE, 3) => "division by zero",
        (SIGFPE, 4..=8) => "floating-point exception",
        (SIGILL, 1..=8) => "illegal instruction",
        (SIGTRAP, 1 | 2 | 0x80) => "trap",
        (SIGSYS, 1) => "system call not allowed",
        (_, 0 | -1 | -6) => "sent by a process",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_c_library() {
        for (number, of_libc) in [
            (SIGHUP, libc::SIGHUP),
            (SIGINT, libc::SIGINT),
            (SIGQUIT, libc::SIGQUIT),
            (SIGILL, libc::SIGILL),
            (SIGTRAP, libc::SIGTRAP),
            (SIGBUS, libc::SIGBUS),
            (SIGFPE, libc::SIGFPE),
            (SIGSEGV, libc::SIGSEGV),
            (SIGTERM, libc::SIGTERM),
            (SIGSYS, libc::SIGSYS),
        ] {
            assert_eq!(number, of_libc, "{}", name(of_libc));
        }
        assert_eq!(
            (name(libc::SIGPWR), name(libc::SIGSYS), name(34)),
            ("SIGPWR".into(), "SIGSYS".into(), "SIG34".into())
        );
    }
}
