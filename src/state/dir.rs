//! Which directory is the state directory: the one that was given, if it is ours alone; else a folder of our own in it,
//! because the root of a Kubernetes volume may belong to anybody. It is checked whenever it is opened, and nothing is
//! opened that could belong to another user.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{AccessFlags, faccessat, fsync, geteuid};

use super::layout;
use crate::error::Error;
use crate::sys::descriptor;

/// How a folder is opened.
pub(super) const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// The same where it may be searched and not listed.
const DIRECTORY_PATH: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Permission to write for others than the owner.
const OTHERS_WRITE: libc::mode_t = 0o022;
/// The mode of our folders.
const PRIVATE: Mode = Mode::S_IRWXU;

/// The directory that the host set aside for this library. Copies are about the same one.
#[derive(Clone, Debug)]
pub struct StateDir(Arc<Place>);

#[derive(Debug)]
struct Place {
    given: PathBuf,
    /// What it was when it was last checked; none as long as it did not exist.
    known: Mutex<Option<Known>>,
    /// What its file system lacks, by bits of [`Lack`].
    lacks: AtomicU8,
    /// Which of these the log has mentioned.
    told: AtomicU8,
    /// The ids were made while it could not be read whether it holds a key for them.
    awaits_identity: AtomicBool,
}

/// What the given directory was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    device: libc::dev_t,
    inode: libc::ino_t,
    owner: libc::uid_t,
    /// Others may write to it, or it is another user's: the state directory is a folder in it.
    is_shared: bool,
    /// Whether that folder existed.
    has_folder: bool,
}

impl Known {
    fn is_same(&self, meta: &FileStat) -> bool {
        (self.device, self.inode, self.owner) == (meta.st_dev, meta.st_ino, meta.st_uid)
    }
}

/// Features without which a file system is used all the same.
#[derive(Clone, Copy)]
pub(super) enum Lack {
    FolderSync = 1,
    Locks = 2,
}

const LACKS: [(Lack, &str); 2] = [
    (Lack::FolderSync, "its file system cannot make folders durable (fsync): a power cut may undo the last changes"),
    (Lack::Locks, "its file system has no locks: processes that share it may do a thing twice"),
];

/// Why it cannot be opened.
pub(super) enum Barred {
    /// It may not be searched.
    Denied(Error),
    /// It is another user's.
    NotOurs(Error),
    /// Anything else: nobody knows what is in it.
    Unknown(Error),
}

impl From<Barred> for Error {
    fn from(barred: Barred) -> Self {
        match barred {
            Barred::Denied(error) | Barred::NotOurs(error) | Barred::Unknown(error) => error,
        }
    }
}

