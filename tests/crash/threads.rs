//! Several threads at once.

use crate::victim::killed;

#[test]
fn eight_threads_at_once() {
    for _ in 0..10 {
        killed("segv_8_threads", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
    }
}
