//! The parts of one day and shard, as they are and as they become. `reports` is put in place last, and taken away first: a
//! report in it has all of its rows in the others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;
use parquet::errors::ParquetError;
use sha2::{Digest, Sha256};

use crate::cell::Cell;
use crate::data::{Data, Day, ReportId, hex};
use crate::fault::{disk, unusable};
use crate::part::{PartReader, PartWriter, note};
use crate::rows::Parts;
use crate::table::{ReportTables, Table};
use crate::workplace::{Workplace, put, remove};

/// In the footer of each part, a digest of which bodies it was made of: parts that belong together have the same.
const SET: &str = "set";
/// In the footer of `reports`, the places of the bodies of each report that has several.
const BODIES: &str = "bodies";

/// A day and its shard: the first bits of the report id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Partition {
    pub(crate) day: Day,
    pub(crate) shard: u8,
    /// How many shards the day has: 1, 4 or 16.
    pub(crate) of: u8,
}

impl Partition {
    /// The one that a report belongs to.
    pub(crate) fn of_report(day: Day, of: u8, id: &ReportId) -> Self {
        Self { day, shard: ((u16::from(id[0]) * u16::from(of)) >> 8) as u8, of }
    }

    fn file_name(self) -> String {
        format!("part-{:02}-of-{:02}.parquet", self.shard, self.of)
    }

    pub(crate) fn path(self, data: &Data, table: &Table) -> PathBuf {
        data.parts(table.name, self.day).join(self.file_name())
    }
}

/// How many shards a day has by the names of its parts; none where it has no part.
pub(crate) fn shards_of(data: &Data, table: &Table, day: Day) -> Result<Option<u8>, Error> {
    let names = crate::data::names(&data.parts(table.name, day))?;
    Ok(names.iter().find_map(|name| name.strip_suffix(".parquet")?.rsplit_once("-of-")?.1.parse().ok()))
}

/// The bodies of each report that has several.
pub(crate) type Bodies = BTreeMap<ReportId, Vec<String>>;

/// What is there.
pub(crate) struct OldParts {
    pub(crate) partition: Partition,
    /// The ids in `reports`, sorted.
    pub(crate) ids: Vec<ReportId>,
    pub(crate) bodies: Bodies,
    /// An opener ended while it put these parts in place: some rows may be missing.
    pub(crate) is_torn: bool,
    digest: Option<String>,
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Error {
    let advice = "move it away, and what is still sealed is opened again";
    unusable("read", path, format!("{why}; {advice}"))
}

fn open_file(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(|why| disk("read", path, why)),
    }
}

/// A note in the footer of a part; none where there is no part.
fn note_of(path: &Path, key: &str) -> Result<Option<String>, Error> {
    match open_file(path)? {
        Some(file) => note(file, key).map_err(|why| unreadable(path, why)),
        None => Ok(None),
    }
}

impl OldParts {
    pub(crate) fn read(data: &Data, tables: &ReportTables, partition: Partition) -> Result<Self, Error> {
        let mut old = Self { partition, ids: Vec::new(), bodies: Bodies::new(), is_torn: false, digest: None };
        let path = partition.path(data, &tables.reports);
        let Some(file) = open_file(&path)? else { return Ok(old) };
        let ids = || -> Result<Vec<ReportId>, ParquetError> {
            let mut reader = PartReader::new(file, &tables.ids())?;
            let mut ids = Vec::new();
            while reader.has_row() {
                match reader.cell(0) {
                    Cell::Text(id) => ids.push(hex(id).ok_or_else(|| ParquetError::General(format!("{id} is no id")))?),
                    other => return Err(ParquetError::General(format!("{other:?} is no id"))),
                }
                reader.advance()?;
            }
            Ok(ids)
        };
        old.ids = ids().map_err(|why| unreadable(&path, why))?;
        let bodies: BTreeMap<String, Vec<String>> = match note_of(&path, BODIES)? {
            Some(text) => serde_json::from_str(&text).map_err(|why| unreadable(&path, why))?,
            None => BTreeMap::new(),
        };
        old.bodies = bodies.into_iter().filter_map(|(id, places)| Some((hex(&id)?, places))).collect();
        let digest = digest_of(&old.ids, &old.bodies);
        for table in tables.in_order() {
            old.is_torn |= note_of(&partition.path(data, table), SET)?.as_deref() != Some(&*digest);
        }
        old.digest = note_of(&path, SET)?;
        Ok(old)
    }

    /// Their rows, which are copied in the order of the ids.
    pub(crate) fn rows(&self, data: &Data, tables: &ReportTables) -> Result<OldRows, Error> {
        let reader = |table: &Table| -> Result<OldTable, Error> {
            let path = self.partition.path(data, table);
            let file = open_file(&path)?;
            let reader = file.map(|file| PartReader::new(file, table)).transpose();
            Ok(OldTable { reader: reader.map_err(|why| unreadable(&path, why))?, path })
        };
        Ok(OldRows {
            volumes: reader(&tables.volumes)?,
            nodes: reader(&tables.nodes)?,
            api_calls: reader(&tables.api_calls)?,
            reports: reader(&tables.reports)?,
        })
    }

    /// Whether somebody else has put others in place since these were read.
    fn is_outdated(&self, data: &Data, tables: &ReportTables) -> Result<bool, Error> {
        let path = self.partition.path(data, &tables.reports);
        Ok(note_of(&path, SET)? != self.digest)
    }
}

/// The rows of the parts that are there.
pub(crate) struct OldRows {
    volumes: OldTable,
    nodes: OldTable,
    api_calls: OldTable,
    reports: OldTable,
}

