//! The run marker: a file that says that a process runs, beside a folder that is locked while it does. If a later start
//! finds it and its process is gone, the process ended and no monitor has dealt with it. The marker is evidence of a
//! crash only if the process has left a record in it, or if the kernel's count of kills for the memory limit has risen.

use std::fs::File;
use std::os::fd::RawFd;

use nix::fcntl::{Flock, FlockArg};
use ondat_telemetry_protocol::ending::{CoreDump, Ending};
use serde_json::{Value, json};

use super::cores;
use super::delivery::new_event_id;
use super::record::{Kind, RECORD_BYTES, Record};
use crate::crash::witness::Witness;
use crate::error::Error;
use crate::presence;
use crate::state::lock::{self, Tried};
use crate::state::{Folder, StateDir, layout};
use crate::sys::descriptor::{Identity, OwnedFile};
use crate::sys::memory_limit::MemoryLimit;
use crate::sys::procfs::{self, Stat};

const FOLDER: &str = layout::RUN;

/// First line of a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The PID namespace in which the pid counts; empty where it is not known.
    namespace: String,
    /// The process, by pid and start time; absent where /proc is not there.
    process: Option<(u32, u64)>,
    /// The cgroup with its memory limit, by inode, and how often the kernel had killed the whole of it for that.
    memory: Option<(u64, u64)>,
    /// The component that runs.
    pub component: String,
    /// Its version.
    pub version: String,
    /// What deals with its end.
    pub watched: Watched,
}

/// What deals with the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// A monitor.
    Monitor,
    /// The next start. Why there is no monitor.
    Nobody(String),
    /// This is a supervisor's own run.
    Supervisor,
    /// A program that uses the library, below a supervisor that deals with its end.
    Supervised,
}

impl Watched {
    /// A word, or an object with the reason.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Monitor => "monitor".into(),
            Self::Nobody(why) => json!({ "nobody": why }),
            Self::Supervisor => "supervisor".into(),
            Self::Supervised => "supervised".into(),
        }
    }

    fn from_json(json: &Value) -> Option<Self> {
        Some(match json.as_str() {
            Some("monitor") => Self::Monitor,
            Some("supervisor") => Self::Supervisor,
            Some("supervised") => Self::Supervised,
            Some(_) => return None,
            None => Self::Nobody(json["nobody"].as_str()?.to_owned()),
        })
    }
}

impl Head {
    /// The head for a run of this process; `born` is its first state in /proc.
    pub fn new(component: &str, version: &str, born: Option<Stat>, watched: Watched) -> Self {
        Self {
            namespace: procfs::pid_namespace(),
            process: born.map(|stat| (std::process::id(), stat.start_time)),
            memory: MemoryLimit::own().and_then(|limit| Some((limit.inode()?, limit.kills()?.groups))),
            component: component.to_owned(),
            version: version.to_owned(),
            watched,
        }
    }

    /// The form in a marker. Written by hand, because derived code would add 10 KB to the library.
    fn to_json(&self) -> Value {
        json!({
            "pid_namespace": self.namespace,
            "process": self.process,
            "memory": self.memory,
            "component": self.component,
            "version": self.version,
            "watched": self.watched.to_json(),
        })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let pid = json["process"][0].as_u64().and_then(|pid| u32::try_from(pid).ok());
        let memory = &json["memory"];
        Some(Self {
            // Markers of 0.1 have none.
            namespace: text("pid_namespace").unwrap_or_default(),
            process: pid.zip(json["process"][1].as_u64()),
            memory: memory[0].as_u64().zip(memory[1].as_u64()),
            component: text("component")?,
            version: text("version")?,
            watched: Watched::from_json(&json["watched"])?,
        })
    }

    /// Whether the process lives; none where that cannot be seen from here.
    fn lives(&self) -> Option<bool> {
        let (pid, start_time) = self.process?;
        if self.namespace.is_empty() || self.namespace != procfs::pid_namespace() {
            return None;
        }
        Some(procfs::stat(pid).is_some_and(|now| now.start_time == start_time && !now.has_ended()))
    }

