//! Files that are never read half-written and never followed through a symlink.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, UtimensatFlags, fstat, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::dir::{Barred, DIRECTORY, Lack, Making, StateDir, open_at};
use super::layout::{IDENTITY_KEY, SET_ASIDE, TEMPORARY};
use super::lock::{self, Lock, Tried};
use crate::error::Error;
use crate::sys::clock::unix_now;
use crate::sys::descriptor::{self, Owned, OwnedFile};

/// The longest state file that is read, in bytes.
const STATE_FILE_BYTES: u64 = 1 << 20;
/// How often a file to write into is made: only a process that looks for leftovers just then takes one away.
const CREATE_TRIES: usize = 16;
/// The longest name of a file in bytes, NAME_MAX.
const NAME_BYTES: usize = 255;
/// How often a lock that another process holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(2);
/// How old a file being written is at least before it counts as left behind where no lock can tell, in seconds.
const LEFT_BEHIND: i64 = 3_600;
/// The room that is kept for a file which must be written on a full disk, in bytes.
const RESERVE_BYTES: usize = 4096;

/// A folder of files. It keeps no descriptor: a host has few to spare.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: StateDir,
    name: Option<&'static str>,
}

/// What a look at a file has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// The folder is there, the file is not.
    NoFile,
    /// There is no folder of ours.
    NoFolder,
    /// It is there and cannot be read; why.
    Unreadable(String),
    /// The folder may not be searched; why.
    Denied(String),
    /// It cannot be known at the moment; why.
    Unknown(String),
}

/// One file of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was written, Unix seconds.
    pub modified: i64,
}

/// Sorts by time; files of one second by name.
pub fn oldest_first(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_unstable_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    entries
}

impl StateDir {
    /// The directory itself, where state files are.
    pub fn root(&self) -> Folder {
        Folder::new(self.clone(), None)
    }

    /// A folder in it, made with mode 0700 when first written to.
    pub fn folder(&self, name: &'static str) -> Folder {
        Folder::new(self.clone(), Some(name))
    }

    /// Whether the ids of this process may be the wrong ones, which were made without the key that may be in it.
    pub fn may_have_another_identity(&self) -> bool {
        if self.awaits_identity() && self.root().look(IDENTITY_KEY) == Look::NoFile {
            self.has_identity();
        }
        self.awaits_identity()
    }
}

impl Folder {
    fn new(dir: StateDir, name: Option<&'static str>) -> Self {
        Self { dir, name }
    }

    /// The folder's path.
    pub fn path(&self) -> PathBuf {
        let root = self.dir.path();
        match self.name {
            None => root,
            Some(name) => root.join(name),
        }
    }

    /// Another folder of the same state directory.
    pub fn beside(&self, name: &'static str) -> Self {
        Self { dir: self.dir.clone(), name: Some(name) }
    }

    /// A file's bytes, or which of several things keeps them from being known.
    pub fn look(&self, name: &str) -> Look {
        let folder = match self.existing_handle() {
            Ok(Some(folder)) => folder,
            Ok(None) | Err(Barred::NotOurs(_)) => return Look::NoFolder,
            Err(Barred::Denied(error)) => return Look::Denied(error.to_string()),
            Err(Barred::Unknown(error)) => return Look::Unknown(error.to_string()),
        };
        let why = |error: &io::Error| self.failed(name, error).to_string();
        let file = match self.open_in(&folder, name, OFlag::O_RDONLY) {
            Ok(Some(file)) => file,
            Ok(None) => return Look::NoFile,
            // These are final: a symlink, not a file, no permission. Other errors may pass.
            Err(error) if error.raw_os_error().is_none_or(|number| number == libc::EACCES) => {
                return Look::Unreadable(why(&error));
            }
            Err(error) => return Look::Unknown(why(&error)),
        };
        let mut bytes = Vec::new();
        match file.take(STATE_FILE_BYTES + 1).read_to_end(&mut bytes) {
            Err(error) => Look::Unknown(why(&error)),
            Ok(_) if bytes.len() as u64 > STATE_FILE_BYTES => {
                Look::Unreadable(why(&io::Error::from(io::ErrorKind::FileTooLarge)))
            }
            Ok(_) => Look::Bytes(bytes),
        }
    }

