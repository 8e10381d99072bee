//! The victim: a C program that ends in a chosen way, with the library or without it, and what its end is compared with.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::process::Process;
use crate::sink::Sink;
use crate::support::{TempDir, compile, root};

/// How the victim's C files are compiled.
pub(crate) const FLAGS: [&str; 7] = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O0", "-g"];

/// Where the victim's C files are.
pub(crate) fn sources() -> PathBuf {
    root().join("tests/crash/victim")
}

/// The victim program, compiled once.
pub(crate) fn victim() -> &'static Path {
    static VICTIM: OnceLock<PathBuf> = OnceLock::new();
    VICTIM.get_or_init(|| {
        let folder = root().join("target/tmp");
        std::fs::create_dir_all(&folder).unwrap();
        // One name for every run: a static is never dropped, and what it made would stay.
        let program = folder.join("victim");
        let unfinished = folder.join(format!("victim-{}", std::process::id()));
        compile("gcc", &sources(), &unfinished, &FLAGS);
        std::fs::rename(&unfinished, &program).unwrap();
        // As the kernel names it, whatever links lead there.
        program.canonicalize().unwrap()
    })
}

/// The operator's command, built by `make test`.
pub(crate) fn command() -> PathBuf {
    let folder = std::env::var_os("ONDAT_TELEMETRY_COMMANDS");
    let path = folder.map_or_else(|| root().join("target/debug"), PathBuf::from).join("ondat-telemetry");
    assert!(path.exists(), "{} is missing: run make test", path.display());
    path
}

/// What the victim is surrounded by, with the library and without it.
#[derive(Clone, Default)]
pub(crate) struct Around {
    /// RLIMIT_CORE, hard and soft.
    pub(crate) core: u64,
    /// A program that is the victim in place of [`victim`].
    pub(crate) program: Option<PathBuf>,
    /// A program and its arguments that start the victim.
    pub(crate) launcher: Vec<String>,
    /// Called between fork and exec.
    pub(crate) confine: Option<Confine>,
    /// Variables of the environment.
    pub(crate) environment: Vec<(String, String)>,
}

/// What is done between fork and exec: system calls only.
pub(crate) type Confine = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

impl Around {
    /// Started by this program with these arguments.
    pub(crate) fn launched_by(launcher: &[&str]) -> Self {
        Self { launcher: launcher.iter().map(ToString::to_string).collect(), ..Self::default() }
    }

    /// Confined so.
    pub(crate) fn confined(confine: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { confine: Some(Arc::new(confine)), ..Self::default() }
    }
}

/// A victim that has installed everything and waits for a line.
pub(crate) struct Victim {
    pub(crate) child: Child,
    /// The victim itself, which is not the child where it was launched by another program.
    pub(crate) pid: u32,
    pub(crate) output: BufReader<ChildStdout>,
    /// The library's log until everything was installed.
    pub(crate) log: Vec<String>,
    /// What the installation said: its status and, after a blank, the message.
    pub(crate) installed: String,
    pub(crate) monitor: Option<Process>,
}

impl Victim {
    /// `library` are the variables of the library's settings; without them the victim does not use the library.
    pub(crate) fn start(scenario: &str, library: Option<&[(&str, &str)]>, cwd: &Path, around: &Around) -> Self {
        let mut words = around.launcher.clone();
        let program = around.program.as_deref().unwrap_or_else(|| victim());
        words.push(program.to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args([if library.is_some() { "with" } else { "without" }, scenario]).current_dir(cwd);
        command.env_clear().envs(around.environment.iter().cloned()).envs(library.unwrap_or_default().iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let (core, confine) = (around.core, around.confine.clone());
        // SAFETY: between fork and exec of a program without other threads' locks in the way.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: core, rlim_max: core };
                if libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) != 0 {
                    return Err(io::Error::last_os_error());
                }
                confine.as_ref().map_or(Ok(()), |confine| confine())
            })
        };
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut log = Vec::new();
        let mut line = || {
            loop {
                let mut line = String::new();
                output.read_line(&mut line).unwrap();
                if !line.starts_with("log ") {
                    break line.trim_end().to_owned();
                }
                log.push(line);
            }
        };
        let installed = if library.is_some() { line() } else { String::new() };
        assert_eq!(line(), "ready");
        let pid = if around.launcher.is_empty() { child.id() } else { pid_of_victim_below(child.id()) };
        let monitor = monitor_of(pid);
        Self { child, pid, output, log, installed, monitor }
    }

    /// Lets it go on to its end.
    pub(crate) fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// The wait status and what was printed, once the victim and its monitor are gone.
    pub(crate) fn end(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap().into_raw();
        if let Some(monitor) = &self.monitor {
            monitor.wait();
        }
        let mut printed = String::new();
        self.output.read_to_string(&mut printed).unwrap();
        (status, printed.trim_end().to_owned())
    }
}

