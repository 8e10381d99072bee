//! Every scenario runs with and without the library: the process must end in the same way, and exactly one report, or
//! exactly none, must arrive.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{Process, Sink, TempDir, compile, root};

/// The victim program, compiled once.
fn victim() -> &'static Path {
    static VICTIM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = VICTIM.get_or_init(|| {
        let dir = TempDir::new();
        let flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O0", "-g"];
        let program = compile("gcc", &root().join("tests/c/victim.c"), &dir.join("victim"), &flags);
        (dir, program)
    });
    program
}

/// What the victim is confined by.
#[derive(Clone, Default)]
struct Limits {
    /// RLIMIT_CORE, hard and soft.
    core: u64,
    cgroup: Option<PathBuf>,
}

/// A victim that has installed everything and waits for a line.
struct Victim {
    child: Child,
    output: BufReader<ChildStdout>,
    installed: String,
    monitor: Option<Process>,
}

impl Victim {
    fn start(with: bool, scenario: &str, environment: &[(&str, &str)], cwd: &Path, limits: &Limits) -> Self {
        let mut command = Command::new(victim());
        command.args([if with { "with" } else { "without" }, scenario]).current_dir(cwd);
        command.env_clear().envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Limits { core: core_limit, cgroup } = limits.clone();
        // SAFETY: between fork and exec of a program without other threads' locks in the way.
        unsafe {
            command.pre_exec(move || {
                if let Some(cgroup) = &cgroup {
                    std::fs::write(cgroup.join("cgroup.procs"), "0")?;
                }
                let limit = libc::rlimit { rlim_cur: core_limit, rlim_max: core_limit };
                if libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let installed = if with { line() } else { String::new() };
        assert_eq!(line(), "ready");
        let monitor = monitor_of(child.id());
        Self { child, output, installed, monitor }
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// The wait status and what was printed, once the victim and its monitor are gone.
    fn end(mut self) -> (i32, String) {
        let status = self.child.wait().unwrap().into_raw();
        if let Some(monitor) = &self.monitor {
            monitor.wait();
        }
        let mut printed = String::new();
        std::io::Read::read_to_string(&mut self.output, &mut printed).unwrap();
        (status, printed.trim_end().to_owned())
    }
}

/// The monitor of a process: it holds a pidfd of it as descriptor 4.
fn monitor_of(host: u32) -> Option<Process> {
    let wanted = format!("Pid:\t{host}\n");
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let held = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/4")).ok()?;
        (name.starts_with("ondat-telemetry") && held.contains(&wanted)).then(|| Process::open(pid))
    })
}

fn state_variable(dir: &TempDir) -> (&'static str, String) {
    let state = dir.join("state");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&state).unwrap();
    ("ONDAT_TELEMETRY_STATE_DIR", state.to_str().unwrap().to_owned())
}

struct Outcome {
    without: (i32, String),
    with: (i32, String),
    reports: Vec<Value>,
}

fn run(scenario: &str) -> Outcome {
    run_within(scenario, &Limits::default())
}

fn run_within(scenario: &str, limits: &Limits) -> Outcome {
    let dir = TempDir::new();
    let sink = Sink::start(200);
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let environment = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];

    let mut without = Victim::start(false, scenario, &[], dir.path(), limits);
    without.go();
    let without = without.end();

    let mut with = Victim::start(true, scenario, &environment, dir.path(), limits);
    assert_eq!(with.installed, "installed 0");
    assert!(with.monitor.is_some(), "no monitor was started");
    with.go();
    let with = with.end();
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new(), "something was left in the state directory");
    Outcome { without, with, reports: sink.bodies().iter().map(|body| event(body)).collect() }
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
const MEMORY: [&str; 3] = ["crash.json", "crash-memory.lock", "notice.json"];

/// The files below, but for [`MEMORY`].
fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.extend(entry.file_name().into_string().ok().filter(|name| !MEMORY.contains(&name.as_str())));
        }
    }
    files
}

