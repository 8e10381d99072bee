//! Makes the library's settings from settings file, environment, cluster spec and options.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use ondat_telemetry::callbacks::priority;
use ondat_telemetry::config::Config;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::{LONGEST_DOCUMENT, Number, Setting};
use ondat_telemetry::error::Error;
use ondat_telemetry::state::StateDir;
use ondat_telemetry::switches::Switches;
use ondat_telemetry_protocol::identity::Purpose;

use crate::environment::{Extent, SettingsFile};
use crate::form::Form;
use crate::sources::Sources;

/// The variable that names the state directory.
const STATE_DIR: &str = "ONDAT_TELEMETRY_STATE_DIR";
/// Placeholders that let `status` run without these settings; never shown and never sent.
const NO_VERSION: &str = "0.0.0+not-configured";
const CLI: &str = "cli";
const NO_ID: &str = "not configured: 0d8e6b7a4c395f0c1d2be8a7c6f40931";

/// The settings of every subcommand, which are read in the order of [`ORDER`]. help.rs says which subcommand shows which.
#[derive(Args, Clone)]
#[command(next_help_heading = "Settings (more: `ondat-telemetry help settings`)")]
pub(crate) struct Options {
    /// The component's name [default: cli, for exec the program's own] [env: ONDAT_TELEMETRY_COMPONENT]
    #[arg(long, global = true, value_name = "NAME")]
    component: Option<String>,
    /// The running product's version, for check-version and report [env: ONDAT_TELEMETRY_VERSION]
    #[arg(long, global = true, value_name = "SEMVER")]
    product_version: Option<String>,
    /// The cluster's id; only its anonymised form is sent [env: ONDAT_TELEMETRY_CLUSTER_ID]
    #[arg(long, global = true, value_name = "ID")]
    cluster_id: Option<String>,
    /// The node's id; likewise [env: ONDAT_TELEMETRY_NODE_ID]
    #[arg(long, global = true, value_name = "ID")]
    node_id: Option<String>,
    /// The state directory that the daemons use [env: ONDAT_TELEMETRY_STATE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    state_dir: Option<String>,
    /// The DNS zone to ask [env: ONDAT_TELEMETRY_VERSION_ZONE]
    #[arg(long, global = true, value_name = "ZONE")]
    version_zone: Option<String>,
    /// The public keys that sign version answers, comma separated [env: ONDAT_TELEMETRY_VERSION_KEY]
    #[arg(long, global = true, value_name = "BASE64")]
    version_key: Option<String>,
    /// The vendor's public key to seal version queries for [env: ONDAT_TELEMETRY_VERSION_SEAL_KEY]
    #[arg(long, global = true, value_name = "BASE64")]
    version_seal_key: Option<String>,
    /// DNS servers instead of the system's [env: ONDAT_TELEMETRY_NAMESERVERS]
    #[arg(long, global = true, value_name = "ADDRESS,...")]
    nameservers: Option<String>,
    /// The collector of reports [env: ONDAT_TELEMETRY_REPORT_URL]
    #[arg(long, global = true, value_name = "URL")]
    report_url: Option<String>,
    /// The public keys to seal reports for [env: ONDAT_TELEMETRY_REPORT_KEYS, the JSON itself]
    #[arg(long, global = true, value_name = "FILE")]
    report_keys: Option<PathBuf>,
    /// Where crash reports go [env: ONDAT_TELEMETRY_SENTRY_DSN]
    #[arg(long, global = true, value_name = "DSN")]
    sentry_dsn: Option<String>,
    /// The program ondat-telemetry-monitor, for exec [default: beside this command, then in libexec]
    /// [env: ONDAT_TELEMETRY_MONITOR_PATH]
    #[arg(long, global = true, value_name = "FILE")]
    monitor_path: Option<String>,
    /// Roots in PEM, in addition to the system's [env: ONDAT_TELEMETRY_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<String>,
    /// The proxy; an empty one means none [env: ONDAT_TELEMETRY_PROXY, HTTPS_PROXY, HTTP_PROXY, NO_PROXY]
    #[arg(long, global = true, value_name = "URL")]
    proxy: Option<String>,
    /// The bound of one network call [default: 10000] [env: ONDAT_TELEMETRY_TIMEOUT_MS]
    #[arg(long, global = true, value_name = "MILLISECONDS")]
    timeout_ms: Option<u32>,
    /// A StorageOSCluster resource, YAML or JSON
    #[arg(long, global = true, value_name = "FILE")]
    cluster_spec: Option<PathBuf>,
    /// The settings file, as systemd's EnvironmentFile= has it [default: settings.env in the state directory]
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Print it in this form
    #[arg(short, long, global = true, value_enum, value_name = "FORM")]
    output: Option<Form>,
    /// The same as --output json
    #[arg(long, global = true)]
    json: bool,
}

