//! Core dumps: what the kernel says of them, where they are, and how many are kept.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{Around, Victim, events, run_in, state_variable};

fn pattern() -> String {
    std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap()
}

/// The kernel's settings for cores are the machine's, not the test's.
fn assert_cores_are_files_here() {
    let pattern = pattern();
    assert!(
        !pattern.starts_with(['|', '@', '/']),
        "core_pattern is {pattern}: set kernel.core_pattern=core, or leave this test out with --skip core_files"
    );
}

fn unlimited() -> Around {
    Around { core: libc::RLIM_INFINITY, ..Around::default() }
}

#[test]
fn a_core_dump_is_reported_as_the_kernel_says() {
    let outcome = run_in("segv", &unlimited());
    assert_eq!(outcome.without.0 & 0x80, 0x80, "no core was dumped: core_pattern is {}", pattern());
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    assert_eq!(outcome.reports[0]["tags"]["core_dump"], "true");
}

#[test]
fn a_process_that_is_not_dumpable_leaves_none() {
    let outcome = run_in("undumpable", &unlimited());
    assert_eq!(outcome.without.0, libc::SIGSEGV, "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1);
    assert_eq!(outcome.reports[0]["tags"]["core_dump"], "false");
}

/// Crashes once with the library and the flag, soft limit 0 and hard limit infinite. The wait status.
fn crash(dir: &TempDir, sink: &Sink, state: &str, extra: &[(&str, &str)]) -> i32 {
    let dsn = sink.dsn();
    let mut library = vec![("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", state)];
    library.extend_from_slice(extra);
    let lower = || {
        let limit = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: a system call with a local.
        if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) } == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    };
    let around = Around { core: libc::RLIM_INFINITY, ..Around::confined(lower) };
    let mut victim = Victim::start("segv", Some(&library), dir.path(), &around);
    assert_eq!(victim.installed, "installed 0");
    victim.go();
    victim.end().0
}

/// The core files that the library knows of, and those that are there.
fn cores(state: &str, folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let text = std::fs::read_to_string(Path::new(state).join("cores.json")).unwrap();
    let known: Value = serde_json::from_str(&text).unwrap();
    let known = known["cores"].as_array().unwrap().iter();
    let mut there: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("core"))
        .collect();
    there.sort();
    (known.map(|core| PathBuf::from(core["path"].as_str().unwrap())).collect(), there)
}

#[test]
fn core_files_are_made_possible_by_the_flag_and_found() {
    assert_cores_are_files_here();
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (_, state) = state_variable(&dir);
    assert_eq!(crash(&dir, &sink, &state, &[]), libc::SIGSEGV, "without the flag the soft limit holds");
    let status = crash(&dir, &sink, &state, &[("VICTIM_CORE_DUMPS", "1")]);
    assert_eq!(status, libc::SIGSEGV | 0x80);
    let (known, there) = cores(&state, dir.path());
    assert_eq!(known.len(), 1);
    assert_eq!(known, there);
    // Its place stays here.
    assert!(!sink.bodies().iter().any(|body| body.contains("core.") || body.contains(dir.path().to_str().unwrap())));
    let tags: Vec<_> = events(&sink).iter().map(|event| event["tags"]["core_dump"].clone()).collect();
    assert_eq!(tags, ["false", "true"]);

    // The next run's log tells of it, once.
    for expected in [1, 0] {
        let dsn = sink.dsn();
        let library = [
            ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
            ("ONDAT_TELEMETRY_STATE_DIR", state.as_str()),
            ("VICTIM_LOG", "1"),
        ];
        let mut next = Victim::start("exit_0", Some(&library), dir.path(), &Around::default());
        let told = next.log.iter().filter(|line| line.contains("core file of victim (SIGSEGV): ")).count();
        assert_eq!(told, expected, "{:?}", next.log);
        next.go();
        next.end();
    }
}

#[test]
fn core_files_are_kept_in_the_number_that_was_set() {
    assert_cores_are_files_here();
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (_, state) = state_variable(&dir);
    std::fs::write(dir.join("core.notes"), "not a core of ours").unwrap();
    let mut last = Vec::new();
    for _ in 0..3 {
        // A core under one name for all would replace the one before: each has its own folder.
        let folder = dir.join(&format!("run-{}", last.len()));
        std::fs::create_dir(&folder).unwrap();
        let settings = [
            ("VICTIM_CORE_DUMPS", "1"),
            ("ONDAT_TELEMETRY_CORE_FILES", "2"),
            ("VICTIM_FOLDER", folder.to_str().unwrap()),
        ];
        assert_eq!(crash(&dir, &sink, &state, &settings), libc::SIGSEGV | 0x80);
        last.push(cores(&state, &folder).1.remove(0));
    }
    let (known, _) = cores(&state, dir.path());
    assert_eq!(known, last[1..]);
    assert!(!last[0].exists() && last[1].exists() && last[2].exists());
    assert!(dir.join("core.notes").exists());
}
