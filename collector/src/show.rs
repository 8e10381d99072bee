//! `show`: what was received, for people and, with `--json`, for programs.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::{BASE32_DNSSEC, HEXLOWER};
use ondat_telemetry::config::setting;
use ondat_telemetry::error::Error;
use ondat_telemetry_command::plain;
use ondat_telemetry_protocol::event::Summary;
use ondat_telemetry_protocol::header::{HEADER_BYTES, Header};
use ondat_telemetry_protocol::query::{Query, SealedQuery, version_of};
use ondat_telemetry_protocol::time;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fault::{disk, printed};
use crate::store::{OLD_QUERY_LOG, QUERY_LOG, Shelf, Store};
use crate::table::{clip, counted, plain_text, size};

/// The newest version queries shown to people.
const MOST_QUERIES: usize = 50;
/// Why a name is shown as it is.
const NO_VERSION_QUERY: &str = "it is no version query: another kind of name, or damaged";

#[derive(Deserialize)]
struct LoggedQuery {
    time: String,
    name: String,
}

/// What a version query says.
#[derive(Serialize)]
struct VersionQuery {
    /// SemVer, or `sha256:` and the first 20 bytes of the hash of one that was too long.
    version: String,
    /// What else it says; none where that is sealed, which this process has no key for.
    #[serde(flatten)]
    asker: Option<Asker>,
}

/// Who asked, and when.
#[derive(Serialize)]
struct Asker {
    /// The anonymised cluster id.
    cluster: String,
    /// The anonymised node id.
    node: String,
    /// The UTC day on which it was asked, `YYYY-MM-DD`.
    day: String,
}

/// One thing received, as it is printed with `--json`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Item {
    VersionQuery {
        time: String,
        #[serde(flatten)]
        query: VersionQuery,
    },
    /// A TXT question below the zone that is no version query.
    OtherQuery {
        time: String,
        name: String,
        reason: &'static str,
    },
    Report {
        report_id: String,
        day: String,
        bytes: u64,
        key_id: String,
    },
    Crash(Crash),
}

/// A crash report's contents.
#[derive(Serialize)]
struct Crash {
    event_id: String,
    #[serde(flatten)]
    summary: Summary,
}

/// What was received.
#[derive(Default)]
struct Received {
    queries: Vec<Item>,
    reports: Vec<Item>,
    crashes: Vec<Item>,
    /// Files that could not be read.
    damaged: usize,
}

/// Prints what is in the folder. False where something in it could not be read.
pub(crate) fn run(data: PathBuf, zone: Option<&str>, json: bool) -> Result<bool, Error> {
    let zone = zone.map(setting::zone).transpose();
    let zone = zone.map_err(|why| Error::InvalidArgument(format!("--zone-name: {why}")))?;
    let received = Received::read(&Store::open(data)?, zone.as_deref())?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if json { received.write_json(&mut out) } else { received.write_tables(&mut out) };
    printed(written.and_then(|()| out.flush()))?;
    Ok(received.damaged == 0)
}

impl VersionQuery {
    /// None for a name that no client of ours has asked: a scanner's, a resolver's probe, damage.
    fn decode(name: &str, zone: Option<&str>) -> Option<Self> {
        if let Some(query) = Query::decode(name, zone) {
            let asker = Asker {
                cluster: HEXLOWER.encode(&query.cluster),
                node: HEXLOWER.encode(&query.node),
                day: time::date_of_day(query.day),
            };
            return Some(Self { version: version(&query.version), asker: Some(asker) });
        }
        SealedQuery::decode(name, zone).map(|sealed| Self { version: version(&sealed.version), asker: None })
    }
}

fn version(label: &str) -> String {
    match version_of(label) {
        Some(version) => version.to_string(),
        None => {
            let hash = label.strip_prefix('x').and_then(|digits| BASE32_DNSSEC.decode(digits.as_bytes()).ok());
            format!("sha256:{}", HEXLOWER.encode(&hash.unwrap_or_default()))
        }
    }
}

impl Received {
    fn read(store: &Store, zone: Option<&str>) -> Result<Self, Error> {
        let mut received = Self::default();
        for name in [OLD_QUERY_LOG, QUERY_LOG] {
            received.read_queries(&store.path(name), zone)?;
        }
        for path in store.list(Shelf::Reports)? {
            let report = received.unless_damaged(&path, read_report(&path));
            received.reports.extend(report);
        }
        for path in store.list(Shelf::Crashes)? {
            let crash = received.unless_damaged(&path, read_crash(&path));
            received.crashes.extend(crash);
        }
        received.crashes.sort_by_key(|item| match item {
            Item::Crash(crash) => plain_text(&crash.summary.time),
            _ => String::new(),
        });
        Ok(received)
    }

