//! `gen`: a fleet that is made up, sealed as clients seal, with all that happens on the way, and a ledger that says what
//! has to be in the tables.

mod random;
mod world;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use flate2::Compression;
use flate2::write::GzEncoder;
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::ending::{CoreDump, Ending};
use ondat_telemetry_protocol::event::{self, Crash, Subject};
use ondat_telemetry_protocol::fields::Level;
use ondat_telemetry_protocol::identity::{Identity, Purpose};
use ondat_telemetry_protocol::keys::{Kem, KeySet, SealKey, generate_key, key_id};
use ondat_telemetry_protocol::plaintext::writer::{Heading, OwnNode, Writer};
use ondat_telemetry_protocol::seal::Sealer;
use ondat_telemetry_protocol::time;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::data::{Day, Place, ReportId, parse_day};
use crate::fault::{disk, unusable};
use random::Random;
use world::{Cluster, Document};

/// What `gen` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct GenOptions {
    /// A new folder: data/ is what the receiving side would hold, keys/ has the private keys, ledger.jsonl a line for each
    /// body with what is to become of it.
    #[arg(value_name = "DIR")]
    out: PathBuf,
    /// How many clusters there are at the end.
    #[arg(long, value_name = "N", default_value_t = 100)]
    clusters: u64,
    /// How many days they are watched.
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u16,
    /// The same seed makes the same fleet, but for what sealing draws.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The first UTC day.
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "2026-09-01")]
    first_day: String,
    /// Only reports that arrive on their day, each once.
    #[arg(long)]
    calm: bool,
}

/// What is to become of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    /// Its rows are in the tables.
    Counted,
    /// It is the same as the one that is counted.
    Duplicate,
    /// Another one with its id has more nodes.
    OtherBody,
    /// It came when its day was closed.
    Late,
    /// Its day had not begun.
    Ahead,
    /// It cannot be opened.
    SetAside,
}

/// A line of the ledger.
#[derive(Debug, Serialize)]
struct Line {
    place: String,
    report_id: String,
    day: String,
    fate: Fate,
    nodes: usize,
    volumes: usize,
    volume_bytes: u64,
    api_calls: u64,
}

/// Makes a fleet.
pub(crate) fn run(options: &GenOptions) -> Result<bool, Error> {
    let first = parse_day(&options.first_day);
    let first = first.ok_or_else(|| Error::InvalidArgument("--first-day: expected YYYY-MM-DD".to_owned()))?;
    fs::create_dir_all(&options.out).map_err(|why| disk("make", &options.out, why))?;
    if !crate::data::names(&options.out)?.is_empty() {
        return Err(unusable("use", &options.out, "it is not empty"));
    }
    let mut generator = Generator::new(options, first).map_err(|why| disk("write", &options.out, why))?;
    generator.run(options.clusters).map_err(|why| disk("write", &options.out, why))?;
    let counts: Vec<String> = generator.counts.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
    crate::print(&format!("{}, {} crashes\n", counts.join(", "), generator.crashes))?;
    Ok(true)
}

struct Generator {
    out: PathBuf,
    ledger: BufWriter<File>,
    /// The key of the first half of the days, that of the second, and one that nobody gives.
    keys: Vec<SealKey>,
    seed: u64,
    first: Day,
    days: i64,
    is_calm: bool,
    counts: BTreeMap<String, u64>,
    crashes: u64,
    /// The version queries of a day, each a line.
    queries: BTreeMap<Day, Vec<String>>,
}

impl Generator {
    fn new(options: &GenOptions, first: Day) -> io::Result<Self> {
        let out = options.out.clone();
        fs::create_dir_all(out.join("data/sealed/v1"))?;
        let ledger = BufWriter::new(File::create(out.join("ledger.jsonl"))?);
        let mut keys = Vec::new();
        for (folder, name, kem) in [
            ("keys", "key-1.json", Kem::X25519),
            ("keys", "key-2.json", Kem::XWing),
            ("lost-keys", "key-3.json", Kem::X25519),
        ] {
            fs::create_dir_all(out.join(folder))?;
            keys.push(write_key(&out.join(folder).join(name), kem)?);
        }
        Ok(Self {
            out,
            ledger,
            keys,
            seed: options.seed,
            first,
            days: i64::from(options.days),
            is_calm: options.calm,
            counts: BTreeMap::new(),
            crashes: 0,
            queries: BTreeMap::new(),
        })
    }

