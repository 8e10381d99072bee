//! Several threads at once, and crashes at the edges of the library's life.

use std::time::Instant;

use serde_json::Value;

use crate::sink::Sink;
use crate::support::{DEADLINE, TempDir};
use crate::victim::{Around, Victim, assert_event, events, monitor_of, send};

/// Surroundings with one variable.
fn with_variable(name: &str, value: &str) -> Around {
    Around { environment: vec![(name.to_owned(), value.to_owned())], ..Around::default() }
}

/// Runs with the library: wait status, what was printed, and the reports.
fn run_with(scenario: &str, around: &Around, act: impl Fn(&mut Victim)) -> (i32, String, Vec<Value>) {
    let (mut victim, sink, _dir) = started(scenario, around);
    act(&mut victim);
    let (status, printed) = victim.end();
    (status, printed, events(&sink))
}

fn started(scenario: &str, around: &Around) -> (Victim, Sink, TempDir) {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", sink.dsn())];
    let library = library.each_ref().map(|(name, value)| (*name, value.as_str()));
    let victim = Victim::start(scenario, Some(&library), dir.path(), around);
    assert_eq!(victim.installed, "installed 0");
    (victim, sink, dir)
}

/// A hundred runs in which as many threads fault at once; at least two came to it in how many?
fn fault_at_once(threads: usize) {
    let around = with_variable("THREADS", &threads.to_string());
    let mut concurrent = 0;
    for _ in 0..100 {
        let (status, printed, reports) = run_with("segv_threads", &around, Victim::go);
        assert_eq!((status, reports.len()), (libc::SIGSEGV, 1));
        let value = "victim killed by SIGSEGV (address not mapped)";
        assert_event(&reports[0], "SIGSEGV", value, "address not mapped", "false");
        concurrent += usize::from(printed.len() >= 2);
    }
    assert!(concurrent > 0, "no two threads faulted in any of 100 runs");
}

#[test]
fn two_threads_at_once() {
    fault_at_once(2);
}

#[test]
fn eight_threads_at_once() {
    fault_at_once(8);
}

#[test]
fn sixty_four_threads_at_once() {
    fault_at_once(64);
}

#[test]
fn threads_that_wait_for_the_first_end_with_it() {
    // The first waits for a monitor that is stopped, so that all others come to their fault meanwhile.
    let stop = |victim: &mut Victim| {
        let monitor = victim.monitor.as_ref().unwrap().pid;
        send(monitor, libc::SIGSTOP);
        victim.go();
        crate::process::Process::open(victim.pid).wait();
        send(monitor, libc::SIGCONT);
    };
    let (status, printed, reports) = run_with("segv_threads", &with_variable("THREADS", "8"), stop);
    assert_eq!((status, printed.as_str(), reports.len()), (libc::SIGSEGV, "xxxxxxxx", 1));
}

#[test]
fn different_signals_at_once() {
    let mut concurrent = 0;
    for _ in 0..100 {
        let (status, printed, reports) = run_with("segv_and_abort", &Around::default(), Victim::go);
        let (name, class) = match status {
            libc::SIGSEGV => ("SIGSEGV", "address not mapped"),
            libc::SIGABRT => ("SIGABRT", "sent by a process"),
            _ => panic!("wait status {status}"),
        };
        assert_eq!(reports.len(), 1);
        assert_event(&reports[0], name, &format!("victim killed by {name} ({class})"), class, "false");
        concurrent += usize::from(printed.len() == 2);
    }
    assert!(concurrent > 0, "the threads never faulted both");
}

#[test]
fn a_fault_while_another_thread_opens_and_closes() {
    let mut reported = 0;
    for delay in (0..100).map(|step| step * 40_000) {
        let around = with_variable("DELAY", &delay.to_string());
        let (mut victim, sink, _dir) = started("segv_while_opening_and_closing", &around);
        victim.go();
        let (status, _) = victim.end_with_all_monitors();
        let reports = events(&sink);
        assert_eq!(status, libc::SIGSEGV);
        // Which of two: the crash came while a handler was installed, or it did not.
        assert!(reports.len() <= 1, "{reports:?}");
        reported += reports.len();
    }
    assert!(reported > 0, "no fault came while the handler was installed");
}

#[test]
fn opening_and_closing_a_thousand_times_from_eight_threads_leaves_nothing() {
    let look = |victim: &mut Victim| {
        use std::io::BufRead;
        victim.go();
        let mut left = String::new();
        victim.output.read_line(&mut left).unwrap();
        let (counted, memory) = left.trim_end().rsplit_once(", ").unwrap();
        assert_eq!(counted, "0 descriptors, 0 threads");
        let kib: i64 = memory.strip_suffix(" KiB").unwrap().parse().unwrap();
        assert!(kib < 64, "{kib} KiB more after a thousand times");
        let begun = Instant::now();
        while monitor_of(victim.pid).is_some() {
            assert!(begun.elapsed() < DEADLINE, "a monitor stays");
        }
        send(victim.pid, libc::SIGTERM);
    };
    let (status, _, reports) = run_with("open_and_close_1000_times", &Around::default(), look);
    assert_eq!((status, reports.len()), (libc::SIGTERM, 0));
}
