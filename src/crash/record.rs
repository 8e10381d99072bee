//! What goes between a host and its monitor: the setup once, then records of one fixed form. Integers only, so that a
//! host whose memory is damaged can neither lengthen nor change what is sent.

use ondat_telemetry_protocol::ending::{CoreDump, Ending};
use ondat_telemetry_protocol::signals;

use super::output::Class;
use crate::crash::witness::Witness;
use crate::sys::page::WORDS;

/// Bytes of a record.
pub const RECORD_BYTES: usize = 32;
/// Bytes of a message: a record, the ticket of its answer, and the sender's pid by its own count.
pub const MESSAGE_BYTES: usize = RECORD_BYTES + 8;
/// First bytes of every record: a file that does not begin so holds none.
const MAGIC: u32 = 0x4f44_4352;

/// What a record says.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A crash signal has arrived; the process may yet recover.
    Crash = 1,
    /// The client was closed: what comes is no crash.
    Goodbye = 2,
    /// Crash reports are on, as far as the host is concerned.
    On = 3,
    /// Crash reports are off.
    Off = 4,
    /// Written by the monitor into the run marker: the process has survived the signal before.
    Recovered = 5,
    /// The process has called exit(3) with the code.
    Exit = 6,
    /// Written by the monitor into the run marker: the Go runtime has said of what kind its death is.
    Output = 7,
    /// The monitor to its host: it has its setup and watches.
    Ready = 8,
}

/// An earlier handler is called next: the process may live on.
pub const TENTATIVE: u32 = 1;
/// The process waits for the report to be sent, because the monitor may die with it.
pub const AWAITED: u32 = 2;
/// The process ends by exit, as PID 1 must: no core will be dumped.
pub const EXITS: u32 = 4;
/// The process's limit for core files is 0.
pub const NO_CORE_FILE: u32 = 8;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: Kind,
    /// The signal, for a crash.
    pub signal: i32,
    /// Its `si_code`; for an exit, the code; for an output, the number of its class.
    pub code: i32,
    /// The thread that got it.
    pub thread: i32,
    /// What is known of how it goes on: [`TENTATIVE`] and the like. Unknown bits mean nothing.
    pub flags: u32,
    /// When, Unix seconds.
    pub at: i64,
}

impl Record {
    /// A record that only says this.
    pub fn of(kind: Kind) -> Self {
        Self { kind, signal: 0, code: 0, thread: 0, flags: 0, at: 0 }
    }

    /// Whether it has this flag.
    pub fn has(self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// The ending that it announces. `are_core_files` tells whether the kernel writes core files itself.
    pub fn ending(self, are_core_files: fn() -> bool) -> Ending {
        match self.kind {
            // exit(3): the low eight bits.
            Kind::Exit => return Ending::Exited(self.code.to_le_bytes()[0]),
            Kind::Output => return Ending::Unknown,
            _ => {}
        }
        // A limit of 0 keeps the kernel from writing files, not from starting the program of core_pattern, core(5).
        let has_none = self.has(EXITS) || (self.has(NO_CORE_FILE) && are_core_files());
        Ending::Killed { signal: self.signal, core_dump: if has_none { CoreDump::No } else { CoreDump::Unknown } }
    }

    /// What tells of that ending.
    pub fn witness(self) -> Witness {
        match self.kind {
            Kind::Exit => Witness::Exit,
            Kind::Output => Witness::GoRuntime,
            _ => Witness::Handler,
        }
    }

    /// Whether it tells of this ending and not of a signal that was survived.
    pub fn is_of(self, ending: Ending) -> bool {
        matches!(ending, Ending::Killed { signal, .. } if self.kind == Kind::Crash && self.signal == signal)
    }

    /// Why, as far as it knows.
    pub fn cause(self) -> Option<&'static str> {
        match self.kind {
            Kind::Crash => signals::cause(self.signal, self.code),
            Kind::Output => Class::from_code(self.code).map(Class::as_str),
            _ => None,
        }
    }

    /// Its bytes. Called in the signal handler: no allocation, no lock.
    pub fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes[4..8].copy_from_slice(&(self.kind as u32).to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.signal.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.code.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.thread.to_ne_bytes());
        bytes[20..24].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.at.to_ne_bytes());
        bytes
    }

    /// The same as words, for a shared page. Called in the signal handler, too.
    pub fn to_words(self) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(self.to_bytes().as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        words
    }

    /// Reads such words.
    pub fn from_words(words: [u32; WORDS]) -> Option<Self> {
        Self::from_bytes(words.map(u32::to_ne_bytes).as_flattened())
    }

    /// As it goes to the monitor. Called in the signal handler, too.
    pub fn to_message(self, ticket: u32, pid: i32) -> [u8; MESSAGE_BYTES] {
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[..RECORD_BYTES].copy_from_slice(&self.to_bytes());
        bytes[RECORD_BYTES..RECORD_BYTES + 4].copy_from_slice(&ticket.to_ne_bytes());
        bytes[RECORD_BYTES + 4..].copy_from_slice(&pid.to_ne_bytes());
        bytes
    }

    /// Reads a message: the record, its ticket, and the sender's pid by its own count.
    pub fn from_message(bytes: &[u8]) -> Option<(Self, u32, i32)> {
        let (record, rest) = bytes.split_at_checked(RECORD_BYTES)?;
        let rest: &[u8; 8] = rest.try_into().ok()?;
        let [ticket, pid] = [[rest[0], rest[1], rest[2], rest[3]], [rest[4], rest[5], rest[6], rest[7]]];
        Some((Self::from_bytes(record)?, u32::from_ne_bytes(ticket), i32::from_ne_bytes(pid)))
    }

    /// Reads one; none for anything else, whatever its length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if u32::from_ne_bytes(word(0)) != MAGIC {
            return None;
        }
        let kind = match u32::from_ne_bytes(word(4)) {
            1 => Kind::Crash,
            2 => Kind::Goodbye,
            3 => Kind::On,
            4 => Kind::Off,
            5 => Kind::Recovered,
            6 => Kind::Exit,
            7 => Kind::Output,
            8 => Kind::Ready,
            _ => return None,
        };
        let mut at = [0; 8];
        at.copy_from_slice(&bytes[24..32]);
        Some(Self {
            kind,
            signal: i32::from_ne_bytes(word(8)),
            code: i32::from_ne_bytes(word(12)),
            thread: i32::from_ne_bytes(word(16)),
            flags: u32::from_ne_bytes(word(20)),
            at: i64::from_ne_bytes(at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_nothing_else_is_one() {
        let record = Record { kind: Kind::Crash, signal: 11, code: 1, thread: 77, flags: AWAITED, at: 1_790_000_000 };
        assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        assert_eq!(Record::from_words(record.to_words()), Some(record));
        assert_eq!(Record::from_message(&record.to_message(9, -7)), Some((record, 9, -7)));
        assert_eq!(Record::from_message(&record.to_bytes()), None);
        assert_eq!(Record::from_bytes(&[0; RECORD_BYTES]), None);
        assert_eq!(Record::from_bytes(b"{}"), None);
        let mut unknown = record.to_bytes();
        unknown[4] = 9;
        assert_eq!(Record::from_bytes(&unknown), None);
    }
}
