//! What is remembered between runs, in the state directory: the version answer, and the days of the last reports.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::crash::cores::Cores;
use crate::crash::limit::CrashLimits;
use crate::error::Error;
use crate::schedule::{Pace, Reported, Timer};
use crate::spool;
use crate::state::lock::Lock;
use crate::state::{StateDir, layout};
use crate::switches::Switch;
use crate::sys::clock::Moment;

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
    /// What became of it, in one line.
    pub result: String,
}

/// Remembers why something could not be sent, for `status`: when, in which words, and when it is tried again, where that is
/// known. In a file of its own for each switch: it is written whole, and takes no lock.
pub fn note_failure(dir: &StateDir, switch: Switch, at: i64, text: &str, next: Option<i64>) {
    let failure = json!({ "at": at, "text": text, "next": next });
    // It only informs: the log has said it. After a power cut it is nothing new.
    let _ = dir.folder(layout::FAILURES).write_unsynced(switch.name(), failure.to_string().as_bytes());
}

/// Forgets it: it was sent.
pub fn note_success(dir: &StateDir, switch: Switch) {
    let _ = dir.folder(layout::FAILURES).remove_unsynced(switch.name());
}

/// What [`note_failure`] has written; null where there is nothing, or something else.
pub fn failure(dir: &StateDir, switch: Switch) -> Value {
    let bytes = dir.folder(layout::FAILURES).read(switch.name()).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The most reports of a cluster that are remembered: a day comes twice only where the clock is set back by more than
/// a month of reports.
const MADE: usize = 32;
/// The most tries that are remembered.
const TRIES: usize = 50;
/// The most clusters: a state directory serves one, and another one after an identity was reset.
const CLUSTERS: usize = 8;

/// What reading and writing a file of a few kilobytes takes, fsync(2) on a busy disk included.
const PATIENCE: Duration = Duration::from_millis(200);

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

impl ReportMemory {
    /// Reads it. The second value says why a damaged file was moved aside.
    pub fn load(dir: &StateDir) -> Result<(Self, Option<String>), Error> {
        load(dir, layout::REPORT)
    }

    /// Writes it.
    pub fn store(&self, dir: &StateDir) -> Result<(), Error> {
        store(dir, layout::REPORT, self)
    }

    /// As [`VersionMemory::lock`].
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

/// What is remembered of crash reports; nothing where it cannot be read.
pub fn crash_limits(dir: &StateDir) -> CrashLimits {
    let bytes = dir.root().read(layout::CRASH).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Forgets it: the switch has gone off.
pub fn forget_crash_limits(dir: &StateDir) -> Result<(), Error> {
    if dir.root().read(layout::CRASH)?.is_some() { dir.root().remove(layout::CRASH) } else { Ok(()) }
}

/// Changes what is remembered of crash reports, for all processes on the state directory. What cannot be remembered
/// limits nothing; the text then says why.
pub fn change_crash_limits<T>(dir: &StateDir, change: impl FnOnce(&mut CrashLimits) -> T) -> (T, Option<String>) {
    let locked = dir.root().lock_within(layout::CRASH_LOCK, PATIENCE);
    let (mut limits, damaged): (CrashLimits, _) = load(dir, layout::CRASH).unwrap_or_default();
    let before = limits.clone();
    let outcome = change(&mut limits);
    let stored = if limits == before {
        Ok(())
    } else if limits.held() > before.held() {
        store(dir, layout::CRASH, &limits)
    } else {
        // A report waits to be sent; forgotten in a power cut, this limits too little.
        to_bytes(dir, layout::CRASH, &limits).and_then(|bytes| dir.root().write_unsynced(layout::CRASH, &bytes))
    };
    drop(locked);
    let complaint = stored.err().map(|error| format!("what was sent of crash reports is not remembered: {error}"));
    (outcome, complaint.or(damaged))
}

/// The core files that are known of, of all processes on the state directory; none where none ever was, or it cannot be
/// read.
pub fn cores(dir: &StateDir) -> Option<Cores> {
    let bytes = dir.root().read(layout::CORES).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).map(|json| Cores::from_json(&json))
}

/// Changes what is known of core files, for all processes on the state directory.
pub fn change_cores<T>(dir: &StateDir, change: impl FnOnce(&mut Cores) -> T) -> Result<T, Error> {
    let locked = dir.root().lock_within(layout::CORES_LOCK, PATIENCE)?;
    let (json, _): (Value, _) = load(dir, layout::CORES)?;
    let mut cores = Cores::from_json(&json);
    let outcome = change(&mut cores);
    store(dir, layout::CORES, &cores)?;
    drop(locked);
    Ok(outcome)
}

/// Whether the administrator's notice was given in this state directory; notes that it is now.
pub fn note_notice(dir: &StateDir, now: i64) -> Result<bool, Error> {
    if dir.root().read(layout::NOTICE)?.is_some() {
        return Ok(true);
    }
    dir.root().write(layout::NOTICE, format!("{{\"given_at\":{now}}}").as_bytes())?;
    Ok(false)
}

fn load<T: DeserializeOwned + Default>(dir: &StateDir, name: &str) -> Result<(T, Option<String>), Error> {
    let why = match dir.root().read(name) {
        Ok(None) => return Ok((T::default(), None)),
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(value) => return Ok((value, None)),
            Err(error) => error.to_string(),
        },
        // Too large, no regular file: nothing that the library has written. Else it may be whole, and is to be read later.
        Err(error) if !dir.root().may_be_read(name) => error.to_string(),
        Err(error) => return Err(error),
    };
    let aside = layout::damaged(name);
    dir.root().rename(name, &aside)?;
    Ok((T::default(), Some(format!("{name} was damaged ({why}) and is now {aside}"))))
}

fn store<T: Serialize>(dir: &StateDir, name: &str, value: &T) -> Result<(), Error> {
    dir.root().write(name, &to_bytes(dir, name, value)?)
}

fn to_bytes<T: Serialize>(dir: &StateDir, name: &str, value: &T) -> Result<Vec<u8>, Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Internal(format!("{name}: {error}")))?;
    Ok(with_unknown(dir, name, &bytes).unwrap_or(bytes))
}

