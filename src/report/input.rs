//! Reading what the host gives: a whole document, or one object at a time. Strict: duplicate keys are refused, and a
//! document is walked twice instead of being held in memory as a tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::fields::Level;
use crate::error::Error;

/// Where records go: [`super::document::Document`], or nowhere when only checking.
pub trait Records {
    /// The cluster fields.
    fn set_cluster(&mut self, fields: Map<String, Value>) -> Result<(), Error>;
    /// One node or volume.
    fn add(&mut self, level: Level, record: Map<String, Value>) -> Result<(), Error>;
}

impl<W: std::io::Write> Records for super::document::Document<W> {
    fn set_cluster(&mut self, fields: Map<String, Value>) -> Result<(), Error> {
        Self::set_cluster(self, fields)
    }

    fn add(&mut self, level: Level, record: Map<String, Value>) -> Result<(), Error> {
        Self::add(self, level, record)
    }
}

/// Reads one JSON object: the cluster fields, a node or a volume.
pub fn read_object(json: &[u8]) -> Result<Map<String, Value>, Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let object = match Strict.deserialize(&mut reader) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(Error::InvalidReport("expected a JSON object".to_owned())),
        Err(error) => return Err(not_json(&error)),
    };
    reader.end().map_err(|error| not_json(&error))?;
    Ok(object)
}

/// Reads a whole document, `{cluster fields..., "nodes": [...], "volumes": [...]}`, into `records`.
pub fn read_document<R: Records>(json: &[u8], records: &mut R) -> Result<(), Error> {
    // The cluster fields go first although they may stand last, hence two walks.
    let mut cluster = Map::new();
    walk::<R>(json, &mut Walk::Cluster(&mut cluster))?;
    records.set_cluster(cluster)?;
    walk(json, &mut Walk::Lists(records))
}

fn not_json(error: &serde_json::Error) -> Error {
    Error::InvalidReport(format!("not a JSON document: {error}"))
}

fn walk<R: Records>(json: &[u8], walk: &mut Walk<'_, R>) -> Result<(), Error> {
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
    failure: &'a mut Option<Error>,
}

impl<'de, R: Records> Visitor<'de> for Top<'_, '_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the cluster fields, `nodes` and `volumes`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut has_nodes, mut has_volumes) = (false, false);
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
                    let value = map.next_value_seed(Strict)?;
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
    failure: &'a mut Option<Error>,
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
        while let Some(value) = list.next_element_seed(Strict)? {
            let Value::Object(record) = value else {
                return Err(A::Error::custom(format!("record {index} of the list is not an object")));
            };
            if let Err(error) = self.records.add(self.level, record) {
                *self.failure = Some(error);
                return Err(A::Error::custom("refused"));
            }
            index += 1;
        }
        Ok(())
    }
}

fn duplicate<E: serde::de::Error>(key: &str) -> E {
    E::custom(format!("the key {:?} stands twice in one object", key.chars().take(64).collect::<String>()))
}

/// A JSON value without duplicate keys. Its depth is bounded by serde_json's recursion limit of 128.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Self)?;
            if object.insert(key.clone(), value).is_some() {
                return Err(duplicate(&key));
            }
        }
        Ok(Value::Object(object))
    }
}
