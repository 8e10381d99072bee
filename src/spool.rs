//! What was accepted and is not delivered yet: sealed reports and crash events, bounded, each handed to one sender at
//! a time, in the state directory or, without one, in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::fstat;

use crate::error::Error;
use crate::state::{Entry, Folder, NewFile, StateDir, oldest_first};
use crate::transport::https::Content;

/// How much a spool keeps; the oldest go first.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items.
    pub items: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// How old an item may become.
    pub age: Duration,
}

/// Sealed reports: 7, 64 MiB, 14 days.
pub const REPORTS: Limits = Limits { items: 7, bytes: 64 << 20, age: Duration::from_secs(14 * 86_400) };
/// Crash events: 50, 1 MiB, 30 days.
pub const CRASHES: Limits = Limits { items: 50, bytes: 1 << 20, age: Duration::from_secs(30 * 86_400) };

/// One kind of undelivered things.
pub struct Spool {
    place: Place,
    limits: Limits,
}

enum Place {
    Disk(Folder),
    Memory(Mutex<BTreeMap<String, Kept>>),
}

#[derive(Clone)]
struct Kept {
    bytes: Vec<u8>,
    modified: i64,
    is_claimed: bool,
}

impl Spool {
    /// A spool in this folder of the state directory, or in memory.
    pub fn new(state_dir: Option<&StateDir>, folder: &'static str, limits: Limits) -> Self {
        let place = match state_dir {
            Some(dir) => Place::Disk(dir.folder(folder)),
            None => Place::Memory(Mutex::new(BTreeMap::new())),
        };
        Self { place, limits }
    }

    /// A new item to write into.
    pub fn create(&self) -> Result<Draft<'_>, Error> {
        let content = match &self.place {
            Place::Disk(folder) => DraftContent::Disk(folder.create()?),
            Place::Memory(_) => DraftContent::Memory(Vec::new()),
        };
        Ok(Draft { spool: self, content, written: 0 })
    }

    /// The names of what is stored, oldest first.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        match &self.place {
            Place::Disk(folder) => folder.entries(),
            Place::Memory(items) => {
                let items = items.lock().unwrap_or_else(PoisonError::into_inner);
                let entries = items.iter();
                let entries = entries.map(|(name, kept)| Entry {
                    name: name.clone(),
                    bytes: kept.bytes.len() as u64,
                    modified: kept.modified,
                });
                Ok(oldest_first(entries.collect()))
            }
        }
    }

    /// Takes an item for sending. None when it is gone or somebody else, perhaps another process, is sending it.
    pub fn claim(&self, name: &str) -> Result<Option<Claim<'_>>, Error> {
        let content = match &self.place {
            Place::Disk(folder) => {
                let Some(file) = folder.open_existing(name)? else { return Ok(None) };
                let Some(lock) = lock(file)? else { return Ok(None) };
                // Delivered and removed between opening and locking: nothing is left to send.
                if fstat(&*lock).map_or(true, |meta| meta.st_nlink == 0) {
                    return Ok(None);
                }
                ClaimContent::Disk(lock)
            }
            Place::Memory(items) => {
                let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
                match items.get_mut(name) {
                    Some(kept) if !kept.is_claimed => {
                        kept.is_claimed = true;
                        ClaimContent::Memory(kept.bytes.clone())
                    }
                    _ => return Ok(None),
                }
            }
        };
        Ok(Some(Claim { spool: self, name: name.to_owned(), content }))
    }

    /// Removes everything: the switch has gone off.
    pub fn purge(&self) -> Result<(), Error> {
        for entry in self.entries()? {
            self.remove(&entry.name)?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        match &self.place {
            Place::Disk(folder) => folder.remove(name),
            Place::Memory(items) => {
                items.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
                Ok(())
            }
        }
    }

    /// Drops the oldest until the limits hold. Returns how many went.
    fn enforce_limits(&self) -> Result<usize, Error> {
        let entries = self.entries()?;
        let oldest_allowed = unix_seconds() - i64::try_from(self.limits.age.as_secs()).unwrap_or(i64::MAX);
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut left = entries.len();
        let mut dropped = 0;
        for entry in &entries {
            if left <= self.limits.items && bytes <= self.limits.bytes && entry.modified >= oldest_allowed {
                break;
            }
            self.remove(&entry.name)?;
            bytes -= entry.bytes;
            left -= 1;
            dropped += 1;
        }
        Ok(dropped)
    }
}

fn lock(file: File) -> Result<Option<Flock<File>>, Error> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(Error::Io(format!("locking a stored item: {}", io::Error::from(error)))),
    }
}

fn unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// An item being written.
pub struct Draft<'a> {
    spool: &'a Spool,
    content: DraftContent,
    written: u64,
}

enum DraftContent {
    Disk(NewFile),
    Memory(Vec<u8>),
}