    /// A file's bytes; none where there is no such file.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.open(name, OFlag::O_RDONLY)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(STATE_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| self.failed(name, &error))?;
        if bytes.len() as u64 > STATE_FILE_BYTES {
            return Err(self.failed(name, &io::Error::from(io::ErrorKind::FileTooLarge)));
        }
        Ok(Some(bytes))
    }

    /// Whether this is a file that [`read`](Self::read) takes, as far as its kind and size go, or cannot be looked at.
    pub fn may_be_read(&self, name: &str) -> bool {
        let Ok(Some(handle)) = self.existing_handle() else { return true };
        let meta = fstatat(&handle, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        meta.is_err() || self.stat(&handle, name).is_some_and(|entry| entry.bytes <= STATE_FILE_BYTES)
    }

    /// Replaces a file's bytes: a reader sees the old ones or the new ones, also after a power cut.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.create()?;
        file.write_all(bytes).map_err(|error| self.failed(name, &error))?;
        file.publish(name).map(drop)
    }

    /// The same where the disk may be full: into the room that [`keep_reserve`](Self::keep_reserve) has kept.
    pub fn write_on_full_disk(&self, name: &str, reserve: &str, bytes: &[u8]) -> Result<(), Error> {
        let Err(error) = self.write(name, bytes) else { return Ok(()) };
        self.write_into_reserve(name, reserve, bytes).map_err(|_| error)
    }

    fn write_into_reserve(&self, name: &str, reserve: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.open(reserve, OFlag::O_RDWR).map_err(io::Error::other)?;
        let mut file = file.ok_or(io::ErrorKind::NotFound)?;
        let room = file.metadata()?.len();
        if bytes.len() as u64 > room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // In the blocks that it has; cut short after that, which takes none.
        file.rewind()?;
        file.write_all(bytes)?;
        file.set_len(bytes.len() as u64)?;
        let synced = file.sync_all();
        if synced.is_err() && lacks_sync(&synced) {
            self.dir.note(Lack::FolderSync);
        } else {
            synced?;
        }
        let handle = self.handle().map_err(io::Error::other)?;
        renameat(&handle, reserve, &handle, name)?;
        Ok(self.dir.sync(&handle)?)
    }

    /// Keeps room for a file that has to be written on a full disk. Best effort: without it that fails.
    pub fn keep_reserve(&self, reserve: &str) {
        if self.entry(reserve).is_ok_and(|entry| entry.is_none_or(|entry| entry.bytes < RESERVE_BYTES as u64)) {
            // Not zeros, for which some file systems keep no room.
            let _ = self.write_unsynced(reserve, &[b'\n'; RESERVE_BYTES]);
        }
    }

    /// Adds bytes to an existing file, which survive this process but not a power cut. False if there is no such file.
    pub fn append(&self, name: &str, bytes: &[u8]) -> Result<bool, Error> {
        let Some(mut file) = self.open(name, OFlag::O_WRONLY | OFlag::O_APPEND)? else { return Ok(false) };
        file.write_all(bytes).map_err(|error| self.failed(name, &error))?;
        Ok(true)
    }

    /// The same as [`write`](Self::write) for bytes that a power cut may undo.
    pub fn write_unsynced(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.create()?;
        file.write_all(bytes).map_err(|error| self.failed(name, &error))?;
        file.publish_unsynced(name).map(drop)
    }

    /// A new file without a name yet.
    pub fn create(&self) -> Result<NewFile, Error> {
        let (handle, is_new) = self.handle_or_make()?;
        self.remove_leftovers(&handle);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for _ in 0..CREATE_TRIES {
            // No process id in it: processes of two containers may share both the folder and the number.
            let random = getrandom::u64().map_err(|error| self.failed("", &io::Error::other(error)))?;
            let name = format!("{TEMPORARY}{random:016x}");
            let mode = Mode::from_bits_truncate(0o600);
            let file = descriptor::make(|| openat(&handle, name.as_str(), flags, mode));
            let file = file.map_err(io::Error::from).and_then(OwnedFile::new);
            let file = file.map_err(|error| self.failed(&name, &error))?;
            // Locked before it has a name that others look for: nobody else may send it until it is released.
            let is_locked = match lock::lock_owned(&file).map_err(|error| self.failed(&name, &error))? {
                Tried::Locked(()) => true,
                Tried::Held => false,
                Tried::Unsupported => {
                    self.dir.note(Lack::Locks);
                    true
                }
            };
            // Where it is not, another process has taken it for a leftover.
            if is_locked && file.meta().is_ok_and(|meta| meta.st_nlink > 0) {
                let folder = self.clone();
                let handle = Owned::new(handle).map_err(|error| self.failed("", &error))?;
                return Ok(NewFile { folder, handle, is_new, file: Some(file), temporary: Some(name) });
            }
        }
        Err(self.failed("", &io::Error::other("every new file was removed by another process")))
    }

    /// Removes what processes that died were writing. Who writes holds a lock, and no two files ever bear one name. What
    /// cannot be removed is no reason not to write.
    fn remove_leftovers(&self, handle: &OwnedFd) {
        for entry in self.list(handle, |name| name.starts_with(TEMPORARY)).unwrap_or_default() {
            let Ok(Some(file)) = self.open(&entry.name, OFlag::O_RDWR) else { continue };
            let tried = lock::lock(file, FlockArg::LockExclusiveNonblock);
            let is_left = match &tried {
                Ok(Tried::Locked(_)) => true,
                Ok(Tried::Unsupported) => unix_now() - entry.modified > LEFT_BEHIND,
                Ok(Tried::Held) | Err(_) => false,
            };
            if is_left {
                let _ = self.remove(&entry.name);
            }
        }
    }

    /// A file without a name, which is gone with its descriptor. Not every file system has such.
    pub fn unnamed(&self) -> Result<File, Error> {
        let handle = self.handle()?;
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let file = openat(&handle, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR);
        file.map(File::from).map_err(|error| self.failed(".", &error.into()))
    }

    /// An existing file, opened for reading and writing; none where there is no such file.
    pub fn open_existing(&self, name: &str) -> Result<Option<File>, Error> {
        self.open(name, OFlag::O_RDWR)
    }

    /// Removes a file; gone already is fine.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(handle) = self.unlink(name)? else { return Ok(()) };
        self.dir.sync(&handle).map_err(|error| self.failed(name, &error.into()))
    }

    /// The same for a file that a power cut may bring back.
    pub fn remove_unsynced(&self, name: &str) -> Result<(), Error> {
        self.unlink(name).map(drop)
    }

    /// The folder, where it has changed.
    fn unlink(&self, name: &str) -> Result<Option<OwnedFd>, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(None) };
        match unlinkat(&handle, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(Some(handle)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.failed(name, &error.into())),
        }
    }

    /// Makes durable which files there are, and the folder itself.
    pub fn sync(&self) -> Result<(), Error> {
        let synced = |handle: &OwnedFd| self.dir.sync(handle).map_err(|error| self.failed("", &error.into()));
        self.dir.sync_parent();
        let mut handle = self.dir.root().handle()?;
        synced(&handle)?;
        for part in self.name.into_iter().flat_map(|name| name.split('/')) {
            handle = open_at(&handle, part, DIRECTORY).map_err(|error| self.failed("", &error.into()))?;
            synced(&handle)?;
        }
        Ok(())
    }

    /// Makes the bytes of one of its files durable, as far as its file system can.
    pub fn sync_file(&self, file: &OwnedFile) -> io::Result<()> {
        match file.sync() {
            synced if lacks_sync(&synced) => Ok(()),
            synced => synced,
        }
    }

    /// Gives a file another name, replacing one that has it.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (handle, _) = self.handle_or_make()?;
        renameat(&handle, from, &handle, to).map_err(|error| self.failed(from, &error.into()))?;
        self.dir.sync(&handle).map_err(|error| self.failed(to, &error.into()))
    }

    /// Has a file count as written now.
    pub fn touch(&self, name: &str) -> Result<(), Error> {
        let handle = self.handle()?;
        let touched =
            utimensat(&handle, name, &TimeSpec::UTIME_OMIT, &TimeSpec::UTIME_NOW, UtimensatFlags::NoFollowSymlink);
        touched.map_err(|error| self.failed(name, &error.into()))
    }

    /// Puts a file out of the way, where a person can look at it.
    pub fn set_aside(&self, name: &str) -> Result<(), Error> {
        let mut aside = format!("{SET_ASIDE}{name}");
        while aside.len() > NAME_BYTES {
            aside.pop();
        }
        self.rename(name, &aside)
    }

    /// The regular files of the folder, oldest first, without those being written and those set aside.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(Vec::new()) };
        self.list(&handle, |name| !name.starts_with('.'))
    }

    /// Makes a folder in it and locks that, where the file system has locks. Who ends with a file open waits for the
    /// disk where closing is something that the file system is told of (FUSE, NFS: `flush` of the kernel's file operations).
    /// Folders have no such thing.
    pub fn make_locked_folder(&self, name: &str) -> Result<OwnedFile, Error> {
        let (handle, _) = self.handle_or_make()?;
        let failed = |error: io::Error| self.failed(name, &error);
        for _ in 0..CREATE_TRIES {
            match mkdirat(&handle, name, Mode::from_bits_truncate(0o700)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(failed(error.into())),
            }
            let made = match open_at(&handle, name, DIRECTORY) {
                Ok(made) => OwnedFile::new(made).map_err(failed)?,
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(failed(error.into())),
            };
            match lock::lock_owned(&made).map_err(failed)? {
                // A process that looks for leftovers of dead processes is about to remove it.
                Tried::Held => std::thread::sleep(LOCK_POLL),
                // If another folder is there now, or none, a process has taken this one for a leftover.
                Tried::Locked(()) => {
                    let there = fstatat(&handle, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|meta| meta.st_ino);
                    if there.ok() == made.meta().ok().map(|meta| meta.st_ino) {
                        return Ok(made);
                    }
                }
                Tried::Unsupported => return Ok(made),
            }
        }
        Err(failed(io::Error::other("every new folder was removed by another process")))
    }

    /// Asks for the lock of a folder in it, for as long as what is returned is kept; none where there is no such folder.
    pub fn lock_folder(&self, name: &str) -> Result<Option<Tried<Flock<File>>>, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(None) };
        match open_at(&handle, name, DIRECTORY) {
            Ok(folder) => {
                let tried = lock::lock(File::from(folder), FlockArg::LockExclusiveNonblock);
                tried.map(Some).map_err(|error| self.failed(name, &error))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.failed(name, &error.into())),
        }
    }

    /// The names of the folders in it.
    pub fn folders(&self) -> Result<Vec<String>, Error> {
        self.names_of(libc::S_IFDIR)
    }

    /// The names of what is of this kind, without those that begin with a dot.
    pub(super) fn names_of(&self, kind: libc::mode_t) -> Result<Vec<String>, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(Vec::new()) };
        let is_wanted = |name: &String| !name.starts_with('.') && is_kind(&handle, name, kind);
        Ok(self.names(&handle)?.into_iter().filter(is_wanted).collect())
    }

    /// Removes an empty folder in it; gone already is fine.
    pub fn remove_folder(&self, name: &str) -> Result<(), Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(()) };
        match unlinkat(&handle, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.failed(name, &error.into())),
        }
    }

    /// Removes all but the newest files: so many of them, and so many bytes together.
    pub fn keep_last(&self, most: usize, most_bytes: u64) -> Result<(), Error> {
        let (mut files, mut bytes) = (0, 0);
        for entry in self.entries()?.iter().rev() {
            (files, bytes) = (files + 1, entry.bytes.saturating_add(bytes));
            if files > most || bytes > most_bytes {
                self.remove_unsynced(&entry.name)?;
            }
        }
        Ok(())
    }

    /// One regular file of the folder.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(None) };
        Ok(self.stat(&handle, name))
    }

    /// The files that were set aside, oldest first.
    pub fn entries_set_aside(&self) -> Result<Vec<Entry>, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(Vec::new()) };
        self.list(&handle, |name| name.starts_with(SET_ASIDE))
    }

    /// Removes every file that is ours, whole, half written or set aside; not what another process is writing. How many
    /// whole ones there were.
    pub fn clear(&self) -> Result<usize, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(0) };
        let entries = self.list(&handle, |name| !name.starts_with('.') || name.starts_with(SET_ASIDE))?;
        for entry in &entries {
            self.remove(&entry.name)?;
        }
        self.remove_leftovers(&handle);
        Ok(entries.len())
    }

    /// The regular files whose names are wanted, oldest first.
    fn list(&self, handle: &OwnedFd, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>, Error> {
        let names = self.names(handle)?.into_iter().filter(|name| is_wanted(name));
        Ok(oldest_first(names.filter_map(|name| self.stat(handle, &name)).collect()))
    }

    /// The names of everything in it.
    fn names(&self, handle: &OwnedFd) -> Result<Vec<String>, Error> {
        let listing = open_at(handle, ".", DIRECTORY).map_err(|error| self.failed("", &error.into()))?;
        let mut dir = Dir::from_fd(listing).map_err(|error| self.failed("", &error.into()))?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            // A listing that fails goes on failing.
            let entry = entry.map_err(|error| self.failed("", &error.into()))?;
            names.extend(OsString::from_vec(entry.file_name().to_bytes().to_vec()).into_string());
        }
        Ok(names)
    }

    /// The lock of this name, without waiting; none while another process holds it.
    pub fn lock(&self, name: &str) -> Result<Option<Lock>, Error> {
        let (handle, _) = self.handle_or_make()?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = descriptor::make(|| openat(&handle, name, flags, Mode::from_bits_truncate(0o600)))
            .map_err(|error| self.failed(name, &error.into()))?;
        match lock::lock(File::from(file), FlockArg::LockExclusiveNonblock) {
            Ok(Tried::Locked(lock)) => Ok(Some(Lock::of(lock))),
            Ok(Tried::Held) => Ok(None),
            Ok(Tried::Unsupported) => {
                self.dir.note(Lack::Locks);
                Ok(Some(Lock::none()))
            }
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// The lock of this name, or none while another process has held it for this long.
    pub fn lock_within(&self, name: &str, patience: Duration) -> Result<Option<Lock>, Error> {
        let deadline = lock::end_of(patience);
        loop {
            // flock(2) has no timeout, and a signal to cut it short would be the host's.
            match self.lock(name)? {
                None if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
                lock => return Ok(lock),
            }
        }
    }

    fn stat(&self, handle: &OwnedFd, name: &str) -> Option<Entry> {
        let meta = fstatat(handle, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let bytes = u64::try_from(meta.st_size).unwrap_or(0);
        let entry = Entry { name: name.to_owned(), bytes, modified: meta.st_mtime };
        (meta.st_mode & libc::S_IFMT == libc::S_IFREG).then_some(entry)
    }

    fn open(&self, name: &str, access: OFlag) -> Result<Option<File>, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(None) };
        self.open_in(&handle, name, access).map_err(|error| self.failed(name, &error))
    }

    /// An error of the system has its number, one of ours has none.
    fn open_in(&self, handle: &OwnedFd, name: &str, access: OFlag) -> io::Result<Option<File>> {
        // O_NONBLOCK: a FIFO with this name must not block the process.
        let flags = access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match open_at(handle, name, flags) {
            Ok(file) => {
                let meta = fstat(&file)?;
                if meta.st_mode & libc::S_IFMT != libc::S_IFREG {
                    return Err(io::Error::other("not a regular file"));
                }
                Ok(Some(File::from(file)))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP) => Err(io::Error::other("a symlink, which is not followed")),
            // A device or a FIFO without a reader, a folder that was to be written.
            Err(Errno::ENXIO | Errno::EISDIR) => Err(io::Error::other("not a regular file")),
            Err(error) => Err(error.into()),
        }
    }

    fn handle(&self) -> Result<OwnedFd, Error> {
        self.existing_handle()?.ok_or_else(|| self.dir.missing())
    }

    /// Also whether it was made, which is not durable yet.
    pub(super) fn handle_or_make(&self) -> Result<(OwnedFd, bool), Error> {
        let was_there = self.dir.handle(Making::No)?;
        let is_new = was_there.is_none();
        let root = match was_there {
            Some(root) => root,
            None => self.dir.handle(Making::Yes)?.ok_or_else(|| self.dir.missing())?,
        };
        let Some(name) = self.name else { return Ok((root, is_new)) };
        if let Some(handle) = self.folder_in(&root)? {
            return Ok((handle, is_new));
        }
        let mut made_to = root;
        for part in name.split('/') {
            match mkdirat(&made_to, part, Mode::from_bits_truncate(0o700)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(self.failed("", &error.into())),
            }
            made_to = open_at(&made_to, part, DIRECTORY).map_err(|error| self.failed("", &error.into()))?;
        }
        Ok((made_to, true))
    }

    pub(super) fn existing_handle(&self) -> Result<Option<OwnedFd>, Barred> {
        let root = match self.dir.handle(Making::No) {
            Ok(Some(root)) => root,
            // In another user's there is nothing of ours.
            Ok(None) | Err(Barred::NotOurs(_)) => return Ok(None),
            Err(barred) => return Err(barred),
        };
        if self.name.is_none() { Ok(Some(root)) } else { self.folder_in(&root) }
    }

    /// This folder of the root.
    fn folder_in(&self, root: &OwnedFd) -> Result<Option<OwnedFd>, Barred> {
        let mut handle: Option<OwnedFd> = None;
        for part in self.name.into_iter().flat_map(|name| name.split('/')) {
            handle = match open_at(handle.as_ref().unwrap_or(root), part, DIRECTORY) {
                Ok(handle) => Some(handle),
                Err(Errno::ENOENT) => return Ok(None),
                Err(error) => return Err(self.dir.barred(&self.path(), error)),
            };
        }
        Ok(handle)
    }

    pub(super) fn failed(&self, name: &str, error: &io::Error) -> Error {
        Error::Io(format!("state_dir {}: {error}", self.path().join(name).display()))
    }
}

