//! Whatever openers do to each other and in whatever order bodies come, the bytes are those of one that does all at once.

use std::fs;
use std::process::Command;

use crate::stage::{Fleet, PROGRAM, assert_same, left_by_openers, opening, run, said};
use crate::tables::rows;

#[test]
fn bodies_may_come_in_any_order() {
    let fleet = Fleet::new(25, 20, 5);
    let data = fleet.data();
    run(&mut fleet.open(&data));
    let expected = left_by_openers(&data);
    let mut places = fleet.places();
    places.sort_unstable();
    let by_id = |place: &&str| place.rsplit('/').next().unwrap().chars().rev().collect::<String>();
    for (name, order) in [("forward", 0), ("backward", 1), ("mixed", 2)] {
        match order {
            0 => {}
            1 => places.reverse(),
            _ => places.sort_by_key(by_id),
        }
        for some in places.chunks(places.len().div_ceil(4)) {
            let data = fleet.receive(name, some.iter().copied());
            run(&mut fleet.open(&data));
        }
        assert_same(&left_by_openers(&fleet.scratch.0.join(name)), &expected);
    }
}

#[test]
fn two_at_once_write_what_one_writes() {
    let fleet = Fleet::new(25, 12, 6);
    let data = fleet.data();
    run(&mut fleet.open(&data));
    let expected = left_by_openers(&data);
    for name in ["first", "second", "third"] {
        let places = fleet.places();
        let (some, rest) = places.split_at(places.len() / 2);
        let data = fleet.receive(name, some.iter().copied());
        let mut openers: Vec<_> = (0..2).map(|_| fleet.open(&data).spawn().unwrap()).collect();
        // The second half comes while they run.
        fleet.receive(name, rest.iter().copied());
        openers.push(fleet.open(&data).spawn().unwrap());
        assert!(openers.iter_mut().all(|opener| opener.wait().unwrap().success()));
        assert_same(&left_by_openers(&data), &expected);
    }
}

#[test]
fn keys_may_come_in_any_order() {
    let fleet = Fleet::new(10, 12, 7);
    let data = fleet.data();
    run(&mut fleet.open(&data));
    let expected = left_by_openers(&data);
    for (name, orders) in [("one-two", [1, 2]), ("two-one", [2, 1])] {
        let data = fleet.receive(name, fleet.places());
        for key in orders {
            run(&mut opening(&data, &[fleet.key(key)]));
        }
        assert_same(&left_by_openers(&data), &expected);
    }
    // A key that was destroyed: what it opened stays, and so does what waits for it.
    run(&mut opening(&data, &[fleet.key(2)]));
    assert_same(&left_by_openers(&data), &expected);
}

#[test]
fn what_has_expired_stays_in_the_tables() {
    let fleet = Fleet::new(20, 12, 8);
    let data = fleet.data();
    run(&mut fleet.open(&data));
    let expected = left_by_openers(&data);
    let mut places = fleet.places();
    places.sort_unstable();
    // By the time that the last bodies come, the first have gone.
    let (first, last) = places.split_at(places.len() / 2);
    let data = fleet.receive("expired", first.iter().copied());
    run(&mut fleet.open(&data));
    fs::remove_dir_all(data.join("sealed/v1")).unwrap();
    fleet.receive("expired", last.iter().copied());
    run(&mut fleet.open(&data));
    let ids = |data| {
        let mut ids: Vec<String> = rows(data, "lake/reports").iter().map(|row| row["report_id"].to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&data), ids(&fleet.data()));
    let lake = |name: &&String| name.starts_with("lake/nodes");
    assert!(left_by_openers(&data).keys().filter(lake).eq(expected.keys().filter(lake)));
}

#[test]
fn shards_divide_a_day() {
    let fleet = Fleet::new(30, 4, 9);
    let data = fleet.data();
    run(fleet.open(&data).args(["--shards", "4"]));
    let whole = fleet.receive("whole", fleet.places());
    run(&mut fleet.open(&whole));
    let parts = left_by_openers(&data).keys().filter(|name| name.contains("-of-04.parquet")).count();
    assert!(parts > 3 * 4 * 3, "{parts}");
    for table in ["lake/reports", "lake/nodes", "lake/volumes", "lake/api_calls"] {
        assert_eq!(rows(&data, table), rows(&whole, table), "{table}");
    }
    // Days that have parts keep their number.
    let again = said(&run(&mut fleet.open(&data)));
    assert!(again.contains(" 0 parts written"), "{again}");
}

#[test]
fn a_wrong_command_line_is_one_line() {
    let fleet = Fleet::new(1, 1, 1);
    let missing = fleet.scratch.0.join("missing");
    for (arguments, status, word) in [
        (vec!["open", "--data", "x"], 2, "--key"),
        (vec!["open", "--data", missing.to_str().unwrap(), "--key", fleet.key(1).to_str().unwrap()], 8, "--data"),
        (vec!["open", "--key", missing.to_str().unwrap()], 2, "read the private key"),
        (vec!["gen", fleet.scratch.0.to_str().unwrap()], 2, "it is not empty"),
    ] {
        let output = Command::new(PROGRAM).args(&arguments).current_dir(&fleet.scratch.0).output().unwrap();
        let said = said(&output);
        assert_eq!((output.status.code(), said.lines().count()), (Some(status), 1), "{arguments:?}: {said}");
        assert!(said.contains(word), "{said}");
    }
}
