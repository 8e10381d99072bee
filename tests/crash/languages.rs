//! Deaths in C++ and Rust.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{TempDir, built, root, succeed};
use crate::victim::{Around, FLAGS, killed_in, sources};

const SENT: Option<&str> = Some("sent by a process");

#[test]
fn cpp() {
    let dir = TempDir::new();
    let object = dir.join("deaths.so");
    let source = root().join("tests/crash/beside/deaths.cpp");
    let flags = ["-std=c++11", "-Wall", "-Wextra", "-Wno-terminate", "-Werror", "-shared", "-fPIC", "-O0", "-o"];
    succeed(Command::new("g++").args(flags).arg(&object).arg(source));
    for death in ["terminate", "terminate_by_exception", "leave_noexcept", "call_pure_virtual"] {
        let environment = vec![
            ("PLUGIN".to_owned(), object.to_str().unwrap().to_owned()),
            ("PLUGIN_RUN".to_owned(), death.to_owned()),
        ];
        killed_in("plugin", &Around { environment, ..Around::default() }, libc::SIGABRT, "SIGABRT", SENT);
    }
}

/// A Rust program that contains the victim.
fn rust_program(dir: &Path, panic: &str) -> PathBuf {
    let sources = sources().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let sources = sources.filter(|path| path.extension().is_some_and(|extension| extension == "c"));
    let mut compile = Command::new("gcc");
    compile.args(FLAGS).args(["-Dmain=victim_main", "-c", "-I"]).arg(root().join("include")).args(sources);
    succeed(compile.current_dir(dir));
    let objects = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let objects = objects.filter(|path| path.extension().is_some_and(|extension| extension == "o"));
    succeed(Command::new("ar").arg("rcs").arg(dir.join("libvictim.a")).args(objects));

    let library = built("libondat_telemetry.so").parent().unwrap().to_owned();
    let program = dir.join("deaths");
    let mut compile = Command::new("rustc");
    compile.args(["--edition=2024", "-C"]).arg(format!("panic={panic}")).arg("-L").arg(dir).arg("-L").arg(&library);
    compile.args(["-l", "static=victim", "-l", "dylib=ondat_telemetry", "-C"]);
    compile.arg(format!("link-arg=-Wl,-rpath,{}", library.display())).arg("-o").arg(&program);
    succeed(compile.arg(root().join("tests/crash/beside/deaths.rs")));
    program
}

#[test]
fn rust() {
    let dir = TempDir::new();
    let around = Around { program: Some(rust_program(dir.path(), "abort")), ..Around::default() };
    killed_in("panic", &around, libc::SIGABRT, "SIGABRT", SENT);
    // Rust's own handler aborts, on the main thread and on its threads, which have alternate stacks.
    // They have 8 KiB, on which a second signal's frame may not fit: with AVX-512 two of them take 7.
    // SAFETY: a query without memory.
    let frame = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) };
    let class = if 2 * frame + 4608 <= 8192 { SENT } else { None };
    killed_in("overflow", &around, libc::SIGABRT, "SIGABRT", class);
    killed_in("overflow_thread", &around, libc::SIGABRT, "SIGABRT", class);
    killed_in("segv_thread", &around, libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn rust_that_unwinds_into_c() {
    let dir = TempDir::new();
    let around = Around { program: Some(rust_program(dir.path(), "unwind")), ..Around::default() };
    killed_in("panic", &around, libc::SIGABRT, "SIGABRT", SENT);
}
