//! The settings as they were given ([`ConfigBuilder`]) and as they apply ([`Config`]). Settings are read once.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use ondat_telemetry_protocol::answer::VersionKey;
use ondat_telemetry_protocol::identity::{self, Identity, Purpose, raw_id};
use ondat_telemetry_protocol::keys::KeySet;
use ondat_telemetry_protocol::message::MessageKey;
use ondat_telemetry_protocol::query::{canonical, check_length, version_label};
use semver::Version;
use serde_json::{Map, Value};
use ureq::http::Uri;

use crate::callbacks::{Callbacks, LogFn, ReportFn, VersionFn};
use crate::crash::sentry::Dsn;
use crate::crash::setup::{Retention, Setup};
use crate::error::Error;
use crate::state::{Look, StateDir, layout};
use crate::switches::{Objection, Switch, Switches, objects};
use crate::sys::{privilege, procfs};
use crate::transport::https::{Endpoint, HttpsSettings};
use crate::transport::roots::CaFile;
use crate::{schedule, spec};

/// The default bound of one network call.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time a crash may wait for its report to be sent: kubelets and service managers lose patience later.
const LONGEST_CRASH_WAIT_MS: u32 = 30_000;
/// The longest setting but for key sets and cluster specs, in bytes.
pub const LONGEST_SETTING: usize = 4096;
/// The longest key set or cluster spec, in bytes.
pub const LONGEST_DOCUMENT: usize = 1 << 20;
/// The file in the state directory whose key holds where no other one is set: 32 bytes in base64.
pub const IDENTITY_KEY: &str = layout::IDENTITY_KEY;

/// What was said so far. Setters keep the first bad value's error for [`build`](Self::build).
#[derive(Default)]
pub struct ConfigBuilder {
    component: Option<String>,
    version: Option<(String, Version)>,
    cluster_id: Option<String>,
    node_id: Option<String>,
    identity_key: Option<[u8; 32]>,
    state_dir: Option<PathBuf>,
    host_switches: Option<u32>,
    objections: Vec<Objection>,
    version_zone: Option<String>,
    version_keys: Vec<VersionKey>,
    version_seal_key: Option<MessageKey>,
    nameservers: Option<Vec<SocketAddr>>,
    report_url: Option<Endpoint>,
    report_keys: Option<KeySet>,
    sentry_dsn: Option<Dsn>,
    https: HttpsSettings,
    timeout: Option<Duration>,
    monitor_path: Option<PathBuf>,
    crash_wait_ms: Option<u32>,
    cores: Retention,
    k8s_distribution: Option<String>,
    callbacks: Callbacks,
    notes: Vec<String>,
    first_error: Option<Error>,
}

/// What is true for one client.
#[derive(Clone)]
pub struct Config {
    /// The component's name.
    pub component: String,
    /// What was said and is passed over, a sentence each, for the log.
    pub notes: Vec<String>,
    /// The running version as it was given.
    pub version_text: String,
    /// The running version.
    pub version: Version,
    /// Its label in the version zone.
    pub version_label: String,
    /// The identity, for the ids in reports.
    pub identity: Identity,
    /// The anonymised cluster id.
    pub cluster: [u8; 16],
    /// The anonymised node id.
    pub node: [u8; 16],
    /// The node's moment of the day, in seconds.
    pub slot: i64,
    /// Where things survive a restart.
    pub state_dir: Option<StateDir>,
    /// The host's word on the switches.
    pub host_switches: u32,
    /// The switches that the environment and the cluster spec turn off.
    pub objections: Vec<Objection>,
    /// The version zone, lower case, without its last dot.
    pub version_zone: Option<String>,
    /// Keys that sign version answers.
    pub version_keys: Vec<VersionKey>,
    /// The key that version queries are sealed for; none: they are readable.
    pub version_seal_key: Option<MessageKey>,
    /// DNS servers; none: the system's.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// The collector.
    pub report_url: Option<Endpoint>,
    /// Keys to seal reports for.
    pub report_keys: Option<KeySet>,
    /// Where crash reports go.
    pub sentry_dsn: Option<Dsn>,
    /// Proxy and roots.
    pub https: HttpsSettings,
    /// The bound of one network call.
    pub timeout: Duration,
    /// The crash monitor's program.
    pub monitor_path: Option<PathBuf>,
    /// How long a crashing process waits for its report to be sent, in milliseconds; none: PID 1 for 2 s, others not.
    pub crash_wait_ms: Option<u32>,
    /// Which core files are kept.
    pub cores: Retention,
    /// `k8s_distribution`, from the cluster spec.
    pub k8s_distribution: Option<String>,
    /// The host's functions.
    pub callbacks: Callbacks,
}

