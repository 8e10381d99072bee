//! The last reports of each cluster and how their delivery goes, for all processes on the state directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::schedule::{Pace, Reported};
use crate::state::lock::Lock;
use crate::state::record::{PATIENCE, load, store};
use crate::state::{StateDir, layout};
use crate::sys::clock::Moment;

/// `report.json`: the last reports of each cluster, and how their delivery goes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct ReportMemory {
    /// By anonymised cluster id, the oldest first.
    pub made: BTreeMap<String, Vec<MadeReport>>,
    /// When the next try may be.
    pub pace: Pace,
    /// The last tries, the oldest first.
    pub tries: Vec<Try>,
}

/// A report that was made.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct MadeReport {
    /// Its UTC day, in days since 1970-01-01.
    pub day: i64,
    /// When it was made.
    pub at: Moment,
    /// When it was delivered, Unix seconds; none while it is only stored.
    #[serde(default)]
    pub delivered_at: Option<i64>,
}

/// A try to deliver a report, for the administrator.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Try {
    /// When, Unix seconds.
    pub at: i64,
    /// The report's id.
    pub report_id: String,
    /// Its UTC day.
    pub day: i64,
    /// Its sealed size in bytes.
    pub bytes: u64,
    /// The collector's URL.
    pub url: String,
    /// The proxy, without credentials.
    pub proxy: Option<String>,
    /// How the try ended. None: an older version has written the file; [`Try::outcome`] tells it all the same.
    pub outcome: Option<Outcome>,
    /// The status of the answer, or why the report is still stored. None: an older version has written the file.
    pub detail: Option<String>,
    /// Both in one line, for people and for older versions, which know nothing else.
    pub result: String,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The collector has it.
    Delivered,
    /// The collector refused it for good: it was dropped.
    Refused,
    /// It is tried again.
    Stored,
}

impl Try {
    /// Notes how the try ended.
    pub fn end(&mut self, outcome: Outcome, detail: &str) {
        self.result = match outcome {
            Outcome::Delivered => format!("delivered ({detail})"),
            Outcome::Refused => format!("refused for good ({detail})"),
            Outcome::Stored => format!("stored: {detail}"),
        };
        (self.outcome, self.detail) = (Some(outcome), Some(detail.to_owned()));
    }

    /// Returns how the try ended.
    pub fn outcome(&self) -> Outcome {
        let of_older = || match self.result.split(' ').next() {
            Some("delivered") => Outcome::Delivered,
            Some("refused") => Outcome::Refused,
            _ => Outcome::Stored,
        };
        self.outcome.unwrap_or_else(of_older)
    }

    /// Returns, for people, why the report did not get through.
    pub fn why(&self) -> &str {
        match (&self.outcome, &self.detail) {
            (Some(Outcome::Stored), Some(why)) => why,
            // An older version has written the text alone.
            (None, _) => self.result.strip_prefix("stored: ").unwrap_or(&self.result),
            _ => &self.result,
        }
    }
}

/// The most reports of a cluster that are remembered: a day comes twice only where the clock is set back by more than
/// a month of reports.
const MADE: usize = 32;
/// The most tries that are remembered.
const TRIES: usize = 50;
/// The most clusters: a state directory serves one, and another one after an identity was reset.
const CLUSTERS: usize = 8;

impl ReportMemory {
    /// Reads it. The second value says why a damaged file was moved aside.
    pub fn load(dir: &StateDir) -> Result<(Self, Option<String>), Error> {
        load(dir, layout::REPORT)
    }

    /// Writes it.
    pub fn store(&self, dir: &StateDir) -> Result<(), Error> {
        store(dir, layout::REPORT, self)
    }

    /// Held from reading to writing, so that no process undoes what another one has written meanwhile. None where the
    /// other one does not let go.
    pub fn lock(dir: &StateDir) -> Result<Option<Lock>, Error> {
        dir.root().lock_within(layout::REPORT_MEMORY_LOCK, PATIENCE)
    }

    /// The reports of this cluster, the oldest first.
    pub fn of(&self, cluster: &str) -> &[MadeReport] {
        self.made.get(cluster).map_or(&[], Vec::as_slice)
    }

    /// What the schedule has to know of them.
    pub fn reported(&self, cluster: &str) -> Reported {
        let made = self.of(cluster);
        Reported { days: made.iter().map(|made| made.day).collect(), last: made.last().map(|made| made.at.clone()) }
    }

    /// A report was made; one of the same day goes.
    pub fn note_made(&mut self, cluster: &str, report: MadeReport) {
        if self.made.len() >= CLUSTERS && !self.made.contains_key(cluster) {
            let last = |made: &Vec<MadeReport>| made.last().map_or(i64::MIN, |made| made.at.unix);
            let oldest = self.made.iter().min_by_key(|(_, made)| last(made)).map(|(cluster, _)| cluster.clone());
            self.made.remove(&oldest.unwrap_or_default());
        }
        let made = self.made.entry(cluster.to_owned()).or_default();
        made.retain(|known| known.day != report.day);
        made.push(report);
        let surplus = made.len().saturating_sub(MADE);
        made.drain(..surplus);
    }

    /// The report of this day was delivered.
    pub fn note_delivered(&mut self, cluster: &str, day: i64, at: i64) {
        let made = self.made.get_mut(cluster).into_iter().flatten();
        made.filter(|made| made.day == day).for_each(|made| made.delivered_at = Some(at));
        self.pace = Pace::default();
    }

    /// The report of this day was refused: another may be made.
    pub fn forget(&mut self, cluster: &str, day: i64) {
        if let Some(made) = self.made.get_mut(cluster) {
            made.retain(|made| made.day != day);
        }
    }

    /// A try was made.
    pub fn note_try(&mut self, try_: Try) {
        let surplus = (self.tries.len() + 1).saturating_sub(TRIES);
        self.tries.drain(..surplus);
        self.tries.push(try_);
    }
}
