//! A folder. A file appears whole or not at all. It counts as stored once it and the folders above it are on disk.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;

use crate::storage::{Created, Found, Pieces, Storage, StorageFault};

/// Where files are until they are whole: a folder in it for each process that receives.
const INCOMING: &str = "incoming";
/// In that folder, locked as long as the process lives.
const LOCK: &str = "lock";
/// How many folders are remembered as synced: those of some days.
const REMEMBERED_FOLDERS: usize = 4096;
/// The part of the disk that stays free, and the most of it.
const PART_IN_RESERVE: u64 = 20;
const MOST_IN_RESERVE: u64 = 1 << 30;
/// Bytes that are compared at once.
const COMPARED: usize = 64 << 10;

/// How much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// All that was received together, in bytes; no bound without it.
    pub(crate) most: Option<u64>,
    /// What stays free on the disk, in bytes; a twentieth of it without.
    pub(crate) reserve: Option<u64>,
}

/// The folder.
#[derive(Clone)]
pub(crate) struct Folder(Arc<Inner>);

struct Inner {
    root: PathBuf,
    /// Where this process has its files until they are whole.
    incoming: PathBuf,
    _lock: Flock<File>,
    room: Room,
    /// Bytes stored, and of those that are about to be.
    used: AtomicU64,
    next_incoming: AtomicU64,
    /// Folders that are there and synced, those above them too.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folder {
    /// Keeps what is received in these folders below `root`, which exists. What a process that is gone left half received
    /// is removed; what another one receives into the same folder stays.
    pub(crate) fn open(root: &Path, folders: &[&str], room: Room) -> io::Result<Self> {
        let (incoming, lock) = own_incoming(&root.join(INCOMING))?;
        let mut used = 0;
        for folder in folders {
            make_folder(&root.join(folder))?;
            if room.most.is_some() {
                used += size(&root.join(folder))?;
            }
        }
        File::open(root)?.sync_all()?;
        Ok(Self(Arc::new(Inner {
            root: root.to_owned(),
            incoming,
            _lock: lock,
            room,
            used: AtomicU64::new(used),
            next_incoming: AtomicU64::new(0),
            durable: Mutex::default(),
        })))
    }

    /// Waiting for the disk must not hold up other connections.
    async fn on_disk<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StorageFault> {
        let inner = Arc::clone(&self.0);
        let done =
            tokio::task::spawn_blocking(move || work(&inner)).await.unwrap_or_else(|why| Err(io::Error::other(why)));
        done.map_err(|why| StorageFault(format!("{}: {why}", self.0.root.join(name).display())))
    }
}

#[async_trait]
impl Storage for Folder {
    async fn create(&self, name: &str, pieces: Pieces) -> Result<Created, StorageFault> {
        let path = name.to_owned();
        self.on_disk(name, move |inner| inner.create(&path, &pieces)).await
    }

    async fn compare(&self, name: &str, pieces: &Pieces) -> Result<Found, StorageFault> {
        let (path, pieces) = (name.to_owned(), pieces.clone());
        self.on_disk(name, move |inner| inner.compare(&path, &pieces)).await
    }

    async fn has(&self, name: &str) -> Result<bool, StorageFault> {
        let path = name.to_owned();
        self.on_disk(name, move |inner| {
            let is_there = inner.root.join(&path).try_exists()?;
            // Who has put it there may not have come as far as this.
            if is_there {
                sync_folder(parent(&inner.root.join(&path))?)?;
            }
            Ok(is_there)
        })
        .await
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageFault> {
        let path = name.to_owned();
        self.on_disk(name, move |inner| unless_missing(fs::read(inner.root.join(path)))).await
    }

    async fn beginning(&self, folder: &str, begin: &str, most: usize) -> Result<Vec<String>, StorageFault> {
        let (path, begin) = (folder.to_owned(), begin.to_owned());
        self.on_disk(folder, move |inner| {
            let Some(entries) = unless_missing(fs::read_dir(inner.root.join(path)))? else { return Ok(Vec::new()) };
            let mut names = Vec::new();
            for entry in entries {
                // Names of ours are ASCII.
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.starts_with(&begin) {
                    names.push(name);
                }
            }
            names.sort();
            names.truncate(most);
            Ok(names)
        })
        .await
    }

    async fn remove(&self, name: &str) -> Result<(), StorageFault> {
        let path = name.to_owned();
        self.on_disk(name, move |inner| unless_missing(fs::remove_file(inner.root.join(path))).map(drop)).await
    }

    async fn check(&self) -> Result<(), StorageFault> {
        self.on_disk(INCOMING, |inner| {
            inner.check_room(0)?;
            let mut probe = inner.begin()?;
            probe.file.write_all(b"probe")?;
            probe.file.sync_all()
        })
        .await
    }
}

impl Inner {
    fn create(&self, name: &str, pieces: &Pieces) -> io::Result<Created> {
        let length = pieces.content_length() as u64;
        let reserved = self.reserve(length)?;
        let path = self.root.join(name);
        let folder = parent(&path)?;
        self.make_durable(folder)?;
        let mut incoming = self.begin()?;
        for piece in pieces {
            incoming.file.write_all(piece)?;
        }
        incoming.file.sync_all()?;
        // A hard link, unlike a rename, fails when the name is taken: the first one stays, whoever races.
        let created = match fs::hard_link(&incoming.path, &path) {
            Ok(()) => Created::New,
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => return Ok(Created::Refused),
            Err(why) => return Err(why),
        };
        sync_folder(folder)?;
        reserved.keep();
        Ok(created)
    }

