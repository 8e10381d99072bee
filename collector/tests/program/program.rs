//! The program under test, and plain clients for its three protocols.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_server::proto::op::{Message, Query};
use hickory_server::proto::rr::{DNSClass, Name, RecordType};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

const TIME: Duration = Duration::from_secs(20);

/// A folder of its own, removed at the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ondat-collector-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// What lies in the data folder or below, with this ending, by its path from there; sorted.
    pub(crate) fn stored(&self, ending: &str) -> Vec<String> {
        files(&self.data(), ending)
    }

    /// The bytes of the only such file.
    pub(crate) fn only(&self, ending: &str) -> Vec<u8> {
        let [path] = &self.stored(ending)[..] else { panic!("{:?}", self.stored(ending)) };
        fs::read(self.data().join(path)).unwrap()
    }

    /// Whether nothing lies there half received.
    pub(crate) fn is_swept(&self) -> bool {
        self.stored("").iter().all(|path| !path.starts_with("incoming/") || path.ends_with("/lock"))
    }

    /// Runs a subcommand on the same folder that fails with this status and one line.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty() && said.starts_with("ondat-telemetry-collector: "), "{said}");
        said
    }

    /// Runs another subcommand on the same folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        command().args(arguments).arg("--data").arg(self.data()).output().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What lies in a folder or below, with this ending, by its path from there; sorted.
pub(crate) fn files(root: &Path, ending: &str) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Says that a test is left out, and why: here, and at the end of `make test`.
#[allow(clippy::print_stderr, reason = "a test that is left out says so")]
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    // The folder of what is built may be another one.
    fs::create_dir_all(&folder).unwrap();
    let list = folder.join("skipped.txt");
    let mut list = fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
    list.write_all(format!("collector: {why}\n").as_bytes()).unwrap();
}

pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ondat-telemetry-collector"))
}

/// A running `serve`.
pub(crate) struct Collector {
    child: Child,
    pub(crate) ready: Value,
}

impl Collector {
    /// Starts it on free ports and waits for its line.
    pub(crate) fn start(scratch: &Scratch, more: &[&str]) -> Self {
        Self::start_with(scratch, more, &[])
    }

    /// The same, with this in its environment.
    pub(crate) fn start_with(scratch: &Scratch, more: &[&str], environment: &[(&str, String)]) -> Self {
        let mut child = command()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .args(["serve", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--data"])
            .arg(scratch.data())
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::from(fs::File::create(scratch.0.join("said")).unwrap()))
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, ready: serde_json::from_str(&line).unwrap() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits until it is so.
    pub(crate) fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + TIME;
        while !is_so(self) {
            assert!(std::time::Instant::now() < deadline, "it does not come to be so");
        }
    }

    /// Whether this is what it shows to who connects over TLS.
    pub(crate) fn has_certificate(&self, pem: &str) -> bool {
        let port = self.text("https").rsplit_once(':').unwrap().1.parse().unwrap();
        let root = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut stream = over_tls(root, SocketAddr::from(([127, 0, 0, 1], port)));
        stream.write_all(b"GET /v1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").is_ok()
    }

    /// Ends it as its administrator would; its exit code.
    pub(crate) fn stop(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().unwrap().code()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.ready[name].as_str().unwrap().to_owned()
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let text = self.text(name);
        text.rsplit_once('/').map_or(text.as_str(), |(_, address)| address).parse().unwrap()
    }

    /// The public key of the DSN.
    pub(crate) fn sentry_key(&self) -> String {
        let dsn = self.text("sentry_dsn");
        dsn.strip_prefix("https://").unwrap().split_once('@').unwrap().0.to_owned()
    }

    /// One request over TLS, trusting the collector's own authority and nothing else.
    pub(crate) fn https(&self, request: &Request<'_>) -> Response {
        let root = CertificateDer::from_pem_file(self.text("ca_file")).unwrap();
        request.send(over_tls(root, self.address("https")))
    }

    /// One request without TLS.
    pub(crate) fn http(&self, request: &Request<'_>) -> Response {
        request.send(connect(self.address("http")))
    }

    /// The same, where the answer may be missing: the collector may end meanwhile.
    pub(crate) fn try_http(address: SocketAddr, request: &Request<'_>) -> io::Result<Response> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIME))?;
        request.try_send(stream)
    }

    /// What those who run it ask.
    pub(crate) fn operations(&self, path: &str) -> Response {
        let request = Request { line: format!("GET {path}"), headers: Vec::new(), body: b"" };
        request.send(connect(self.address("operations")))
    }

    /// A number of `/metrics`.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.operations("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("ondat_collector_{series} ")));
        line.unwrap_or_else(|| panic!("{series} in {text}")).parse().unwrap()
    }

    /// A question over UDP.
    pub(crate) fn ask(&self, name: &str, record_type: RecordType) -> Message {
        self.ask_class(name, record_type, DNSClass::IN)
    }

    pub(crate) fn ask_class(&self, name: &str, record_type: RecordType, class: DNSClass) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(TIME)).unwrap();
        socket.send_to(&question(name, record_type, class), self.address("dns")).unwrap();
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer).unwrap();
        Message::from_vec(&answer[..length]).unwrap()
    }

    /// A question over TCP.
    pub(crate) fn ask_tcp(&self, name: &str, record_type: RecordType) -> Message {
        let mut stream = connect(self.address("dns"));
        let question = question(name, record_type, DNSClass::IN);
        stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&question).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        Message::from_vec(&answer).unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection over TLS to who has a certificate of this root, and no other.
fn over_tls(root: CertificateDer<'_>, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(address))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIME)).unwrap();
    stream.set_write_timeout(Some(TIME)).unwrap();
    stream
}

pub(crate) fn question(name: &str, record_type: RecordType, class: DNSClass) -> Vec<u8> {
    let mut query = Query::query(Name::from_ascii(name).unwrap(), record_type);
    query.set_query_class(class);
    let mut message = Message::query();
    message.add_query(query);
    message.to_vec().unwrap()
}

/// A request as it is written.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) line: String,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: &'a [u8],
}

impl Request<'_> {
    fn send(&self, stream: impl Read + Write) -> Response {
        self.try_send(stream).unwrap()
    }

    fn try_send(&self, mut stream: impl Read + Write) -> io::Result<Response> {
        let mut head = format!("{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", self.line);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.headers.iter().any(|(name, _)| *name == "Transfer-Encoding" || *name == "Content-Length") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(self.body)?;
        stream.flush()?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // Some servers end TLS without saying so.
            Err(why) if why.kind() != io::ErrorKind::UnexpectedEof => Err(why),
            _ if answer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(Response::parse(&answer)),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.body.matches('\n').count(), 1, "one line: {:?}", self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}
