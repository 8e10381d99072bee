//! What was deleted is gone from every table and does not come back.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Map, Value};

use crate::stage::{Fleet, PROGRAM, assert_same, left_by_openers, run, said};
use crate::tables::rows;

const TABLES: [&str; 7] =
    ["lake/reports", "lake/nodes", "lake/volumes", "lake/api_calls", "lake/crashes", "lake/checks", "late"];

fn holds(row: &Map<String, Value>, ids: &BTreeSet<String>) -> bool {
    row.values().filter_map(Value::as_str).any(|text| ids.iter().any(|id| text.contains(id)))
}

#[test]
fn what_was_deleted_is_gone_and_stays_gone() {
    let fleet = Fleet::new(40, 12, 31);
    let data = fleet.data();
    run(&mut fleet.open(&data));
    let before = TABLES.map(|table| rows(&data, table));
    // The cluster with a crash that reported first, every seventh report of all, and what was late.
    let cluster = before[4][0]["cluster_id"].as_str().unwrap().to_owned();
    let mut ids: BTreeSet<String> =
        fleet.ledger.iter().step_by(7).map(|line| line["report_id"].as_str().unwrap().to_owned()).collect();
    let late = fleet.ledger.iter().find(|line| line["fate"] == "late").unwrap();
    ids.insert(late["report_id"].as_str().unwrap().to_owned());
    let list: String = ids.iter().map(|id| format!("report {id}\n")).chain([format!("cluster {cluster}\n")]).collect();
    ids.insert(cluster);
    let path = fleet.scratch.0.join("list");
    fs::write(&path, list).unwrap();
    let delete = || run(Command::new(PROGRAM).args(["delete", "--data"]).arg(&data).arg(&path));
    let output = said(&delete());
    let gone = before[0].iter().filter(|row| holds(row, &ids)).count();
    assert!(gone > 20 && output.starts_with(&format!("{gone} reports and ")), "{gone}: {output}");
    let check = || {
        for (table, before) in TABLES.iter().zip(&before) {
            let expected: Vec<_> = before.iter().filter(|row| !holds(row, &ids)).cloned().collect();
            assert!(expected.len() < before.len(), "{table} has nothing to delete");
            assert_eq!(rows(&data, table), expected, "{table}");
        }
    };
    check();
    // What is still sealed, and what comes late, stays unopened.
    run(&mut fleet.open(&data));
    check();
    assert!(said(&delete()).starts_with("0 reports and 0 other rows deleted"));
    // From nothing, with the tombstones there, it is the same.
    let left = left_by_openers(&data);
    fs::remove_dir_all(data.join("lake")).unwrap();
    fs::remove_dir_all(data.join("late")).unwrap();
    run(&mut fleet.open(&data));
    assert_same(&left_by_openers(&data), &left);
}

/// At no time is there a report without its rows, and the next opener ends what was begun.
#[test]
fn a_deletion_may_be_killed_at_every_rename() {
    let fleet = Fleet::new(6, 3, 32);
    let id = fleet.of_fate("counted").iter().next().unwrap().rsplit('/').next().unwrap()[..32].to_owned();
    let path = fleet.scratch.0.join("list");
    fs::write(&path, format!("report {id}\n")).unwrap();
    let opened = |name: &str| {
        let data = fleet.receive(name, fleet.places());
        run(&mut fleet.open(&data));
        data
    };
    let expected = opened("expected");
    run(Command::new(PROGRAM).args(["delete", "--data"]).arg(&expected).arg(&path));
    let expected = left_by_openers(&expected);
    let mut killed = 0;
    for at in 1..=4 {
        let data = opened(&format!("killed-{at}"));
        let inject = format!("inject=rename:signal=KILL:when={at}");
        let mut delete = Command::new("strace");
        delete.args(["-f", "-o", "/dev/null", "-e", &inject, PROGRAM, "delete", "--data"]).arg(&data).arg(&path);
        killed += usize::from(!delete.output().unwrap().status.success());
        for report in rows(&data, "lake/reports") {
            let nodes = rows(&data, "lake/nodes").into_iter().filter(|node| node["report_id"] == report["report_id"]);
            assert_eq!(Some(nodes.count() as u64), report["n_nodes"].as_u64());
        }
        run(&mut fleet.open(&data));
        assert_same(&left_by_openers(&data), &expected);
    }
    assert_eq!(killed, 4);
}

#[test]
fn a_list_that_is_none_is_one_line() {
    let fleet = Fleet::new(1, 1, 1);
    let path = fleet.scratch.0.join("list");
    fs::write(&path, format!("report {}\nreport x\n", "a".repeat(32))).unwrap();
    let output = Command::new(PROGRAM).args(["delete", "--data"]).arg(fleet.data()).arg(&path).output().unwrap();
    assert_eq!((output.status.code(), said(&output).lines().count()), (Some(2), 1), "{}", said(&output));
    assert!(said(&output).contains("line 2: expected `report` or `cluster`"), "{}", said(&output));
    assert!(!fleet.data().join("tombstones").exists());
}
