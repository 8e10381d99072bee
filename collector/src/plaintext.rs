//! An opened report: parsed strictly, line by line, against the list of the report's fields.

use std::collections::HashSet;
use std::fmt;
use std::io::{BufRead, Read};

use ondat_telemetry::report::fields::{FIELDS, Level};
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::sealed::Header;

const SCHEMA: &str = "ondat-report/1";
/// The most records of one row group.
const GROUP_RECORDS: usize = 1024;
/// The longest line: a row group of records as large as the field list allows stays below. Anybody can seal a
/// report, so what one can make `open` hold in memory is bounded.
const LINE_BYTES: u64 = 64 << 20;

/// A record: its fields in the list's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record(pub(crate) Vec<(&'static str, Value)>);

/// A report that holds what it should and nothing else. What is in memory of it does not grow with it: anybody can seal a
/// report of a million volumes.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) report_id: String,
    pub(crate) day: String,
    /// How many fields the list has.
    pub(crate) fields: usize,
    pub(crate) cluster: Record,
    pub(crate) nodes: Records,
    pub(crate) volumes: Records,
}

/// The records of one level.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// The first ones, as many as a row group has.
    pub(crate) first: Vec<Record>,
    pub(crate) count: usize,
}

impl Records {
    /// Whether the first ones are all.
    pub(crate) fn are_all_here(&self) -> bool {
        self.first.len() == self.count
    }

    fn take(&mut self, group: Vec<Record>) {
        self.count += group.len();
        let room = GROUP_RECORDS - self.first.len();
        self.first.extend(group.into_iter().take(room));
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Reads a report that should be the one of this header, and gives out its records as they come. The error says what is
/// wrong, and in which line.
pub(crate) fn read(
    mut lines: impl BufRead,
    header: &Header,
    mut each: impl FnMut(Level, &Record),
) -> Result<Report, String> {
    let first = next_line(&mut lines, 1)?.ok_or("it is empty")?;
    let mut report = head(&first, header).map_err(|why| format!("line 1: {why}"))?;
    let mut number = 1;
    loop {
        number += 1;
        let line = next_line(&mut lines, number)?.ok_or("it has no closing line")?;
        let in_line = |why: String| format!("line {number}: {why}");
        let line: Line = serde_json::from_slice(&line).map_err(|why| in_line(without_place(&why)))?;
        match line {
            Line::Group(level, columns) => {
                let records = if level == Level::Node { &mut report.nodes } else { &mut report.volumes };
                let group = group(records.count, level, columns).map_err(in_line)?;
                group.iter().for_each(|record| each(level, record));
                records.take(group);
            }
            Line::End(end) => {
                check_end(&report, &end).map_err(in_line)?;
                break;
            }
        }
    }
    match next_line(&mut lines, number + 1)? {
        None => Ok(report),
        Some(_) => Err(format!("line {}: nothing may follow the closing line", number + 1)),
    }
}

/// The next line with its newline taken off, or nothing at the end.
fn next_line(lines: &mut impl BufRead, number: usize) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let read = lines.take(LINE_BYTES).read_until(b'\n', &mut line);
    read.map_err(|why| format!("line {number}: {why}"))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(format!("line {number}: it does not end within {LINE_BYTES} bytes")),
    }
}

fn head(line: &[u8], header: &Header) -> Result<Report, String> {
    let Members(members) = serde_json::from_slice(line).map_err(|why| without_place(&why))?;
    let mut members = members.into_iter();
    let mut expect = |name: &str, expected: &str| match members.next() {
        Some((found, value)) if found == name && value == expected => Ok(()),
        Some((found, value)) if found == name => Err(format!("{name} is {value}, expected \"{expected}\"")),
        Some((found, _)) => Err(format!("expected {name}, found {found}")),
        None => Err(format!("{name} is missing")),
    };
    expect("schema", SCHEMA)?;
    expect("report_id", &header.report_id)?;
    expect("day", &header.date())?;
    let mut cluster = Record::default();
    for field in Level::Cluster.fields() {
        let (name, value) = members.next().ok_or_else(|| format!("{} is missing", field.name))?;
        if name != field.name {
            return Err(format!("expected {}, found {name}", field.name));
        }
        field.check_sent(&value).map_err(|why| format!("{name}: {why}"))?;
        cluster.0.push((field.name, value));
    }
    if let Some((name, _)) = members.next() {
        return Err(format!("{name} is not on the list of fields"));
    }
    Ok(Report {
        report_id: header.report_id.clone(),
        day: header.date(),
        fields: FIELDS.len(),
        cluster,
        nodes: Records::default(),
        volumes: Records::default(),
    })
}

