//! JSON as others write it, read strictly: no key twice in one object, and nothing that would take endless memory.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::buffer::is_room_for;
use crate::fault::Fault;
use crate::limits::RECORD_BYTES;

/// The longest string that is looked at, in bytes as written. Far above what any field may hold, so that nearly all
/// strings that are too long are refused with the record and the field they stand in.
pub(crate) const STRING_BYTES: usize = 1 << 20;
/// The deepest nesting, serde_json's own limit.
pub(crate) const DEPTH: usize = 128;
/// What a value takes besides its text.
pub(crate) const VALUE_BYTES: usize = 64;
/// How much memory reading takes for each byte of a record, and at most: a tree of it, and what growing it leaves unused.
/// Less than this is asked for like anything else.
const MEMORY_PER_BYTE: usize = 64;
const MOST_MEMORY: usize = 24 << 20;
const LITTLE_MEMORY: usize = 1 << 20;

/// What is wrong with a JSON object: in this member, unless that is empty.
pub(crate) struct Wrong {
    pub(crate) member: String,
    pub(crate) why: String,
}

impl From<Wrong> for Fault {
    fn from(Wrong { member, why }: Wrong) -> Self {
        if member.is_empty() {
            return not_json(&why);
        }
        let member: String = member.chars().take(64).collect();
        Self::Invalid(format!("{member}: {why}"))
    }
}

/// Reads one JSON object.
pub fn read_object(json: &[u8]) -> Result<Map<String, Value>, Fault> {
    read_members(json, |wrong| wrong.into())
}

/// Reads one JSON object; `fault` says what is wrong with it.
pub(crate) fn read_members(json: &[u8], fault: impl FnOnce(Wrong) -> Fault) -> Result<Map<String, Value>, Fault> {
    check_form(json)?;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let mut place = None;
    let strict = Strict { left: &mut { RECORD_BYTES }, place: Some(&mut place) };
    let object = match strict.deserialize(&mut reader) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Err(Fault::Invalid("expected a JSON object".to_owned())),
        Err(error) => return Err(fault(Wrong { member: place.unwrap_or_default(), why: error.to_string() })),
    };
    reader.end().map_err(|error| not_json(&error))?;
    Ok(object)
}

/// [`check_form`] of one record: none that is no longer than a string may be can hold one that is, and the parser bounds
/// the nesting itself.
pub(crate) fn check_size(json: &[u8]) -> Result<(), Fault> {
    if json.len() > STRING_BYTES { check_form(json) } else { Ok(()) }
}

/// Refuses what the parser would copy before anybody could look at it: endless strings, endless nesting. What is not
/// JSON for another reason is left to the parser. Also refused is what there is no memory for: the parser would end the
/// process.
pub(crate) fn check_form(json: &[u8]) -> Result<(), Fault> {
    let memory = json.len().saturating_mul(MEMORY_PER_BYTE).min(MOST_MEMORY);
    if memory > LITTLE_MEMORY && !is_room_for(memory) {
        return Err(Fault::Internal(format!("{memory} bytes of memory are not to be had for reading the report")));
    }
    let mut depth = 0_usize;
    let mut bytes = json.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                while let Some((end, byte)) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                    if end - at > STRING_BYTES {
                        return Err(refused(json, at, &format!("a string of more than {STRING_BYTES} bytes")));
                    }
                }
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH {
                    return Err(refused(json, at, "recursion limit exceeded"));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Names the place as serde_json does.
fn refused(json: &[u8], at: usize, why: &str) -> Fault {
    let before = &json[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    Fault::Invalid(format!("{why} at line {line} column {column}"))
}

pub(crate) fn not_json(error: &impl fmt::Display) -> Fault {
    Fault::Invalid(format!("not a JSON document: {error}"))
}

pub(crate) fn duplicate<E: serde::de::Error>(key: &str) -> E {
    E::custom(format!("the key {:?} stands twice in one object", key.chars().take(64).collect::<String>()))
}

/// Takes the room of one value from what is left of a record's.
pub(crate) fn spend<E: serde::de::Error>(left: &mut usize, bytes: usize) -> Result<(), E> {
    *left = left.checked_sub(VALUE_BYTES + bytes).ok_or_else(|| E::custom("a record is larger than any can be"))?;
    Ok(())
}

/// A JSON value without duplicate keys, out of a record that has this much room left.
pub(crate) struct Strict<'a> {
    pub(crate) left: &'a mut usize,
    /// Where it is noted that it has begun, and which member of it is being read.
    pub(crate) place: Option<&'a mut Option<String>>,
}

impl Strict<'_> {
    fn next(&mut self) -> Strict<'_> {
        Strict { left: self.left, place: None }
    }

    fn text<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        spend(self.left, text.len())?;
        Ok(text.into())
    }

    fn scalar<E: serde::de::Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        spend(self.left, 0)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Value, D::Error> {
        if let Some(place) = &mut self.place {
            **place = Some(String::new());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that is not finite"))?;
        self.scalar(number)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        spend(self.left, 0)?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.next())? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        spend(self.left, 0)?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            spend(self.left, key.len())?;
            if let Some(Some(name)) = self.place.as_deref_mut() {
                name.clone_from(&key);
            }
            let value = map.next_value_seed(self.next())?;
            if let Some(Some(name)) = self.place.as_deref_mut() {
                name.clear();
            }
            if object.insert(key.clone(), value).is_some() {
                return Err(duplicate(&key));
            }
        }
        Ok(Value::Object(object))
    }
}
