//! `decode-query`: decodes the names of version queries, one by one or from a DNS server's query log.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::message::MessageSecret;
use ondat_telemetry_protocol::query::{Query, SealedQuery, version_of};
use serde_json::{Value, json};

use crate::form::Form;
use crate::keygen::read_seal_key;
use crate::query_log::{Pieces, Reader};
use crate::summary::Summary;
use crate::{Output, complain, print, status};

/// The options of `decode-query`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Names as they were asked; with --version-zone, only of that zone
    #[arg(value_name = "NAME", required_unless_present = "logs")]
    names: Vec<String>,
    /// A query log; - for the standard input. As text of BIND, Unbound, PowerDNS, dnsdist, CoreDNS, dnsmasq, Route 53, or
    /// dnstap as dnstap-read and dnstap-ldns print it; as JSON of Cloudflare, Google Cloud, Azure, Route 53 and others
    /// that name their members alike; or a name a line. Questions for TXT are read, each once; responses are passed over
    #[arg(long = "from-log", value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// Count instead: clusters, nodes and queries by day and version
    #[arg(long)]
    summary: bool,
    /// A version-seal.key of `keygen version-seal`, to open sealed queries; several while a key is being replaced
    #[arg(long = "key", value_name = "SEAL_KEY_FILE")]
    keys: Vec<PathBuf>,
}

/// How many bytes are collected before they are printed.
const PRINTED_AT_ONCE: usize = 65_536;
/// gzip's first bytes (RFC 1952, 2.3.1).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Decodes names, then logs.
pub(crate) fn run(arguments: &Arguments, zone: Option<&str>, form: Form) -> Result<Output, Error> {
    let secrets = arguments.keys.iter().map(|path| read_seal_key(path)).collect::<Result<Vec<_>, _>>()?;
    let summary = arguments.summary.then(Summary::default);
    let mut decoder = Decoder { zone, secrets, form, summary, out: String::new(), decoded: 0, dropped: 0 };
    let mut code = 0;
    for name in &arguments.names {
        if !decoder.decode(name)? {
            complain(&format!("{name:?} is no version query: another kind of name, or damaged"));
            code = 2;
        }
    }
    let mut not_understood = 0;
    for path in &arguments.logs {
        let reader = decoder.read_log(path)?;
        not_understood += reader.not_understood();
        if reader.understood() == 0 && reader.not_understood() > 0 {
            complain(&format!("--from-log {}: no query log of a form that is known here; see --help", path.display()));
            code = 2;
        }
    }
    if !arguments.logs.is_empty() {
        let not_understood = match not_understood {
            0 => String::new(),
            lines => format!(", {lines} lines not understood"),
        };
        let (decoded, dropped) = (decoder.decoded, decoder.dropped);
        complain(&format!("{decoded} version queries, {dropped} other names dropped{not_understood}"));
    }
    Ok(decoder.output()?.with_code(code))
}

struct Decoder<'a> {
    zone: Option<&'a str>,
    secrets: Vec<MessageSecret>,
    form: Form,
    /// The counts. None: queries are shown, not counted.
    summary: Option<Summary>,
    out: String,
    decoded: u64,
    dropped: u64,
}

/// The content of one name.
struct Said {
    label: String,
    /// The ids and the day. None: they are sealed, and no key opens them.
    query: Option<Query>,
    is_sealed: bool,
}

