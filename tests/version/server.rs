//! A DNS server for one test: one thread, UDP and TCP on one port, and a script that decides about every byte.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::programs::DEADLINE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A question as it came.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) transport: Transport,
    pub(crate) bytes: Vec<u8>,
}

/// What the server does about a question; nothing, where a script returns none.
#[derive(Clone)]
pub(crate) enum Reply {
    /// A message from the port that was asked.
    Message(Vec<u8>),
    /// A datagram from a port that was not asked.
    FromElsewhere(Vec<u8>),
    /// Bytes as they are, without the length that goes before a message over TCP.
    Stream(Vec<u8>),
}

type Script = Box<dyn FnMut(&Question) -> Vec<Reply> + Send>;

/// Ended when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    /// The thread ends when this end is closed.
    alive: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<Question>>,
}

impl Server {
    /// On a free port of 127.0.0.1.
    pub(crate) fn start(script: impl FnMut(&Question) -> Vec<Reply> + Send + 'static) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        Self::serve(udp, tcp, Box::new(script))
    }

    /// On port 53, where resolv.conf sends its readers.
    pub(crate) fn start_at(ip: IpAddr, script: impl FnMut(&Question) -> Vec<Reply> + Send + 'static) -> Self {
        let address = SocketAddr::new(ip, 53);
        let (udp, tcp) = (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap());
        Self::serve(udp, tcp, Box::new(script))
    }

    fn serve(udp: UdpSocket, tcp: TcpListener, script: Script) -> Self {
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared { script: Mutex::new(script), asked: Mutex::default() });
        let (alive, end) = UnixStream::pair().unwrap();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || served.serve(&udp, &tcp, &end));
        Self { address, shared, alive: Some(alive), thread: Some(thread) }
    }

    /// From now on it says something else, and counts from zero.
    pub(crate) fn set_script(&self, script: impl FnMut(&Question) -> Vec<Reply> + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
        self.shared.asked.lock().unwrap().clear();
    }

    /// What it was asked so far: complete where it has answered.
    pub(crate) fn asked(&self) -> Vec<Question> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Ends it, and returns everything it was asked, also what it has not answered.
    pub(crate) fn end(mut self) -> Vec<Question> {
        self.stop();
        self.asked()
    }

    fn stop(&mut self) {
        drop(self.alive.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, None | Some(Ok(()))), "the server's script panicked");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn serve(&self, udp: &UdpSocket, tcp: &TcpListener, end: &UnixStream) {
        let elsewhere = UdpSocket::bind((udp.local_addr().unwrap().ip(), 0)).unwrap();
        // Connections on which nothing is said: closing them would say something.
        let mut silent = Vec::new();
        loop {
            let mut fds = [udp.as_fd(), tcp.as_fd(), end.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            poll(&mut fds, PollTimeout::NONE).unwrap();
            match fds.map(|fd| fd.any().unwrap()) {
                [true, ..] => self.answer_datagram(udp, &elsewhere),
                [_, true, _] => silent.extend(self.answer_connection(tcp.accept().unwrap().0)),
                // Last: what was sent before the end is taken.
                _ => return,
            }
        }
    }

    fn answer_datagram(&self, udp: &UdpSocket, elsewhere: &UdpSocket) {
        let mut bytes = vec![0; 65_536];
        let (length, asker) = udp.recv_from(&mut bytes).unwrap();
        bytes.truncate(length);
        for reply in self.replies(Question { transport: Transport::Udp, bytes }) {
            let (socket, bytes) = match &reply {
                Reply::Message(bytes) => (udp, bytes),
                Reply::FromElsewhere(bytes) => (elsewhere, bytes),
                Reply::Stream(_) => panic!("a datagram is no stream"),
            };
            assert_eq!(socket.send_to(bytes, asker).unwrap(), bytes.len());
        }
    }

    /// Answers and closes, or returns the connection where nothing is said.
    fn answer_connection(&self, mut stream: TcpStream) -> Option<TcpStream> {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut bytes).ok()?;
        let replies = self.replies(Question { transport: Transport::Tcp, bytes });
        if replies.is_empty() {
            return Some(stream);
        }
        for reply in replies {
            let sent = match reply {
                Reply::Message(bytes) => {
                    let length = u16::try_from(bytes.len()).unwrap();
                    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat())
                }
                Reply::Stream(bytes) => stream.write_all(&bytes),
                Reply::FromElsewhere(_) => panic!("a connection has one other end"),
            };
            // The asker may have heard enough.
            let _ = sent;
        }
        None
    }

    fn replies(&self, question: Question) -> Vec<Reply> {
        self.asked.lock().unwrap().push(question.clone());
        let mut script = self.script.lock().unwrap();
        (*script)(&question)
    }
}
