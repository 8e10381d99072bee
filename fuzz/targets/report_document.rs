//! A report's document as a host gives it, and what is made of it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::identity::Identity;
use ondat_telemetry::report::document::{Document, Envelope, GROUP_RECORDS, OwnNode};
use ondat_telemetry::report::fields::Level;
use ondat_telemetry::report::input::{read_document, read_object};
use serde_json::{Map, Value, json};

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::from_key([7; 32]));

fuzz_target!(|json: &[u8]| {
    let _ = read_object(json);
    let envelope = Envelope { id: [3; 16], day: "2026-11-24".to_owned() };
    let mut document = Document::new(Vec::new(), &IDENTITY, envelope, Map::new(), OwnNode::default());
    if read_document(json, &mut document).is_err() {
        return;
    }
    let plaintext = document.finish().expect("an accepted document is refused");
    assert!(plaintext.len() <= 4096 + 64 * json.len(), "{} bytes became {}", json.len(), plaintext.len());

    let mut lines = plaintext.split_inclusive(|byte| *byte == b'\n').map(|line| {
        assert!(line.ends_with(b"\n"));
        serde_json::from_slice::<Value>(line).expect("a line is not JSON")
    });
    let head = lines.next().expect("no line at all");
    assert_eq!(head["schema"], "ondat-report/1");
    assert_eq!(head.as_object().map(Map::len), Some(3 + Level::Cluster.fields().count()));
    for field in Level::Cluster.fields() {
        field.check_sent(&head[field.name]).expect(field.name);
    }
    let mut lines: Vec<Value> = lines.collect();
    let end = lines.pop();
    let (mut nodes, mut volumes) = (0, 0);
    for line in &lines {
        let group = line.as_object().and_then(|line| line.iter().next());
        let (level, total, columns) = match group {
            Some((name, columns)) if name == "nodes" => (Level::Node, &mut nodes, columns),
            Some((name, columns)) if name == "volumes" => (Level::Volume, &mut volumes, columns),
            _ => panic!("neither nodes nor volumes: {line}"),
        };
        let column = |name: &str| columns[name].as_array().expect("a column is missing");
        let records = level.fields().next().map_or(0, |field| column(field.name).len());
        assert!((1..=GROUP_RECORDS).contains(&records), "{records} records");
        *total += records;
        for field in level.fields() {
            assert_eq!(column(field.name).len(), records, "{}", field.name);
            column(field.name).iter().for_each(|value| field.check_sent(value).expect(field.name));
        }
        // Of a user agent, product and version.
        let agents = columns.get("volume_provision_source_user_agent").and_then(Value::as_array);
        for agent in agents.into_iter().flatten().filter_map(Value::as_str) {
            let is_plain = agent.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-/".contains(c));
            assert!(is_plain && agent.matches('/').count() <= 1, "{agent:?}");
        }
    }
    assert_eq!(end, Some(json!({ "end": { "nodes": nodes, "volumes": volumes } })));
    let given: Value = serde_json::from_slice(json).expect("accepted and not JSON");
    let count = |name: &str| given[name].as_array().map_or(0, Vec::len);
    assert_eq!((nodes, volumes), (count("nodes"), count("volumes")), "records were lost or made up");
});
