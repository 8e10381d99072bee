//! One deadline for a whole call: each wait for a socket and each read of a file ends then, or when the permit is
//! revoked.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{SocketError, TcpNoDelay};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockopt, recv, send, setsockopt, socket,
};
use nix::unistd::pipe2;

use crate::sys::descriptor::{self, Owned};

/// No call waits longer than this.
const LONGEST: Duration = Duration::from_secs(86_400);
/// How much of a file is in memory at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// Ends, from another thread, what waits for the network. A pipe whose writing end is closed: every wait sees that, also
/// one that begins later.
#[derive(Debug)]
pub struct Interrupt {
    reader: Owned,
    writer: Mutex<Option<Owned>>,
}

impl Interrupt {
    /// Not raised yet. Fails where the process may have no more descriptors.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = descriptor::make_pair(|| pipe2(OFlag::O_CLOEXEC))?;
        Ok(Self { reader: Owned::new(reader)?, writer: Mutex::new(Some(Owned::new(writer)?)) })
    }

    /// Ends this and every later wait.
    pub fn raise(&self) {
        drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether it was.
    pub fn is_raised(&self) -> bool {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Something that poll(2) waits for.
pub trait Socket {
    /// Its descriptor; `EBADF` where it is not ours any more.
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>>;

    /// The events to wait for when a caller waits for `what`: more of them if own bytes are still to be written.
    fn events(&self, what: PollFlags) -> PollFlags {
        what
    }
}

impl<S: AsFd> Socket for S {
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.as_fd())
    }
}

/// A connected socket that does not block. Whatever the host makes of its number meanwhile, nothing is read from that, and
/// nothing written to it.
#[derive(Debug)]
pub struct Stream(Owned);

impl Stream {
    /// Takes it.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Owned::new(socket).map(Self)
    }
}

impl Stream {
    /// Has what comes be acknowledged at once. A server that answers early and closes sends its answer only when what it said
    /// before is acknowledged (RFC 896), and loses it where the close comes first.
    pub fn acknowledge_at_once(&self) {
        if let Some(socket) = self.0.get() {
            descriptor::acknowledge_at_once(socket);
        }
    }
}

impl Socket for Stream {
    fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        self.0.borrow()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0.borrow()?.as_raw_fd(), buffer, MsgFlags::empty())?)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0.borrow()?.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// When something ends, by the clock, and what ends it before.
#[derive(Clone, Copy)]
pub struct Deadline<'a> {
    /// What ends it before.
    pub interrupt: &'a Interrupt,
    /// When it ends.
    pub at: Instant,
}

impl<'a> Deadline<'a> {
    /// So long from now.
    pub fn after(interrupt: &'a Interrupt, duration: Duration) -> Self {
        // A time that no clock reaches is a day: nobody waits for a server any longer.
        let now = Instant::now();
        Self { interrupt, at: now.checked_add(duration).unwrap_or(now + LONGEST) }
    }

    /// The same, but at most so long from now.
    pub fn at_most(self, duration: Duration) -> Self {
        Self { at: self.at.min(Instant::now() + duration.min(LONGEST)), ..self }
    }

