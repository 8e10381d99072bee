//! `open` unseals, unpacks and checks the received reports. It needs the private key, so it runs away from `serve`.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use ondat_telemetry::error::Error;
use ondat_telemetry_command::plain;
use ondat_telemetry_protocol::fields::Level;
use ondat_telemetry_protocol::header::{HEADER_BYTES, Header};
use ondat_telemetry_protocol::keys::PrivateKey;
use ondat_telemetry_protocol::plaintext::reader::{Record, Report, Sizes, read_sealed};

use crate::fault::{self, printed, unusable};
use crate::received;
use crate::store::Store;
use crate::table;

/// Opens every report in the folder with the keys in these files, and prints it. False: a report could not be opened.
pub(crate) fn run(key_files: &[PathBuf], data: PathBuf, json: bool) -> Result<bool, Error> {
    let keys: Vec<PrivateKey> = key_files.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?;
    let paths = received::reports(Store::open(data)?.root())?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if paths.is_empty() && !json {
        printed(writeln!(out, "No reports yet."))?;
    }
    let mut is_whole = true;
    for path in &paths {
        match Opened::read(path, &keys) {
            Ok(opened) => {
                if !printed(print(&mut out, &opened, json))? {
                    break;
                }
            }
            Err(why) => {
                is_whole = false;
                // The reports are flushed first, so that both are in order on one terminal.
                printed(out.flush())?;
                fault::complain(&format!("cannot open {}: {why}", path.display()));
            }
        }
    }
    printed(out.flush()).map(|_| is_whole)
}

fn print(out: &mut impl Write, opened: &Opened, json: bool) -> io::Result<()> {
    if json { opened.write_json(out) } else { table::write_report(out, &opened.report, opened.sizes) }
}

fn read_key(path: &Path) -> Result<PrivateKey, Error> {
    let text = std::fs::read_to_string(path).map_err(|why| unusable("read the private key", path, why))?;
    PrivateKey::parse(&text).map_err(|why| unusable("use the private key", path, why))
}

/// A report that was opened and is valid.
struct Opened<'a> {
    path: &'a Path,
    keys: &'a [PrivateKey],
    report: Report,
    sizes: Sizes,
}

impl<'a> Opened<'a> {
    fn read(path: &'a Path, keys: &'a [PrivateKey]) -> Result<Self, String> {
        let (report, sizes) = read_file(path, keys, |_, _| {})?;
        Ok(Self { path, keys, report, sizes })
    }

    /// Writes one object on a line. Records that are not in memory are read again, because nothing of a report is printed
    /// before all of it is known to be valid.
    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let Report { report_id, day, fields, cluster, .. } = &self.report;
        write!(out, "{{\"report_id\":\"{report_id}\",\"day\":\"{day}\",\"fields\":{fields},\"cluster\":")?;
        plain::write_json(out, cluster)?;
        for (name, level, records) in
            [("nodes", Level::Node, &self.report.nodes), ("volumes", Level::Volume, &self.report.volumes)]
        {
            write!(out, ",\"{name}\":[")?;
            let mut before = "";
            let mut write = |record: &Record| -> io::Result<()> {
                out.write_all(std::mem::replace(&mut before, ",").as_bytes())?;
                Ok(plain::write_json(out, record)?)
            };
            if records.are_all_here() {
                records.first.iter().try_for_each(write)?;
            } else {
                let mut outcome = Ok(());
                read_file(self.path, self.keys, |of, record| {
                    if of == level && outcome.is_ok() {
                        outcome = write(record);
                    }
                })
                .map_err(io::Error::other)?;
                outcome?;
            }
            write!(out, "]")?;
        }
        writeln!(out, "}}")
    }
}

fn read_file(path: &Path, keys: &[PrivateKey], each: impl FnMut(Level, &Record)) -> Result<(Report, Sizes), String> {
    let mut file = File::open(path).map_err(|why| why.to_string())?;
    let mut header = Vec::new();
    (&file).take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(|why| why.to_string())?;
    let header = Header::parse(&header).map_err(|why| why.to_string())?;
    let id = header.report_id_hex();
    // The part after the id tells several bodies of one id apart.
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if name.split('~').next() != Some(&id) {
        return Err(format!("its name is not the report id in its header, {id}"));
    }
    file.rewind().map_err(|why| why.to_string())?;
    let (report, _, sizes) = read_sealed(file, keys, each)?;
    Ok((report, sizes))
}
