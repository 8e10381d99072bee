//! One record on its way into the columns of a row group: checked and written field by field as it is read, with no tree
//! in between.
//!
//! The parser of serde_json calls the visitors here. For `{"volume_replicas":2,"volume_id":"v"}` that is, in this order:
//!
//! 1. `Row::visit_map`: a record begins.
//! 2. `Name::visit_str` with `volume_replicas`: which column is it? `Cell::visit_u64` with 2: checked, and written
//!    behind the column's other values as `,2`.
//! 3. The same for `volume_id`; the column gets `,"<anonymised id>"`.
//! 4. The group ends the record: every column that got nothing gets `,null`.
//!
//! If a value is refused, the visitor notes why in `Row::refused`, as serde carries only text, and the group takes back
//! what the record has written into any column.

use std::fmt;
use std::io::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::buffer::Buffer;
use crate::document::wrong_json;
use crate::fields::{Field, Given, Level};
use crate::identity::Anonymiser;
use crate::json::Strict;
use crate::limits::RECORD_BYTES;

/// The values of one field in the records of a row group, in the form in which they leave the process.
pub(super) struct Column {
    pub(super) field: &'static Field,
    /// As JSON, separated by commas.
    values: Buffer,
    /// Where the value of the record in the making begins.
    begin: usize,
}

impl Column {
    pub(super) fn all_of(level: Level) -> Vec<Self> {
        level.fields().map(|field| Self { field, values: Buffer::default(), begin: 0 }).collect()
    }

    /// The values of the group, which are forgotten with the next one.
    pub(super) fn values(&self) -> &[u8] {
        &self.values
    }

    pub(super) fn clear(&mut self) {
        self.values.clear();
    }

    /// A record begins.
    pub(super) fn begin(&mut self) {
        self.begin = self.values.len();
    }

    /// The record was refused.
    pub(super) fn take_back(&mut self) {
        self.values.truncate(self.begin);
    }

    /// The record ends. Where it said nothing, the value is unknown.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.is_given() {
            return Ok(());
        }
        self.separate()?;
        self.values.write_all(b"null")
    }

    /// Says what the record has not said.
    pub(super) fn fill(&mut self, count: u64, anonymiser: &mut Anonymiser) -> Result<(), Refusal> {
        if self.is_given() { Ok(()) } else { self.push(Given::Count(count), anonymiser) }
    }

    /// Whether the record in the making has this value, in the form in which it leaves the process.
    pub(super) fn is_value(&self, json: &[u8]) -> bool {
        let value = &self.values[self.begin..];
        value.strip_prefix(b",").unwrap_or(value) == json
    }

    fn is_given(&self) -> bool {
        self.values.len() > self.begin
    }

    fn separate(&mut self) -> io::Result<()> {
        if self.begin > 0 { self.values.write_all(b",") } else { Ok(()) }
    }

    fn push(&mut self, value: Given<'_>, anonymiser: &mut Anonymiser) -> Result<(), Refusal> {
        self.field.check(value).map_err(Refusal::Value)?;
        self.separate().map_err(|_| Refusal::Memory)?;
        self.field.publish(value, anonymiser, &mut self.values).map_err(|_| Refusal::Memory)
    }
}

/// Why a record is not taken.
pub(super) enum Refusal {
    /// This is wrong with it.
    Value(String),
    /// There is no memory for it.
    Memory,
}

/// Takes the fields of one record.
pub(super) struct Row<'a> {
    pub(super) columns: &'a mut [Column],
    pub(super) anonymiser: &'a mut Anonymiser,
    /// The column of the value that is being read.
    pub(super) at: Option<usize>,
    /// Which field the record was refused for, and why; serde carries only text of its own.
    pub(super) refused: Option<Refusal>,
}

impl<'a> Row<'a> {
    pub(super) fn new(columns: &'a mut [Column], anonymiser: &'a mut Anonymiser) -> Self {
        Self { columns, anonymiser, at: None, refused: None }
    }

    /// What is wrong, the field first where it is known: to stand behind the record's name.
    pub(super) fn why(self, error: &serde_json::Error) -> Refusal {
        let field = self.at.and_then(|at| self.columns.get(at)).map(|column| column.field);
        match (self.refused, field) {
            (Some(refused), _) => refused,
            (None, Some(field)) => Refusal::Value(format!(".{}: {}", field.name, wrong_json(Some(field), error))),
            (None, None) => Refusal::Value(format!(": not a JSON object: {error}")),
        }
    }

