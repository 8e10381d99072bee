//! Ends without a fault: exit codes, kills, stops.

use std::path::{Path, PathBuf};

use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{Around, Victim, assert_event, ended_by, exited, run_in, send, unreported};

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
