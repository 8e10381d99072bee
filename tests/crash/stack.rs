//! Stacks that end.

use crate::victim::{killed, run};

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
fn stack_overflow_on_a_thread_that_is_older_than_the_handler() {
    killed("overflow_older_thread", libc::SIGSEGV, "SIGSEGV", None);
}

#[test]
fn stack_overflow_on_a_thread_with_the_smallest_stack() {
    killed("overflow_tiny_thread", libc::SIGSEGV, "SIGSEGV", None);
}

#[test]
fn a_thread_keeps_its_own_alternate_stack() {
    killed("overflow_own_altstack", libc::SIGSEGV, "SIGSEGV", Some("access not permitted"));
    assert_eq!(run("overflow_own_altstack").with.1, "kept");
}

#[test]
fn a_handler_that_overflows_the_alternate_stack() {
    // The record was sent before the host's handler was called.
    killed("overflow_altstack", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn an_alternate_stack_on_which_no_handler_can_run() {
    killed("small_altstack", libc::SIGSEGV, "SIGSEGV", None);
}

/// As a runtime's, on any processor: without the library there is room for what happens.
#[test]
fn a_handler_that_ends_the_process_on_an_alternate_stack_for_one_signal() {
    killed("abort_on_small_altstack", libc::SIGABRT, "SIGABRT", None);
    #[cfg(target_arch = "x86_64")]
    killed("trap_on_small_altstack", libc::SIGILL, "SIGILL", None);
}

#[test]
fn the_alternate_stack_holds_twice_what_this_processor_saves() {
    let outcome = run("size_of_altstack");
    let words: Vec<usize> = outcome.with.1.split(" of ").map(|word| word.parse().unwrap()).collect();
    assert!(words[0] >= 65_536 && words[0] >= 2 * words[1], "{words:?}");
    assert!(outcome.without.1.starts_with("0 of "), "{}", outcome.without.1);
}
