//! Children of the host: they die as without the library, and are nobody's report.

use crate::victim::{killed, run, unreported};

#[test]
fn a_child_that_crashes_leaves_the_hosts_own_report_intact() {
    killed("fork_child_and_segv", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
    assert_eq!(run("fork_child_and_segv").with.1, "child b\nchild 6");
}

#[test]
fn a_child_that_crashes_in_a_thread_of_its_own() {
    let outcome = unreported("fork_child_with_thread");
    assert_eq!(outcome.with, (0, "child b".to_owned()));
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
    killed("vfork_child_and_segv", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
    assert_eq!(run("vfork_child_and_segv").with.1, "child b\nchild 6");
}