    fn compare(&self, name: &str, pieces: &Pieces) -> io::Result<Found> {
        let path = self.root.join(name);
        let Some(mut file) = unless_missing(File::open(&path))? else { return Ok(Found::Nothing) };
        if file.metadata()?.len() != pieces.content_length() as u64 {
            return Ok(Found::Other);
        }
        let mut there = vec![0; COMPARED];
        for piece in pieces.iter().flat_map(|piece| piece.chunks(COMPARED)) {
            let there = &mut there[..piece.len()];
            file.read_exact(there)?;
            if there != piece {
                return Ok(Found::Other);
            }
        }
        // The one who put it there may not have come this far yet.
        sync_folder(parent(&path)?)?;
        Ok(Found::Same)
    }

    /// An empty file that nobody sees until it is linked.
    fn begin(&self) -> io::Result<Incoming> {
        let number = self.next_incoming.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming.join(number.to_string());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Incoming { file, path })
    }

    /// Makes a folder and those above it, and syncs each of them into the one that it is in.
    fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if locked(&self.durable).contains(folder) {
            return Ok(());
        }
        make_folder(folder)?;
        for above in folder.ancestors().skip(1) {
            sync_folder(above)?;
            if above == self.root {
                break;
            }
        }
        let mut durable = locked(&self.durable);
        if durable.len() == REMEMBERED_FOLDERS {
            durable.clear();
        }
        durable.insert(folder.to_owned());
        Ok(())
    }

    /// Takes so many bytes of what may be stored.
    fn reserve(&self, bytes: u64) -> io::Result<Reserved<'_>> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let reserved = Reserved { used: &self.used, bytes };
        if self.room.most.is_some_and(|most| used > most) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "all that may be stored is used: remove old days"));
        }
        self.check_room(bytes)?;
        Ok(reserved)
    }

    fn check_room(&self, bytes: u64) -> io::Result<()> {
        let state = statvfs(&self.root)?;
        #[allow(clippy::useless_conversion, reason = "the types differ between platforms")]
        let of = |blocks| u64::from(blocks).saturating_mul(u64::from(state.fragment_size()));
        let (free, whole) = (of(state.blocks_available()), of(state.blocks()));
        let reserve = self.room.reserve.unwrap_or((whole / PART_IN_RESERVE).min(MOST_IN_RESERVE));
        if free < reserve.saturating_add(bytes) {
            let why = format!("the disk has {free} bytes free, of which {reserve} stay in reserve: remove old days");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        Ok(())
    }
}

/// Bytes that are about to be stored. Given back unless they are.
struct Reserved<'a> {
    used: &'a AtomicU64,
    bytes: u64,
}

impl Reserved<'_> {
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A file being written. Gone when dropped: what was kept has another name.
struct Incoming {
    file: File,
    path: PathBuf,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // The next start removes what stays.
        let _ = fs::remove_file(&self.path);
    }
}

/// A folder for this process, after those of processes that are gone are removed. Theirs are told by the lock, which ends
/// with its process; a number of a process would be given to another one.
fn own_incoming(folder: &Path) -> io::Result<(PathBuf, Flock<File>)> {
    make_folder(folder)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match File::open(path.join(LOCK)).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
            Ok(Err((_, Errno::EWOULDBLOCK))) => {}
            Ok(Err((_, why))) => return Err(why.into()),
            // Files of a version without folders lie here directly.
            Err(why) if why.kind() == io::ErrorKind::NotADirectory => drop(unless_missing(fs::remove_file(&path))?),
            // Another process may just make its own, and removes nothing either.
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
            Ok(Ok(_lock)) => drop(unless_missing(fs::remove_dir_all(&path))?),
        }
    }
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(io::Error::other)?;
    let own = folder.join(HEXLOWER.encode(&number));
    DirBuilder::new().mode(0o700).create(&own)?;
    let lock = OpenOptions::new().write(true).create_new(true).mode(0o600).open(own.join(LOCK))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, why)| why)?;
    Ok((own, lock))
}

/// Makes a folder that only its owner can look into, and those above it.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Sees to it that the names in a folder are on disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn unless_missing<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// The bytes of all files below a folder.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += size(&entry.path())?;
        } else if let Some(about) = unless_missing(entry.metadata())? {
            bytes += about.len();
        }
    }
    Ok(bytes)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
