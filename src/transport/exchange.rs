//! One request and its answer on a connection, below ureq. ureq writes the request and reads the body. What it would
//! refuse in an answer's head (fields in an interim answer, folded lines, more than 128 fields) never reaches it. An
//! answer that arrives before the body was sent is not lost. ureq's clocks are off, because there is one deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use nix::poll::PollFlags;
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};

use super::deadline::{Deadline, Interrupt};
use super::head::{Body, Head, HeadReader};
use super::wire::Wire;

/// ureq's buffers. A head as it is passed on fits into the first; after each of the second there is a look for an answer.
const INPUT_BYTES: usize = 32 * 1024;
const OUTPUT_BYTES: usize = 16 * 1024;
/// From this status on a server that has answered wants no more of the body.
const FIRST_REFUSAL: u16 = 300;

/// Gives ureq the connection that was made for it.
#[derive(Debug)]
pub struct Made(Mutex<Option<Exchange>>);

impl Made {
    /// This one.
    pub fn new(exchange: Exchange) -> Self {
        Self(Mutex::new(Some(exchange)))
    }
}

impl Connector for Made {
    type Out = Exchange;

    fn connect(&self, _: &ConnectionDetails, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

/// A connection with one request on it.
#[derive(Debug)]
pub struct Exchange {
    wire: Wire,
    is_tls: bool,
    interrupt: Arc<Interrupt>,
    ends: Instant,
    buffers: LazyBuffers,
    answer: Answer,
}

/// What has come of the answer.
#[derive(Debug)]
struct Answer {
    reader: HeadReader,
    /// The status of the final answer, once its head is whole.
    status: Option<u16>,
    /// What ureq has not taken yet.
    ready: Vec<u8>,
    /// Nothing more can be read while the body is written.
    is_silent: bool,
    /// Nothing more can be written.
    is_deaf: bool,
}

impl Exchange {
    /// On this connection; of the answer's fields these are wanted.
    pub fn new(wire: Wire, is_tls: bool, wanted: &[&str], interrupt: &Arc<Interrupt>, ends: Instant) -> Self {
        Self {
            wire,
            is_tls,
            interrupt: Arc::clone(interrupt),
            ends,
            buffers: LazyBuffers::new(INPUT_BYTES, OUTPUT_BYTES),
            answer: Answer {
                reader: HeadReader::new(wanted),
                status: None,
                ready: Vec::new(),
                is_silent: false,
                is_deaf: false,
            },
        }
    }

    /// Writes what ureq has in its buffer, and looks whether there is an answer already (RFC 9112, 9.5).
    fn write_out(&mut self, amount: usize) -> io::Result<()> {
        let Self { wire, answer, buffers, interrupt, ends, .. } = self;
        let deadline = Deadline { interrupt, at: *ends };
        let mut bytes = &buffers.output()[..amount];
        loop {
            answer.take_early(wire, &deadline)?;
            if answer.ends_sending() {
                // The rest of the body goes nowhere; ureq goes on to the answer.
                return Ok(());
            }
            let written = if bytes.is_empty() { wire.flush().map(|()| 0) } else { wire.write(bytes) };
            match written {
                Ok(_) if bytes.is_empty() => return Ok(()),
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let is_watched = answer.status.is_none() && !answer.is_silent;
                    let what = if is_watched { PollFlags::POLLIN } else { PollFlags::empty() };
                    deadline.wait(wire, what | PollFlags::POLLOUT)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A server that has answered and closed: its answer may be here.
                Err(error) => return answer.take_last(wire, &deadline).map_err(|()| error),
            }
            if deadline.is_over() {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }

    fn receive(&mut self) -> io::Result<bool> {
        let Self { wire, answer, buffers, interrupt, ends, .. } = self;
        let deadline = Deadline { interrupt, at: *ends };
        let mut piece = vec![0; INPUT_BYTES];
        while answer.ready.is_empty() {
            let read = deadline.until_done(wire, PollFlags::POLLIN, |wire| wire.read(&mut piece))?;
            if read == 0 && answer.status.is_none() {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "the connection was closed before an answer came",
                ));
            }
            if read == 0 {
                return Ok(false);
            }
            answer.take(&piece[..read])?;
        }
        let input = buffers.input_append_buf();
        let length = input.len().min(answer.ready.len());
        input[..length].copy_from_slice(&answer.ready[..length]);
        answer.ready.drain(..length);
        buffers.input_appended(length);
        Ok(length > 0)
    }
}

impl Answer {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut body = bytes;
        if self.status.is_none() {
            let (used, head) = self.reader.push(bytes).map_err(|why| io::Error::new(ErrorKind::InvalidData, why))?;
            let Some(head) = head else { return Ok(()) };
            self.status = Some(head.status);
            self.ready = as_ureq_reads_it(&head);
            body = &bytes[used..];
        }
        self.ready.extend_from_slice(body);
        Ok(())
    }

    /// Reads what is there, until there is an answer.
    fn take_early(&mut self, wire: &mut Wire, deadline: &Deadline<'_>) -> io::Result<()> {
        let mut piece = [0; 4096];
        while self.status.is_none() && !self.is_silent && !deadline.is_over() {
            match wire.read(&mut piece) {
                Ok(read) if read > 0 => self.take(&piece[..read])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // Whether the connection is still good for the rest, writing shows.
                _ => self.is_silent = true,
            }
        }
        Ok(())
    }

    /// Reads to the end what a connection holds that cannot be written to. An error where that is no answer.
    fn take_last(&mut self, wire: &mut Wire, deadline: &Deadline<'_>) -> Result<(), ()> {
        let mut piece = [0; 4096];
        while self.status.is_none() {
            match deadline.until_done(wire, PollFlags::POLLIN, |wire| wire.read(&mut piece)) {
                Ok(read) if read > 0 => self.take(&piece[..read]).map_err(drop)?,
                _ => return Err(()),
            }
        }
        self.is_deaf = true;
        Ok(())
    }

    /// After a refusal nothing more is sent. A server that answers 2xx may still be reading.
    fn ends_sending(&self) -> bool {
        self.is_deaf || self.status.is_some_and(|status| status >= FIRST_REFUSAL)
    }
}

/// The head in a form that ureq takes.
fn as_ureq_reads_it(head: &Head) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} -\r\nconnection: close\r\n", head.status).into_bytes();
    match head.body {
        Body::Length(length) => text.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
        Body::Chunked => text.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Body::UntilClose => {}
    }
    for (name, value) in &head.fields {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": ");
        text.extend(value.iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }));
        text.extend_from_slice(b"\r\n");
        // All of it has to fit into ureq's buffer; of a field that comes a hundred times the first ones count.
        if text.len() > INPUT_BYTES / 2 {
            break;
        }
    }
    text.extend_from_slice(b"\r\n");
    text
}

impl Transport for Exchange {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        self.write_out(amount).map_err(Error::Io)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        self.receive().map_err(Error::Io)
    }

    /// Each request has a connection of its own.
    fn is_open(&mut self) -> bool {
        false
    }

    fn is_tls(&self) -> bool {
        self.is_tls
    }
}
