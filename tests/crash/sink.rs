//! A server that takes envelopes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

/// A server that answers every POST with one status and keeps what it got.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<(String, String)>>>,
}

impl Sink {
    pub(crate) fn start(status: u16) -> Self {
        Self::with_headers(status, "")
    }

    /// Its answers have these header lines too.
    pub(crate) fn with_headers(status: u16, headers: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<(String, String)>>>::default();
        let kept = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let (mut line, mut head, mut length) = (String::new(), String::new(), 0);
                let is_whole = loop {
                    match reader.read_line(&mut line) {
                        Ok(0) | Err(_) => break false,
                        // The blank line.
                        Ok(1..=2) => break true,
                        Ok(_) => {}
                    }
                    if let Some((name, value)) = line.split_once(':')
                        && name.eq_ignore_ascii_case("content-length")
                    {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                    line.clear();
                };
                let mut body = vec![0; length];
                // Who sends may be killed in the middle.
                if !is_whole || reader.read_exact(&mut body).is_err() {
                    continue;
                }
                kept.lock().unwrap().push((head, String::from_utf8(body).unwrap()));
                let answer =
                    format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}");
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { address, received }
    }

    pub(crate) fn dsn(&self) -> String {
        format!("http://key@{}/1", self.address)
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
