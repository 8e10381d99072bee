//! What was accepted and is not delivered yet: sealed reports and crash events, bounded, each handed to one sender at
//! a time, in the state directory or, without one, in memory.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::state::{Entry, Folder, NewFile, StateDir, oldest_first};
use crate::sys::descriptor::OwnedFile;
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

/// How many delivered items are kept for the administrator.
const SENT: usize = 100;

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

    /// Whether something is stored under this name.
    pub fn has(&self, name: &str) -> Result<bool, Error> {
        match &self.place {
            Place::Disk(folder) => Ok(folder.entry(name)?.is_some()),
            Place::Memory(items) => Ok(items.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)),
        }
    }

    /// Takes an item for sending. None when it is gone or somebody else, perhaps another process, is sending it; also
    /// when it has become too old or is too large to be one of ours, and has been removed or set aside for that.
    pub fn claim(&self, name: &str) -> Result<Option<Claim<'_>>, Error> {
        let content = match &self.place {
            Place::Disk(folder) => {
                let Some(file) = folder.open_existing(name)? else { return Ok(None) };
                let failed = |error: io::Error| Error::Io(format!("locking a stored item: {error}"));
                let file = OwnedFile::new(file.into()).map_err(failed)?;
                if !file.try_lock().map_err(failed)? {
                    return Ok(None);
                }
                // Delivered and removed between opening and locking: nothing is left to send.
                if file.meta().map_err(failed)?.st_nlink == 0 || self.refuses(folder, name)? {
                    return Ok(None);
                }
                ClaimContent::Disk(file)
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
        Ok(Some(Claim { spool: self, name: name.to_owned(), content, is_durable: true }))
    }

    /// Removes everything: the switch has gone off.
    pub fn purge(&self) -> Result<(), Error> {
        match &self.place {
            Place::Disk(folder) => folder.clear(),
            Place::Memory(items) => {
                items.lock().unwrap_or_else(PoisonError::into_inner).clear();
                Ok(())
            }
        }
    }

    /// Sets a locked file aside or removes it, where it is none to be sent.
    fn refuses(&self, folder: &Folder, name: &str) -> Result<bool, Error> {
        let Some(entry) = folder.entry(name)? else { return Ok(true) };
        if entry.bytes > self.limits.bytes {
            folder.set_aside(name)?;
        } else if entry.modified < self.oldest_allowed() {
            folder.remove(name)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn oldest_allowed(&self) -> i64 {
        unix_seconds() - i64::try_from(self.limits.age.as_secs()).unwrap_or(i64::MAX)
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
        if let Place::Disk(folder) = &self.place {
            // For what was set aside the same limits hold.
            self.drop_oldest(&folder.entries_set_aside()?)?;
            for foreign in folder.entries()?.iter().filter(|entry| entry.bytes > self.limits.bytes) {
                folder.set_aside(&foreign.name)?;
            }
        }
        self.drop_oldest(&self.entries()?)
    }

    fn drop_oldest(&self, entries: &[Entry]) -> Result<usize, Error> {
        let oldest_allowed = self.oldest_allowed();
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut left = entries.len();
        let mut dropped = 0;
        for entry in entries {
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
        self.claimed(name, true)
    }

    /// The same for an item that is sent at once: it outlives this process, and becomes durable when the claim is given
    /// up with the item still there.
    pub fn commit_unsynced(self, name: &str) -> Result<(Claim<'a>, usize), Error> {
        self.claimed(name, false)
    }

    fn claimed(self, name: &str, is_durable: bool) -> Result<(Claim<'a>, usize), Error> {
        let Self { spool, content, .. } = self;
        let content = match content {
            DraftContent::Disk(file) if is_durable => ClaimContent::Disk(file.publish(name)?),
            DraftContent::Disk(file) => ClaimContent::Disk(file.publish_unsynced(name)?),
            DraftContent::Memory(bytes) => {
                if let Place::Memory(items) = &spool.place {
                    let kept = Kept { bytes: bytes.clone(), modified: unix_seconds(), is_claimed: true };
                    items.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), kept);
                }
                ClaimContent::Memory(bytes)
            }
        };
        let dropped = spool.enforce_limits()?;
        Ok((Claim { spool, name: name.to_owned(), content, is_durable }, dropped))
    }
}

impl Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.spool.limits.bytes {
            let why = format!("larger than {} MiB, the most that is stored and sent", self.spool.limits.bytes >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
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
    /// A power cut leaves it, or it is gone.
    is_durable: bool,
}

enum ClaimContent {
    Disk(OwnedFile),
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
                let meta = file.meta().map_err(|error| Error::Io(format!("stored item {}: {error}", self.name)))?;
                Ok(u64::try_from(meta.st_size).unwrap_or(0))
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
                    .and_then(|()| Read::take(&*file, CRASHES.bytes).read_to_end(&mut bytes))
                    .map_err(|error| Error::Io(format!("stored item {}: {error}", self.name)))?;
                Ok(bytes)
            }
            ClaimContent::Memory(bytes) => Ok(bytes.clone()),
        }
    }

    /// Removes the item: it is delivered, or will never be wanted.
    pub fn remove(mut self) -> Result<(), Error> {
        self.is_durable = true;
        self.spool.remove(&self.name)
    }

    /// Removes a delivered item. The administrator finds the last of them in this folder; what cannot be kept there is
    /// delivered all the same.
    pub fn remove_to(self, folder: &'static str, bytes: &[u8]) -> Result<(), Error> {
        if let Place::Disk(spool) = &self.spool.place {
            let kept = spool.beside(folder);
            let _ = kept.write_unsynced(&self.name, bytes).and_then(|()| kept.keep_last(SENT));
        }
        self.remove()
    }

    /// Makes it durable.
    pub fn sync(&mut self) -> Result<(), Error> {
        if let (false, ClaimContent::Disk(file), Place::Disk(folder)) =
            (self.is_durable, &self.content, &self.spool.place)
        {
            file.sync().map_err(|error| Error::Io(format!("stored item {}: {error}", self.name)))?;
            folder.sync()?;
        }
        self.is_durable = true;
        Ok(())
    }

    /// Puts a damaged item out of the way, where a person can look at it.
    pub fn set_aside(mut self) -> Result<(), Error> {
        self.is_durable = true;
        match &self.spool.place {
            Place::Disk(folder) => folder.set_aside(&self.name),
            Place::Memory(_) => self.spool.remove(&self.name),
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // Who has to know calls `sync` before.
        let _ = self.sync();
        if let Place::Memory(items) = &self.spool.place
            && let Some(kept) = items.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.name)
        {
            kept.is_claimed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::DirBuilderExt;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    const FOLDER: &str = "spool/reports";

    fn store(spool: &Spool, name: &str, bytes: &[u8]) -> usize {
        let mut draft = spool.create().unwrap();
        draft.write_all(bytes).unwrap();
        draft.commit(name).unwrap().1
    }

    fn names(spool: &Spool) -> Vec<String> {
        spool.entries().unwrap().into_iter().map(|entry| entry.name).collect()
    }

    /// A state directory that is gone when the test is over.
    struct Scratch {
        path: PathBuf,
        state_dir: StateDir,
    }

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ondat-telemetry-{name}-{}", std::process::id()));
            std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self { state_dir: StateDir::open(&path).unwrap(), path }
        }

        fn spool(&self, limits: Limits) -> Spool {
            Spool::new(Some(&self.state_dir), FOLDER, limits)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.path.join(FOLDER).join(name)
        }

        /// Makes a stored file this much older.
        fn age(&self, name: &str, age: Duration) {
            let file = File::options().write(true).open(self.file(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }

    #[test]
    fn an_item_is_sent_by_one_and_gone_after_delivery() {
        let spool = Spool::new(None, FOLDER, REPORTS);
        store(&spool, "a", b"sealed");
        let mut claim = spool.claim("a").unwrap().unwrap();
        assert!(spool.claim("a").unwrap().is_none());
        assert_eq!(claim.bytes().unwrap(), b"sealed");
        drop(claim);
        spool.claim("a").unwrap().unwrap().remove().unwrap();
        assert!(names(&spool).is_empty());
    }

    #[test]
    fn what_was_delivered_is_kept_and_the_oldest_of_too_many_goes() {
        let scratch = Scratch::new("delivered");
        let spool = scratch.spool(CRASHES);
        let sent = scratch.state_dir.folder("sent/crashes");
        for number in 0..SENT {
            sent.write_unsynced(&format!("{number:03}"), b"before").unwrap();
        }
        let oldest = File::options().write(true).open(sent.path().join("042")).unwrap();
        oldest.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        store(&spool, "event", b"as it was sent");
        let mut claim = spool.claim("event").unwrap().unwrap();
        let bytes = claim.bytes().unwrap();
        claim.remove_to("sent/crashes", &bytes).unwrap();
        assert!(names(&spool).is_empty());
        assert_eq!(sent.read("event").unwrap().unwrap(), b"as it was sent");
        assert_eq!(sent.entries().unwrap().len(), SENT);
        assert_eq!(sent.read("042").unwrap(), None);
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
    fn seven_reports_are_kept_and_the_oldest_of_eight_goes() {
        let scratch = Scratch::new("seven");
        let spool = scratch.spool(REPORTS);
        // The oldest has the last name: it is the time that counts.
        for (days, name) in (1_u32..=7).zip(["a", "b", "c", "d", "e", "f", "g"]) {
            assert_eq!(store(&spool, name, b"sealed"), 0);
            scratch.age(name, Duration::from_secs(86_400) * days);
        }
        assert_eq!(names(&spool), ["g", "f", "e", "d", "c", "b", "a"]);
        assert_eq!(store(&spool, "h", b"sealed"), 1);
        assert_eq!(names(&spool), ["f", "e", "d", "c", "b", "a", "h"]);
    }

    #[test]
    fn sixty_four_mebibytes_are_kept() {
        let scratch = Scratch::new("mebibytes");
        let spool = scratch.spool(REPORTS);
        // A hole takes no disk.
        for (name, mebibytes) in [("a", 40), ("b", 24)] {
            store(&spool, name, b"");
            File::options().write(true).open(scratch.file(name)).unwrap().set_len(mebibytes << 20).unwrap();
        }
        scratch.age("a", Duration::from_secs(60));
        assert_eq!(store(&spool, "c", b""), 0, "64 MiB fit");
        assert_eq!(store(&spool, "d", b"x"), 1, "a byte more does not");
        assert_eq!(names(&spool), ["b", "c", "d"]);
    }

    #[test]
    fn no_item_becomes_larger_than_all_may_be() {
        let scratch = Scratch::new("larger");
        for spool in [Spool::new(None, FOLDER, CRASHES), scratch.spool(CRASHES)] {
            let mut draft = spool.create().unwrap();
            draft.write_all(&vec![0; 1 << 20]).unwrap();
            assert_eq!(draft.write_all(b"x").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
            drop(draft);
            assert!(names(&spool).is_empty());
        }
        assert_eq!(std::fs::read_dir(scratch.path.join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn after_fourteen_days_an_item_is_dropped_and_not_sent() {
        let scratch = Scratch::new("fourteen");
        let spool = scratch.spool(REPORTS);
        let day = Duration::from_secs(86_400);
        for (name, age) in [("a", day * 15), ("b", day * 13), ("c", day * 15)] {
            store(&spool, name, b"sealed");
            scratch.age(name, age);
        }
        assert!(spool.claim("a").unwrap().is_none());
        assert!(spool.claim("b").unwrap().is_some());
        assert_eq!(names(&spool), ["c", "b"], "who wanted to send it has removed it");
        assert_eq!(store(&spool, "d", b"sealed"), 1);
        assert_eq!(names(&spool), ["b", "d"]);
    }

    #[test]
    fn a_file_too_large_to_be_ours_is_set_aside_and_pushes_nothing_out() {
        let scratch = Scratch::new("too-large");
        let spool = scratch.spool(REPORTS);
        store(&spool, "a", b"sealed");
        for name in ["huge", "huger"] {
            File::create(scratch.file(name)).unwrap().set_len(1 << 40).unwrap();
        }
        assert!(spool.claim("huge").unwrap().is_none());
        assert!(scratch.file(".damaged-huge").exists());
        assert_eq!(store(&spool, "b", b"sealed"), 0);
        assert_eq!(names(&spool), ["a", "b"]);
    }

    #[test]
    fn what_is_set_aside_is_bounded_as_well() {
        let scratch = Scratch::new("aside");
        let spool = scratch.spool(Limits { items: 2, ..REPORTS });
        for (age, name) in (1_u64..).zip(["a", "b", "c"]) {
            store(&spool, name, b"?");
            scratch.age(name, Duration::from_secs(age));
            spool.claim(name).unwrap().unwrap().set_aside().unwrap();
        }
        store(&spool, "d", b"sealed");
        assert!(!scratch.file(".damaged-c").exists(), "the oldest of three");
        assert!(scratch.file(".damaged-a").exists() && scratch.file(".damaged-b").exists());
        assert_eq!(names(&spool), ["d"]);
    }

    #[test]
    fn nothing_stays_of_what_is_purged() {
        let scratch = Scratch::new("purged");
        let spool = scratch.spool(REPORTS);
        for name in ["a", "b"] {
            store(&spool, name, b"sealed");
        }
        spool.claim("a").unwrap().unwrap().set_aside().unwrap();
        let draft = spool.create().unwrap();
        std::fs::write(scratch.file(".tmp-0011223344556677"), b"half").unwrap();
        spool.purge().unwrap();
        let left = std::fs::read_dir(scratch.path.join(FOLDER)).unwrap().count();
        assert_eq!(left, 1, "only what is being written");
        draft.commit("c").unwrap();
        assert_eq!(names(&spool), ["c"]);
    }

    #[test]
    fn on_disk_nothing_half_written_is_seen_and_a_lock_excludes() {
        let scratch = Scratch::new("half-written");
        let spool = scratch.spool(REPORTS);
        let mut draft = spool.create().unwrap();
        draft.write_all(b"half").unwrap();
        assert!(names(&spool).is_empty());
        drop(draft);
        store(&spool, "a", b"whole");
        let claim = spool.claim("a").unwrap().unwrap();
        assert!(spool.claim("a").unwrap().is_none());
        claim.remove().unwrap();
        assert!(spool.claim("a").unwrap().is_none());
    }

    #[test]
    fn an_item_to_be_sent_at_once_is_seen_and_stays_where_it_was_not_sent() {
        let scratch = Scratch::new("at-once");
        for spool in [Spool::new(None, FOLDER, CRASHES), scratch.spool(CRASHES)] {
            let mut draft = spool.create().unwrap();
            draft.write_all(b"event").unwrap();
            let (mut claim, dropped) = draft.commit_unsynced("a").unwrap();
            assert_eq!((names(&spool), dropped), (vec!["a".to_owned()], 0));
            assert!(spool.claim("a").unwrap().is_none(), "it is being sent");
            assert_eq!(claim.bytes().unwrap(), b"event");
            drop(claim);
            let mut claim = spool.claim("a").unwrap().unwrap();
            assert_eq!(claim.bytes().unwrap(), b"event");
            claim.remove().unwrap();
            assert!(names(&spool).is_empty());
        }
    }

    #[test]
    fn a_lock_excludes_another_process() {
        let scratch = Scratch::new("other-process");
        let spool = scratch.spool(REPORTS);
        store(&spool, "a", b"sealed");
        let taken = || {
            let mut flock = Command::new("flock");
            !flock.args(["--nonblock", "--exclusive"]).arg(scratch.file("a")).arg("true").status().unwrap().success()
        };
        assert!(!taken());
        let claim = spool.claim("a").unwrap().unwrap();
        assert!(taken());
        drop(claim);
        assert!(!taken());
    }
}
