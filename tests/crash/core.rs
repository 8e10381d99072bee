//! Core dumps.

use crate::victim::{Around, run_in};

#[test]
fn a_core_dump_is_reported_as_the_kernel_says() {
    let outcome = run_in("segv", &Around { core: libc::RLIM_INFINITY, ..Around::default() });
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert_eq!(outcome.without.0 & 0x80, 0x80, "no core was dumped: core_pattern is {pattern}");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    assert_eq!(outcome.reports[0]["tags"]["core_dump"], "true");
}
