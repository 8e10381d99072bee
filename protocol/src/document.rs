//! Reading what the host gives: a whole document, or one object at a time. Strict: duplicate keys are refused. A
//! document is walked several times instead of being held in memory as a tree: whatever its size and form, no more than
//! one record of it is held at a time, and that only while it is no larger than a record can be.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::fault::Fault;
use crate::fields::{Field, Level};
use crate::json::{Strict, check_form, duplicate, not_json, read_members, spend};
use crate::limits::RECORD_BYTES;

/// Where records go: [`crate::plaintext::writer::Writer`], or nowhere when only checking.
pub trait Records {
    /// The cluster fields.
    fn set_cluster(&mut self, fields: Map<String, Value>) -> Result<(), Fault>;
    /// One node or volume.
    fn add(&mut self, level: Level, record: Map<String, Value>) -> Result<(), Fault>;
}

/// Reads the cluster fields, one JSON object.
pub fn read_cluster(json: &[u8]) -> Result<Map<String, Value>, Fault> {
    read_members(json, |wrong| in_field(Level::Cluster, &wrong.member, &wrong.why))
}

/// Reads a whole document, `{cluster fields..., "nodes": [...], "volumes": [...]}`, into `records`.
pub fn read_document<R: Records>(json: &[u8], records: &mut R) -> Result<(), Fault> {
    check_form(json)?;
    // The cluster fields go first although they may stand last, hence two walks.
    let mut cluster = Map::new();
    walk::<R>(json, &mut Walk::Cluster(&mut cluster))?;
    records.set_cluster(cluster)?;
    walk(json, &mut Walk::Lists(records))
}

/// What is wrong with the JSON of a field.
fn in_field(level: Level, name: &str, error: &impl fmt::Display) -> Fault {
    if name.is_empty() {
        return not_json(error);
    }
    let name: String = name.chars().take(64).collect();
    Fault::Invalid(format!("{name}: {}", wrong_json(level.field(&name), error)))
}

/// What the parser has against a value. Of numbers that it cannot hold it does not know what was expected.
pub(crate) fn wrong_json(field: Option<&Field>, error: &impl fmt::Display) -> String {
    let why = error.to_string();
    let field = field.filter(|_| why.starts_with("number out of range"));
    field.map_or_else(|| why.clone(), |field| format!("{why}; expected {}", field.expectation()))
}

fn walk<R: Records>(json: &[u8], walk: &mut Walk<'_, R>) -> Result<(), Fault> {
    let mut failure = None;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let outcome = (&mut reader).deserialize_map(Top { walk, failure: &mut failure });
    // serde carries only text; the error of a record keeps its status beside it.
    match (outcome, failure) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(not_json(&error)),
        (Ok(()), None) => reader.end().map_err(|error| not_json(&error)),
    }
}

enum Walk<'a, R> {
    Cluster(&'a mut Map<String, Value>),
    Lists(&'a mut R),
}

struct Top<'a, 'w, R> {
    walk: &'a mut Walk<'w, R>,
    failure: &'a mut Option<Fault>,
}

impl<'de, R: Records> Visitor<'de> for Top<'_, '_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the cluster fields, `nodes` and `volumes`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut has_nodes, mut has_volumes) = (false, false);
        let mut left = RECORD_BYTES;
        while let Some(key) = map.next_key::<String>()? {
            let list = match key.as_str() {
                "nodes" => Some((Level::Node, std::mem::replace(&mut has_nodes, true))),
                "volumes" => Some((Level::Volume, std::mem::replace(&mut has_volumes, true))),
                _ => None,
            };
            if let Some((_, true)) = list {
                return Err(duplicate(&key));
            }
            match (&mut *self.walk, list) {
                (Walk::Cluster(_), Some(_)) | (Walk::Lists(_), None) => {
                    map.next_value::<IgnoredAny>()?;
                }
                (Walk::Cluster(fields), None) => {
                    spend(&mut left, key.len())?;
                    let value = map.next_value_seed(Strict { left: &mut left, place: None }).inspect_err(|error| {
                        *self.failure = Some(in_field(Level::Cluster, &key, error));
                    })?;
                    if fields.insert(key.clone(), value).is_some() {
                        return Err(duplicate(&key));
                    }
                }
                (Walk::Lists(records), Some((level, _))) => {
                    map.next_value_seed(List { level, records: *records, failure: self.failure })?;
                }
            }
        }
        Ok(())
    }
}

