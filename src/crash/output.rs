//! What a Go runtime writes when it dies (debug.SetCrashOutput): kept is the kind of death, dropped is the text, which may
//! hold anything.

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

    /// The kind of death that it tells of.
    pub fn class(&self) -> Option<Class> {
        self.head.split(|byte| *byte == b'\n').find_map(|line| {
            let kinds = [(&b"panic: "[..], Class::Panic), (b"fatal error: ", Class::FatalError)];
            kinds.into_iter().find(|(beginning, _)| line.starts_with(beginning)).map(|(_, class)| class)
        })
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
}

impl Class {
    /// As in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "Go panic",
            Self::FatalError => "Go fatal error",
        }
    }

    /// By its number in a record.
    pub fn from_code(code: i32) -> Option<Self> {
        [Self::Panic, Self::FatalError].into_iter().find(|class| *class as i32 == code)
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
    fn the_first_telling_line_counts() {
        assert_eq!(class(&["panic: runtime error: invalid memory address\n[signal SIGSEGV"]), Some(Class::Panic));
        assert_eq!(class(&["fatal err", "or: all goroutines are asleep - deadlock!\n"]), Some(Class::FatalError));
        let overflow =
            "runtime: goroutine stack exceeds 1000000000-byte limit\nruntime: sp=0xc\nfatal error: stack overflow";
        assert_eq!(class(&[overflow]), Some(Class::FatalError));
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
