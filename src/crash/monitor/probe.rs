//! Asks whether a file system accepts changes at the moment, without hanging if it does not.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::sys::stat::{fstat, futimens};
use nix::sys::time::TimeSpec;

use crate::state::StateDir;

/// A file without a name. Reading it changes the time of its last reading, but not on a file system that is frozen: the
/// kernel does not wait there (`touch_atime` of fs/inode.c tries). Where no such times are kept (`noatime`, network file
/// systems), nothing is known.
#[derive(Clone)]
pub struct Probe(Arc<File>);

impl AsRawFd for Probe {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Probe {
    /// Makes one in a state directory; none where that cannot be.
    pub fn new(dir: &StateDir) -> Option<Self> {
        let mut file = dir.root().unnamed().ok()?;
        file.write_all(&[1]).ok()?;
        let probe = Self(Arc::new(file));
        probe.arm().then_some(probe)
    }

    /// Whether the file system takes changes.
    pub fn answers(&self) -> bool {
        let _ = self.0.read_at(&mut [0], 0);
        fstat(self.0.as_fd()).is_ok_and(|meta| meta.st_atime != 0) && self.arm()
    }

    /// Has it never read since it was changed, so that the next reading counts (`relatime`).
    fn arm(&self) -> bool {
        futimens(self.0.as_fd(), &TimeSpec::new(0, 0), &TimeSpec::new(1, 0)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use super::*;

    #[test]
    fn a_file_system_that_keeps_times_answers() {
        let path = std::env::temp_dir().join(format!("ondat-telemetry-probe-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        let probe = Probe::new(&StateDir::open(&path).unwrap()).unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let keeps_times = !mounts.lines().any(|line| line.contains("noatime"));
        for _ in 0..3 {
            assert!(probe.answers() || !keeps_times);
        }
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "it has a name");
        std::fs::remove_dir(path).unwrap();
    }
}