    fn run(&mut self, clusters: u64) -> io::Result<()> {
        for number in 0..clusters {
            let cluster = Cluster::new(self.seed, number, self.days);
            for day in cluster.born..self.days {
                self.live(&cluster, day)?;
            }
        }
        for day in if self.is_calm { 0..0 } else { 0..self.days } {
            let mut random = Random::new(self.seed, &[7, day.unsigned_abs()]);
            for _ in 0..clusters.div_ceil(20) {
                self.forge(&mut random, world::date(self.first, day))?;
            }
        }
        for (day, lines) in std::mem::take(&mut self.queries) {
            self.write_queries(day, &lines)?;
        }
        self.ledger.flush()
    }

    /// A day of a cluster.
    fn live(&mut self, cluster: &Cluster, day: i64) -> io::Result<()> {
        let date = world::date(self.first, day);
        let mut random = cluster.random(8, day);
        self.ask(cluster, day, date);
        self.crash(cluster, day, date, &mut random)?;
        // Some days there is no network.
        if !self.is_calm && random.happens(30) {
            return Ok(());
        }
        let key = if day * 2 < self.days { 0 } else { 1 };
        let hour = random.below(24) as u8;
        let whole = cluster.document(day, &time::date_of_day(date), cluster.nodes_on(day));
        if self.is_calm {
            return self.send(cluster, date, &whole, key, (date, hour, None), Fate::Counted).map(drop);
        }
        match random.below(1000) {
            0..5 => {
                // A clock that is 400 days off, either way.
                let day = if random.happens(500) { date - 400 } else { date + 400 };
                let fate = if day < date { Fate::Late } else { Fate::Ahead };
                self.send(cluster, day, &whole, key, (date, hour, None), fate)?;
            }
            5..55 => {
                // It was stored for some days.
                let received = date + 1 + random.below(14) as Day;
                self.send(cluster, date, &whole, key, (received, hour, None), Fate::Counted)?;
            }
            55..60 => {
                let received = date + 17 + random.below(5) as Day;
                self.send(cluster, date, &whole, key, (received, hour, None), Fate::Late)?;
            }
            60..90 => {
                // Answers were lost: the same body again and again, also on the next day.
                let sealed = self.send(cluster, date, &whole, key, (date, hour, None), Fate::Counted)?;
                for _ in 0..random.below(9) {
                    let received = date + random.below(3) as Day;
                    let hour = if received == date {
                        hour + random.below(u64::from(24 - hour)) as u8
                    } else {
                        random.below(24) as u8
                    };
                    self.store(cluster_line(&whole, Fate::Duplicate), &sealed, date, (received, hour, None))?;
                }
            }
            90..100 => {
                // Another node reported too, and has seen fewer or more.
                let other = cluster.document(day, &time::date_of_day(date), cluster.nodes_on(day) / 2);
                let is_more = other.nodes.len() < whole.nodes.len() && random.happens(500);
                let (first, second) = if is_more { (&other, &whole) } else { (&whole, &other) };
                let (kept, lost) = (Fate::Counted, Fate::OtherBody);
                self.send(cluster, date, first, key, (date, hour, None), if is_more { lost } else { kept })?;
                let fate = if is_more { kept } else { lost };
                self.send(cluster, date, second, key, (date, hour, Some([0; 4])), fate)?;
            }
            100..105 => {
                // Somebody was first with rubbish under its id.
                let id = cluster.identity.report_id(&time::date_of_day(date));
                let mut sealed = self.seal(&cluster.identity, date, &whole, 0)?;
                let end = sealed.len() - 1;
                sealed[end] ^= 1;
                let line = cluster_line(&whole, Fate::SetAside);
                self.store_as(line, &sealed, id, date, (date, hour, None))?;
                self.send(cluster, date, &whole, key, (date, hour, Some([0; 4])), Fate::Counted)?;
            }
            105..108 => {
                self.send(cluster, date, &whole, 2, (date, hour, None), Fate::SetAside)?;
            }
            _ => {
                self.send(cluster, date, &whole, key, (date, hour, None), Fate::Counted)?;
            }
        }
        Ok(())
    }

