//! The collector's folder: what was received, and what the collector made for itself. Every file appears whole or not
//! at all, and is on disk before its receipt is acknowledged.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ondat_telemetry::error::Error;

use crate::fault::disk;

/// Where everything goes unless `--data` says otherwise.
pub(crate) const DEFAULT_FOLDER: &str = "./ondat-collector";
/// Version queries, one JSON object a line.
pub(crate) const QUERY_LOG: &str = "queries.jsonl";
/// The query log before the current one.
pub(crate) const OLD_QUERY_LOG: &str = "queries.jsonl.1";
/// At this size the query log is set aside and the one before it dropped: anybody can ask DNS questions.
const QUERY_LOG_BYTES: u64 = 256 << 20;

const INCOMING: &str = "incoming";

/// What was received, by kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shelf {
    /// `reports/<report id>.otr`, sealed.
    Reports,
    /// `crashes/<event id>.json`.
    Crashes,
}

impl Shelf {
    fn folder(self) -> &'static str {
        match self {
            Self::Reports => "reports",
            Self::Crashes => "crashes",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Reports => "otr",
            Self::Crashes => "json",
        }
    }
}

/// Whether something was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It was, and is stored.
    New,
    /// The first one stays as it is.
    AlreadyThere,
}

/// The collector's folder.
pub(crate) struct Store {
    root: PathBuf,
    query_log: Mutex<Option<QueryLog>>,
    next_incoming: AtomicU64,
}

struct QueryLog {
    file: File,
    bytes: u64,
}

impl Store {
    /// The folder, made if need be, cleared of what a crash left half received.
    pub(crate) fn create(root: PathBuf) -> Result<Self, Error> {
        for folder in [root.clone(), root.join("reports"), root.join("crashes")] {
            make_folder(&folder).map_err(|why| disk("create the folder", &folder, why))?;
        }
        let incoming = root.join(INCOMING);
        match fs::remove_dir_all(&incoming) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(disk("clear", &incoming, why)),
            _ => make_folder(&incoming).map_err(|why| disk("create the folder", &incoming, why))?,
        }
        Self::open(root)
    }

    /// The folder, which must be there.
    pub(crate) fn open(root: PathBuf) -> Result<Self, Error> {
        let root =
            fs::canonicalize(&root).map_err(|why| disk("find the collector's folder (option --data)", &root, why))?;
        Ok(Self { root, query_log: Mutex::new(None), next_incoming: AtomicU64::new(0) })
    }

    /// The path of one of the collector's own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The files of one kind, sorted by name.
    pub(crate) fn list(&self, shelf: Shelf) -> Result<Vec<PathBuf>, Error> {
        let folder = self.root.join(shelf.folder());
        let entries = match fs::read_dir(&folder) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|why| disk("list", &folder, why))?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|why| disk("list", &folder, why))?.path();
            if path.extension().is_some_and(|extension| extension == shelf.extension()) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// An empty file that nobody sees until it is kept.
    pub(crate) fn begin(&self) -> io::Result<Incoming> {
        let number = self.next_incoming.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(INCOMING).join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Incoming { file, path })
    }

    /// Stores a file under a name nothing else has, durably.
    pub(crate) fn keep(&self, incoming: Incoming, shelf: Shelf, id: &str) -> io::Result<Kept> {
        let folder = self.root.join(shelf.folder());
        incoming.file.sync_all()?;
        // A hard link, unlike a rename, fails when the name is taken: the first one stays, whoever races.
        let kept = match fs::hard_link(&incoming.path, folder.join(format!("{id}.{}", shelf.extension()))) {
            Ok(()) => Kept::New,
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Kept::AlreadyThere,
            Err(why) => return Err(why),
        };
        // Also when it was there already: the one who put it there may not have come this far yet.
        sync_folder(&folder)?;
        Ok(kept)
    }

    /// Writes one of the collector's own files, replacing it as a whole.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let mut incoming = self.begin()?;
            incoming.write_all(bytes)?;
            incoming.file.sync_all()?;
            fs::rename(&incoming.path, self.path(name))?;
            sync_folder(&self.root)
        };
        write().map_err(|why| disk("write", &self.path(name), why))
    }

    /// Reads one of the collector's own files, if it is there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, Error> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(disk("read", &self.path(name), why)),
        }
    }

    /// Appends one line to the query log.
    pub(crate) fn log_query(&self, line: &str) -> io::Result<()> {
        let mut log = self.query_log.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match log.take() {
            Some(current) if current.bytes < QUERY_LOG_BYTES => current,
            Some(_) => {
                fs::rename(self.path(QUERY_LOG), self.path(OLD_QUERY_LOG))?;
                self.open_query_log()?
            }
            None => self.open_query_log()?,
        };
        let current = log.insert(current);
        // One write, so that lines stay whole.
        current.file.write_all(format!("{line}\n").as_bytes())?;
        current.bytes += line.len() as u64 + 1;
        Ok(())
    }

    fn open_query_log(&self) -> io::Result<QueryLog> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path(QUERY_LOG))?;
        let bytes = file.metadata()?.len();
        Ok(QueryLog { file, bytes })
    }
}

/// A file being received. Gone when dropped, unless it was kept.
pub(crate) struct Incoming {
    file: File,
    path: PathBuf,
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; otherwise the next start clears what stays.
        let _ = fs::remove_file(&self.path);
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder of its own for one test, removed at the end.
    pub(crate) struct Scratch(pub(crate) PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ondat-collector-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_first_one_stays() {
        let scratch = Scratch::new("store");
        let store = Store::create(scratch.0.join("data")).unwrap();
        let put = |bytes: &[u8]| {
            let mut incoming = store.begin().unwrap();
            incoming.write_all(bytes).unwrap();
            store.keep(incoming, Shelf::Reports, "a").unwrap()
        };
        assert_eq!(put(b"first"), Kept::New);
        assert_eq!(put(b"second"), Kept::AlreadyThere);
        let listed = store.list(Shelf::Reports).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(fs::read(&listed[0]).unwrap(), b"first");
        assert_eq!(fs::read_dir(store.path(INCOMING)).unwrap().count(), 0);
    }

    #[test]
    fn nobody_else_can_read_the_folder() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("modes");
        let store = Store::create(scratch.0.join("data")).unwrap();
        store.write("secret", b"x").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(scratch.0.join("data")), 0o700);
        assert_eq!(mode(scratch.0.join("data/reports")), 0o700);
        assert_eq!(mode(scratch.0.join("data/secret")), 0o600);
    }
}
