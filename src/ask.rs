//! The protocol by which an administrator asks a running process what its report would be now, and the side of the
//! process. The other side is in the command.
//!
//! The asker connects to the process's socket in the state directory and sends [`QUESTION`]. The process answers
//! [`GREETING`] when it turns to the question. Pieces follow, each after its length in four bytes, big endian; together
//! they are the report in gzip, the very bytes that would be sealed. After a piece of length 0 come one byte, the
//! number of a [`Status`](crate::error::Status), and a text up to the end of the connection. For status 0 the text
//! gives the size of the sealed report, its id and its UTC day; otherwise it says why there is no report.
//!
//! The process waits for the asker no longer than [`PATIENCE`] in total.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use crate::error::Error;
use crate::transport::deadline::{Deadline, Interrupt, Stream};

/// What is asked.
pub const QUESTION: [u8; 4] = *b"next";
/// How an answer begins.
pub const GREETING: [u8; 4] = *b"OTN1";
/// How long the question may take: it comes with the connection.
const QUESTION_TIME: Duration = Duration::from_secs(1);
/// How long the process waits in total for the asker to take the answer: it has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The process that asks.
pub struct Asker {
    /// Of the user that this number is of.
    pub uid: u32,
    /// Ends what waits for it.
    pub interrupt: Arc<Interrupt>,
    /// Locked: several threads of the host may fill the report.
    line: Mutex<Line>,
}

struct Line {
    stream: Stream,
    /// How long it is still waited for.
    patience: Duration,
    /// A piece ends in its middle: what is said after that would be taken for the rest of it.
    is_torn: bool,
}

impl Asker {
    /// Accepts an asker, once it has asked and was greeted.
    pub fn hear(connection: OwnedFd) -> io::Result<Self> {
        let uid = getsockopt(&connection, PeerCredentials)?.uid();
        let interrupt = Arc::new(Interrupt::new()?);
        let mut stream = Stream::new(connection)?;
        let mut question = QUESTION;
        Deadline::after(&interrupt, QUESTION_TIME).read_exact(&mut stream, &mut question)?;
        if question != QUESTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let line = Line { stream, patience: PATIENCE, is_torn: false };
        let asker = Self { uid, interrupt, line: Mutex::new(line) };
        asker.say(&GREETING)?;
        Ok(asker)
    }

    /// Accepts only users who may read the state directory anyway.
    pub fn check_user(&self) -> Result<(), Error> {
        let ours = geteuid().as_raw();
        if self.uid == 0 || self.uid == ours {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "uid {} may not ask a process of uid {ours}: ask as that user or as root",
            self.uid
        )))
    }

    /// A piece of the report.
    pub fn give(&self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(piece.len()).map_err(io::Error::other)?;
        self.say(&[&length.to_be_bytes(), piece].concat())
    }

    /// Ends the answer. If the time is up, the end is sent only if it is taken at once.
    pub fn end(&self, status: u8, text: &str) {
        let last = [&[0, 0, 0, 0, status], text.as_bytes()].concat();
        if self.say(&last).is_err() {
            let mut line = self.line();
            if !line.is_torn {
                let _ = line.stream.write(&last);
            }
        }
    }

    fn say(&self, bytes: &[u8]) -> io::Result<()> {
        let mut line = self.line();
        let began = Instant::now();
        let deadline = Deadline::after(&self.interrupt, line.patience);
        if line.is_torn || deadline.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let said = deadline.write_all(&mut line.stream, bytes);
        line.patience = line.patience.saturating_sub(began.elapsed());
        line.is_torn = said.is_err();
        said
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
