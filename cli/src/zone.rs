//! `zone`: writes a release as a signed BIND zone file. Before a record is printed, the library's own verification must
//! accept it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signer, SigningKey};
use ondat_telemetry::config::setting;
use ondat_telemetry::error::Error;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry::version::verdict::{Verdict, is_development_build};
use ondat_telemetry_protocol::answer::{Answer, Judge, VersionKey, key_id, signed_message};
use ondat_telemetry_protocol::query::{canonical, version_label};
use semver::Version;
use serde::Deserialize;

use crate::keygen::{ED25519, VersionKeyFile};
use crate::settings::read_text;
use crate::{Output, complain};

/// What a zone is made from.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The release file, TOML: zone, latest, and optionally recommended, required, advisory, expires_days, ns, serial,
    /// keys and [[override]] tables with version, status and optionally advisory, latest, recommended, required,
    /// replayable; docs/version-zone.md has an example
    #[arg(value_name = "RELEASE.toml", required_unless_present = "verify")]
    release: Option<PathBuf>,
    /// A version.key of `keygen version`, besides those that the release file names; several while one is replaced
    #[arg(long = "key", value_name = "VERSION_KEY_FILE")]
    keys: Vec<PathBuf>,
    /// Print the answers alone, with absolute names and without SOA and NS: for a zone that a provider hosts, or a zone
    /// that these names are part of
    #[arg(long, conflicts_with = "verify")]
    records_only: bool,
    /// The zone that the answers are put into; names are printed as they stand in it
    #[arg(long, value_name = "ZONE", requires = "records_only")]
    origin: Option<String>,
    /// Ask this zone, as it is published, for its answer by --version-key; --nameservers instead of the system's
    /// resolver, --product-version for that version's answer
    #[arg(long, value_name = "ZONE", conflicts_with_all = ["release", "keys"])]
    pub(crate) verify: Option<String>,
    /// With --verify: how many days an answer must still be good for
    #[arg(long, value_name = "DAYS", requires = "verify", conflicts_with = "release", default_value_t = 7,
          value_parser = clap::value_parser!(u16).range(..=3650))]
    pub(crate) within_days: u16,
    /// The moment of issue in Unix seconds, for reproducible output
    #[arg(long, hide = true, value_name = "UNIX")]
    now: Option<u32>,
}

/// The table at the end of `zone --help`.
pub(crate) const HELP: &str = "\
Exit status of --verify:
  0   each key of --version-key has signed an answer that is good for longer than --within-days
  1   one of them expires within --within-days, or has expired; or anything that is not listed here
  2   the command line, a setting or a file it names is invalid
  3   the version check is turned off: nothing was sent
  4   network failure or timeout: the zone cannot be reached
  5   there is no answer, it is not signed, signed by another key, or makes no sense";

const DAY: i64 = 86_400;
/// The longest character-string of a TXT record (RFC 1035, 3.3).
const LONGEST_STRING: usize = 255;
/// The longest name in a message, in octets (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;
/// What passes over UDP without fragments (DNS flag day 2020).
const UDP_BYTES: usize = 1232;

/// The release file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseFile {
    zone: String,
    latest: String,
    recommended: Option<String>,
    required: Option<String>,
    advisory: Option<String>,
    #[serde(default = "default_expires_days")]
    expires_days: u16,
    ns: Option<Vec<String>>,
    serial: Option<u32>,
    /// Key files, seen from the release file's folder.
    #[serde(default)]
    keys: Vec<PathBuf>,
    #[serde(default, rename = "override")]
    overrides: Vec<OverrideTable>,
}

/// One `[[override]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideTable {
    version: String,
    status: u8,
    advisory: Option<String>,
    latest: Option<String>,
    recommended: Option<String>,
    required: Option<String>,
    /// Whether the general answer, replayed, may hide this one.
    #[serde(default)]
    replayable: bool,
}

fn default_expires_days() -> u16 {
    30
}

/// What stands for `ns` where it is missing: a zone file has to name a server.
const NO_NS: &str = "localhost.";
const TTL: u32 = 3600;

/// A release that makes sense.
#[derive(Debug)]
struct Release {
    zone: String,
    /// None where the file does not say.
    ns: Option<Vec<String>>,
    serial: u32,
    issued: i64,
    expires: i64,
    keys: Vec<PathBuf>,
    statements: Vec<Statement>,
}