    /// Whether the run goes on. A lock alone does not tell: children that a host has forked hold it after its end, and a
    /// process that has become another program has let go of it.
    fn is_running(&self, is_locked: bool) -> bool {
        is_locked && self.lives().unwrap_or(true)
    }

    /// Whether the kernel has since killed the whole cgroup, the monitor included, for its memory limit.
    fn has_met_memory_limit(&self) -> bool {
        let Some((inode, groups)) = self.memory else { return false };
        let limit = MemoryLimit::own().filter(|limit| limit.inode() == Some(inode));
        limit.and_then(|limit| limit.kills()).is_some_and(|kills| kills.groups > groups)
    }
}

/// The marker of this run.
pub struct Marker {
    folder: Folder,
    name: String,
    /// Locked. Not the file itself, with which a process cannot end while its disk hangs: see [`Folder::make_locked_folder`].
    lock: OwnedFile,
    head: Box<Head>,
}

/// What a run has left.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The id of its report.
    pub event_id: String,
    /// The component that ran.
    pub component: String,
    /// Its version.
    pub version: String,
    /// The last record of its end, or of a signal that it is not known to have survived.
    pub record: Option<Record>,
    /// The host had turned crash reports off.
    pub is_off: bool,
    head: Head,
}

impl Leftover {
    /// How the run ended, and what tells so. None where nothing does: that no note of a clean end was left is no evidence.
    pub fn ending(&self) -> Option<(Ending, Witness)> {
        match self.record {
            Some(record) => Some((record.ending(cores::are_files), record.witness())),
            None if self.head.has_met_memory_limit() => {
                let killed = Ending::Killed { signal: libc::SIGKILL, core_dump: CoreDump::No };
                Some((killed, Witness::MemoryLimit))
            }
            None => None,
        }
    }
}

/// A run as `status` shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// The marker's name: component, process id and a random part.
    pub name: String,
    /// The marker's head.
    pub head: Head,
    /// Whether it goes on; else it is reported at the next start.
    pub is_running: bool,
}

impl Marker {
    /// Marks this run.
    pub fn create(dir: &StateDir, name: String, head: Head) -> Result<Self, Error> {
        let folder = dir.folder(FOLDER);
        let lock = folder.make_locked_folder(&lock_of(&name))?;
        let marker = Self { folder, name, lock, head: Box::new(head) };
        if let Err(error) = marker.write() {
            let _ = marker.folder.remove_folder(&lock_of(&marker.name));
            return Err(error);
        }
        Ok(marker)
    }

    /// Not durable: after a power cut there is no end of a process to report.
    fn write(&self) -> Result<(), Error> {
        let mut line = serde_json::to_vec(&self.head.to_json())
            .map_err(|error| Error::Internal(format!("run marker: {error}")))?;
        line.push(b'\n');
        self.folder.write_unsynced(&self.name, &line)
    }

    /// Changes what deals with the end.
    pub fn set_watched(&mut self, watched: Watched) -> Result<(), Error> {
        self.head.watched = watched;
        self.write()
    }

    /// Where the handler finds it: from the descriptor of a folder, by this path.
    pub fn place(&self) -> (RawFd, Identity, String) {
        let (number, identity) = self.lock.identity();
        (number, identity, format!("../{}", self.name))
    }

    /// Writes a record for the process that deals with the end.
    pub fn append(&self, record: Record) -> Result<(), Error> {
        self.folder.append(&self.name, &record.to_bytes()).map(drop)
    }

    /// The run has ended as it should.
    pub fn remove(self) -> Result<(), Error> {
        forget(&self.folder, &self.name)
    }
}

fn lock_of(name: &str) -> String {
    format!("{name}{}", layout::RUN_LOCK)
}

