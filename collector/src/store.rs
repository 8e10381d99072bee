//! The collector's folder: its own files, and the log of version queries. What was received lies beside them, unless it goes
//! into a bucket: storage/.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ondat_telemetry::error::Error;

use crate::fault::disk;
use crate::storage::folder::{make_folder, sync_folder};

/// Where everything goes unless `--data` says otherwise.
pub(crate) const DEFAULT_FOLDER: &str = "./ondat-collector";
/// Version queries, one JSON object a line.
pub(crate) const QUERY_LOG: &str = "queries.jsonl";
/// The query log before the current one.
pub(crate) const OLD_QUERY_LOG: &str = "queries.jsonl.1";
/// At this size the query log is set aside and the one before it dropped: anybody can ask DNS questions.
const QUERY_LOG_BYTES: u64 = 256 << 20;

/// The collector's folder.
pub(crate) struct Store {
    root: PathBuf,
    query_log: Mutex<Option<QueryLog>>,
}

struct QueryLog {
    file: File,
    bytes: u64,
}

impl Store {
    /// The folder, made if need be.
    pub(crate) fn create(root: PathBuf) -> Result<Self, Error> {
        make_folder(&root).map_err(|why| disk("create the folder", &root, why))?;
        Self::open(root)
    }

    /// The folder, which must be there.
    pub(crate) fn open(root: PathBuf) -> Result<Self, Error> {
        let root =
            fs::canonicalize(&root).map_err(|why| disk("find the collector's folder (option --data)", &root, why))?;
        Ok(Self { root, query_log: Mutex::new(None) })
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of one of the collector's own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes one of the collector's own files, replacing it as a whole.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            // Two processes that start on one folder write two files.
            let new = self.path(&format!(".{name}.{}", std::process::id()));
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, self.path(name))?;
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
    fn nobody_else_can_read_the_folder() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("modes");
        let store = Store::create(scratch.0.join("data")).unwrap();
        store.write("secret", b"x").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(scratch.0.join("data")), 0o700);
        assert_eq!(mode(scratch.0.join("data/secret")), 0o600);
    }
}