struct OldTable {
    reader: Option<PartReader>,
    path: PathBuf,
}

/// Whether rows of a report are copied or left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Copy,
    LeaveOut,
}

impl OldRows {
    /// How many nodes the report has by its row, which must be the next one.
    pub(crate) fn nodes_of_next(&self, tables: &ReportTables) -> u64 {
        let column = tables.reports.columns.iter().position(|column| column.name == "n_nodes").unwrap_or_default();
        match self.reports.reader.as_ref().map(|reader| reader.cell(column)) {
            Some(Cell::Count(nodes)) => nodes,
            _ => 0,
        }
    }

    /// Goes past the rows of this report, and of those before it that `reports` does not have.
    pub(crate) fn pass<W: io::Write + Send>(
        &mut self,
        id: &ReportId,
        fate: Fate,
        parts: &mut Parts<W>,
    ) -> Result<(), Error> {
        let id = HEXLOWER.encode(id);
        for (old, new) in [
            (&mut self.volumes, &mut parts.volumes),
            (&mut self.nodes, &mut parts.nodes),
            (&mut self.api_calls, &mut parts.api_calls),
            (&mut self.reports, &mut parts.reports),
        ] {
            let Some(reader) = &mut old.reader else { continue };
            let mut pass = || -> Result<(), ParquetError> {
                while reader.has_row() {
                    match reader.cell(0) {
                        Cell::Text(found) if *found > *id => break,
                        Cell::Text(found) if *found == *id && fate == Fate::Copy => new.push(&reader.row())?,
                        _ => {}
                    }
                    reader.advance()?;
                }
                Ok(())
            };
            pass().map_err(|why| unreadable(&old.path, why))?;
        }
        Ok(())
    }
}

/// A part that is being written, beside the place where it will be.
type NewPart = PartWriter<BufWriter<File>>;

/// The parts that are being written.
pub(crate) struct NewParts {
    pub(crate) parts: Parts<BufWriter<File>>,
    paths: [PathBuf; 4],
}

/// What became of parts that were written.
#[derive(PartialEq, Eq)]
pub(crate) enum Placed {
    Done,
    /// Somebody else was faster: what is there now has to be read.
    Outdated,
}

/// Which table is first to change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Reports come: their rows are there before they are counted.
    ReportsLast,
    /// Reports go: they are no longer counted before their rows go.
    ReportsFirst,
}

impl NewParts {
    pub(crate) fn begin(workplace: &Workplace, tables: &ReportTables) -> Result<Self, Error> {
        let part = |table: &Table| -> Result<(NewPart, PathBuf), Error> {
            let (path, file) = workplace.create(&format!("{}.parquet", table.name))?;
            let writer = PartWriter::new(BufWriter::new(file), table).map_err(|why| disk("write", &path, why))?;
            Ok((writer, path))
        };
        let (volumes, nodes) = (part(&tables.volumes)?, part(&tables.nodes)?);
        let (api_calls, reports) = (part(&tables.api_calls)?, part(&tables.reports)?);
        Ok(Self {
            parts: Parts { volumes: volumes.0, nodes: nodes.0, api_calls: api_calls.0, reports: reports.0 },
            paths: [volumes.1, nodes.1, api_calls.1, reports.1],
        })
    }

    /// The path of what is written, for what went wrong with it.
    pub(crate) fn unwritten(&self, why: &ParquetError) -> Error {
        disk("write", self.paths[0].parent().unwrap_or(&self.paths[0]), why)
    }

    /// Ends the parts and puts them in place of the old ones. Parts without a report are taken away.
    pub(crate) fn place(
        self,
        data: &Data,
        tables: &ReportTables,
        workplace: &Workplace,
        old: &OldParts,
        (ids, bodies): (&[ReportId], &Bodies),
        order: Order,
    ) -> Result<Placed, Error> {
        let digest = digest_of(ids, bodies);
        let bodies: BTreeMap<String, &Vec<String>> =
            bodies.iter().map(|(id, places)| (HEXLOWER.encode(id), places)).collect();
        let bodies = if bodies.is_empty() { None } else { serde_json::to_string(&bodies).ok() };
        let Parts { volumes, nodes, api_calls, reports } = self.parts;
        let mut files = Vec::new();
        for (part, path) in [volumes, nodes, api_calls, reports].into_iter().zip(&self.paths) {
            let mut notes = vec![(SET, digest.clone())];
            if files.len() == 3 {
                notes.extend(bodies.iter().map(|bodies| (BODIES, bodies.clone())));
            }
            let file = part.finish(&notes).map_err(|why| disk("write", path, why))?;
            let file = file.into_inner().map_err(|why| disk("write", path, why.error()))?;
            file.sync_all().map_err(|why| disk("write", path, why))?;
            files.push(file);
        }
        let _placing = workplace.begin_placing()?;
        if old.is_outdated(data, tables)? {
            return Ok(Placed::Outdated);
        }
        let mut moves: Vec<_> = tables.in_order().into_iter().zip(&self.paths).zip(&files).collect();
        if order == Order::ReportsFirst {
            moves.reverse();
        }
        for ((table, from), file) in moves {
            let to = old.partition.path(data, table);
            if ids.is_empty() {
                remove(&to)?;
            } else {
                put(file, from, &to)?;
            }
        }
        Ok(Placed::Done)
    }
}

fn digest_of(ids: &[ReportId], bodies: &Bodies) -> String {
    let mut digest = Sha256::new();
    ids.iter().for_each(|id| digest.update(id));
    for (id, places) in bodies {
        digest.update(id);
        places.iter().for_each(|place| digest.update(place));
    }
    HEXLOWER.encode(&digest.finalize())
}
