//! What came when its day was closed, or before it began: counted, not opened.

use std::collections::BTreeMap;

use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::header::Header;

use crate::cell::Cell;
use crate::data::{Data, Day, ONLY_PART, Place, day_folder};
use crate::single::{Single, each_row};
use crate::table;
use crate::workplace::Workplace;

/// One of them.
pub(crate) struct LateOne {
    pub(crate) place: Place,
    pub(crate) header: Header,
    pub(crate) why: &'static str,
}

/// Brings the list of one day of receipt up to what is there. What has expired since stays on it. Returns how many were not
/// on it.
pub(crate) fn write(data: &Data, workplace: &Workplace, received: Day, late: &[LateOne]) -> Result<usize, Error> {
    if late.is_empty() {
        return Ok(0);
    }
    let table = table::late();
    let path = data.path(table.name).join(day_folder(received)).join(ONLY_PART);
    let mut rows: BTreeMap<String, (i32, String)> = BTreeMap::new();
    each_row(&path, &table, |row| {
        if let [Cell::Text(place), Cell::Day(day), _, Cell::Text(why)] = row {
            rows.insert((*place).to_owned(), (*day, (*why).to_owned()));
        }
    })?;
    let known = rows.len();
    rows.extend(late.iter().map(|one| (one.place.path(), (i32::from(one.header.day), one.why.to_owned()))));
    let new = rows.len() - known;
    if new > 0 {
        let mut part = Single::begin(workplace, &table)?;
        for (place, (day, why)) in &rows {
            part.push(&[Cell::Text(place), Cell::Day(*day), Cell::Day(i32::from(received)), Cell::Text(why)])?;
        }
        part.place(&path, &[])?;
    }
    Ok(new)
}