    /// Something that no cluster of ours has sent.
    fn forge(&mut self, random: &mut Random, date: Day) -> io::Result<()> {
        let identity = Identity::from_key(random.bytes());
        let document = Document::forged(random);
        let hour = random.below(24) as u8;
        let mut sealed = self.seal(&identity, date, &document, 0)?;
        let mut id = identity.report_id(&time::date_of_day(date));
        let fate = match random.below(4) {
            0 => {
                sealed.truncate(sealed.len() / 2);
                Fate::SetAside
            }
            1 => {
                let at = 37 + random.below(sealed.len() as u64 - 37) as usize;
                sealed[at] ^= 1 << random.below(8);
                Fate::SetAside
            }
            2 => {
                id = random.bytes();
                Fate::SetAside
            }
            // What is whole is counted: that it is made up shows on other days.
            _ => Fate::Counted,
        };
        self.store_as(cluster_line(&document, fate), &sealed, id, date, (date, hour, None))
    }

    fn send(
        &mut self,
        cluster: &Cluster,
        day: Day,
        document: &Document,
        key: usize,
        (received, hour, variant): (Day, u8, Option<[u8; 4]>),
        fate: Fate,
    ) -> io::Result<Vec<u8>> {
        let sealed = self.seal(&cluster.identity, day, document, key)?;
        self.store(cluster_line(document, fate), &sealed, day, (received, hour, variant))?;
        Ok(sealed)
    }

    fn seal(&self, identity: &Identity, day: Day, document: &Document, key: usize) -> io::Result<Vec<u8>> {
        let date = time::date_of_day(day);
        let id = identity.report_id(&date);
        let sealer = Sealer::new(Vec::new(), &self.keys[key], id, day);
        let packed = GzEncoder::new(sealer, Compression::new(4));
        let heading = Heading { id, day: date };
        let mut writer = Writer::new(packed, identity, heading, serde_json::Map::new(), OwnNode::default());
        let mut write = || -> Result<(), ondat_telemetry_protocol::fault::Fault> {
            writer.set_cluster(document.cluster.clone())?;
            for (level, records) in [(Level::Node, &document.nodes), (Level::Volume, &document.volumes)] {
                records.iter().try_for_each(|record| writer.add(level, record.clone()))?;
            }
            Ok(())
        };
        write().map_err(io::Error::other)?;
        writer.finish().map_err(io::Error::other)?.finish()?.finish()
    }

    fn store(&mut self, line: Line, sealed: &[u8], day: Day, place: (Day, u8, Option<[u8; 4]>)) -> io::Result<()> {
        let id: ReportId = sealed[18..34].try_into().map_err(io::Error::other)?;
        self.store_as(line, sealed, id, day, place)
    }

    fn store_as(
        &mut self,
        mut line: Line,
        sealed: &[u8],
        id: ReportId,
        day: Day,
        (received, hour, variant): (Day, u8, Option<[u8; 4]>),
    ) -> io::Result<()> {
        let mut place = Place { received, hour, id, variant };
        if variant.is_some() {
            let digest = Sha256::digest(sealed);
            place.variant = Some([digest[0], digest[1], digest[2], digest[3]]);
        }
        let path = self.out.join("data/sealed/v1").join(place.path());
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        // Stored if it is not there yet, as the receiving side does.
        match File::create_new(&path) {
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            file => file?.write_all(sealed)?,
        }
        (line.place, line.report_id, line.day) = (place.path(), HEXLOWER.encode(&id), time::date_of_day(day));
        let fate = serde_json::to_value(line.fate)?.as_str().unwrap_or_default().replace('_', " ");
        *self.counts.entry(fate).or_default() += 1;
        serde_json::to_writer(&mut self.ledger, &line)?;
        writeln!(self.ledger)
    }