/// The whole event but for id and time.
fn assert_event(event: &Value, kind: &str, value: &str, class: &str, core_dump: &str) {
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

/// One report, and the same wait status as without the library.
fn killed(scenario: &str, signal: i32, kind: &str, class: Option<&str>) {
    let outcome = run(scenario);
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

fn exited(scenario: &str, code: i32) {
    let outcome = run(scenario);
    assert_eq!(outcome.without.0, code << 8, "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1, "{:?}", outcome.reports);
    assert_event(&outcome.reports[0], "ExitCode", &format!("victim exited with code {code}"), "exited", "false");
}

fn unreported(scenario: &str) -> Outcome {
    let outcome = run(scenario);
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports, Vec::<Value>::new());
    outcome
}

#[test]
fn null_dereference() {
    killed("segv", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn null_dereference_in_a_thread() {
    killed("segv_thread", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn null_dereference_in_a_thread_with_all_signals_blocked() {
    killed("segv_blocked", libc::SIGSEGV, "SIGSEGV", None);
}

#[test]
fn eight_threads_at_once() {
    for _ in 0..10 {
        killed("segv_8_threads", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
    }
}

#[test]
fn bus_error() {
    killed("bus", libc::SIGBUS, "SIGBUS", Some("address beyond the object"));
}

#[cfg(target_arch = "x86_64")] // aarch64 divides by zero without a fault
#[test]
fn division_by_zero() {
    killed("fpe", libc::SIGFPE, "SIGFPE", Some("integer division by zero"));
}

#[test]
fn illegal_instruction() {
    killed("ill", libc::SIGILL, "SIGILL", Some("illegal instruction"));
}

#[test]
fn breakpoint() {
    killed("trap", libc::SIGTRAP, "SIGTRAP", Some("trap"));
}

#[test]
fn abort() {
    killed("abort", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn raised_segv() {
    killed("raise_segv", libc::SIGSEGV, "SIGSEGV", Some("sent by a process"));
}

#[test]
fn sent_sigsys() {
    killed("kill_sys", libc::SIGSYS, "SIGSYS", Some("sent by a process"));
}

#[test]
fn raised_xcpu() {
    killed("xcpu", libc::SIGXCPU, "SIGXCPU", Some("sent by a process"));
}

#[test]
fn double_free_with_the_arena_in_disorder() {
    killed("double_free", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn stack_overflow_on_the_main_thread() {
    killed("overflow_main", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn stack_overflow_on_a_thread_without_an_alternate_stack() {
    killed("overflow_thread", libc::SIGSEGV, "SIGSEGV", None);
}

#[test]
fn stack_overflow_on_a_thread_with_thread_init() {
    killed("overflow_thread_init", libc::SIGSEGV, "SIGSEGV", Some("access not permitted"));
}

#[test]
fn exit_codes() {
    exited("exit_3", 3);
    exited("_exit_7", 7);
}

#[test]
fn exit_0_is_no_crash() {
    unreported("exit_0");
}

#[test]
fn an_earlier_handler_that_recovers_is_no_crash() {
    let outcome = unreported("handler_recovers");
    assert_eq!(outcome.with, (0, "recovered 1".to_owned()));
}

#[test]
fn an_earlier_handler_that_exits_decides_the_exit_code() {
    exited("handler_exits", 42);
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let outcome = unreported("ignored_abrt");
    assert_eq!(outcome.with.1, "still here");
}

#[test]
fn a_forked_child_that_crashes_dies_as_without_us() {
    let outcome = unreported("fork_child");
    assert_eq!(outcome.with, (0, "child 11".to_owned()));
}

#[test]
fn a_program_that_the_host_becomes_is_not_watched() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let environment = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let mut victim = Victim::start(true, "exec", &environment, dir.path(), &Limits::default());
    victim.go();
    // The monitor goes home because of the exec: the new program still waits for its line.
    victim.monitor.take().unwrap().wait();
    victim.go();
    assert_eq!(victim.end().0, 9 << 8);
    assert_eq!(sink.bodies(), Vec::<String>::new());
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
}

#[test]
fn a_host_that_waits_for_any_child_sees_none() {
    let outcome = unreported("wait_any");
    assert_eq!(outcome.with.1, "children -1");
}

#[test]
fn a_host_that_closes_all_descriptors_is_still_reported() {
    let outcome = run("close_fds");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    assert_event(&outcome.reports[0], "SIGSEGV", "victim killed by SIGSEGV", "killed", "false");
}

#[test]
fn a_core_dump_is_reported_as_the_kernel_says() {
    let outcome = run_within("segv", &Limits { core: libc::RLIM_INFINITY, cgroup: None });
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert_eq!(outcome.without.0 & 0x80, 0x80, "no core was dumped: core_pattern is {pattern}");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    assert_eq!(outcome.reports[0]["tags"]["core_dump"], "true");
}

/// Runs `wait` and lets `act` do something to it.
fn ended_by(act: impl Fn(&Victim), sink: &Sink, dir: &TempDir, extra: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let dsn = sink.dsn();
    let mut environment = vec![("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    environment.extend_from_slice(extra);
    let mut victim = Victim::start(true, "wait", &environment, dir.path(), &Limits::default());
    assert_eq!(victim.installed, "installed 0");
    victim.go();
    act(&victim);
    let (status, _) = victim.end();
    (status, sink.bodies().iter().map(|body| event(body)).collect())
}

fn send(victim: u32, signal: i32) {
    // SAFETY: a system call on numbers.
    assert_eq!(unsafe { libc::kill(i32::try_from(victim).unwrap(), signal) }, 0);
}

#[test]
fn sigkill() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (status, reports) = ended_by(|victim| send(victim.child.id(), libc::SIGKILL), &sink, &dir, &[]);
    assert_eq!(status, libc::SIGKILL);
    assert_eq!(reports.len(), 1);
    assert_event(&reports[0], "SIGKILL", "victim killed by SIGKILL", "killed", "false");
}

#[test]
fn an_operators_stop_is_no_crash() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let (status, reports) = ended_by(|victim| send(victim.child.id(), signal), &sink, &dir, &[]);
        assert_eq!((status, reports), (signal, Vec::new()));
    }
}

#[test]
fn after_close_nothing_is_reported() {
    let outcome = unreported_after_close();
    assert_eq!(outcome.0 & 0x7f, libc::SIGSEGV);
}

fn unreported_after_close() -> (i32, String) {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let mut victim =
        Victim::start(true, "close", &[("ONDAT_TELEMETRY_SENTRY_DSN", &dsn)], dir.path(), &Limits::default());
    victim.go();
    let ended = victim.end();
    assert_eq!(sink.bodies(), Vec::<String>::new());
    ended
}

#[test]
fn a_killed_monitor_leaves_the_record_to_the_next_start() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let kill_monitor = |victim: &Victim| {
        let monitor = victim.monitor.as_ref().unwrap();
        send(monitor.pid, libc::SIGKILL);
        monitor.wait();
        send(victim.child.id(), libc::SIGSEGV);
    };
    let (status, reports) = ended_by(kill_monitor, &sink, &dir, &[(name, &state)]);
    assert_eq!((status, reports), (libc::SIGSEGV, Vec::new()));
    assert_eq!(files_below(Path::new(&state)).len(), 1, "the run marker with the record");

    // The next run finds it; its own ending adds a second report, which carries the first one along.
    let second = |victim: &Victim| send(victim.child.id(), libc::SIGTERM);
    let (_, reports) = ended_by(second, &sink, &dir, &[(name, &state)]);
    assert_eq!(reports, Vec::<Value>::new(), "stored for the schedule, which this program does not start");
    let stored = files_below(Path::new(&state));
    assert_eq!(stored.len(), 1, "{stored:?}");
    let stored = std::fs::read_to_string(Path::new(&state).join("spool/crashes").join(&stored[0])).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_event(&stored, "SIGSEGV", "victim killed by SIGSEGV (sent by a process)", "sent by a process", "unknown");
}

#[test]
fn a_stopped_monitor_holds_the_process_no_longer_than_agreed() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let act = |victim: &Victim| {
        let monitor = victim.monitor.as_ref().unwrap();
        send(monitor.pid, libc::SIGSTOP);
        send(victim.child.id(), libc::SIGABRT);
        Process::open(victim.child.id()).wait();
        send(monitor.pid, libc::SIGCONT);
    };
    let (status, reports) = ended_by(act, &sink, &dir, &[]);
    assert_eq!(status, libc::SIGABRT);
    assert_eq!(reports.len(), 1);
    assert_event(&reports[0], "SIGABRT", "victim killed by SIGABRT (sent by a process)", "sent by a process", "false");
}

#[test]
fn a_refusing_endpoint_leaves_the_report_in_the_spool() {
    let dir = TempDir::new();
    let sink = Sink::start(503);
    let (name, state) = state_variable(&dir);
    let (status, reports) = ended_by(|victim| send(victim.child.id(), libc::SIGKILL), &sink, &dir, &[(name, &state)]);
    assert_eq!(status, libc::SIGKILL);
    assert_eq!(reports.len(), 1, "one try");
    let stored = files_below(Path::new(&state));
    assert_eq!(stored, [format!("{}.json", reports[0]["event_id"].as_str().unwrap())]);
}

#[test]
fn a_missing_monitor_is_said_and_the_crash_is_kept() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let environment = [
        ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
        ("ONDAT_TELEMETRY_MONITOR_PATH", "/nonexistent/monitor"),
        (name, state.as_str()),
    ];
    let mut victim = Victim::start(true, "segv", &environment, dir.path(), &Limits::default());
    assert!(victim.installed.starts_with("installed 12 "), "{}", victim.installed);
    assert!(victim.installed.contains("/nonexistent/monitor"), "{}", victim.installed);
    victim.go();
    assert_eq!(victim.end().0, libc::SIGSEGV);
    assert_eq!(files_below(Path::new(&state)).len(), 1, "the run marker with the record");
}

#[test]
fn the_monitor_has_nothing_of_its_hosts() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let look = |victim: &Victim| {
        let pid = victim.monitor.as_ref().unwrap().pid;
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        assert_eq!(read("environ"), "");
        assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
        let status = read("status");
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(value("SigBlk:"), "0000000000000000");
        assert_ne!(value("PPid:"), victim.child.id().to_string());
        let mut descriptors: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        descriptors.sort();
        assert_eq!(descriptors, ["0", "1", "2", "3", "4"]);
        send(victim.child.id(), libc::SIGTERM);
    };
    ended_by(look, &sink, &dir, &[("SECRET", "hunter2")]);
}

/// A cgroup with a memory limit, version 1 or 2; removed when dropped.
struct MemoryLimit(PathBuf);

impl MemoryLimit {
    fn new() -> Self {
        for (base, limit) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
            let group = Path::new(base).join(format!("ondat-telemetry-{}", std::process::id()));
            let made = Self(group.clone());
            if std::fs::create_dir(&group).is_ok() && std::fs::write(group.join(limit), "64M").is_ok() {
                return made;
            }
        }
        panic!(
            "no cgroup with a memory limit can be made: run as root, or leave this test out with --skip memory_limit"
        );
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_kill_for_the_memory_limit_is_named() {
    let group = MemoryLimit::new();
    let outcome = run_within("hog", &Limits { core: 0, cgroup: Some(group.0.clone()) });
    assert_eq!(outcome.without.0, libc::SIGKILL, "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    assert_event(&outcome.reports[0], "SIGKILL", "victim killed by SIGKILL (memory limit)", "memory limit", "false");
}

#[test]
fn a_crash_loop_is_reported_five_times_and_the_rest_is_counted() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let environment = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    for _ in 0..8 {
        let mut victim = Victim::start(true, "segv", &environment, dir.path(), &Limits::default());
        victim.go();
        assert_eq!(victim.end().0, libc::SIGSEGV);
    }
    assert_eq!(sink.bodies().len(), 5);
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new(), "what is held back is not in the spool");
    let memory = std::fs::read_to_string(Path::new(&state).join("crash.json")).unwrap();
    let memory: Value = serde_json::from_str(&memory).unwrap();
    let kinds: Vec<&Value> = memory["kinds"].as_object().unwrap().values().collect();
    assert_eq!(kinds.len(), 1, "{memory}");
    assert_eq!(kinds[0]["held"], 3, "{memory}");
    // Another kind of ending is not held back by it.
    let mut victim = Victim::start(true, "abort", &environment, dir.path(), &Limits::default());
    victim.go();
    assert_eq!(victim.end().0, libc::SIGABRT);
    assert_eq!(sink.bodies().len(), 6);
}

#[test]
fn a_server_that_wants_no_more_gets_no_more() {
    let (dir, sink) = (TempDir::new(), Sink::with_headers(200, "X-Sentry-Rate-Limits: 3600:error:key\r\n"));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let environment = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    for _ in 0..2 {
        let mut victim = Victim::start(true, "segv", &environment, dir.path(), &Limits::default());
        victim.go();
        assert_eq!(victim.end().0, libc::SIGSEGV);
    }
    assert_eq!(sink.bodies().len(), 1, "the server was asked although it wants nothing for an hour");
    assert_eq!(files_below(Path::new(&state)).len(), 1, "the second report is not stored");
}
