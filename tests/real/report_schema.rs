//! The published schema of report documents, judged by Python's `jsonschema`, agrees with the library.
//!
//! Nothing is generated of which JSON Schema cannot say what the library does; the schema's `$comment` lists it. One thing
//! more is Python's alone: its `$` also stands before a last line feed, so no string ends with one.

use std::fmt::Write as _;

use ondat_telemetry_protocol::document::read_document;
use ondat_telemetry_protocol::fault::Fault;
use ondat_telemetry_protocol::fields::{FIELDS, Form, Kind, Level};
use ondat_telemetry_protocol::identity::Identity;
use ondat_telemetry_protocol::limits::{ENTRIES, STRING_BYTES, VERSION_BYTES};
use ondat_telemetry_protocol::plaintext::writer::{Heading, OwnNode, Writer};
use serde_json::{Map, Value, json};

use crate::support::{TempDir, python, root, succeed};

/// How often each field is given each of its right and each of its wrong values, each time in another document.
const ROUNDS: usize = 3;
/// Marks a number that serde_json's own type does not hold.
const RAW: &str = "raw:";

/// SplitMix64: the same documents in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// A document, what is special about it, and whether it is meant to be right.
struct Case {
    what: String,
    json: String,
    is_right: bool,
}

impl Case {
    fn new(what: impl Into<String>, document: &Value, is_right: bool) -> Self {
        let (mut json, mut rest) = (String::new(), &*document.to_string());
        while let Some((before, raw)) = rest.split_once(&format!("\"{RAW}")) {
            let (number, after) = raw.split_once('"').unwrap();
            write!(json, "{before}{number}").unwrap();
            rest = after;
        }
        json.push_str(rest);
        Self { what: what.into(), json, is_right }
    }
}

fn raw(number: &str) -> Value {
    format!("{RAW}{number}").into()
}

fn filled(entries: usize, value: &Value) -> Value {
    (0..entries).map(|number| (format!("key_{number}"), value.clone())).collect::<Map<_, _>>().into()
}

fn texts(values: &[&str]) -> Vec<Value> {
    values.iter().map(|value| Value::from(*value)).collect()
}

/// Values that a field may have, its limits among them.
fn right(kind: Kind) -> Vec<Value> {
    let long = |bytes| "x".repeat(bytes);
    let mut values = match kind {
        Kind::Bool => vec![json!(true), json!(false)],
        Kind::Count => vec![json!(0), json!(1), json!(4096), json!(u64::MAX)],
        Kind::CountUpTo(most) => (0..=most).map(Value::from).collect(),
        Kind::OneOf(words) => texts(words),
        Kind::Text(Form::KubernetesVersion) => texts(&[
            "1",
            "v1",
            "v1.31.2+rke2r1",
            "1.27~rc.1_2-x",
            &format!("v0{}", long(62)),
            &format!("9{}", long(62)),
        ]),
        Kind::Text(Form::EntityVersion) => texts(&["MQ", "MQ==", "a+b/c=_-", &long(30)]),
        Kind::Text(Form::Word) => texts(&["x", "alive", "topology-aware", "Fixed_2", &long(64)]),
        // What others set is no reason to refuse a report.
        Kind::Distribution => {
            texts(&["", "rancher-1.2", "openshift", "größer \" \\ \u{1} 🦀", &long(4 * STRING_BYTES)])
        }
        Kind::UserAgent => {
            texts(&["", "storageos-cli/2.4.2 (alice)", "größer \" \\ \u{1} 🦀", "@/()", &long(4 * STRING_BYTES)])
        }
        Kind::Id(_) => {
            let long = long(STRING_BYTES);
            let padded = format!("\t\n{long}\r\n");
            texts(&[
                "6b1f2a52-8a3c-4d57-9d0c-2f1f6d7a9e10",
                "ä",
                "x",
                "a b",
                "\u{a0}",
                "c-1\n",
                " \t\u{b}c\u{c}",
                &long,
                &padded,
            ])
        }
        Kind::Version => {
            let long = format!("v1.2.3-{}", long(VERSION_BYTES - 6));
            let mut values = texts(&["2.8.2", "v2.8.2", "0.0.0", "1.2.3-rc.1", "1.2.3--", "1.2.3-0a.1-2"]);
            values.extend(texts(&["1.2.3+001", "1.2.3-a+b.1", "18446744073709551615.0.10", &long]));
            values
        }
        Kind::Timestamp => texts(&[
            "2026-01-31T12:00:00Z",
            "1970-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2024-02-29T23:59:60Z",
            "2026-11-24T00:00:00.5Z",
            "2026-11-24T00:00:00.123456789012Z",
        ]),
        Kind::Labels => vec![
            json!({}),
            json!({ "storageos.com/replicas": "2", "app": "größer", "": "" }),
            json!({ long(STRING_BYTES): long(STRING_BYTES) }),
            filled(ENTRIES, &json!("x")),
        ],
        Kind::Metrics => vec![
            json!({}),
            json!({ "read_bytes": 73_400_320, "latency_2": 0.0021, "negative": -7, "tiny": 5e-324, "huge": 1.7e308 }),
            json!({ long(64): raw("18446744073709551616"), "_": raw("1.0"), "0": raw("-0") }),
            filled(ENTRIES, &json!(1)),
        ],
        Kind::ApiCalls => vec![
            json!({}),
            json!({ "ListNodes": { "200": 14 }, "Create_Volume2": { "100": 0, "599": u64::MAX }, long(64): {} }),
            filled(3 * ENTRIES, &json!({ "204": 1 })),
        ],
        Kind::Capacity => vec![
            json!({}),
            json!({ "total": u64::MAX, "free": 0, "available": null }),
            json!({ "total": 3, "free": 2, "available": 1 }),
        ],
        Kind::EtcdConfig => vec![json!({ "endpoints": 3, "namespaced": true, "tls": false }), json!({ "tls": null })],
    };
    values.push(Value::Null);
    values
}