struct List<'a, R> {
    level: Level,
    records: &'a mut R,
    failure: &'a mut Option<Fault>,
}

impl<'de, R: Records> DeserializeSeed<'de> for List<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, R: Records> Visitor<'de> for List<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut index = 0_usize;
        loop {
            let mut place = None;
            let next = list.next_element_seed(Strict { left: &mut { RECORD_BYTES }, place: Some(&mut place) });
            let value = match next {
                Ok(Some(value)) => value,
                Ok(None) => return Ok(()),
                Err(error) => {
                    *self.failure = place.map(|name| self.level.in_record(index, &name, &error));
                    return Err(error);
                }
            };
            let Value::Object(record) = value else {
                return Err(A::Error::custom(format!("record {index} of the list is not an object")));
            };
            if let Err(error) = self.records.add(self.level, record) {
                *self.failure = Some(error);
                return Err(A::Error::custom("refused"));
            }
            index += 1;
        }
    }
}

impl Level {
    /// What is wrong with the JSON of a record, in this field unless that is empty.
    fn in_record(self, index: usize, name: &str, error: &impl fmt::Display) -> Fault {
        let list = if self == Self::Node { "nodes" } else { "volumes" };
        let name: String = name.chars().take(64).collect();
        let point = if name.is_empty() { "" } else { "." };
        Fault::Invalid(format!("{list}[{index}]{point}{name}: {}", wrong_json(self.field(&name), error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{DEPTH, STRING_BYTES, VALUE_BYTES, read_object};

    /// Counts what comes.
    #[derive(Default)]
    struct Counted {
        cluster_fields: usize,
        records: usize,
    }

    impl Records for Counted {
        fn set_cluster(&mut self, fields: Map<String, Value>) -> Result<(), Fault> {
            self.cluster_fields = fields.len();
            Ok(())
        }

        fn add(&mut self, _: Level, _: Map<String, Value>) -> Result<(), Fault> {
            self.records += 1;
            Ok(())
        }
    }

    fn read(json: impl AsRef<[u8]>) -> Result<(usize, usize), String> {
        let mut counted = Counted::default();
        match read_document(json.as_ref(), &mut counted) {
            Ok(()) => Ok((counted.cluster_fields, counted.records)),
            Err(Fault::Invalid(why)) => Err(why),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn refused(json: impl AsRef<[u8]>, parts: &[&str]) {
        let why = read(json).unwrap_err();
        assert!(parts.iter().all(|part| why.contains(part)), "{why:?} should hold {parts:?}");
    }

    #[test]
    fn lists_and_cluster_fields_may_stand_in_any_order() {
        assert_eq!(read(r#"{"nodes":[{},{"a":[1]}],"b":{},"volumes":[{}],"c":"\"]\\"}"#), Ok((2, 3)));
        assert_eq!(read("{}"), Ok((0, 0)));
    }

    #[test]
    fn what_is_no_document_is_refused_with_the_place() {
        refused(b"{\"a\":\n \"\xff\"}", &["unicode", "line 2 column"]);
        refused(b"{\"nodes\":[{\"a\":\"\xff\"}]}", &["unicode", "line 1 column 17"]);
        refused(b"{\"\xff\":1}", &["unicode", "line 1"]);
        refused(r#"{"a":1,"b":{"c":1,"c":1}}"#, &["\"c\" stands twice", "line 1 column"]);
        refused(r#"{"volumes":[{"a":1,"a":1}]}"#, &["\"a\" stands twice", "line 1 column"]);
        refused(r#"{"nodes":[],"nodes":[]}"#, &["\"nodes\" stands twice", "line 1 column"]);
        for number in ["NaN", "Infinity", "-Infinity", "1e999", "-", "01", "0x1", "+1", ".5"] {
            refused(format!("{{\"nodes\":[{{\"a\":{number}}}]}}"), &["line 1 column"]);
        }
        for text in ["\\ud800", "\\udc00", "\\ud800\\u0041", "\\x", "\n", "\0"] {
            refused(format!("{{\"a\":\"{text}\"}}"), &["at line"]);
            refused(format!("{{\"nodes\":[{{\"a\":\"{text}\"}}]}}"), &["at line"]);
        }
        refused("{} {}", &["trailing", "line 1 column 4"]);
        refused("\u{feff}{}", &["line 1 column 1"]);
        refused("", &["EOF", "line 1 column 0"]);
    }

    #[test]
    fn nesting_is_bounded_wherever_it_stands() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for depth in [200, 10_000] {
            for document in [
                format!("{{\"a\":{}}}", nested(depth)),
                format!("{{\"nodes\":{}}}", nested(depth)),
                format!("{{\"nodes\":[{{\"a\":{}}}]}}", nested(depth)),
                "[".repeat(depth),
                "{\"a\":".repeat(depth),
            ] {
                refused(document, &["recursion limit exceeded at line 1 column"]);
            }
        }
        assert_eq!(read(format!("{{\"a\":{}}}", nested(100))), Ok((1, 0)));
    }

    #[test]
    fn the_place_is_counted_as_the_parser_does() {
        let document = format!("{{\n\"a\":\n  {}", "[".repeat(DEPTH));
        refused(document, &["line 3 column 130"]);
    }

    #[test]
    fn strings_are_bounded() {
        let long = "x".repeat(STRING_BYTES);
        assert_eq!(read(format!("{{\"a\":\"{long}\"}}")), Ok((1, 0)));
        for long in ["x".repeat(STRING_BYTES + 1), "\\n".repeat(STRING_BYTES / 2 + 1)] {
            let why = "a string of more than 1048576 bytes at line 1 column";
            refused(format!("{{\"a\":\"{long}\"}}"), &[why]);
            refused(format!("{{\"{long}\":1}}"), &[why]);
            refused(format!("{{\"nodes\":[\"{long}\"]}}"), &[why]);
            refused(format!("{{\"a\":\"{long}"), &[why]);
        }
        let quoted = "\\\"".repeat(STRING_BYTES / 4);
        assert_eq!(read(format!("{{\"a\":\"{quoted}\",\"b\":\"\"}}")), Ok((2, 0)));
    }

    #[test]
    fn records_are_bounded_and_their_number_is_not() {
        let zeros = format!("[0{}]", ",0".repeat(RECORD_BYTES / VALUE_BYTES));
        let fields: Vec<String> = (0..RECORD_BYTES / VALUE_BYTES).map(|number| format!("\"a{number}\":0")).collect();
        let fields = fields.join(",");
        let strings = format!("[\"{0}\",\"{0}\",\"{0}\",\"{0}\"]", "x".repeat(STRING_BYTES - 2));
        for document in [
            format!("{{\"a\":{zeros}}}"),
            format!("{{{fields}}}"),
            format!("{{\"a\":{strings}}}"),
            format!("{{\"nodes\":[{{}},{{\"a\":{zeros}}}]}}"),
            format!("{{\"nodes\":[{{{fields}}}]}}"),
            format!("{{\"volumes\":[{{\"a\":{strings}}}]}}"),
        ] {
            refused(document, &["larger than any can be", "at line 1 column"]);
        }
        assert!(read_object(format!("{{{fields}}}").as_bytes()).is_err());
        assert_eq!(read(format!("{{\"volumes\":[{{}}{}]}}", ",{}".repeat(100_000))), Ok((0, 100_001)));
    }
}
