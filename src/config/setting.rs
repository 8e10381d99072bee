//! The settings that have a function in the C interface and a variable in the environment: a row each, where its value is kept,
//! and how it is read.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ondat_telemetry_protocol::answer::VersionKey;
use ondat_telemetry_protocol::identity::{component, raw_id};
use ondat_telemetry_protocol::keys::KeySet;
use ondat_telemetry_protocol::message::MessageKey;
use semver::Version;
use ureq::http::Uri;

use crate::crash::sentry::Dsn;
use crate::crash::setup::Retention;
use crate::transport::https::{Endpoint, HttpsSettings};
use crate::transport::proxy::ProxySettings;
use crate::transport::roots::CaFile;

/// The default bound of one network call.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time a crash may wait for its report to be sent: kubelets and service managers lose patience later.
const LONGEST_CRASH_WAIT_MS: u64 = 30_000;
/// The longest setting but for key sets and cluster specs, in bytes.
const LONGEST_SETTING: usize = 4096;
/// The longest key set or cluster spec, in bytes.
pub const LONGEST_DOCUMENT: usize = 1 << 20;

/// One row for each setting: what it is called in Rust, and in the C interface and error texts. The environment has it in upper
/// case after [`PREFIX`].
macro_rules! rows {
    ($(#[$about:meta])* $list:ident { $($row:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is documented at its setter in the C interface")]
        pub enum $list { $($row,)* }

        impl $list {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$row,)*];

            /// The setting's name in the C interface and in error texts.
            pub fn name(self) -> &'static str {
                match self { $(Self::$row => $name,)* }
            }
        }
    };
}

rows! {
    /// Settings that are one text.
    Setting {
        Component = "component",
        Version = "version",
        ClusterId = "cluster_id",
        NodeId = "node_id",
        StateDir = "state_dir",
        VersionZone = "version_zone",
        VersionKey = "version_key",
        VersionSealKey = "version_seal_key",
        Nameservers = "nameservers",
        ReportUrl = "report_url",
        ReportKeys = "report_keys",
        SentryDsn = "sentry_dsn",
        Proxy = "proxy",
        CaFile = "ca_file",
        MonitorPath = "monitor_path",
    }
}

rows! {
    /// Settings that are a number.
    Number {
        TimeoutMs = "timeout_ms",
        CrashWaitMs = "crash_wait_ms",
        CoreFiles = "core_files",
        CoreBytes = "core_bytes",
    }
}

/// The names of the library's own variables begin with it.
pub const PREFIX: &str = "ONDAT_TELEMETRY_";

/// The variable of a setting.
pub fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_ascii_uppercase())
}

impl Setting {
    /// The longest value in bytes.
    pub fn longest(self) -> usize {
        if self == Self::ReportKeys { LONGEST_DOCUMENT } else { LONGEST_SETTING }
    }
}

impl Number {
    /// What is counted.
    pub fn unit(self) -> &'static str {
        match self {
            Self::TimeoutMs | Self::CrashWaitMs => "milliseconds",
            Self::CoreFiles => "files",
            Self::CoreBytes => "bytes",
        }
    }
}

/// The values of these settings.
#[derive(Default)]
pub struct Settings {
    /// Those from which something else is made.
    pub who: Who,
    /// Those that apply as they are.
    pub given: Given,
}

/// Who this is, and where. Raw ids go no further.
#[derive(Default)]
pub struct Who {
    /// The component's name.
    pub component: Option<String>,
    /// The running version as it was given, and what that means.
    pub version: Option<(String, Version)>,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The node's id.
    pub node_id: Option<String>,
    /// The path of the state directory.
    pub state_dir: Option<PathBuf>,
}

/// Settings that apply as they were given.
#[derive(Clone)]
pub struct Given {
    /// The version zone, lower case, without its last dot.
    pub version_zone: Option<String>,
    /// Keys that sign version answers.
    pub version_keys: Vec<VersionKey>,
    /// The key that version queries are sealed for; none: they are readable.
    pub version_seal_key: Option<MessageKey>,
    /// The collector.
    pub report_url: Option<Endpoint>,
    /// Keys to seal reports for.
    pub report_keys: Option<KeySet>,
    /// Where crash reports go.
    pub sentry_dsn: Option<Dsn>,
    /// DNS servers (none: the system's), proxy and roots.
    pub https: HttpsSettings,
    /// The bound of one network call.
    pub timeout: Duration,
    /// The crash monitor's program.
    pub monitor_path: Option<PathBuf>,
    /// How long a crashing process waits for its report to be sent, in milliseconds; none: PID 1 for 2 s, others not.
    pub crash_wait_ms: Option<u32>,
    /// Which core files are kept.
    pub cores: Retention,
    /// What was said and is passed over, a sentence each, for the log.
    pub notes: Vec<String>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            version_zone: None,
            version_keys: Vec::new(),
            version_seal_key: None,
            report_url: None,
            report_keys: None,
            sentry_dsn: None,
            https: HttpsSettings::default(),
            timeout: DEFAULT_TIMEOUT,
            monitor_path: None,
            crash_wait_ms: None,
            cores: Retention::default(),
            notes: Vec::new(),
        }
    }
}

