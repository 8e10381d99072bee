//! Hosts that have nothing left of something: descriptors, processes, address space, disk.

use std::path::Path;

use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::mounts::Mounts;
use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{
    Around, Victim, assert_event, core_before_death, end_with, end_without, events, files_below, run_in,
    sent_by_next_run, state_variable,
};

fn assert_one_segv(reports: &[Value], core_dump: &str) {
    assert_eq!(reports.len(), 1, "{reports:?}");
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&reports[0], "SIGSEGV", value, "address not mapped", core_dump);
}

/// The victim says with which error it came to its limit, crashes, and is reported.
fn reported_at_the_limit(scenario: &str, around: &Around, errno: i32) {
    let outcome = run_in(scenario, around);
    assert_eq!(outcome.without, (libc::SIGSEGV, format!("errno {errno}")), "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_one_segv(&outcome.reports, "false");
}

#[test]
fn no_descriptor_at_the_crash() {
    reported_at_the_limit("many_files", &Around::default(), libc::EMFILE);
}

#[test]
fn no_process_at_the_crash() {
    reported_at_the_limit("no_process", &Around::default(), libc::EAGAIN);
}

#[test]
fn no_address_space_at_the_crash() {
    reported_at_the_limit("no_address_space", &Around::default(), libc::ENOMEM);
}

/// A cgroup of a few processes. Each victim has its own: its last ones leave after it.
fn small_cgroup() -> Cgroup {
    let group = Cgroup::with("pids.max");
    group.write("pids.max", "8");
    group
}

#[test]
fn no_process_in_the_cgroup_at_the_crash() {
    let sink = Sink::start(200);
    let dsn = sink.dsn();
    let without = end_without("full_cgroup", &small_cgroup().around());
    assert_eq!(without, (libc::SIGSEGV, format!("errno {}", libc::EAGAIN)), "the scenario did not happen");
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    assert_eq!(end_with("full_cgroup", &library, &small_cgroup().around()), ("installed 0".to_owned(), without));
    assert_one_segv(&events(&sink), "false");
}

#[test]
fn no_process_in_the_cgroup_at_the_start() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let (installed, end) = end_with("no_process_at_start", &library, &small_cgroup().around());
    assert!(installed.starts_with("installed 12 cannot start "), "{installed}");
    assert!(installed.contains("Resource temporarily unavailable"), "{installed}");
    assert_eq!(end, end_without("no_process_at_start", &small_cgroup().around()));
    assert_eq!(sink.bodies(), Vec::<String>::new());
    assert_one_segv(&sent_by_next_run(&state), core_before_death());
}

#[test]
fn few_descriptors_at_the_start() {
    let mut seen = Vec::new();
    for free in 0..12 {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let (name, state) = state_variable(&dir);
        let dsn = sink.dsn();
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
        let around =
            Around { environment: vec![("VICTIM_FREE_FILES".to_owned(), free.to_string())], ..Around::default() };
        let without = end_without("few_files", &around);
        assert_eq!(without.0, libc::SIGSEGV);
        let (installed, end) = end_with("few_files", &library, &around);
        assert_eq!(end, without, "{free}: {installed}");
        match installed.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["installed", "0"] => assert_one_segv(&events(&sink), "false"),
            ["installed", "12"] => {
                assert!(installed.contains("Too many open files"), "{free}: {installed}");
                assert_one_segv(&sent_by_next_run(&state), core_before_death());
            }
            // Nobody could read the administrator's word yet, which may be off.
            ["installed", "5"] => {
                assert!(installed.contains("Too many open files"), "{free}: {installed}");
                assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
                assert_eq!(sink.bodies(), Vec::<String>::new());
            }
            // Neither a monitor nor a run marker.
            ["installed", "11"] => {
                assert!(installed.contains("Too many open files"), "{free}: {installed}");
                assert_eq!(sink.bodies(), Vec::<String>::new());
                assert_eq!(sent_by_next_run(&state), Vec::<Value>::new());
            }
            _ => panic!("{free}: {installed}"),
        }
        seen.push(installed.split(' ').take(2).collect::<Vec<_>>().join(" "));
    }
    seen.dedup();
    assert_eq!(seen, ["installed 5", "installed 11", "installed 12", "installed 0"]);
}

