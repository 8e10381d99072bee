//! Clients come and go, the host daemonizes, starts anew, reaps, and is stopped.

use std::io::BufRead;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::process::Process;
use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{
    Around, Outcome, Victim, assert_event, end_with, end_without, events, files_below, monitor_of, monitors_of, run,
    run_in, state_variable, unreported,
};

/// The number behind a word of what was printed.
fn number(printed: &str, word: &str) -> i64 {
    let mut words = printed.split_whitespace().skip_while(|next| *next != word);
    words.nth(1).unwrap_or_else(|| panic!("no {word} in {printed:?}")).parse().unwrap()
}

/// The same wait status as without the library, and one report of the segmentation fault.
fn assert_one_segv(outcome: &Outcome) {
    assert_eq!(outcome.without.0, libc::SIGSEGV, "the scenario did not happen");
    assert_eq!(outcome.with.0, outcome.without.0);
    assert_eq!(outcome.reports.len(), 1, "{:?}", outcome.reports);
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&outcome.reports[0], "SIGSEGV", value, "address not mapped", "false");
}

#[test]
fn a_thousand_clients_on_eight_threads_leave_nothing_behind() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    // It is the clients of the threads that use the library: one of the start would keep them from installing.
    let around =
        Around { environment: vec![("ONDAT_TELEMETRY_SENTRY_DSN".to_owned(), sink.dsn())], ..Around::default() };
    let mut victim = Victim::start("clients", None, dir.path(), &around);
    victim.go();
    let mut line = String::new();
    victim.output.read_line(&mut line).unwrap();
    assert!(number(&line, "installed") >= 1_000, "{line}");
    assert_eq!((number(&line, "descriptors"), number(&line, "tasks")), (0, 0), "{line}");
    // A kibibyte each would be 250 pages.
    assert!(number(&line, "pages") < 100, "{line}");
    while let Some(monitor) = monitor_of(victim.pid) {
        monitor.wait();
    }
    victim.go();
    assert_eq!(victim.end().0, 0);
    assert_eq!(sink.bodies(), Vec::<String>::new());
}

#[test]
fn a_second_installation_is_refused_and_changes_nothing() {
    let outcome = run("install_again");
    assert!(outcome.with.1.starts_with("again 3 3 "), "{}", outcome.with.1);
    assert!(outcome.with.1.ends_with("already installed"), "{}", outcome.with.1);
    assert_one_segv(&outcome);
}

#[test]
fn the_library_stays_loaded() {
    let outcome = run("unload");
    assert_eq!(outcome.with.1, "loaded 1 kept 1");
    assert_one_segv(&outcome);
}

/// The process that was started has ended; the daemon still reads the test's lines.
fn assert_parent_is_gone(victim: &Victim) {
    // Not reaped: that would close its standard input.
    Process::open(victim.child.id()).wait();
}

#[test]
fn a_daemon_that_installs_after_daemonizing_is_reported() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    let mut victim = Victim::start("daemon", Some(&library), dir.path(), &Around::default());
    assert_eq!(victim.installed, "installed 0");
    assert_parent_is_gone(&victim);
    victim.go();
    let mut line = String::new();
    victim.output.read_line(&mut line).unwrap();
    let daemon = Process::open(u32::try_from(number(&line, "daemon")).unwrap());
    victim.monitor = monitor_of(daemon.pid);
    assert!(victim.monitor.is_some(), "no monitor was started");
    victim.go();
    daemon.wait();
    victim.end();
    let reports = events(&sink);
    assert_eq!(reports.len(), 1, "{reports:?}");
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&reports[0], "SIGSEGV", value, "address not mapped", "false");
}

