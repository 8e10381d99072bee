//! The monitor: killed, stopped, missing, and what it knows of its host.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::Process;
use crate::sink::Sink;
use crate::support::{TempDir, built, succeed};
use crate::victim::{Around, Victim, assert_event, command, ended_by, files_below, send, state_variable, stored_event};

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
    assert_event(&stored, "SIGSEGV", "victim killed by SIGSEGV (sent by a process)", "sent by a process", "false");
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

/// What `status` says of crash reports.
fn status(state: &str) -> Value {
    let mut command = std::process::Command::new(command());
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
}
