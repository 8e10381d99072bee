//! The data folder: where everything is, and what was received. `sealed/` is only read.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::header::{HEADER_BYTES, Header};
use ondat_telemetry_protocol::time::{self, DAY_SECONDS};

use crate::fault::disk;

/// A report's id.
pub(crate) type ReportId = [u8; 16];
/// A UTC day, counted from 1970-01-01.
pub(crate) type Day = u16;

/// The ending of a sealed report's file.
const SEALED_ENDING: &str = ".otr";

/// The folder of the ids that were deleted.
pub(crate) const TOMBSTONES: &str = "tombstones";
/// The name of a part that is all of its day.
pub(crate) const ONLY_PART: &str = "part-00-of-01.parquet";

/// The folder that the receiving side writes to and the opener reads from.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    root: PathBuf,
}

/// A body as it was received, by its place: `sealed/v1/<day>/<hh>/<report id>[~<8 hex>].otr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The UTC day and hour on which it was received.
    pub(crate) received: Day,
    pub(crate) hour: u8,
    pub(crate) id: ReportId,
    /// Of a second body under one id, the beginning of its digest.
    pub(crate) variant: Option<[u8; 4]>,
}

impl Place {
    /// The path below `sealed/v1`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{:02}/{}{SEALED_ENDING}", time::date_of_day(self.received), self.hour, self.name())
    }

    /// The file's name without its ending.
    pub(crate) fn name(&self) -> String {
        let id = HEXLOWER.encode(&self.id);
        self.variant.map_or_else(|| id.clone(), |variant| format!("{id}~{}", HEXLOWER.encode(&variant)))
    }

    pub(crate) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        let (day, hour, name) = (parts.next()?, parts.next()?, parts.next()?);
        let name = name.strip_suffix(SEALED_ENDING).filter(|_| parts.next().is_none())?;
        let (id, variant) = match name.split_once('~') {
            Some((id, variant)) => (id, Some(hex(variant)?)),
            None => (name, None),
        };
        let hour = hour.parse().ok().filter(|number| *number < 24 && hour.len() == 2)?;
        Some(Self { received: parse_day(day)?, hour, id: hex(id)?, variant })
    }
}

/// Bytes out of lower-case hex digits, exactly as many as fit.
pub(crate) fn hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// A day out of `YYYY-MM-DD`.
pub(crate) fn parse_day(text: &str) -> Option<Day> {
    Day::try_from(time::parse_date(text)? / DAY_SECONDS).ok()
}

impl Data {
    /// The folder at this path, which must be there.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let root = fs::canonicalize(root).map_err(|why| disk("find the data folder (option --data)", root, why))?;
        Ok(Self { root })
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The file of a body.
    pub(crate) fn sealed(&self, place: &Place) -> PathBuf {
        self.root.join("sealed/v1").join(place.path())
    }

    /// The folder of a table's parts of one day.
    pub(crate) fn parts(&self, table: &str, day: Day) -> PathBuf {
        self.root.join("lake").join(table).join(day_folder(day))
    }

    /// The days on which something was received, sorted.
    pub(crate) fn received_days(&self) -> Result<Vec<Day>, Error> {
        let days = names(&self.root.join("sealed/v1"))?;
        Ok(days.iter().filter_map(|name| parse_day(name)).collect())
    }

    /// What was received on a day, in the order of its places. Files with other names are others' and left alone.
    pub(crate) fn received_on(&self, day: Day) -> Result<Vec<Place>, Error> {
        let day = time::date_of_day(day);
        let folder = self.root.join("sealed/v1").join(&day);
        let mut places = Vec::new();
        for hour in names(&folder)? {
            if hour.parse::<u8>().is_err() {
                continue;
            }
            let names = names(&folder.join(&hour))?;
            places.extend(names.iter().filter_map(|name| Place::parse(&format!("{day}/{hour}/{name}"))));
        }
        places.sort_unstable();
        Ok(places)
    }

    /// What everybody can read of a body; the reason where it is damaged.
    pub(crate) fn header(&self, place: &Place) -> io::Result<Result<Header, String>> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        File::open(self.sealed(place))?.take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(match Header::parse(&bytes) {
            Ok(header) if header.report_id == place.id => Ok(header),
            Ok(header) => Err(format!("its name is not the report id in its header, {}", header.report_id_hex())),
            Err(why) => Err(why.to_string()),
        })
    }

    /// The ids of reports and of clusters that were deleted.
    pub(crate) fn tombstones(&self) -> Result<BTreeSet<ReportId>, Error> {
        Ok(names(&self.root.join(TOMBSTONES))?.iter().filter_map(|name| hex(name)).collect())
    }

    /// The days of a table that have parts, sorted.
    pub(crate) fn days_of(&self, table: &str) -> Result<Vec<Day>, Error> {
        let names = names(&self.root.join("lake").join(table))?;
        Ok(names.iter().filter_map(|name| parse_day(name.strip_prefix("day=")?)).collect())
    }

    /// The only part that a table has of a day, where days are not divided.
    pub(crate) fn only_part(&self, table: &str, day: Day) -> PathBuf {
        self.parts(table, day).join(ONLY_PART)
    }
}

/// The folder of a day among those of a table.
pub(crate) fn day_folder(day: Day) -> String {
    format!("day={}", time::date_of_day(day))
}

/// The names in a folder, sorted; none where it is not there.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(why) if matches!(why.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(|why| disk("list", folder, why))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|why| disk("list", folder, why))?.file_name();
        names.extend(name.into_string());
    }
    names.sort();
    Ok(names)
}

/// Makes a folder, and those above it, that only we can read.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let id = "0123456789abcdef0123456789abcdef";
        for path in [format!("2026-11-24/07/{id}.otr"), format!("2026-11-24/23/{id}~89abcdef.otr")] {
            assert_eq!(Place::parse(&path).unwrap().path(), path);
        }
        for path in [
            format!("2026-11-24/7/{id}.otr"),
            format!("2026-11-24/24/{id}.otr"),
            format!("2026-11-24/07/{id}"),
            format!("2026-11-24/07/{id}~89ab.otr"),
            format!("2026-11-24/07/{}.otr", id.to_uppercase()),
            format!("2026-11-24/07/x/{id}.otr"),
            "2026-11-24/07/.otr".to_owned(),
        ] {
            assert_eq!(Place::parse(&path), None, "{path}");
        }
    }
}