#[test]
fn daemonizing_after_installing_is_no_crash_and_the_daemon_can_install_anew() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    let mut victim = Victim::start("daemonize", Some(&library), dir.path(), &Around::default());
    let monitor = victim.monitor.take().unwrap();
    victim.go();
    assert_parent_is_gone(&victim);
    // It goes home although the daemon has a descriptor of its socket.
    monitor.wait();
    let mut line = String::new();
    victim.output.read_line(&mut line).unwrap();
    assert_eq!(line, "old 3\n", "the old client is of no use to the daemon");
    while !line.starts_with("daemon") {
        line.clear();
        victim.output.read_line(&mut line).unwrap();
    }
    let daemon = Process::open(u32::try_from(number(&line, "daemon")).unwrap());
    let monitor = monitor_of(daemon.pid).expect("the daemon has a monitor of its own");
    assert_eq!(sink.bodies(), Vec::<String>::new());
    victim.go();
    daemon.wait();
    monitor.wait();
    let events = events(&sink);
    assert_eq!(events.len(), 1);
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&events[0], "SIGSEGV", value, "address not mapped", "false");
}

/// A victim that starts anew, up to where its new image waits; the old monitor and the new one.
fn started_anew(library: &[(&str, &str)], dir: &TempDir, old: impl Fn(&Process)) -> (Victim, Process) {
    let mut victim = Victim::start("start_anew", Some(library), dir.path(), &Around::default());
    let old_monitor = victim.monitor.take().unwrap();
    old(&old_monitor);
    victim.go();
    let mut line = String::new();
    victim.output.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "installed 0");
    victim.output.read_line(&mut line).unwrap();
    assert!(line.ends_with("ready\n"), "{line}");
    victim.monitor = monitors_of(victim.pid).into_iter().find(|monitor| monitor.pid != old_monitor.pid);
    assert!(victim.monitor.is_some(), "the new image has no monitor of its own");
    (victim, old_monitor)
}

#[test]
fn a_program_that_starts_anew_is_watched_by_its_new_monitor() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let (mut victim, old) = started_anew(&library, &dir, |_| ());
    old.wait();
    assert_eq!(sink.bodies(), Vec::<String>::new(), "the old image did not crash");
    victim.go();
    assert_eq!(victim.end().0, libc::SIGSEGV);
    let reports = events(&sink);
    assert_eq!(reports.len(), 1, "{reports:?}");
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&reports[0], "SIGSEGV", value, "address not mapped", "false");
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
}

#[test]
fn an_old_monitor_that_is_late_takes_the_new_image_for_nothing_else() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let (mut victim, old) = started_anew(&library, &dir, |old| old.signal(libc::SIGSTOP));
    let marker = files_below(Path::new(&state));
    assert_eq!(marker.len(), 1, "the new image's run marker and no report: {marker:?}");
    old.signal(libc::SIGCONT);
    old.wait();
    assert_eq!(files_below(Path::new(&state)), marker, "the old monitor removes no marker but its own");
    victim.go();
    assert_eq!(victim.end().0, libc::SIGSEGV);
    assert_eq!(sink.bodies().len(), 1);
}

#[test]
fn a_host_that_reaps_sees_its_own_children_only() {
    let outcome = unreported("reap");
    assert_eq!(outcome.with, (0, "reaped 0 own 3 signals 1".to_owned()));
}

#[test]
fn a_subreaper_adopts_the_monitor_and_is_not_disturbed_by_it() {
    let outcome = unreported("adopt");
    assert_eq!(outcome.with, (0, "reaped 0 own 3 signals 1".to_owned()));
    // It sees the monitor once, when the client is closed and the monitor goes.
    let sink = Sink::start(200);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    let (installed, end) = end_with("adopt_and_close", &library, &Around::default());
    assert_eq!(installed, "installed 0");
    assert_eq!(end, (0, "reaped 1 status 0 left -1".to_owned()));
}

#[test]
fn a_stop_of_the_process_group_does_not_take_the_monitor_along() {
    let outcome = run("stop_the_group");
    assert_eq!(outcome.with, (libc::SIGSEGV, "stopped 1".to_owned()));
    assert_one_segv(&outcome);
}

#[test]
fn the_interrupt_key_does_not_take_the_monitor_along() {
    let outcome = run("interrupt_key");
    assert_eq!(outcome.with, (libc::SIGSEGV, "interrupted 1".to_owned()));
    assert_one_segv(&outcome);
}