/// Values that it may not have.
fn wrong(kind: Kind) -> Vec<Value> {
    let long = |bytes| "x".repeat(bytes);
    let is = |other: Value| match kind {
        Kind::Bool => other.is_boolean(),
        Kind::Count | Kind::CountUpTo(_) => other.is_number(),
        Kind::Labels | Kind::Metrics | Kind::ApiCalls | Kind::Capacity | Kind::EtcdConfig => other.is_object(),
        _ => other.is_string(),
    };
    let of_every_type = [json!(true), json!(1), json!("true"), json!({}), json!([])];
    let mut values: Vec<Value> = of_every_type.into_iter().filter(|value| !is(value.clone())).collect();
    values.extend([json!([null]), json!([[{ "a": [] }]]), json!({ "a": { "b": { "c": [1, "x"] } } }), json!(0.5)]);
    values.extend(match kind {
        Kind::Bool => texts(&["false", "0", ""]),
        Kind::Count => vec![json!(-1), json!(1e30), raw("18446744073709551616"), raw("1.5e0"), json!(i64::MIN)],
        Kind::CountUpTo(most) => vec![json!(most + 1), json!(-1), json!(u64::MAX), json!(1.5), json!("1")],
        Kind::OneOf(words) => {
            let mut values = texts(&["", "ext5", "Online"]);
            values.extend(words.iter().flat_map(|word| texts(&[&word.to_uppercase(), &format!("{word} ")])));
            values
        }
        Kind::Text(Form::KubernetesVersion) => {
            let (numbers, with_v) = (format!("1{}", long(63)), format!("v1{}", long(63)));
            texts(&["", "v", "x1", "vv1", "V1", " 1", "1 ", "1/2", "1@corp", "1:2", "١", "1ä", "-1", &numbers, &with_v])
        }
        Kind::Text(Form::EntityVersion) => texts(&["", "M.Q", "a b", "ä", "a@b", "a\u{0}", &long(31), &long(300)]),
        Kind::Text(Form::Word) => {
            texts(&["", "a b", "alice@corp.example", "worker-7.corp", "10.0.0.1", "/etc", "ä", "a\t", &long(65)])
        }
        Kind::UserAgent | Kind::Distribution => Vec::new(),
        Kind::Id(_) => texts(&[
            "",
            " ",
            "\n\t",
            "a\nb",
            "a\u{0}b",
            "\u{7f}",
            "a\u{85}b",
            "a\u{1f}",
            &long(STRING_BYTES + 1),
            &"ä".repeat(257),
        ]),
        Kind::Version => {
            let long = format!("1.2.3-{}", long(VERSION_BYTES - 5));
            let mut values = texts(&["", "1", "1.2", "1.2.3.4", "01.2.3", "1.02.3", "1.2.03", "1.2.3-", "1.2.3-01"]);
            values.extend(texts(&["1.2.3-a..b", "1.2.3-.a", "1.2.3+", "1.2.3+a_b", "1.2.3+a+b", "1.2.3-ä", "1.2.x"]));
            values.extend(texts(&["V1.2.3", "vv1.2.3", "v", " 1.2.3", "1.2.3 ", "-1.2.3", "١.2.3", &long]));
            values
        }
        Kind::Timestamp => {
            let long = format!("2026-01-31T12:00:00.{}Z", "0".repeat(STRING_BYTES - 20));
            let mut values = texts(&["", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z", "Z"]);
            values.extend(texts(&["2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00+00:00Z", "2026-01-31t12:00:00Z"]));
            values.extend(texts(&[
                "2026-01-31T12:00:00z",
                "2026-1-31T12:00:00Z",
                "20260131T120000Z",
                "2026-01-31T12:00Z",
            ]));
            values.extend(texts(&["2026-00-01T12:00:00Z", "2026-13-01T12:00:00Z", "2026-01-00T12:00:00Z"]));
            values.extend(texts(&["2026-01-32T12:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z"]));
            values.extend(texts(&["2026-01-31T12:00:61Z", "1969-12-31T23:59:59Z", "2026-01-31T12:00:00.Z"]));
            values.extend(texts(&[
                "2026-01-31T12:00:00,5Z",
                "2026-01-31T12:00:00.5.5Z",
                "2026-01-31T12:00:00.5+rackZ",
            ]));
            values.extend(texts(&[
                "2026-01-31T12:00:00.+12345Z",
                "٢٠٢٦-01-31T12:00:00Z",
                "2026-01-31T12:00:00 Z",
                &long,
            ]));
            values
        }
        Kind::Labels => vec![
            filled(ENTRIES + 1, &json!("x")),
            json!({ "app": 5 }),
            json!({ "app": null }),
            json!({ "app": ["x"] }),
            json!({ "storageos.com/replicas": 2 }),
            json!({ "app": long(STRING_BYTES + 1) }),
            json!({ long(STRING_BYTES + 1): "x" }),
        ],
        Kind::Metrics => {
            let names = ["", "Upper", "a-b", "a.b", "a b", "ü", &long(65)];
            let mut values: Vec<Value> = names.iter().map(|name| json!({ *name: 1 })).collect();
            let others = [json!("1"), json!(true), json!(null), json!([]), json!({})];
            values.extend(others.into_iter().map(|value| json!({ "a": value })));
            values.push(filled(ENTRIES + 1, &json!(1)));
            values
        }
        Kind::ApiCalls => {
            let names = ["", "List Nodes", "List-Nodes", "/v2/nodes", "Ä", &long(65)];
            let mut values: Vec<Value> = names.iter().map(|name| json!({ *name: { "200": 1 } })).collect();
            let codes = ["", "99", "600", "099", "0200", "2xx", "+20", "2000", " 200", "٢٠٠"];
            values.extend(codes.map(|code| json!({ "ListNodes": { code: 1 } })));
            let counts = [json!(-1), json!(1.5), json!("1"), json!(null), json!([1]), raw("18446744073709551616")];
            values.extend(counts.into_iter().map(|count| json!({ "ListNodes": { "200": count } })));
            values.extend([json!({ "ListNodes": null }), json!({ "ListNodes": 14 }), json!({ "ListNodes": [] })]);
            values
        }
        Kind::Capacity => vec![
            json!({ "used": 1 }),
            json!({ "total": -1 }),
            json!({ "total": "1" }),
            json!({ "free": 0.5 }),
            json!({ "Available": 1 }),
            json!({ "available": { "bytes": 1 } }),
        ],
        Kind::EtcdConfig => vec![
            json!({ "endpoints": ["https://10.0.0.1:2379"] }),
            json!({ "endpoints": -1 }),
            json!({ "endpoints": true }),
            json!({ "tls": 1 }),
            json!({ "tls": "true" }),
            json!({ "namespaced": [] }),
            json!({ "password": null }),
        ],
    });
    values
}

fn any(chance: &mut Chance, kind: Kind) -> Value {
    let values = right(kind);
    values[chance.below(values.len())].clone()
}

/// All fields of a level, with values.
fn complete(chance: &mut Chance, level: Level) -> Value {
    level.fields().map(|field| (field.name.to_owned(), any(chance, field.kind))).collect::<Map<_, _>>().into()
}

/// A valid document with all fields, a few records of each kind.
fn document(chance: &mut Chance) -> Value {
    let mut document = complete(chance, Level::Cluster);
    for (name, level) in [("nodes", Level::Node), ("volumes", Level::Volume)] {
        document[name] = (0..1 + chance.below(3)).map(|_| complete(chance, level)).collect();
    }
    document
}

/// One of the objects in which fields of this level stand.
fn place<'a>(chance: &mut Chance, document: &'a mut Value, level: Level) -> &'a mut Value {
    let list = match level {
        Level::Cluster => return document,
        Level::Node => &mut document["nodes"],
        Level::Volume => &mut document["volumes"],
    };
    let records = list.as_array_mut().unwrap();
    let at = chance.below(records.len());
    &mut records[at]
}