    fn unless_damaged(&mut self, path: &Path, item: Result<Item, String>) -> Option<Item> {
        match item {
            Ok(item) => Some(item),
            Err(why) => {
                self.damaged += 1;
                crate::complain(&format!("cannot read {}: {why}", path.display()));
                None
            }
        }
    }

    fn read_queries(&mut self, path: &Path, zone: Option<&str>) -> Result<(), Error> {
        let file = match File::open(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(|why| disk("read", path, why))?,
        };
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|why| disk("read", path, why))?;
            // A line cut off by a crash or a full disk is one lost query.
            let Ok(LoggedQuery { time, name }) = serde_json::from_str(&line) else { continue };
            self.queries.push(match VersionQuery::decode(&name, zone) {
                Some(query) => Item::VersionQuery { time, query },
                None => Item::OtherQuery { time, name, reason: NO_VERSION_QUERY },
            });
        }
        Ok(())
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        for item in self.queries.iter().chain(&self.reports).chain(&self.crashes) {
            plain::write_json(out, item)?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn write_tables(&self, out: &mut impl Write) -> io::Result<()> {
        self.write_queries(out)?;
        writeln!(out, "\nDaily reports: {} (sealed; `open` reads them, with the private key)", self.reports.len())?;
        for item in &self.reports {
            if let Item::Report { report_id, day, bytes, key_id } = item {
                writeln!(out, "  {day}  report {report_id}  {:>9}  key {key_id}", size(*bytes))?;
            }
        }
        writeln!(out, "\nCrash reports: {}", self.crashes.len())?;
        for item in &self.crashes {
            if let Item::Crash(crash) = item {
                crash.write(out)?;
            }
        }
        Ok(())
    }

    fn write_queries(&self, out: &mut impl Write) -> io::Result<()> {
        let (ours, others): (Vec<_>, Vec<_>) =
            self.queries.iter().partition(|item| matches!(item, Item::VersionQuery { .. }));
        writeln!(out, "Version queries: {}", ours.len())?;
        let older = ours.len().saturating_sub(MOST_QUERIES);
        if older > 0 {
            writeln!(out, "  … {} before these; --json shows all", counted(older, "older one"))?;
        }
        for item in &ours[older..] {
            if let Item::VersionQuery { time, query } = item {
                let version = clip(&plain::text(&query.version), 24);
                write!(out, "  {}  {version:<14}  ", plain::text(time))?;
                match &query.asker {
                    Some(Asker { cluster, node, day }) => {
                        writeln!(out, "cluster {cluster}  node {node}  day {day}")?;
                    }
                    None => writeln!(out, "sealed: `ondat-telemetry decode-query` opens it")?,
                }
            }
        }
        if !others.is_empty() {
            writeln!(out, "  and {} below the zone; --json says which", counted(others.len(), "other TXT question"))?;
        }
        Ok(())
    }
}

fn read_report(path: &Path) -> Result<Item, String> {
    let mut file = File::open(path).map_err(|why| why.to_string())?;
    let bytes = file.metadata().map_err(|why| why.to_string())?.len();
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).map_err(|why| why.to_string())?;
    let header = Header::parse(&header).map_err(|why| why.to_string())?;
    Ok(Item::Report { day: header.date(), report_id: header.report_id_hex(), bytes, key_id: header.key_id_hex() })
}

fn read_crash(path: &Path) -> Result<Item, String> {
    let bytes = fs::read(path).map_err(|why| why.to_string())?;
    let event: Value = serde_json::from_slice(&bytes).map_err(|why| why.to_string())?;
    let event_id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Item::Crash(Crash { event_id, summary: Summary::read(&event) }))
}

impl Crash {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let short = |value: &Value| clip(&plain_text(value), 40);
        writeln!(out, "  {}  {}", short(&self.summary.time), clip(&plain_text(&self.summary.description), 300))?;
        writeln!(
            out,
            "      {} · signal {} · exit code {} · core dump {}",
            short(&self.summary.release),
            short(&self.summary.signal),
            short(&self.summary.exit_code),
            short(&self.summary.core_dump)
        )?;
        writeln!(
            out,
            "      cluster {}  node {}  event {}",
            short(&self.summary.cluster),
            short(&self.summary.node),
            self.event_id
        )
    }
}
