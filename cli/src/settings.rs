//! From options, environment and cluster spec to the library's settings.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use ondat_telemetry::client::priority;
use ondat_telemetry::config::{Config, ConfigBuilder, LONGEST_DOCUMENT, Setting};
use ondat_telemetry::error::Error;
use ondat_telemetry::identity::Purpose;
use ondat_telemetry::state::StateDir;
use ondat_telemetry::switches::Switches;

use crate::sources::Sources;

/// Placeholders that let `status` run without these settings; never shown and never sent.
const NO_VERSION: &str = "0.0.0+not-configured";
const CLI: &str = "cli";
const NO_ID: &str = "not configured: 0d8e6b7a4c395f0c1d2be8a7c6f40931";
/// How the library names the cluster spec where it turns something off.
pub(crate) const CLUSTER_SPEC: &str = "cluster spec ";

/// The settings of every subcommand. The environment is read first, then the cluster spec, and options override both.
#[derive(Args, Clone)]
#[command(next_help_heading = "Settings (read from the environment, then the cluster spec, then these options)")]
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
    /// Print one line of JSON (not for zone and report preview, whose output has a form of its own)
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What is true, and which of it was said at all.
pub(crate) struct Settings {
    /// The settings, with stand-ins for what was not said.
    pub(crate) config: Config,
    /// Whether the component's name was said.
    pub(crate) has_component: bool,
    /// Whether the product's version was said.
    pub(crate) has_version: bool,
    /// Whether the cluster id was said.
    pub(crate) has_cluster_id: bool,
    /// Whether the node id was said.
    pub(crate) has_node_id: bool,
    /// Whether a cluster spec was named.
    pub(crate) has_cluster_spec: bool,
}

impl Options {
    /// The state directory alone, where something else may be wrong with the settings.
    pub(crate) fn state_dir(&self, why: &str) -> Result<StateDir, Error> {
        let path = self.state_dir.clone().map(PathBuf::from);
        let path = path.or_else(|| std::env::var_os("ONDAT_TELEMETRY_STATE_DIR").map(PathBuf::from));
        let path = path.filter(|path| !path.as_os_str().is_empty());
        StateDir::open(&path.ok_or_else(|| no_state_dir(why))?)
    }
}

fn no_state_dir(why: &str) -> Error {
    Error::InvalidConfig(format!("{why}: set --state-dir or ONDAT_TELEMETRY_STATE_DIR"))
}

impl Settings {
    /// Reads environment, cluster spec and options. The library's warnings go where `warnings` keeps them.
    pub(crate) fn load(options: &Options, warnings: &Warnings) -> Result<Self, Error> {
        let mut builder = ConfigBuilder::new();
        builder.set(Setting::Component, CLI);
        builder.set(Setting::Version, NO_VERSION);
        builder.set(Setting::ClusterId, NO_ID);
        builder.set(Setting::NodeId, NO_ID);
        builder.load_env();
        if let Some(path) = &options.cluster_spec {
            builder.load_cluster_spec(&read_text(path, "cluster spec")?);
        }
        let texts = [
            (Setting::Component, &options.component),
            (Setting::Version, &options.product_version),
            (Setting::ClusterId, &options.cluster_id),
            (Setting::NodeId, &options.node_id),
            (Setting::StateDir, &options.state_dir),
            (Setting::VersionZone, &options.version_zone),
            (Setting::VersionKey, &options.version_key),
            (Setting::VersionSealKey, &options.version_seal_key),
            (Setting::Nameservers, &options.nameservers),
            (Setting::ReportUrl, &options.report_url),
            (Setting::SentryDsn, &options.sentry_dsn),
            (Setting::MonitorPath, &options.monitor_path),
            (Setting::CaFile, &options.ca_file),
            (Setting::Proxy, &options.proxy),
        ];
        for (setting, text) in texts {
            if let Some(text) = text {
                builder.set(setting, text);
            }
        }
        if let Some(path) = &options.report_keys {
            builder.set(Setting::ReportKeys, &read_text(path, "report keys")?);
        }
        if let Some(milliseconds) = options.timeout_ms {
            builder.set_timeout_ms(milliseconds);
        }
        builder.set_log(priority::WARNING, warnings.log());
        let config = builder.build()?;
        Ok(Self {
            has_component: config.component != CLI,
            has_version: config.version_text != NO_VERSION,
            has_cluster_id: config.cluster != config.identity.anonymise(Purpose::Cluster, NO_ID),
            has_node_id: config.node != config.identity.anonymise(Purpose::Node, NO_ID),
            has_cluster_spec: options.cluster_spec.is_some(),
            config,
        })
    }

    /// The state directory; `why` says what is there.
    pub(crate) fn state_dir(&self, why: &str) -> Result<&StateDir, Error> {
        self.config.state_dir.as_ref().ok_or_else(|| no_state_dir(why))
    }

    /// What is on now, and who turns off what is not.
    pub(crate) fn sources(&self) -> Result<Sources, Error> {
        let config = &self.config;
        let switches = Switches::new(config.host_switches, config.objections.clone(), config.state_dir.clone());
        Sources::read(switches, config.state_dir.as_ref())
    }

    /// The settings where everything that identifies the asker was said, else what is missing.
    pub(crate) fn complete(self) -> Result<Config, Error> {
        let required = [
            (self.has_version, "the running product's version", "product-version", "VERSION"),
            (self.has_cluster_id, "the cluster id", "cluster-id", "CLUSTER_ID"),
            (self.has_node_id, "the node id", "node-id", "NODE_ID"),
        ];
        match required.into_iter().find(|(is_said, ..)| !is_said) {
            None => Ok(self.config),
            Some((_, what, option, variable)) => {
                Err(Error::InvalidConfig(format!("{what} is required: set --{option} or ONDAT_TELEMETRY_{variable}")))
            }
        }
    }
}

/// Reads a text file that an option names.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<String, Error> {
    let failed = |why: String| Error::InvalidArgument(format!("{what} {}: {why}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(LONGEST_DOCUMENT as u64 + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() > LONGEST_DOCUMENT {
        return Err(failed(format!("longer than {LONGEST_DOCUMENT} bytes")));
    }
    Ok(text)
}

/// What the library warned of while it was at work.
#[derive(Clone, Default)]
pub(crate) struct Warnings {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Warnings {
    /// The warnings so far.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn log(&self) -> ondat_telemetry::client::LogFn {
        let lines = Arc::clone(&self.lines);
        Arc::new(move |_, line| lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned()))
    }
}
