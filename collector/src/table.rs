//! Tables for people.

use std::io::{self, Write};

use ondat_telemetry_command::plain;
use ondat_telemetry_protocol::fields::{Kind, Level};
use ondat_telemetry_protocol::identity::is_hex_id;
use ondat_telemetry_protocol::plaintext::reader::{Record, Records, Report, Sizes};
use serde_json::Value;

const NAME_WIDTH: usize = 34;
const WIDE_VALUE: usize = 80;
const VALUE_WIDTH: usize = 38;
/// Records side by side, so that a line has less than 120 characters.
const ACROSS: usize = 2;
/// Records shown of each kind; the rest is counted.
const MOST_RECORDS: usize = 12;
const NOTHING: &str = "–";
const NO_MEMBERS: &str = "none";

/// Writes one report.
pub(crate) fn write_report(out: &mut impl Write, report: &Report, sizes: Sizes) -> io::Result<()> {
    writeln!(out, "Report of {}   {}", report.day, report.report_id)?;
    writeln!(
        out,
        "{} · {} · {} fields · {} sealed · {} of JSON",
        counted(report.nodes.count, "node"),
        counted(report.volumes.count, "volume"),
        report.fields,
        size(sizes.sealed),
        size(sizes.plaintext),
    )?;
    writeln!(out, "\n  Cluster")?;
    for (name, text) in rows(Level::Cluster, &report.cluster) {
        writeln!(out, "    {name:NAME_WIDTH$}  {}", clip(&text, WIDE_VALUE))?;
    }
    write_records(out, Level::Node, "node", &report.nodes)?;
    write_records(out, Level::Volume, "volume", &report.volumes)?;
    writeln!(out)
}

fn write_records(out: &mut impl Write, level: Level, noun: &str, records: &Records) -> io::Result<()> {
    let shown = &records.first[..records.first.len().min(MOST_RECORDS)];
    for (at, block) in shown.chunks(ACROSS).enumerate() {
        let first = at * ACROSS + 1;
        let title = match block.len() {
            1 => format!("{} {first}", capitalised(noun)),
            count => format!("{}s {first} to {}", capitalised(noun), first + count - 1),
        };
        writeln!(out, "\n  {title} of {}", records.count)?;
        write_side_by_side(out, level, block)?;
    }
    let left = records.count - shown.len();
    if left > 0 {
        writeln!(out, "\n  … and {}; --json shows all.", counted(left, noun))?;
    }
    Ok(())
}

fn write_side_by_side(out: &mut impl Write, level: Level, records: &[Record]) -> io::Result<()> {
    let columns: Vec<Vec<(String, String)>> = records.iter().map(|record| rows(level, record)).collect();
    let Some(first) = columns.first() else { return Ok(()) };
    for (at, (name, _)) in first.iter().enumerate() {
        let values = columns.iter().map(|column| clip(&column[at].1, VALUE_WIDTH));
        let line =
            values.fold(format!("    {name:NAME_WIDTH$}"), |line, value| format!("{line}  {value:VALUE_WIDTH$}"));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Names and texts of a record; records of one level have the same names. Fields with fixed members take a row
/// for each.
fn rows(level: Level, record: &Record) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (name, value) in &record.0 {
        match level.field(name).map(|field| field.kind) {
            Some(Kind::Capacity) => rows.extend(member_rows(name, value, &["total", "free", "available"], byte_text)),
            Some(Kind::EtcdConfig) => {
                rows.extend(member_rows(name, value, &["endpoints", "namespaced", "tls"], plain_text));
            }
            Some(Kind::Labels) => rows.push((name.to_string(), label_text(value))),
            _ if name.ends_with("_bytes") => rows.push((name.to_string(), byte_text(value))),
            _ => rows.push((name.to_string(), plain_text(value))),
        }
    }
    rows
}

fn member_rows(
    name: &str,
    value: &Value,
    members: &[&str],
    text: impl Fn(&Value) -> String,
) -> impl Iterator<Item = (String, String)> {
    members.iter().map(move |member| {
        let value = value.get(member).unwrap_or(&Value::Null);
        (format!("{name}.{member}"), text(value))
    })
}

fn byte_text(value: &Value) -> String {
    match value.as_u64() {
        Some(bytes) => format!("{bytes} ({})", gib(bytes)),
        None => plain_text(value),
    }
}

/// The labels that say something, and how many were replaced by ids that only equal each other.
fn label_text(value: &Value) -> String {
    let Value::Object(labels) = value else { return plain_text(value) };
    let (anonymised, public): (Vec<_>, Vec<_>) = labels.iter().partition(|(key, _)| is_hex_id(key));
    let mut parts: Vec<String> =
        public.iter().map(|(key, value)| format!("{}={}", plain::text(key), plain_text(value))).collect();
    if !anonymised.is_empty() {
        parts.push(format!("{} anonymised", anonymised.len()));
    }
    if parts.is_empty() { NO_MEMBERS.to_owned() } else { parts.join(", ") }
}

/// A value on one line; whatever a sender put into it stays text.
pub(crate) fn plain_text(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => plain::text(text),
        Value::Array(values) => joined(values.iter().map(plain_text)),
        Value::Object(members) if members.is_empty() => NO_MEMBERS.to_owned(),
        Value::Object(members) => joined(members.iter().map(|(name, value)| match value {
            Value::Object(_) => format!("{} ({})", plain::text(name), plain_text(value)),
            _ => format!("{}={}", plain::text(name), plain_text(value)),
        })),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// At most this many characters.
pub(crate) fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut clipped: String = text.chars().take(width.saturating_sub(1)).collect();
    clipped.push('…');
    clipped
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=0xf_ffff => format!("{:.1} KiB", as_float(bytes) / 1024.0),
        _ => format!("{:.1} MiB", as_float(bytes) / 1_048_576.0),
    }
}

fn gib(bytes: u64) -> String {
    let text = format!("{:.2}", as_float(bytes) / 1_073_741_824.0);
    format!("{} GiB", text.strip_suffix(".00").unwrap_or(&text))
}

/// Exact up to 2^53, and nobody reads further digits.
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}

/// `1 node`, `2 nodes`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn capitalised(noun: &str) -> String {
    let mut letters = noun.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_written_for_people() {
        assert_eq!(plain_text(&Value::Null), "–");
        assert_eq!(plain_text(&json!({"ListVolumes": {"200": 7}})), "ListVolumes (200=7)");
        assert_eq!(plain_text(&json!({"a": 1.5, "b": true})), "a=1.5, b=true");
        assert_eq!(byte_text(&json!(1_610_612_736)), "1610612736 (1.50 GiB)");
        assert_eq!(byte_text(&json!(107_374_182_400_u64)), "107374182400 (100 GiB)");
        assert_eq!(byte_text(&Value::Null), "–");
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(label_text(&json!({id: id, "kubernetes.io/os": "linux"})), "kubernetes.io/os=linux, 1 anonymised");
        assert_eq!(clip("abcdef", 4), "abc…");
        assert_eq!(clip("–––", 3), "–––");
        assert_eq!((size(7), size(1536), size(3 << 20)), ("7 B".into(), "1.5 KiB".into(), "3.0 MiB".into()));
    }

    #[test]
    fn what_a_sender_writes_cannot_steer_the_terminal() {
        assert_eq!(plain_text(&json!("\u{1b}[2J\u{202e}x")), "\u{fffd}[2J\u{fffd}x");
    }
}
