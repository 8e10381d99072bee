//! A report written down: JSON lines, nodes and volumes in row groups, each column by column. Preview, audit copy
//! and sealed plaintext are the same bytes because they come from here.

use std::io::{self, ErrorKind, Write};

use data_encoding::HEXLOWER;
use serde::Deserializer as _;
use serde_json::{Map, Value};

use super::SCHEMA;
use super::row::{Column, Refusal, Row};
use crate::buffer::Buffer;
use crate::document::Records;
use crate::fault::Fault;
use crate::fields::Level;
use crate::identity::{Anonymiser, Identity};
use crate::json::check_size;
use crate::limits::{GROUP_RECORDS, REPORT_BYTES};

/// What stands in every report besides the fields.
#[derive(Clone, Debug)]
pub struct Heading {
    /// The report's id.
    pub id: [u8; 16],
    /// The UTC day, `YYYY-MM-DD`.
    pub day: String,
}

/// What the library itself knows of the node that reports.
#[derive(Clone, Debug, Default)]
pub struct OwnNode {
    /// Its anonymised id.
    pub id: [u8; 16],
    /// How many core files of watched processes are there, where that is known.
    pub crash_files: Option<u64>,
}

/// Writes one report as records come in. Holds at most one row group of each kind.
pub struct Writer<W: Write> {
    out: Bounded<W>,
    anonymiser: Anonymiser,
    heading: Heading,
    /// Filled in where the host says nothing.
    defaults: Map<String, Value>,
    own_node: OwnNode,
    cluster: Option<Map<String, Value>>,
    is_head_written: bool,
    /// Something of it could not be written: it must not be taken for a report.
    is_spoiled: bool,
    nodes: Group,
    volumes: Group,
}

impl<W: Write> Writer<W> {
    /// An empty report. `defaults` are cluster fields that hold unless the host sets them, and so is what is known of
    /// the node that reports.
    pub fn new(out: W, identity: &Identity, heading: Heading, defaults: Map<String, Value>, own_node: OwnNode) -> Self {
        Self {
            out: Bounded { out, room: REPORT_BYTES },
            anonymiser: Anonymiser::new(identity),
            heading,
            defaults,
            own_node,
            cluster: None,
            is_head_written: false,
            is_spoiled: false,
            nodes: Group::new("nodes", Level::Node),
            volumes: Group::new("volumes", Level::Volume),
        }
    }

    /// Sets the cluster fields, once and before the first row group is full. A refused object changes nothing.
    pub fn set_cluster(&mut self, fields: Map<String, Value>) -> Result<(), Fault> {
        if self.cluster.is_some() {
            return Err(Fault::State("the cluster fields of this report are already set".to_owned()));
        }
        if self.is_head_written {
            return Err(Fault::State(format!("the cluster fields come before record {GROUP_RECORDS}")));
        }
        check(&fields)?;
        self.cluster = Some(fields);
        Ok(())
    }

    /// Adds one node or volume. A refused record changes nothing.
    pub fn add(&mut self, level: Level, record: Map<String, Value>) -> Result<(), Fault> {
        self.read(level, |row| record.deserialize_map(row))
    }

    /// Adds one node or volume from one JSON object. A refused record changes nothing.
    pub fn add_json(&mut self, level: Level, json: &[u8]) -> Result<(), Fault> {
        let checked = check_size(json);
        if let Err(error @ Fault::Internal(_)) = checked {
            return Err(error);
        }
        self.read(level, |row| {
            checked.map_err(serde::de::Error::custom)?;
            // Checked at one go instead of string by string.
            let json = std::str::from_utf8(json).map_err(serde::de::Error::custom)?;
            let mut reader = serde_json::Deserializer::from_str(json);
            reader.deserialize_map(row)?;
            reader.end()
        })
    }

