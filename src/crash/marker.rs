//! The run marker: a locked file that says "running". Found unlocked at the next start of the same boot, it tells of an
//! ending that no monitor saw; the signal handler's record is in it where the monitor was gone.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use serde_json::{Value, json};

use super::delivery::new_event_id;
use super::record::{Kind, RECORD_BYTES, Record};
use crate::error::Error;
use crate::presence;
use crate::state::{Folder, StateDir};
use crate::sys::clock::boot_id;
use crate::sys::procfs::{self, Stat};

const FOLDER: &str = "run";

/// First line of a marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The kernel's id of this boot; never sent.
    boot: String,
    /// The process, by pid and start time; absent where /proc is not there.
    process: Option<(u32, u64)>,
    /// The component that runs.
    pub component: String,
    /// Its version.
    pub version: String,
    /// Who deals with its end.
    pub watched: Watched,
}

/// Who deals with the end of a run.
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
    /// Of a run of this process, which was `born` so, in this boot.
    pub fn new(component: &str, version: &str, born: Option<Stat>, watched: Watched) -> Self {
        let process = born.map(|stat| (std::process::id(), stat.start_time));
        Self { boot: boot_id(), process, component: component.to_owned(), version: version.to_owned(), watched }
    }

    /// As in a marker. By hand, as derived code would be 10 KB of the library.
    fn to_json(&self) -> Value {
        json!({
            "boot": self.boot,
            "process": self.process,
            "component": self.component,
            "version": self.version,
            "watched": self.watched.to_json(),
        })
    }

    fn from_json(json: &Value) -> Option<Self> {
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let pid = json["process"][0].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Some(Self {
            boot: text("boot")?,
            process: pid.zip(json["process"][1].as_u64()),
            component: text("component")?,
            version: text("version")?,
            watched: Watched::from_json(&json["watched"])?,
        })
    }

    /// Whether the process lives on: unlocked all the same, it has become another program.
    fn is_of_living_process(&self) -> bool {
        self.process.is_some_and(|(pid, start_time)| {
            procfs::stat(pid).is_some_and(|now| now.start_time == start_time && !matches!(now.state, 'Z' | 'X'))
        })
    }
}

/// The marker of this run.
pub struct Marker {
    folder: Folder,
    name: String,
    file: Flock<File>,
}

/// What a run left behind.
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
}

/// A run as `status` shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// The marker's name: component, process id and a random part.
    pub name: String,
    /// What it says of itself.
    pub head: Head,
    /// Whether it goes on; else it is reported at the next start.
    pub is_running: bool,
}

impl Marker {
    /// Marks this run.
    pub fn create(dir: &StateDir, name: String, head: &Head) -> Result<Self, Error> {
        let folder = dir.folder(FOLDER);
        let mut file = folder.create()?;
        let mut line =
            serde_json::to_vec(&head.to_json()).map_err(|error| Error::Internal(format!("run marker: {error}")))?;
        line.push(b'\n');
        file.write_all(&line).map_err(|error| Error::Io(format!("run marker {name}: {error}")))?;
        // After a power cut it is one of another boot, which means nothing.
        let file = file.commit_unsynced(&name)?;
        // The monitor adds records too.
        fcntl(file.as_fd(), FcntlArg::F_SETFL(OFlag::O_APPEND))
            .map_err(|error| Error::Io(format!("run marker {name}: {error}")))?;
        Ok(Self { folder, name, file })
    }

    /// The descriptor into which the handler writes.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Writes a record for whoever deals with the end.
    pub fn append(&self, record: Record) -> Result<(), Error> {
        let written = (&*self.file).write_all(&record.to_bytes());
        written.map_err(|error| Error::Io(format!("run marker {}: {error}", self.name)))
    }

    /// The run has ended as it should.
    pub fn remove(self) -> Result<(), Error> {
        self.folder.remove_unsynced(&self.name)
    }
}

/// A name for the marker of a process, with the event id of its report. Not the pid alone: a program that starts itself anew
/// keeps it, and processes of two containers may share the folder and the number.
pub fn name(component: &str, pid: u32) -> Result<String, Error> {
    Ok(format!("{}-{}", presence::name(component, pid), new_event_id()?))
}

/// The event id in a marker's name: whoever reports the ending of this run bears it, so that two who do are one report.
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

