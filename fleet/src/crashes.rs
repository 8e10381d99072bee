//! Crash reports into their table: one row for each event, on the first day on which it was received.

use std::collections::BTreeMap;
use std::fs;

use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::event::{self, Summary};
use ondat_telemetry_protocol::limits::STRING_BYTES;
use ondat_telemetry_protocol::time;
use serde_json::Value;

use crate::cell::Cell;
use crate::data::{Data, Day, ReportId, hex, names, parse_day};
use crate::single::{Single, each_row};
use crate::table;
use crate::workplace::Workplace;

const FOLDER: &str = "crashes";

/// Brings the table up to what was received. What has expired since stays in it. `complain` is told of each event that
/// cannot be read. Returns how many events were not in it.
pub(crate) fn write(data: &Data, workplace: &Workplace, mut complain: impl FnMut(&str)) -> Result<usize, Error> {
    let table = table::crashes();
    let mut seen: std::collections::BTreeSet<ReportId> = std::collections::BTreeSet::new();
    let mut new = 0;
    let deleted = data.tombstones()?;
    let folder = data.path(FOLDER);
    for name in names(&folder)? {
        let Some(day) = parse_day(&name) else { continue };
        let to = data.only_part(table.name, day);
        let mut rows: BTreeMap<ReportId, Vec<Option<String>>> = BTreeMap::new();
        each_row(&to, &table, |row| {
            let texts: Vec<Option<String>> = row.iter().skip(2).map(owned).collect();
            let id = match row {
                [Cell::Text(id), ..] => hex(id),
                _ => None,
            };
            rows.extend(id.map(|id| (id, texts)));
        })?;
        let before: Vec<ReportId> = rows.keys().copied().collect();
        rows.retain(|id, _| !seen.contains(id));
        for file in names(&folder.join(&name))? {
            let Some(id) = file.strip_suffix(".json").and_then(event::event_id).and_then(|id| hex(&id)) else {
                continue;
            };
            if seen.contains(&id) || rows.contains_key(&id) {
                continue;
            }
            let path = folder.join(&name).join(&file);
            let event = fs::read(&path).map_err(|why| why.to_string());
            let event = event.and_then(|text| serde_json::from_slice::<Value>(&text).map_err(|why| why.to_string()));
            let event = event.unwrap_or_else(|why| {
                // It is an event all the same, of which nothing is known.
                complain(&format!("cannot read {}: {why}; it is counted without what it says", path.display()));
                Value::Null
            });
            let texts = texts(&event);
            let cluster = texts.get(7).and_then(Option::as_deref).and_then(hex);
            if cluster.is_some_and(|cluster| deleted.contains(&cluster)) {
                continue;
            }
            rows.insert(id, texts);
        }
        seen.extend(rows.keys());
        if before.iter().eq(rows.keys()) {
            continue;
        }
        new += rows.keys().filter(|id| before.binary_search(id).is_err()).count();
        let mut part = Single::begin(workplace, &table)?;
        for (id, texts) in &rows {
            push(&mut part, day, id, texts)?;
        }
        part.place(&to, &[])?;
    }
    Ok(new)
}

fn push(part: &mut Single, day: Day, id: &ReportId, texts: &[Option<String>]) -> Result<(), Error> {
    let id = HEXLOWER.encode(id);
    let mut row = vec![Cell::Text(&id), Cell::Day(i32::from(day))];
    row.extend(texts.iter().map(|text| text.as_deref().map_or(Cell::Null, Cell::Text)));
    part.push(&row)
}

fn owned(cell: &Cell<'_>) -> Option<String> {
    match cell {
        Cell::Text(text) => Some((*text).to_owned()),
        _ => None,
    }
}

/// The texts of a row in the table's order. Events of other senders may say anything: what is no short text is null.
fn texts(event: &Value) -> Vec<Option<String>> {
    let summary = Summary::read(event);
    let of_fingerprint = |at: usize| event.pointer(&format!("/fingerprint/{at}")).cloned().unwrap_or_default();
    let text = |value: Value| value.as_str().filter(|text| text.len() <= STRING_BYTES).map(str::to_owned);
    let time = text(summary.time).filter(|time| time::is_rfc3339(time));
    let id = |value: Value| text(value).filter(|id| hex::<16>(id).is_some());
    vec![
        time,
        text(summary.release),
        text(of_fingerprint(0)),
        text(summary.signal),
        text(summary.exit_code),
        text(summary.core_dump),
        text(of_fingerprint(2)),
        id(summary.cluster),
        id(summary.node),
    ]
}
