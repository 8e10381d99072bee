//! What a Go runtime writes when it dies (debug.SetCrashOutput). The kind of death is kept; the text, which may contain
//! anything, is discarded.

/// How much is looked at, in bytes: before the line that says it, the runtime may write some of its own.
const HEAD_BYTES: usize = 4096;

/// The beginning of a crash output.
#[derive(Default)]
pub struct CrashOutput {
    head: Vec<u8>,
}

impl CrashOutput {
    /// Takes what was read; beyond the beginning nothing is kept.
    pub fn take(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The kind of death that it tells of. The line `fatal error: ...` itself comes before the runtime counts as dying
    /// (golang/go#76859): its output then begins with an empty line, or with the signal behind the error.
    pub fn class(&self) -> Option<Class> {
        if self.head.starts_with(b"panic: ") {
            return Some(Class::Panic);
        }
        if self.head.starts_with(b"SIGQUIT: ") {
            return Some(Class::Quit);
        }
        let errors = [&b"\n"[..], b"[signal ", b"fatal error: ", b"runtime: "];
        errors.iter().any(|beginning| self.head.starts_with(beginning)).then_some(Class::FatalError)
    }
}

/// How a Go runtime died.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A panic that nobody recovered.
    Panic = 1,
    /// An error that cannot be recovered from, such as a concurrent map write.
    FatalError = 2,
    /// Somebody has asked for a dump of all goroutines by SIGQUIT: no crash.
    Quit = 3,
}

impl Class {
    /// As in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "Go panic",
            Self::FatalError => "Go fatal error",
            Self::Quit => "Go dump",
        }
    }

    /// By its number in a record.
    pub fn from_code(code: i32) -> Option<Self> {
        [Self::Panic, Self::FatalError, Self::Quit].into_iter().find(|class| *class as i32 == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(texts: &[&str]) -> Option<Class> {
        let mut output = CrashOutput::default();
        texts.iter().for_each(|text| output.take(text.as_bytes()));
        output.class()
    }

    #[test]
    fn the_beginning_tells() {
        assert_eq!(class(&["panic: runtime error: invalid memory address\n[signal SIGSEGV"]), Some(Class::Panic));
        assert_eq!(class(&["pan", "ic: x\n"]), Some(Class::Panic));
        assert_eq!(class(&["fatal err", "or: all goroutines are asleep - deadlock!\n"]), Some(Class::FatalError));
        assert_eq!(class(&["\ngoroutine 1 [running]:\n"]), Some(Class::FatalError));
        assert_eq!(class(&["[signal SIGSEGV: segmentation violation code=0x1]\n"]), Some(Class::FatalError));
        assert_eq!(class(&["runtime: goroutine stack exceeds 1000000000-byte limit\n"]), Some(Class::FatalError));
        assert_eq!(class(&["SIGQUIT: quit\nPC=0x4\n"]), Some(Class::Quit));
        assert_eq!(class(&["panic: fatal error: x"]), Some(Class::Panic));
        assert_eq!(class(&["SIGSEGV: segmentation violation\nPC=0x4\n"]), None);
        assert_eq!(class(&["don't panic: x\n"]), None);
        assert_eq!(class(&[]), None);
    }

    #[test]
    fn only_the_beginning_is_kept() {
        let mut output = CrashOutput::default();
        for _ in 0..100 {
            output.take(&[b'x'; 1000]);
        }
        assert_eq!(output.head.len(), HEAD_BYTES);
        output.take(b"\npanic: late");
        assert_eq!(output.class(), None);
    }
}