/// Whether what has this name is of this kind, a symlink being none.
pub(super) fn is_kind(folder: &OwnedFd, name: &str, kind: libc::mode_t) -> bool {
    fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|meta| meta.st_mode & libc::S_IFMT == kind)
}

/// Whether an error of fsync(2) says that the file system cannot do that.
fn lacks_sync(synced: &io::Result<()>) -> bool {
    let number = synced.as_ref().err().and_then(io::Error::raw_os_error);
    number.is_some_and(|number| [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOSYS].contains(&number))
}

/// A file being written. Without [`commit`](Self::commit) it disappears.
pub struct NewFile {
    folder: Folder,
    handle: Owned,
    /// The folder has just been made.
    is_new: bool,
    file: Option<OwnedFile>,
    temporary: Option<String>,
}

impl NewFile {
    /// Makes the bytes durable under this name. Returns the open file, locked.
    pub fn publish(mut self, name: &str) -> Result<OwnedFile, Error> {
        if let Some(file) = &self.file {
            self.folder.sync_file(file).map_err(|error| self.folder.failed(name, &error))?;
        }
        let file = self.rename(name)?;
        if self.is_new {
            self.folder.sync()?;
        } else {
            let synced = self.handle.borrow().and_then(|handle| Ok(self.folder.dir.sync(&handle)?));
            synced.map_err(|error| self.folder.failed(name, &error))?;
        }
        Ok(file)
    }