    fn refuse<E: serde::de::Error>(&mut self, field: &str, why: &str) -> E {
        self.refused = Some(Refusal::Value(format!(".{field}: {why}")));
        E::custom("refused")
    }
}

impl<'de> Visitor<'de> for &mut Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Hosts mostly give fields in the list's order.
        let mut next = 0;
        while let Some(at) = map.next_key_seed(Name { row: self, next })? {
            next = at + 1;
            self.at = Some(at);
            map.next_value_seed(Cell { row: self, at })?;
            self.at = None;
        }
        Ok(())
    }
}

/// The name of a field, read into the place of its column.
struct Name<'a, 'r> {
    row: &'a mut Row<'r>,
    next: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        let is_named = |column: &Column| column.field.name == name;
        let columns = &self.row.columns;
        let is_next = columns.get(self.next).is_some_and(is_named);
        let Some(at) = Some(self.next).filter(|_| is_next).or_else(|| columns.iter().position(is_named)) else {
            let name: String = name.chars().take(64).collect();
            return Err(self.row.refuse(&name, "not one of the fields of the report"));
        };
        if columns[at].is_given() {
            return Err(self.row.refuse(name, "stands twice in one object"));
        }
        Ok(at)
    }
}

/// The value of the field of one column.
struct Cell<'a, 'r> {
    row: &'a mut Row<'r>,
    at: usize,
}