impl Config {
    /// The setup that the monitor of this process, or its supervisor, receives when it starts.
    pub fn crash_setup(&self, switches: &Switches, dsn: &str, pid: u32) -> Setup {
        Setup {
            pid,
            born: procfs::stat(pid),
            component: self.component.clone(),
            version: canonical(&self.version),
            cluster_id: HEXLOWER.encode(&self.cluster),
            node_id: HEXLOWER.encode(&self.node),
            dsn: dsn.to_owned(),
            state_dir: self.state_dir.as_ref().map(|dir| dir.given().to_owned()),
            marker: None,
            https: self.https.clone(),
            timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            host_switches: switches.host(),
            objections: switches.objections().to_vec(),
            cwd: std::env::current_dir().ok(),
            cores: self.cores,
            wait_ms: 0,
        }
    }

    /// What a process sends, where to and by which keys. Of servers the hosts alone: an address may hold what is not for everybody.
    pub fn shown(&self) -> Value {
        let (cluster, node) = (HEXLOWER.encode(&self.cluster), HEXLOWER.encode(&self.node));
        let dir = self.state_dir.as_ref();
        let members: [(&str, Value); 9] = [
            ("cluster_id", cluster.into()),
            ("node_id", node.into()),
            ("version_zone", self.version_zone.as_deref().into()),
            ("version_keys", self.version_keys.iter().map(VersionKey::id).collect()),
            ("seals_queries", self.version_seal_key.is_some().into()),
            ("report_host", self.report_url.as_ref().map(Endpoint::host).into()),
            ("report_keys", self.report_keys.as_ref().map(KeySet::to_json).into()),
            ("sentry_host", self.sentry_dsn.as_ref().map(|dsn| dsn.endpoint().host()).into()),
            ("state_dir", dir.map(|dir| if dir.path() == dir.given() { "own" } else { "subfolder" }).into()),
        ];
        // One loop: `json!` is code for each member, and collecting them a sort of its own, of 4 KB.
        let mut shown = Map::new();
        for (name, value) in members {
            shown.insert(name.to_owned(), value);
        }
        Value::Object(shown)
    }
}

impl ConfigBuilder {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the first error for [`build`](Self::build).
    pub fn remember(&mut self, error: Error) {
        self.first_error.get_or_insert(error);
    }

    /// The first bad value's error.
    pub fn error(&self) -> Option<&Error> {
        self.first_error.as_ref()
    }

    /// The state directory, as far as it was said.
    pub fn state_dir(&self) -> Option<&Path> {
        self.state_dir.as_deref()
    }

