//! What is remembered between runs, in the state directory: the version answer and the day of the last report.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::state::StateDir;

/// `version.json`: what each running version was told. Processes of several versions may share a state directory.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct VersionMemory {
    /// By version label.
    pub told: BTreeMap<String, Told>,
}

/// The most version labels that are remembered.
const LABELS: usize = 16;

/// What one version was told last.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The zone that was asked.
    pub zone: String,
    /// The text of the accepted answer.
    pub answer: Option<String>,
    /// When it came, Unix seconds.
    pub checked_at: i64,
    /// When to ask again, Unix seconds.
    pub next_due: Option<i64>,
    /// Failures since the last accepted answer.
    pub failures: u32,
}

/// `report.json`: the last report of each cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct ReportMemory {
    /// By anonymised cluster id.
    pub last: BTreeMap<String, LastReport>,
}

/// The last report of a cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct LastReport {
    /// Its UTC day, in days since 1970-01-01.
    pub day: i64,
    /// When it was delivered, Unix seconds; none while it is only stored.
    pub delivered_at: Option<i64>,
}

const VERSION_FILE: &str = "version.json";
const REPORT_FILE: &str = "report.json";

impl VersionMemory {
    /// Reads it. The second value says why a damaged file was moved aside.
    pub fn load(dir: &StateDir) -> Result<(Self, Option<String>), Error> {
        load(dir, VERSION_FILE)
    }

    /// Writes it, without what was not touched for longest where it has grown too many.
    pub fn store(&mut self, dir: &StateDir) -> Result<(), Error> {
        while self.told.len() > LABELS {
            let oldest = self.told.iter().min_by_key(|(_, told)| told.checked_at).map(|(label, _)| label.clone());
            self.told.remove(&oldest.unwrap_or_default());
        }
        store(dir, VERSION_FILE, self)
    }
}

impl ReportMemory {
    /// Reads it. The second value says why a damaged file was moved aside.
    pub fn load(dir: &StateDir) -> Result<(Self, Option<String>), Error> {
        load(dir, REPORT_FILE)
    }

    /// Writes it.
    pub fn store(&self, dir: &StateDir) -> Result<(), Error> {
        store(dir, REPORT_FILE, self)
    }
}

fn load<T: DeserializeOwned + Default>(dir: &StateDir, name: &str) -> Result<(T, Option<String>), Error> {
    let Some(bytes) = dir.root().read(name)? else { return Ok((T::default(), None)) };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok((value, None)),
        Err(error) => {
            let aside = format!("{name}.damaged");
            dir.root().rename(name, &aside)?;
            Ok((T::default(), Some(format!("{name} was damaged ({error}) and is now {aside}"))))
        }
    }
}

fn store<T: Serialize>(dir: &StateDir, name: &str, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Internal(format!("{name}: {error}")))?;
    dir.root().write(name, &bytes)
}
