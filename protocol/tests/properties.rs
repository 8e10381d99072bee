//! What must hold for every report, and not only for those that somebody thought of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write;

use data_encoding::{BASE64, HEXLOWER};
use flate2::Compression;
use flate2::write::GzEncoder;
use ondat_telemetry_protocol::document::read_document;
use ondat_telemetry_protocol::fault::Fault;
use ondat_telemetry_protocol::fields::{FIELDS, Field, Kind, Level};
use ondat_telemetry_protocol::frame::is_whole;
use ondat_telemetry_protocol::identity::Identity;
use ondat_telemetry_protocol::keys::{Kem, KeySet, PrivateKey, generate_key, key_id};
use ondat_telemetry_protocol::limits::GROUP_RECORDS;
use ondat_telemetry_protocol::plaintext::reader::{Record, Report, read_sealed};
use ondat_telemetry_protocol::plaintext::writer::{Heading, OwnNode, Writer};
use ondat_telemetry_protocol::seal::Sealer;
use ondat_telemetry_protocol::time::date_of_day;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const ID: [u8; 16] = [3; 16];
const DAY: u16 = 20_781;

/// Nothing is written beside the sources: a failure prints its smallest case.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}

/// A value that the field may hold, as a host gives it.
fn value(field: &'static Field) -> BoxedStrategy<Value> {
    let text = |pattern: &str| proptest::string::string_regex(pattern).unwrap().prop_map(Value::from).boxed();
    let count = || prop_oneof![0..100_u64, Just(u64::MAX)].prop_map(Value::from).boxed();
    let known = match field.kind {
        Kind::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Kind::Count => count(),
        Kind::CountUpTo(most) => (0..=most).prop_map(Value::from).boxed(),
        Kind::OneOf(words) => prop::sample::select(words).prop_map(Value::from).boxed(),
        Kind::Text(form) => text(form.pattern()),
        Kind::Distribution | Kind::UserAgent => text(".{0,40}"),
        Kind::Version => text("v?[1-9]\\.[0-9]\\.[0-9](-rc\\.[1-9])?"),
        Kind::Timestamp => text("20[0-9]{2}-0[1-9]-1[0-9]T0[0-9]:[0-5][0-9]:00Z"),
        Kind::Id(_) => text("[^\\p{Cc}\\s]{1,20}"),
        Kind::Labels => {
            prop::collection::btree_map("\\PC{1,20}", "\\PC{0,20}", 0..5).prop_map(|labels| json!(labels)).boxed()
        }
        Kind::Metrics => {
            prop::collection::btree_map("[a-z0-9_]{1,9}", -1e9..1e9, 0..4).prop_map(|metrics| json!(metrics)).boxed()
        }
        Kind::ApiCalls => {
            let codes = prop::collection::btree_map("[1-5][0-9]{2}", any::<u64>(), 0..3);
            prop::collection::btree_map("[A-Za-z0-9_]{1,9}", codes, 0..3).prop_map(|calls| json!(calls)).boxed()
        }
        Kind::Capacity => any::<[u64; 3]>()
            .prop_map(|[total, free, available]| json!({"total": total, "free": free, "available": available}))
            .boxed(),
        Kind::EtcdConfig => (any::<u64>(), any::<bool>(), any::<bool>())
            .prop_map(
                |(endpoints, namespaced, tls)| json!({"endpoints": endpoints, "namespaced": namespaced, "tls": tls}),
            )
            .boxed(),
    };
    prop_oneof![4 => known, 1 => Just(Value::Null)].boxed()
}

/// Some fields of a level.
fn object(level: Level) -> impl Strategy<Value = Map<String, Value>> {
    let members: Vec<_> = level.fields().map(|field| prop::option::of(value(field))).collect();
    members.prop_map(move |values| {
        let given = level.fields().zip(values).filter_map(|(field, value)| Some((field.name.to_owned(), value?)));
        given.collect()
    })
}

