//! Lists, for `open` and `show`, what was received into a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ondat_telemetry::error::Error;

use crate::fault::disk;
use crate::layout::{CRASHES, OLD_REPORTS, SEALED};

/// Returns every sealed report, by day and name. Reports in the flat folder of earlier versions come first. A report that lies
/// in both places is listed once.
pub(crate) fn reports(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let sorted = below(&root.join(SEALED), "otr")?;
    let mut all = below(&root.join(OLD_REPORTS), "otr")?;
    all.retain(|old| !sorted.iter().any(|path| path.file_name() == old.file_name() && are_same(path, old)));
    all.extend(sorted);
    Ok(all)
}

/// Returns every crash report in the same way.
pub(crate) fn crashes(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut all = below(&root.join(CRASHES), "json")?;
    // The first report of an id counts, which is the one in the flat folder.
    all.sort_by_key(|path| (path.file_name().map(ToOwned::to_owned), path.components().count()));
    all.dedup_by(|later, first| later.file_name() == first.file_name());
    all.sort();
    Ok(all)
}

fn are_same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

/// Returns the files with this extension in a folder and below it, sorted.
fn below(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Error> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let cannot = |why: io::Error| disk("list", &folder, why);
        let entries = match fs::read_dir(&folder) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(cannot)?,
        };
        for entry in entries {
            let entry = entry.map_err(cannot)?;
            if entry.file_type().map_err(cannot)?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|found| found == extension) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    fn write(root: &Path, name: &str, bytes: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn names(root: &Path, paths: Vec<PathBuf>) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_lay_there_before_days_is_listed_once() {
        let scratch = Scratch::new("received");
        let root = &scratch.0;
        assert!(reports(root).unwrap().is_empty() && crashes(root).unwrap().is_empty());
        write(root, "reports/a.otr", "1");
        write(root, "reports/b.otr", "2");
        write(root, "sealed/v1/2026-11-24/03/a.otr", "1");
        write(root, "sealed/v1/2026-11-24/03/b.otr", "other");
        write(root, "sealed/v1/2026-11-24/03/b~0011.otr", "3");
        write(root, "sealed/v1/2026-11-24/03/note.txt", "");
        let expected = [
            "reports/b.otr",
            "sealed/v1/2026-11-24/03/a.otr",
            "sealed/v1/2026-11-24/03/b.otr",
            "sealed/v1/2026-11-24/03/b~0011.otr",
        ];
        assert_eq!(names(root, reports(root).unwrap()), expected);
        write(root, "crashes/c.json", "old");
        write(root, "crashes/2026-11-24/c.json", "new");
        write(root, "crashes/2026-11-24/d.json", "new");
        assert_eq!(names(root, crashes(root).unwrap()), ["crashes/2026-11-24/d.json", "crashes/c.json"]);
    }
}
