//! Artefacts, programs, servers and temporary folders that clean up after themselves.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long a server may take to be ready: far above what it takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How long a program may take, in seconds, before it is ended and the test fails.
const PROGRAM_SECONDS: &str = "120";

/// A report URL where nobody listens, nor ever does: another test's server may get any port that is merely free.
pub(crate) const NOBODY: &str = "http://127.0.0.1:1";

/// Raw ids: what must never be seen outside a process.
pub(crate) const CLUSTER_ID: &str = "6b1f2a52-8a3c-4d57-9d0c-2f1f6d7a9e10";
pub(crate) const NODE_ID: &str = "storage-7.rack-3.corp.internal";
pub(crate) const VERSION: &str = "2.8.1";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn build_folder() -> PathBuf {
    std::env::var_os("ONDAT_TELEMETRY_BUILD").map_or_else(|| root().join("target/release"), PathBuf::from)
}

/// What `make` has built.
pub(crate) fn built(name: &str) -> PathBuf {
    present(build_folder().join(name))
}

/// One of the two commands.
pub(crate) fn command(name: &str) -> PathBuf {
    let folder = std::env::var_os("ONDAT_TELEMETRY_COMMANDS").map_or_else(build_folder, PathBuf::from);
    present(folder.join(name))
}

fn present(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing\nrun make first", path.display());
    path
}

/// A program of the Python environment with Bugsink and `cryptography`.
pub(crate) fn in_venv(name: &str) -> PathBuf {
    let path = root().join("target/venv/bin").join(name);
    assert!(path.exists(), "{} is missing\nrun tools/setup test first", path.display());
    path
}

/// A Python program of this folder.
pub(crate) fn python(script: &str) -> Command {
    let mut command = program(in_venv("python"));
    // -B: nothing is written beside the sources.
    command.arg("-B").arg(root().join("tests/real").join(script));
    command
}

/// What the raw ids become outside a process, by Python.
pub(crate) fn expected_ids() -> Value {
    serde_json::from_slice(&succeed(python("ids.py").args([CLUSTER_ID, NODE_ID])).stdout).unwrap()
}

/// A folder of our own that is gone when the test is over.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ondat-telemetry-real-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        make_private_folder(&path);
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A folder in it that serves as a state directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        let path = self.join("state");
        make_private_folder(&path);
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn make_private_folder(path: &Path) {
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700)).unwrap();
}

/// Every regular file below a folder.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// The files of a folder that may not be there.
pub(crate) fn files_in(folder: &Path) -> Vec<PathBuf> {
    if folder.is_dir() { files_below(folder) } else { Vec::new() }
}

/// A command that is ended when it takes too long and sees nothing of this process's environment but PATH.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", PROGRAM_SECONDS]).arg(path);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// The output of a command that must succeed.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, both(&output));
    output
}

pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|why| panic!("{command:?}: {why}"))
}

/// What a program said on both streams.
pub(crate) fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Compiles what a program of any language can be preloaded with.
pub(crate) fn compile_preload(name: &str, folder: &TempDir) -> PathBuf {
    let object = folder.join(&name.replace(".c", ".so"));
    let mut compiler = program("gcc");
    compiler.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-shared", "-fPIC"]);
    succeed(compiler.arg(root().join("tests/real").join(name)).arg("-o").arg(&object));
    object
}

/// Compiles a program of this folder, or beside it, and links it to the shared library.
pub(crate) fn compile(name: &str, folder: &TempDir) -> PathBuf {
    let name = Path::new(name);
    let (library, program_file) = (build_folder(), folder.path().join(name.file_stem().unwrap()));
    for artefact in ["libondat_telemetry.so", "libondat_telemetry.so.0", "ondat-telemetry-monitor"] {
        built(artefact);
    }
    let library = std::fs::canonicalize(library).unwrap();
    let mut compiler = program("gcc");
    compiler.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-I"]).arg(root().join("include"));
    compiler.arg(root().join("tests/real").join(name)).arg("-o").arg(&program_file).arg("-L").arg(&library);
    compiler.arg("-londat_telemetry").arg(format!("-Wl,-rpath,{}", library.display()));
    succeed(&mut compiler);
    program_file
}

/// What `probe` printed: "name value" lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said(BTreeMap<String, String>);

impl Said {
    pub(crate) fn of(output: &Output) -> Self {
        assert!(output.status.success(), "{}\n{}", output.status, both(output));
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap_or((line, "")));
        Self(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("no {name:?} in {self:?}"))
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap()
    }
}

/// The statuses of ondat_telemetry.h.
pub(crate) mod status {
    pub(crate) const OK: i64 = 0;
    pub(crate) const INVALID_CONFIG: i64 = 2;
    pub(crate) const INVALID_STATE: i64 = 3;
    pub(crate) const INVALID_REPORT: i64 = 4;
    pub(crate) const DISABLED: i64 = 5;
    pub(crate) const QUEUED: i64 = 6;
    pub(crate) const TIMED_OUT: i64 = 7;
    pub(crate) const NETWORK: i64 = 8;
    pub(crate) const UNTRUSTED: i64 = 10;
    pub(crate) const IO: i64 = 11;
}

