//! A victim that is PID 1 of a namespace: the kernel ignores what would kill it by default when it comes from inside, and
//! kills the monitor with it.

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{
    Around, Outcome, Victim, assert_event, core_before_death, events, files_below, run_in, send, sent_by_next_run,
    state_variable, stored_event,
};

/// Starts a program as PID 1.
pub(crate) const NAMESPACE: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn as_pid_1(scenario: &str) -> Outcome {
    run_in(scenario, &Around::launched_by(&NAMESPACE))
}

#[test]
fn a_fault_ends_it_as_without_us_and_is_sent_before() {
    for (scenario, signal, kind, class) in [
        ("segv", libc::SIGSEGV, "SIGSEGV", "address not mapped"),
        ("segv_thread", libc::SIGSEGV, "SIGSEGV", "address not mapped"),
        ("bus", libc::SIGBUS, "SIGBUS", "address beyond the object"),
        ("ill", libc::SIGILL, "SIGILL", "illegal instruction"),
    ] {
        let outcome = as_pid_1(scenario);
        assert_eq!(outcome.without.0 & 0x7f, signal, "the scenario did not happen");
        assert_eq!(outcome.with, outcome.without, "{scenario}");
        assert_eq!(outcome.reports.len(), 1, "{scenario}");
        assert_event(
            &outcome.reports[0],
            kind,
            &format!("victim killed by {kind} ({class})"),
            class,
            core_before_death(),
        );
    }
}

#[test]
fn what_it_sends_itself_ends_it_with_128_and_the_signal() {
    // Without the library abort falls through to an instruction that faults, and the others change nothing.
    for (scenario, without, signal, kind) in [
        ("abort", libc::SIGSEGV, libc::SIGABRT, "SIGABRT"),
        ("raise_segv", 96 << 8, libc::SIGSEGV, "SIGSEGV"),
        ("kill_sys", 96 << 8, libc::SIGSYS, "SIGSYS"),
        ("xcpu", 96 << 8, libc::SIGXCPU, "SIGXCPU"),
    ] {
        let outcome = as_pid_1(scenario);
        assert_eq!(outcome.without.0, without, "{scenario} as PID 1 does what it did not do before");
        assert_eq!(outcome.with.0, (128 + signal) << 8, "{scenario}");
        assert_eq!(outcome.reports.len(), 1, "{scenario}");
        let value = format!("victim killed by {kind} (sent by a process)");
        assert_event(&outcome.reports[0], kind, &value, "sent by a process", "false");
    }
}

#[test]
fn an_exit_code_is_sent_before_it_ends() {
    let outcome = as_pid_1("exit_3");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    assert_event(&outcome.reports[0], "ExitCode", "victim exited with code 3", "exited", "false");
    let outcome = as_pid_1("exit_0");
    assert_eq!((outcome.with.0, outcome.reports.len()), (0, 0));
}

#[test]
fn eight_threads_at_once_are_one_report() {
    let environment = vec![("THREADS".to_owned(), "8".to_owned())];
    for _ in 0..10 {
        let around = Around { environment: environment.clone(), ..Around::launched_by(&NAMESPACE) };
        let outcome = run_in("segv_threads", &around);
        assert_eq!(outcome.without.0, libc::SIGSEGV);
        assert_eq!(outcome.with.0, outcome.without.0);
        assert_eq!(outcome.reports.len(), 1);
    }
}

#[test]
fn an_earlier_handler_that_recovers_is_no_crash() {
    let outcome = as_pid_1("handler_recovers");
    assert_eq!(outcome.with, (0, "recovered 1".to_owned()));
    assert_eq!(outcome.reports, Vec::<Value>::new());
}

/// Runs a scenario as PID 1 with this state directory.
fn run_once(scenario: &str, dsn: &str, dir: &TempDir, state: Option<&str>, act: impl Fn(&Victim)) -> i32 {
    let mut library = vec![("ONDAT_TELEMETRY_SENTRY_DSN", dsn), ("ONDAT_TELEMETRY_CRASH_WAIT_MS", "300")];
    library.extend(state.map(|state| ("ONDAT_TELEMETRY_STATE_DIR", state)));
    let mut victim = Victim::start(scenario, Some(&library), dir.path(), &Around::launched_by(&NAMESPACE));
    assert_eq!(victim.installed, "installed 0");
    assert!(victim.monitor.is_some());
    victim.go();
    act(&victim);
    victim.end().0
}

#[test]
fn without_a_state_directory_it_is_sent_all_the_same() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    assert_eq!(run_once("segv", &sink.dsn(), &dir, None, |_| {}), libc::SIGSEGV);
    assert_eq!(events(&sink).len(), 1);
}

