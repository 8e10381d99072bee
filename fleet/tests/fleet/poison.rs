//! Bodies that nobody should send: each is set aside with the reason, and the rest goes on.

use std::fs;
use std::path::Path;

use ondat_telemetry_protocol::fields::Level;
use serde_json::json;

use crate::sealing::{DATE, Key, end, group, head, name, store};
use crate::stage::{Scratch, opening, run, said};
use crate::tables::rows;

fn reason(data: &Path, name: &str) -> Option<serde_json::Value> {
    let text = fs::read(data.join("aside").join(DATE).join(format!("12-{name}.json"))).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

#[test]
fn each_is_set_aside_with_its_reason() {
    let scratch = Scratch::new("poison");
    let (key, lost) = (Key::new(&scratch, "key"), Key::new(&scratch, "lost"));
    let data = scratch.0.join("data");
    let good = |id| head(id, "") + &end(0, 0);
    let whole = key.seal_text(2, &good(2));
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    let bomb = key.seal([9; 16], |out| (0..1100).for_each(|_| out.write_all(&vec![b' '; 1 << 20]).unwrap()));
    let zeros = key.seal([10; 16], |out| (0..60).for_each(|_| out.write_all(&vec![b'\n'; 1 << 20]).unwrap()));
    let objects = format!(",\"api_call_metrics\":{{{}}}", vec!["\"a\":{}"; 1 << 20].join(","));
    let cases: Vec<(u8, Vec<u8>, &str)> = vec![
        (1, whole[..whole.len() - 1].to_vec(), "its name is not the report id"),
        (2, flipped, "it was changed after it was sealed"),
        (3, key.seal_text(3, &good(3))[..90].to_vec(), "it is cut off"),
        (4, Vec::new(), "shorter than a sealed report's header"),
        (5, key.seal_text(5, &good(5).replace("report/1", "report/2")), "schema is \"ondat-report/2\""),
        (6, lost.seal_text(6, &good(6)), "which was not given"),
        (
            7,
            key.seal_text(7, &(head(7, "") + &group(Level::Node, 1, &[("node_id", "\"worker-1\"")]) + &end(1, 0))),
            "node_id",
        ),
        (8, key.seal_text(8, &(head(8, "") + &end(3, 0))), "it says 3 nodes"),
        (9, bomb, "it does not end within"),
        (10, zeros, "line 1: EOF"),
        (11, key.seal_text(11, &(head(11, &objects) + &end(0, 0))), "it holds more values than"),
        (12, key.seal_text(12, &good(13)), "report_id is"),
    ];
    for (id, sealed, _) in &cases {
        store(&data, &name(*id), sealed);
    }
    // Right, if strange: no ids, and the largest numbers.
    let most = u64::MAX.to_string();
    let nodes = group(Level::Node, 3, &[("node_total_bytes", &most)]);
    let volumes = group(Level::Volume, 2, &[("volume_size_bytes", &most), ("volume_metrics", "{\"x\":1e308}")]);
    let calls = format!(",\"api_call_metrics\":{{\"List\":{{\"200\":{most}}}}}");
    store(&data, &name(50), &key.seal_text(50, &(head(50, &calls) + &nodes + &volumes + &end(3, 2))));
    // Files of others.
    for other in ["x", "0123456789abcdef", &name(0xaa).to_uppercase(), &format!("{}~", name(51))] {
        store(&data, other, b"x");
    }

    let output = run(&mut opening(&data, std::slice::from_ref(&key.file)));
    let said_lines = said(&output);
    for (id, _, why) in &cases {
        let entry = reason(&data, &name(*id)).unwrap_or_else(|| panic!("{id} is not set aside"));
        assert!(entry["reason"].as_str().unwrap().contains(why), "{id}: {entry}");
        assert_eq!(entry["opener"], env!("CARGO_PKG_VERSION"));
        assert_eq!(said_lines.lines().filter(|line| line.contains(&name(*id)) && line.contains(why)).count(), 1);
    }
    let reports = rows(&data, "lake/reports");
    assert_eq!(reports.len(), 1);
    let report = &reports[0];
    for (column, expected) in [
        ("report_id", json!(name(50))),
        ("n_nodes", json!(3)),
        ("n_volumes", json!(2)),
        ("sum_total", json!(u64::MAX)),
        ("sum_volume_bytes", json!(u64::MAX)),
        ("sum_free", json!(null)),
        ("cluster_key", json!(null)),
        ("version_max", json!(null)),
    ] {
        assert_eq!(report[column], expected, "{column}");
    }
    assert_eq!(rows(&data, "lake/api_calls")[0]["calls"], json!(u64::MAX));
    assert_eq!(rows(&data, "lake/volumes")[1]["volume_metrics"], json!({"x": 1e308}));

    // Said once; and what a key was missing for is opened when it comes.
    let again = said(&run(&mut opening(&data, std::slice::from_ref(&key.file))));
    assert_eq!(again.lines().count(), 1, "{again}");
    run(&mut opening(&data, &[key.file.clone(), lost.file.clone()]));
    assert!(reason(&data, &name(6)).is_none());
    assert_eq!(rows(&data, "lake/reports").len(), 2);
}

#[test]
fn a_newer_opener_tries_again_and_an_older_one_does_not() {
    let scratch = Scratch::new("newer");
    let key = Key::new(&scratch, "key");
    let data = scratch.0.join("data");
    for id in [1, 2] {
        store(&data, &name(id), &key.seal_text(id, &(head(id, "") + &end(0, 0))));
    }
    let folder = data.join("aside").join(DATE);
    fs::create_dir_all(&folder).unwrap();
    for (id, opener) in [(1, "0.0.9"), (2, "99.0.0")] {
        let entry = json!({"reason": "the schema is not known", "opener": opener});
        fs::write(folder.join(format!("12-{}.json", name(id))), entry.to_string()).unwrap();
    }
    run(&mut opening(&data, &[key.file]));
    assert_eq!(rows(&data, "lake/reports").len(), 1);
    assert!(reason(&data, &name(1)).is_none() && reason(&data, &name(2)).is_some());
}

/// As if an opener had been killed, by the kernel or by a bug, over a body.
fn ends_over(data: &Path, workplace: &str, id: u8) {
    let folder = data.join("opening").join(workplace);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("lock"), "").unwrap();
    fs::write(folder.join("mark"), format!("{:<96}", format!("{DATE}/12/{}.otr", name(id)))).unwrap();
}

