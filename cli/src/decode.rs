//! `decode-query`: what the names of version queries say, one by one or out of a DNS server's query log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;
use ondat_telemetry::seal::MessageSecret;
use ondat_telemetry::version::query::{Query, SealedQuery, version_of};
use serde_json::{Value, json};

use crate::form::Form;
use crate::keygen::read_seal_key;
use crate::{Output, complain, print, status};

/// What is to be decoded.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Names as they were asked; with --version-zone, only of that zone
    #[arg(value_name = "NAME", required_unless_present = "logs")]
    names: Vec<String>,
    /// A query log as text, of BIND, Unbound, PowerDNS, CoreDNS, dnsmasq, or dnstap as dnstap-read and dnstap-ldns
    /// print it; - for the standard input. Questions for TXT are read, each once; responses are passed over
    #[arg(long = "from-log", value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// A version-seal.key of `keygen version-seal`, to open sealed queries; several while a key is being replaced
    #[arg(long = "key", value_name = "SEAL_KEY_FILE")]
    keys: Vec<PathBuf>,
}

/// The longest line of a log that is read, in bytes: a name has 255, and no log says sixty times as much about one.
const LONGEST_LINE: u64 = 16_384;
/// Printed as soon as there is this much.
const PRINTED_AT_ONCE: usize = 65_536;

/// Decodes names, then logs.
pub(crate) fn run(arguments: &Arguments, zone: Option<&str>, form: Form) -> Result<Output, Error> {
    let secrets = arguments.keys.iter().map(|path| read_seal_key(path)).collect::<Result<Vec<_>, _>>()?;
    let mut decoder = Decoder { zone, secrets, form, out: String::new(), decoded: 0, dropped: 0 };
    let mut code = 0;
    for name in &arguments.names {
        if !decoder.decode(name) {
            complain(&format!("{name:?} is no version query: another kind of name, or damaged"));
            code = 2;
        }
    }
    for path in &arguments.logs {
        decoder.read_log(path)?;
    }
    if !arguments.logs.is_empty() {
        complain(&format!("{} version queries, {} other names dropped", decoder.decoded, decoder.dropped));
    }
    Ok(Output::text(decoder.out).with_code(code))
}

struct Decoder<'a> {
    zone: Option<&'a str>,
    secrets: Vec<MessageSecret>,
    form: Form,
    out: String,
    decoded: u64,
    dropped: u64,
}

/// What one name says.
struct Said {
    label: String,
    /// Ids and day; none where they are sealed and no key opens them.
    query: Option<Query>,
    is_sealed: bool,
}

impl Decoder<'_> {
    /// Puts into the output what the name says. False where it says nothing.
    fn decode(&mut self, name: &str) -> bool {
        let Some(said) = self.read(name) else {
            self.dropped += 1;
            return false;
        };
        self.decoded += 1;
        let text = if self.form.is_for_programs() { self.form.of_one_more(&said.as_json()) } else { said.as_text() };
        self.out.push_str(&text);
        true
    }

    fn read(&self, name: &str) -> Option<Said> {
        if let Some(query) = Query::decode(name, self.zone) {
            return Some(Said { label: query.version.clone(), query: Some(query), is_sealed: false });
        }
        let sealed = SealedQuery::decode(name, self.zone)?;
        let query = self.secrets.iter().find_map(|secret| sealed.open(secret));
        if query.is_none() && !self.secrets.is_empty() {
            // With the keys at hand, what none opens is damaged or not from a client of ours.
            return None;
        }
        Some(Said { label: sealed.version, query, is_sealed: true })
    }

    fn read_log(&mut self, path: &Path) -> Result<(), Error> {
        let failed = |error: io::Error| Error::InvalidArgument(format!("--from-log {}: {error}", path.display()));
        let input: Box<dyn Read> =
            if path.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(path).map_err(failed)?) };
        let mut lines = Lines { input: BufReader::new(input), line: Vec::new() };
        let mut is_response = false;
        while let Some(line) = lines.next().map_err(failed)? {
            // dnstap-read -y: the kind of a message stands some lines above its question.
            if let Some(kind) = line.trim().strip_prefix("type: ") {
                is_response = kind.ends_with("_RESPONSE");
            }
            if !is_response && let Some(name) = asked_name(&line) {
                self.decode(name);
            }
            if self.out.len() >= PRINTED_AT_ONCE && !print(std::mem::take(&mut self.out).as_bytes())? {
                break;
            }
        }
        Ok(())
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

