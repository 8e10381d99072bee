//! A running server with a state directory of its own, and a client that says what it is told to say.

use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Far above what anything takes: it turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The password of the user `admin`.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The program with nothing in its environment but the search path and the state directory.
pub(crate) fn command(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ondat-telemetry"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("ONDAT_TELEMETRY_STATE_DIR", state);
    command
}

/// A switch that one source turns off, as JSON says it.
pub(crate) fn held_by(kind: &str, name: &str, text: &str) -> Value {
    let source = serde_json::json!({ "kind": kind, "name": name, "text": text, "process": null });
    serde_json::json!({ "on": false, "off_by": [text], "sources": [source] })
}

/// Runs it to its end.
pub(crate) fn run(state: &Path, arguments: &[&str]) -> Output {
    command(state, arguments).stdin(Stdio::null()).output().unwrap()
}

/// An empty state directory for the test of this name.
pub(crate) fn state_dir(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("serve-{name}"));
    let _ = fs::remove_dir_all(&path);
    DirBuilder::new().recursive(true).mode(0o700).create(&path).unwrap();
    path
}

/// Sets admin's password.
pub(crate) fn set_password(state: &Path, password: &str) {
    let mut child = command(state, &["password"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    assert!(child.wait().unwrap().success());
}

/// The running program.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) state: PathBuf,
}

impl Server {
    /// With a password, and nothing configured.
    pub(crate) fn start(name: &str) -> Self {
        let state = state_dir(name);
        set_password(&state, PASSWORD);
        Self::start_in(&state, &[])
    }

    /// With these options.
    pub(crate) fn start_in(state: &Path, options: &[&str]) -> Self {
        Self::spawn(command(state, &["serve", "--listen", "127.0.0.1:0"]).args(options), state)
    }

    /// A prepared command.
    pub(crate) fn spawn(command: &mut Command, state: &Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let mut why = String::new();
            child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("it does not listen: {line}{why}");
        };
        let address = ready["url"].as_str().unwrap().rsplit('/').next().unwrap().parse::<SocketAddr>().unwrap();
        let address = SocketAddr::new([127, 0, 0, 1].into(), address.port());
        Self { child, address, state: state.to_owned() }
    }

    /// Says this and returns the answer.
    pub(crate) fn exchange(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).unwrap();
        Answer::read(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A request with these headers, each line with its end, and this body.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let json = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let host = self.address;
        self.exchange(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{json}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        ))
    }

    /// The Authorization header of a new session.
    pub(crate) fn log_in(&self) -> String {
        let body = format!(r#"{{"username":"admin","password":"{PASSWORD}"}}"#);
        let answer = self.ask("POST", "/v2/auth/login", "", &body).with(200);
        format!("Authorization: {}\r\n", answer.header("authorization"))
    }

    pub(crate) fn switches_json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.state.join("switches.json")).unwrap()).unwrap()
    }

    /// The audit file's lines.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.state.join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    pub(crate) fn log(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.child.stderr.take().unwrap())
    }

    /// Ends it as its administrator would. The exit status, and what it said.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::SIGTERM);
        let mut log = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut log).unwrap();
        }
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads one answer; its length is in its head.
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Self { status, head, body: Vec::new() };
        let length =
            if answer.has_header("content-length") { answer.header("content-length").parse().unwrap() } else { 0 };
        answer.body.resize(length, 0);
        stream.read_exact(&mut answer.body).unwrap();
        answer
    }

    #[track_caller]
    pub(crate) fn with(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}{}", self.head, String::from_utf8_lossy(&self.body));
        self
    }

    fn find(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The one line of an error.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        let json = self.json();
        let object = json.as_object().unwrap();
        assert_eq!(object.keys().collect::<Vec<_>>(), ["error"]);
        object["error"].as_str().unwrap().to_owned()
    }
}
