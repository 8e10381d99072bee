//! Nothing of the library waits for a server that does not answer, once it is told not to.

use std::process::Command;

use crate::support::{DEADLINE, TempDir, compile, root, succeed};

#[test]
fn turning_off_and_closing_interrupt_a_request() {
    let dir = TempDir::new();
    let flags = ["-std=gnu99", "-Wall", "-Wextra", "-Werror"];
    let program = compile("gcc", &root().join("tests/c/interrupt.c"), &dir.join("interrupt"), &flags);
    // timeout(1) ends with 124 where the library waited for its server.
    let mut command = Command::new("timeout");
    command.arg(DEADLINE.as_secs().to_string()).arg(program).env_clear().env("PATH", "/usr/bin:/bin");
    let output = String::from_utf8(succeed(&mut command).stdout).unwrap();
    assert_eq!(output, "request 1\ninterrupted 1\noff 5\nstored while off 0\non 0\nrequest 1\nclosed\n");
}
