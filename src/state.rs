//! The state directory: files that are never read half-written and never followed through a symlink, and what the
//! library remembers in them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, fsync, geteuid, unlinkat};

use crate::error::Error;
use crate::sys::descriptor::{self, Owned, OwnedFile};

/// The longest state file that is read, in bytes.
const STATE_FILE_BYTES: u64 = 1 << 20;
/// Names of files being written. Whatever bears one and is not locked was left by a process that died.
const TEMPORARY: &str = ".tmp-";
/// How often a file to write into is made: only a process that looks for leftovers just then takes one away.
const CREATE_TRIES: usize = 16;
/// Names of files that were put out of the way.
const SET_ASIDE: &str = ".damaged-";
/// The longest name of a file in bytes, NAME_MAX.
const NAME_BYTES: usize = 255;
/// How often a lock that another process holds is tried.
const LOCK_POLL: Duration = Duration::from_millis(2);

/// The directory that the host set aside for this library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Checks that the directory is there, is a directory and no symlink, is ours and nobody else can write to it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let path =
            std::path::absolute(path).map_err(|error| Error::Io(format!("state_dir {}: {error}", path.display())))?;
        let dir = Self { path };
        let handle = dir.root().handle()?;
        let shown = dir.path.display();
        let meta = fstat(&handle).map_err(|error| Error::Io(format!("state_dir {shown}: {error}")))?;
        if meta.st_uid != geteuid().as_raw() {
            return Err(Error::Io(format!(
                "state_dir {shown} belongs to uid {}, this process is uid {}: give it its own directory",
                meta.st_uid,
                geteuid()
            )));
        }
        if meta.st_mode & 0o022 != 0 {
            let mode = meta.st_mode & 0o7777;
            return Err(Error::Io(format!(
                "state_dir {shown} can be written by others (mode {mode:04o}): chmod 0700 {shown}"
            )));
        }
        dir.root().probe()?;
        Ok(dir)
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself, where state files are.
    pub fn root(&self) -> Folder {
        Folder { root: self.path.clone(), name: None }
    }

    /// A folder in it, made with mode 0700 when first written to.
    pub fn folder(&self, name: &'static str) -> Folder {
        Folder { root: self.path.clone(), name: Some(name) }
    }
}

/// A folder of files. It keeps no descriptor: a host has few to spare.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
    name: Option<&'static str>,
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

impl Folder {
    /// The folder's path.
    pub fn path(&self) -> PathBuf {
        match self.name {
            None => self.root.clone(),
            Some(name) => self.root.join(name),
        }
    }

    /// Another folder of the same state directory.
    pub fn beside(&self, name: &'static str) -> Self {
        Self { root: self.root.clone(), name: Some(name) }
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
        file.commit(name).map(drop)
    }

    /// Adds bytes to an existing file, for those who outlive this process and not for those who outlive the machine.
    /// False where there is no such file.
    pub fn append(&self, name: &str, bytes: &[u8]) -> Result<bool, Error> {
        let Some(mut file) = self.open(name, OFlag::O_WRONLY | OFlag::O_APPEND)? else { return Ok(false) };
        file.write_all(bytes).map_err(|error| self.failed(name, &error))?;
        Ok(true)
    }

