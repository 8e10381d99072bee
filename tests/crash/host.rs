//! What hosts do besides dying: handlers of their own, children, other programs, descriptors.

use std::path::Path;

use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{Around, Victim, assert_event, exited, files_below, run, state_variable, unreported};

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
    let outcome = run("fork_child");
    assert_eq!(outcome.with, (0, "child 11".to_owned()));
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    let value = "victim killed by SIGSEGV (address not mapped) (child)";
    assert_event(&outcome.reports[0], "SIGSEGV", value, "address not mapped", "false");
}

#[test]
fn a_program_that_the_host_becomes_is_not_watched() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let mut victim = Victim::start("exec", Some(&library), dir.path(), &Around::default());
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
    // The handler's words stand in the shared page, which is no descriptor.
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&outcome.reports[0], "SIGSEGV", value, "address not mapped", "false");
}
