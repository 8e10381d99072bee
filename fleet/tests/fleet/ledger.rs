//! What is in the tables is what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use ondat_telemetry_protocol::fields::Level;
use ondat_telemetry_protocol::keys::PrivateKey;
use ondat_telemetry_protocol::plaintext::reader::{Record, read_sealed};
use ondat_telemetry_protocol::time;
use serde_json::{Map, Value, json};

use crate::stage::{Fleet, left_by_openers, run, said};
use crate::tables::rows;

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn every_count_is_the_ledgers() {
    let fleet = Fleet::new(80, 30, 1);
    let data = fleet.data();
    let output = run(&mut fleet.open(&data));
    let fates = ["counted", "duplicate", "other_body", "late", "ahead", "set_aside"];
    let [counted, duplicates, others, late, ahead, aside] = fates.map(|fate| fleet.of_fate(fate));
    for (fate, places) in fates.iter().zip([&counted, &duplicates, &others, &late, &ahead, &aside]) {
        assert!(!places.is_empty(), "nothing is {fate}: another seed");
    }
    let summary = format!(
        "{} reports opened, {} set aside ({1} in all), {} late",
        counted.len(),
        aside.len(),
        late.len() + ahead.len()
    );
    assert!(said(&output).contains(&summary), "{}: {summary}", said(&output));

    let of_each = |table: &str| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows(&data, table) {
            let count = if table == "lake/api_calls" { number(&row["calls"]) } else { 1 };
            *counts.entry(row["report_id"].as_str().unwrap().to_owned()).or_default() += count;
        }
        counts
    };
    let (nodes, volumes, calls) = (of_each("lake/nodes"), of_each("lake/volumes"), of_each("lake/api_calls"));
    let mut found = BTreeMap::new();
    for row in rows(&data, "lake/reports") {
        let id = row["report_id"].as_str().unwrap().to_owned();
        let count = |of: &BTreeMap<String, u64>| of.get(&id).copied().unwrap_or(0);
        assert_eq!((number(&row["n_nodes"]), number(&row["n_volumes"])), (count(&nodes), count(&volumes)));
        let day = time::date(row["day"].as_i64().unwrap() * time::DAY_SECONDS);
        let bytes = row["sum_volume_bytes"].as_u64().unwrap_or(0);
        let line = (day, count(&nodes), count(&volumes), bytes, count(&calls));
        assert!(found.insert(id, line).is_none(), "a report stands twice");
    }
    let lines = fleet.ledger.iter().filter(|line| line["fate"] == "counted");
    let expected = lines.map(|line| {
        let of = |name: &str| number(&line[name]);
        let day = line["day"].as_str().unwrap().to_owned();
        let counts = (day, of("nodes"), of("volumes"), of("volume_bytes"), of("api_calls"));
        (line["report_id"].as_str().unwrap().to_owned(), counts)
    });
    assert_eq!(found, expected.collect());

    let late_rows = rows(&data, "late");
    let found: BTreeSet<(&str, &str)> =
        late_rows.iter().map(|row| (row["place"].as_str().unwrap(), row["why"].as_str().unwrap())).collect();
    let expected = late.iter().map(|place| (*place, "late")).chain(ahead.iter().map(|place| (*place, "ahead")));
    assert_eq!(found, expected.collect());

    let left = left_by_openers(&data);
    let found: BTreeSet<String> = left.keys().filter(|name| name.starts_with("aside/")).cloned().collect();
    let name = |place: &&str| {
        let (day, rest) = place.split_once('/').unwrap();
        format!("aside/{day}/{}", rest.replace('/', "-").replace(".otr", ".json"))
    };
    assert_eq!(found, aside.iter().map(name).collect());
    // Nothing is left to do, and nothing is written.
    let again = said(&run(&mut fleet.open(&data)));
    assert!(again.starts_with("0 reports opened, 0 set aside"), "{again}");
    assert!(again.contains(" 0 late, 0 crashes new, 0 parts written"), "{again}");
    assert!(left == left_by_openers(&data));
}

/// The record's fields as the columns of a table have them.
fn columns(record: &Record) -> Map<String, Value> {
    let mut columns = Map::new();
    for (name, value) in &record.0 {
        let members: &[&str] = match name.as_ref() {
            "node_capacity" => &["total", "free", "available"],
            "node_etcd_config" => &["endpoints", "namespaced", "tls"],
            "api_call_metrics" => continue,
            _ => {
                // A map of numbers has them as they are, whether they were written with a point or without.
                let value = match (name.as_ref(), value) {
                    ("volume_metrics", Value::Object(metrics)) => {
                        metrics.iter().map(|(name, number)| (name.clone(), json!(number.as_f64()))).collect()
                    }
                    (_, value) => value.clone(),
                };
                columns.insert(name.to_string(), value);
                continue;
            }
        };
        for member in members {
            columns.insert(format!("{name}_{member}"), value.get(member).cloned().unwrap_or_default());
        }
    }
    columns
}

fn sealed_rows(path: &Path, keys: &[PrivateKey]) -> [Vec<Map<String, Value>>; 3] {
    let [mut nodes, mut volumes] = [Vec::new(), Vec::new()];
    let read = read_sealed(File::open(path).unwrap(), keys, |level, record| match level {
        Level::Node => nodes.push(columns(record)),
        _ => volumes.push(columns(record)),
    });
    [vec![columns(&read.unwrap().0.cluster)], nodes, volumes]
}

#[test]
fn every_row_is_what_was_sealed() {
    let fleet = Fleet::new(12, 12, 3);
    let data = fleet.data();
    run(&mut fleet.open(&data));
    let keys = [1, 2].map(|key| PrivateKey::parse(&std::fs::read_to_string(fleet.key(key)).unwrap()).unwrap());
    let mut of_report: BTreeMap<String, [Vec<Map<String, Value>>; 3]> = BTreeMap::new();
    for (at, table) in ["lake/reports", "lake/nodes", "lake/volumes"].iter().enumerate() {
        for row in rows(&data, table) {
            of_report.entry(row["report_id"].as_str().unwrap().to_owned()).or_default()[at].push(row);
        }
    }
    let counted = fleet.of_fate("counted");
    assert_eq!(of_report.len(), counted.len());
    let mut compared = 0;
    for place in counted {
        let id = &place.rsplit('/').next().unwrap()[..32];
        let sent = sealed_rows(&data.join("sealed/v1").join(place), &keys);
        for (sent, found) in sent.iter().zip(&of_report[id]) {
            assert_eq!(sent.len(), found.len(), "{place}");
            for (number, (sent, found)) in sent.iter().zip(found).enumerate() {
                assert!(found.get("row").is_none_or(|row| *row == number), "{place}: in the order of the report");
                for (name, value) in sent {
                    assert_eq!(&found[name], value, "{place}: {name}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}
