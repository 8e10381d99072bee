//! Children of the host: they die as without the library, and those that crash are reported as its children.

use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{Around, Outcome, Victim, assert_event, end_without, events, run, unreported};

/// What is said of the reports, sorted.
fn values(outcome: &Outcome) -> Vec<String> {
    let value = |report: &serde_json::Value| report["exception"]["values"][0]["value"].as_str().unwrap().to_owned();
    let mut values: Vec<_> = outcome.reports.iter().map(value).collect();
    values.sort();
    values
}

fn host_and_two_children(scenario: &str, second: &str) {
    let outcome = run(scenario);
    assert_eq!(outcome.without, (libc::SIGSEGV, "child b\nchild 6".to_owned()), "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    let segv = "victim killed by SIGSEGV (address not mapped)";
    assert_eq!(values(&outcome), [second, segv, &format!("{segv} (child)")]);
}

#[test]
fn children_that_crash_and_their_host_are_three_reports() {
    host_and_two_children("fork_child_and_segv", "victim killed by SIGABRT (sent by a process) (child)");
}

#[test]
fn a_child_that_crashes_in_a_thread_of_its_own() {
    let outcome = run("fork_child_with_thread");
    assert_eq!(outcome.without, (0, "child b".to_owned()), "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1, "{:?}", outcome.reports);
    let value = "victim killed by SIGSEGV (address not mapped) (child)";
    assert_event(&outcome.reports[0], "SIGSEGV", value, "address not mapped", "false");
}

#[test]
fn a_child_of_a_child_is_one_too() {
    let outcome = run("fork_child_of_child");
    assert_eq!(outcome.without, (0, "child 0".to_owned()), "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(values(&outcome), ["victim killed by SIGSEGV (address not mapped) (child)"]);
}

#[test]
fn how_a_child_exits_or_is_killed_is_its_parents_business() {
    let outcome = unreported("fork_children_that_end");
    assert_eq!(outcome.with.1, "child 300\nchild 9\nchild d", "the scenario did not happen");
}

/// Without a state directory, in which crash loops are counted: each is sent.
#[test]
fn one_eight_and_sixty_four_at_the_same_time_are_all_reported() {
    for count in ["1", "8", "64"] {
        let around = Around { environment: vec![("CHILDREN".to_owned(), count.to_owned())], ..Around::default() };
        let printed = vec!["child b"; count.parse().unwrap()].join("\n");
        assert_eq!(end_without("fork_many_children", &around), (0, printed.clone()), "the scenario did not happen");
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let dsn = sink.dsn();
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
        let mut victim = Victim::start("fork_many_children", Some(&library), dir.path(), &around);
        victim.go();
        assert_eq!(victim.end(), (0, printed));
        let reports = events(&sink);
        assert_eq!(reports.len().to_string(), count);
        for report in &reports {
            let value = "victim killed by SIGSEGV (address not mapped) (child)";
            assert_event(report, "SIGSEGV", value, "address not mapped", "false");
        }
    }
}

/// A program that a child becomes has the same signals and descriptors as without the library.
fn becomes_another_program(scenario: &str) {
    let outcome = unreported(scenario);
    let printed = &outcome.with.1;
    assert!(printed.starts_with("SigBlk:\t0000000000000000\nSigIgn:"), "{printed}");
    assert!(printed.ends_with("child b"), "{printed}");
}

#[test]
fn a_program_that_a_child_becomes_is_not_the_host() {
    becomes_another_program("exec_child");
}

#[test]
fn a_program_that_a_vforked_child_becomes_is_not_the_host() {
    becomes_another_program("vfork_child");
}

#[test]
fn a_vforked_child_that_crashes_in_the_hosts_memory() {
    host_and_two_children("vfork_child_and_segv", "victim killed by SIGABRT (sent by a process) (child)");
}