    /// Keeps a parsed value, or the error with the setting's name.
    fn accept<T>(&mut self, setting: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|why| self.remember(Error::InvalidConfig(format!("{setting}: {why}")))).ok()
    }

    /// Sets a text setting by its name, as in the C interface without `ondat_telemetry_config_set_`.
    pub fn set(&mut self, setting: Setting, value: &str) {
        let name = setting.name();
        match setting {
            Setting::Component => self.component = self.accept(name, identity::component(value)),
            Setting::Version => self.version = self.accept(name, version(value)),
            Setting::ClusterId => self.cluster_id = self.accept(name, id(value)),
            Setting::NodeId => self.node_id = self.accept(name, id(value)),
            Setting::StateDir => self.state_dir = self.accept(name, path(value)),
            Setting::VersionZone => self.version_zone = self.accept(name, zone(value)),
            Setting::VersionKey => self.version_keys = self.accept(name, version_keys(value)).unwrap_or_default(),
            Setting::VersionSealKey => self.version_seal_key = self.accept(name, MessageKey::parse(value)),
            Setting::Nameservers => self.nameservers = self.accept(name, nameservers(value)),
            Setting::ReportUrl => self.report_url = self.accept(name, Endpoint::parse(value)),
            Setting::ReportKeys => self.report_keys = self.accept(name, KeySet::parse(value)),
            Setting::SentryDsn => self.sentry_dsn = self.accept(name, Dsn::parse(value)),
            Setting::Proxy => self.https.proxy.explicit = self.accept(name, proxy(value)),
            Setting::CaFile => {
                if let Some((file, notes)) = self.accept(name, ca_file(value)) {
                    self.https.ca_files.push(file);
                    self.notes.extend(notes);
                }
            }
            Setting::MonitorPath => self.monitor_path = self.accept(name, path(value)),
        }
    }

    /// The key shared by the cluster from which ids are made; 32 bytes.
    pub fn set_identity_key(&mut self, key: &[u8]) {
        let length = key.len();
        self.identity_key =
            self.accept("identity_key", key.try_into().map_err(|_| format!("{length} bytes instead of 32")));
    }

    /// The host's own word on the switches, a mask of bits.
    pub fn set_switches(&mut self, on: u32) {
        if on & !Switch::ALL_BITS != 0 {
            self.remember(Error::InvalidArgument(format!("switches: {on:#x} has bits that are no switches")));
            return;
        }
        self.host_switches = Some(on);
    }

    /// The bound of one network call in milliseconds.
    pub fn set_timeout_ms(&mut self, milliseconds: u32) {
        if milliseconds == 0 {
            self.remember(Error::InvalidConfig("timeout_ms: 0 leaves no time; expected 1 to 4294967295".to_owned()));
            return;
        }
        self.timeout = Some(Duration::from_millis(milliseconds.into()));
    }

    /// How long a crashing process waits for its report to be sent, in milliseconds; 0: not at all.
    pub fn set_crash_wait_ms(&mut self, milliseconds: u32) {
        if milliseconds > LONGEST_CRASH_WAIT_MS {
            let why = format!("crash_wait_ms: {milliseconds}; expected 0 to {LONGEST_CRASH_WAIT_MS}");
            self.remember(Error::InvalidConfig(why));
            return;
        }
        self.crash_wait_ms = Some(milliseconds);
    }

    /// How many core files of watched processes are kept.
    pub fn set_core_files(&mut self, files: u32) {
        self.cores.files = Some(files);
    }

    /// How many bytes of them are kept.
    pub fn set_core_bytes(&mut self, bytes: u64) {
        self.cores.bytes = Some(bytes);
    }

    /// The log callback; `level` is the most verbose priority it gets (syslog(3): 3 error to 7 debug).
    pub fn set_log(&mut self, level: i32, log: LogFn) {
        self.callbacks.log = Some((level, log));
    }

    /// The version callback.
    pub fn set_on_version(&mut self, on_version: VersionFn) {
        self.callbacks.on_version = Some(on_version);
    }

    /// The report callback.
    pub fn set_on_report(&mut self, on_report: ReportFn) {
        self.callbacks.on_report = Some(on_report);
    }

    /// Reads the variables of docs/settings.md from the process's environment.
    pub fn load_env(&mut self) {
        self.load_environment(privilege::is_secure());
    }

    /// In a privileged program a user with fewer rights sets the environment. That user may turn switches off, but must not name
    /// a file to read, a program to start or a server to ask.
    fn load_environment(&mut self, is_secure: bool) {
        let variable = |name: &str| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err("not UTF-8".to_owned()),
        };
        if is_secure {
            self.load_switch_variables("environment", variable);
        } else {
            self.load_variables("environment", variable);
        }
    }

    /// Reads a StorageOSCluster resource.
    pub fn load_cluster_spec(&mut self, text: &str) {
        let Some(spec) = self.accept("cluster spec", spec::parse(text)) else { return };
        if spec.disable_telemetry {
            self.object(Switch::ALL, "cluster spec disableTelemetry");
        }
        self.load_variables("cluster spec environment", |name| Ok(spec.environment.get(name).cloned()));
        if let Some(distro) = spec.k8s_distro.filter(|distro| !distro.is_empty()) {
            self.k8s_distribution = Some(distro);
        }
    }

    fn load_switch_variables(&mut self, origin: &str, variable: impl Fn(&str) -> Result<Option<String>, String>) {
        for (name, switches) in SWITCH_VARIABLES {
            // A variable that is not valid UTF-8 turns the switch off: a privacy switch fails closed, and this is no reason to
            // refuse to start.
            if variable(name).unwrap_or_else(|_| Some("not UTF-8".to_owned())).is_some_and(|value| objects(&value)) {
                self.object(switches.iter().copied(), &format!("{origin} {name}"));
            }
        }
    }

    /// Reads the variables of docs/settings.md from wherever `variable` has them. `origin` is how that is named to people.
    pub fn load_variables(&mut self, origin: &str, variable: impl Fn(&str) -> Result<Option<String>, String>) {
        self.load_switch_variables(origin, &variable);
        let read =
            |builder: &mut Self, name: &str| builder.accept(&format!("{origin} {name}"), variable(name)).flatten();
        let mut first_of =
            |names: [&str; 2]| names.into_iter().find_map(|name| read(self, name).filter(|value| !value.is_empty()));
        let (http, https, no_proxy) = (
            first_of(["HTTP_PROXY", "http_proxy"]),
            first_of(["HTTPS_PROXY", "https_proxy"]),
            first_of(["NO_PROXY", "no_proxy"]),
        );
        let proxy = &mut self.https.proxy;
        proxy.http = http.unwrap_or_else(|| std::mem::take(&mut proxy.http));
        proxy.https = https.unwrap_or_else(|| std::mem::take(&mut proxy.https));
        proxy.no_proxy = no_proxy.unwrap_or_else(|| std::mem::take(&mut proxy.no_proxy));
        // A variable that is not valid UTF-8 counts as set.
        proxy.cgi |= variable("REQUEST_METHOD").map_or(true, |method| method.is_some_and(|method| !method.is_empty()));
        if let Some(file) = read(self, "SSL_CERT_FILE").filter(|file| !file.is_empty()) {
            let file = PathBuf::from(file);
            // It is meant for every program of the host, so a bad value must not stop this one.
            match CaFile::read(&file) {
                Ok(read) => self.notes.extend(read.notes),
                Err(why) => self.notes.push(format!("{origin} SSL_CERT_FILE {} is passed over: {why}", file.display())),
            }
            self.https.ca_files.push(file);
        }
        let dirs = read(self, "SSL_CERT_DIR").unwrap_or_default();
        self.https.ca_dirs.extend(dirs.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from));
        for setting in Setting::ALL {
            let name = format!("ONDAT_TELEMETRY_{}", setting.name().to_ascii_uppercase());
            if let Some(value) = read(self, &name).filter(|value| !value.is_empty()) {
                self.set(setting, &value);
            }
        }
        if let Some(key) = read(self, "ONDAT_TELEMETRY_IDENTITY_KEY").filter(|value| !value.is_empty()) {
            let decoded = BASE64.decode(key.trim().as_bytes()).map_err(|_| "not base64".to_owned());
            if let Some(key) = self.accept("identity_key", decoded) {
                self.set_identity_key(&key);
            }
        }
        let number = |builder: &mut Self, name: &str, what: &str| {
            let text = read(builder, &format!("ONDAT_TELEMETRY_{}", name.to_ascii_uppercase()));
            let parsed = text.filter(|value| !value.is_empty()).map(|value| value.parse::<u64>());
            parsed.and_then(|parsed| builder.accept(name, parsed.map_err(|_| format!("not a number of {what}"))))
        };
        let word = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        if let Some(milliseconds) = number(self, "timeout_ms", "milliseconds") {
            self.set_timeout_ms(word(milliseconds));
        }
        if let Some(milliseconds) = number(self, "crash_wait_ms", "milliseconds") {
            self.set_crash_wait_ms(word(milliseconds));
        }
        if let Some(files) = number(self, "core_files", "files") {
            self.set_core_files(word(files));
        }
        if let Some(bytes) = number(self, "core_bytes", "bytes") {
            self.set_core_bytes(bytes);
        }
    }

    fn object(&mut self, switches: impl IntoIterator<Item = Switch>, source: &str) {
        self.objections.extend(switches.into_iter().map(|switch| Objection { switch, source: source.to_owned() }));
    }

    /// What is true, or the first thing that was wrong.
    pub fn build(&self) -> Result<Config, Error> {
        if let Some(error) = &self.first_error {
            return Err(error.clone());
        }
        let missing = |setting: &str| Error::InvalidConfig(format!("{setting} is required and was not set"));
        let component = self.component.clone().ok_or_else(|| missing("component"))?;
        let (version_text, version) = self.version.clone().ok_or_else(|| missing("version"))?;
        let cluster_id = self.cluster_id.as_deref().ok_or_else(|| missing("cluster_id"))?;
        let node_id = self.node_id.as_deref().ok_or_else(|| missing("node_id"))?;
        if self.report_url.is_some() && self.report_keys.is_none() {
            return Err(Error::InvalidConfig(
                "report_url is set but report_keys is not: a report is never sent unsealed".to_owned(),
            ));
        }
        let version_label = version_label(&version);
        if let Some(zone) = &self.version_zone {
            check_length(&version_label, zone, self.version_seal_key.is_some())
                .map_err(|why| Error::InvalidConfig(format!("version_zone: {why}")))?;
        }
        let mut https = self.https.clone();
        https.nameservers.clone_from(&self.nameservers);
        let state_dir = self.state_dir.as_deref().map(StateDir::open).transpose()?;
        let key = match (self.identity_key, &state_dir) {
            (None, Some(dir)) => identity_key(dir)?,
            (key, _) => key,
        };
        let identity = key.map_or_else(|| Identity::from_cluster_id(cluster_id), Identity::from_key);
        Ok(Config {
            component,
            notes: self.notes.clone(),
            version_text,
            version_label,
            version,
            cluster: identity.anonymise(Purpose::Cluster, cluster_id),
            node: identity.anonymise(Purpose::Node, node_id),
            slot: schedule::slot(&identity, node_id),
            identity,
            state_dir,
            host_switches: self.host_switches.unwrap_or(Switch::ALL_BITS),
            objections: self.objections.clone(),
            version_zone: self.version_zone.clone(),
            version_keys: self.version_keys.clone(),
            version_seal_key: self.version_seal_key.clone(),
            nameservers: self.nameservers.clone(),
            report_url: self.report_url.clone(),
            report_keys: self.report_keys.clone(),
            sentry_dsn: self.sentry_dsn.clone(),
            https,
            timeout: self.timeout.unwrap_or(DEFAULT_TIMEOUT),
            monitor_path: self.monitor_path.clone(),
            crash_wait_ms: self.crash_wait_ms,
            cores: self.cores,
            k8s_distribution: self.k8s_distribution.clone(),
            callbacks: self.callbacks.clone(),
        })
    }
}

