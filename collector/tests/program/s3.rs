//! A real S3 server, and a front that does with its requests and answers what a test wants.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::program::{Scratch, files, skip};

const BUCKET: &str = "received";
const PREFIX: &str = "edge/one";
const SECRET: &str = "not-a-secret";

/// versitygw on a folder.
pub(crate) struct Gateway {
    child: Child,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Starts it. None where it is not there: tools/setup installs it.
    pub(crate) fn start(scratch: &Scratch) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers/versitygw");
        if !program.exists() {
            skip("there is no versitygw: run tools/setup test");
            return None;
        }
        let (folder, meta) = (scratch.0.join("s3"), scratch.0.join("meta-of-s3"));
        fs::create_dir_all(folder.join(BUCKET)).unwrap();
        fs::create_dir(&meta).unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new(program)
            .env("ROOT_ACCESS_KEY", "tester")
            .env("ROOT_SECRET_KEY", SECRET)
            .args(["--port", &address.to_string(), "posix", "--sidecar"])
            .args([meta, folder.clone()])
            .stdout(Stdio::null())
            .stderr(fs::File::create(scratch.0.join("s3-said")).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            let said = || fs::read_to_string(scratch.0.join("s3-said"));
            assert!(Instant::now() < deadline, "versitygw does not listen on {address}: {:?}", said());
        }
        Some(Self { child, folder, address })
    }

    /// What is stored, by its path below the prefix.
    pub(crate) fn stored(&self, ending: &str) -> Vec<String> {
        files(&self.folder.join(BUCKET).join(PREFIX), ending)
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.folder.join(BUCKET).join(PREFIX).join(path)).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The option for it.
pub(crate) fn store() -> String {
    format!("s3://{BUCKET}/{PREFIX}")
}

/// The environment with which a collector finds a store there.
pub(crate) fn environment(address: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "tester".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
    ]
}

/// What a front does with reports that are created. Everything else passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Passes them on.
    Good,
    /// Answers with this status; nothing is stored.
    Says(u16),
    /// Never answers; nothing is stored.
    Hangs,
    /// Passes them on after this.
    Slow(Duration),
    /// Passes them on, and never answers.
    KeepsAnswer,
    /// Passes them on, and breaks the connection.
    CutsAnswer,
    /// Passes nothing on at all: a store that stores whatever comes, and tells nobody.
    IgnoresConditions,
}

/// The front.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    /// Reports that were to be created.
    created: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Front {
    pub(crate) fn start(behind: SocketAddr, mood: Mood) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let front = Self {
            address: listener.local_addr().unwrap(),
            mood: Arc::new(Mutex::new(mood)),
            created: Arc::default(),
            asked: Arc::default(),
        };
        let (mood, created, asked) = (front.mood.clone(), front.created.clone(), front.asked.clone());
        let objects: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mood, created, asked, objects) = (mood.clone(), created.clone(), asked.clone(), objects.clone());
                std::thread::spawn(move || {
                    let mut stream = stream;
                    while let Ok(Some(request)) = Asked::read(&mut stream) {
                        asked.lock().unwrap().push(request.line.clone());
                        let is_report = request.line.starts_with("PUT ") && request.line.contains(".otr ");
                        created.fetch_add(usize::from(is_report), Ordering::SeqCst);
                        let mood = *mood.lock().unwrap();
                        let goes_on = match mood {
                            Mood::IgnoresConditions => keep_all(&mut stream, &request, &objects),
                            mood if is_report => misbehave(&mut stream, &request, behind, mood),
                            _ => pass(&mut stream, &request, behind),
                        };
                        if goes_on.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        front
    }

    pub(crate) fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn created(&self) -> usize {
        self.created.load(Ordering::SeqCst)
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A request as it came.
struct Asked {
    line: String,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Asked {
    fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let Some((head, rest)) = read_head(stream)? else { return Ok(None) };
        let text = String::from_utf8(head.clone()).unwrap();
        let mut body = rest;
        let missing = length(&text).unwrap_or(0) - body.len();
        stream.take(missing as u64).read_to_end(&mut body)?;
        Ok(Some(Self { line: text.lines().next().unwrap().to_owned(), head, body }))
    }

    fn path(&self) -> String {
        let target = self.line.split(' ').nth(1).unwrap();
        target.split('?').next().unwrap().to_owned()
    }
}

fn length(head: &str) -> Option<usize> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.trim().parse().unwrap())
}

/// The head, and what has come of what follows it.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(Some((bytes, rest)));
        }
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

/// What the server behind says.
fn fetch(request: &Asked, behind: SocketAddr) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(behind)?;
    server.write_all(&request.head)?;
    server.write_all(&request.body)?;
    let (head, mut body) = read_head(&mut server)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let has_body = !request.line.starts_with("HEAD ");
    match length(&text) {
        Some(length) if has_body => {
            let missing = (length - body.len()) as u64;
            server.take(missing).read_to_end(&mut body)?;
        }
        None if text.contains("transfer-encoding: chunked") => {
            while !body.ends_with(b"0\r\n\r\n") {
                let mut piece = [0; 8192];
                let read = server.read(&mut piece)?;
                body.extend_from_slice(&piece[..read]);
            }
        }
        _ => {}
    }
    Ok([head, body].concat())
}

fn pass(stream: &mut TcpStream, request: &Asked, behind: SocketAddr) -> io::Result<()> {
    stream.write_all(&fetch(request, behind)?)
}

fn misbehave(stream: &mut TcpStream, request: &Asked, behind: SocketAddr, mood: Mood) -> io::Result<()> {
    match mood {
        Mood::Says(status) => answer(stream, status, b"<Error><Code>Test</Code></Error>"),
        Mood::Hangs => wait(stream),
        Mood::Slow(time) => {
            std::thread::sleep(time);
            pass(stream, request, behind)
        }
        Mood::KeepsAnswer => {
            fetch(request, behind)?;
            wait(stream)
        }
        Mood::CutsAnswer => {
            fetch(request, behind)?;
            stream.shutdown(Shutdown::Both)
        }
        Mood::Good | Mood::IgnoresConditions => pass(stream, request, behind),
    }
}

/// Until the other side has had enough.
fn wait(stream: &mut TcpStream) -> io::Result<()> {
    while stream.read(&mut [0; 1024])? > 0 {}
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn answer(stream: &mut TcpStream, status: u16, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status} Test\r\nContent-Length: {}\r\nETag: \"1\"\r\n", body.len());
    let head = format!("{head}Last-Modified: Tue, 24 Nov 2026 10:00:00 GMT\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())
}

fn keep_all(stream: &mut TcpStream, request: &Asked, objects: &Mutex<HashMap<String, Vec<u8>>>) -> io::Result<()> {
    let mut objects = objects.lock().unwrap();
    match request.line.split(' ').next().unwrap() {
        "PUT" => {
            objects.insert(request.path(), request.body.clone());
            answer(stream, 200, b"")
        }
        "DELETE" => answer(stream, 204, b""),
        _ => match objects.get(&request.path()) {
            Some(body) => answer(stream, 200, body),
            None => answer(stream, 404, b"<Error><Code>NoSuchKey</Code></Error>"),
        },
    }
}
