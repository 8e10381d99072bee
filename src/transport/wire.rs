//! Bytes in both directions, over TCP and any number of layers of TLS: to a proxy, and through it to the server.
//! Nothing here blocks; a [`Deadline`] decides who waits, and until when.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::poll::PollFlags;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::deadline::{Deadline, Socket, Stream};

/// A connection to a proxy or a server.
#[derive(Debug)]
pub struct Wire {
    layer: Layer,
    /// What was read too early and is read next.
    unread: Vec<u8>,
}

#[derive(Debug)]
enum Layer {
    Tcp(Stream),
    Tls(Box<Tls>),
}

impl Wire {
    /// Over TCP.
    pub fn new(stream: Stream) -> Self {
        Self { layer: Layer::Tcp(stream), unread: Vec::new() }
    }

    /// With TLS over it, when the other side has shown that it is `host`.
    pub fn secure(self, config: &Arc<ClientConfig>, host: &str, deadline: &Deadline<'_>) -> io::Result<Self> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // A name with a dot at its end is the same name, and stands so in no certificate.
        let name = ServerName::try_from(host.strip_suffix('.').unwrap_or(host).to_owned());
        let name = name.map_err(|_| io::Error::other(format!("{host} is not a name that a certificate can have")))?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut tls = Tls { session, below: self };
        deadline.until_done(&mut tls, PollFlags::POLLIN, Tls::shake_hands)?;
        Ok(Self { layer: Layer::Tls(Box::new(tls)), unread: Vec::new() })
    }

    /// Gives back what was read and belongs to what is read next.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.unread.splice(..0, bytes.iter().copied());
    }

    fn has_pending(&self) -> bool {
        match &self.layer {
            Layer::Tcp(_) => false,
            Layer::Tls(tls) => tls.session.wants_write() || tls.below.has_pending(),
        }
    }
}

impl Socket for Wire {
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.layer {
            Layer::Tcp(stream) => stream.descriptor(),
            Layer::Tls(tls) => tls.below.descriptor(),
        }
    }

    fn events(&self, what: PollFlags) -> PollFlags {
        if self.has_pending() { what | PollFlags::POLLOUT } else { what }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let length = buffer.len().min(self.unread.len());
            buffer[..length].copy_from_slice(&self.unread[..length]);
            self.unread.drain(..length);
            return Ok(length);
        }
        match &mut self.layer {
            Layer::Tcp(stream) => stream.read(buffer),
            Layer::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Tcp(stream) => {
                let written = stream.write(bytes);
                stream.acknowledge_at_once();
                written
            }
            Layer::Tls(tls) => tls.write(bytes),
        }
    }

    /// Done when the kernel has everything.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Tcp(_) => Ok(()),
            Layer::Tls(tls) => tls.flush_records(),
        }
    }
}

/// A layer of TLS.
#[derive(Debug)]
struct Tls {
    session: ClientConnection,
    below: Wire,
}

impl Tls {
    fn shake_hands(&mut self) -> io::Result<()> {
        self.flush_records()?;
        if !self.session.is_handshaking() {
            return Ok(());
        }
        if self.take_records()? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed during the TLS handshake"));
        }
        // Once more, and a look at the clock before.
        Err(ErrorKind::Interrupted.into())
    }

    fn flush_records(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.below)?;
        }
        self.below.flush()
    }

    /// Takes what has come, a few records at most.
    fn take_records(&mut self) -> io::Result<usize> {
        let read = self.session.read_tls(&mut self.below)?;
        if let Err(error) = self.session.process_new_packets() {
            // The other side is told what is wrong, if that goes at once.
            let _ = self.flush_records();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(read)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(outcome) = self.read_plain(buffer) {
            return outcome;
        }
        // What cannot be written hinders no reading.
        let _ = self.flush_records();
        self.take_records()?;
        // Records without content must not keep anybody here beyond the deadline.
        self.read_plain(buffer).unwrap_or_else(|| Err(ErrorKind::Interrupted.into()))
    }

    fn read_plain(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        match self.session.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            // A connection that ends without a word of TLS ends all the same.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Some(Ok(0)),
            outcome => Some(outcome),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush_records()?;
        let taken = self.session.writer().write(bytes)?;
        match self.flush_records() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }
}

impl Socket for Tls {
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        self.below.descriptor()
    }

    fn events(&self, what: PollFlags) -> PollFlags {
        if self.session.wants_write() || self.below.has_pending() { what | PollFlags::POLLOUT } else { what }
    }
}