/// The variables that turn something off.
pub const SWITCH_VARIABLES: [(&str, &[Switch]); 5] = [
    ("DISABLE_VERSION_CHECK", &[Switch::VersionCheck]),
    ("DISABLE_TELEMETRY", &[Switch::DailyReport]),
    ("DISABLE_ERROR_REPORTING", &[Switch::CrashReports]),
    ("DISABLE_CRASH_REPORTING", &[Switch::CrashReports]),
    ("DO_NOT_TRACK", &Switch::ALL),
];

/// Settings that are one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is documented at its setter in the C interface")]
pub enum Setting {
    Component,
    Version,
    ClusterId,
    NodeId,
    StateDir,
    VersionZone,
    VersionKey,
    VersionSealKey,
    Nameservers,
    ReportUrl,
    ReportKeys,
    SentryDsn,
    Proxy,
    CaFile,
    MonitorPath,
}

impl Setting {
    const ALL: [Self; 15] = [
        Self::Component,
        Self::Version,
        Self::ClusterId,
        Self::NodeId,
        Self::StateDir,
        Self::VersionZone,
        Self::VersionKey,
        Self::VersionSealKey,
        Self::Nameservers,
        Self::ReportUrl,
        Self::ReportKeys,
        Self::SentryDsn,
        Self::Proxy,
        Self::CaFile,
        Self::MonitorPath,
    ];

