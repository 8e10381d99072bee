//! What becomes of a report when it is to be sent.

use std::path::Path;

use serde_json::Value;

use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{Around, Victim, ended_by, files_below, send, state_variable};

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
fn a_crash_loop_is_reported_five_times_and_the_rest_is_counted() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    for _ in 0..8 {
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
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
    let mut victim = Victim::start("abort", Some(&library), dir.path(), &Around::default());
    victim.go();
    assert_eq!(victim.end().0, libc::SIGABRT);
    assert_eq!(sink.bodies().len(), 6);
}

#[test]
fn a_server_that_wants_no_more_gets_no_more() {
    let (dir, sink) = (TempDir::new(), Sink::with_headers(200, "X-Sentry-Rate-Limits: 3600:error:key\r\n"));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    for _ in 0..2 {
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
        victim.go();
        assert_eq!(victim.end().0, libc::SIGSEGV);
    }
    assert_eq!(sink.bodies().len(), 1, "the server was asked although it wants nothing for an hour");
    assert_eq!(files_below(Path::new(&state)).len(), 1, "the second report is not stored");
}
