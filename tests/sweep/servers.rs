//! A DNS server and one for HTTP, for all runs at once: the run is named in the question and in the path.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

/// What one run has sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) questions: usize,
    pub(crate) reports: usize,
    /// The bodies posted to Sentry.
    pub(crate) events: Vec<String>,
}

pub(crate) struct Servers {
    pub(crate) dns: u16,
    pub(crate) http: u16,
    received: Arc<Mutex<BTreeMap<u32, Sent>>>,
}

impl Servers {
    pub(crate) fn start(version_answer: String) -> Self {
        let received = Arc::<Mutex<BTreeMap<u32, Sent>>>::default();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let dns = socket.local_addr().unwrap().port();
        let noted = Arc::clone(&received);
        std::thread::spawn(move || answer_questions(&socket, &version_answer, &noted));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = listener.local_addr().unwrap().port();
        let noted = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, noted) = (stream.unwrap(), Arc::clone(&noted));
                // A client may be gone at any moment.
                std::thread::spawn(move || take(stream, &noted));
            }
        });
        Self { dns, http, received }
    }

    /// What came of this run so far.
    pub(crate) fn sent(&self, run: u32) -> Sent {
        self.received.lock().unwrap().get(&run).cloned().unwrap_or_default()
    }
}

/// The number behind `run` in a label or a part of a path.
fn run_in(text: &str) -> Option<u32> {
    text.split(['.', '/']).find_map(|part| part.strip_prefix("run")?.parse().ok())
}

fn answer_questions(socket: &UdpSocket, text: &str, received: &Mutex<BTreeMap<u32, Sent>>) {
    let mut packet = [0; 1024];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        let (mut name, mut at) = (String::new(), 12);
        while at < length && packet[at] != 0 {
            let label = &packet[at + 1..=at + usize::from(packet[at])];
            name.push_str(&String::from_utf8_lossy(label));
            name.push('.');
            at += 1 + label.len();
        }
        let question = &packet[12..at + 5];
        if let Some(run) = run_in(&name) {
            received.lock().unwrap().entry(run).or_default().questions += 1;
        }
        let text_length = u8::try_from(text.len()).unwrap();
        let mut answer = packet[..2].to_vec();
        answer.extend([0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend(question);
        answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 14, 16, 0, text_length + 1, text_length]);
        answer.extend(text.as_bytes());
        let _ = socket.send_to(&answer, from);
    }
}

/// Takes one request. One that ends in the middle is none.
fn take(stream: TcpStream, received: &Mutex<BTreeMap<u32, Sent>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let run = run_in(&first)?;
    let is_report = first.starts_with("PUT ");
    {
        let mut received = received.lock().unwrap();
        let sent = received.entry(run).or_default();
        if is_report {
            sent.reports += 1;
        } else {
            sent.events.push(String::from_utf8_lossy(&body).into_owned());
        }
    }
    let answer = "HTTP/1.1 200 OK\r\nOndat-Telemetry: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    reader.get_mut().write_all(answer.as_bytes()).ok()
}
