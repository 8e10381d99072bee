//! The run marker: a locked file that says "running". Found unlocked at the next start of the same boot, it tells of an
//! ending that no monitor saw; the signal handler's record is in it where the monitor was gone.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::record::{Kind, RECORD_BYTES, Record};
use crate::error::Error;
use crate::state::{Folder, StateDir};
use crate::sys::clock::boot_id;

const FOLDER: &str = "run";

/// First line of a marker.
#[derive(Debug, Deserialize, Serialize)]
struct Head {
    /// The kernel's id of this boot; never sent.
    boot: String,
    component: String,
    version: String,
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
        let name = format!("{component}-{}", std::process::id());
        let head = Head { boot: boot_id(), component: component.to_owned(), version: version.to_owned() };
        let mut file = folder.create()?;
        let mut line = serde_json::to_vec(&head).map_err(|error| Error::Internal(format!("run marker: {error}")))?;
        line.push(b'\n');
        file.write_all(&line).map_err(|error| Error::Io(format!("run marker {name}: {error}")))?;
        // After a power cut it is one of another boot, which means nothing.
        let file = file.commit_unsynced(&name)?;
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
        self.folder.remove_unsynced(&self.name)
    }
}

/// Removes the marker of a run whose ending has been dealt with.
pub fn remove(dir: &StateDir, name: &str) -> Result<(), Error> {
    dir.folder(FOLDER).remove_unsynced(name)
}

/// Gives `take` what runs of this boot have left behind, one by one, and removes what it has taken. Markers of earlier
/// boots only disappear: a machine that went down is no crash of ours.
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
        if let Some(leftover) = folder.read(&entry.name)?.and_then(|bytes| parse(&bytes, &boot)) {
            take(leftover)?;
        }
        folder.remove_unsynced(&entry.name)?;
    }
    Ok(())
}

fn parse(bytes: &[u8], boot: &str) -> Option<Leftover> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
    if head.boot != boot {
        return None;
    }
    let component = crate::config::component(&head.component).ok()?;
    let mut records = bytes[end + 1..].chunks(RECORD_BYTES).filter_map(Record::from_bytes);
    let record = records.rfind(|record| record.kind == Kind::Crash);
    Some(Leftover { component, version: head.version, record })
}
