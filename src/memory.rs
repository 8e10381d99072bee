//! What is remembered between runs, in the state directory: the version answer and the day of the last report.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::schedule::Timer;
use crate::state::StateDir;

/// `version.json`: what each running version was told. Processes of several versions may share a state directory.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct VersionMemory {
    /// One for each version label and zone.
    pub told: Vec<Told>,
}

/// The most version labels that are remembered.
const LABELS: usize = 16;

/// What one version was told last.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The version's label.
    pub label: String,
    /// The zone that was asked.
    pub zone: String,
    /// The text of the accepted answer.
    pub answer: Option<String>,
    /// When it came, Unix seconds.
    pub checked_at: i64,
    /// When to ask again; none: when a process starts.
    pub next: Option<Timer>,
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
/// What reading and writing a file of a few kilobytes takes, fsync(2) on a busy disk included.
const PATIENCE: Duration = Duration::from_millis(200);

impl VersionMemory {
    /// Reads it. The second value says why a damaged file was moved aside.
    pub fn load(dir: &StateDir) -> Result<(Self, Option<String>), Error> {
        load(dir, VERSION_FILE)
    }

    /// What the version of this label was told by this zone.
    pub fn of(&self, label: &str, zone: &str) -> Option<&Told> {
        self.told.iter().find(|told| told.label == label && told.zone == zone)
    }

    /// Puts it in the place of what it replaces; what was answered longest ago goes where there are too many.
    pub fn remember(&mut self, told: Told) {
        self.told.retain(|known| known.label != told.label || known.zone != told.zone);
        if self.told.len() >= LABELS
            && let Some(oldest) = self.told.iter().enumerate().min_by_key(|(_, told)| told.checked_at)
        {
            self.told.remove(oldest.0);
        }
        self.told.push(told);
    }

    /// Writes it.
    pub fn store(&self, dir: &StateDir) -> Result<(), Error> {
        store(dir, VERSION_FILE, self)
    }

    /// Held from reading to writing, so that no process undoes what another one has written meanwhile. None where the
    /// other one does not let go: a stopped process must not stop this one.
    pub fn lock(dir: &StateDir) -> Result<Option<impl Drop + use<>>, Error> {
        dir.root().lock_within("version.lock", PATIENCE)
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