/// A server, ended when dropped.
pub(crate) struct Server(Child);

impl Server {
    /// Starts it and returns it with the first line of its standard output for which `is_ready` has something.
    pub(crate) fn start<T: Send + 'static>(
        command: &mut Command,
        is_ready: impl Fn(&str) -> Option<T> + Send + 'static,
    ) -> (Self, T) {
        let mut server = Self::spawn(command.stdout(Stdio::piped()));
        let lines = BufReader::new(server.0.stdout.take().unwrap());
        let (found, ready) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end also after that: a server must not block on a full pipe.
            for line in lines.lines().map_while(Result::ok) {
                if let Some(value) = is_ready(&line) {
                    let _ = found.send(value);
                }
            }
        });
        let value = ready.recv_timeout(DEADLINE).unwrap_or_else(|why| panic!("{command:?} is not ready: {why}"));
        (server, value)
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        Self(command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}")))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// From now on it reads nothing and answers nothing, until it is resumed. A signal alone may stop some threads later.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        let threads = || std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let stat = |thread: PathBuf| std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
        let is_stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'));
        wait_for("a server to stop", || threads().all(|thread| is_stopped(stat(thread.unwrap().path()))).then_some(()));
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends it and waits for its end.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    pub(crate) fn end(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill(pid, Signal::SIGTERM);
            let patience = Instant::now() + Duration::from_secs(10);
            while self.0.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A server's command: without the environment of this process, and not under `timeout`, which would be what is ended.
pub(crate) fn server(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Asks again until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A loopback port that was free for UDP and TCP a moment ago.
pub(crate) fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Reports carry their UTC day: what follows must not run across midnight.
pub(crate) fn stay_within_one_day() {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 86_400;
    if let Some(left) = 86_400_u64.checked_sub(second).filter(|left| *left <= 90) {
        std::thread::sleep(Duration::from_secs(left));
    }
}

/// The operator's command.
pub(crate) fn ondat(arguments: &[&str]) -> Command {
    let mut command = program(command("ondat-telemetry"));
    command.args(arguments);
    command
}

/// The collector, serving.
pub(crate) struct Collector {
    pub(crate) url: String,
    /// The same without TLS.
    pub(crate) http: String,
    pub(crate) ca_file: String,
    pub(crate) sentry_dsn: String,
    /// Where DNS questions are answered.
    pub(crate) dns: String,
    pub(crate) data: PathBuf,
    pub(crate) server: Server,
}

impl Collector {
    pub(crate) fn serve(data: &Path, report_keys: &Path) -> Self {
        Self::serve_named(data, report_keys, "127.0.0.1")
    }

    /// With this host in its addresses.
    pub(crate) fn serve_named(data: &Path, report_keys: &Path, host: &str) -> Self {
        Self::start(data, report_keys, host, &[])
    }

    /// Answering version queries from this zone file.
    pub(crate) fn serve_zone(data: &Path, report_keys: &Path, zone: &Path) -> Self {
        Self::start(data, report_keys, "127.0.0.1", &[OsStr::new("--zone"), zone.as_os_str()])
    }

    fn start(data: &Path, report_keys: &Path, host: &str, more: &[&OsStr]) -> Self {
        let mut command = server(command("ondat-telemetry-collector"));
        command.args(["serve", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dns", "127.0.0.1:0"]);
        command.args(["--name", host, "--data"]).arg(data);
        command.arg("--report-keys").arg(report_keys).args(more);
        let (server, ready) = Server::start(&mut command, |line| serde_json::from_str::<Value>(line).ok());
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        let (url, http, ca_file, sentry_dsn) = (text("https"), text("http"), text("ca_file"), text("sentry_dsn"));
        Self { url, http, ca_file, sentry_dsn, dns: text("dns"), data: data.to_owned(), server }
    }

    /// The sealed reports that it has: of several bodies under one id the first, as the others have `~` in their names.
    pub(crate) fn reports(&self) -> Vec<PathBuf> {
        let mut reports = files_in(&self.data.join("sealed"));
        reports.retain(|path| !path.to_string_lossy().contains('~'));
        reports
    }

    /// The crash reports it has.
    pub(crate) fn crashes(&self) -> Vec<PathBuf> {
        files_in(&self.data.join("crashes"))
    }

    /// The version queries it has answered, a line each.
    pub(crate) fn queries(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.data.join("queries.jsonl")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    pub(crate) fn stop(self) {
        self.server.stop();
    }
}

/// What a file holds.
pub(crate) fn bytes_of(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

pub(crate) fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}
