//! Opening one body. Nothing of it is written before all of it is known to be right; one that does not fit into a row group
//! is read a second time for that, because what is in memory does not grow with it.

use std::fs::File;
use std::io::{self, Read, Write};

use ondat_telemetry_protocol::fields::Level;
use ondat_telemetry_protocol::header::Header;
use ondat_telemetry_protocol::keys::PrivateKey;
use ondat_telemetry_protocol::plaintext::reader::{Record, Report, read_sealed};

use crate::data::{Data, Place};
use crate::rows::{Parts, Receipt, Totals};

/// Why a body is not opened.
pub(crate) enum Failure {
    /// It is not what it should be, and says so whoever reads it.
    Poison(String),
    /// It could not be read: it may be right.
    Disk(io::Error),
    /// The rows could not be written.
    Part(parquet::errors::ParquetError),
}

/// A body that was opened and found right.
pub(crate) struct Opened {
    pub(crate) place: Place,
    pub(crate) header: Header,
    pub(crate) sealed_bytes: u64,
    report: Report,
}

impl Opened {
    pub(crate) fn read(data: &Data, place: &Place, keys: &[PrivateKey]) -> Result<Self, Failure> {
        let (report, header, sealed_bytes) = read(data, place, keys, |_, _| {})?;
        Ok(Self { place: *place, header, sealed_bytes, report })
    }

    /// How many nodes it has.
    pub(crate) fn nodes(&self) -> u64 {
        self.report.nodes.count as u64
    }

    /// Writes its rows.
    pub(crate) fn write<W: Write + Send>(
        mut self,
        data: &Data,
        keys: &[PrivateKey],
        receipt: &Receipt<'_>,
        parts: &mut Parts<W>,
    ) -> Result<(), Failure> {
        let mut totals = Totals::default();
        if self.report.nodes.are_all_here() && self.report.volumes.are_all_here() {
            for (level, records) in [(Level::Node, &self.report.nodes), (Level::Volume, &self.report.volumes)] {
                for record in &records.first {
                    parts.push_record(receipt, &mut totals, level, record).map_err(Failure::Part)?;
                }
            }
        } else {
            self.report.nodes.first = Vec::new();
            self.report.volumes.first = Vec::new();
            let mut outcome = Ok(());
            read(data, &self.place, keys, |level, record| {
                if outcome.is_ok() {
                    outcome = parts.push_record(receipt, &mut totals, level, record);
                }
            })?;
            outcome.map_err(Failure::Part)?;
        }
        parts.push_report(receipt, &totals, &self.report).map_err(Failure::Part)
    }
}

fn read(
    data: &Data,
    place: &Place,
    keys: &[PrivateKey],
    each: impl FnMut(Level, &Record),
) -> Result<(Report, Header, u64), Failure> {
    let file = File::open(data.sealed(place)).map_err(Failure::Disk)?;
    let mut reader = Watched { file, failed: None };
    match read_sealed(&mut reader, keys, each) {
        Ok((report, header, sizes)) => Ok((report, header, sizes.sealed)),
        Err(why) => Err(reader.failed.map_or(Failure::Poison(why), Failure::Disk)),
    }
}

/// Tells a disk that failed from a body that is damaged.
struct Watched {
    file: File,
    failed: Option<io::Error>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|why| {
            let told = io::Error::new(why.kind(), why.to_string());
            if why.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(why);
            }
            told
        })
    }
}
