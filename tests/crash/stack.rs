//! Stacks that end.

use crate::victim::killed;

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