fn cases() -> Vec<Case> {
    let chance = &mut Chance(20_260_131);
    let mut cases = Vec::new();
    for _ in 0..ROUNDS {
        for field in FIELDS {
            for (values, is_right) in [(right(field.kind), true), (wrong(field.kind), false)] {
                for value in values {
                    let mut document = document(chance);
                    let what = format!("{} {value}", field.name);
                    place(chance, &mut document, field.level)[field.name] = value;
                    cases.push(Case::new(what, &document, is_right));
                }
            }
            let mut without = document(chance);
            place(chance, &mut without, field.level).as_object_mut().unwrap().remove(field.name);
            cases.push(Case::new(format!("without {}", field.name), &without, true));
        }
        for level in [Level::Cluster, Level::Node, Level::Volume] {
            for name in unknown(level) {
                for value in [Value::Null, json!("x"), json!({ "a": [[{}]] })] {
                    let mut document = document(chance);
                    place(chance, &mut document, level)[&*name] = value;
                    cases.push(Case::new(format!("{name} at {level:?}"), &document, false));
                }
            }
        }
        for name in ["nodes", "volumes"] {
            for list in
                [json!(null), json!({}), json!("x"), json!(5), json!([null]), json!([5]), json!([[]]), json!([{}, "x"])]
            {
                let mut document = document(chance);
                let what = format!("{name} {list}");
                document[name] = list;
                cases.push(Case::new(what, &document, false));
            }
            for list in [json!([]), json!([{}]), json!([{}, {}])] {
                let mut document = document(chance);
                document[name] = list;
                cases.push(Case::new(format!("empty {name}"), &document, true));
            }
        }
    }
    cases.extend(
        [json!([]), json!(null), json!(true), json!(5), json!("x"), json!([{}])]
            .map(|document| Case::new("no object", &document, false)),
    );
    cases.push(Case::new("nothing known", &json!({}), true));
    cases
}

