//! Stands between senders and the collector's plain HTTP, and writes down what goes through.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use crate::support::DEADLINE;

/// A relay. It ends with the process.
pub(crate) struct Relay {
    pub(crate) url: String,
    passed: Arc<Passed>,
}

#[derive(Default)]
struct Passed {
    requests: Mutex<Vec<Vec<u8>>>,
    one_more: Condvar,
    /// How many requests must have come before the first is passed on.
    gathered: usize,
}

impl Relay {
    /// One that holds requests back until this many have come.
    pub(crate) fn start(collector: &str, gathered: usize) -> Self {
        let collector = collector.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let passed = Arc::new(Passed { gathered, ..Passed::default() });
        let shared = Arc::clone(&passed);
        std::thread::spawn(move || {
            for sender in listener.incoming() {
                let (collector, passed) = (TcpStream::connect(&collector).unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || {
                    let (mut sender, mut collector) = (BufReader::new(sender.unwrap()), BufReader::new(collector));
                    while let Some(request) = message(&mut sender) {
                        passed.note(&request);
                        collector.get_mut().write_all(&request).unwrap();
                        let answer = message(&mut collector).unwrap();
                        if sender.get_mut().write_all(&answer).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { url, passed }
    }

    /// The requests so far, head and body.
    pub(crate) fn requests(&self) -> Vec<Vec<u8>> {
        self.passed.requests.lock().unwrap().clone()
    }
}

impl Passed {
    fn note(&self, request: &[u8]) {
        let mut requests = self.requests.lock().unwrap();
        requests.push(request.to_owned());
        self.one_more.notify_all();
        let few = |requests: &mut Vec<Vec<u8>>| requests.len() < self.gathered;
        drop(self.one_more.wait_timeout_while(requests, DEADLINE, few).unwrap());
    }
}

/// One request or answer, with a body of a length that its head says.
fn message(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let (mut message, mut length) = (Vec::new(), 0);
    loop {
        let begin = message.len();
        if stream.read_until(b'\n', &mut message).unwrap_or(0) == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&message[begin..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let head = message.len();
    message.resize(head + length, 0);
    stream.read_exact(&mut message[head..]).ok()?;
    Some(message)
}