    fn read(&mut self, level: Level, record: impl FnOnce(&mut Row<'_>) -> serde_json::Result<()>) -> Result<(), Fault> {
        self.refuse_if_spoiled()?;
        let group = if level == Level::Node { &mut self.nodes } else { &mut self.volumes };
        group.read(&mut self.anonymiser, &self.own_node, record)?;
        if group.records == GROUP_RECORDS { self.write(level) } else { Ok(()) }
    }

    fn refuse_if_spoiled(&self) -> Result<(), Fault> {
        if self.is_spoiled {
            Err(Fault::Unwritten("a part of the report could not be written".to_owned()))
        } else {
            Ok(())
        }
    }

    /// Writes the cluster fields, unless they are, and the row group.
    fn write(&mut self, level: Level) -> Result<(), Fault> {
        self.refuse_if_spoiled()?;
        let written = self.write_lines(level);
        self.is_spoiled = written.is_err();
        written
    }

    fn write_lines(&mut self, level: Level) -> Result<(), Fault> {
        if !self.is_head_written {
            self.is_head_written = true;
            let head = head(&self.heading, self.cluster.as_ref(), &self.defaults, &mut self.anonymiser)?;
            self.out.take_room(head.len())?;
            self.out.write(&head)?;
        }
        let group = if level == Level::Node { &mut self.nodes } else { &mut self.volumes };
        group.write_line(&mut self.out)
    }

    /// Writes what is left and the closing line, and gives the output back.
    pub fn finish(mut self) -> Result<W, Fault> {
        self.write(Level::Node)?;
        self.write(Level::Volume)?;
        let end = format!("{{\"end\":{{\"nodes\":{},\"volumes\":{}}}}}\n", self.nodes.written, self.volumes.written);
        self.out.take_room(end.len())?;
        self.out.write(end.as_bytes())?;
        Ok(self.out.out)
    }
}

/// The first line: the heading and the cluster fields.
fn head(
    heading: &Heading,
    fields: Option<&Map<String, Value>>,
    defaults: &Map<String, Value>,
    anonymiser: &mut Anonymiser,
) -> Result<Buffer, Fault> {
    let mut line = Buffer::default();
    let (id, day) = (HEXLOWER.encode(&heading.id), &heading.day);
    write!(line, "{{\"schema\":\"{SCHEMA}\",\"report_id\":\"{id}\",\"day\":\"{day}\"")
        .map_err(|error| failed(&error))?;
    for field in Level::Cluster.fields() {
        let given = fields.and_then(|fields| fields.get(field.name)).filter(|value| !value.is_null());
        let value = given.or_else(|| defaults.get(field.name)).unwrap_or(&Value::Null);
        write!(line, ",\"{}\":", field.name).map_err(|error| failed(&error))?;
        field.publish(value.into(), anonymiser, &mut line).map_err(|error| failed(&error.into()))?;
    }
    line.write_all(b"}\n").map_err(|error| failed(&error))?;
    Ok(line)
}

/// A report that cannot be written on.
fn failed(error: &io::Error) -> Fault {
    if error.kind() == ErrorKind::OutOfMemory {
        no_memory()
    } else {
        Fault::Unwritten(format!("writing the report: {error}"))
    }
}

fn no_memory() -> Fault {
    Fault::Internal("there is no memory for the report".to_owned())
}

/// One row group in the making, column by column.
struct Group {
    name: &'static str,
    columns: Vec<Column>,
    records: usize,
    written: usize,
    /// Records that the host has given, refused ones too: its own count, by which it knows the one that an error names.
    given: usize,
}

impl Group {
    fn new(name: &'static str, level: Level) -> Self {
        Self { name, columns: Column::all_of(level), records: 0, written: 0, given: 0 }
    }

