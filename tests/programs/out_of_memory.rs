//! What is sized by what a host gives ends no process where there is no memory for it.

use std::process::Command;

use crate::support::{TempDir, compile, root, succeed};

#[test]
fn without_memory_for_a_report_a_call_comes_back_with_a_status() {
    let dir = TempDir::new();
    let flags = ["-std=gnu99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
    let program = compile("gcc", &root().join("tests/c/out_of_memory.c"), &dir.join("program"), &flags);
    let output = succeed(Command::new(program).env_clear());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 failures\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "the library wrote to stderr");
}