impl StateDir {
    /// This one, which need not be there yet. A symlink or a file in its place is refused.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Io(format!("state_dir {}: {error}", path.display()));
        // Without a slash at the end, which would have a symlink followed.
        let given: PathBuf = std::path::absolute(path).map_err(failed)?.components().collect();
        let dir = Self(Arc::new(Place {
            given,
            known: Mutex::default(),
            lacks: AtomicU8::default(),
            told: AtomicU8::default(),
            awaits_identity: AtomicBool::default(),
        }));
        let meta = fstatat(AT_FDCWD, &dir.0.given, AtFlags::AT_SYMLINK_NOFOLLOW);
        if meta.is_ok_and(|meta| meta.st_mode & libc::S_IFMT != libc::S_IFDIR) {
            return Err(dir.not_a_directory());
        }
        Ok(dir)
    }

    /// The path that was given, absolute.
    pub fn given(&self) -> &Path {
        &self.0.given
    }

    /// Where its files are, or would be.
    pub fn path(&self) -> PathBuf {
        if self.known().is_none() {
            drop(self.handle(Making::No));
        }
        match *self.known() {
            Some(known) if known.is_shared => self.0.given.join(own_folder()),
            _ => self.0.given.clone(),
        }
    }

    /// Makes it where it is missing. The error says why it cannot be used.
    pub fn make(&self) -> Result<(), Error> {
        let handle = self.handle(Making::Yes)?.ok_or_else(|| self.missing())?;
        self.problem_of(&handle).map_or(Ok(()), Err)
    }

    /// Why it cannot be used at the moment, found out without writing.
    pub fn problem(&self) -> Option<Error> {
        match self.handle(Making::No) {
            Ok(Some(handle)) => self.problem_of(&handle),
            Ok(None) => Some(self.missing()),
            Err(barred) => Some(barred.into()),
        }
    }

    fn problem_of(&self, handle: &OwnedFd) -> Option<Error> {
        let shown = self.path();
        let shown = shown.display();
        let may_write = AccessFlags::W_OK | AccessFlags::X_OK;
        match faccessat(handle, ".", may_write, AtFlags::AT_EACCESS) {
            Err(Errno::EROFS) => {
                return Some(Error::Io(format!(
                    "state_dir {shown} is on a read-only file system: mount it for writing or name another directory"
                )));
            }
            Err(Errno::EACCES) => {
                return Some(Error::Io(format!("state_dir {shown}: permission denied: chmod 0700 {shown}")));
            }
            // Sandboxes refuse the question itself.
            _ => {}
        }
        let is_full = fstatvfs(handle).is_ok_and(|disk| {
            // Some is kept for root.
            let left = if geteuid().is_root() { disk.blocks_free() } else { disk.blocks_available() };
            disk.blocks() > 0 && left == 0 || disk.files() > 0 && disk.files_available() == 0
        });
        let full = io::Error::from(Errno::ENOSPC);
        is_full.then(|| Error::Io(format!("state_dir {shown}: {full}: make room there")))
    }

    /// The features that its file system lacks; each is returned once.
    pub fn lacks(&self) -> Vec<String> {
        let lacks = self.0.lacks.load(Ordering::Relaxed);
        let told = self.0.told.fetch_or(lacks, Ordering::Relaxed);
        let new = LACKS.into_iter().filter(|(lack, _)| lacks & !told & *lack as u8 != 0);
        new.map(|(_, what)| format!("state_dir {}: {what}", self.path().display())).collect()
    }

    /// The ids of this process were made without the key that may be in it, which cannot be seen.
    pub fn await_identity(&self) {
        self.0.awaits_identity.store(true, Ordering::Release);
    }

    pub(super) fn awaits_identity(&self) -> bool {
        self.0.awaits_identity.load(Ordering::Acquire)
    }

    pub(super) fn has_identity(&self) {
        self.0.awaits_identity.store(false, Ordering::Release);
    }

    pub(super) fn note(&self, lack: Lack) {
        self.0.lacks.fetch_or(lack as u8, Ordering::Relaxed);
    }

    /// Makes durable which files a folder has.
    pub(super) fn sync(&self, folder: &impl AsFd) -> nix::Result<()> {
        match fsync(folder) {
            // Not every file system can: vboxsf, older CIFS, some FUSE.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                self.note(Lack::FolderSync);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// The folder in which it is named: that it is there is durable when this is synced.
    pub(super) fn sync_parent(&self) {
        let path = self.path();
        let Some(parent) = path.parent() else { return };
        // Most often it belongs to another user, who may deny us access.
        if let Ok(parent) = open_at(AT_FDCWD, parent, DIRECTORY.difference(OFlag::O_NOFOLLOW)) {
            let _ = self.sync(&parent);
        }
    }

    pub(super) fn missing(&self) -> Error {
        Error::Io(format!("state_dir {} does not exist", self.path().display()))
    }

    /// The directory, opened; none where it is not there.
    pub(super) fn handle(&self, making: Making) -> Result<Option<OwnedFd>, Barred> {
        let given = match self.open_given() {
            // A directory that has gone is not made anew: somebody has removed it.
            Err(Errno::ENOENT) if making == Making::Yes && self.known().is_none() => {
                make_path(&self.0.given).and_then(|()| self.open_given()).inspect(make_private)
            }
            opened => opened,
        };
        let given = match given {
            Ok(given) => given,
            Err(Errno::ENOENT) if making == Making::No || self.known().is_some() => return Ok(None),
            Err(error) => return Err(self.barred(&self.0.given, error)),
        };
        let meta = fstat(&given).map_err(|error| self.barred(&self.0.given, error))?;
        let before = *self.known();
        let uid = geteuid().as_raw();
        // A process may have become another user since it was opened.
        let is_known = before.is_some_and(|known| !known.is_shared && known.is_same(&meta));
        let is_shared = meta.st_mode & OTHERS_WRITE != 0 || (meta.st_uid != uid && !is_known);
        let same = before.filter(|known| known.is_shared && is_shared && known.is_same(&meta));
        let now = Known {
            device: meta.st_dev,
            inode: meta.st_ino,
            owner: meta.st_uid,
            is_shared,
            has_folder: same.is_some_and(|known| known.has_folder),
        };
        if !is_shared {
            *self.known() = Some(now);
            return Ok(Some(given));
        }
        // If it has become another kind of directory, or another user's, no folder of ours is made in it.
        let is_as_before = before.is_none_or(|known| known.is_shared && known.owner == meta.st_uid);
        let may_make = making == Making::Yes && is_as_before && !now.has_folder;
        let folder = self.own_folder(&given, may_make)?;
        if before.is_none() || is_as_before || folder.is_some() {
            *self.known() = Some(Known { has_folder: now.has_folder || folder.is_some(), ..now });
        }
        Ok(folder)
    }

    fn own_folder(&self, given: &OwnedFd, may_make: bool) -> Result<Option<OwnedFd>, Barred> {
        let name = own_folder();
        let path = self.0.given.join(&name);
        let barred = |error| self.barred(&path, error);
        let folder = match open_at(given, name.as_str(), DIRECTORY) {
            Err(Errno::ENOENT) if may_make => {
                match mkdirat(given, name.as_str(), PRIVATE) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(barred(error)),
                }
                open_at(given, name.as_str(), DIRECTORY).map_err(barred).inspect(make_private)?
            }
            Err(Errno::ENOENT) => return Ok(None),
            opened => opened.map_err(barred)?,
        };
        let meta = fstat(&folder).map_err(barred)?;
        let (uid, shown) = (geteuid().as_raw(), path.display());
        if meta.st_uid != uid {
            return Err(Barred::NotOurs(Error::Io(format!(
                "state_dir {shown} belongs to uid {}, this process is uid {uid}: give it its own directory",
                meta.st_uid
            ))));
        }
        if meta.st_mode & OTHERS_WRITE != 0 {
            let mode = meta.st_mode & 0o7777;
            return Err(Barred::NotOurs(Error::Io(format!(
                "state_dir {shown} can be written by others (mode {mode:04o}): chmod 0700 {shown}"
            ))));
        }
        Ok(Some(folder))
    }

    fn open_given(&self) -> nix::Result<OwnedFd> {
        match open_at(AT_FDCWD, &self.0.given, DIRECTORY) {
            Err(Errno::EACCES) => open_at(AT_FDCWD, &self.0.given, DIRECTORY_PATH),
            opened => opened,
        }
    }

    pub(super) fn barred(&self, path: &Path, error: Errno) -> Barred {
        let shown = path.display();
        let failed = || Error::Io(format!("state_dir {shown}: {}", io::Error::from(error)));
        match error {
            Errno::EACCES => Barred::Denied(failed()),
            // O_NOFOLLOW with O_DIRECTORY gives this for a symlink, open(2).
            Errno::ENOTDIR | Errno::ELOOP => Barred::NotOurs(self.not_a_directory()),
            Errno::EROFS => Barred::NotOurs(Error::Io(format!(
                "state_dir {shown} is on a read-only file system: mount it for writing or name another directory"
            ))),
            _ => Barred::Unknown(failed()),
        }
    }

    fn not_a_directory(&self) -> Error {
        let shown = self.0.given.display();
        Error::Io(format!("state_dir {shown} is a symlink or not a directory: name the real directory"))
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a missing directory is made. Commands that only read make nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Making {
    No,
    Yes,
}

fn own_folder() -> String {
    format!("{}{}", layout::OWN_FOLDER, geteuid())
}

/// A new folder is given to the group of the one that it is in, where that is set-group-ID, and is so itself.
fn make_private(folder: &OwnedFd) {
    let is_ours = |meta: &FileStat| meta.st_uid == geteuid().as_raw() && meta.st_mode & 0o7777 != PRIVATE.bits();
    if fstat(folder).is_ok_and(|meta| is_ours(&meta)) {
        // If this fails, the folder is not used.
        let _ = fchmod(folder, PRIVATE);
    }
}

/// With the folders above it, all of them ours alone.
fn make_path(path: &Path) -> nix::Result<()> {
    match mkdirat(AT_FDCWD, path, PRIVATE) {
        Err(Errno::ENOENT) => {
            let parent = path.parent().ok_or(Errno::ENOENT)?;
            make_path(parent)?;
            match mkdirat(AT_FDCWD, path, PRIVATE) {
                Err(Errno::EEXIST) => Ok(()),
                made => made,
            }
        }
        // Another process has made it.
        Err(Errno::EEXIST) => Ok(()),
        made => made,
    }
}

pub(super) fn open_at(folder: impl AsFd, name: &(impl NixPath + ?Sized), flags: OFlag) -> nix::Result<OwnedFd> {
    descriptor::make(|| openat(folder, name, flags, Mode::empty()))
}
