//! Locks that are held when the fault comes, and the library's own code interrupted by one.

use crate::support::{TempDir, root, succeed};
use crate::victim::{Around, killed, killed_in, run_in};

/// The victim faults while it holds a lock, which it has proved by another thread that did not get it.
fn killed_holding(scenario: &str, around: &Around, class: &str) {
    killed_in(scenario, around, libc::SIGSEGV, "SIGSEGV", Some(class));
    assert_eq!(run_in(scenario, around).with.1, "held");
}

#[test]
fn the_arena_of_malloc() {
    killed_holding("arena", &Around::default(), "access not permitted");
}

#[test]
fn the_loader_in_a_constructor() {
    let dir = TempDir::new();
    let object = dir.join("constructor.so");
    let source = root().join("tests/crash/beside/constructor.c");
    succeed(std::process::Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&object).arg(source));
    let environment = vec![("CONSTRUCTOR".to_owned(), object.to_str().unwrap().to_owned())];
    killed_holding("loader", &Around { environment, ..Around::default() }, "address not mapped");
}

#[test]
fn the_list_of_loaded_objects() {
    killed_holding("objects", &Around::default(), "address not mapped");
}

#[test]
fn standard_output() {
    killed_holding("stdio", &Around::default(), "address not mapped");
}

#[test]
fn the_time_zone() {
    killed_holding("time_zone", &Around::default(), "address not mapped");
}

#[test]
fn a_callback_of_the_library() {
    killed("in_callback", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn the_library_itself() {
    killed("in_library", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}
