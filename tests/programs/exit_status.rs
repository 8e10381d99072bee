//! What a parent reports of its children.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::support::{TempDir, compile, root, succeed};

/// The statuses of ondat_telemetry.h.
const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 1;

/// The last signal of Linux, which has no name of its own.
const SIGRTMAX: i32 = 64;

#[test]
fn endings_are_reported_and_what_is_none_is_refused() {
    let dir = TempDir::new();
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
    let program = compile("gcc", &root().join("tests/c/exit_status.c"), &dir.join("exit_status"), &flags);
    let state = dir.join("state");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&state).unwrap();
    let mut command = Command::new(program);
    command.env_clear().env("ONDAT_TELEMETRY_STATE_DIR", &state);
    command.env("ONDAT_TELEMETRY_SENTRY_DSN", "http://key@127.0.0.1:1/1");
    let output = String::from_utf8(succeed(&mut command).stdout).unwrap();
    let expected = [
        ("exited", 0, OK),
        ("exited", 7 << 8, OK),
        ("exited", 255 << 8, OK),
        ("stopped", libc::SIGSTOP << 8 | 0x7f, INVALID_ARGUMENT),
        ("continued", 0xffff, INVALID_ARGUMENT),
        ("killed", libc::SIGKILL, OK),
        ("killed", libc::SIGTERM, OK),
        ("killed", libc::SIGSEGV, OK),
        ("killed", SIGRTMAX, OK),
    ];
    let lines = expected.map(|(what, status, returned)| match status {
        0 => format!("{what} 0 {returned}\n"),
        status => format!("{what} {status:#x} {returned}\n"),
    });
    assert_eq!(output, lines.concat());

    // A success and an operator's stop are no crashes.
    let stored = std::fs::read_dir(state.join("spool/crashes")).unwrap().map(|entry| {
        let event: Value = serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let tag = |name: &str| event["tags"][name].as_str().unwrap().to_owned();
        (tag("signal"), tag("exit_code"), tag("core_dump"))
    });
    let expected = [
        ("none", "7", "false"),
        ("none", "255", "false"),
        ("SIGKILL", "none", "false"),
        ("SIGSEGV", "none", "false"),
        ("SIG64", "none", "false"),
    ];
    let expected = expected.map(|(signal, code, core)| (signal.to_owned(), code.to_owned(), core.to_owned()));
    assert_eq!(stored.collect::<BTreeSet<_>>(), expected.into());
}