/// The records of a row group, of which `first` have come before.
fn group(first: usize, level: Level, Columns(columns): Columns) -> Result<Vec<Record>, String> {
    let count = columns.first().map_or(0, |(_, Column(values))| values.len());
    if count == 0 {
        return Err("a row group holds at least one record".to_owned());
    }
    let mut records = vec![Record::default(); count];
    let mut columns = columns.into_iter();
    for field in level.fields() {
        let (name, Column(values)) = columns.next().ok_or_else(|| format!("{} is missing", field.name))?;
        if name != field.name {
            return Err(format!("expected {}, found {name}", field.name));
        }
        if values.len() != count {
            return Err(format!("{name} has {} values, expected {count}", values.len()));
        }
        for (at, value) in values.into_iter().enumerate() {
            field.check_sent(&value).map_err(|why| format!("record {}: {name}: {why}", first + at))?;
            records[at].0.push((field.name, value));
        }
    }
    match columns.next() {
        Some((name, _)) => Err(format!("{name} is not on the list of fields")),
        None => Ok(records),
    }
}

fn check_end(report: &Report, end: &End) -> Result<(), String> {
    let counted = (report.nodes.count, report.volumes.count);
    if (end.nodes, end.volumes) == counted {
        return Ok(());
    }
    let (nodes, volumes) = counted;
    Err(format!("it says {} nodes and {} volumes, there are {nodes} and {volumes}", end.nodes, end.volumes))
}

/// A parser's complaint without its "at line 1", which would be read as the report's line.
fn without_place(why: &serde_json::Error) -> String {
    let text = why.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// Any line but the first.
enum Line {
    Group(Level, Columns),
    End(End),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    nodes: usize,
    volumes: usize,
}

/// A JSON object's members in the order in which they were written.
struct Members(Vec<(String, Value)>);
/// A row group's columns in the order in which they were written.
struct Columns(Vec<(String, Column)>);
/// The values of one field, no more than a row group has records.
struct Column(Vec<Value>);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LineVisitor;
        impl<'de> Visitor<'de> for LineVisitor {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with nodes, volumes or end")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
                let kind: Option<String> = map.next_key()?;
                let line = match kind.as_deref() {
                    Some("nodes") => Line::Group(Level::Node, map.next_value()?),
                    Some("volumes") => Line::Group(Level::Volume, map.next_value()?),
                    Some("end") => Line::End(map.next_value()?),
                    _ => return Err(A::Error::custom("expected nodes, volumes or end")),
                };
                match map.next_key::<String>()? {
                    None => Ok(line),
                    Some(name) => Err(A::Error::custom(format!("{name} does not belong into this line"))),
                }
            }
        }
        deserializer.deserialize_map(LineVisitor)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder(std::marker::PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder(std::marker::PhantomData)).map(Self)
    }
}

