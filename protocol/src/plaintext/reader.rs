//! Reading a report: strictly, line by line, against the list of fields.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::SCHEMA;
use crate::fields::{FIELDS, Level, is_field_name};
use crate::header::Header;
use crate::keys::PrivateKey;
use crate::limits::{GROUP_RECORDS, LEVEL_FIELDS, LINE_BYTES, LINE_VALUES, REPORT_BYTES, SEALED_REPORT_BYTES};
use crate::open::Opener;

/// A record: the fields of the list in its order, then those of a newer writer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(pub Vec<(Cow<'static, str>, Value)>);

impl Record {
    /// The value of a field; null where the report does not have it.
    pub fn get(&self, name: &str) -> &Value {
        self.0.iter().find(|(known, _)| known == name).map_or(&Value::Null, |(_, value)| value)
    }
}

/// A report that holds what it should and nothing else. What is in memory of it does not grow with it: anybody can seal a
/// report of a million volumes.
#[derive(Debug)]
pub struct Report {
    /// Its id, 32 hex digits.
    pub report_id: String,
    /// Its UTC day, `YYYY-MM-DD`.
    pub day: String,
    /// How many fields it has: those of the list, and those of a newer writer.
    pub fields: usize,
    /// The cluster fields.
    pub cluster: Record,
    /// The nodes.
    pub nodes: Records,
    /// The volumes.
    pub volumes: Records,
}

/// The records of one level.
#[derive(Debug, Default)]
pub struct Records {
    /// The first ones, as many as a row group has.
    pub first: Vec<Record>,
    /// How many there are.
    pub count: usize,
}

impl Records {
    /// Whether the first ones are all.
    pub fn are_all_here(&self) -> bool {
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

/// What an opened report was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes as it was sealed.
    pub sealed: u64,
    /// Bytes of its JSON lines.
    pub plaintext: u64,
}

/// Opens a sealed report, unpacks it and reads it, in memory that does not grow with it. Gives out its records as they
/// come: only when this returns is it known that the report is whole and right. The error says what is wrong, and in which
/// line.
pub fn read_sealed(
    sealed: impl Read,
    keys: &[PrivateKey],
    each: impl FnMut(Level, &Record),
) -> Result<(Report, Header, Sizes), String> {
    // One byte more than there may be: where that is read, it is too large.
    let sealed = sealed.take(SEALED_REPORT_BYTES + 1);
    let mut sealed = Counted { inner: sealed, bytes: 0, most: SEALED_REPORT_BYTES, too_much: "it is larger than" };
    let opener = Opener::new(&mut sealed, keys).map_err(|why| why.to_string())?;
    let header = *opener.header();
    let unpacked = GzDecoder::new(BufReader::new(opener));
    let mut unpacked = Counted { inner: unpacked, bytes: 0, most: REPORT_BYTES, too_much: "it unpacks to more than" };
    let report = read(BufReader::new(&mut unpacked), &header, each)?;
    let plaintext = unpacked.bytes;
    check_padding(unpacked.inner.into_inner()).map_err(|why| why.to_string())?;
    Ok((report, header, Sizes { sealed: sealed.bytes, plaintext }))
}

/// After the gzip member there is padding and nothing else.
fn check_padding(mut padding: impl BufRead) -> io::Result<()> {
    loop {
        let piece = padding.fill_buf()?;
        if piece.is_empty() {
            return Ok(());
        }
        if piece.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other("its padding holds something"));
        }
        let length = piece.len();
        padding.consume(length);
    }
}

/// Counts what is read, and reads no more than there may be.
struct Counted<R> {
    inner: R,
    bytes: u64,
    most: u64,
    too_much: &'static str,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        if self.bytes > self.most {
            return Err(io::Error::other(format!("{} {} bytes", self.too_much, self.most)));
        }
        Ok(read)
    }
}

/// Reads a report that should be the one of this header, and gives out its records as they come. The error says what is
/// wrong, and in which line.
pub fn read(mut lines: impl BufRead, header: &Header, mut each: impl FnMut(Level, &Record)) -> Result<Report, String> {
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
                let group = group(records, level, columns).map_err(in_line)?;
                if records.count == 0 {
                    report.fields += group.first().map_or(0, |record| record.0.len()) - level.fields().count();
                }
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
        Some(b'\n') if values(&line) > LINE_VALUES => {
            Err(format!("line {number}: it holds more values than {LINE_VALUES}"))
        }
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(format!("line {number}: it does not end within {LINE_BYTES} bytes")),
    }
}