    /// The version queries of a cluster's nodes, as the collector logs them.
    fn ask(&mut self, cluster: &Cluster, day: i64, date: Day) {
        use ondat_telemetry_protocol::query::{Query, version_label};
        let asked = time::date_of_day(date);
        for node in 0..cluster.nodes_on(day) {
            let Ok(version) = semver::Version::parse(cluster.version(node, day)) else { continue };
            let query = Query {
                cluster: cluster.identity.anonymise(Purpose::Cluster, "cluster"),
                node: cluster.identity.anonymise(Purpose::Node, &cluster.node_name(node)),
                day: date,
                version: version_label(&version),
            };
            let name = query.name("telemetry.example");
            let line = format!("{{\"time\":\"{asked}T12:00:00Z\",\"name\":\"{name}\"}}");
            let lines = self.queries.entry(date).or_default();
            // Resolvers ask again, and in other letters.
            if node % 5 == 0 {
                lines.push(line.replace(&name, &name.to_uppercase()));
            }
            lines.push(line);
        }
    }

    fn write_queries(&self, day: Day, lines: &[String]) -> io::Result<()> {
        let folder = self.out.join("data/dns").join(time::date_of_day(day));
        fs::create_dir_all(&folder)?;
        for (server, lines) in ["ns1", "ns2"].iter().zip(lines.chunks(lines.len().div_ceil(2).max(1))) {
            let mut packed = GzEncoder::new(File::create(folder.join(format!("{server}-12.gz")))?, Compression::new(4));
            lines.iter().try_for_each(|line| writeln!(packed, "{line}"))?;
            packed.finish()?;
        }
        Ok(())
    }

    /// Nodes crash now and then, those with a new version more often.
    fn crash(&mut self, cluster: &Cluster, day: i64, date: Day, random: &mut Random) -> io::Result<()> {
        for node in 0..cluster.nodes_on(day) {
            let version = cluster.version(node, day);
            if !random.happens(if version.starts_with("2.9") { 20 } else { 5 }) {
                continue;
            }
            let event_id = HEXLOWER.encode(&random.bytes::<16>());
            let anonymous = |purpose, raw: &str| cluster.identity.anonymise_hex(purpose, raw);
            let subject = Subject {
                component: random.pick(&["dataplane", "controlplane", "csi"]).copied().unwrap_or_default(),
                version,
                cluster_id: &anonymous(Purpose::Cluster, "cluster"),
                node_id: &anonymous(Purpose::Node, &cluster.node_name(node)),
            };
            let core_dump = if random.happens(400) { CoreDump::Yes } else { CoreDump::No };
            let (ending, class) = match random.below(3) {
                0 => (Ending::Killed { signal: 11, core_dump }, Some("address not mapped")),
                1 => (Ending::Killed { signal: 6, core_dump }, None),
                _ => (Ending::Exited(3), None),
            };
            let at = i64::from(date) * time::DAY_SECONDS + i64::try_from(random.below(86_400)).unwrap_or(0);
            let crash = Crash { event_id: &event_id, at, ending, class, text: None, is_child: false };
            let folder = self.out.join("data/crashes").join(time::date_of_day(date));
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(format!("{event_id}.json")), event::event(&subject, &crash).to_string())?;
            self.crashes += 1;
        }
        Ok(())
    }
}

fn cluster_line(document: &Document, fate: Fate) -> Line {
    Line {
        place: String::new(),
        report_id: String::new(),
        day: String::new(),
        fate,
        nodes: document.nodes.len(),
        volumes: document.volumes.len(),
        volume_bytes: document.volume_bytes(),
        api_calls: document.api_calls(),
    }
}

/// Makes a key pair, writes the private key to a file and returns the public one.
fn write_key(path: &Path, kem: Kem) -> io::Result<SealKey> {
    let (private, public) = generate_key(kem);
    let (id, private, public) = (HEXLOWER.encode(&key_id(&public)), BASE64.encode(&private), BASE64.encode(&public));
    let kem = if kem == Kem::X25519 { "X25519" } else { "X-Wing" };
    fs::write(path, format!("{{\"id\":\"{id}\",\"kem\":\"{kem}\",\"private\":\"{private}\"}}\n"))?;
    let set = format!(
        r#"{{"keys":[{{"id":"{id}","kem":"{kem}","public":"{public}","not_before":0,"not_after":{}}}]}}"#,
        time::LAST_SECOND
    );
    let set = KeySet::parse(&set).map_err(io::Error::other)?;
    set.current(1).cloned().ok_or_else(|| io::Error::other("the new key is not valid"))
}