    /// The same as [`write`](Self::write) for bytes that a power cut may undo.
    pub fn write_unsynced(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.create()?;
        file.write_all(bytes).map_err(|error| self.failed(name, &error))?;
        file.commit_unsynced(name).map(drop)
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
            // Locked before it has a name that others look for: it is nobody else's to send until it is let go.
            let is_locked = file.try_lock().map_err(|error| self.failed(&name, &error))?;
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
            if let Ok(Some(file)) = self.open(&entry.name, OFlag::O_RDWR)
                && let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            {
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
        fsync(&handle).map_err(|error| self.failed(name, &error.into()))
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
        let synced = |handle: &OwnedFd| fsync(handle).map_err(|error| self.failed("", &error.into()));
        let mut handle = Self { root: self.root.clone(), name: None }.handle()?;
        synced(&handle)?;
        for part in self.name.into_iter().flat_map(|name| name.split('/')) {
            handle = open_at(&handle, part, DIRECTORY).map_err(|error| self.failed("", &error.into()))?;
            synced(&handle)?;
        }
        Ok(())
    }

    /// Gives a file another name, replacing one that has it.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        let (handle, _) = self.handle_or_make()?;
        renameat(&handle, from, &handle, to).map_err(|error| self.failed(from, &error.into()))?;
        fsync(&handle).map_err(|error| self.failed(to, &error.into()))
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

    /// Makes a folder in it and locks that; false where the file system has no locks. Who ends with a file open waits for the
    /// disk where closing is something that the file system is told of (FUSE, NFS: `flush` of the kernel's file operations).
    /// Folders have no such thing.
    pub fn make_locked_folder(&self, name: &str) -> Result<(OwnedFile, bool), Error> {
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
            match made.try_lock() {
                Ok(false) => {}
                // Where another is there now, or none, a process has taken this one for what the dead have left.
                Ok(true) => {
                    let there = fstatat(&handle, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|meta| meta.st_ino);
                    if there.ok() == made.meta().ok().map(|meta| meta.st_ino) {
                        return Ok((made, true));
                    }
                }
                Err(error) if has_no_locks(&error) => return Ok((made, false)),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(io::Error::other("every new folder was removed by another process")))
    }

    /// Asks for the lock of a folder in it, for as long as what is returned is kept.
    pub fn lock_folder(&self, name: &str) -> Result<FolderLock, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(FolderLock::Absent) };
        let folder = match open_at(&handle, name, DIRECTORY) {
            Ok(folder) => File::from(folder),
            Err(Errno::ENOENT) => return Ok(FolderLock::Absent),
            Err(error) => return Err(self.failed(name, &error.into())),
        };
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(FolderLock::Taken(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(FolderLock::Held),
            Err((_, error)) if has_no_locks(&error.into()) => Ok(FolderLock::Absent),
            Err((_, error)) => Err(self.failed(name, &error.into())),
        }
    }