/// About how many values a line holds, before memory is taken for them. What stands in a string is text: a writer may send any.
fn values(line: &[u8]) -> u64 {
    let (mut values, mut is_in_string, mut is_escaped) = (0, false, false);
    for byte in line {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_string => is_escaped = true,
            b'"' => is_in_string = !is_in_string,
            _ if is_in_string => {}
            b'{' => values += 8,
            b',' | b'[' => values += 1,
            _ => {}
        }
    }
    values
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
    expect("report_id", &header.report_id_hex())?;
    expect("day", &header.date())?;
    let mut given: Vec<(String, Value)> = members.collect();
    let mut cluster = Record::default();
    for field in Level::Cluster.fields() {
        let value = take(&mut given, field.name).unwrap_or_default();
        field.check_sent(&value).map_err(|why| format!("{}: {why}", field.name))?;
        cluster.0.push((field.name.into(), value));
    }
    let fields = FIELDS.len() + given.len();
    cluster.0.extend(given.into_iter().map(|(name, value)| (name.into(), value)));
    Ok(Report {
        report_id: header.report_id_hex(),
        day: header.date(),
        fields,
        cluster,
        nodes: Records::default(),
        volumes: Records::default(),
    })
}

/// What stands under this name, which is then no longer there.
fn take<T>(given: &mut Vec<(String, T)>, name: &str) -> Option<T> {
    let at = given.iter().position(|(known, _)| known == name)?;
    Some(given.remove(at).1)
}