impl Settings {
    /// Sets a text; the error says what is wrong with it.
    pub fn set(&mut self, setting: Setting, value: &str) -> Result<(), String> {
        let Self { who, given } = self;
        match setting {
            Setting::Component => who.component = Some(component(value)?),
            Setting::Version => who.version = Some(version(value)?),
            Setting::ClusterId => who.cluster_id = Some(raw_id(value)?.to_owned()),
            Setting::NodeId => who.node_id = Some(raw_id(value)?.to_owned()),
            Setting::StateDir => who.state_dir = Some(path(value)?),
            Setting::VersionZone => given.version_zone = Some(zone(value)?),
            Setting::VersionKey => given.version_keys = version_keys(value)?,
            Setting::VersionSealKey => given.version_seal_key = Some(MessageKey::parse(value)?),
            Setting::Nameservers => given.https.nameservers = Some(nameservers(value)?),
            Setting::ReportUrl => given.report_url = Some(Endpoint::parse(value)?),
            Setting::ReportKeys => given.report_keys = Some(KeySet::parse(value)?),
            Setting::SentryDsn => given.sentry_dsn = Some(Dsn::parse(value)?),
            Setting::Proxy => given.https.proxy.explicit = Some(proxy(value)?),
            Setting::CaFile => {
                let (file, notes) = ca_file(value)?;
                given.https.ca_files.push(file);
                given.notes.extend(notes);
            }
            Setting::MonitorPath => given.monitor_path = Some(path(value)?),
        }
        Ok(())
    }

    /// Sets a number; the error says what is wrong with it.
    pub fn set_number(&mut self, number: Number, value: u64) -> Result<(), String> {
        let word = u32::try_from(value).unwrap_or(u32::MAX);
        let given = &mut self.given;
        match number {
            Number::TimeoutMs if value == 0 => return Err("0 leaves no time; expected 1 to 4294967295".to_owned()),
            Number::TimeoutMs => given.timeout = Duration::from_millis(word.into()),
            Number::CrashWaitMs if value > LONGEST_CRASH_WAIT_MS => {
                return Err(format!("{value}; expected 0 to {LONGEST_CRASH_WAIT_MS}"));
            }
            Number::CrashWaitMs => given.crash_wait_ms = Some(word),
            Number::CoreFiles => given.cores.files = Some(word),
            Number::CoreBytes => given.cores.bytes = Some(value),
        }
        Ok(())
    }
}

fn version(text: &str) -> Result<(String, Version), String> {
    let version = Version::parse(text.strip_prefix('v').unwrap_or(text));
    match version {
        Ok(version) if text.len() <= 256 => Ok((text.to_owned(), version)),
        Ok(_) => Err("longer than 256 bytes".to_owned()),
        Err(error) => Err(format!("not a SemVer version such as 2.8.2 ({error})")),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// A zone's name in lower case without its last dot. The blob, a 63-byte version label and `o1` take 132 of a
/// name's 255 octets (RFC 1035, 2.3.4).
pub fn zone(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(is_label) {
        return Err(format!("{text:?} is not a DNS name such as latest.example.com"));
    }
    if name.len() > 120 {
        return Err("longer than 120 bytes: a query name would not fit in 255".to_owned());
    }
    Ok(name)
}

fn version_keys(text: &str) -> Result<Vec<VersionKey>, String> {
    let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
    let keys: Vec<_> = keys.map(VersionKey::parse).collect::<Result<_, _>>()?;
    if keys.is_empty() { Err("empty".to_owned()) } else { Ok(keys) }
}

fn nameservers(text: &str) -> Result<Vec<SocketAddr>, String> {
    let server = |item: &str| {
        let bare = item.strip_prefix('[').and_then(|item| item.strip_suffix(']')).unwrap_or(item);
        match (item.parse(), bare.parse::<IpAddr>()) {
            (Ok(address), _) => Ok(address),
            (_, Ok(ip)) => Ok(SocketAddr::new(ip, 53)),
            _ => Err(format!("{item:?} is not an address such as 192.0.2.1:53 or [2001:db8::1]:53")),
        }
    };
    let servers: Vec<_> =
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(server).collect::<Result<_, _>>()?;
    if servers.is_empty() { Err("empty".to_owned()) } else { Ok(servers) }
}

fn proxy(text: &str) -> Result<String, String> {
    let settings = ProxySettings { explicit: Some(text.to_owned()), ..Default::default() };
    settings.choose(&Uri::from_static("https://example.com")).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// The file, and what in it is passed over.
fn ca_file(text: &str) -> Result<(PathBuf, Vec<String>), String> {
    let path = std::path::absolute(Path::new(text)).map_err(|error| error.to_string())?;
    let file = CaFile::read(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok((path, file.notes))
}
