//! docs/report.schema.json says of a report document what protocol/src/fields.rs says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use ondat_telemetry_protocol::fields::{Field, Kind, Level};
use ondat_telemetry_protocol::limits::{ENTRIES, STRING_BYTES, VERSION_BYTES};
use serde_json::{Map, Value, json};

const SCHEMA: &str = "docs/report.schema.json";

/// What a JSON Schema cannot say, or says otherwise. tests/real/report_schema.rs keeps off it.
const COMMENT: &str = "Lengths are of UTF-8 bytes; maxLength counts characters, so a string with others than ASCII may be \
                       refused that is accepted here. An integer is written in digits alone: 1.0, 1e0 and -0, which are \
                       integers here, are refused. So are, unseen from here, a day that its month does not have, a part of \
                       a version above 18446744073709551615, a number that no 64-bit float can hold, a string of more than \
                       1048576 bytes, a key that stands twice in one object, and half of a surrogate pair. Patterns are ECMA-262's: $ is the very end.";

/// Letters, digits and hyphens; a number has no leading zero (SemVer 2.0.0, 9).
const PRE_RELEASE: &str = "(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)";

fn schema() -> Value {
    let mut document = object(Level::Cluster);
    let lists = [("nodes", Level::Node), ("volumes", Level::Volume)];
    document["properties"]
        .as_object_mut()
        .unwrap()
        .extend(lists.map(|(name, level)| (name.to_owned(), json!({ "type": "array", "items": object(level) }))));
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": COMMENT,
        "title": "The document of Ondat's daily report, as a host gives it",
        "description": "Every field may be left out or null: unknown.",
    });
    document.as_object_mut().unwrap().extend(head.as_object().unwrap().clone());
    document
}

fn object(level: Level) -> Value {
    let fields: Map<String, Value> = level.fields().map(|field| (field.name.to_owned(), of(field))).collect();
    json!({ "type": "object", "properties": fields, "additionalProperties": false })
}

fn of(field: &Field) -> Value {
    let mut schema = match field.kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Count => count(u64::MAX),
        Kind::CountUpTo(most) => count(most),
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
        Kind::Text(form) => json!({ "type": "string", "pattern": format!("^{}$", form.pattern()) }),
        Kind::UserAgent | Kind::Distribution => json!({ "type": "string" }),
        Kind::Id(_) => {
            // White space around it does not count; within it, no control character may stand.
            let (around, inside) = ("[\\t-\\r ]*", "[^\\u0000-\\u001f\\u007f-\\u009f]");
            let edge = "[^\\u0000-\\u0020\\u007f-\\u009f]";
            let pattern = format!("^{around}{edge}({inside}{{0,{}}}{edge})?{around}$", STRING_BYTES - 2);
            json!({ "type": "string", "pattern": pattern })
        }
        Kind::Version => {
            let number = "(0|[1-9][0-9]*)";
            let pre = format!("(-{PRE_RELEASE}(\\.{PRE_RELEASE})*)?");
            let build = "(\\+[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*)?";
            let length = format!("(?=v?.{{1,{VERSION_BYTES}}}$)");
            let pattern = format!("^{length}v?{number}\\.{number}\\.{number}{pre}{build}$");
            json!({ "type": "string", "pattern": pattern })
        }
        Kind::Timestamp => {
            let date = "(19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
            let time = "([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\\.[0-9]+)?Z";
            json!({ "type": "string", "maxLength": STRING_BYTES, "pattern": format!("^{date}T{time}$") })
        }
        Kind::Labels => json!({
            "type": "object",
            "maxProperties": ENTRIES,
            "propertyNames": { "maxLength": STRING_BYTES },
            "additionalProperties": text(STRING_BYTES),
        }),
        Kind::Metrics => json!({
            "type": "object",
            "maxProperties": ENTRIES,
            "propertyNames": { "pattern": "^[a-z0-9_]{1,64}$" },
            "additionalProperties": { "type": "number" },
        }),
        Kind::ApiCalls => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9_]{1,64}$" },
            "additionalProperties": {
                "type": "object",
                "propertyNames": { "pattern": "^[1-5][0-9]{2}$" },
                "additionalProperties": count(u64::MAX),
            },
        }),
        Kind::Capacity => record(&["total", "free", "available"], &[]),
        Kind::EtcdConfig => record(&["endpoints"], &["namespaced", "tls"]),
    };
    allow_null(&mut schema);
    schema["description"] = field.expectation().into();
    schema
}

fn count(most: u64) -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": most })
}

fn text(bytes: usize) -> Value {
    json!({ "type": "string", "maxLength": bytes })
}

/// An object of these members, each of which may be left out or null.
fn record(counts: &[&str], bools: &[&str]) -> Value {
    let counts = counts.iter().map(|name| (*name, count(u64::MAX)));
    let bools = bools.iter().map(|name| (*name, json!({ "type": "boolean" })));
    let members = counts.chain(bools).map(|(name, mut schema)| {
        allow_null(&mut schema);
        (name.to_owned(), schema)
    });
    json!({ "type": "object", "properties": members.collect::<Map<_, _>>(), "additionalProperties": false })
}

fn allow_null(schema: &mut Value) {
    schema["type"] = json!([schema["type"], "null"]);
    if let Some(words) = schema.get_mut("enum") {
        words.as_array_mut().unwrap().push(Value::Null);
    }
}

/// `UPDATE_SCHEMA=1 cargo test --test schema` writes the file anew.
#[test]
fn the_committed_schema_equals_the_generated_one() {
    let generated = format!("{:#}\n", schema());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCHEMA);
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{SCHEMA} is stale: run UPDATE_SCHEMA=1 cargo test --test schema");
}