/// Reads an object in its order. serde_json's own map sorts, and keeps the last of two members with one name.
struct InOrder<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
    type Value = Vec<(String, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        let mut names = HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, T>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("{name} is there twice")));
            }
            if members.len() > FIELDS.len() {
                return Err(A::Error::custom("it has more members than there are fields"));
            }
            members.push((name, value));
        }
        Ok(members)
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ColumnVisitor;
        impl<'de> Visitor<'de> for ColumnVisitor {
            type Value = Column;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Column, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    if values.len() == GROUP_RECORDS {
                        return Err(A::Error::custom(format!("a row group has at most {GROUP_RECORDS} records")));
                    }
                    values.push(value);
                }
                Ok(Column(values))
            }
        }
        deserializer.deserialize_seq(ColumnVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::tests::header_bytes;

    fn header() -> Header {
        Header::parse(&header_bytes(0x0020, 1)).unwrap()
    }

    fn first_line() -> String {
        let cluster: String = Level::Cluster.fields().map(|field| format!(",\"{}\":null", field.name)).collect();
        format!(
            "{{\"schema\":\"ondat-report/1\",\"report_id\":\"{}\",\"day\":\"2026-11-24\"{cluster}}}\n",
            "02".repeat(16)
        )
    }

    fn group(name: &str, level: Level, records: usize) -> String {
        let nulls = vec!["null"; records].join(",");
        let columns: Vec<String> = level.fields().map(|field| format!("\"{}\":[{nulls}]", field.name)).collect();
        format!("{{\"{name}\":{{{}}}}}\n", columns.join(","))
    }

    fn end(nodes: usize, volumes: usize) -> String {
        format!("{{\"end\":{{\"nodes\":{nodes},\"volumes\":{volumes}}}}}\n")
    }

    fn refused(text: &str) -> String {
        read(text.as_bytes(), &header(), |_, _| {}).unwrap_err()
    }

    #[test]
    fn groups_are_put_together() {
        let text = first_line()
            + &group("nodes", Level::Node, 2)
            + &group("volumes", Level::Volume, 1024)
            + &group("volumes", Level::Volume, 3)
            + &end(2, 1027);
        let mut given = Vec::new();
        let report = read(text.as_bytes(), &header(), |level, _| given.push(level)).unwrap();
        assert_eq!((report.fields, report.nodes.count, report.volumes.count), (48, 2, 1027));
        assert_eq!(given.iter().filter(|level| **level == Level::Volume).count(), 1027);
        // The first ones stay, however many there are.
        assert_eq!((report.nodes.first.len(), report.volumes.first.len()), (2, 1024));
        assert!(report.nodes.are_all_here() && !report.volumes.are_all_here());
    }

    #[test]
    fn a_first_line_that_differs_is_refused() {
        let first = first_line();
        let swapped = first
            .replace("\"k8s_in_k8s\"", "\"x\"")
            .replace("\"k8s_version\"", "\"k8s_in_k8s\"")
            .replace("\"x\"", "\"k8s_version\"");
        assert!(refused(&swapped).contains("expected k8s_in_k8s, found k8s_version"));
        assert!(refused(&first.replace("/1", "/2")).contains("schema"));
        assert!(refused(&first.replace("2026-11-24", "2026-11-25")).contains("day"));
        assert!(refused(&first.replace("0202", "0203")).contains("report_id"));
        assert!(refused(&first.replace("}\n", ",\"host_name\":null}\n")).contains("host_name is not on the list"));
        assert!(refused(&first.replace("}\n", ",\"day\":null}\n")).contains("twice"));
        assert!(refused(&first.replace("\"k8s_in_k8s\":null", "\"k8s_in_k8s\":1")).contains("true or false"));
    }

    #[test]
    fn groups_that_differ_are_refused() {
        let first = first_line();
        let nodes = group("nodes", Level::Node, 2);
        assert!(
            refused(&(first.clone() + &nodes.replace("\"node_id\"", "\"node_name\""))).contains("expected node_id")
        );
        assert!(refused(&(first.clone() + &nodes.replace("\"node_id\":[null,", "\"node_id\":["))).contains("1 values"));
        let raw = nodes.replace("\"node_id\":[null,", "\"node_id\":[\"worker-1\",");
        assert!(refused(&(first.clone() + &raw)).contains("record 0: node_id"));
        assert!(refused(&(first.clone() + &group("nodes", Level::Node, 1025))).contains("at most 1024"));
        assert!(refused(&(first.clone() + &group("nodes", Level::Node, 0))).contains("at least one"));
        assert!(refused(&(first + &group("pools", Level::Node, 1))).contains("expected nodes, volumes or end"));
    }

    #[test]
    fn the_end_is_checked() {
        let first = first_line();
        assert!(refused(&first).contains("no closing line"));
        assert!(refused(&(first.clone() + &end(1, 0))).contains("it says 1 nodes"));
        assert!(refused(&(first.clone() + &end(0, 0) + "\n")).contains("nothing may follow"));
        assert!(refused(&(first.clone() + end(0, 0).trim_end())).contains("does not end"));
        assert!(read((first + &end(0, 0)).as_bytes(), &header(), |_, _| {}).is_ok());
    }
}