/// What one answer says.
#[derive(Debug)]
struct Statement {
    /// The version label it is for, or none for all versions.
    label: Option<String>,
    latest: Version,
    recommended: Option<Version>,
    required: Option<Version>,
    status: Option<u8>,
    advisory: Option<String>,
}

/// A key that signs.
struct Signing {
    id: String,
    key: SigningKey,
    public: VersionKey,
}

/// Prints the zone file.
pub(crate) fn run(arguments: &Arguments) -> Result<Output, Error> {
    let now = arguments.now.unwrap_or_else(|| u32::try_from(unix_now()).unwrap_or(u32::MAX));
    let path = arguments.release.as_deref().unwrap_or(Path::new(""));
    let text = read_text(path, "release file")?;
    let release = Release::parse(&text, now).map_err(|why| invalid(path, &why))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut keys: Vec<Signing> = Vec::new();
    for path in release.keys.iter().map(|key| folder.join(key)).chain(arguments.keys.iter().cloned()) {
        let key = Signing::parse(&read_text(&path, "version key")?).map_err(|why| invalid(&path, &why))?;
        if keys.iter().any(|known| known.id == key.id) {
            return Err(invalid(&path, "the same key is given twice"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(invalid(path, "nothing to sign with: name a version.key with --key or `keys = [...]`"));
    }
    let text = if arguments.records_only {
        release.records_only(&keys, arguments.origin.as_deref())
    } else {
        release.zone_file(&keys)
    };
    if release.ns.is_none() && !arguments.records_only && text.is_ok() {
        complain(&format!(
            "warning: {}: `ns` is missing: the zone names {NO_NS} as its server; set `ns = [\"ns1.example.org.\"]`, or \
             print --records-only for a zone that a provider hosts",
            path.display()
        ));
    }
    text.map(Output::text).map_err(|why| invalid(path, &why))
}

fn invalid(path: &Path, why: &str) -> Error {
    Error::InvalidArgument(format!("{}: {why}", path.display()))
}

impl Release {
    fn parse(text: &str, now: u32) -> Result<Self, String> {
        let file: ReleaseFile = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.as_bytes().get(..span.start)).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line}: {}", error.message())
        })?;
        if file.expires_days == 0 {
            return Err("expires_days: 0 would expire at once; expected 1 to 65535".to_owned());
        }
        let zone = setting::zone(&file.zone).map_err(|why| format!("zone: {why}"))?;
        let general = file.general()?;
        let mut statements = Vec::new();
        let mut seen = BTreeSet::new();
        for table in &file.overrides {
            let statement = table.statement(&general)?;
            if !seen.insert(statement.label.clone()) {
                return Err(format!("override {}: given twice", table.version));
            }
            statements.push(statement);
        }
        statements.insert(0, general);
        let issued = i64::from(now);
        Ok(Self {
            ns: file.ns.as_ref().map(|names| name_servers(names, &zone)).transpose()?,
            zone,
            serial: file.serial.unwrap_or(now),
            issued,
            expires: issued + i64::from(file.expires_days) * DAY,
            keys: file.keys,
            statements,
        })
    }

    fn zone_file(&self, keys: &[Signing]) -> Result<String, String> {
        let Self { zone, serial, .. } = self;
        let unnamed = [NO_NS.to_owned()];
        let servers = self.ns.as_deref().unwrap_or(&unnamed);
        let first = servers.first().ok_or("ns: at least one name server is required")?;
        // Not DNSSEC-signed on purpose: resolvers would make up wildcard answers themselves.
        let mut out = format!("$ORIGIN {zone}.\n$TTL {TTL}\n");
        out.push_str(&format!("@ IN SOA {first} hostmaster.{zone}. {serial} 3600 600 604800 300\n"));
        for server in servers {
            out.push_str(&format!("@ IN NS {server}\n"));
        }
        for (owner, text) in self.records(keys)? {
            out.push_str(&format!("{owner} IN TXT \"{text}\"\n"));
        }
        Ok(out)
    }

    /// The answers alone: with absolute names, or with names as they stand in the zone `origin`.
    fn records_only(&self, keys: &[Signing], origin: Option<&str>) -> Result<String, String> {
        let (mut out, behind) = match origin {
            None => (String::new(), format!(".{}.", self.zone)),
            Some(origin) => {
                let origin = setting::zone(origin).map_err(|why| format!("--origin: {why}"))?;
                let below = self.zone.strip_suffix(&origin).filter(|labels| labels.is_empty() || labels.ends_with('.'));
                let below = below.ok_or_else(|| format!("--origin: {} is not in the zone {origin}", self.zone))?;
                let below = below.trim_end_matches('.');
                let behind = if below.is_empty() { String::new() } else { format!(".{below}") };
                (format!("$ORIGIN {origin}.\n"), behind)
            }
        };
        for (owner, text) in self.records(keys)? {
            out.push_str(&format!("{owner}{behind} {TTL} IN TXT \"{text}\"\n"));
        }
        Ok(out)
    }

    /// Names below the zone, and their answers.
    fn records(&self, keys: &[Signing]) -> Result<Vec<(String, String)>, String> {
        let mut records = Vec::new();
        for statement in &self.statements {
            let owner = statement.label.as_ref().map_or_else(|| "*.o1".to_owned(), |label| format!("*.{label}.o1"));
            // Header, question with the longest name, and the EDNS record (RFC 1035, 4.1; RFC 6891, 6.1.1).
            let mut answer_bytes = 12 + LONGEST_NAME + 4 + 11;
            for key in keys {
                let text = self.signed(statement, key);
                // A pointer to the name, type, class, TTL and two lengths come before the text.
                answer_bytes += 2 + 8 + 2 + 1 + text.len();
                if text.len() > LONGEST_STRING {
                    return Err(format!(
                        "the answer for {owner} takes {} bytes, a TXT string holds {LONGEST_STRING}: \
                         shorten the advisory or the versions",
                        text.len()
                    ));
                }
                self.judge(statement, key, &text)?;
                records.push((owner.clone(), text));
            }
            if answer_bytes > UDP_BYTES {
                return Err(format!(
                    "signed with {} keys, an answer for {owner} takes {answer_bytes} bytes, {UDP_BYTES} fit into one \
                     packet: sign with fewer keys",
                    keys.len()
                ));
            }
        }
        Ok(records)
    }

    fn signed(&self, statement: &Statement, key: &Signing) -> String {
        let covered = format!("{} k={}", statement.text(self.issued, self.expires), key.id);
        let signature = key.key.sign(&signed_message(&self.zone, &covered));
        format!("{covered} g={}", BASE64URL_NOPAD.encode(&signature.to_bytes()))
    }

    /// A client that has this key must accept the record, and read from it what was meant.
    fn judge(&self, statement: &Statement, key: &Signing, text: &str) -> Result<(), String> {
        // A general answer is for any version; this one stands for them.
        let any = version_label(&statement.latest);
        let judge = Judge {
            zone: &self.zone,
            version_label: statement.label.as_ref().unwrap_or(&any),
            keys: std::slice::from_ref(&key.public),
            now: self.issued,
            newest_issued: 0,
        };
        let (answer, _) = judge.first_acceptable(&[text.as_bytes().to_vec()]).map_err(|error| error.to_string())?;
        let meant = statement.answer(self.issued, self.expires);
        if answer == meant { Ok(()) } else { Err(format!("clients would misread the answer {text:?}")) }
    }
}