/// With what a newer version has written into the file and this one does not know; none where there is nothing like that. Of
/// bytes: code for each form would make the library larger.
fn with_unknown(dir: &StateDir, name: &str, now: &[u8]) -> Option<Vec<u8>> {
    let before = dir.root().read(name).ok()??;
    let (before, mut now) = (serde_json::from_slice(&before).ok()?, serde_json::from_slice(now).ok()?);
    keep_unknown(&mut now, before, Names::Known);
    serde_json::to_vec(&now).ok()
}

/// What the names in an object are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Members of a form: one that is not known is a newer version's.
    Known,
    /// Keys of a map: one that is not there any more has gone.
    Keys,
}

/// The members that hold maps.
const MAPS: [&str; 2] = ["made", "kinds"];
/// What is whole as it is: the event of a crash report.
const WHOLE: &str = "event";
/// Members that tell which one of a list it is.
const TELLING: [&str; 5] = ["label", "zone", "day", "at", "report_id"];

fn keep_unknown(now: &mut Value, before: Value, names: Names) {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            for (name, before) in before {
                match now.get_mut(&name) {
                    Some(_) if name == WHOLE => {}
                    Some(now) => {
                        let names = if MAPS.contains(&name.as_str()) { Names::Keys } else { Names::Known };
                        keep_unknown(now, before, names);
                    }
                    None if names == Names::Known => drop(now.insert(name, before)),
                    None => {}
                }
            }
        }
        (Value::Array(now), Value::Array(mut before)) => {
            for now in now.iter_mut().filter(|now| TELLING.iter().any(|name| now.get(name).is_some())) {
                let is_it = |before: &Value| TELLING.iter().all(|name| before.get(name) == now.get(name));
                if let Some(at) = before.iter().position(is_it) {
                    keep_unknown(now, before.swap_remove(at), Names::Known);
                }
            }
        }
        _ => {}
    }
}

/// Removes what is stored for a switch: it was turned off, and what happened before is never sent. Also the administrator's
/// copies of reports.
pub fn purge(dir: &StateDir, switch: Switch) -> Result<(), Error> {
    match switch {
        Switch::VersionCheck => Ok(()),
        Switch::DailyReport => {
            let waiting = spool::Spool::new(Some(dir), layout::REPORTS, spool::REPORTS).purge();
            waiting.and(dir.folder(layout::SENT).clear()).map(drop)
        }
        Switch::CrashReports => {
            let waiting = spool::Spool::new(Some(dir), layout::CRASHES, spool::CRASHES).purge();
            waiting.and(forget_crash_limits(dir))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use super::*;

    #[test]
    fn what_a_newer_version_has_written_is_kept_and_what_an_older_one_has_not_is_absent() {
        let path = std::env::temp_dir().join(format!("ondat-telemetry-memory-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        let dir = StateDir::open(&path).unwrap();
        let newer = r#"{"schema":2,"told":[{"label":"a","zone":"z","answer":null,"checked_at":1,"next":null,"failures":0,
            "server":"s"},{"label":"b","zone":"z"}]}"#;
        dir.root().write(layout::VERSION, newer.as_bytes()).unwrap();
        let (mut memory, damaged) = VersionMemory::load(&dir).unwrap();
        assert_eq!((memory.told.len(), damaged), (2, None));
        memory.remember(Told { label: "a".to_owned(), zone: "z".to_owned(), failures: 3, ..Told::default() });
        memory.store(&dir).unwrap();
        let stored: Value = serde_json::from_slice(&dir.root().read(layout::VERSION).unwrap().unwrap()).unwrap();
        assert_eq!(
            (&stored["schema"], &stored["told"][1]["server"], &stored["told"][1]["failures"]),
            (&2.into(), &"s".into(), &3.into())
        );

        let older = r#"{"made":{"gone":[],"c":[{"day":5,"at":{"unix":1,"boot":null}}]}}"#;
        dir.root().write(layout::REPORT, older.as_bytes()).unwrap();
        let (mut memory, damaged) = ReportMemory::load(&dir).unwrap();
        assert_eq!((memory.of("c")[0].delivered_at, damaged), (None, None));
        memory.made.remove("gone");
        memory.store(&dir).unwrap();
        assert_eq!(ReportMemory::load(&dir).unwrap().0, memory, "what was taken out of a map does not come back");
        std::fs::remove_dir_all(&path).unwrap();
    }
}
