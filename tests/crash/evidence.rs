//! No report without evidence: clean ends are never one, whoever reaps, and where the kernel does not tell how a process
//! ended that has been reaped.

use std::collections::HashSet;

use serde_json::Value;

use crate::pid1::NAMESPACE;
use crate::sandbox::without_pidfd_info;
use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{Around, Victim, end_without, events, sent_by_next_run, state_variable};

/// How often what depends on who comes first is tried.
const TIMES: usize = 5;

/// Ends that are no crash, and their wait statuses.
const CLEAN: [(&str, i32); 5] =
    [("_exit_0", 0), ("exit_0", 0), ("return_0", 0), ("term", libc::SIGTERM), ("exit_143", 143 << 8)];

/// The same surroundings on a kernel as before Linux 6.15.
fn before_pidfd_info(around: Around) -> Around {
    let around = Around { confine: Around::confined(without_pidfd_info).confine, ..around };
    let asked = end_without("pidfd_info", &Around { launcher: Vec::new(), ..around.clone() });
    assert_eq!(asked, (0, format!("answer -1 errno {}", libc::ENOTTY)), "the scenario did not happen");
    around
}

/// How a scenario ended with the library, and what was reported of it, at once or by the next run. What was sent by both
/// has one id, by which servers take it for one.
fn ended(scenario: &str, around: &Around) -> ((i32, String), Vec<String>) {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let mut victim = Victim::start(scenario, Some(&library), dir.path(), around);
    assert_eq!(victim.installed, "installed 0");
    assert!(victim.monitor.is_some(), "no monitor was started");
    victim.go();
    let end = victim.end();
    let mut reports = events(&sink);
    reports.extend(sent_by_next_run(&state));
    let mut ids = HashSet::new();
    reports.retain(|event| ids.insert(event["event_id"].clone()));
    let value = |event: &Value| event["exception"]["values"][0]["value"].as_str().unwrap().to_owned();
    (end, reports.iter().map(value).collect())
}

/// Clean ends end as without the library and are not reported; a fault is, once.
fn clean_ends_and_a_fault(what: &str, around: &Around, status: impl Fn(i32) -> i32) {
    for (scenario, clean) in CLEAN {
        let without = end_without(scenario, around);
        assert_eq!(without.0, status(clean), "{what}: the scenario {scenario} did not happen");
        for _ in 0..TIMES {
            assert_eq!(ended(scenario, around), (without.clone(), Vec::new()), "{what}: {scenario}");
        }
    }
    let without = end_without("segv", around);
    assert_eq!(without.0, status(libc::SIGSEGV), "{what}: the scenario did not happen");
    for _ in 0..TIMES {
        let reported = vec!["victim killed by SIGSEGV (address not mapped)".to_owned()];
        assert_eq!(ended("segv", around), (without.clone(), reported), "{what}");
    }
}

#[test]
fn clean_ends_are_no_crash_where_the_kernel_does_not_tell() {
    clean_ends_and_a_fault("reaped at once", &before_pidfd_info(Around::default()), |status| status);
}

#[test]
fn what_the_process_itself_says_is_reported_where_the_kernel_does_not_tell() {
    let around = before_pidfd_info(Around::default());
    for (scenario, status, value) in [
        ("exit_3", 3 << 8, "victim exited with code 3"),
        ("return_3", 3 << 8, "victim exited with code 3"),
        ("segv", libc::SIGSEGV, "victim killed by SIGSEGV (address not mapped)"),
        ("abort", libc::SIGABRT, "victim killed by SIGABRT (sent by a process)"),
    ] {
        let without = end_without(scenario, &around);
        assert_eq!(without.0, status, "the scenario {scenario} did not happen");
        for _ in 0..TIMES {
            assert_eq!(ended(scenario, &around), (without.clone(), vec![value.to_owned()]), "{scenario}");
        }
    }
}

#[test]
fn what_nobody_says_is_reported_rightly_or_not_at_all() {
    let around = before_pidfd_info(Around::default());
    for (scenario, status, value) in
        [("_exit_3", 3 << 8, "victim exited with code 3"), ("kill", libc::SIGKILL, "victim killed by SIGKILL")]
    {
        let without = end_without(scenario, &around);
        assert_eq!(without.0, status, "the scenario {scenario} did not happen");
        for _ in 0..TIMES {
            let (end, reports) = ended(scenario, &around);
            assert_eq!(end, without);
            assert!(reports.is_empty() || reports == [value], "{scenario}: {reports:?}");
        }
    }
}

/// A parent that ignores SIGCHLD: the kernel reaps the victim, and the parent is never told a status.
fn ignoring_parent() -> Around {
    let parent = r#"$SIG{CHLD} = "IGNORE";
        if (fork) { $reaped = wait; print "reaped $reaped\n"; exit 0 }
        $SIG{CHLD} = "DEFAULT"; exec @ARGV"#;
    Around::launched_by(&["perl", "-e", parent, "--"])
}

#[test]
fn a_parent_that_ignores_sigchld() {
    for around in [ignoring_parent(), before_pidfd_info(ignoring_parent())] {
        let (_, printed) = end_without("exit_0", &around);
        assert_eq!(printed, "reaped -1", "the scenario did not happen");
        clean_ends_and_a_fault("SIGCHLD ignored", &around, |_| 0);
    }
}

/// The exit code by which an init says how its child ended.
fn code(status: i32) -> i32 {
    match status & 0x7f {
        0 => status,
        signal => (128 + signal) << 8,
    }
}

fn below_an_init(init: &[&str]) {
    let words = [&NAMESPACE, init].concat();
    for around in [Around::launched_by(&words), before_pidfd_info(Around::launched_by(&words))] {
        clean_ends_and_a_fault(init[0], &around, code);
    }
}

#[test]
fn below_tini() {
    below_an_init(&["tini", "--"]);
}

#[test]
fn below_dumb_init() {
    below_an_init(&["dumb-init", "--"]);
}