impl ReleaseFile {
    fn general(&self) -> Result<Statement, String> {
        let general = Statement {
            label: None,
            latest: version("latest", &self.latest)?,
            recommended: optional_version("recommended", self.recommended.as_deref())?,
            required: optional_version("required", self.required.as_deref())?,
            status: None,
            advisory: self.advisory.as_deref().map(|id| advisory("advisory", id)).transpose()?,
        };
        if !general.latest.pre.is_empty() {
            return Err(format!("latest: {} is a pre-release, not a stable version", general.latest));
        }
        refuse_above(("recommended", general.recommended.as_ref()), ("latest", Some(&general.latest)))?;
        refuse_above(("required", general.required.as_ref()), ("latest", Some(&general.latest)))?;
        refuse_above(("required", general.required.as_ref()), ("recommended", general.recommended.as_ref()))?;
        Ok(general)
    }
}

impl OverrideTable {
    fn statement(&self, general: &Statement) -> Result<Statement, String> {
        let place = |what: &str| format!("override {}: {what}", self.version);
        let version_here = version("override version", &self.version)?;
        if !matches!(self.status, 1..=3) {
            return Err(place("status: expected 1 (fine), 2 (upgrade recommended) or 3 (upgrade required)"));
        }
        let own = |what: &str, text: &Option<String>| optional_version(&place(what), text.as_deref());
        let (latest, recommended, required) =
            (own("latest", &self.latest)?, own("recommended", &self.recommended)?, own("required", &self.required)?);
        let statement = Statement {
            label: Some(version_label(&version_here)),
            latest: latest.unwrap_or_else(|| general.latest.clone()),
            recommended: recommended.or_else(|| general.recommended.clone()),
            required: required.or_else(|| general.required.clone()),
            status: Some(self.status),
            advisory: self.advisory.as_deref().map(|id| advisory(&place("advisory"), id)).transpose()?,
        };
        if is_development_build(&version_here) {
            return Err(place("a development build is never told anything"));
        }
        if self.status > 1 && version_here.cmp_precedence(&statement.latest).is_eq() {
            return Err(place("status: it is the latest version itself, there is nothing to upgrade to"));
        }
        // Bounds that come from the general answer may be above an older line's own latest: the status decides.
        let own_bounds = [("recommended", &self.recommended), ("required", &self.required)];
        for (what, _) in own_bounds.into_iter().filter(|(_, text)| text.is_some()) {
            let bound = if what == "required" { &statement.required } else { &statement.recommended };
            refuse_above((what, bound.as_ref()), ("latest", Some(&statement.latest))).map_err(|why| place(&why))?;
        }
        if !self.replayable {
            self.refuse_hidden(&version_here, general, &statement).map_err(|why| place(&why))?;
        }
        Ok(statement)
    }