    /// The same for bytes that a power cut may undo: every process sees them from now on, and they outlive this one.
    pub fn publish_unsynced(mut self, name: &str) -> Result<OwnedFile, Error> {
        self.rename(name)
    }

    fn rename(&mut self, name: &str) -> Result<OwnedFile, Error> {
        let (Some(file), Some(temporary)) = (self.file.take(), self.temporary.as_deref()) else {
            return Err(Error::Internal(format!("{name} written twice")));
        };
        let renamed = self.handle.borrow().and_then(|handle| Ok(renameat(handle, temporary, handle, name)?));
        renamed.map_err(|error| self.folder.failed(name, &error))?;
        self.temporary = None;
        Ok(file)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_mut().map_or(Ok(0), |file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // If the host has closed the folder, the next writer removes it.
        if let (Some(temporary), Some(handle)) = (&self.temporary, self.handle.get()) {
            let _ = unlinkat(handle, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use super::*;

    /// A state directory that is gone when the test is over.
    struct Scratch(StateDir);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ondat-telemetry-{name}-{}", std::process::id()));
            std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(StateDir::open(&path).unwrap())
        }

        fn names(&self, folder: &str) -> Vec<String> {
            let listed = std::fs::read_dir(self.0.path().join(folder)).unwrap();
            let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.0.path());
        }
    }

    #[test]
    fn leftovers_go_with_the_next_file_and_what_is_being_written_stays() {
        let scratch = Scratch::new("leftovers");
        let folder = scratch.0.folder("spool/x");
        let mut writing = folder.create().unwrap();
        writing.write_all(b"half").unwrap();
        let mine = scratch.names("spool/x");
        assert_eq!(mine.len(), 1, "{mine:?}");
        for name in [".tmp-1-0", ".tmp-0011223344556677"] {
            std::fs::write(folder.path().join(name), b"left by the dead").unwrap();
        }
        folder.write("a", b"whole").unwrap();
        let mut expected = vec![mine[0].clone(), "a".to_owned()];
        expected.sort();
        assert_eq!(scratch.names("spool/x"), expected);
        writing.publish("b").unwrap();
        assert_eq!(scratch.names("spool/x"), ["a", "b"]);
        assert_eq!(folder.read("b").unwrap().unwrap(), b"half");
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let scratch = Scratch::new("given-up");
        let folder = scratch.0.folder("x");
        drop(folder.create().unwrap());
        assert_eq!(scratch.names("x"), [""; 0]);
    }

    #[test]
    fn set_aside_is_out_of_the_way_whatever_the_name() {
        let scratch = Scratch::new("set-aside");
        let folder = scratch.0.folder("x");
        let longest = "\u{e4}".repeat(127);
        for name in ["damaged", &longest] {
            folder.write(name, b"?").unwrap();
            folder.set_aside(name).unwrap();
        }
        assert_eq!(folder.entries().unwrap(), []);
        assert_eq!(folder.entries_set_aside().unwrap().len(), 2);
        folder.clear().unwrap();
        assert_eq!(scratch.names("x"), [""; 0]);
    }

    #[test]
    fn only_regular_files_are_files() {
        let scratch = Scratch::new("kinds");
        let folder = scratch.0.folder("x");
        folder.write("file", b"content").unwrap();
        let path = folder.path();
        std::fs::create_dir(path.join("folder")).unwrap();
        std::os::unix::fs::symlink("file", path.join("link")).unwrap();
        nix::unistd::mkfifo(&path.join("pipe"), Mode::S_IRWXU).unwrap();
        let names: Vec<_> = folder.entries().unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["file"]);
        for name in ["folder", "link", "pipe"] {
            let refused = folder.read(name).unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }
}
