//! Two copies of the library in one process.

use crate::support::{TempDir, built};
use crate::victim::{Around, assert_event, run_in};

#[test]
fn the_second_copy_is_told_and_one_report_is_made() {
    let dir = TempDir::new();
    let copy = dir.join("libplugin.so");
    std::fs::copy(built("libondat_telemetry.so"), &copy).unwrap();
    let environment = vec![("VICTIM_COPY".to_owned(), copy.to_str().unwrap().to_owned())];
    let outcome = run_in("two_copies", &Around { environment, ..Around::default() });
    assert_eq!(outcome.without, (libc::SIGSEGV, "another 1".to_owned()), "the scenario did not happen");
    assert_eq!(outcome.with.0, outcome.without.0);
    let mut lines = outcome.with.1.lines();
    assert_eq!(lines.next(), Some("another 1"), "{}", outcome.with.1);
    let second = lines.next().unwrap();
    assert!(second.starts_with("second 3 another copy"), "{second}");
    assert_eq!(outcome.reports.len(), 1, "{:?}", outcome.reports);
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&outcome.reports[0], "SIGSEGV", value, "address not mapped", "false");
}
