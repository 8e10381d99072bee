//! `delete`: what a cluster has asked to be forgotten. Its ids are derived with a key that only the cluster has: who knows
//! them may ask.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;

use crate::aside::Aside;
use crate::cell::Cell;
use crate::data::{Data, Day, ONLY_PART, ReportId, TOMBSTONES, day_folder, hex, make_folder, names, parse_day};
use crate::fault::{disk, unusable};
use crate::parts::{Bodies, Fate, NewParts, OldParts, Order, Partition, Placed};
use crate::single::{Single, each_row, note_of};
use crate::table::{self, ReportTables, Table};
use crate::workplace::Workplace;

/// What `delete` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteOptions {
    /// What `ondat-telemetry deletion-list` has printed: lines of `report` or `cluster` and an id.
    #[arg(value_name = "LIST")]
    list: PathBuf,
    /// The folder with what was received, and with the tables.
    #[arg(long, value_name = "DIR", default_value = crate::DEFAULT_FOLDER)]
    data: PathBuf,
}

/// Deletes. It may be stopped, and told again.
pub(crate) fn run(options: &DeleteOptions) -> Result<bool, Error> {
    let ids = read_list(&options.list)?;
    let data = Data::open(&options.data)?;
    let (workplace, _) = Workplace::new(&data)?;
    // What comes from now on is not opened any more.
    let folder = data.path(TOMBSTONES);
    let bury = || -> std::io::Result<()> {
        make_folder(&folder)?;
        ids.iter().try_for_each(|id| File::create(folder.join(HEXLOWER.encode(id))).map(drop))?;
        File::open(&folder)?.sync_all()
    };
    bury().map_err(|why| disk("write", &folder, why))?;
    let tables = ReportTables::new();
    let mut reports = 0;
    for day in data.days_of(tables.reports.name)? {
        for partition in partitions(&data, &tables, day)? {
            while let Some((removed, placed)) = from_part(&data, &tables, &workplace, partition, &ids)? {
                if placed == Placed::Done {
                    reports += removed;
                    break;
                }
            }
        }
    }
    let mut others = 0;
    for table in [table::crashes(), table::checks()] {
        for day in data.days_of(table.name)? {
            others += from_single(&workplace, &data.only_part(table.name, day), &table, &ids, LOGS)?;
        }
    }
    let late = table::late();
    for name in names(&data.path(late.name))? {
        let Some(day) = name.strip_prefix("day=").and_then(parse_day) else { continue };
        let path = data.path(late.name).join(day_folder(day)).join(ONLY_PART);
        others += from_single(&workplace, &path, &late, &ids, LOGS)?;
    }
    Aside::read(&data)?.clear_all(&ids)?;
    let mut sealed = 0;
    for day in data.received_days()? {
        sealed += data.received_on(day)?.iter().filter(|place| ids.contains(&place.id)).count();
    }
    crate::print(&format!(
        "{reports} reports and {others} other rows deleted; {sealed} sealed bodies stay unopened until their days expire\n"
    ))?;
    Ok(true)
}

/// The note of a part that stays when rows go.
const LOGS: &str = "logs";

fn read_list(path: &Path) -> Result<BTreeSet<ReportId>, Error> {
    let text = std::fs::read_to_string(path).map_err(|why| unusable("read the list", path, why))?;
    let mut ids = BTreeSet::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let id = match line.split_once(' ') {
            Some(("report" | "cluster", id)) => hex(id),
            _ => None,
        };
        let wrong = || {
            let expected =
                "expected `report` or `cluster` and 32 hex digits, as `ondat-telemetry deletion-list` prints";
            unusable("use the list", path, format!("line {}: {expected}", number + 1))
        };
        ids.insert(id.ok_or_else(wrong)?);
    }
    Ok(ids)
}

fn partitions(data: &Data, tables: &ReportTables, day: Day) -> Result<Vec<Partition>, Error> {
    let of = crate::parts::shards_of(data, &tables.reports, day)?.unwrap_or(1);
    Ok((0..of).map(|shard| Partition { day, shard, of }).collect())
}

/// Takes reports out of the parts of a day and shard. None where they do not have them.
pub(crate) fn from_part(
    data: &Data,
    tables: &ReportTables,
    workplace: &Workplace,
    partition: Partition,
    deleted: &BTreeSet<ReportId>,
) -> Result<Option<(usize, Placed)>, Error> {
    let old = OldParts::read(data, tables, partition)?;
    let removed = old.ids.iter().filter(|id| deleted.contains(*id)).count();
    if removed == 0 {
        return Ok(None);
    }
    let mut new = NewParts::begin(workplace, tables)?;
    let mut rows = old.rows(data, tables)?;
    for id in &old.ids {
        let fate = if deleted.contains(id) { Fate::LeaveOut } else { Fate::Copy };
        rows.pass(id, fate, &mut new.parts)?;
    }
    let ids: Vec<ReportId> = old.ids.iter().filter(|id| !deleted.contains(*id)).copied().collect();
    let bodies: Bodies =
        old.bodies.iter().filter(|(id, _)| !deleted.contains(*id)).map(|(id, of)| (*id, of.clone())).collect();
    let placed = new.place(data, tables, workplace, &old, (&ids, &bodies), Order::ReportsFirst)?;
    Ok(Some((removed, placed)))
}

/// Takes the rows of deleted ids out of a part that is all of its day. Returns how many.
fn from_single(
    workplace: &Workplace,
    path: &Path,
    table: &Table,
    deleted: &BTreeSet<ReportId>,
    note: &'static str,
) -> Result<usize, Error> {
    let is_deleted = |row: &[Cell<'_>]| {
        row.iter().any(|cell| match cell {
            // Ids stand by themselves, and in the name of a file.
            Cell::Text(text) => {
                let name = text.rsplit('/').next().unwrap_or_default();
                name.get(..32).and_then(hex).is_some_and(|id| deleted.contains(&id))
            }
            _ => false,
        })
    };
    let mut removed = 0;
    each_row(path, table, |row| removed += usize::from(is_deleted(row)))?;
    if removed == 0 {
        return Ok(0);
    }
    let notes: Vec<(&str, String)> = note_of(path, note)?.map(|text| (note, text)).into_iter().collect();
    let mut part = Single::begin(workplace, table)?;
    let mut outcome = Ok(());
    each_row(path, table, |row| {
        if outcome.is_ok() && !is_deleted(row) {
            outcome = part.push(row);
        }
    })?;
    outcome?;
    part.place(path, &notes)?;
    Ok(removed)
}