impl Cell<'_, '_> {
    fn put<E: serde::de::Error>(self, value: Given<'_>) -> Result<(), E> {
        let column = &mut self.row.columns[self.at];
        let name = column.field.name;
        column.push(value, self.row.anonymiser).map_err(|refusal| match refusal {
            Refusal::Value(expected) => self.row.refuse(name, &expected),
            Refusal::Memory => {
                self.row.refused = Some(Refusal::Memory);
                E::custom("refused")
            }
        })
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.put(Given::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.put(Given::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.put(Given::Count(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.put(u64::try_from(value).map_or(Given::Other, Given::Count))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.put(Given::Other)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.put(Given::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.put(Given::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        match (Strict { left: &mut { RECORD_BYTES }, place: None }).visit_map(map)? {
            value @ Value::Object(_) => self.put(Given::from(&value)),
            _ => Err(A::Error::custom("not an object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::super::writer::{Heading, OwnNode, Writer};
    use super::*;
    use crate::fault::Fault;
    use crate::identity::{Identity, Purpose};
    use crate::json::read_object;
    use crate::limits::GROUP_RECORDS;

    fn document() -> Writer<Vec<u8>> {
        let heading = Heading { id: [7; 16], day: "2026-01-31".to_owned() };
        Writer::new(Vec::new(), &Identity::from_key([7; 32]), heading, Map::new(), OwnNode::default())
    }

    const VOLUMES: [&str; 4] = [
        r#"{"volume_size_bytes":18446744073709551615,"volume_id":"v-1","volume_fs_type":"xfs","volume_replicas":null}"#,
        "{}",
        r#"{"volume_labels":{"team":"a\u0041\n","storageos.com/replicas":"2","app":""},"volume_id":"größer"}"#,
        r#"{"volume_metrics":{"b":2,"a":0.5},"volume_provision_source_user_agent":"cli/2.4 (host)"}"#,
    ];

    #[test]
    fn what_is_known_of_the_own_node_holds_unless_the_host_says_otherwise() {
        let heading = Heading { id: [7; 16], day: "2026-01-31".to_owned() };
        let identity = Identity::from_key([7; 32]);
        let own_node = OwnNode { id: identity.anonymise(Purpose::Node, "own"), crash_files: Some(3) };
        let mut document = Writer::new(Vec::new(), &identity, heading, Map::new(), own_node);
        for node in [
            r#"{"node_id":"own"}"#,
            r#"{"node_id":"other"}"#,
            "{}",
            r#"{"node_crash_files_on_disk":5,"node_id":"own"}"#,
        ] {
            document.add_json(Level::Node, node.as_bytes()).unwrap();
        }
        document.add_json(Level::Volume, br#"{"volume_id":"own"}"#).unwrap();
        let written = String::from_utf8(document.finish().unwrap()).unwrap();
        assert!(written.contains(r#""node_crash_files_on_disk":[3,null,null,5]"#), "{written}");
    }

    #[test]
    fn a_record_is_written_the_same_from_json_and_from_a_tree() {
        let (mut read, mut given) = (document(), document());
        for volume in VOLUMES {
            read.add_json(Level::Volume, volume.as_bytes()).unwrap();
            given.add(Level::Volume, read_object(volume.as_bytes()).unwrap()).unwrap();
        }
        let (read, given) = (read.finish().unwrap(), given.finish().unwrap());
        assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&given));

        let lines: Vec<Value> = read.split(|byte| *byte == b'\n').flat_map(serde_json::from_slice).collect();
        let volumes = &lines[1]["volumes"];
        let identity = Identity::from_key([7; 32]);
        let id = |raw| identity.anonymise_hex(Purpose::Volume, raw);
        assert_eq!(volumes["volume_id"], json!([id("v-1"), null, id("größer"), null]));
        assert_eq!(volumes["volume_size_bytes"], json!([u64::MAX, null, null, null]));
        assert_eq!(volumes["volume_labels"][2]["storageos.com/replicas"], "2");
        assert_eq!(volumes["volume_metrics"], json!([null, null, null, { "a": 0.5, "b": 2 }]));
        assert_eq!(volumes["volume_provision_source_user_agent"][3], "cli/2.4");
        for field in Level::Volume.fields() {
            assert_eq!(volumes[field.name].as_array().unwrap().len(), VOLUMES.len(), "{}", field.name);
        }
    }

    #[test]
    fn a_refused_record_leaves_nothing_behind() {
        let mut document = document();
        document.add_json(Level::Volume, VOLUMES[0].as_bytes()).unwrap();
        for (json, why) in [
            (r#"{"volume_id":"half","volume_replicas":6}"#, "volumes[1].volume_replicas: expected an integer"),
            (r#"{"volume_id":"half","volume_name":1}"#, "volumes[2].volume_name: not one of the fields"),
            (r#"{"volume_id":"half","volume_id":"half"}"#, "volumes[3].volume_id: stands twice"),
            (r#"{"volume_id":"half","volume_labels":{"a":"x","a":"x"}}"#, "volumes[4].volume_labels: the key"),
            (r#"{"volume_id":"half""#, "volumes[5]: not a JSON object: EOF"),
            (r#"{"volume_id":"half"},"#, "volumes[6]: not a JSON object: trailing"),
            (
                &format!("{{\"volume_id\":\"{}\"}}", "x".repeat(2 << 20)),
                "volumes[7]: not a JSON object: a string of more",
            ),
        ] {
            let error = document.add_json(Level::Volume, json.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(why), "{error} does not hold {why}");
        }
        document.add_json(Level::Volume, VOLUMES[1].as_bytes()).unwrap();
        let report = document.finish().unwrap();
        let mut expected = self::document();
        expected.add_json(Level::Volume, VOLUMES[0].as_bytes()).unwrap();
        expected.add_json(Level::Volume, VOLUMES[1].as_bytes()).unwrap();
        assert_eq!(String::from_utf8_lossy(&report), String::from_utf8_lossy(&expected.finish().unwrap()));
    }

    /// A disk that is full for a while.
    struct Full<'a>(&'a std::cell::Cell<bool>);

    impl Write for Full<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.get() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_report_that_lacks_a_part_is_none() {
        let is_full = std::cell::Cell::new(false);
        let heading = Heading { id: [7; 16], day: "2026-01-31".to_owned() };
        let mut document =
            Writer::new(Full(&is_full), &Identity::from_key([7; 32]), heading, Map::new(), OwnNode::default());
        for _ in 1..GROUP_RECORDS {
            document.add_json(Level::Volume, b"{}").unwrap();
        }
        is_full.set(true);
        let of_the_disk = document.add_json(Level::Volume, b"{}");
        is_full.set(false);
        let later = document.add_json(Level::Volume, b"{}");
        for outcome in [of_the_disk, later, document.finish().map(drop)] {
            assert!(matches!(outcome, Err(Fault::Unwritten(_))), "{outcome:?}");
        }
    }
}
