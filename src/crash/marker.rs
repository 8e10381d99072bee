//! The run marker: a locked file that says "running". Found unlocked at the next start of the same boot, it tells of an
//! ending that no monitor saw; the signal handler's record is in it where the monitor was gone.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::delivery::new_event_id;
use super::record::{Kind, RECORD_BYTES, Record};
use crate::error::Error;
use crate::state::{Folder, StateDir};
use crate::sys::clock::boot_id;
use crate::sys::procfs;

const FOLDER: &str = "run";

/// First line of a marker.
#[derive(Debug, Deserialize, Serialize)]
struct Head {
    /// The kernel's id of this boot; never sent.
    boot: String,
    /// The process, by pid and start time; absent where /proc is not there.
    process: Option<(u32, u64)>,
    component: String,
    version: String,
}

impl Head {
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
    /// The crash record, where the handler had to write it down itself.
    pub record: Option<Record>,
}

impl Marker {
    /// Marks this run.
    pub fn create(dir: &StateDir, component: &str, version: &str) -> Result<Self, Error> {
        let folder = dir.folder(FOLDER);
        let pid = std::process::id();
        // Not the pid alone: a program that starts itself anew keeps it, and the monitor of its former self removes that
        // one's marker.
        let name = format!("{component}-{pid}-{}", new_event_id()?);
        let head = Head {
            boot: boot_id(),
            process: procfs::stat(pid).map(|stat| (pid, stat.start_time)),
            component: component.to_owned(),
            version: version.to_owned(),
        };
        let mut file = folder.create()?;
        serde_json::to_writer(&mut file, &head)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|error| Error::Io(format!("run marker {name}: {error}")))?;
        let file = file.commit(&name)?;
        Ok(Self { folder, name, file })
    }

    /// Its name in the folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor into which the handler writes.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The run has ended as it should.
    pub fn remove(self) -> Result<(), Error> {
        self.folder.remove(&self.name)
    }
}

/// The event id in a marker's name: whoever reports the ending of this run bears it, so that two who do are one report.
pub fn event_id(name: &str) -> Option<&str> {
    let (_, id) = name.rsplit_once('-')?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))).then_some(id)
}

/// Removes the marker of a run whose ending has been dealt with.
pub fn remove(dir: &StateDir, name: &str) -> Result<(), Error> {
    dir.folder(FOLDER).remove(name)
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
        if let Some(leftover) = folder.read(&entry.name)?.and_then(|bytes| parse(&entry.name, &bytes, &boot)) {
            take(leftover)?;
        }
        folder.remove(&entry.name)?;
    }
    Ok(())
}

fn parse(name: &str, bytes: &[u8], boot: &str) -> Option<Leftover> {
    let event_id = event_id(name)?.to_owned();
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
    if head.boot != boot || head.is_of_living_process() {
        return None;
    }
    let component = crate::config::component(&head.component).ok()?;
    let mut records = bytes[end + 1..].chunks(RECORD_BYTES).filter_map(Record::from_bytes);
    let record = records.rfind(|record| record.kind == Kind::Crash);
    Some(Leftover { event_id, component, version: head.version, record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_markers_name_ends_with_an_event_id() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(event_id(&format!("data-plane-7-{id}")), Some(id));
        for name in ["dataplane-7", "dataplane-7-", &format!("dataplane-7-{}", id.to_uppercase()), id] {
            assert_eq!(event_id(name), None, "{name}");
        }
    }
}
