//! Servers that take envelopes, or do not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server that answers every POST and keeps what it got. Each connection has a thread of its own.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    is_tls: bool,
    received: Received,
}

/// Heads and bodies.
type Received = Arc<Mutex<Vec<(String, String)>>>;

/// What is answered to a body: the bytes of the answer, or none to hang up.
type Answer = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Sink {
    pub(crate) fn start(status: u16) -> Self {
        Self::with_headers(status, "")
    }

    /// Its answers have these header lines too.
    pub(crate) fn with_headers(status: u16, headers: &'static str) -> Self {
        Self::answering(move |_| Some(answer(status, headers, "{}")))
    }

    /// It answers what this says, after it has kept the body.
    pub(crate) fn answering(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::listening(None, answer)
    }

    /// The same over TLS.
    pub(crate) fn with_tls(tls: Arc<ServerConfig>, status: u16) -> Self {
        Self::listening(Some(tls), move |_| Some(answer(status, "", "{}")))
    }

    fn listening(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let received = Received::default();
        let (kept, is_tls) = (Arc::clone(&received), tls.is_some());
        let address = accept(move |stream| match &tls {
            None => take(stream, &kept, &answer),
            Some(tls) => {
                let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                take(StreamOwned::new(connection, stream), &kept, &answer);
            }
        });
        Self { address, is_tls, received }
    }

    pub(crate) fn dsn(&self) -> String {
        format!("{}://key@{}/1", if self.is_tls { "https" } else { "http" }, self.address)
    }

    /// The bodies received so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.received.lock().unwrap().iter().map(|(_, body)| body.clone()).collect()
    }

    /// The heads received so far, request line and header fields.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.received.lock().unwrap().iter().map(|(head, _)| head.clone()).collect()
    }
}

/// An answer of HTTP.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Hands each connection to a thread. The address is one of this machine alone.
pub(crate) fn accept(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// The lines of a request's head; none where it ends in the middle, as its sender was killed.
pub(crate) fn head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return None,
            Ok(1..=2) => return Some(lines),
            Ok(_) => lines.push(line.trim_end().to_owned()),
        }
    }
}

fn take(stream: impl Read + Write, kept: &Mutex<Vec<(String, String)>>, answer: &Answer) {
    let mut reader = BufReader::new(stream);
    // Nobody: a connection without a request, such as one that failed in TLS.
    let Some(head) = head(&mut reader) else { return };
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    if length.is_none() || reader.read_exact(&mut body).is_err() {
        return;
    }
    let body = String::from_utf8(body).unwrap();
    let head: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    kept.lock().unwrap().push((head, body.clone()));
    if let Some(answer) = answer(&body) {
        let _ = reader.get_mut().write_all(answer.as_bytes()).and_then(|()| reader.get_mut().flush());
    }
}