/// The records of a row group, of which `before` are those that have come before.
fn group(before: &Records, level: Level, Columns(mut columns): Columns) -> Result<Vec<Record>, String> {
    let count = columns.first().map_or(0, |(_, Column(values))| values.len());
    if count == 0 {
        return Err("a row group holds at least one record".to_owned());
    }
    if let Some((name, Column(values))) = columns.iter().find(|(_, Column(values))| values.len() != count) {
        return Err(format!("{name} has {} values, expected {count}", values.len()));
    }
    let mut records = vec![Record::default(); count];
    for field in level.fields() {
        let column = take(&mut columns, field.name);
        let values = column.map_or_else(|| vec![Value::Null; count], |Column(values)| values);
        for (at, value) in values.into_iter().enumerate() {
            field.check_sent(&value).map_err(|why| format!("record {}: {}: {why}", before.count + at, field.name))?;
            records[at].0.push((field.name.into(), value));
        }
    }
    // One writer writes all of a report.
    let is_as_before = |first: &Record| {
        let known = first.0.iter().skip(level.fields().count()).map(|(name, _)| name);
        known.eq(columns.iter().map(|(name, _)| name))
    };
    if !before.first.first().is_none_or(is_as_before) {
        return Err("its fields are not those of the row group before".to_owned());
    }
    for (name, Column(values)) in columns {
        for (record, value) in records.iter_mut().zip(values) {
            record.0.push((name.clone().into(), value));
        }
    }
    Ok(records)
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
            if members.len() == LEVEL_FIELDS {
                return Err(A::Error::custom(format!("it has more than {LEVEL_FIELDS} members")));
            }
            // Fields of a newer writer are shown and stored by name.
            if !is_field_name(&name) {
                return Err(A::Error::custom("a field's name is 1 to 64 of a-z 0-9 _"));
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
    use crate::header::tests::header_bytes;

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
        assert_eq!((report.fields, report.nodes.count, report.volumes.count), (FIELDS.len(), 2, 1027));
        assert_eq!(given.iter().filter(|level| **level == Level::Volume).count(), 1027);
        // The first ones stay, however many there are.
        assert_eq!((report.nodes.first.len(), report.volumes.first.len()), (2, 1024));
        assert!(report.nodes.are_all_here() && !report.volumes.are_all_here());
    }

    #[test]
    fn a_first_line_that_differs_is_refused() {
        let first = first_line();
        assert!(refused(&first.replace("/1", "/2")).contains("schema"));
        assert!(refused(&first.replace("2026-11-24", "2026-11-25")).contains("day"));
        assert!(refused(&first.replace("0202", "0203")).contains("report_id"));
        assert!(refused(&first.replace("}\n", ",\"Host name\":null}\n")).contains("a field's name is"));
        assert!(refused(&first.replace("}\n", ",\"day\":null}\n")).contains("twice"));
        assert!(refused(&first.replace("\"k8s_in_k8s\":null", "\"k8s_in_k8s\":1")).contains("true or false"));
    }

    #[test]
    fn groups_that_differ_are_refused() {
        let first = first_line();
        let nodes = group("nodes", Level::Node, 2);
        let other = nodes.replace("\"node_id\"", "\"node_name\"");
        assert!(refused(&(first.clone() + &other + &nodes)).contains("not those of the row group before"));
        assert!(refused(&(first.clone() + &nodes.replace("\"node_id\":[null,", "\"node_id\":["))).contains("1 values"));
        let raw = nodes.replace("\"node_id\":[null,", "\"node_id\":[\"worker-1\",");
        assert!(refused(&(first.clone() + &raw)).contains("record 0: node_id"));
        assert!(refused(&(first.clone() + &group("nodes", Level::Node, 1025))).contains("at most 1024"));
        assert!(refused(&(first.clone() + &group("nodes", Level::Node, 0))).contains("at least one"));
        assert!(refused(&(first + &group("pools", Level::Node, 1))).contains("expected nodes, volumes or end"));
    }

    /// A line is bounded by what it takes in memory, which is many times its bytes where it holds small values.
    #[test]
    fn a_line_of_too_many_values_is_refused_before_they_are_read() {
        let head_of = |operations: usize| {
            let calls: Vec<String> = (0..operations).map(|number| format!("\"o{number}\":{{\"200\":1}}")).collect();
            let calls = format!("\"api_call_metrics\":{{{}}}", calls.join(","));
            first_line().replace("\"api_call_metrics\":null", &calls) + &end(0, 0)
        };
        assert!(read(head_of(100_000).as_bytes(), &header(), |_, _| {}).is_ok());
        assert!(refused(&head_of(120_000)).contains("line 1: it holds more values than"));
        let nulls = format!("[{}]", vec!["[]"; 1 << 20].join(","));
        let group = group("nodes", Level::Node, 1).replace("}}", &format!(",\"node_new\":[{nulls}]}}}}"));
        assert!(refused(&(first_line() + &group + &end(1, 0))).contains("line 2: it holds more values than"));
    }

    #[test]
    fn text_is_no_value_whatever_stands_in_it() {
        assert_eq!(values(br#"{"a":[1,2],"b":"{,[","c\"{":"\\"}"#), 8 + 1 + 3);
        assert_eq!(values(br#""{{{{"#), 0);
        let text = format!("[\"{}\"]", "{[,".repeat(1 << 19));
        let group = group("nodes", Level::Node, 1).replace("}}", &format!(",\"node_new\":{text}}}}}"));
        assert!(read((first_line() + &group + &end(1, 0)).as_bytes(), &header(), |_, _| {}).is_ok());
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

    #[test]
    fn the_fields_of_a_newer_writer_are_kept_by_name() {
        let text = first_line().replace("}\n", ",\"cluster_age\":[1]}\n")
            + &group("nodes", Level::Node, 2).replace("]}}", "],\"node_kernel\":[\"6.1\",null]}}")
            + &end(2, 0);
        let report = read(text.as_bytes(), &header(), |_, _| {}).unwrap();
        assert_eq!(report.cluster.get("cluster_age"), &serde_json::json!([1]));
        assert_eq!(report.nodes.first[0].get("node_kernel"), "6.1");
        assert_eq!(report.nodes.first[1].0.last().unwrap(), &("node_kernel".into(), Value::Null));
        assert_eq!(report.fields, FIELDS.len() + 2);
    }

    #[test]
    fn what_an_older_writer_does_not_have_is_null() {
        let last = Level::Cluster.fields().last().unwrap().name;
        let of_nodes = Level::Node.fields().last().unwrap().name;
        let text = first_line().replace(&format!(",\"{last}\":null"), "")
            + &group("nodes", Level::Node, 1).replace(&format!(",\"{of_nodes}\":[null]"), "")
            + &end(1, 0);
        assert!(!text.contains(last) && !text.contains(of_nodes));
        let report = read(text.as_bytes(), &header(), |_, _| {}).unwrap();
        assert_eq!(report.cluster.0.last().unwrap(), &(last.into(), Value::Null));
        assert_eq!(report.nodes.first[0].0.last().unwrap(), &(of_nodes.into(), Value::Null));
    }

    #[test]
    fn the_members_of_a_line_are_bounded() {
        let many: String = (0..=LEVEL_FIELDS).map(|at| format!(",\"a{at}\":null")).collect();
        assert!(refused(&first_line().replace("}\n", &format!("{many}}}\n"))).contains("more than 256 members"));
    }
}
