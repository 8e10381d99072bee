//! How a process ended, as the kernel says: the status word of waitpid(2).

use crate::signals;

/// Whether a core was dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreDump {
    /// The kernel wrote one, or handed it to the program of core_pattern.
    Yes,
    /// It did not.
    No,
    /// The wait status could not be read.
    Unknown,
}

impl CoreDump {
    /// The value of the tag `core_dump`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "true",
            Self::No => "false",
            Self::Unknown => "unknown",
        }
    }
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It called exit with this code, 0..=255.
    Exited(u8),
    /// This signal ended it.
    Killed {
        /// The signal's number.
        signal: i32,
        /// Whether a core was dumped.
        core_dump: CoreDump,
    },
    /// How is not known; that it was a crash is, by the process's own words.
    Unknown,
}

impl Ending {
    /// Reads a wait status; none for a process that has only stopped or continued.
    pub fn from_wait_status(status: i32) -> Option<Self> {
        // wait(2): the low seven bits are the signal, 0x80 the core dump, 0x7f a stop; the second byte the code.
        let signal = status & 0x7f;
        if status & !0xffff != 0 || signal == 0x7f || (signal != 0 && status & 0xff00 != 0) {
            return None;
        }
        if signal == 0 {
            if status & 0x80 != 0 {
                return None;
            }
            return Some(Self::Exited(u8::try_from(status >> 8).ok()?));
        }
        let core_dump = if status & 0x80 == 0 { CoreDump::No } else { CoreDump::Yes };
        Some(Self::Killed { signal, core_dump })
    }

    /// Whether this is a crash: not a success, not one of the signals by which people and service managers stop a process,
    /// and not the exit code by which a program answers such a signal, 128 and its number.
    pub fn is_crash(self) -> bool {
        match self {
            Self::Exited(code) => !matches!(code, 0 | 129 | 130 | 131 | 143),
            Self::Unknown => true,
            Self::Killed { signal, .. } => {
                !matches!(signal, signals::SIGTERM | signals::SIGINT | signals::SIGHUP | signals::SIGQUIT)
            }
        }
    }

    /// The signal's name or the exit code: what reports are grouped by.
    pub fn name(self) -> String {
        match self {
            Self::Exited(code) => code.to_string(),
            Self::Killed { signal, .. } => signals::name(signal),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_word_is_read_as_wait_2_says() {
        assert_eq!(Ending::from_wait_status(0), Some(Ending::Exited(0)));
        assert_eq!(Ending::from_wait_status(3 << 8), Some(Ending::Exited(3)));
        assert_eq!(Ending::from_wait_status(11), Some(Ending::Killed { signal: 11, core_dump: CoreDump::No }));
        assert_eq!(Ending::from_wait_status(139), Some(Ending::Killed { signal: 11, core_dump: CoreDump::Yes }));
        assert_eq!(Ending::from_wait_status(0x137f), None);
        assert_eq!(Ending::from_wait_status(0xffff), None);
        assert_eq!(Ending::from_wait_status(-1), None);
    }

    #[test]
    fn every_status_word_is_read_as_the_c_library_reads_it() {
        for status in 0..=0xffff {
            let by_library = if libc::WIFEXITED(status) {
                Some(Ending::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap()))
            } else if libc::WIFSIGNALED(status) {
                let core_dump = if libc::WCOREDUMP(status) { CoreDump::Yes } else { CoreDump::No };
                Some(Ending::Killed { signal: libc::WTERMSIG(status), core_dump })
            } else {
                // 0x7f in the low byte is a stop, 0xffff a continuation; no kernel makes 0xff with another code.
                let has_ended = !libc::WIFSTOPPED(status) && !libc::WIFCONTINUED(status) && status & 0xff != 0xff;
                assert!(!has_ended, "{status:#x}");
                None
            };
            // The macros look at some bits only. No kernel makes words that have others too.
            let is_made_by_kernels = match by_library {
                Some(Ending::Exited(_)) => status & 0xff == 0,
                Some(Ending::Killed { .. }) => status & 0xff00 == 0,
                _ => true,
            };
            assert_eq!(Ending::from_wait_status(status), by_library.filter(|_| is_made_by_kernels), "{status:#x}");
        }
        for status in [-1, i32::MIN, 0x1_0000, 0x1_000b, 0x7fff_0300, i32::MAX] {
            assert_eq!(Ending::from_wait_status(status), None, "{status:#x}");
        }
    }

    #[test]
    fn an_operators_stop_is_no_crash() {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            assert!(!Ending::from_wait_status(signal).unwrap().is_crash());
        }
        assert!(Ending::from_wait_status(libc::SIGKILL).unwrap().is_crash());
        assert!(!Ending::Exited(0).is_crash());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            assert!(!Ending::Exited(u8::try_from(128 + signal).unwrap()).is_crash());
        }
        for code in [1, 2, 128, 134, 137, 139, 255] {
            assert!(Ending::Exited(code).is_crash(), "{code}");
        }
    }
}