/// A state directory that is a file system of a few pages.
fn small_disk(state: &str) -> Around {
    let mut around = Mounts::default().tmpfs(state, 0, "size=64k,mode=700").around();
    around.environment = vec![("VICTIM_FOLDER".to_owned(), state.to_owned())];
    around
}

#[test]
fn no_disk_at_the_crash() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let around = small_disk(&state);
    let without = end_without("full_disk", &around);
    assert_eq!(without, (libc::SIGSEGV, format!("errno {}", libc::ENOSPC)), "the scenario did not happen");
    assert_eq!(end_with("full_disk", &library, &around), ("installed 0".to_owned(), without));
    // Straight from memory.
    assert_one_segv(&events(&sink), "false");
}

#[test]
fn no_disk_at_the_start_is_no_reason_not_to_report() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let around = small_disk(&state);
    let (said, end) = end_with("full_disk_at_start", &library, &around);
    assert_eq!(said, "installed 0");
    assert_eq!(end, end_without("full_disk_at_start", &around));
    assert_eq!(events(&sink).len(), 1);
}

#[test]
fn a_state_directory_that_cannot_be_used_takes_no_report_along() {
    let give_away = |path: &Path| std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    let make = |path: &Path, mode: u32| {
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), mode).create(path).unwrap();
    };
    let refused = "is a symlink or not a directory";
    for (what, scenario, why) in [
        ("absent", "segv", None),
        ("file", "segv", Some(refused)),
        ("symlink", "segv", Some(refused)),
        ("foreign", "segv", None),
        ("open", "segv", None),
        ("closed", "nobody_from_the_start", None),
        ("read-only", "segv", None),
    ] {
        let sink = Sink::start(200);
        let dsn = sink.dsn();
        let dir = TempDir::new();
        let state = dir.join("state");
        let mut around = Around::default();
        match what {
            "file" => std::fs::write(&state, "").unwrap(),
            "symlink" => {
                make(&dir.join("real"), 0o700);
                std::os::unix::fs::symlink(dir.join("real"), &state).unwrap();
            }
            "foreign" => {
                make(&state, 0o700);
                give_away(&state);
            }
            "open" => {
                make(&state, 0o700);
                std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
            }
            "closed" => {
                make(&state, 0o500);
                give_away(&state);
                give_away(dir.path());
            }
            "read-only" => {
                make(&state, 0o700);
                around = Mounts::default().folder(state.to_str().unwrap(), libc::MS_RDONLY).around();
            }
            _ => {}
        }
        let library =
            [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", state.to_str().unwrap())];
        let (said, end) = end_with(scenario, &library, &around);
        match why {
            Some(why) => assert!(said.starts_with("init 11 ") && said.contains(why), "{what}: {said}"),
            None => assert_eq!(said, "installed 0", "{what}"),
        }
        assert_eq!(end, end_without(scenario, &around), "{what}");
        assert_eq!(sink.bodies().len(), usize::from(why.is_none()), "{what}");
    }
}

#[test]
fn a_state_directory_that_is_lost_later_takes_no_report_along() {
    type Lose = fn(&Path);
    let losses: [(&str, Lose); 4] = [
        ("removed", |state| std::fs::remove_dir_all(state).unwrap()),
        ("foreign", |state| std::os::unix::fs::chown(state, Some(65534), Some(65534)).unwrap()),
        ("open", |state| {
            std::fs::set_permissions(state, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }),
        ("symlink", |state| {
            let real = state.with_file_name("real");
            std::fs::rename(state, &real).unwrap();
            std::os::unix::fs::symlink(real, state).unwrap();
        }),
    ];
    for (what, lose) in losses {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let (name, state) = state_variable(&dir);
        let dsn = sink.dsn();
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
        assert_eq!(victim.installed, "installed 0", "{what}");
        lose(Path::new(&state));
        victim.go();
        assert_eq!(victim.end().0, libc::SIGSEGV, "{what}");
        assert_one_segv(&events(&sink), "false");
    }
}
