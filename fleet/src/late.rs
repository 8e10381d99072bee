//! What came when its day was closed, or before it began: counted, not opened.

use std::fs::File;
use std::io::{self, BufWriter};

use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::header::Header;
use parquet::errors::ParquetError;

use crate::cell::Cell;
use crate::data::{Data, Day, Place, day_folder};
use crate::fault::{disk, unusable};
use crate::part::{PartReader, PartWriter};
use crate::table;
use crate::workplace::{Workplace, put};

/// One of them.
pub(crate) struct LateOne {
    pub(crate) place: Place,
    pub(crate) header: Header,
    pub(crate) why: &'static str,
}

/// Brings the list of one day of receipt up to what is there. Returns how many were not on it.
pub(crate) fn write(data: &Data, workplace: &Workplace, received: Day, late: Vec<LateOne>) -> Result<usize, Error> {
    let table = table::late();
    let path = data.path("late").join(day_folder(received)).join("part-00-of-01.parquet");
    let names: Vec<String> = late.iter().map(|one| one.place.path()).collect();
    let mut lines = Vec::new();
    for (one, name) in late.iter().zip(&names) {
        lines.push((
            name.as_str(),
            [
                Cell::Text(name),
                Cell::Day(i32::from(one.header.day)),
                Cell::Day(i32::from(received)),
                Cell::Text(one.why),
            ],
        ));
    }
    lines.sort_by_key(|(name, _)| *name);
    let unreadable = |why: ParquetError| unusable("read", &path, format!("{why}; move it away, and it is made anew"));
    let mut known = match File::open(&path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => return Err(disk("read", &path, why)),
        Ok(file) => Some(PartReader::new(file, &table).map_err(unreadable)?),
    };
    let mut is_there = Vec::new();
    while let Some(reader) = known.as_mut().filter(|reader| reader.has_row()) {
        if let Cell::Text(name) = reader.cell(0) {
            is_there.push(name.to_owned());
        }
        reader.advance().map_err(unreadable)?;
    }
    let new = lines.iter().filter(|(name, _)| is_there.binary_search_by(|known| known.as_str().cmp(name)).is_err());
    let new = new.count();
    if new == 0 {
        return Ok(0);
    }
    let (from, file) = workplace.create("late.parquet")?;
    let unwritten = |why: ParquetError| disk("write", &from, why);
    let mut part = PartWriter::new(BufWriter::new(file), &table).map_err(unwritten)?;
    // What has expired since stays on the list.
    let mut known = match File::open(&path) {
        Ok(file) => Some(PartReader::new(file, &table).map_err(unreadable)?),
        Err(_) => None,
    };
    for (name, line) in &lines {
        copy_until(known.as_mut(), Some(name), &mut part).map_err(unwritten)?;
        part.push(line).map_err(unwritten)?;
    }
    copy_until(known.as_mut(), None, &mut part).map_err(unwritten)?;
    let file = part.finish(&[]).map_err(unwritten)?.into_inner().map_err(|why| disk("write", &from, why.error()))?;
    put(&file, &from, &path)?;
    Ok(new)
}

/// Copies the rows before this name, and goes past that of this name.
fn copy_until<W: io::Write + Send>(
    known: Option<&mut PartReader>,
    end: Option<&str>,
    part: &mut PartWriter<W>,
) -> Result<(), ParquetError> {
    let Some(known) = known else { return Ok(()) };
    while known.has_row() {
        match (known.cell(0), end) {
            (Cell::Text(name), Some(end)) if name > end => break,
            (Cell::Text(name), Some(end)) if name == end => {}
            _ => part.push(&known.row())?,
        }
        known.advance()?;
    }
    Ok(())
}
