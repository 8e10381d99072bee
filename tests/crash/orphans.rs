//! `ondat-telemetry exec` and the processes that are left to it.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Instant;

use crate::exec::{Node, no_core, plain, value};
use crate::pid1::NAMESPACE;
use crate::sink::{Sink, answer};
use crate::support::DEADLINE;
use crate::victim::{events, victim};

/// Processes that are left below become children of this one: it lasts over exec, PR_SET_CHILD_SUBREAPER(2const).
fn as_subreaper(command: &mut Command) {
    let adopt = || {
        // SAFETY: a system call on numbers.
        let answer = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: a system call between fork and exec.
    unsafe { command.pre_exec(adopt) };
}

/// How the program ended that leaves an orphan, and what it printed.
fn left(mut command: Command, end: &str) -> (i32, String) {
    no_core(&mut command);
    command.env("VICTIM_ORPHAN", end).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let status = child.wait().unwrap().into_raw();
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    (status, printed)
}

/// What is reported, exactly this, of a program that ends well and of the orphan that ended so before.
fn assert_reported(launcher: &[&str], end: &str, expected: &[&str]) {
    let words = [victim().to_str().unwrap(), "without", "orphan"];
    // Whoever waits for orphans: the program goes on when it is gone.
    let without = left(plain(&[&["tini", "-s", "--"], &words[..]].concat()), end);
    assert_eq!(without, (0, "ready\ngone 1\n".to_owned()), "the scenario did not happen");
    let (sender, arrived) = channel();
    let sink = Sink::answering(move |_| {
        let _ = sender.send(());
        Some(answer(200, "", "{}"))
    });
    let node = Node::new(sink.dsn());
    let mut command = node.exec(launcher, &[], &words);
    if launcher.is_empty() {
        as_subreaper(&mut command);
    }
    assert_eq!(left(command, end), without, "{launcher:?} {end}");
    // Only a PID 1 waits for what reports an orphan.
    for _ in expected {
        arrived.recv_timeout(DEADLINE).expect("no report came");
    }
    let start = Instant::now();
    while !node.is_empty() {
        assert!(start.elapsed() < DEADLINE, "{launcher:?} {end}: something was left in the state directory");
        std::thread::yield_now();
    }
    let reported: Vec<_> = events(&sink).iter().map(|event| value(event).to_owned()).collect();
    assert_eq!(reported, expected, "{launcher:?} {end}");
}

/// The supervisor as PID 1, and as a subreaper: whoever it is started by, here without a launcher.
const PLACES: [&[&str]; 2] = [&NAMESPACE, &[]];

#[test]
fn an_orphan_that_crashes_is_reported_by_its_own_name() {
    for launcher in PLACES {
        assert_reported(launcher, "segv", &["straggler killed by SIGSEGV"]);
    }
}

#[test]
fn an_orphan_that_exits_or_is_killed_is_no_crash() {
    for launcher in PLACES {
        for end in ["exit", "kill"] {
            assert_reported(launcher, end, &[]);
        }
    }
}
