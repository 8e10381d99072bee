//! A heap in disorder.

use crate::victim::killed;

#[test]
fn double_free_with_the_arena_in_disorder() {
    killed("double_free", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}