impl Decoder<'_> {
    /// Adds the content of a name to the output. False: the name is no version query.
    fn decode(&mut self, name: &str) -> Result<bool, Error> {
        let Some(said) = self.read(name) else {
            self.dropped += 1;
            return Ok(false);
        };
        self.decoded += 1;
        match (&mut self.summary, &said.query) {
            (Some(summary), Some(query)) => summary.add(query)?,
            (Some(summary), None) => summary.add_sealed(&said.label)?,
            (None, _) if self.form.is_for_programs() => self.out.push_str(&self.form.of_one_more(&said.as_json())),
            (None, _) => self.out.push_str(&said.as_text()),
        }
        Ok(true)
    }

    fn read(&self, name: &str) -> Option<Said> {
        if let Some(query) = Query::decode(name, self.zone) {
            return Some(Said { label: query.version.clone(), query: Some(query), is_sealed: false });
        }
        let sealed = SealedQuery::decode(name, self.zone)?;
        let query = self.secrets.iter().find_map(|secret| sealed.open(secret));
        if query.is_none() && !self.secrets.is_empty() {
            // If keys were given and none opens it, the query is damaged or not from one of our clients.
            return None;
        }
        Some(Said { label: sealed.version, query, is_sealed: true })
    }

    fn read_log(&mut self, path: &Path) -> Result<Reader, Error> {
        let failed = |error: io::Error| Error::InvalidArgument(format!("--from-log {}: {error}", path.display()));
        let (input, size): (Box<dyn Read>, _) = if path.as_os_str() == "-" {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path).map_err(failed)?;
            let meta = file.metadata().map_err(failed)?;
            (Box::new(file), meta.is_file().then_some(meta.len()))
        };
        let (mut pieces, mut reader) = (Pieces::new(input), Reader::default());
        if pieces.start().map_err(failed)?.starts_with(GZIP) {
            let why = format!("--from-log {}: it is packed: zcat FILE | ... --from-log -", path.display());
            return Err(Error::InvalidArgument(why));
        }
        // The output and the progress line would spoil each other on one terminal.
        let may_show = self.summary.is_some() || !io::stdout().is_terminal();
        let mut progress = may_show.then(|| Progress::of(path, size)).flatten();
        while let Some((piece, is_end)) = pieces.next().map_err(failed)? {
            if let Some(progress) = &mut progress {
                progress.add(piece.len());
            }
            let mut outcome = Ok(());
            reader.take(piece, is_end, &mut |name| outcome = outcome.clone().and_then(|()| self.found(name)));
            outcome?;
            if self.out.len() >= PRINTED_AT_ONCE && !print(std::mem::take(&mut self.out).as_bytes())? {
                return Ok(reader);
            }
        }
        let mut outcome = Ok(());
        reader.finish(&mut |name| outcome = outcome.clone().and_then(|()| self.found(name)));
        outcome.map(|()| reader)
    }

    fn found(&mut self, name: &[u8]) -> Result<(), Error> {
        // A name that is not UTF-8 is none of ours.
        self.decode(std::str::from_utf8(name).unwrap_or_default()).map(drop)
    }

    fn output(self) -> Result<Output, Error> {
        match self.summary {
            None => Ok(Output::text(self.out)),
            Some(mut summary) if self.form.is_for_programs() => Ok(Output::json(&summary.as_json())),
            Some(mut summary) => summary.as_text().map(Output::text),
        }
    }
}

/// Shows on a line of the terminal how far a log has been read. The line is overwritten, and is removed at the end.
struct Progress {
    name: String,
    size: Option<u64>,
    read: u64,
    not_looked_at: u64,
    shown_at: Instant,
}

impl Progress {
    /// After how many bytes the progress is updated at the earliest.
    const LOOK: u64 = 1 << 20;
    const SHOWN_EACH: Duration = Duration::from_millis(200);

    /// Starts the progress line. None: standard error is not a terminal.
    fn of(path: &Path, size: Option<u64>) -> Option<Self> {
        let name = ondat_telemetry_command::plain::text(&path.display().to_string());
        io::stderr().is_terminal().then(|| Self { name, size, read: 0, not_looked_at: 0, shown_at: Instant::now() })
    }

    fn add(&mut self, bytes: usize) {
        self.read += bytes as u64;
        self.not_looked_at += bytes as u64;
        if self.not_looked_at >= Self::LOOK {
            self.not_looked_at = 0;
            if self.shown_at.elapsed() >= Self::SHOWN_EACH {
                self.shown_at = Instant::now();
                self.show();
            }
        }
    }

    fn show(&self) {
        let read = self.read >> 20;
        let line = match self.size {
            Some(size) => format!("{read} of {} MiB, {} %", size >> 20, self.read.saturating_mul(100) / size.max(1)),
            None => format!("{read} MiB"),
        };
        // If the terminal is gone, nobody sees the progress.
        let _ = write!(io::stderr(), "\r{}: {line}\x1b[K", self.name);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

impl Said {
    fn version(&self) -> Option<String> {
        version_of(&self.label).map(|version| version.to_string())
    }

    fn as_json(&self) -> Value {
        let query = self.query.as_ref();
        json!({
            "day": query.map(|query| status::date(query.day.into())),
            "version": self.version(),
            "version_label": self.label,
            "cluster_id": query.map(|query| HEXLOWER.encode(&query.cluster)),
            "node_id": query.map(|query| HEXLOWER.encode(&query.node)),
            "sealed": self.is_sealed,
        })
    }

    fn as_text(&self) -> String {
        let version = self.version().unwrap_or_else(|| format!("label {}", self.label));
        match &self.query {
            Some(query) => format!(
                "{}  {version}  cluster {}  node {}\n",
                status::date(query.day.into()),
                HEXLOWER.encode(&query.cluster),
                HEXLOWER.encode(&query.node),
            ),
            None => format!("sealed      {version}  (--key opens it)\n"),
        }
    }
}
