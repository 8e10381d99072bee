//! A part that is all of its day: crash reports, version queries, what was late. Written anew as a whole.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use ondat_telemetry::error::Error;
use parquet::errors::ParquetError;

use crate::cell::Cell;
use crate::fault::{disk, unusable};
use crate::part::{PartReader, PartWriter, note};
use crate::table::Table;
use crate::workplace::{Workplace, put, remove};

/// What may be wrong with a part that is there.
fn unreadable(path: &Path, why: ParquetError) -> Error {
    unusable("read", path, format!("{why}; move it away, and it is made anew of what is still there"))
}

fn open(path: &Path) -> Result<Option<File>, Error> {
    match File::open(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(|why| disk("read", path, why)),
    }
}

/// The note of a part; none where there is no part.
pub(crate) fn note_of(path: &Path, key: &str) -> Result<Option<String>, Error> {
    match open(path)? {
        Some(file) => note(file, key).map_err(|why| unreadable(path, why)),
        None => Ok(None),
    }
}

/// Goes through the rows of a part; there are none where it is not there.
pub(crate) fn each_row(path: &Path, table: &Table, mut each: impl FnMut(&[Cell<'_>])) -> Result<(), Error> {
    let Some(file) = open(path)? else { return Ok(()) };
    let read = || -> Result<(), ParquetError> {
        let mut reader = PartReader::new(file, table)?;
        while reader.has_row() {
            each(&reader.row());
            reader.advance()?;
        }
        Ok(())
    };
    read().map_err(|why| unreadable(path, why))
}

/// A part that is being written.
pub(crate) struct Single {
    part: PartWriter<BufWriter<File>>,
    from: std::path::PathBuf,
    rows: usize,
}

impl Single {
    pub(crate) fn begin(workplace: &Workplace, table: &Table) -> Result<Self, Error> {
        let (from, file) = workplace.create(&format!("{}.parquet", table.name))?;
        let part = PartWriter::new(BufWriter::new(file), table).map_err(|why| disk("write", &from, why))?;
        Ok(Self { part, from, rows: 0 })
    }

    pub(crate) fn push(&mut self, row: &[Cell<'_>]) -> Result<(), Error> {
        self.rows += 1;
        self.part.push(row).map_err(|why| disk("write", &self.from, why))
    }

    /// Puts it in its place. A part without rows is taken away.
    pub(crate) fn place(self, to: &Path, notes: &[(&str, String)]) -> Result<(), Error> {
        if self.rows == 0 {
            return remove(to);
        }
        let file = self.part.finish(notes).map_err(|why| disk("write", &self.from, why))?;
        let file = file.into_inner().map_err(|why| disk("write", &self.from, why.error()))?;
        put(&file, &self.from, to)
    }
}
