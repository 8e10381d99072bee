//! What was accepted and is not delivered yet: sealed reports and crash events. It is bounded, and each item is handed
//! to one sender at a time. It is in the state directory or, without one, in memory.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::state::lock::{self, Tried};
use crate::state::{Entry, Folder, NewFile, StateDir, oldest_first};
use crate::sys::clock::unix_now;
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
/// And how many bytes of them.
const SENT_BYTES: u64 = 1 << 20;
/// Nothing of ours is older than the library, 2026-01-01: what seems to be was stored while the clock was wrong, as on a board
/// without a battery before it has asked for the time.
const FIRST_RELEASE: i64 = 1_767_225_600;
/// How far ahead of now a time may be that is right, in seconds.
const AHEAD: i64 = 86_400;
/// The most words that wait to be said.
const NOTES: usize = 16;

/// The undelivered items of one kind. They are in the state directory, or in memory if that does not accept them or if there is
/// none.
pub struct Spool {
    folder: Option<Folder>,
    memory: Mutex<BTreeMap<String, Kept>>,
    limits: Limits,
    /// Lines for the log about items that were dropped or set aside.
    notes: Mutex<Vec<String>>,
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
        let folder = state_dir.map(|dir| dir.folder(folder));
        Self { folder, memory: Mutex::default(), limits, notes: Mutex::default() }
    }

    /// A new item to write into.
    pub fn create(&self) -> Result<Draft<'_>, Error> {
        let content = self.folder.as_ref().map(Folder::create).transpose()?;
        let content = content.map_or(DraftContent::Memory(Vec::new()), DraftContent::Disk);
        Ok(Draft { spool: self, content, written: 0 })
    }

    /// The same in memory, where the state directory takes nothing.
    pub fn create_in_memory(&self) -> Draft<'_> {
        Draft { spool: self, content: DraftContent::Memory(Vec::new()), written: 0 }
    }

    /// A draft that is only measured: its bytes are discarded, and the limits hold for it as for others.
    pub fn create_to_measure(&self) -> Draft<'_> {
        Draft { spool: self, content: DraftContent::Nowhere, written: 0 }
    }

    /// What is stored, oldest first.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = self.in_memory();
        if let Some(folder) = &self.folder {
            entries.extend(folder.entries()?);
        }
        Ok(oldest_first(entries))
    }

    /// What is in memory, oldest first.
    pub fn in_memory(&self) -> Vec<Entry> {
        let items = self.items();
        let entries = items.iter().map(|(name, kept)| Entry {
            name: name.clone(),
            bytes: kept.bytes.len() as u64,
            modified: kept.modified,
        });
        oldest_first(entries.collect())
    }

    fn items(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is stored under this name.
    pub fn has(&self, name: &str) -> Result<bool, Error> {
        let is_on_disk = || self.folder.as_ref().map_or(Ok(None), |folder| folder.entry(name));
        Ok(self.items().contains_key(name) || is_on_disk()?.is_some())
    }

    /// Takes an item for sending. None when it is gone or somebody else, perhaps another process, is sending it; also
    /// when it has become too old or is too large to be one of ours, and has been removed or set aside for that.
    pub fn claim(&self, name: &str) -> Result<Option<Claim<'_>>, Error> {
        let claimed = |content| Claim { spool: self, name: name.to_owned(), content, is_durable: true };
        if let Some(kept) = self.items().get_mut(name) {
            let is_free = !std::mem::replace(&mut kept.is_claimed, true);
            return Ok(is_free.then(|| claimed(ClaimContent::Memory(kept.bytes.clone()))));
        }
        let Some(folder) = &self.folder else { return Ok(None) };
        let Some(file) = folder.open_existing(name)? else { return Ok(None) };
        let failed = |error: io::Error| Error::Io(format!("stored item {name}: {error}"));
        let file = OwnedFile::new(file.into()).map_err(failed)?;
        // Where there are no locks two may send it: it has one id.
        if matches!(lock::lock_owned(&file).map_err(failed)?, Tried::Held) {
            return Ok(None);
        }
        // Delivered and removed between opening and locking: nothing is left to send.
        if file.meta().map_err(failed)?.st_nlink == 0 || self.refuses(folder, name)? {
            return Ok(None);
        }
        Ok(Some(claimed(ClaimContent::Disk(file))))
    }

    /// Removes everything: the switch has gone off. How much there was.
    pub fn purge(&self) -> Result<usize, Error> {
        let in_memory = std::mem::take(&mut *self.items()).len();
        Ok(in_memory + self.folder.as_ref().map_or(Ok(0), Folder::clear)?)
    }

    /// Lines for the log about items that were dropped or set aside; each is returned once.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, what: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES {
            notes.push(what);
        }
    }

    /// Sets a locked file aside or removes it, where it is none to be sent.
    fn refuses(&self, folder: &Folder, name: &str) -> Result<bool, Error> {
        let Some(entry) = folder.entry(name)? else { return Ok(true) };
        if entry.bytes > self.limits.bytes {
            folder.set_aside(name)?;
            self.note(format!("the stored {name} is too large to be one of ours and is set aside"));
        } else if self.is_too_old(&entry) {
            folder.remove(name)?;
            let days = self.limits.age.as_secs() / 86_400;
            self.note(format!("the stored {name} could not be delivered for {days} days and is dropped"));
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Judged only by a plausible time. An item with an impossible time ages from the first look with a correct clock.
    fn is_too_old(&self, entry: &Entry) -> bool {
        let now = unix_now();
        if now < FIRST_RELEASE {
            return false;
        }
        if (FIRST_RELEASE..=now.saturating_add(AHEAD)).contains(&entry.modified) {
            return entry.modified < now - i64::try_from(self.limits.age.as_secs()).unwrap_or(i64::MAX);
        }
        if let Some(folder) = &self.folder {
            // Where that fails it is not younger next time, and not dropped either.
            let _ = folder.touch(&entry.name);
        }
        false
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        if self.items().remove(name).is_some() {
            return Ok(());
        }
        self.folder.as_ref().map_or(Ok(()), |folder| folder.remove(name))
    }

    /// Drops the oldest until the limits hold. Returns how many went.
    fn enforce_limits(&self) -> Result<usize, Error> {
        if let Some(folder) = &self.folder {
            // For what was set aside the same limits hold.
            self.drop_oldest(&folder.entries_set_aside()?)?;
            for foreign in folder.entries()?.iter().filter(|entry| entry.bytes > self.limits.bytes) {
                folder.set_aside(&foreign.name)?;
            }
        }
        self.drop_oldest(&self.entries()?)
    }

    fn drop_oldest(&self, entries: &[Entry]) -> Result<usize, Error> {
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let mut left = entries.len();
        let mut dropped = 0;
        for entry in entries {
            let is_within = left <= self.limits.items && bytes <= self.limits.bytes;
            if is_within && !self.is_too_old(entry) {
                continue;
            }
            self.remove(&entry.name)?;
            bytes -= entry.bytes;
            left -= 1;
            dropped += 1;
        }
        Ok(dropped)
    }
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
    Nowhere,
}

impl<'a> Draft<'a> {
    /// How many bytes it has.
    pub fn written(&self) -> u64 {
        self.written
    }

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
                let kept = Kept { bytes: bytes.clone(), modified: unix_now(), is_claimed: true };
                spool.items().insert(name.to_owned(), kept);
                ClaimContent::Memory(bytes)
            }
            DraftContent::Nowhere => return Err(Error::Internal(format!("{name} was only measured"))),
        };
        // The item is stored. If the folder cannot be listed, the next caller finds what is too much.
        let dropped = spool.enforce_limits().unwrap_or(0);
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
            DraftContent::Memory(buffer) => {
                buffer.try_reserve(bytes.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
                buffer.write(bytes)?
            }
            DraftContent::Nowhere => bytes.len(),
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

    /// Whether it outlives this process.
    pub fn is_on_disk(&self) -> bool {
        matches!(self.content, ClaimContent::Disk(_))
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
        if let Some(spool) = &self.spool.folder {
            let kept = spool.beside(folder);
            let _ = kept.write_unsynced(&self.name, bytes).and_then(|()| kept.keep_last(SENT, SENT_BYTES));
        }
        self.remove()
    }

    /// Makes it durable.
    pub fn sync(&mut self) -> Result<(), Error> {
        if let (false, ClaimContent::Disk(file), Some(folder)) = (self.is_durable, &self.content, &self.spool.folder) {
            folder.sync_file(file).map_err(|error| Error::Io(format!("stored item {}: {error}", self.name)))?;
            folder.sync()?;
        }
        self.is_durable = true;
        Ok(())
    }

    /// Puts a damaged item out of the way, where a person can look at it.
    pub fn set_aside(mut self) -> Result<(), Error> {
        self.is_durable = true;
        match (&self.content, &self.spool.folder) {
            (ClaimContent::Disk(_), Some(folder)) => folder.set_aside(&self.name),
            _ => self.spool.remove(&self.name),
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // A caller that must know whether this worked calls `sync` before.
        let _ = self.sync();
        if let ClaimContent::Memory(_) = &self.content
            && let Some(kept) = self.spool.items().get_mut(&self.name)
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

    use std::time::{SystemTime, UNIX_EPOCH};

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
            for mut draft in [spool.create().unwrap(), spool.create_to_measure()] {
                draft.write_all(&vec![0; 1 << 20]).unwrap();
                assert_eq!(draft.write_all(b"x").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
                assert_eq!(draft.written(), 1 << 20);
            }
            assert!(spool.create_to_measure().commit("measured").is_err());
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
    fn what_was_stored_while_the_clock_was_wrong_is_sent_and_ages_from_now_on() {
        let scratch = Scratch::new("clock");
        let spool = scratch.spool(REPORTS);
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let year = Duration::from_secs(365 * 86_400);
        // 1970, 2000, and a century ahead.
        let ahead = SystemTime::now() + year * 100;
        for (name, time) in [("a", UNIX_EPOCH + Duration::from_secs(600)), ("b", UNIX_EPOCH + year * 30), ("c", ahead)]
        {
            store(&spool, name, b"sealed");
            File::options().write(true).open(scratch.file(name)).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(store(&spool, "d", b"sealed"), 0, "none is dropped");
        for entry in spool.entries().unwrap() {
            let age = since_1970.as_secs().abs_diff(u64::try_from(entry.modified).unwrap());
            assert!(age < 600, "{entry:?}");
            assert!(spool.claim(&entry.name).unwrap().is_some(), "{entry:?}");
        }
        scratch.age("a", Duration::from_secs(15 * 86_400));
        assert!(spool.claim("a").unwrap().is_none());
        assert_eq!(spool.notes(), ["the stored a could not be delivered for 14 days and is dropped"]);
        assert!(spool.notes().is_empty());
    }

    #[test]
    fn what_the_disk_does_not_take_is_in_memory_and_in_the_same_spool() {
        let scratch = Scratch::new("beside");
        let spool = scratch.spool(REPORTS);
        store(&spool, "disk", b"sealed");
        let mut draft = spool.create_in_memory();
        draft.write_all(b"in memory").unwrap();
        drop(draft.commit("memory").unwrap());
        assert_eq!(spool.entries().unwrap().len(), 2);
        assert!(spool.has("memory").unwrap() && !scratch.file("memory").exists());
        let mut claim = spool.claim("memory").unwrap().unwrap();
        assert!(spool.claim("memory").unwrap().is_none());
        assert_eq!(claim.bytes().unwrap(), b"in memory");
        claim.remove().unwrap();
        assert_eq!(names(&spool), ["disk"]);
        drop(spool.create_in_memory().commit("memory").unwrap());
        spool.purge().unwrap();
        assert_eq!(spool.entries().unwrap(), []);
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