/// The help text about the sources of settings.
pub(crate) const ORDER: &str = "\
Settings are read from the settings file, the environment, the cluster spec and the options; of two words on one setting,
the later one's holds. What any of them turns off stays off.

The settings file is the one of --env-file, else settings.env in the state directory. It has the form of systemd's
EnvironmentFile= (systemd.exec(5)): NAME=VALUE in lines, # and ; before comments. The variables of the environment are read
from it, others are passed over. Another file than settings.env goes in its place, but what settings.env turns off stays
off. Daemons do not read it: they have the environment that they are started with. docs/settings.md has more.";

/// The settings as they apply, and which of them were given.
pub(crate) struct Settings {
    /// The settings, with placeholders for required settings that were not given.
    pub(crate) config: Config,
    /// Whether the component's name was given.
    pub(crate) has_component: bool,
    /// Whether the product's version was given.
    pub(crate) has_version: bool,
    /// Whether the cluster id was given.
    pub(crate) has_cluster_id: bool,
    /// Whether the node id was given.
    pub(crate) has_node_id: bool,
    /// The settings file that was read.
    pub(crate) file: Option<PathBuf>,
}

impl Options {
    /// Returns the output form.
    pub(crate) fn form(&self) -> Result<Form, Error> {
        match (self.json, self.output) {
            (true, None | Some(Form::Json)) => Ok(Form::Json),
            (true, Some(_)) => Err(Error::InvalidArgument("--json and --output name two forms: say one".to_owned())),
            (false, form) => Ok(form.unwrap_or(Form::Text)),
        }
    }

    /// Returns the state directory, even if other settings are wrong.
    pub(crate) fn state_dir(&self, why: &str) -> Result<StateDir, Error> {
        let path = self.state_dir.clone().map(PathBuf::from);
        let path = path.or_else(|| std::env::var_os(STATE_DIR).map(PathBuf::from));
        let path = match (path.filter(|path| !path.as_os_str().is_empty()), self.named_file()) {
            (None, Some(file)) => file?.value(STATE_DIR).map(PathBuf::from),
            (path, _) => path,
        };
        StateDir::open(&path.ok_or_else(|| no_state_dir(why))?)
    }

    /// Returns the settings file that sets this variable. None: no file does.
    pub(crate) fn file_with(&self, variable: &str, dir: &StateDir) -> Result<Option<PathBuf>, Error> {
        let file = self.named_file().transpose()?.map_or_else(|| SettingsFile::of(dir), |file| Ok(Some(file)))?;
        Ok(file.filter(|file| file.value(variable).is_some()).map(|file| file.path().to_owned()))
    }

    /// Returns the text of the cluster spec. None: none was named.
    pub(crate) fn cluster_spec_text(&self) -> Result<Option<String>, Error> {
        self.cluster_spec.as_deref().map(|path| read_text(path, "cluster spec")).transpose()
    }

    fn named_file(&self) -> Option<Result<SettingsFile, Error>> {
        self.env_file.as_deref().map(SettingsFile::named)
    }

    /// Reads these files, then the environment, the cluster spec and the options.
    fn said(&self, files: &[(&SettingsFile, Extent)], warnings: &Warnings) -> Result<ConfigBuilder, Error> {
        let mut builder = ConfigBuilder::new();
        builder.set(Setting::Component, CLI);
        builder.set(Setting::Version, NO_VERSION);
        builder.set(Setting::ClusterId, NO_ID);
        builder.set(Setting::NodeId, NO_ID);
        for (file, extent) in files {
            warnings.add(file.load(*extent, &mut builder)?);
        }
        builder.load_env();
        if let Some(text) = self.cluster_spec_text()? {
            builder.load_cluster_spec(&text);
        }
        let texts = [
            (Setting::Component, &self.component),
            (Setting::Version, &self.product_version),
            (Setting::ClusterId, &self.cluster_id),
            (Setting::NodeId, &self.node_id),
            (Setting::StateDir, &self.state_dir),
            (Setting::VersionZone, &self.version_zone),
            (Setting::VersionKey, &self.version_key),
            (Setting::VersionSealKey, &self.version_seal_key),
            (Setting::Nameservers, &self.nameservers),
            (Setting::ReportUrl, &self.report_url),
            (Setting::SentryDsn, &self.sentry_dsn),
            (Setting::MonitorPath, &self.monitor_path),
            (Setting::CaFile, &self.ca_file),
            (Setting::Proxy, &self.proxy),
        ];
        for (setting, text) in texts {
            if let Some(text) = text {
                builder.set(setting, text);
            }
        }
        if let Some(path) = &self.report_keys {
            builder.set(Setting::ReportKeys, &read_text(path, "report keys")?);
        }
        if let Some(milliseconds) = self.timeout_ms {
            builder.set_number(Number::TimeoutMs, milliseconds.into());
        }
        Ok(builder)
    }
}