/// Names that are not on the list, those of other levels among them.
fn unknown(level: Level) -> Vec<String> {
    let others = FIELDS.iter().filter(|field| field.level != level).map(|field| field.name.to_owned());
    let lists = ["nodes", "volumes"].into_iter().filter(|_| level != Level::Cluster);
    let made_up = ["", "hostname", "node_name", "volume_name", "cluster_id", "Nodes", "k8s_version "];
    others.step_by(7).chain(lists.chain(made_up).map(str::to_owned)).collect()
}

/// What the library has against a document, as it judges it for a preview.
fn judged(json: &str) -> Option<String> {
    let heading = Heading { id: [0; 16], day: "2026-01-31".to_owned() };
    let mut document =
        Writer::new(Vec::new(), &Identity::from_cluster_id("cluster"), heading, Map::new(), OwnNode::default());
    match read_document(json.as_bytes(), &mut document).and_then(|()| document.finish()) {
        Ok(_) => None,
        Err(Fault::Invalid(why)) => Some(why),
        Err(error) => panic!("{error}: {json}"),
    }
}

#[test]
fn the_schema_is_one_and_judges_documents_as_the_library_does() {
    let folder = TempDir::new();
    let documents = folder.join("documents.jsonl");
    let cases = cases();
    let lines: String = cases.iter().map(|case| format!("{}\n", case.json)).collect();
    std::fs::write(&documents, lines).unwrap();
    let mut judge = python("judge_documents.py");
    judge.arg(root().join("docs/report.schema.json")).arg(&documents);
    let verdicts = String::from_utf8(succeed(&mut judge).stdout).unwrap();
    let verdicts: Vec<Option<String>> = verdicts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(verdicts.len(), cases.len());

    let (rights, wrongs): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.is_right);
    assert!(rights.len() >= 500 && wrongs.len() >= 1500, "{} right, {} wrong", rights.len(), wrongs.len());
    for (case, by_schema) in cases.iter().zip(verdicts) {
        let by_library = judged(&case.json);
        assert!(
            by_library.is_none() == case.is_right && by_schema.is_none() == case.is_right,
            "{}: meant to be {}\nlibrary: {by_library:?}\nschema:  {by_schema:?}\n{}",
            case.what,
            if case.is_right { "right" } else { "wrong" },
            case.json.chars().take(2000).collect::<String>()
        );
    }
}
