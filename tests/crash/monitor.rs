//! The monitor: killed, stopped, missing, and what it knows of its host.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::mounts::Mounts;
use crate::process::Process;
use crate::sink::Sink;
use crate::support::{TempDir, built, succeed};
use crate::victim::{
    Around, Victim, assert_event, command, core_before_death, end_with, end_without, ended_by, events, files_below,
    send, sent_by_next_run, state_variable, stored_event,
};

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
    let stored = stored_event(&state);
    let value = "victim killed by SIGSEGV (sent by a process)";
    assert_event(&stored, "SIGSEGV", value, "sent by a process", core_before_death());
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
fn a_missing_monitor_is_said_and_the_crash_is_kept() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [
        ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
        ("ONDAT_TELEMETRY_MONITOR_PATH", "/nonexistent/monitor"),
        (name, state.as_str()),
    ];
    let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
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
        // All but SIGKILL and SIGSTOP: what is sent to the whole service does not end it. The C library keeps 32 and 33.
        assert_eq!(value("SigBlk:"), "fffffffe7ffbfeff");
        assert_eq!(value("Umask:"), "0077");
        assert_ne!(value("PPid:"), victim.child.id().to_string());
        let open_in = |pid: u32| {
            let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect::<Vec<_>>()
        };
        let null = Path::new("/dev/null");
        let of_host: Vec<_> = open_in(victim.pid).into_iter().filter(|target| target != null).collect();
        assert!(of_host.len() >= 2, "standard input and output of the host: {of_host:?}");
        let of_monitor = open_in(pid);
        // Standard input, output and error; socket, pidfd, page, the host's stat, its signals, a pipe of its own, and at
        // most three for the memory limit and a disk that is being read.
        assert!(of_monitor.len() <= 14, "{of_monitor:?}");
        let pipes = |targets: &[PathBuf]| -> Vec<_> {
            targets.iter().filter(|target| target.to_str().unwrap().starts_with("pipe:")).cloned().collect()
        };
        for pipe in pipes(&of_host) {
            assert!(!of_monitor.contains(&pipe), "{pipe:?} is the host's");
        }
        assert_eq!(of_monitor.iter().filter(|target| *target == null).count(), 3, "{of_monitor:?}");
        send(victim.child.id(), libc::SIGTERM);
    };
    ended_by(look, &sink, &dir, &[("SECRET", "hunter2")]);
}

/// What `status` says of crash reports.
fn status(state: &str) -> Value {
    let mut command = Command::new(command());
    command.args(["--state-dir", state, "--json", "status"]).env_clear();
    let output = succeed(&mut command);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["crash_reports"].clone()
}

#[test]
fn status_says_who_is_watched_and_why_not() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    for monitor in [built("ondat-telemetry-monitor"), PathBuf::from("/nonexistent/monitor")] {
        let library = [
            ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
            ("ONDAT_TELEMETRY_MONITOR_PATH", monitor.to_str().unwrap()),
            (name, state.as_str()),
        ];
        let victim = Victim::start("wait", Some(&library), dir.path(), &Around::default());
        let said = status(&state);
        let run = &said["runs"][0];
        assert_eq!(run["running"], true);
        assert_eq!(run["version"], "1.2.3");
        assert!(run["name"].as_str().unwrap().starts_with(&format!("victim-{}-", victim.pid)), "{run}");
        if victim.monitor.is_some() {
            assert_eq!(run["watched"], "monitor");
        } else {
            let why = run["watched"]["nobody"].as_str().unwrap();
            assert!(why.contains("/nonexistent/monitor"), "{why}");
        }
        send(victim.pid, libc::SIGKILL);
        victim.end();
    }
    let said = status(&state);
    assert_eq!(said["runs"].as_array().map(Vec::len), Some(1), "the monitor has dealt with the first: {said}");
    assert_eq!(said["runs"][0]["running"], false);
    let last = &said["last_ending"];
    assert_eq!((&last["component"], &last["ending"]), (&json!("victim"), &json!("SIGKILL")), "{said}");
    assert!(["kernel", "zombie"].contains(&last["told_by"].as_str().unwrap()), "{said}");
}