fn forget(folder: &Folder, name: &str) -> Result<(), Error> {
    folder.remove_unsynced(name)?;
    folder.remove_folder(&lock_of(name))
}

/// Asks for the lock of a run. Markers of 0.1 are locked themselves.
fn lock(folder: &Folder, name: &str) -> Result<Option<Tried<Flock<File>>>, Error> {
    if let Some(tried) = folder.lock_folder(&lock_of(name))? {
        return Ok(Some(tried));
    }
    let Some(file) = folder.open_existing(name)? else { return Ok(None) };
    let tried = lock::lock(file, FlockArg::LockExclusiveNonblock);
    tried.map(Some).map_err(|error| Error::Io(format!("run marker {name}: {error}")))
}

/// Where there are no locks, the process alone tells.
fn is_held(tried: &Option<Tried<Flock<File>>>) -> bool {
    matches!(tried, Some(Tried::Held | Tried::Unsupported))
}

/// A name for the marker of a process, with the event id of its report. Not the pid alone: a program that starts itself anew
/// keeps it, and processes of two containers may share the folder and the number.
pub fn name(component: &str, pid: u32) -> Result<String, Error> {
    Ok(format!("{}-{}", presence::name(component, pid), new_event_id()?))
}

/// The event id in a marker's name. Every report of the ending of this run has it, so that two are one report.
pub fn event_id(name: &str) -> Option<&str> {
    let (_, id) = name.rsplit_once('-')?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))).then_some(id)
}

/// The run of the process with this pid, if it is marked. `born` says how it started, and is asked only where it matters.
pub fn of_process(dir: &StateDir, pid: u32, born: impl FnOnce() -> Option<Stat>) -> Result<Option<Run>, Error> {
    let has_pid = |name: &str| name.rsplit('-').nth(1) == Some(pid.to_string().as_str());
    if !dir.folder(FOLDER).entries()?.iter().any(|entry| has_pid(&entry.name)) {
        return Ok(None);
    }
    // Another container may share the directory and the number.
    let Some(stat) = born() else { return Ok(None) };
    Ok(runs(dir)?.into_iter().find(|run| run.head.process == Some((pid, stat.start_time))))
}

/// Reads what a run has left so far.
pub fn read(dir: &StateDir, name: &str) -> Result<Option<Leftover>, Error> {
    Ok(dir.folder(FOLDER).read(name)?.and_then(|bytes| parse(name, &bytes)))
}

/// Writes a record where the next start finds it, in case this process ends with the one that is marked.
pub fn append(dir: &StateDir, name: &str, record: Record) -> Result<(), Error> {
    dir.folder(FOLDER).append(name, &record.to_bytes()).map(drop)
}

/// The runs that go on, and those of which something is left.
pub fn runs(dir: &StateDir) -> Result<Vec<Run>, Error> {
    let folder = dir.folder(FOLDER);
    let mut runs = Vec::new();
    for entry in folder.entries()? {
        let Some(head) = folder.read(&entry.name)?.and_then(|bytes| parse_head(&bytes)) else { continue };
        let is_running = head.is_running(is_held(&lock(&folder, &entry.name)?));
        runs.push(Run { name: entry.name, head, is_running });
    }
    Ok(runs)
}

/// Removes the marker of a run whose ending has been dealt with, and what the process has said of itself.
pub fn remove(dir: &StateDir, name: &str) -> Result<(), Error> {
    if let Some((process, _)) = name.rsplit_once('-') {
        presence::forget(dir, process);
    }
    forget(&dir.folder(FOLDER), name)
}

