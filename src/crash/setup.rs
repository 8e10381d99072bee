//! What the monitor learns when it starts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::switch::Objection;
use crate::sys::procfs::Stat;
use crate::transport::https::HttpsSettings;

/// The longest setup in bytes: what a seqpacket socket takes at once with the smallest usual buffers.
pub const SETUP_BYTES: usize = 64 * 1024;

/// Which core files are kept. Only files that are known to be cores of watched processes, and unchanged, are removed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// How many; none: all.
    pub files: Option<u32>,
    /// How many bytes on disk in all; none: any number.
    pub bytes: Option<u64>,
}

/// What the monitor learns when it starts: everything a report will say but the ending.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Setup {
    /// The watched process.
    pub pid: u32,
    /// What it was then, read by itself: by the time the monitor looks, it may be gone or another program.
    pub born: Option<Stat>,
    /// The component's name.
    pub component: String,
    /// The product's version, canonical.
    pub version: String,
    /// The anonymised cluster id.
    pub cluster_id: String,
    /// The anonymised node id.
    pub node_id: String,
    /// Where reports go.
    pub dsn: String,
    /// Where they are stored first.
    pub state_dir: Option<PathBuf>,
    /// The run marker's name in the state directory.
    pub marker: Option<String>,
    /// Proxy and roots.
    pub https: HttpsSettings,
    /// The bound of one network call in milliseconds.
    pub timeout_ms: u64,
    /// The host's word on the switches.
    pub host_switches: u32,
    /// What the environment and the cluster spec turned off.
    pub objections: Vec<Objection>,
    /// Where the process worked when it was last seen: relative names of core files begin there.
    pub cwd: Option<PathBuf>,
    /// Which core files are kept.
    #[serde(default)]
    pub cores: Retention,
    /// How long the process's end waits for its report to be sent, in milliseconds.
    #[serde(default)]
    pub wait_ms: u32,
}