fn document() -> impl Strategy<Value = Value> {
    let list = |level| prop::collection::vec(object(level), 0..4);
    (object(Level::Cluster), list(Level::Node), list(Level::Volume)).prop_map(|(mut document, nodes, volumes)| {
        document.insert("nodes".to_owned(), json!(nodes));
        document.insert("volumes".to_owned(), json!(volumes));
        Value::Object(document)
    })
}

fn written(document: &Value) -> Result<String, Fault> {
    let heading = Heading { id: ID, day: date_of_day(DAY) };
    let identity = Identity::from_cluster_id("cluster");
    let mut writer = Writer::new(Vec::new(), &identity, heading, Map::new(), OwnNode::default());
    read_document(document.to_string().as_bytes(), &mut writer)?;
    Ok(String::from_utf8(writer.finish()?).unwrap())
}

struct Pair {
    public: KeySet,
    private: [PrivateKey; 1],
}

fn pair(kem: Kem) -> Pair {
    let (private, public) = generate_key(kem);
    let (id, name) = (HEXLOWER.encode(&key_id(&public)), if kem == Kem::X25519 { "X25519" } else { "X-Wing" });
    let (private, public) = (BASE64.encode(&private), BASE64.encode(&public));
    let set = json!({"keys": [{"id": id, "kem": name, "public": public, "not_before": 0, "not_after": 9}]});
    let private = json!({"id": id, "kem": name, "private": private});
    Pair {
        public: KeySet::parse(&set.to_string()).unwrap(),
        private: [PrivateKey::parse(&private.to_string()).unwrap()],
    }
}

fn sealed(pair: &Pair, text: &str) -> Vec<u8> {
    let sealer = Sealer::new(Vec::new(), pair.public.current(1).unwrap(), ID, DAY);
    let mut packed = GzEncoder::new(sealer, Compression::new(4));
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap().finish().unwrap()
}

fn opened(pair: &Pair, sealed: &[u8]) -> Result<(Report, Vec<(Level, Record)>), String> {
    let mut records = Vec::new();
    let (report, ..) = read_sealed(sealed, &pair.private, |level, record| records.push((level, record.clone())))?;
    Ok((report, records))
}

