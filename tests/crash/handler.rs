//! The handler among other handlers, in a damaged process, and what it must not touch.

use crate::process::Process;
use crate::sink::Sink;
use crate::support::{TempDir, root, succeed};
use crate::victim::{
    Around, Victim, assert_event, events, exited, killed, killed_in, monitor_of, run, run_in, send, state_variable,
    unreported,
};

const UNMAPPED: Option<&str> = Some("address not mapped");
const SENT: Option<&str> = Some("sent by a process");

#[test]
fn an_earlier_handler_that_faults_itself() {
    killed("handler_faults", libc::SIGSEGV, "SIGSEGV", UNMAPPED);
}

#[test]
fn an_ignored_fault_ends_the_process_all_the_same() {
    killed("ignored_segv", libc::SIGSEGV, "SIGSEGV", None);
    assert_eq!(run("ignored_segv").with.1, "still here");
}

#[test]
fn a_handler_that_is_put_over_ours_decides() {
    exited("replaced_handler", 42);
    killed("removed_handler", libc::SIGSEGV, "SIGSEGV", None);
}

#[test]
fn another_reporter_below_ours() {
    for scenario in ["ours_over_caller", "ours_over_raiser"] {
        killed(&format!("{scenario}_segv"), libc::SIGSEGV, "SIGSEGV", UNMAPPED);
        killed(&format!("{scenario}_abort"), libc::SIGABRT, "SIGABRT", SENT);
    }
}

#[test]
fn another_reporter_above_ours() {
    killed("caller_over_ours_segv", libc::SIGSEGV, "SIGSEGV", UNMAPPED);
    killed("caller_over_ours_abort", libc::SIGABRT, "SIGABRT", SENT);
    // It sends the signal itself: that is what is seen.
    killed("raiser_over_ours_segv", libc::SIGSEGV, "SIGSEGV", SENT);
    killed("raiser_over_ours_abort", libc::SIGABRT, "SIGABRT", SENT);
}

#[test]
fn errno_is_kept() {
    let outcome = unreported("keeps_errno");
    assert_eq!(outcome.with, (0, "errno 42, in the handler 42".to_owned()));
}

#[test]
fn no_signal_is_raised_by_the_library() {
    let outcome = unreported("counted_signals");
    assert_eq!(outcome.with, (0, "trap 1, pipe 0, chld 0, io 0, urg 0".to_owned()));
}

#[test]
fn no_signal_is_raised_by_a_monitor_that_is_gone() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    let mut victim = Victim::start("counted_signals", Some(&library), dir.path(), &Around::default());
    let monitor: &Process = victim.monitor.as_ref().unwrap();
    send(monitor.pid, libc::SIGKILL);
    monitor.wait();
    victim.go();
    assert_eq!(victim.end(), (0, "trap 1, pipe 0, chld 0, io 0, urg 0".to_owned()));
}

#[test]
fn damaged_memory_of_the_library() {
    killed("scribble_and_segv", libc::SIGSEGV, "SIGSEGV", None);
}

/// A preloaded allocator that ends the process with code 77 once it is told to.
fn around_allocator(dir: &TempDir) -> Around {
    let object = dir.join("allocator.so");
    let source = root().join("tests/crash/beside/allocator.c");
    let flags = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-o"];
    succeed(std::process::Command::new("gcc").args(flags).arg(&object).arg(source));
    let environment = vec![("LD_PRELOAD".to_owned(), object.to_str().unwrap().to_owned())];
    Around { environment, ..Around::default() }
}

#[test]
fn no_memory_is_allocated_and_no_mutex_locked() {
    let dir = TempDir::new();
    let around = around_allocator(&dir);
    killed_in("segv_without_allocation", &around, libc::SIGSEGV, "SIGSEGV", UNMAPPED);
    killed_in("abort_without_allocation", &around, libc::SIGABRT, "SIGABRT", SENT);
    // The same surroundings find out a handler that does.
    for scenario in ["allocation_in_handler", "lock_in_handler"] {
        let outcome = run_in(scenario, &around);
        assert_eq!((outcome.without.0, outcome.with.0), (77 << 8, 77 << 8), "{scenario}");
        assert_event(&outcome.reports[0], "ExitCode", "victim exited with code 77", "exited", "false");
    }
}

#[test]
fn another_reporter_above_and_below_ours() {
    for (fault, signal, name, class) in [
        ("segv", libc::SIGSEGV, "SIGSEGV", "address not mapped"),
        ("abort", libc::SIGABRT, "SIGABRT", "sent by a process"),
    ] {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let dsn = sink.dsn();
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
        let scenario = format!("ours_over_caller_over_ours_{fault}");
        let end = |library: Option<&[(&str, &str)]>| {
            let mut victim = Victim::start(&scenario, library, dir.path(), &Around::default());
            victim.go();
            let mut again = String::new();
            std::io::BufRead::read_line(&mut victim.output, &mut again).unwrap();
            victim.monitor = monitor_of(victim.pid);
            assert_eq!((again.as_str(), victim.monitor.is_some()), ("again\n", library.is_some()));
            victim.go();
            victim.end()
        };
        assert_eq!(end(None), (signal, "reported by another".to_owned()));
        assert_eq!(end(Some(&library)), (signal, "reported by another".to_owned()));
        let reports = events(&sink);
        assert_eq!(reports.len(), 1);
        assert_event(&reports[0], name, &format!("victim killed by {name} ({class})"), class, "false");
    }
}

#[test]
fn an_earlier_handler_that_defers_nothing() {
    exited("handler_without_deferring", 42);
}

#[test]
fn an_earlier_handler_runs_on_the_stack_it_was_made_for() {
    exited("handler_with_much_stack", 42);
}

#[test]
fn damaged_memory_of_the_library_does_not_change_the_signal() {
    killed("scribble_and_abort", libc::SIGABRT, "SIGABRT", None);
}

#[test]
fn descriptors_that_have_become_the_hosts_are_not_written_to() {
    /// Known from the shared page, which is no descriptor.
    const CLASS: Option<&str> = Some("sent by a process");
    let dir = TempDir::new();
    let file = dir.join("foreign");
    let environment = vec![("FOREIGN".to_owned(), file.to_str().unwrap().to_owned())];
    killed_in("reuse_for_file", &Around { environment, ..Around::default() }, libc::SIGABRT, "SIGABRT", CLASS);
    assert_eq!(std::fs::read(&file).unwrap(), b"");

    killed("reuse_for_socket", libc::SIGABRT, "SIGABRT", CLASS);
    assert_eq!(run("reuse_for_socket").with.1, "0 bytes");
}

#[test]
fn a_record_that_finds_no_room_does_not_change_the_signal() {
    // Without a monitor the record goes into a file, which a limit forbids by another signal.
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let mut victim = Victim::start("segv_where_nothing_can_be_written", Some(&library), dir.path(), &Around::default());
    let monitor = victim.monitor.as_ref().unwrap();
    send(monitor.pid, libc::SIGKILL);
    monitor.wait();
    victim.go();
    assert_eq!(victim.end().0, libc::SIGSEGV);
}