/// A spool with the report of one crash.
fn spool_with_one(dir: &TempDir) -> String {
    let (name, state) = state_variable(dir);
    let sink = Sink::start(503);
    let dsn = sink.dsn();
    let (_, (status, _)) =
        end_with("segv", &[("ONDAT_TELEMETRY_SENTRY_DSN", &dsn), (name, &state)], &Around::default());
    assert_eq!(status, libc::SIGSEGV);
    assert_eq!(files_below(Path::new(&state)).len(), 1);
    state
}

#[test]
fn without_consent_at_the_start_there_is_no_monitor_and_no_report() {
    for objection in ["DISABLE_CRASH_REPORTING", "DISABLE_ERROR_REPORTING", "DO_NOT_TRACK"] {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let dsn = sink.dsn();
        let (name, state) = state_variable(&dir);
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str()), (objection, "1")];
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
        assert!(victim.installed.starts_with("installed 5 "), "{}", victim.installed);
        assert!(victim.monitor.is_none());
        victim.go();
        assert_eq!(victim.end(), end_without("segv", &Around::default()));
        assert_eq!(sink.bodies(), Vec::<String>::new());
        assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
    }
}

#[test]
fn consent_revoked_by_the_host_is_no_report() {
    let outcome = unreported("switch_off");
    assert_eq!(outcome.with.0, libc::SIGSEGV);
    // And given again it is one.
    assert_one_segv(&run("switch_off_and_on"));
}

#[test]
fn consent_revoked_by_the_administrator_is_no_report() {
    for word in [r#"{"crash_reports": false}"#, "not JSON"] {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let dsn = sink.dsn();
        let (name, state) = state_variable(&dir);
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
        assert_eq!(victim.installed, "installed 0");
        std::fs::write(Path::new(&state).join("switches.json"), word).unwrap();
        victim.go();
        assert_eq!(victim.end().0, libc::SIGSEGV);
        assert_eq!(sink.bodies(), Vec::<String>::new());
        assert_eq!(files_below(Path::new(&state)), ["switches.json"]);
    }
}

#[test]
fn consent_revoked_empties_the_spool() {
    let dir = TempDir::new();
    let state = spool_with_one(&dir);
    let sink = Sink::start(200);
    let dsn = sink.dsn();
    let library = [
        ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
        ("ONDAT_TELEMETRY_STATE_DIR", state.as_str()),
        ("DISABLE_CRASH_REPORTING", "1"),
    ];
    let (installed, (status, _)) = end_with("flush", &library, &Around::default());
    assert!(installed.starts_with("installed 5 "), "{installed}");
    assert_eq!(status, 0);
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
    assert_eq!(sink.bodies(), Vec::<String>::new());
}

#[test]
fn a_clock_that_jumps_changes_the_moment_of_a_report_and_nothing_else() {
    for (clock, moment) in [
        ("0", "1970-01-01T00:00:00Z"),
        ("-86400", "1970-01-01T00:00:00Z"),
        ("4102444800", "2100-01-01T00:00:00Z"),
        ("9223372036854775807", "9999-12-31T23:59:59Z"),
    ] {
        let around = Around { environment: vec![("VICTIM_CLOCK".to_owned(), clock.to_owned())], ..Around::default() };
        let outcome = run_in("segv_then", &around);
        assert_eq!(outcome.with.1, format!("clock {clock}"));
        assert_one_segv(&outcome);
        assert_eq!(outcome.reports[0]["timestamp"], moment, "{clock}");
    }
}

#[test]
fn what_was_stored_before_the_clock_jumped_is_still_sent() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Thirty days are what the spool keeps.
    for clock in [0, 86_400, now + 29 * 86_400] {
        let dir = TempDir::new();
        let state = spool_with_one(&dir);
        let stored = files_below(Path::new(&state));
        let sink = Sink::start(200);
        let dsn = sink.dsn();
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", state.as_str())];
        let around = Around { environment: vec![("VICTIM_CLOCK".to_owned(), clock.to_string())], ..Around::default() };
        let (_, (status, printed)) = end_with("flush_then", &library, &around);
        assert_eq!((status, printed.as_str()), (0, "flushed 0"), "{clock}");
        let reports = events(&sink);
        let ids: Vec<_> = reports.iter().map(|event| format!("{}.json", event["event_id"].as_str().unwrap())).collect();
        assert_eq!(ids, stored, "{clock}");
    }
}
