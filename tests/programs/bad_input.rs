//! One program of wrong input, in every language and linkage that the header promises.

use std::path::Path;
use std::process::Command;

use crate::support::{TempDir, built, compile, root, succeed};

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// What a static link needs besides the archive, as `make install` writes it into ondat_telemetry-static.pc.
fn static_libraries() -> Vec<String> {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let line = makefile.lines().find_map(|line| line.strip_prefix("STATIC_LIBS = ")).unwrap();
    line.split(' ').map(str::to_owned).collect()
}

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

/// With the archive; `how` says whether the C library is in the program too.
fn linked_statically(compiler: &str, language: &[&str], how: &[&str]) {
    let dir = TempDir::new();
    let program = dir.join("program");
    let mut command = Command::new(compiler);
    command.args(language).args(WARNINGS).arg("-I").arg(root().join("include"));
    command.arg(root().join("tests/c/bad_input.c")).arg("-o").arg(&program).args(["-x", "none"]);
    command.args(how).arg(built("libondat_telemetry.a")).args(static_libraries());
    succeed(&mut command);
    let headers = succeed(Command::new("readelf").args(["--program-headers", "--wide"]).arg(&program)).stdout;
    let is_dynamic = String::from_utf8(headers).unwrap().contains("INTERP");
    assert_eq!(is_dynamic, how.is_empty(), "{how:?}: whether it needs a dynamic loader");
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
fn gcc_c99_archive() {
    linked_statically("gcc", &C99, &[]);
}

#[test]
fn clang_cpp17_archive() {
    linked_statically("clang++", &CPP17, &[]);
}

#[test]
fn gcc_c99_static() {
    linked_statically("gcc", &C99, &["-static"]);
}

#[test]
fn gcc_c99_static_pie() {
    linked_statically("gcc", &C99, &["-static-pie"]);
}

#[test]
fn clang_cpp17_static() {
    linked_statically("clang++", &CPP17, &["-static"]);
}

#[test]
fn the_makefile_names_what_rustc_says_without_its_unwinder() {
    let dir = TempDir::new();
    let source = dir.join("empty.rs");
    std::fs::write(&source, "").unwrap();
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--crate-type", "staticlib", "--print", "native-static-libs", "--out-dir"])
        .arg(dir.path())
        .arg(&source);
    let said = String::from_utf8(succeed(&mut rustc).stderr).unwrap();
    let (_, said) = said.split_once("native-static-libs: ").unwrap();
    let said: Vec<_> = said.lines().next().unwrap().split_whitespace().filter(|word| *word != "-lgcc_s").collect();
    assert_eq!(static_libraries(), said);
}