    /// Clients accept the general answer in an override's place: they cannot know that there is one. So whoever can
    /// answer for the zone may replay it, and must gain nothing by that.
    fn refuse_hidden(&self, version: &Version, general: &Statement, own: &Statement) -> Result<(), String> {
        let verdict = |statement: &Statement| Verdict::at(0, version, &statement.answer(0, 1));
        let (replayed, meant) = (verdict(general), verdict(own));
        if replayed >= meant {
            return Ok(());
        }
        let bound = if meant == Verdict::UpgradeRequired { "required" } else { "recommended" };
        Err(format!(
            "status: whoever replays the general answer hides it, for that one says {:?} and not {:?}: raise \
             `{bound}` above {version} and give the versions below that are fine an override with status 1, or \
             accept the risk with `replayable = true`",
            replayed.as_str(),
            meant.as_str()
        ))
    }
}

impl Statement {
    /// What a client reads from it.
    fn answer(&self, issued: i64, expires: i64) -> Answer {
        Answer {
            latest: self.latest.clone(),
            recommended: self.recommended.clone(),
            required: self.required.clone(),
            status: self.status,
            advisory: self.advisory.clone(),
            issued,
            expires,
            authenticated: true,
        }
    }

    /// The answer's text up to where the key id follows.
    fn text(&self, issued: i64, expires: i64) -> String {
        let mut text = format!("o1 v={} l={}", self.label.as_deref().unwrap_or("*"), self.latest);
        let optional = [
            ("r", self.recommended.as_ref().map(Version::to_string)),
            ("m", self.required.as_ref().map(Version::to_string)),
            ("s", self.status.map(|status| status.to_string())),
            ("a", self.advisory.clone()),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                text.push_str(&format!(" {key}={value}"));
            }
        }
        text + &format!(" t={issued} e={expires}")
    }
}

impl Signing {
    fn parse(text: &str) -> Result<Self, String> {
        let file: VersionKeyFile =
            serde_json::from_str(text).map_err(|error| format!("not a version.key of keygen: {error}"))?;
        if file.algorithm != ED25519 {
            return Err(format!("algorithm {:?}, expected {ED25519:?}", file.algorithm));
        }
        let seed = BASE64.decode(file.private.as_bytes()).ok().and_then(|seed| <[u8; 32]>::try_from(seed).ok());
        let key = SigningKey::from_bytes(&seed.ok_or("`private` is not 32 bytes in base64")?);
        let public = key.verifying_key().to_bytes();
        if file.id != key_id(&public) {
            return Err("`id` does not belong to `private`: the file is damaged".to_owned());
        }
        Ok(Self { id: file.id, key, public: VersionKey::parse(&BASE64.encode(&public))? })
    }
}