    fn read(
        &mut self,
        anonymiser: &mut Anonymiser,
        own_node: &OwnNode,
        record: impl FnOnce(&mut Row<'_>) -> serde_json::Result<()>,
    ) -> Result<(), Fault> {
        let index = self.given;
        self.given += 1;
        self.columns.iter_mut().for_each(Column::begin);
        let mut row = Row::new(&mut self.columns, anonymiser);
        let taken =
            record(&mut row).map_err(|error| row.why(&error)).and_then(|()| self.complete(anonymiser, own_node));
        if let Err(refusal) = taken {
            self.columns.iter_mut().for_each(Column::take_back);
            return Err(match refusal {
                Refusal::Value(why) => Fault::Invalid(format!("{}[{index}]{why}", self.name)),
                Refusal::Memory => no_memory(),
            });
        }
        self.records += 1;
        Ok(())
    }

    /// Says what the record has not said.
    fn complete(&mut self, anonymiser: &mut Anonymiser, own_node: &OwnNode) -> Result<(), Refusal> {
        if let Some(count) = own_node.crash_files.filter(|_| self.is_of(&own_node.id))
            && let Some(column) = self.columns.iter_mut().find(|column| column.field.name == "node_crash_files_on_disk")
        {
            column.fill(count, anonymiser)?;
        }
        self.columns.iter_mut().try_for_each(Column::end).map_err(|_| Refusal::Memory)
    }

    /// Whether the record in the making is that of this node.
    fn is_of(&self, node: &[u8; 16]) -> bool {
        let mut ids = self.columns.iter().filter(|column| column.field.name == "node_id");
        ids.any(|column| column.is_value(format!("\"{}\"", HEXLOWER.encode(node)).as_bytes()))
    }

    /// Writes the line of its records, which it has no more then; nothing where there are none.
    fn write_line<W: Write>(&mut self, out: &mut Bounded<W>) -> Result<(), Fault> {
        if self.records == 0 {
            return Ok(());
        }
        let begin = format!("{{\"{}\":{{", self.name);
        let names = self.columns.iter().enumerate().map(|(at, column)| {
            let comma = if at == 0 { "" } else { "," };
            format!("{comma}\"{}\":[", column.field.name)
        });
        let names: Vec<String> = names.collect();
        let end = b"}}\n";
        let columns = self.columns.iter().zip(&names).map(|(column, name)| name.len() + column.values().len() + 1);
        out.take_room(begin.len() + columns.sum::<usize>() + end.len())?;
        out.write(begin.as_bytes())?;
        for (column, name) in self.columns.iter_mut().zip(&names) {
            out.write(name.as_bytes())?;
            out.write(column.values())?;
            out.write(b"]")?;
            column.clear();
        }
        out.write(end)?;
        self.written += self.records;
        self.records = 0;
        Ok(())
    }
}

/// Checks the cluster fields against the list.
fn check(fields: &Map<String, Value>) -> Result<(), Fault> {
    for (name, value) in fields {
        let Some(field) = Level::Cluster.field(name) else {
            let name: String = name.chars().take(64).collect();
            return Err(Fault::Invalid(format!("{name}: not one of the fields of the report")));
        };
        field.check(value).map_err(|expected| Fault::Invalid(format!("{name}: {expected}")))?;
    }
    Ok(())
}

/// Where a report goes, and how much of it still may.
struct Bounded<W> {
    out: W,
    room: u64,
}

impl<W: Write> Bounded<W> {
    /// Takes the room of a line: one that is too long is not begun.
    fn take_room(&mut self, bytes: usize) -> Result<(), Fault> {
        let room = self.room.checked_sub(bytes as u64);
        self.room =
            room.ok_or_else(|| Fault::Invalid(format!("the report would be longer than {REPORT_BYTES} bytes")))?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.out.write_all(bytes).map_err(|error| failed(&error))
    }
}

impl<W: Write> Records for Writer<W> {
    fn set_cluster(&mut self, fields: Map<String, Value>) -> Result<(), Fault> {
        Self::set_cluster(self, fields)
    }

    fn add(&mut self, level: Level, record: Map<String, Value>) -> Result<(), Fault> {
        Self::add(self, level, record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_would_be_too_long_is_refused_on_the_way() {
        let identity = Identity::from_cluster_id("cluster");
        let heading = Heading { id: [7; 16], day: "2026-01-31".to_owned() };
        let empty = |room| {
            let mut document = Writer::new(Vec::new(), &identity, heading.clone(), Map::new(), OwnNode::default());
            document.out.room = room;
            document
        };
        let whole = empty(REPORT_BYTES).finish().unwrap();
        let length = whole.len() as u64;
        assert_eq!(empty(length).finish().unwrap(), whole);
        assert!(matches!(empty(length - 1).finish(), Err(Fault::Invalid(_))));

        let mut document = empty(length);
        let refused = (0..GROUP_RECORDS).find_map(|_| document.add(Level::Volume, Map::new()).err());
        assert!(matches!(refused, Some(Fault::Invalid(_))), "{refused:?}");
        assert!(document.out.out.len() as u64 <= length, "what is too long is not written");
    }
}