/// A monitor that cannot be started: the installation says so, the crash is as without the library, and the next run
/// sends its report.
fn without_monitor(what: &str, monitor: &Path, why: &str, around: &Around) {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [
        ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
        ("ONDAT_TELEMETRY_MONITOR_PATH", monitor.to_str().unwrap()),
        (name, state.as_str()),
    ];
    let (installed, end) = end_with("segv", &library, around);
    let start = format!("installed 12 cannot start {}: {why}", monitor.display());
    assert!(installed.starts_with(&start), "{what}: {installed}");
    assert!(installed.ends_with("crashes are stored and reported at the next start"), "{what}: {installed}");
    assert_eq!(end, end_without("segv", around), "{what}");
    let reports = sent_by_next_run(&state);
    assert_eq!(reports.len(), 1, "{what}");
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&reports[0], "SIGSEGV", value, "address not mapped", core_before_death());
}

#[test]
fn a_monitor_that_cannot_run_is_said_and_the_next_start_reports() {
    /// The machine in an ELF header, elf(5), and one that this is not: the Motorola 68000.
    const MACHINE: usize = 18;
    const EM_68K: u8 = 4;
    let dir = TempDir::new();
    let program = std::fs::read(built("ondat-telemetry-monitor")).unwrap();
    let file = |name: &str, bytes: &[u8], mode: u32| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    let mut foreign = program.clone();
    foreign[MACHINE] = EM_68K;
    let (not_executable, not_there) = ("Permission denied", "No such file or directory");
    for (what, monitor, why) in [
        ("absent", dir.join("absent"), not_there),
        ("not executable", file("plain", &program, 0o644), not_executable),
        ("a folder", dir.path().to_owned(), not_executable),
        ("below a file", dir.join("plain/monitor"), "Not a directory"),
        ("a text", file("text", b"no program\n", 0o755), "Exec format error"),
        ("empty", file("empty", b"", 0o755), "Exec format error"),
        ("for another machine", file("foreign", &foreign, 0o755), "Exec format error"),
        ("a script of nothing", file("script", b"#!/nonexistent\n", 0o755), not_there),
    ] {
        without_monitor(what, &monitor, why, &Around::default());
    }
    // On a file system that programs are not started from.
    let monitor = file("monitor", &program, 0o755);
    let around = Mounts::default().folder(dir.path().to_str().unwrap(), libc::MS_NOEXEC).around();
    without_monitor("noexec", &monitor, not_executable, &around);
    // In a folder that the host's user may not enter.
    let closed = dir.join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let (dsn, monitor) = ("http://key@127.0.0.1:1/1", closed.join("monitor"));
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn), ("ONDAT_TELEMETRY_MONITOR_PATH", monitor.to_str().unwrap())];
    let (installed, end) = end_with("nobody_from_the_start", &library, &Around::default());
    let start = format!("installed 12 cannot start {}: {not_executable}", monitor.display());
    assert!(installed.starts_with(&start), "{installed}");
    assert_eq!(end, end_without("nobody_from_the_start", &Around::default()));
}

#[test]
fn a_program_that_is_no_monitor_is_said_and_the_next_start_reports() {
    for (what, text) in [("ends", "exit 0"), ("is killed", "kill -SYS $$"), ("cannot be loaded", "exit 127")] {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let (name, state) = state_variable(&dir);
        let dsn = sink.dsn();
        let script = dir.join("monitor");
        std::fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let library = [
            ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
            ("ONDAT_TELEMETRY_MONITOR_PATH", script.to_str().unwrap()),
            (name, state.as_str()),
        ];
        let (installed, end) = end_with("segv", &library, &Around::default());
        let start = format!("installed 12 the crash monitor {} ended before it answered", script.display());
        assert!(installed.starts_with(&start), "{what}: {installed}");
        assert_eq!(end, end_without("segv", &Around::default()), "{what}");
        let reports = sent_by_next_run(&state);
        assert_eq!(reports.len(), 1, "{what}");
        let value = "victim killed by SIGSEGV (address not mapped)";
        assert_event(&reports[0], "SIGSEGV", value, "address not mapped", core_before_death());
    }
}

#[test]
fn a_late_monitor_and_the_next_start_make_one_report() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
    let monitor = victim.monitor.take().unwrap();
    monitor.signal(libc::SIGSTOP);
    victim.go();
    assert_eq!(victim.end().0, libc::SIGSEGV);
    // Started again at once: whoever reports first, a server takes two events of one id for one.
    let of_next_run = sent_by_next_run(&state);
    monitor.signal(libc::SIGCONT);
    monitor.wait();
    let mut ids: Vec<String> =
        [of_next_run, events(&sink)].concat().iter().map(|event| event["event_id"].to_string()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
}