/// Removes the marker of a run and gives what it has left behind.
pub fn take(dir: &StateDir, name: &str) -> Result<Option<Leftover>, Error> {
    let folder = dir.folder(FOLDER);
    let leftover = folder.read(name)?.and_then(|bytes| parse(name, &bytes, &boot_id()));
    remove(dir, name)?;
    Ok(leftover)
}

/// Writes a record where the next start finds it, in case this process ends with the one that is marked.
pub fn append(dir: &StateDir, name: &str, record: Record) -> Result<(), Error> {
    dir.folder(FOLDER).append(name, &record.to_bytes()).map(drop)
}

/// The runs of this boot.
pub fn runs(dir: &StateDir) -> Result<Vec<Run>, Error> {
    let folder = dir.folder(FOLDER);
    let boot = boot_id();
    let mut runs = Vec::new();
    for entry in folder.entries()? {
        let Some(head) = folder.read(&entry.name)?.and_then(|bytes| parse_head(&bytes, &boot)) else { continue };
        let Some(file) = folder.open_existing(&entry.name)? else { continue };
        let is_running = matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)));
        runs.push(Run { name: entry.name, head, is_running });
    }
    Ok(runs)
}

/// Removes the marker of a run whose ending has been dealt with, and what the process has said of itself.
pub fn remove(dir: &StateDir, name: &str) -> Result<(), Error> {
    if let Some((process, _)) = name.rsplit_once('-') {
        presence::forget(dir, process);
    }
    dir.folder(FOLDER).remove_unsynced(name)
}

/// Gives `take` what runs of this boot have left behind, one by one, and removes what it has taken. Markers of earlier
/// boots only disappear: a machine that went down is no crash of ours. So do those of processes that have become another
/// program.
pub fn take_leftovers(dir: &StateDir, mut take: impl FnMut(Leftover) -> Result<(), Error>) -> Result<(), Error> {
    let folder = dir.folder(FOLDER);
    let boot = boot_id();
    for entry in folder.entries()? {
        let Some(file) = folder.open_existing(&entry.name)? else { continue };
        // Held until it is removed: two starting processes do not report it twice.
        let _lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => continue,
            Err((_, error)) => return Err(Error::Io(format!("run marker {}: {error}", entry.name))),
        };
        let bytes = folder.read(&entry.name)?.unwrap_or_default();
        let head = parse_head(&bytes, &boot).filter(|head| !head.is_of_living_process());
        if let (Some(head), Some(leftover)) = (head, parse(&entry.name, &bytes, &boot)) {
            // Of a program that was killed with its supervisor, the supervisor's marker tells.
            let is_told = head.watched == Watched::Supervised && leftover.record.is_none();
            if !leftover.is_off && !is_told {
                take(leftover)?;
            }
        }
        // What it has said of itself stays: the process that looks may bear its name.
        folder.remove_unsynced(&entry.name)?;
    }
    Ok(())
}

/// Reads a marker of this name; none for one of another boot, or what is none.
pub fn parse(name: &str, bytes: &[u8], boot: &str) -> Option<Leftover> {
    let event_id = event_id(name)?.to_owned();
    let head = parse_head(bytes, boot)?;
    let component = crate::config::component(&head.component).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let mut records = bytes[end + 1..].chunks(RECORD_BYTES).filter_map(Record::from_bytes);
    let tells = |record: &Record| matches!(record.kind, Kind::Crash | Kind::Exit | Kind::Recovered | Kind::Output);
    let last = records.clone().rfind(tells).filter(|record| record.kind != Kind::Recovered);
    let switched = records.rfind(|record| matches!(record.kind, Kind::On | Kind::Off));
    let is_off = switched.is_some_and(|record| record.kind == Kind::Off);
    Some(Leftover { event_id, component, version: head.version, record: last, is_off })
}

fn parse_head(bytes: &[u8], boot: &str) -> Option<Head> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head = Head::from_json(&serde_json::from_slice(&bytes[..end]).ok()?)?;
    (head.boot == boot).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survived_signal_is_no_ending() {
        let name = "c-7-0123456789abcdef0123456789abcdef";
        let head = br#"{"boot":"b","process":null,"component":"c","version":"1.2.3","watched":"monitor"}"#;
        let crash = Record { signal: 11, ..Record::of(Kind::Crash) };
        let marker = |records: &[Record]| {
            let records: Vec<u8> = records.iter().flat_map(|record| record.to_bytes()).collect();
            parse(name, &[&head[..], b"\n", &records].concat(), "b").unwrap().record
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
