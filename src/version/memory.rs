//! What each running version was told, for all processes on the state directory.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::schedule::Timer;
use crate::state::lock::Lock;
use crate::state::record::{PATIENCE, load, store};
use crate::state::{StateDir, layout};

/// `version.json`: what each running version was told. Processes of several versions may share a state directory.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct VersionMemory {
    /// One for each version label and zone.
    pub told: Vec<Told>,
}

/// The most version labels that are remembered.
const LABELS: usize = 16;

/// What one version was told last.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
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
    /// Whether a key that was configured then had signed it; none where an older version has taken it.
    pub authenticated: Option<bool>,
}

impl VersionMemory {
    /// Reads it. The second value says why a damaged file was moved aside.
    pub fn load(dir: &StateDir) -> Result<(Self, Option<String>), Error> {
        load(dir, layout::VERSION)
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
        store(dir, layout::VERSION, self)
    }

    /// Held from reading to writing, so that no process undoes what another one has written meanwhile. None where the
    /// other one does not let go: a stopped process must not stop this one.
    pub fn lock(dir: &StateDir) -> Result<Option<Lock>, Error> {
        dir.root().lock_within(layout::VERSION_LOCK, PATIENCE)
    }
}