#[test]
fn a_server_that_hangs_holds_it_no_longer_than_agreed_and_the_report_is_stored() {
    let dir = TempDir::new();
    let (_, state) = state_variable(&dir);
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("http://key@{}/1", hanging.local_addr().unwrap());
    assert_eq!(run_once("segv", &dsn, &dir, Some(&state), |_| {}), libc::SIGSEGV);
    // The monitor did reach the server, and was killed waiting for its answer.
    let mut request = String::new();
    let _ = hanging.accept().unwrap().0.read_to_string(&mut request);
    let stored = stored_event(&state);
    assert!(request.contains(stored["event_id"].as_str().unwrap()), "{request}");
    assert_event(
        &stored,
        "SIGSEGV",
        "victim killed by SIGSEGV (address not mapped)",
        "address not mapped",
        core_before_death(),
    );
}

/// The one report that the next run on this state directory makes of the earlier one.
fn found_by_the_next_run(sink: &Sink, dir: &TempDir, state: &str) -> Value {
    assert_eq!(sink.bodies(), Vec::<String>::new());
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", sink.dsn()), ("ONDAT_TELEMETRY_STATE_DIR", state.to_owned())];
    let library: Vec<_> = library.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut next = Victim::start("exit_0", Some(&library), dir.path(), &Around::default());
    next.go();
    assert_eq!(next.end().0, 0);
    stored_event(state)
}

#[test]
fn ends_that_nobody_can_see_are_no_report() {
    // unshare(1) cannot end itself by SIGKILL: it exits with 1.
    for (scenario, status) in [("wait", 1 << 8), ("_exit_7", 7 << 8), ("_exit_0", 0)] {
        let act = |victim: &Victim| {
            if scenario == "wait" {
                send(victim.pid, libc::SIGKILL);
            }
        };
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let (_, state) = state_variable(&dir);
        assert_eq!(run_once(scenario, &sink.dsn(), &dir, Some(&state), act), status);
        assert_eq!(sent_by_next_run(&state), Vec::<Value>::new(), "{scenario}");
        assert_eq!(sink.bodies(), Vec::<String>::new(), "{scenario}");
    }
}

#[test]
fn consent_revoked_holds_for_the_next_run_too() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (_, state) = state_variable(&dir);
    assert_eq!(run_once("switch_off", &sink.dsn(), &dir, Some(&state), |_| {}), libc::SIGSEGV);
    // The monitor was killed with PID 1: the run marker is there, and with it what was said.
    assert_eq!(files_below(Path::new(&state)).len(), 1);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", sink.dsn()), ("ONDAT_TELEMETRY_STATE_DIR", state.clone())];
    let library: Vec<_> = library.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut next = Victim::start("exit_0", Some(&library), dir.path(), &Around::default());
    next.go();
    assert_eq!(next.end().0, 0);
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
    assert_eq!(sink.bodies(), Vec::<String>::new());
}

#[test]
fn an_earlier_handler_that_exits_leaves_the_signal_to_the_next_run() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (_, state) = state_variable(&dir);
    assert_eq!(run_once("handler_exits", &sink.dsn(), &dir, Some(&state), |_| {}), 42 << 8);
    let event = found_by_the_next_run(&sink, &dir, &state);
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&event, "SIGSEGV", value, "address not mapped", core_before_death());
}

#[test]
fn below_an_init_that_ends_at_once_nothing_is_lost() {
    // The init ends with its child, and takes the monitor with it or not.
    let mut words = NAMESPACE.to_vec();
    words.extend(["sh", "-c", "\"$@\"; exit $?", "init"]);
    for _ in 0..5 {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let (_, state) = state_variable(&dir);
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", sink.dsn()), ("ONDAT_TELEMETRY_STATE_DIR", state.clone())];
        let library: Vec<_> = library.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::launched_by(&words));
        victim.go();
        assert_eq!(victim.end().0, 139 << 8);
        if files_below(Path::new(&state)).is_empty() {
            assert_eq!(events(&sink).len(), 1);
            continue;
        }
        // Killed between sending and removing, it is sent again with the same id, which servers take for one.
        let stored = match events(&sink).pop() {
            Some(event) => {
                assert_eq!(stored_event(&state)["event_id"], event["event_id"]);
                event
            }
            None => found_by_the_next_run(&sink, &dir, &state),
        };
        assert_eq!(stored["tags"]["signal"], "SIGSEGV");
        assert_eq!(stored["exception"]["values"][0]["value"], "victim killed by SIGSEGV (address not mapped)");
    }
}

#[test]
fn below_an_init_a_crash_can_wait_for_its_report() {
    let mut words = NAMESPACE.to_vec();
    words.extend(["sh", "-c", "\"$@\"; exit $?", "init"]);
    for _ in 0..5 {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let dsn = sink.dsn();
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_CRASH_WAIT_MS", "20000")];
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::launched_by(&words));
        victim.go();
        assert_eq!(victim.end().0, 139 << 8);
        assert_eq!(events(&sink).len(), 1);
    }
}