/// What the reader found of a level, field by field.
fn check_level(level: Level, given: &Map<String, Value>, record: &Record) {
    assert_eq!(record.0.len(), level.fields().count());
    for (field, (name, value)) in level.fields().zip(&record.0) {
        assert_eq!(field.name, name);
        field.check_sent(value).unwrap();
        let before = given.get(field.name).unwrap_or(&Value::Null);
        // Of a user agent nothing is sent where it has no form.
        let is_known = value.is_null() == before.is_null() || field.kind == Kind::UserAgent;
        assert!(is_known, "{name}: {before} became {value}");
        if matches!(field.kind, Kind::Bool | Kind::Count | Kind::OneOf(_) | Kind::ApiCalls) {
            assert_eq!(value, before, "{name}");
        }
        if field.kind == Kind::Metrics && value.is_object() {
            // serde_json reads a number with a fraction to within the last of its 53 bits.
            let numbers =
                |metrics: &Value| metrics.as_object().unwrap().values().map(Value::as_f64).collect::<Vec<_>>();
            for (read, given) in numbers(value).into_iter().flatten().zip(numbers(before).into_iter().flatten()) {
                assert!((read - given).abs() <= given.abs() * 1e-15, "{name}: {given} became {read}");
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_written_is_read_back(document in document(), is_post_quantum in any::<bool>()) {
        let pair = pair(if is_post_quantum { Kem::XWing } else { Kem::X25519 });
        let sealed = sealed(&pair, &written(&document).unwrap());
        prop_assert!(is_whole(&*sealed, &HEXLOWER.encode(&ID)).unwrap());
        let (report, records) = opened(&pair, &sealed).unwrap();
        prop_assert_eq!(report.fields, FIELDS.len());
        check_level(Level::Cluster, document.as_object().unwrap(), &report.cluster);
        for (level, name, count) in
            [(Level::Node, "nodes", report.nodes.count), (Level::Volume, "volumes", report.volumes.count)]
        {
            let given = document[name].as_array().unwrap();
            let read: Vec<_> = records.iter().filter(|(of, _)| *of == level).collect();
            prop_assert_eq!((given.len(), given.len()), (count, read.len()));
            for (given, (_, record)) in given.iter().zip(read) {
                check_level(level, given.as_object().unwrap(), record);
            }
        }
    }

    #[test]
    fn an_older_reader_takes_a_newer_writers_report(
        document in document(),
        names in prop::collection::btree_set("[a-z0-9_]{1,20}", 1..4),
    ) {
        let names: Vec<_> = names.into_iter().filter(|name| FIELDS.iter().all(|field| field.name != name)).collect();
        let is_field = |name: &str| !["schema", "report_id", "day"].contains(&name);
        let names: Vec<_> = names.into_iter().filter(|name| is_field(name)).collect();
        // What a writer would add: at the end of the first line a value for each, at the end of a row group a column.
        let lines: Vec<String> = written(&document).unwrap().lines().enumerate().map(|(number, line)| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let (inside, records) = match line.as_object_mut().unwrap() {
                line if number == 0 => (line, None),
                line => {
                    let Some(Value::Object(columns)) = line.values_mut().next() else { panic!("a line of its own kind") };
                    let records = columns.values().next().and_then(Value::as_array).map(Vec::len);
                    if records.is_none() {
                        return line_text(line);
                    }
                    (columns, records)
                }
            };
            for name in &names {
                let value = json!({"new": [name, null]});
                inside.insert(name.clone(), records.map_or(value.clone(), |records| vec![value; records].into()));
            }
            if number == 0 { in_order(&line) } else { line.to_string() }
        }).collect();
        let pair = pair(Kem::X25519);
        let (report, records) = opened(&pair, &sealed(&pair, &(lines.join("\n") + "\n"))).unwrap();
        for name in &names {
            prop_assert_eq!(&report.cluster.get(name)["new"][0], name);
            prop_assert!(records.iter().all(|(_, record)| record.get(name)["new"][0] == **name));
        }
    }

    #[test]
    fn what_is_no_report_is_an_error_and_no_more(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let pair = pair(Kem::X25519);
        prop_assert!(opened(&pair, &bytes).is_err());
        prop_assert!(opened(&pair, &sealed(&pair, &String::from_utf8_lossy(&bytes))).is_err());
    }
}

fn line_text(line: &Map<String, Value>) -> String {
    Value::Object(line.clone()).to_string()
}

/// The first line with schema, id and day first, as they stand in every report.
fn in_order(line: &Value) -> String {
    let first = ["schema", "report_id", "day"];
    let rest = line.as_object().unwrap().iter().filter(|(name, _)| !first.contains(&name.as_str()));
    let all = first.iter().map(|name| (*name, &line[*name])).chain(rest.map(|(name, value)| (name.as_str(), value)));
    let members: Vec<String> = all.map(|(name, value)| format!("{}:{value}", Value::from(name))).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn several_row_groups_are_read_back() {
    let volume = |number: usize| json!({"volume_id": format!("v{number}"), "volume_size_bytes": number});
    let volumes: Vec<_> = (0..3 * GROUP_RECORDS + 7).map(volume).collect();
    let pair = pair(Kem::XWing);
    let sealed = sealed(&pair, &written(&json!({ "volumes": volumes })).unwrap());
    let (report, records) = opened(&pair, &sealed).unwrap();
    assert_eq!((report.volumes.count, report.volumes.first.len()), (volumes.len(), GROUP_RECORDS));
    let sizes: Vec<_> = records.iter().map(|(_, record)| record.get("volume_size_bytes").clone()).collect();
    assert_eq!(sizes, (0..volumes.len()).map(Value::from).collect::<Vec<_>>());
}
