//! One program of wrong input, in every language and linkage that the header promises.

use std::path::Path;
use std::process::Command;

use crate::support::{TempDir, built, compile, root, succeed};

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];
/// What a static link needs besides the archive; the Makefile puts the same into ondat_telemetry-static.pc.
const STATIC_LIBRARIES: &str = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc";

fn run(program: &Path, dir: &TempDir) {
    let output = succeed(Command::new(program).arg(dir.path()).env_clear());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 failures\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "the library wrote to stderr");
}

fn shared(compiler: &str, language: &[&str]) {
    let dir = TempDir::new();
    let flags: Vec<&str> = language.iter().chain(&WARNINGS).copied().collect();
    run(&compile(compiler, &root().join("tests/c/bad_input.c"), &dir.join("program"), &flags), &dir);
}

fn linked_statically(compiler: &str, language: &[&str]) {
    let dir = TempDir::new();
    let program = dir.join("program");
    let mut command = Command::new(compiler);
    command.args(language).args(WARNINGS).arg("-I").arg(root().join("include"));
    command.arg(root().join("tests/c/bad_input.c")).arg("-o").arg(&program).args(["-x", "none"]);
    command.arg(built("libondat_telemetry.a")).args(STATIC_LIBRARIES.split(' '));
    succeed(&mut command);
    run(&program, &dir);
}

const C99: [&str; 4] = ["-std=c99", "-D_GNU_SOURCE", "-x", "c"];
const CPP17: [&str; 4] = ["-std=c++17", "-D_GNU_SOURCE", "-x", "c++"];

#[test]
fn gcc_c99_shared() {
    shared("gcc", &C99);
}

#[test]
fn gcc_cpp17_shared() {
    shared("g++", &CPP17);
}

#[test]
fn clang_c99_shared() {
    shared("clang", &C99);
}

#[test]
fn clang_cpp17_shared() {
    shared("clang++", &CPP17);
}

#[test]
fn gcc_c99_static() {
    linked_statically("gcc", &C99);
}

#[test]
fn clang_cpp17_static() {
    linked_statically("clang++", &CPP17);
}

#[test]
fn the_makefile_names_the_same_static_libraries() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    assert!(makefile.contains(&format!("STATIC_LIBS = {STATIC_LIBRARIES}\n")));
}
