//! The settings as they apply ([`Config`]), and as they are given ([`builder`], [`environment`]). Settings are read once.

pub mod builder;
mod environment;
pub mod setting;

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::answer::VersionKey;
use ondat_telemetry_protocol::identity::Identity;
use ondat_telemetry_protocol::keys::KeySet;
use ondat_telemetry_protocol::query::canonical;
use semver::Version;
use serde_json::{Map, Value};

use self::setting::Given;
use crate::callbacks::Callbacks;
use crate::crash::setup::Setup;
use crate::state::StateDir;
use crate::switch::Objection;
use crate::switches::Switches;
use crate::sys::procfs;
use crate::transport::https::Endpoint;

/// What is true for one client.
#[derive(Clone)]
pub struct Config {
    /// The component's name.
    pub component: String,
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
    /// `k8s_distribution`, from the cluster spec.
    pub k8s_distribution: Option<String>,
    /// The host's functions.
    pub callbacks: Callbacks,
    /// What applies as it was given.
    pub given: Given,
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
            https: self.given.https.clone(),
            timeout_ms: u64::try_from(self.given.timeout.as_millis()).unwrap_or(u64::MAX),
            host_switches: switches.host(),
            objections: switches.objections().to_vec(),
            cwd: std::env::current_dir().ok(),
            cores: self.given.cores,
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
            ("version_zone", self.given.version_zone.as_deref().into()),
            ("version_keys", self.given.version_keys.iter().map(VersionKey::id).collect()),
            ("seals_queries", self.given.version_seal_key.is_some().into()),
            ("report_host", self.given.report_url.as_ref().map(Endpoint::host).into()),
            ("report_keys", self.given.report_keys.as_ref().map(KeySet::to_json).into()),
            ("sentry_host", self.given.sentry_dsn.as_ref().map(|dsn| dsn.endpoint().host()).into()),
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
