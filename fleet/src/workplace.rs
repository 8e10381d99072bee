//! The folder in which one opener writes before what it wrote is put in place, and the mark of what it is opening: a report
//! that takes its opener down is known by the mark that is left.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;

use crate::data::{Data, Place, make_folder, names};
use crate::fault::disk;

/// Where workplaces are, one for each opener that runs or has ended early.
const FOLDER: &str = "opening";
/// Held by the opener for as long as it runs.
const LOCK: &str = "lock";
/// The path of the body that is being opened, in blanks.
const MARK: &str = "mark";
const MARK_BYTES: usize = 96;
/// Held while parts are put in place: somebody else's may have come meanwhile.
const PLACING: &str = "placing";

/// An opener's own folder. Gone when dropped.
pub(crate) struct Workplace {
    path: PathBuf,
    placing: PathBuf,
    mark: File,
    _lock: File,
}

impl Workplace {
    /// A new one. Clears those of openers that have ended early, and returns the bodies that they were opening.
    pub(crate) fn new(data: &Data) -> Result<(Self, Vec<Place>), Error> {
        let folder = data.path(FOLDER);
        make_folder(&folder).map_err(|why| disk("make", &folder, why))?;
        let left = sweep(&folder)?;
        let placing = folder.join(PLACING);
        let made = (0..100).find_map(|_| Self::make(&folder, &placing).transpose());
        let made = made.unwrap_or_else(|| Err(io::Error::other("others remove it")));
        Ok((made.map_err(|why| disk("write below", &folder, why))?, left))
    }

    /// None where another opener took it for one that is left over, before it was locked.
    fn make(folder: &Path, placing: &Path) -> io::Result<Option<Self>> {
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(io::Error::other)?;
        let path = folder.join(HEXLOWER.encode(&name));
        make_folder(&path)?;
        let made = || -> io::Result<(File, File)> {
            let lock = create(&path.join(LOCK))?;
            lock.lock()?;
            Ok((lock, create(&path.join(MARK))?))
        };
        match made() {
            Ok((lock, mark)) if is_at(&lock, &path.join(LOCK)) => {
                Ok(Some(Self { path, placing: placing.to_owned(), mark, _lock: lock }))
            }
            Ok(_) => Ok(None),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// A new file in it.
    pub(crate) fn create(&self, name: &str) -> Result<(PathBuf, File), Error> {
        let path = self.path.join(name);
        let _ = fs::remove_file(&path);
        let file = create(&path).map_err(|why| disk("write", &path, why))?;
        Ok((path, file))
    }

    /// Says what is opened from now on.
    pub(crate) fn mark(&self, place: Option<&Place>) -> Result<(), Error> {
        let path = place.map(Place::path).unwrap_or_default();
        let line = format!("{path:<MARK_BYTES$}");
        self.mark.write_all_at(line.as_bytes(), 0).map_err(|why| disk("write", &self.path.join(MARK), why))
    }

    /// Nobody else puts parts in place until what is returned is dropped.
    pub(crate) fn begin_placing(&self) -> Result<File, Error> {
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.placing);
        let lock = lock.and_then(|file| file.lock().map(|()| file));
        lock.map_err(|why| disk("lock", &self.placing, why))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        // What cannot be removed is swept by the next opener, which then must not take the mark for that of a crash.
        let _ = self.mark(None);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Clears the workplaces that nobody holds.
fn sweep(folder: &Path) -> Result<Vec<Place>, Error> {
    let mut left = Vec::new();
    for name in names(folder)? {
        let path = folder.join(&name);
        if name == PLACING {
            continue;
        }
        // One without a lock is being made, or was never finished: it holds nothing.
        let Ok(lock) = OpenOptions::new().append(true).open(path.join(LOCK)) else { continue };
        if lock.try_lock().is_err() || !is_at(&lock, &path.join(LOCK)) {
            continue;
        }
        let mark = fs::read_to_string(path.join(MARK)).unwrap_or_default();
        left.extend(Place::parse(mark.trim_end()));
        fs::remove_dir_all(&path).map_err(|why| disk("remove", &path, why))?;
    }
    Ok(left)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Whether this open file is the one at this path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// Puts a written file in its place, durably: what was there before is there until the new one is.
pub(crate) fn put(file: &File, from: &Path, to: &Path) -> Result<(), Error> {
    let folder = to.parent().unwrap_or(to);
    let put = || -> io::Result<()> {
        file.sync_all()?;
        make_folder(folder)?;
        fs::rename(from, to)?;
        File::open(folder)?.sync_all()
    };
    put().map_err(|why| disk("write", to, why))
}

/// Takes a file away, durably.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let remove = || -> io::Result<()> {
        match fs::remove_file(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => {
                removed?;
                path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
            }
        }
    };
    remove().map_err(|why| disk("remove", path, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_one_that_ended_early_is_found_and_that_of_one_that_runs_is_not() {
        let root = std::env::temp_dir().join(format!("fleet-workplace-{}", std::process::id()));
        make_folder(&root).unwrap();
        let data = Data::open(&root).unwrap();
        let place = Place { received: 20_781, hour: 7, id: [1; 16], variant: Some([2; 4]) };
        let (running, left) = Workplace::new(&data).unwrap();
        assert!(left.is_empty());
        running.mark(Some(&place)).unwrap();
        // As a process leaves it that is killed.
        let ended = root.join(FOLDER).join("ended");
        make_folder(&ended).unwrap();
        fs::copy(running.path.join(MARK), ended.join(MARK)).unwrap();
        fs::write(ended.join(LOCK), "").unwrap();
        let (_next, left) = Workplace::new(&data).unwrap();
        assert_eq!((left, ended.exists(), running.path.exists()), (vec![place], false, true));
        fs::remove_dir_all(&root).unwrap();
    }
}