/// A version in the form in which it is sent: without a leading `v` and without build metadata.
fn version(place: &str, text: &str) -> Result<Version, String> {
    let version = Version::parse(text.strip_prefix('v').unwrap_or(text))
        .and_then(|version| Version::parse(&canonical(&version)))
        .map_err(|error| format!("{place}: {text:?} is not a SemVer version such as 2.8.2 ({error})"))?;
    Ok(version)
}

fn optional_version(place: &str, text: Option<&str>) -> Result<Option<Version>, String> {
    text.map(|text| version(place, text)).transpose()
}

fn advisory(place: &str, text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    if (1..=64).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{place}: expected 1 to 64 of a-z A-Z 0-9 - _ . : /"))
    }
}

fn refuse_above(bound: (&str, Option<&Version>), limit: (&str, Option<&Version>)) -> Result<(), String> {
    match (bound, limit) {
        ((what, Some(version)), (limit, Some(most))) if version.cmp_precedence(most).is_gt() => {
            Err(format!("{what} {version} is above {limit} {most}"))
        }
        _ => Ok(()),
    }
}

/// Names of servers, absolute. One inside the zone would need an address record here.
fn name_servers(names: &[String], zone: &str) -> Result<Vec<String>, String> {
    if names.is_empty() {
        return Err("ns: at least one name server is required".to_owned());
    }
    let checked = names.iter().map(|name| {
        let name = setting::zone(name).map_err(|why| format!("ns: {why}"))?;
        if name == zone || name.ends_with(&format!(".{zone}")) {
            return Err(format!("ns: {name} is inside the zone, which holds no addresses: name a server outside it"));
        }
        Ok(format!("{name}."))
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_800_000_000;

    fn key(seed: u8) -> Signing {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = key.verifying_key().to_bytes();
        Signing { id: key_id(&public), public: VersionKey::parse(&BASE64.encode(&public)).unwrap(), key }
    }

    fn refused(text: &str) -> String {
        let head = "zone = \"latest.example.com\"\n";
        Release::parse(&format!("{head}{text}"), NOW).unwrap_err()
    }

    #[test]
    fn the_text_has_the_order_of_the_protocol() {
        let release = Release::parse(
            "zone = 'Latest.Example.com.'\nlatest = 'v2.9.0+b1'\nrecommended = '2.8.3'\nrequired = '2.7.0'\n\
             advisory = 'ODT-7'\n",
            NOW,
        );
        let zone = release.unwrap().zone_file(&[key(1)]).unwrap();
        let id = key(1).id;
        let answer =
            format!("*.o1 IN TXT \"o1 v=* l=2.9.0 r=2.8.3 m=2.7.0 a=ODT-7 t=1800000000 e=1802592000 k={id} g=");
        assert!(zone.contains(&answer), "{zone}");
        assert!(zone.starts_with("$ORIGIN latest.example.com.\n$TTL 3600\n@ IN SOA localhost. "), "{zone}");
    }

    #[test]
    fn an_override_inherits_bounds_and_has_its_own_advisory() {
        let release = Release::parse(
            "zone = 'z.example'\nlatest = '2.9.0'\nrecommended = '2.8.3'\nadvisory = 'ODT-7'\nserial = 5\n\
             [[override]]\nversion = '2.8.1'\nstatus = 3\nlatest = '2.8.4'\nreplayable = true\n",
            NOW,
        );
        let zone = release.unwrap().zone_file(&[key(1), key(2)]).unwrap();
        let label = version_label(&"2.8.1".parse().unwrap());
        let line = format!("*.{label}.o1 IN TXT \"o1 v={label} l=2.8.4 r=2.8.3 s=3 t=");
        assert_eq!(zone.matches(&line).count(), 2, "one per key: {zone}");
        assert!(zone.contains(" 5 3600 600 604800 300\n"), "{zone}");
    }

    #[test]
    fn what_is_clearly_wrong_is_refused_by_name() {
        let over = |text: &str| refused(&format!("latest = '2.9.0'\n[[override]]\n{text}"));
        for (why, expected) in [
            (refused("latest = '2.9'"), "latest: \"2.9\" is not a SemVer version"),
            (refused("latest = '2.9.0-rc.1'"), "pre-release"),
            (refused("latest = '2.9.0'\nrecommended = '3.0.0'"), "recommended 3.0.0 is above latest 2.9.0"),
            (refused("latest = '2.9.0'\nrequired = '3.0.0'"), "required 3.0.0 is above latest 2.9.0"),
            (
                refused("latest = '2.9.0'\nrecommended = '2.1.0'\nrequired = '2.2.0'"),
                "required 2.2.0 is above recommended",
            ),
            (refused("latest = '2.9.0'\nexpires_days = 0"), "expires_days"),
            (refused("latest = '2.9.0'\nadvisory = 'two words'"), "advisory"),
            (refused("latest = '2.9.0'\nns = []"), "ns: at least one"),
            (refused("latest = '2.9.0'\nns = ['ns1.latest.example.com.']"), "inside the zone"),
            (refused("latest = '2.9.0'\ncolour = 'red'"), "line 3: unknown field `colour`"),
            (over("version = '2.8'\nstatus = 2"), "override version: \"2.8\""),
            (over("version = '2.8.1'\nstatus = 4"), "override 2.8.1: status"),
            (over("version = '2.9.0'\nstatus = 2"), "override 2.9.0: status: it is the latest version itself"),
            (over("version = '2.8.1'\nstatus = 2\nrequired = '2.9.1'"), "override 2.8.1: required 2.9.1 is above"),
            (over("version = '2.8.1-dev'\nstatus = 2"), "override 2.8.1-dev: a development build"),
            (
                over("version = '2.8.1'\nstatus = 1\n[[override]]\nversion = 'v2.8.1+x'\nstatus = 1"),
                "override v2.8.1+x: given twice",
            ),
        ] {
            assert!(why.contains(expected), "{why:?} should say {expected:?}");
        }
    }

    #[test]
    fn an_override_that_a_replay_would_hide_is_refused() {
        let parse = |bounds: &str, over: &str| {
            let text =
                format!("zone = 'z.example'\nlatest = '2.9.0'\n{bounds}\n[[override]]\nversion = '2.8.1'\n{over}");
            Release::parse(&text, NOW).map(drop)
        };
        let why = parse("recommended = '2.8.2'", "status = 3").unwrap_err();
        assert!(why.starts_with("override 2.8.1: status: whoever replays the general answer hides it"), "{why}");
        assert!(why.contains("\"upgrade recommended\" and not \"upgrade required\": raise `required`"), "{why}");
        assert!(parse("", "status = 2").unwrap_err().contains("raise `recommended` above 2.8.1"));
        parse("recommended = '2.8.2'", "status = 3\nreplayable = true").unwrap();
        parse("required = '2.8.2'", "status = 3").unwrap();
        parse("required = '2.8.2'", "status = 2").unwrap();
        parse("required = '2.8.2'", "status = 1").unwrap();
    }

    #[test]
    fn an_answer_that_needs_tcp_is_refused() {
        let release = Release::parse("zone = 'z.example'\nlatest = '2.9.0'\n", NOW).unwrap();
        let keys: Vec<Signing> = (1..=9).map(key).collect();
        release.zone_file(&keys[..3]).unwrap();
        let why = release.zone_file(&keys).unwrap_err();
        assert!(why.starts_with("signed with 9 keys, an answer for *.o1 takes ") && why.contains("1232"), "{why}");
    }

    #[test]
    fn an_answer_that_fits_no_string_is_refused() {
        let advisory = "A".repeat(64);
        let release = Release::parse(
            &format!(
                "zone = 'z.example'\nlatest = '2.9.0'\n[[override]]\nversion = '2.8.1-rc.1.of-a-branch-with-a-long-name'\n\
                 status = 2\nadvisory = '{advisory}'\nlatest = '2.9.0-alpha.beta.gamma.delta'\nreplayable = true\n"
            ),
            NOW,
        );
        let why = release.unwrap().zone_file(&[key(1)]).unwrap_err();
        assert!(why.contains("a TXT string holds 255"), "{why}");
    }

    #[test]
    fn a_key_file_is_refused_with_the_reason() {
        let why = |text: &str| Signing::parse(text).err().unwrap();
        assert!(why("{}").contains("not a version.key"));
        assert!(why(r#"{"algorithm":"RSA","id":"","private":""}"#).contains("algorithm"));
        assert!(why(r#"{"algorithm":"Ed25519","id":"","private":"AAAA"}"#).contains("32 bytes"));
        let other = format!(r#"{{"algorithm":"Ed25519","id":"00000000","private":"{}"}}"#, BASE64.encode(&[1; 32]));
        assert!(why(&other).contains("damaged"));
    }
}
