//! A heap in disorder.

use crate::victim::killed;

#[test]
fn double_free_with_the_arena_in_disorder() {
    killed("double_free", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn double_free_with_the_arena_locked() {
    killed("double_free_large", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn damaged_end_of_the_heap() {
    killed("top_chunk", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}
