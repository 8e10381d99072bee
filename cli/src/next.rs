//! Shows the next report by asking the process that makes it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use flate2::write::GzDecoder as Unpacking;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use ondat_telemetry::ask::{GREETING, QUESTION};
use ondat_telemetry::error::{Error, Status};
use ondat_telemetry::presence::{self, Process};
use ondat_telemetry::spool;
use ondat_telemetry::state::StateDir;
use serde_json::json;

use crate::{Output, print};

/// How long all processes together may take to begin their answers. A process that is delivering finishes that first.
const GREETING_TIME: Duration = Duration::from_secs(60);
/// How long a process may stay silent while its report is filled.
const SILENCE: Duration = Duration::from_secs(120);
/// How long a whole answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(600);
/// The longest reason of a refusal that is read, in bytes.
const REASON_BYTES: usize = 4096;
/// The longest piece of a report, in bytes. Processes have smaller buffers.
const LONGEST_PIECE: usize = 1 << 20;
/// How many bytes of a report are in memory at a time.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// A report that would be sent now.
pub(crate) struct Next {
    /// The process that would send it.
    pub(crate) process: Process,
    /// The report's id.
    pub(crate) report_id: String,
    /// The report's UTC day.
    pub(crate) day: String,
    /// The report's length in bytes.
    pub(crate) bytes: u64,
    /// The length of the sealed report in bytes.
    pub(crate) sealed_bytes: u64,
    /// The report in gzip, in a file without a name.
    packed: File,
}

/// Why no process has answered.
pub(crate) enum Unanswered {
    /// No process makes reports.
    Nobody(String),
    /// A process was asked and refused, or did not answer.
    Failed(Error),
}

impl Next {
    /// Returns a reader of the report's text.
    pub(crate) fn into_text(self) -> GzDecoder<File> {
        GzDecoder::new(self.packed)
    }
}

/// Prints the report byte for byte as it would be sealed, or a description in JSON.
pub(crate) fn run(dir: &StateDir, json: bool) -> Result<Output, Error> {
    let next = ask(dir).map_err(|unanswered| match unanswered {
        Unanswered::Nobody(why) => Error::InvalidState(why),
        Unanswered::Failed(error) => error,
    })?;
    if json {
        return Ok(Output::json(&json!({
            "report_id": next.report_id,
            "day": next.day,
            "bytes": next.bytes,
            "sealed_bytes": next.sealed_bytes,
            "component": next.process.component,
            "pid": next.process.pid,
        })));
    }
    let mut text = next.into_text();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = text.read(&mut piece).map_err(no_room)?;
        if read == 0 || !print(&piece[..read])? {
            return Ok(Output::text(String::new()));
        }
    }
}