    /// What is left until then.
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.interrupt.is_raised() || self.at <= Instant::now()
    }

    /// Waits until the socket can do this. [`ErrorKind::TimedOut`] at the deadline and when interrupted.
    pub fn wait(&self, socket: &impl Socket, what: PollFlags) -> io::Result<()> {
        self.wait_for_any(&[socket], what)
    }

    /// The same for the first of several.
    pub fn wait_for_any(&self, sockets: &[&impl Socket], what: PollFlags) -> io::Result<()> {
        loop {
            if self.is_over() {
                return Err(ErrorKind::TimedOut.into());
            }
            // poll(2) counts whole milliseconds: one more, so that the last of them is not spent asking again and again.
            let timeout = PollTimeout::try_from(self.left() + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            // Closed by the host, it interrupts as well: nothing else would any more.
            let interrupt = self.interrupt.reader.get().ok_or(ErrorKind::TimedOut)?;
            let mut fds = vec![PollFd::new(interrupt, PollFlags::empty())];
            for socket in sockets {
                fds.push(PollFd::new(socket.descriptor()?, socket.events(what)));
            }
            match poll(&mut fds, timeout) {
                // Errors too are there to be fetched.
                Ok(_) if fds[1..].iter().any(|fd| fd.any().unwrap_or(true)) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads a regular file piece by piece, until `take` wants no more. What is no regular file is not waited for.
    pub fn read_file(&self, path: &Path, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<()> {
        let mut file = descriptor::open_regular(path)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            if self.is_over() {
                return Err(ErrorKind::TimedOut.into());
            }
            match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) if take(&piece[..read]).is_break() => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Does this with a socket that does not block, waiting as often as it would. Once it is over nothing is done
    /// any more, also where the socket could: a peer that never stops sending must not go on for ever.
    pub fn until_done<S: Socket, T>(
        &self,
        socket: &mut S,
        what: PollFlags,
        mut action: impl FnMut(&mut S) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            if self.is_over() {
                return Err(ErrorKind::TimedOut.into());
            }
            match action(socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(socket, what)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// Connects; the stream does not block.
    pub fn connect(&self, server: SocketAddr) -> io::Result<Stream> {
        let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = descriptor::make(|| socket(family, SockType::Stream, flags, None))?;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(server)) {
            // connect(2): it goes on by itself, and what became of it is told when the socket can be written to.
            Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = Stream::new(socket)?;
        self.wait(&stream, PollFlags::POLLOUT)?;
        match getsockopt(&stream.0.borrow()?, SocketError)? {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        // A request and its answer: nothing is gained by waiting for more to send.
        let _ = setsockopt(&stream.0.borrow()?, TcpNoDelay, &true);
        Ok(stream)
    }

    /// Writes all of it.
    pub fn write_all(&self, stream: &mut (impl Socket + Write), mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.until_done(stream, PollFlags::POLLOUT, |stream| stream.write(bytes))? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }

    /// Fills the whole buffer.
    pub fn read_exact(&self, stream: &mut (impl Socket + Read), buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.until_done(stream, PollFlags::POLLIN, |stream| stream.read(&mut buffer[filled..]))? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn ample(interrupt: &Interrupt) -> Deadline<'_> {
        Deadline { interrupt, at: Instant::now() + LONG }
    }

    #[test]
    fn an_interrupt_ends_the_wait_that_goes_on_and_those_that_come() {
        let interrupt = Interrupt::new().unwrap();
        let mut socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let receive = |socket: &mut UdpSocket| socket.recv(&mut [0; 8]);
        let waiting = ample(&interrupt);
        let mut again = socket.try_clone().unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| waiting.until_done(&mut socket, PollFlags::POLLIN, receive));
            interrupt.raise();
            assert_eq!(waiter.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        });
        let later = waiting.until_done(&mut again, PollFlags::POLLIN, receive);
        assert_eq!(later.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(waiting.is_over());
    }

    #[test]
    fn a_peer_that_never_stops_sending_is_left_when_time_is_up() {
        let (interrupt, too_late) = (Interrupt::new().unwrap(), Interrupt::new().unwrap());
        let (mut here, there) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        here.set_nonblocking(true).unwrap();
        too_late.raise();
        let over = Deadline { interrupt: &interrupt, at: Instant::now() };
        for over in [over, ample(&too_late)] {
            there.send_to(b"no answer", here.local_addr().unwrap()).unwrap();
            ample(&interrupt).wait(&here, PollFlags::POLLIN).unwrap();
            let received = over.until_done(&mut here, PollFlags::POLLIN, |socket| socket.recv(&mut [0; 16]));
            assert_eq!(received.unwrap_err().kind(), ErrorKind::TimedOut);
        }
    }

    #[test]
    fn a_deadline_ends_it() {
        let interrupt = Interrupt::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let waiting = ample(&interrupt).at_most(Duration::from_millis(3));
        assert_eq!(waiting.wait(&socket, PollFlags::POLLIN).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(waiting.is_over());
    }

    #[test]
    fn what_is_larger_than_the_socket_s_buffers_arrives_whole() {
        let interrupt = Interrupt::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut there = ample(&interrupt).connect(listener.local_addr().unwrap()).unwrap();
        let mut here = listener.accept().unwrap().0;
        here.set_nonblocking(true).unwrap();
        let sent: Vec<u8> = (0..16_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
        let mut received = vec![0; sent.len()];
        thread::scope(|scope| {
            scope.spawn(|| ample(&interrupt).write_all(&mut there, &sent).unwrap());
            ample(&interrupt).read_exact(&mut here, &mut received).unwrap();
        });
        assert!(received == sent);
        drop(there);
        let end = ample(&interrupt).read_exact(&mut here, &mut [0]);
        assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_connection_that_is_refused_says_so() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let interrupt = Interrupt::new().unwrap();
        assert_eq!(ample(&interrupt).connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