    /// The names of the folders in it.
    pub fn folders(&self) -> Result<Vec<String>, Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(Vec::new()) };
        let is_folder = |name: &str| {
            let meta = fstatat(&handle, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            meta.is_ok_and(|meta| meta.st_mode & libc::S_IFMT == libc::S_IFDIR)
        };
        Ok(self.names(&handle)?.into_iter().filter(|name| !name.starts_with('.') && is_folder(name)).collect())
    }

    /// Removes an empty folder in it; gone already is fine.
    pub fn remove_folder(&self, name: &str) -> Result<(), Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(()) };
        match unlinkat(&handle, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(self.failed(name, &error.into())),
        }
    }

    /// Removes all but the newest files.
    pub fn keep_last(&self, most: usize) -> Result<(), Error> {
        let entries = self.entries()?;
        for entry in entries.iter().take(entries.len().saturating_sub(most)) {
            self.remove_unsynced(&entry.name)?;
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

    /// Removes every file that is ours, whole, half written or set aside; not what another process is writing.
    pub fn clear(&self) -> Result<(), Error> {
        let Some(handle) = self.existing_handle()? else { return Ok(()) };
        for entry in self.list(&handle, |name| !name.starts_with('.') || name.starts_with(SET_ASIDE))? {
            self.remove(&entry.name)?;
        }
        self.remove_leftovers(&handle);
        Ok(())
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

    /// Waits for nobody: the lock of this name, or none while another process holds it.
    pub fn lock(&self, name: &str) -> Result<Option<Flock<File>>, Error> {
        let (handle, _) = self.handle_or_make()?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = descriptor::make(|| openat(&handle, name, flags, Mode::from_bits_truncate(0o600)))
            .map_err(|error| self.failed(name, &error.into()))?;
        match Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(self.failed(name, &error.into())),
        }
    }

    /// The lock of this name, or none while another process has held it for this long.
    pub fn lock_within(&self, name: &str, patience: Duration) -> Result<Option<Flock<File>>, Error> {
        let deadline = Instant::now() + patience;
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
        // O_NONBLOCK: a FIFO put there by somebody must not hold the process.
        let flags = access | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match open_at(&handle, name, flags) {
            Ok(file) => {
                let meta = fstat(&file).map_err(|error| self.failed(name, &error.into()))?;
                if meta.st_mode & libc::S_IFMT != libc::S_IFREG {
                    return Err(self.failed(name, &io::Error::other("not a regular file")));
                }
                Ok(Some(File::from(file)))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP) => Err(self.failed(name, &io::Error::other("a symlink, which is not followed"))),
            Err(error) => Err(self.failed(name, &error.into())),
        }
    }

    /// Whether something could be written, found out without writing.
    fn probe(&self) -> Result<(), Error> {
        let may_write = AccessFlags::W_OK | AccessFlags::X_OK;
        let shown = self.path();
        let shown = shown.display();
        faccessat(AT_FDCWD, &self.path(), may_write, AtFlags::AT_EACCESS).map_err(|error| match error {
            Errno::EROFS => Error::Io(format!(
                "state_dir {shown} is on a read-only file system: mount it for writing or name another directory"
            )),
            Errno::EACCES => Error::Io(format!("state_dir {shown}: permission denied: chmod 0700 {shown}")),
            error => self.failed("", &error.into()),
        })
    }

    fn handle(&self) -> Result<OwnedFd, Error> {
        let path = self.path();
        self.existing_handle()?
            .ok_or_else(|| Error::Io(format!("state_dir {} does not exist: create it with mode 0700", path.display())))
    }

    /// Also whether it was made, which is not durable yet.
    fn handle_or_make(&self) -> Result<(OwnedFd, bool), Error> {
        if let Some(handle) = self.existing_handle()? {
            return Ok((handle, false));
        }
        let Some(name) = self.name else { return Ok((self.handle()?, false)) };
        let root = Self { root: self.root.clone(), name: None }.handle()?;
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

    fn existing_handle(&self) -> Result<Option<OwnedFd>, Error> {
        let mut handle = match open_at(AT_FDCWD, &self.root, DIRECTORY) {
            Ok(handle) => handle,
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(self.not_a_directory(error)),
        };
        for part in self.name.into_iter().flat_map(|name| name.split('/')) {
            handle = match open_at(&handle, part, DIRECTORY) {
                Ok(handle) => handle,
                Err(Errno::ENOENT) => return Ok(None),
                Err(error) => return Err(self.not_a_directory(error)),
            };
        }
        Ok(Some(handle))
    }

    fn not_a_directory(&self, error: Errno) -> Error {
        let shown = self.path();
        let shown = shown.display();
        match error {
            // What O_NOFOLLOW with O_DIRECTORY answers for a symlink, open(2).
            Errno::ENOTDIR | Errno::ELOOP => {
                Error::Io(format!("state_dir {shown} is a symlink or not a directory: name the real directory"))
            }
            error => Error::Io(format!("state_dir {shown}: {}", io::Error::from(error))),
        }
    }

    fn failed(&self, name: &str, error: &io::Error) -> Error {
        Error::Io(format!("state_dir {}: {error}", self.path().join(name).display()))
    }
}

fn open_at(folder: impl AsFd, name: &(impl NixPath + ?Sized), flags: OFlag) -> nix::Result<OwnedFd> {
    descriptor::make(|| openat(folder, name, flags, Mode::empty()))
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn locked(file: OwnedFile) -> io::Result<Flock<File>> {
    let file = File::from(file.into_inner()?);
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

/// What came of asking for the lock of a folder.
pub enum FolderLock {
    /// It was nobody's.
    Taken(Flock<File>),
    /// Somebody has it.
    Held,
    /// There is no such folder, or there are no locks.
    Absent,
}

/// Whether the file system has no locks at all, flock(2) and what servers answer.
fn has_no_locks(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL))
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
            file.sync().map_err(|error| self.folder.failed(name, &error))?;
        }
        let file = self.rename(name)?;
        if self.is_new {
            self.folder.sync()?;
        } else {
            let synced = self.handle.borrow().and_then(|handle| Ok(fsync(handle)?));
            synced.map_err(|error| self.folder.failed(name, &error))?;
        }
        Ok(file)
    }

    /// The same for bytes that a power cut may undo: every process sees them from now on, and they outlive this one.
    pub fn publish_unsynced(mut self, name: &str) -> Result<OwnedFile, Error> {
        self.rename(name)
    }

    /// As [`publish`](Self::publish), for who is not somebody else's process.
    pub fn commit(self, name: &str) -> Result<Flock<File>, Error> {
        let folder = self.folder.clone();
        self.publish(name).and_then(|file| locked(file).map_err(|error| folder.failed(name, &error)))
    }

    /// As [`publish_unsynced`](Self::publish_unsynced), likewise.
    pub fn commit_unsynced(self, name: &str) -> Result<Flock<File>, Error> {
        let folder = self.folder.clone();
        self.publish_unsynced(name).and_then(|file| locked(file).map_err(|error| folder.failed(name, &error)))
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
        // Where the host has closed the folder, whoever writes next removes it.
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
        writing.commit("b").unwrap();
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
