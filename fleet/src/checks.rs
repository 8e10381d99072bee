//! Version queries into their table: one row for each node and version that asked on a day.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use data_encoding::HEXLOWER;
use flate2::read::MultiGzDecoder;
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::query::Query;
use ondat_telemetry_protocol::time;
use serde::Deserialize;

use crate::cell::Cell;
use crate::data::{Data, ReportId, names};
use crate::fault::disk;
use crate::single::{Single, note_of};
use crate::table;
use crate::workplace::Workplace;

const FOLDER: &str = "dns";
/// In the footer, the logs that a part was made of, with their lengths.
const LOGS: &str = "logs";
/// The longest line of a log: a name has 253 characters.
const LINE_BYTES: u64 = 4096;
/// So many lines of logs are counted at once; of more, the nodes are divided by their first bits.
const LINES_AT_ONCE: u64 = 500_000;

/// A line of a log. Other members are the server's.
#[derive(Deserialize)]
struct LoggedQuery {
    name: String,
}

/// What is counted: the node, the cluster, the version.
type Asker = (ReportId, ReportId, Option<String>);

/// Brings the table up to the logs. A query is asked on its day and may be logged on the next. Returns how many parts were
/// written. `complain` is told of each log that cannot be read to its end.
pub(crate) fn write(data: &Data, workplace: &Workplace, mut complain: impl FnMut(&str)) -> Result<usize, Error> {
    let table = table::checks();
    let deleted = data.tombstones()?;
    let folder = data.path(FOLDER);
    let mut written = 0;
    for name in names(&folder)? {
        let Some(day) = crate::data::parse_day(&name) else { continue };
        let mut logs = Vec::new();
        for of in [day, day.saturating_add(1)] {
            let of = time::date_of_day(of);
            for log in names(&folder.join(&of))?.into_iter().filter(|log| log.ends_with(".gz")) {
                let path = folder.join(&of).join(&log);
                let bytes = fs::metadata(&path).map_err(|why| disk("read", &path, why))?.len();
                logs.push((format!("{of}/{log}"), bytes));
            }
        }
        let to = data.only_part(table.name, day);
        let known: Vec<(String, u64)> = match note_of(&to, LOGS)? {
            Some(note) => serde_json::from_str(&note).unwrap_or_default(),
            None => Vec::new(),
        };
        // Logs go after a week: what is left of them is not the whole any more.
        let has_gone = known.iter().any(|(known, _)| !logs.iter().any(|(log, _)| log == known));
        if known == logs || has_gone {
            continue;
        }
        let mut lines = 0;
        for (log, _) in &logs {
            lines += count_lines(&folder.join(log), &mut complain);
        }
        let passes = lines / LINES_AT_ONCE + 1;
        let mut part = Single::begin(workplace, &table)?;
        for pass in 0..passes {
            let first_bits = |node: &ReportId| u64::from(u16::from_be_bytes([node[0], node[1]]));
            let is_of_pass = |node: &ReportId| (first_bits(node) * passes) >> 16 == pass;
            let mut askers: BTreeMap<Asker, u64> = BTreeMap::new();
            for (log, _) in &logs {
                each_query(&folder.join(log), |query| {
                    if query.day == day && is_of_pass(&query.node) && !deleted.contains(&query.cluster) {
                        let version = query.version_text();
                        let asker = (query.node, query.cluster, version);
                        *askers.entry(asker).or_default() += 1;
                    }
                });
            }
            for ((node, cluster, version), n) in &askers {
                let (cluster, node) = (HEXLOWER.encode(cluster), HEXLOWER.encode(node));
                let version = version.as_deref().map_or(Cell::Null, Cell::Text);
                let day = Cell::Day(i32::from(day));
                part.push(&[day, Cell::Text(&cluster), Cell::Text(&node), version, Cell::Count(*n)])?;
            }
        }
        let note = serde_json::to_string(&logs).unwrap_or_default();
        part.place(&to, &[(LOGS, note)])?;
        written += 1;
    }
    Ok(written)
}

/// How many lines a log has. One that is cut off, as by a full disk, counts up to there.
fn count_lines(path: &Path, complain: &mut impl FnMut(&str)) -> u64 {
    let mut lines = 0;
    if let Err(why) = each_line(path, |_| lines += 1) {
        complain(&format!("cannot read {}: {why}; it is counted up to line {lines}", path.display()));
    }
    lines
}

/// Every query of a log that says who asks; sealed ones and other names do not.
fn each_query(path: &Path, mut each: impl FnMut(&Query)) {
    // What is wrong with the log was said when its lines were counted.
    let _ = each_line(path, |line| {
        let logged: Option<LoggedQuery> = serde_json::from_slice(line).ok();
        if let Some(query) = logged.and_then(|logged| Query::decode(&logged.name, None)) {
            each(&query);
        }
    });
}

fn each_line(path: &Path, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut lines = BufReader::new(MultiGzDecoder::new(BufReader::new(File::open(path)?)));
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        each(&line);
    }
}