/// Gives `take` what runs that are over have left behind, one by one, and removes what it has taken.
///
/// Another process may start meanwhile. It makes the folder with its lock, takes that lock, and only then gives the marker its
/// name. So whoever finds a marker finds its lock held while the process lives; if the lock is free, the process has ended, or
/// has become another program. A folder with a lock and without a marker belongs to a process that is about to write one, or
/// has died before: the first holds the lock.
pub fn take_leftovers(dir: &StateDir, mut take: impl FnMut(Leftover) -> Result<(), Error>) -> Result<(), Error> {
    let folder = dir.folder(FOLDER);
    for entry in folder.entries()? {
        // Held until it is removed: two starting processes do not report it twice. Where children of a dead host hold it,
        // both may, with one event id.
        let lock = lock(&folder, &entry.name)?;
        let is_locked = is_held(&lock);
        let bytes = folder.read(&entry.name)?.unwrap_or_default();
        match parse(&entry.name, &bytes) {
            Some(leftover) if leftover.head.is_running(is_locked) => continue,
            // The process lives and has let go of its marker: it has become another program.
            Some(leftover) if leftover.head.lives() == Some(true) => {}
            Some(leftover) => {
                // If a program was killed with its supervisor, the supervisor's marker covers it.
                let is_told = leftover.head.watched == Watched::Supervised && leftover.record.is_none();
                if !leftover.is_off && !is_told {
                    take(leftover)?;
                }
            }
            None if is_locked => continue,
            None => {}
        }
        // Its file in `processes/` stays: it may belong to the process that looks, under the same name.
        forget(&folder, &entry.name)?;
    }
    // Folders of processes that died before they had a marker, or were killed while it was removed.
    for name in folder.folders()? {
        if name.strip_suffix(layout::RUN_LOCK).is_some_and(|run| matches!(folder.entry(run), Ok(None)))
            && let Some(Tried::Locked(_lock)) = folder.lock_folder(&name)?
        {
            folder.remove_folder(&name)?;
        }
    }
    Ok(())
}

/// Reads a marker of this name; none for what is none.
pub fn parse(name: &str, bytes: &[u8]) -> Option<Leftover> {
    let event_id = event_id(name)?.to_owned();
    let head = parse_head(bytes)?;
    let component = ondat_telemetry_protocol::identity::component(&head.component).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let mut records = bytes[end + 1..].chunks(RECORD_BYTES).filter_map(Record::from_bytes);
    let tells = |record: &Record| matches!(record.kind, Kind::Crash | Kind::Exit | Kind::Recovered | Kind::Output);
    let last = records.clone().rfind(tells).filter(|record| record.kind != Kind::Recovered);
    let switched = records.rfind(|record| matches!(record.kind, Kind::On | Kind::Off));
    let is_off = switched.is_some_and(|record| record.kind == Kind::Off);
    Some(Leftover { event_id, component, version: head.version.clone(), record: last, is_off, head })
}

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Head::from_json(&serde_json::from_slice(&bytes[..end]).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survived_signal_is_no_ending() {
        let name = "c-7-0123456789abcdef0123456789abcdef";
        let head = br#"{"process":null,"component":"c","version":"1.2.3","watched":"monitor"}"#;
        let crash = Record { signal: 11, ..Record::of(Kind::Crash) };
        let marker = |records: &[Record]| {
            let records: Vec<u8> = records.iter().flat_map(|record| record.to_bytes()).collect();
            parse(name, &[&head[..], b"\n", &records].concat()).unwrap().record
        };
        assert_eq!(marker(&[]), None);
        assert_eq!(marker(&[crash]), Some(crash));
        assert_eq!(marker(&[crash, Record::of(Kind::Recovered)]), None);
        let later = Record { signal: 7, ..crash };
        assert_eq!(marker(&[crash, Record::of(Kind::Recovered), later]), Some(later));
    }

    #[test]
    fn a_markers_name_ends_with_an_event_id() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(event_id(&format!("data-plane-7-{id}")), Some(id));
        assert!(!name(".hidden", 7).unwrap().starts_with('.'), "it would not be listed");
        for name in ["dataplane-7", "dataplane-7-", &format!("dataplane-7-{}", id.to_uppercase()), id] {
            assert_eq!(event_id(name), None, "{name}");
        }
    }
}