/// The name for which a line of a log says that TXT was asked, where it may be one of ours.
///
/// The line is looked at as words, for every server puts them in an order of its own:
/// `query: NAME IN TXT` (BIND), `NAME. TXT IN` (Unbound), `'NAME|TXT'` (PowerDNS), `"TXT IN NAME.` (CoreDNS),
/// `query[TXT] NAME` (dnsmasq), `AQ … NAME/IN/TXT` (dnstap-read), `AQ … "NAME." IN TXT` (dnstap-ldns).
fn asked_name(line: &str) -> Option<&str> {
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || "\"'()[]{},;/|".contains(c))
        .filter(|word| !word.is_empty() && *word != "IN")
        .collect();
    // dnstap: responses are marked AR, CR, RR and so on.
    let is_response = |word: &&str| word.len() == 2 && word.ends_with('R') && "ACFRSTU".contains(&word[..1]);
    if words.iter().any(is_response) {
        return None;
    }
    let at = words.iter().position(|word| *word == "TXT")?;
    let neighbours = [at.checked_sub(1), Some(at + 1)];
    let mut neighbours = neighbours.into_iter().flatten().filter_map(|at| words.get(at));
    neighbours.find(|word| word.to_ascii_lowercase().contains(".o1.")).copied()
}

/// The lines of a log, as far as they are of any use.
struct Lines<R: Read> {
    input: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    /// The next line, without what is beyond [`LONGEST_LINE`].
    fn next(&mut self) -> io::Result<Option<String>> {
        self.line.clear();
        if self.input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&self.line).into_owned();
        while self.line.last() != Some(&b'\n') {
            self.line.clear();
            if self.input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut self.line)? == 0 {
                break;
            }
        }
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_servers_log_names_the_question() {
        for line in [
            "24-Nov-2026 22:12:20.101 client @0x7f5c 127.0.0.1#38466 (a.b.o1.z.example): query: A.b.o1.z.example IN TXT -E(0) (127.0.0.1)",
            "[1795558340] unbound[1:0] info: 127.0.0.1 A.b.o1.z.example. TXT IN",
            "Nov 24 22:12:20 Remote 127.0.0.1 wants 'A.b.o1.z.example|TXT', do = 0, bufsize = 1232: packetcache MISS",
            "[INFO] 127.0.0.1:40212 - 1234 \"TXT IN A.b.o1.z.example. udp 120 false 1232\" NOERROR qr,aa 283 0.0001s",
            "Nov 24 22:12:20 dnsmasq[1]: query[TXT] A.b.o1.z.example from 127.0.0.1",
            "24-Nov-2026 22:12:20.101 AQ 127.0.0.1:38466 -> 127.0.0.1:53 UDP 121b A.b.o1.z.example/IN/TXT",
            "22:12:20.101000 AQ 127.0.0.1 UDP 121b \"A.b.o1.z.example.\" IN TXT",
            "    - A.b.o1.z.example. IN TXT",
        ] {
            assert_eq!(asked_name(line).map(|name| name.trim_end_matches('.')), Some("A.b.o1.z.example"), "{line}");
        }
    }

    #[test]
    fn other_types_responses_and_other_names_are_passed_over() {
        for line in [
            "query: a.b.o1.z.example IN A +E(0)K (127.0.0.1)",
            "query: www.z.example IN TXT + (127.0.0.1)",
            "24-Nov-2026 22:12:20.101 AR 127.0.0.1:38466 <- 127.0.0.1:53 UDP 283b a.b.o1.z.example/IN/TXT",
            "a.b.o1.z.example and, much later, TXT",
            "TXT",
            "",
        ] {
            assert_eq!(asked_name(line), None, "{line}");
        }
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_is_read() {
        let long = "x".repeat(100_000);
        let text = format!("{long}\nshort\nlast");
        let mut lines = Lines { input: BufReader::new(text.as_bytes()), line: Vec::new() };
        assert_eq!(lines.next().unwrap().unwrap().len(), 16_384);
        assert_eq!(lines.next().unwrap().as_deref(), Some("short\n"));
        assert_eq!(lines.next().unwrap().as_deref(), Some("last"));
        assert_eq!(lines.next().unwrap(), None);
    }
}
