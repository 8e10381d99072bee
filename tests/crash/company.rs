//! In the company of debuggers and sanitizers.

use std::process::Command;

use crate::support::{TempDir, compile, root, succeed};
use crate::victim::{Around, FLAGS, assert_event, killed_in, run_in, sources};

#[test]
fn a_debugger_sees_the_signal_first() {
    let dir = TempDir::new();
    let debugger = dir.join("debugger");
    let source = root().join("tests/crash/beside/debugger.c");
    succeed(Command::new("gcc").args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&debugger).arg(source));
    let around = Around::launched_by(&[debugger.to_str().unwrap()]);
    for (scenario, signal, name, class) in [
        ("segv", libc::SIGSEGV, "SIGSEGV", "address not mapped"),
        ("segv_thread", libc::SIGSEGV, "SIGSEGV", "address not mapped"),
        ("abort", libc::SIGABRT, "SIGABRT", "sent by a process"),
        ("fpe", libc::SIGFPE, "SIGFPE", "integer division by zero"),
    ] {
        killed_in(scenario, &around, signal, name, Some(class));
        assert_eq!(run_in(scenario, &around).with.1, format!("first chance {signal}"));
    }
}

/// The victim under a sanitizer of gcc: its handler is the earlier one.
fn sanitized(sanitizer: &str, options: &str) {
    let dir = TempDir::new();
    let flag = format!("-fsanitize={sanitizer}");
    let mut flags = FLAGS.to_vec();
    flags.push(&flag);
    let program = compile("gcc", &sources(), &dir.join("victim"), &flags);
    let environment = vec![(options.to_owned(), "detect_leaks=0:log_path=/dev/null".to_owned())];
    let around = Around { program: Some(program), environment, ..Around::default() };
    for scenario in ["segv", "segv_thread", "overflow_main"] {
        let outcome = run_in(scenario, &around);
        let code = outcome.without.0 >> 8;
        assert_eq!(outcome.without.0 & 0xff, 0, "the sanitizer did not end {scenario}");
        assert_ne!((code, code), (0, 96), "{scenario}");
        assert_eq!(outcome.with, outcome.without, "{scenario}");
        assert_eq!(outcome.reports.len(), 1, "{scenario}");
        let value = format!("victim exited with code {code}");
        assert_event(&outcome.reports[0], "ExitCode", &value, "exited", "false");
    }
    killed_in("abort", &around, libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn address_sanitizer() {
    sanitized("address", "ASAN_OPTIONS");
}

#[test]
fn thread_sanitizer() {
    sanitized("thread", "TSAN_OPTIONS");
}