impl Victim {
    /// As [`end`](Self::end), once every monitor that has seen the death is gone: a host may have started several.
    pub(crate) fn end_with_all_monitors(self) -> (i32, String) {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        // Dead and not reaped: it is found by its number.
        let child = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        let monitors = monitors_of(self.pid);
        let end = self.end();
        monitors.iter().for_each(Process::wait);
        end
    }
}

/// The victim that the process `launcher` has become or started.
fn pid_of_victim_below(launcher: u32) -> u32 {
    let name = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let mut pid = launcher;
    while name(pid) != victim() {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        pid = children.split_whitespace().next().expect("no victim below the launcher").parse().unwrap();
    }
    pid
}

/// The monitor of a process.
pub(crate) fn monitor_of(host: u32) -> Option<Process> {
    monitors_of(host).pop()
}

/// The monitors of a process: they hold a pidfd of it as descriptor 4.
pub(crate) fn monitors_of(host: u32) -> Vec<Process> {
    let wanted = format!("Pid:\t{host}\n");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let monitors = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let held = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/4")).ok()?;
        (name.starts_with("ondat-telemetry") && held.contains(&wanted)).then(|| Process::find(pid)).flatten()
    });
    monitors.collect()
}

/// A state directory in `dir`, and the variable that names it.
pub(crate) fn state_variable(dir: &TempDir) -> (&'static str, String) {
    let state = dir.join("state");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&state).unwrap();
    ("ONDAT_TELEMETRY_STATE_DIR", state.to_str().unwrap().to_owned())
}

/// How a scenario ended without and with the library: wait statuses and what was printed, and the reports.
pub(crate) struct Outcome {
    pub(crate) without: (i32, String),
    pub(crate) with: (i32, String),
    pub(crate) reports: Vec<Value>,
}

/// Runs a scenario without and with the library.
pub(crate) fn run(scenario: &str) -> Outcome {
    run_in(scenario, &Around::default())
}

/// The same in these surroundings.
pub(crate) fn run_in(scenario: &str, around: &Around) -> Outcome {
    let dir = TempDir::new();
    let sink = Sink::start(200);
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];

    let mut without = Victim::start(scenario, None, dir.path(), around);
    without.go();
    let without = without.end();

    let mut with = Victim::start(scenario, Some(&library), dir.path(), around);
    assert_eq!(with.installed, "installed 0");
    assert!(with.monitor.is_some(), "no monitor was started");
    with.go();
    let with = with.end();
    assert_eq!(evidence_below(Path::new(&state)), Vec::<String>::new(), "something was left in the state directory");
    Outcome { without, with, reports: events(&sink) }
}

/// The files below, but for run markers in which nothing is said of an end: a PID 1 takes its monitor with it, and they are
/// no evidence of a crash.
pub(crate) fn evidence_below(state: &Path) -> Vec<String> {
    let says_nothing = |name: &String| {
        std::fs::read(state.join("run").join(name))
            .is_ok_and(|bytes| bytes.iter().position(|b| *b == b'\n') == Some(bytes.len() - 1))
    };
    files_below(state).into_iter().filter(|name| !says_nothing(name)).collect()
}

/// The events that a server has received.
pub(crate) fn events(sink: &Sink) -> Vec<Value> {
    sink.bodies().iter().map(|body| event(body)).collect()
}

/// The event of an envelope of one event.
fn event(envelope: &str) -> Value {
    let lines: Vec<&str> = envelope.lines().collect();
    assert_eq!(lines.len(), 3, "{envelope}");
    let item: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(item, json!({"type": "event", "length": lines[2].len()}));
    let event: Value = serde_json::from_str(lines[2]).unwrap();
    let header: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(header["event_id"], event["event_id"]);
    event
}

/// What the library remembers, and its locks: no part of any report.
const MEMORY: [&str; 7] =
    ["cores.json", "cores.lock", "crash.json", "crash-memory.lock", "crash_reports", "notice.json", "switches.reserve"];

/// The administrator's copies of what was delivered.
const SENT: &str = "sent";

/// The files below, but for [`MEMORY`] and [`SENT`].
pub(crate) fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != SENT {
                files.extend(files_below(&entry.path()));
            }
        } else {
            files.extend(entry.file_name().into_string().ok().filter(|name| !MEMORY.contains(&name.as_str())));
        }
    }
    files
}

/// The event that is stored in a state directory as its only file.
pub(crate) fn stored_event(state: &str) -> Value {
    let stored = files_below(Path::new(state));
    assert_eq!(stored.len(), 1, "{stored:?}");
    let stored = std::fs::read_to_string(Path::new(state).join("spool/crashes").join(&stored[0])).unwrap();
    serde_json::from_str(&stored).unwrap()
}

/// What is said beforehand of the core of a process whose limit is 0: a program that core_pattern names is started all the
/// same, core(5).
pub(crate) fn core_before_death() -> &'static str {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.starts_with(['|', '@']) { "unknown" } else { "false" }
}