/// Asks the processes on the state directory until one answers. The process that has run longest comes first.
pub(crate) fn ask(dir: &StateDir) -> Result<Next, Unanswered> {
    let mut processes = presence::processes(dir).map_err(Unanswered::Failed)?;
    processes.sort_by_cached_key(Process::age);
    let greeted_by = Instant::now() + GREETING_TIME;
    let (mut silent, mut failed) = (Vec::new(), None);
    for process in processes {
        let named = name(&process);
        match ask_one(dir, process, greeted_by) {
            Ok(Some(next)) => return Ok(next),
            Ok(None) => silent.push(named),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.map_or_else(|| Unanswered::Nobody(nobody(&silent)), Unanswered::Failed))
}

fn name(process: &Process) -> String {
    format!("{} (pid {})", process.component, process.pid)
}

fn nobody(running: &[String]) -> String {
    let nobody = "no running process on this state directory makes reports";
    if running.is_empty() {
        return format!("{nobody}: none runs");
    }
    format!("{nobody}: {} cannot be asked, without a report callback or of an older version", running.join(", "))
}

/// Asks one process. None: it cannot be asked.
fn ask_one(dir: &StateDir, process: Process, greeted_by: Instant) -> Result<Option<Next>, Error> {
    let patience = greeted_by.saturating_duration_since(Instant::now());
    let Some(stream) = presence::knock(dir, &process, patience)? else { return Ok(None) };
    let mut answer = Answer { stream, who: name(&process), ends: greeted_by, silence: GREETING_TIME };
    answer.ask()?;
    let mut packed = unnamed(dir)?;
    let mut text = Unpacking::new(Counter(0));
    let mut packed_bytes = 0;
    while let Some(piece) = answer.piece()? {
        packed_bytes += piece.len() as u64;
        if packed_bytes > spool::REPORTS.bytes {
            return Err(answer.makes_no_sense("a report longer than is ever sent"));
        }
        packed.write_all(&piece).map_err(no_room)?;
        text.write_all(&piece).map_err(|error| answer.makes_no_sense(&error.to_string()))?;
    }
    let (sealed_bytes, report_id, day) = answer.end()?;
    let bytes = text.finish().map_err(|error| answer.makes_no_sense(&error.to_string()))?.0;
    packed.rewind().map_err(no_room)?;
    Ok(Some(Next { process, report_id, day, bytes, sealed_bytes, packed }))
}

/// The answer of a process. [`ondat_telemetry::ask`] describes its form.
struct Answer {
    stream: UnixStream,
    /// The process, for messages.
    who: String,
    /// When the answer must be complete.
    ends: Instant,
    /// How long the process may stay silent.
    silence: Duration,
}

impl Answer {
    fn ask(&mut self) -> Result<(), Error> {
        let asked = self.stream.set_write_timeout(Some(GREETING_TIME)).and_then(|()| self.stream.write_all(&QUESTION));
        asked.map_err(|error| self.unheard(&error))?;
        let mut greeting = [0; GREETING.len()];
        self.read(&mut greeting)?;
        if greeting != GREETING {
            return Err(self.makes_no_sense("another greeting"));
        }
        (self.ends, self.silence) = (Instant::now() + ANSWER_TIME, SILENCE);
        Ok(())
    }

    /// Reads the next piece of the report. None: the report is complete.
    fn piece(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut length = [0; 4];
        self.read(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST_PIECE {
            return Err(self.makes_no_sense(&format!("a piece of {length} bytes")));
        }
        let mut piece = vec![0; length];
        self.read(&mut piece)?;
        Ok((length > 0).then_some(piece))
    }

    /// Reads the length of the sealed report, its id and its day.
    fn end(&mut self) -> Result<(u64, String, String), Error> {
        let mut status = [0];
        self.read(&mut status)?;
        let mut text = Vec::new();
        while text.len() < REASON_BYTES {
            let mut some = [0; 512];
            match self.read_some(&mut some) {
                Ok(0) => break,
                Ok(read) => text.extend_from_slice(&some[..read]),
                Err(error) => return Err(self.unheard(&error)),
            }
        }
        let text = String::from_utf8_lossy(&text);
        if status != [Status::Ok as u8] {
            return Err(refusal(status[0], format!("{}: {text}", self.who)));
        }
        let mut words = text.split(' ');
        let size = words.next().and_then(|size| size.parse().ok());
        match (size, words.next(), words.next(), words.next()) {
            (Some(size), Some(id), Some(day), None) => Ok((size, id.to_owned(), day.to_owned())),
            _ => Err(self.makes_no_sense("another end")),
        }
    }

    fn read(&mut self, mut buffer: &mut [u8]) -> Result<(), Error> {
        while !buffer.is_empty() {
            let read = self.read_some(buffer).and_then(|read| match read {
                0 => Err(ErrorKind::UnexpectedEof.into()),
                read => Ok(read),
            });
            let read = read.map_err(|error| self.unheard(&error))?;
            buffer = &mut buffer[read..];
        }
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.ends.saturating_duration_since(Instant::now()).min(self.silence);
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn unheard(&self, error: &io::Error) -> Error {
        let who = &self.who;
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut if self.silence == GREETING_TIME => {
                Error::TimedOut(format!("{who} does not answer: it may be delivering, or is stopped; try again later"))
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::TimedOut(format!(
                "{who} does not come to the end of its report: its report callback takes too long"
            )),
            _ => Error::Network(format!("{who} has hung up before the end of its report: it has ended, or is ending")),
        }
    }

    fn makes_no_sense(&self, what: &str) -> Error {
        Error::Untrusted(format!("{} answers what makes no sense ({what}): is it of another version?", self.who))
    }
}

/// Returns the error with which a process refuses.
fn refusal(status: u8, text: String) -> Error {
    match Status::from_number(status.into()) {
        Some(Status::Disabled) => Error::Disabled(text),
        Some(Status::InvalidConfig) => Error::InvalidConfig(text),
        Some(Status::InvalidState) => Error::InvalidState(text),
        Some(Status::InvalidReport) => Error::InvalidReport(text),
        Some(Status::Refused) => Error::Refused(text),
        Some(Status::Io) => Error::Io(text),
        _ => Error::Internal(text),
    }
}

/// Creates a file that disappears with its descriptor. It is not on the daemons' disk if there is another one.
fn unnamed(dir: &StateDir) -> Result<File, Error> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let made = nix::fcntl::open(&std::env::temp_dir(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
    made.map_or_else(|_| dir.root().unnamed(), |file| Ok(file.into()))
}

fn no_room(error: io::Error) -> Error {
    Error::Io(format!("no room for the report in {} or the state directory: {error}", std::env::temp_dir().display()))
}

/// Counts the bytes that are written to it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