#[test]
fn a_report_that_two_openers_ended_over_is_not_opened() {
    let scratch = Scratch::new("crashes");
    let key = Key::new(&scratch, "key");
    let data = scratch.0.join("data");
    for id in [1, 2, 3] {
        store(&data, &name(id), &key.seal_text(id, &(head(id, "") + &end(0, 0))));
    }
    ends_over(&data, "one", 1);
    ends_over(&data, "two", 2);
    ends_over(&data, "three", 2);
    let output = run(&mut opening(&data, std::slice::from_ref(&key.file)));
    assert!(said(&output).contains("2 openers ended while they opened this"), "{}", said(&output));
    assert_eq!(rows(&data, "lake/reports").len(), 2);
    assert!(reason(&data, &name(1)).is_none(), "one crash may have had other reasons");
    assert_eq!(reason(&data, &name(2)).unwrap()["crashes"], 2);
    assert_eq!(fs::read_dir(data.join("opening")).unwrap().count(), 1);
    let again = said(&run(&mut opening(&data, &[key.file])));
    assert!(again.starts_with("0 reports opened, 0 set aside (1 in all)"), "{again}");
}

/// Rows that may be all that is left are not written over.
#[test]
fn a_damaged_part_is_left_and_named() {
    let scratch = Scratch::new("damaged");
    let key = Key::new(&scratch, "key");
    let data = scratch.0.join("data");
    store(&data, &name(1), &key.seal_text(1, &(head(1, "") + &end(0, 0))));
    run(&mut opening(&data, std::slice::from_ref(&key.file)));
    let part = data.join(format!("lake/reports/day={DATE}/part-00-of-01.parquet"));
    let whole = fs::read(&part).unwrap();
    fs::write(&part, &whole[..whole.len() / 2]).unwrap();
    store(&data, &name(2), &key.seal_text(2, &(head(2, "") + &end(0, 0))));
    let output = opening(&data, std::slice::from_ref(&key.file)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("move it away"), "{}", said(&output));
    assert_eq!(fs::read(&part).unwrap().len(), whole.len() / 2);
    fs::remove_file(&part).unwrap();
    run(&mut opening(&data, &[key.file]));
    assert_eq!(rows(&data, "lake/reports").len(), 2);
}
