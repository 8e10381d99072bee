//! The calls under valgrind's memcheck: no call reads or writes what is not its own, and after `close` nothing is lost.

use std::os::unix::fs::DirBuilderExt;
use std::process::Command;

use crate::support::{TempDir, compile, root, succeed};

/// A status that no program here has.
const FOUND: &str = "--error-exitcode=99";

/// The program of this name, under valgrind. What a forked child says of itself is not of interest: it has the client's memory,
/// and none of the threads that refer to it.
fn checked(dir: &TempDir, name: &str, leaks: &[&str]) -> Command {
    let program = compile("gcc", &root().join(format!("tests/c/{name}.c")), &dir.join(name), &["-std=gnu99", "-g"]);
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--child-silent-after-fork=yes", FOUND]).args(leaks).arg(program).env_clear();
    command
}

/// Loses what it allocates.
const LEAK: &str = "#include <stdlib.h>\nint main(void) { return malloc(7) == malloc(8); }\n";

#[test]
fn what_is_lost_is_found() {
    let dir = TempDir::new();
    let source = dir.join("leak.c");
    std::fs::write(&source, LEAK).unwrap();
    let program = compile("gcc", &source, &dir.join("leak"), &["-O0"]);
    let leaks = ["--quiet", FOUND, "--leak-check=full", "--errors-for-leak-kinds=definite"];
    let status = Command::new("valgrind").args(leaks).arg(program).output().unwrap().status;
    assert_eq!(status.code(), Some(99));
}

#[test]
fn wrong_input_reads_and_writes_nothing_that_is_not_its_own() {
    let dir = TempDir::new();
    let output = succeed(checked(&dir, "bad_input", &["--leak-check=no"]).arg(dir.path()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 failures\n");
}

#[test]
fn a_client_that_was_closed_has_lost_nothing() {
    let dir = TempDir::new();
    let state = dir.join("state");
    std::fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    let leaks = ["--leak-check=full", "--errors-for-leak-kinds=definite"];
    let mut command = checked(&dir, "descriptors", &leaks);
    command.args(["5", "report"]);
    command.env("ONDAT_TELEMETRY_STATE_DIR", &state).env("ONDAT_TELEMETRY_SENTRY_DSN", "https://key@127.0.0.1:9/1");
    let output = succeed(&mut command);
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("closed 0 0\n"), "{output:?}");
}