    /// The setting's name in the C interface and in error texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Version => "version",
            Self::ClusterId => "cluster_id",
            Self::NodeId => "node_id",
            Self::StateDir => "state_dir",
            Self::VersionZone => "version_zone",
            Self::VersionKey => "version_key",
            Self::VersionSealKey => "version_seal_key",
            Self::Nameservers => "nameservers",
            Self::ReportUrl => "report_url",
            Self::ReportKeys => "report_keys",
            Self::SentryDsn => "sentry_dsn",
            Self::Proxy => "proxy",
            Self::CaFile => "ca_file",
            Self::MonitorPath => "monitor_path",
        }
    }

    /// The longest value in bytes.
    pub fn longest(self) -> usize {
        if self == Self::ReportKeys { LONGEST_DOCUMENT } else { LONGEST_SETTING }
    }
}

/// The key that `ondat-telemetry reset-identity` has made. One that cannot be read does not bring the old ids back. A new
/// one is advised only where this one is none: what keeps a file from being opened may pass.
fn identity_key(dir: &StateDir) -> Result<Option<[u8; 32]>, Error> {
    let text = match dir.root().look(IDENTITY_KEY) {
        Look::Bytes(text) => text,
        Look::NoFile => return Ok(None),
        Look::Unreadable(why) => return Err(Error::Io(why)),
        // Where there is one after all, nothing is sent under the ids of before.
        Look::NoFolder | Look::Denied(_) | Look::Unknown(_) => {
            dir.await_identity();
            return Ok(None);
        }
    };
    let key = BASE64.decode(text.strip_suffix(b"\n").unwrap_or(&text)).ok().and_then(|key| key.try_into().ok());
    let no_key = || {
        let file = dir.path().join(IDENTITY_KEY);
        Error::InvalidConfig(format!("{}: not 32 bytes in base64: run ondat-telemetry reset-identity", file.display()))
    };
    key.map(Some).ok_or_else(no_key)
}

