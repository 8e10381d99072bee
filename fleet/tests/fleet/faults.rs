//! An opener that is killed, or whose disk is full, at every write: what is there can be read at any time, and the next
//! opener makes of it what one makes that was left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::stage::{Fleet, assert_same, left_by_openers, run};
use crate::tables::rows;

/// The calls by which an opener changes what is on the disk.
const CALLS: [&str; 7] = ["write", "pwrite64", "fsync", "rename", "unlink", "unlinkat", "mkdir"];

/// How often an opener makes this call.
fn count(fleet: &Fleet, data: &Path, call: &str) -> usize {
    let log = fleet.scratch.0.join("calls");
    run(&mut traced(fleet, data, &["-o", log.to_str().unwrap(), "-e", &format!("trace={call}")]));
    let log = fs::read_to_string(log).unwrap();
    log.lines().filter(|line| line.contains(&format!("{call}("))).count()
}

fn traced(fleet: &Fleet, data: &Path, arguments: &[&str]) -> Command {
    let opener = fleet.open(data);
    let mut command = Command::new("strace");
    command.arg("-f").args(arguments).arg(opener.get_program()).args(opener.get_args());
    command
}

/// What a reader sees at any time: a report has all of its rows.
fn assert_whole(data: &Path) {
    let mut counts: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (at, table) in ["lake/nodes", "lake/volumes"].iter().enumerate() {
        for row in rows(data, table) {
            counts.entry(row["report_id"].to_string()).or_default()[at] += 1;
        }
    }
    for row in rows(data, "lake/reports") {
        let found = counts.get(&row["report_id"].to_string()).copied().unwrap_or_default();
        assert_eq!(found.map(Some), [row["n_nodes"].as_u64(), row["n_volumes"].as_u64()]);
    }
}

/// Interrupts an opener at its calls, one after the other, over a folder in which another has opened half of the bodies.
fn interrupted(what: &str, seed: u32) {
    let fleet = Fleet::new(4, 2, seed);
    let places = fleet.places();
    let (some, rest) = places.split_at(places.len() / 2);
    let half = |name: &str| {
        let data = fleet.receive(name, some.iter().copied());
        run(&mut fleet.open(&data));
        fleet.receive(name, rest.iter().copied())
    };
    let expected = half("expected");
    run(&mut fleet.open(&expected));
    let expected = left_by_openers(&expected);
    let mut interrupted = 0;
    for call in CALLS {
        let calls = count(&fleet, &half(&format!("count-{call}")), call);
        for at in 1..=calls {
            let name = format!("{call}-{at}");
            let data = half(&name);
            let inject = format!("inject={call}:{what}:when={at}");
            let output = traced(&fleet, &data, &["-o", "/dev/null", "-e", &inject]).output().unwrap();
            interrupted += usize::from(!output.status.success());
            assert_whole(&data);
            run(&mut fleet.open(&data));
            assert_same(&left_by_openers(&data), &expected);
            fs::remove_dir_all(&data).unwrap();
        }
    }
    assert!(interrupted > 50, "{interrupted}");
}

#[test]
fn an_opener_may_be_killed_at_every_write() {
    interrupted("signal=KILL", 11);
}

#[test]
fn the_disk_may_be_full_at_every_write() {
    interrupted("error=ENOSPC", 12);
}
