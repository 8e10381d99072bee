//! Crash reports and version queries in their tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ondat_telemetry_protocol::query::{Query, version_label, version_of};
use ondat_telemetry_protocol::time;
use serde_json::{Value, json};

use crate::stage::{Fleet, left_by_openers, run, said};
use crate::tables::rows;

#[test]
fn every_crash_is_a_row() {
    let fleet = Fleet::new(60, 12, 21);
    let data = fleet.data();
    let mut expected = BTreeMap::new();
    for day in fs::read_dir(data.join("crashes")).unwrap().flatten() {
        for file in fs::read_dir(day.path()).unwrap().flatten() {
            let event: Value = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
            let tags = &event["tags"];
            let day = day.file_name().into_string().unwrap();
            let row = json!([
                day,
                event["timestamp"],
                event["release"],
                event["fingerprint"][0],
                tags["signal"],
                tags["exit_code"],
                tags["core_dump"],
                event["fingerprint"][2],
                tags["cluster_id"],
                tags["node_id"]
            ]);
            expected.insert(event["event_id"].as_str().unwrap().to_owned(), row);
        }
    }
    assert!(expected.len() > 10, "{}", expected.len());
    // The same event on a later day, one that is damaged, and one that says what it likes.
    let first = expected.iter().min_by_key(|(_, row)| row[0].to_string()).unwrap();
    let (id, day) = (first.0.clone(), first.1[0].as_str().unwrap().to_owned());
    let later = data.join("crashes/2026-09-30");
    fs::create_dir_all(&later).unwrap();
    fs::copy(data.join(format!("crashes/{day}/{id}.json")), later.join(format!("{id}.json"))).unwrap();
    let damaged = "0".repeat(32);
    fs::write(later.join(format!("{damaged}.json")), "{\"event").unwrap();
    let strange = "1".repeat(32);
    let event =
        json!({"timestamp": true, "release": "x".repeat(1000), "fingerprint": 3, "tags": [["cluster_id", "c"]]});
    fs::write(later.join(format!("{strange}.json")), event.to_string()).unwrap();
    let nothing = json!(["2026-09-30", null, null, null, null, null, null, null, null, null]);
    expected.insert(damaged.clone(), nothing.clone());
    expected.insert(strange, nothing);

    let output = said(&run(&mut fleet.open(&data)));
    assert!(output.contains(&format!("{} crashes new", expected.len())), "{output}");
    assert_eq!(output.lines().filter(|line| line.contains(&damaged)).count(), 1, "{output}");
    let names = ["time", "release", "component", "signal", "exit_code", "core_dump", "class", "cluster_id", "node_id"];
    let mut found = BTreeMap::new();
    for row in rows(&data, "lake/crashes") {
        let day = time::date(row["day"].as_i64().unwrap() * time::DAY_SECONDS);
        let texts: Vec<Value> = [json!(day)].into_iter().chain(names.map(|name| row[name].clone())).collect();
        assert!(found.insert(row["event_id"].as_str().unwrap().to_owned(), json!(texts)).is_none());
    }
    assert_eq!(found, expected);
    let left = left_by_openers(&data);
    run(&mut fleet.open(&data));
    assert!(left == left_by_openers(&data));
}

#[test]
fn every_node_and_version_that_asked_is_a_row() {
    let fleet = Fleet::new(20, 6, 22);
    let data = fleet.data();
    let mut expected: BTreeMap<(i64, String, String, String), u64> = BTreeMap::new();
    let mut folders: Vec<_> = fs::read_dir(data.join("dns")).unwrap().flatten().collect();
    folders.sort_by_key(fs::DirEntry::path);
    for log in folders.iter().flat_map(|day| fs::read_dir(day.path()).unwrap().flatten()) {
        for line in BufReader::new(GzDecoder::new(File::open(log.path()).unwrap())).lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let query = Query::decode(line["name"].as_str().unwrap(), Some("telemetry.example")).unwrap();
            let hex = |id: &[u8]| data_encoding::HEXLOWER.encode(id);
            let version = version_of(&query.version).unwrap().to_string();
            let key = (i64::from(query.day), hex(&query.cluster), hex(&query.node), version);
            *expected.entry(key).or_default() += 1;
        }
    }
    assert!(expected.values().any(|n| *n > 1) && expected.len() > 300, "{}", expected.len());
    // What is logged after midnight belongs to the day before; names of others belong to none.
    let mut lines = String::new();
    let query =
        Query { cluster: [1; 16], node: [2; 16], day: 20_697, version: version_label(&"2.8.0".parse().unwrap()) };
    for name in [query.name("telemetry.example"), "x.o1.telemetry.example.".to_owned(), "a\u{1}b".to_owned()] {
        lines += &json!({"time": "x", "name": name}).to_string();
        lines.push('\n');
    }
    let day = folders.iter().find(|day| day.file_name() == time::date_of_day(20_698).as_str()).unwrap();
    let mut log = GzEncoder::new(File::create(day.path().join("ns3-00.gz")).unwrap(), Compression::default());
    log.write_all(lines.as_bytes()).unwrap();
    log.finish().unwrap();

    run(&mut fleet.open(&data));
    let mut found = BTreeMap::new();
    for row in rows(&data, "lake/checks") {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let key = (row["day"].as_i64().unwrap(), text("cluster_id"), text("node_id"), text("version"));
        assert!(found.insert(key, row["n"].as_u64().unwrap()).is_none());
    }
    let of_midnight = (20_697, "01".repeat(16), "02".repeat(16), "2.8.0".to_owned());
    expected.insert(of_midnight, 1);
    let (missing, more): (BTreeSet<_>, BTreeSet<_>) = (expected.keys().collect(), found.keys().collect());
    assert_eq!(missing.symmetric_difference(&more).collect::<Vec<_>>(), Vec::<&&_>::new());
    assert_eq!(found, expected);
    // Logs go after a week; the rows stay.
    let left = left_by_openers(&data);
    fs::remove_dir_all(data.join("dns").join(time::date_of_day(20_698))).unwrap();
    run(&mut fleet.open(&data));
    assert!(left == left_by_openers(&data));
}