fn version(text: &str) -> Result<(String, Version), String> {
    let version = Version::parse(text.strip_prefix('v').unwrap_or(text));
    match version {
        Ok(version) if text.len() <= 256 => Ok((text.to_owned(), version)),
        Ok(_) => Err("longer than 256 bytes".to_owned()),
        Err(error) => Err(format!("not a SemVer version such as 2.8.2 ({error})")),
    }
}

fn id(text: &str) -> Result<String, String> {
    raw_id(text).map(str::to_owned).map_err(str::to_owned)
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
    let settings = crate::transport::proxy::ProxySettings { explicit: Some(text.to_owned()), ..Default::default() };
    settings.choose(&Uri::from_static("https://example.com")).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// The file, and what in it is passed over.
fn ca_file(text: &str) -> Result<(PathBuf, Vec<String>), String> {
    let path = std::path::absolute(Path::new(text)).map_err(|error| error.to_string())?;
    let file = CaFile::read(&path).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok((path, file.notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondat_telemetry_protocol::keys::{Kem, generate_key};

    fn complete() -> ConfigBuilder {
        let mut builder = ConfigBuilder::new();
        builder.set(Setting::Component, "dataplane");
        builder.set(Setting::Version, "2.8.2");
        builder.set(Setting::ClusterId, "c");
        builder.set(Setting::NodeId, "n");
        builder
    }

    #[test]
    fn the_first_bad_value_is_reported() {
        let mut builder = complete();
        builder.set(Setting::VersionZone, "bad zone");
        builder.set(Setting::SentryDsn, "nonsense");
        let error = builder.build().err().unwrap();
        assert!(error.to_string().starts_with("version_zone:"), "{error}");
        assert_eq!(error.status(), crate::error::Status::InvalidConfig);
    }

    #[test]
    fn a_missing_setting_is_named() {
        let error = ConfigBuilder::new().build().err().unwrap();
        assert_eq!(error.to_string(), "component is required and was not set");
    }

    #[test]
    fn malformed_settings_are_refused() {
        for (setting, value) in [
            (Setting::Component, "Data Plane"),
            (Setting::Version, "2.8"),
            (Setting::VersionZone, "a..b"),
            (Setting::VersionKey, "AAAA"),
            (Setting::VersionSealKey, "AAAA"),
            (Setting::Nameservers, "localhost"),
            (Setting::ReportUrl, "http://collector.example.com/"),
            (Setting::ReportUrl, "https://user@host/"),
            (Setting::ReportUrl, "https://host:84433/"),
            (Setting::ReportUrl, "https://host:https/"),
            (Setting::ReportUrl, "https://[::1]8443/"),
            (Setting::ReportUrl, "https://[host]/"),
            (Setting::ReportUrl, "https://host/#telemetry"),
            (Setting::ReportUrl, "https://host/\u{85}telemetry"),
            (Setting::ReportKeys, "{}"),
            (Setting::SentryDsn, "https://x@/1"),
            (Setting::Proxy, "ftp://proxy"),
            (Setting::CaFile, "/nonexistent.pem"),
        ] {
            let mut builder = complete();
            builder.set(setting, value);
            let error = builder.build().err().unwrap().to_string();
            assert!(error.starts_with(setting.name()), "{setting:?}: {error}");
        }
    }

    #[test]
    fn the_environment_and_the_spec_object_by_name() {
        let mut builder = complete();
        builder
            .load_variables("environment", |name| Ok((name == "DISABLE_ERROR_REPORTING").then(|| "true".to_owned())));
        builder.load_cluster_spec("spec: {disableTelemetry: true, k8sDistro: rancher}");
        let config = builder.build().unwrap();
        assert_eq!(config.objections.len(), 4);
        assert_eq!(config.objections[0].source, "environment DISABLE_ERROR_REPORTING");
        assert_eq!(config.objections[3].source, "cluster spec disableTelemetry");
        assert_eq!(config.k8s_distribution.as_deref(), Some("rancher"));
    }

    #[test]
    fn the_state_directorys_key_makes_the_ids_unless_one_is_set() {
        use std::os::unix::fs::DirBuilderExt;
        let dir = std::env::temp_dir().join(format!("ondat-telemetry-identity-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let mut builder = complete();
        builder.set(Setting::StateDir, dir.to_str().unwrap());
        let id = |builder: &ConfigBuilder| builder.build().map(|config| (config.cluster, config.node, config.slot));
        let ids_of = |key: [u8; 32]| {
            let identity = Identity::from_key(key);
            let (cluster, node) = (identity.anonymise(Purpose::Cluster, "c"), identity.anonymise(Purpose::Node, "n"));
            (cluster, node, schedule::slot(&identity, "n"))
        };
        let derived = id(&builder).unwrap();
        assert_eq!(Ok(derived), id(&complete()), "without the file");

        let file = dir.join("identity.key");
        for (key, newline) in [(7, ""), (8, "\n")] {
            std::fs::write(&file, BASE64.encode(&[key; 32]) + newline).unwrap();
            assert_eq!(id(&builder), Ok(ids_of([key; 32])));
            assert_ne!(id(&builder), Ok(derived));
        }

        let mut explicit = complete();
        explicit.set(Setting::StateDir, dir.to_str().unwrap());
        explicit.set_identity_key(&[9; 32]);
        let mut from_variable = complete();
        from_variable.set(Setting::StateDir, dir.to_str().unwrap());
        let key = BASE64.encode(&[9; 32]);
        from_variable
            .load_variables("environment", |name| Ok((name == "ONDAT_TELEMETRY_IDENTITY_KEY").then(|| key.clone())));
        for contents in [BASE64.encode(&[8; 32]), "damaged".to_owned()] {
            std::fs::write(&file, contents).unwrap();
            assert_eq!(id(&explicit), Ok(ids_of([9; 32])));
            assert_eq!(id(&from_variable), Ok(ids_of([9; 32])));
        }

        let whole = BASE64.encode(&[8; 32]);
        let shown = file.display();
        for damaged in ["", "\n", &whole[..43], &format!("{whole}\n\n"), &BASE64.encode(&[8; 33]), "\u{e4}"] {
            std::fs::write(&file, damaged).unwrap();
            let why = format!("{shown}: not 32 bytes in base64: run ondat-telemetry reset-identity");
            assert_eq!(id(&builder), Err(Error::InvalidConfig(why)));
        }
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        let why = format!("state_dir {shown}: a symlink, which is not followed");
        assert_eq!(id(&builder), Err(Error::Io(why)));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(id(&builder), Err(Error::Io(format!("state_dir {shown}: not a regular file"))));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_request_method_makes_a_cgi_program() {
        for (value, is_cgi) in [
            (Ok(None), false),
            (Ok(Some(String::new())), false),
            (Ok(Some("GET".to_owned())), true),
            (Err("not UTF-8".to_owned()), true),
        ] {
            let mut builder = complete();
            builder
                .load_variables("environment", |name| if name == "REQUEST_METHOD" { value.clone() } else { Ok(None) });
            assert_eq!(builder.build().unwrap().https.proxy.cgi, is_cgi, "{value:?}");
        }
    }

    #[test]
    fn a_zone_that_leaves_no_room_for_the_query_is_refused() {
        let mut builder = complete();
        builder.set(Setting::VersionZone, &format!("{0}.{0}.example", "z".repeat(45)));
        assert!(builder.build().is_ok());
        builder.set(Setting::VersionSealKey, &BASE64.encode(&generate_key(Kem::X25519).1));
        let error = builder.build().err().unwrap().to_string();
        assert!(error.starts_with("version_zone: the sealed query's name would have"), "{error}");
    }

    #[test]
    fn a_report_url_without_keys_is_a_contradiction() {
        let mut builder = complete();
        builder.set(Setting::ReportUrl, "https://collector.example.com");
        assert!(builder.build().err().unwrap().to_string().contains("report_keys"));
    }
}