/// The whole event but for id and time.
pub(crate) fn assert_event(event: &Value, kind: &str, value: &str, class: &str, core_dump: &str) {
    let is_exit = kind == "ExitCode";
    let code = value.rsplit(' ').next().unwrap();
    let (signal, exit_code) = if is_exit { ("none", code) } else { (kind, "none") };
    let number = &event["exception"]["values"][0]["mechanism"]["meta"]["signal"]["number"];
    let mechanism = if is_exit {
        json!({"type": "exit", "handled": false})
    } else {
        json!({"type": "signalhandler", "handled": false, "meta": {"signal": {"number": number, "name": kind}}})
    };
    let expected = json!({
        "event_id": event["event_id"],
        "timestamp": event["timestamp"],
        "platform": "native",
        "level": "fatal",
        "release": "ondat@1.2.3",
        "exception": {"values": [{"type": kind, "value": value, "mechanism": mechanism}]},
        "fingerprint": ["victim", if is_exit { code } else { kind }, class],
        "tags": {
            "signal": signal,
            "exit_code": exit_code,
            "core_dump": core_dump,
            // HMAC-SHA-256 of "cluster\0cluster-1" and "node\0node-1" under HKDF("cluster-1"), by Python.
            "cluster_id": "0caf171ef98022287c3e1286431e81df",
            "node_id": "78d75e2d040167ce0f9120336a804226",
        },
    });
    assert_eq!(*event, expected);
    assert_eq!(event["event_id"].as_str().map(str::len), Some(32));
}

/// One report of this signal, and the same wait status as without the library.
pub(crate) fn killed(scenario: &str, signal: i32, kind: &str, class: Option<&str>) {
    killed_in(scenario, &Around::default(), signal, kind, class);
}

/// The same in these surroundings.
pub(crate) fn killed_in(scenario: &str, around: &Around, signal: i32, kind: &str, class: Option<&str>) {
    let outcome = run_in(scenario, around);
    assert_eq!(outcome.without.0 & 0x7f, signal, "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1, "{:?}", outcome.reports);
    let value = match class {
        Some(class) => format!("victim killed by {kind} ({class})"),
        None => format!("victim killed by {kind}"),
    };
    assert_event(&outcome.reports[0], kind, &value, class.unwrap_or("killed"), "false");
    assert_eq!(outcome.reports[0]["exception"]["values"][0]["mechanism"]["meta"]["signal"]["number"], signal);
}

/// One report of this exit code, and the same wait status as without the library.
pub(crate) fn exited(scenario: &str, code: i32) {
    let outcome = run(scenario);
    assert_eq!(outcome.without.0, code << 8, "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1, "{:?}", outcome.reports);
    assert_event(&outcome.reports[0], "ExitCode", &format!("victim exited with code {code}"), "exited", "false");
}

/// No report, and the same wait status as without the library.
pub(crate) fn unreported(scenario: &str) -> Outcome {
    let outcome = run(scenario);
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports, Vec::<Value>::new());
    outcome
}

/// Runs `wait` with the library, lets `act` do something to it, and says how it ended and what was reported.
pub(crate) fn ended_by(act: impl Fn(&Victim), sink: &Sink, dir: &TempDir, extra: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let dsn = sink.dsn();
    let mut library = vec![("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    library.extend_from_slice(extra);
    let mut victim = Victim::start("wait", Some(&library), dir.path(), &Around::default());
    assert_eq!(victim.installed, "installed 0");
    victim.go();
    act(&victim);
    let (status, _) = victim.end();
    (status, events(sink))
}

/// How a scenario ended without the library.
pub(crate) fn end_without(scenario: &str, around: &Around) -> (i32, String) {
    let dir = TempDir::new();
    let mut victim = Victim::start(scenario, None, dir.path(), around);
    victim.go();
    victim.end()
}

/// What the installation said, and how a scenario ended with the library: the wait status and what was printed.
pub(crate) fn end_with(scenario: &str, library: &[(&str, &str)], around: &Around) -> (String, (i32, String)) {
    let dir = TempDir::new();
    let mut victim = Victim::start(scenario, Some(library), dir.path(), around);
    victim.go();
    (victim.installed.clone(), victim.end())
}

/// What the next run on a state directory sends, and nothing is left then.
pub(crate) fn sent_by_next_run(state: &str) -> Vec<Value> {
    let sink = Sink::start(200);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", state)];
    let (installed, end) = end_with("flush", &library, &Around::default());
    assert_eq!((installed.as_str(), end), ("installed 0", (0, "flushed 0".to_owned())));
    assert_eq!(files_below(Path::new(state)), Vec::<String>::new(), "something was left in the state directory");
    events(&sink)
}

/// Sends a signal.
pub(crate) fn send(pid: u32, signal: i32) {
    // SAFETY: a system call on numbers.
    assert_eq!(unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) }, 0);
}