impl<'a> Draft<'a> {
    /// Makes the item durable under this name and claims it for sending. Returns how many older items had to go.
    pub fn commit(self, name: &str) -> Result<(Claim<'a>, usize), Error> {
        let Self { spool, content, .. } = self;
        let content = match content {
            DraftContent::Disk(file) => ClaimContent::Disk(file.commit(name)?),
            DraftContent::Memory(bytes) => {
                if let Place::Memory(items) = &spool.place {
                    let kept = Kept { bytes: bytes.clone(), modified: unix_seconds(), is_claimed: true };
                    items.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), kept);
                }
                ClaimContent::Memory(bytes)
            }
        };
        let dropped = spool.enforce_limits()?;
        Ok((Claim { spool, name: name.to_owned(), content }, dropped))
    }
}

impl Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.spool.limits.bytes {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than the spool may become"));
        }
        let written = match &mut self.content {
            DraftContent::Disk(file) => file.write(bytes)?,
            DraftContent::Memory(buffer) => buffer.write(bytes)?,
        };
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An item that nobody else sends while this lives.
pub struct Claim<'a> {
    spool: &'a Spool,
    name: String,
    content: ClaimContent,
}

enum ClaimContent {
    Disk(Flock<File>),
    Memory(Vec<u8>),
}

impl Claim<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes.
    pub fn size(&self) -> Result<u64, Error> {
        match &self.content {
            ClaimContent::Disk(file) => {
                let meta = file.metadata().map_err(|error| Error::Io(format!("stored item {}: {error}", self.name)))?;
                Ok(meta.len())
            }
            ClaimContent::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Its bytes, for a request. A file is rewound: an earlier try may have read it.
    pub fn content(&mut self) -> Result<Content<'_>, Error> {
        match &mut self.content {
            ClaimContent::Disk(file) => {
                file.rewind().map_err(|error| Error::Io(format!("stored item {}: {error}", self.name)))?;
                Ok(Content::File(file))
            }
            ClaimContent::Memory(bytes) => Ok(Content::Bytes(bytes)),
        }
    }

    /// Its bytes in memory.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        match &mut self.content {
            ClaimContent::Disk(file) => {
                let mut bytes = Vec::new();
                file.rewind()
                    .and_then(|()| Read::take(&**file, CRASHES.bytes).read_to_end(&mut bytes))
                    .map_err(|error| Error::Io(format!("stored item {}: {error}", self.name)))?;
                Ok(bytes)
            }
            ClaimContent::Memory(bytes) => Ok(bytes.clone()),
        }
    }

    /// Removes the item: it is delivered, or will never be wanted.
    pub fn remove(self) -> Result<(), Error> {
        self.spool.remove(&self.name)
    }

    /// Puts a damaged item out of the way, where a person can look at it.
    pub fn set_aside(self) -> Result<(), Error> {
        match &self.spool.place {
            Place::Disk(folder) => folder.rename(&self.name, &format!(".damaged-{}", self.name)),
            Place::Memory(_) => self.spool.remove(&self.name),
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Place::Memory(items) = &self.spool.place
            && let Some(kept) = items.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.name)
        {
            kept.is_claimed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(spool: &Spool, name: &str, bytes: &[u8]) {
        let mut draft = spool.create().unwrap();
        draft.write_all(bytes).unwrap();
        draft.commit(name).unwrap();
    }

    fn names(spool: &Spool) -> Vec<String> {
        spool.entries().unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn an_item_is_sent_by_one_and_gone_after_delivery() {
        let spool = Spool::new(None, "spool/reports", REPORTS);
        store(&spool, "a", b"sealed");
        let mut claim = spool.claim("a").unwrap().unwrap();
        assert!(spool.claim("a").unwrap().is_none());
        assert_eq!(claim.bytes().unwrap(), b"sealed");
        drop(claim);
        spool.claim("a").unwrap().unwrap().remove().unwrap();
        assert!(names(&spool).is_empty());
    }

    #[test]
    fn the_oldest_goes_first() {
        let spool = Spool::new(None, "x", Limits { items: 2, ..REPORTS });
        for name in ["a", "b", "c"] {
            store(&spool, name, b"x");
        }
        assert_eq!(names(&spool), ["b", "c"]);
    }

    #[test]
    fn on_disk_nothing_half_written_is_seen_and_a_lock_excludes() {
        let dir = tempdir();
        let state_dir = StateDir::open(&dir).unwrap();
        let spool = Spool::new(Some(&state_dir), "spool/reports", REPORTS);
        let mut draft = spool.create().unwrap();
        draft.write_all(b"half").unwrap();
        assert!(names(&spool).is_empty());
        drop(draft);
        store(&spool, "a", b"whole");
        let claim = spool.claim("a").unwrap().unwrap();
        assert!(spool.claim("a").unwrap().is_none());
        claim.remove().unwrap();
        assert!(spool.claim("a").unwrap().is_none());
        std::fs::remove_dir_all(dir).unwrap();
    }

    fn tempdir() -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("ondat-telemetry-spool-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}
