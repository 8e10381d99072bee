//! Ends without a fault: exit codes, kills, stops.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{
    Around, Victim, assert_event, ended_by, exited, files_below, killed, run_in, send, sent_by_next_run,
    state_variable, unreported,
};

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
        Victim::start("close", Some(&[("ONDAT_TELEMETRY_SENTRY_DSN", &dsn)]), dir.path(), &Around::default());
    victim.go();
    let ended = victim.end();
    assert_eq!(sink.bodies(), Vec::<String>::new());
    ended
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

impl MemoryLimit {
    fn around(&self) -> Around {
        let procs = self.0.join("cgroup.procs");
        Around::confined(move || std::fs::write(&procs, "0"))
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
    let outcome = run_in("hog", &group.around());
    assert_eq!(outcome.without.0, libc::SIGKILL, "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    assert_event(&outcome.reports[0], "SIGKILL", "victim killed by SIGKILL (memory limit)", "memory limit", "false");
}

#[test]
fn exit_codes_from_a_thread_and_in_a_hurry() {
    exited("exit_3_thread", 3);
    exited("_exit_3_thread", 3);
    exited("quick_exit_3", 3);
}

#[test]
fn exit_0_after_close_is_no_crash() {
    let outcome = unreported("close_and_exit_0");
    assert_eq!(outcome.with.0, 0);
}

#[test]
fn a_fault_on_the_way_out() {
    killed("atexit_segv", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn limits_of_the_process() {
    // The kernel gives no cause for the first, and the process itself for the second.
    killed("cpu_limit", libc::SIGXCPU, "SIGXCPU", None);
    killed("file_size_limit", libc::SIGXFSZ, "SIGXFSZ", Some("sent by a process"));
}

#[test]
fn signals_that_end_a_process_and_are_no_stop() {
    killed("broken_pipe", libc::SIGPIPE, "SIGPIPE", None);
    killed("alarm_clock", libc::SIGALRM, "SIGALRM", None);
    killed("usr1", libc::SIGUSR1, "SIGUSR1", None);
}

/// Sends a signal as kill(2), tgkill(2) or sigqueue(3) does.
fn send_by(call: &str, pid: u32, signal: i32) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: system calls on numbers, and a value that is not read as a pointer.
    let answer = unsafe {
        match call {
            "kill" => i64::from(libc::kill(pid, signal)),
            "tgkill" => libc::syscall(libc::SYS_tgkill, pid, pid, signal),
            _ => i64::from(libc::sigqueue(pid, signal, libc::sigval { sival_ptr: std::ptr::null_mut() })),
        }
    };
    assert_eq!(answer, 0);
}

#[test]
fn crash_signals_from_outside() {
    let signals = [(libc::SIGSEGV, "SIGSEGV"), (libc::SIGABRT, "SIGABRT"), (libc::SIGSYS, "SIGSYS")];
    for (signal, name) in signals {
        for call in ["kill", "tgkill", "sigqueue"] {
            let (dir, sink) = (TempDir::new(), Sink::start(200));
            let mut without = Victim::start("wait", None, dir.path(), &Around::default());
            without.go();
            send_by(call, without.pid, signal);
            assert_eq!(without.end().0, signal);

            let (status, reports) = ended_by(|victim| send_by(call, victim.pid, signal), &sink, &dir, &[]);
            assert_eq!((status, reports.len()), (signal, 1), "{call}");
            let value = format!("victim killed by {name} (sent by a process)");
            assert_event(&reports[0], name, &value, "sent by a process", "false");
        }
    }
}

#[test]
fn a_kill_of_process_and_monitor_is_no_evidence_of_a_crash() {
    // As at the end of a container, which an operator may have wanted.
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let kill_both = |victim: &Victim| {
        send(victim.monitor.as_ref().unwrap().pid, libc::SIGKILL);
        send(victim.pid, libc::SIGKILL);
    };
    let (status, reports) = ended_by(kill_both, &sink, &dir, &[(name, &state)]);
    assert_eq!((status, reports.len()), (libc::SIGKILL, 0));
    assert_eq!(files_below(Path::new(&state)).len(), 1, "the run marker is left");
    assert_eq!(sent_by_next_run(&state), Vec::<Value>::new());
}