fn no_state_dir(why: &str) -> Error {
    Error::InvalidConfig(format!("{why}: set --state-dir or ONDAT_TELEMETRY_STATE_DIR"))
}

impl Settings {
    /// Reads settings file, environment, cluster spec and options. `warnings` collects the library's warnings.
    pub(crate) fn load(options: &Options, warnings: &Warnings) -> Result<Self, Error> {
        let named = options.named_file().transpose()?;
        let named: Vec<_> = named.iter().map(|file| (file, Extent::All)).collect();
        let mut builder = options.said(&named, warnings)?;
        // An impossible state directory is refused when the settings are built.
        let dir = builder.state_dir().and_then(|path| StateDir::open(path).ok());
        let own = dir.map_or(Ok(None), |dir| SettingsFile::of(&dir))?;
        if let Some(own) = &own {
            let extent = if named.is_empty() { Extent::All } else { Extent::Switches };
            builder = options.said(&[&[(own, extent)], named.as_slice()].concat(), warnings)?;
        }
        builder.set_log(priority::WARNING, warnings.log());
        let config = builder.build()?;
        Ok(Self {
            has_component: config.component != CLI,
            has_version: config.version_text != NO_VERSION,
            has_cluster_id: config.cluster != config.identity.anonymise(Purpose::Cluster, NO_ID),
            has_node_id: config.node != config.identity.anonymise(Purpose::Node, NO_ID),
            file: named.first().map(|(file, _)| *file).or(own.as_ref()).map(|file| file.path().to_owned()),
            config,
        })
    }

    /// Returns the state directory. `why` says, for the error, what is in it.
    pub(crate) fn state_dir(&self, why: &str) -> Result<&StateDir, Error> {
        self.config.state_dir.as_ref().ok_or_else(|| no_state_dir(why))
    }

    /// Returns who turns off which switches now.
    pub(crate) fn sources(&self) -> Result<Sources, Error> {
        let config = &self.config;
        let switches = Switches::new(config.host_switches, config.objections.clone(), config.state_dir.clone());
        Sources::read(switches, config.state_dir.as_ref())
    }

    /// Returns the settings if everything that identifies the sender was given. The error names what is missing.
    pub(crate) fn complete(self) -> Result<Config, Error> {
        need(self.has_version, "the running product's version", "product-version", "VERSION")?;
        self.need_cluster_id()?;
        need(self.has_node_id, "the node id", "node-id", "NODE_ID")?;
        Ok(self.config)
    }

    /// The same for what is about the cluster alone.
    pub(crate) fn need_cluster_id(&self) -> Result<(), Error> {
        need(self.has_cluster_id, "the cluster id", "cluster-id", "CLUSTER_ID")
    }
}

fn need(is_said: bool, what: &str, option: &str, variable: &str) -> Result<(), Error> {
    if is_said {
        return Ok(());
    }
    Err(Error::InvalidConfig(format!("{what} is required: set --{option} or ONDAT_TELEMETRY_{variable}")))
}

/// Reads a text file that an option names.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<String, Error> {
    let failed = |why: &str| Error::InvalidArgument(format!("{what} {}: {why}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(&error.to_string()))?;
    file.take(LONGEST_DOCUMENT as u64 + 1).read_to_end(&mut bytes).map_err(|error| failed(&error.to_string()))?;
    if bytes.len() > LONGEST_DOCUMENT {
        return Err(failed(&format!("longer than {LONGEST_DOCUMENT} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| failed("not UTF-8"))
}

/// The warnings of the library.
#[derive(Clone, Default)]
pub(crate) struct Warnings {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Warnings {
    /// Takes the warnings so far.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds warnings, each only once.
    fn add(&self, more: Vec<String>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for line in more {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }

    fn log(&self) -> ondat_telemetry::callbacks::LogFn {
        let lines = Arc::clone(&self.lines);
        Arc::new(move |_, line| lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned()))
    }
}
