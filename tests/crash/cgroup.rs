//! Control groups of a test's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Process;
use crate::victim::Around;

/// A cgroup, removed when dropped.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// One that has this file: of version 2, or of a hierarchy of version 1.
    pub(crate) fn with(file: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        for base in ["", "/unified", "/pids", "/memory"].map(|name| format!("/sys/fs/cgroup{name}")) {
            let group = Self(Path::new(&base).join(format!("ondat-telemetry-{}-{number}-test", std::process::id())));
            if std::fs::create_dir(&group.0).is_ok() && group.0.join(file).exists() {
                return group;
            }
        }
        panic!("no cgroup with {file} can be made\nrun the tests as root");
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }

    /// The processes in it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Surrounded by it.
    pub(crate) fn around(&self) -> Around {
        let processes = self.0.join("cgroup.procs");
        Around::confined(move || std::fs::write(&processes, "0"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What the victim started dies with it, but after it.
        for pid in self.processes() {
            if let Some(process) = Process::find(pid) {
                process.wait();
            }
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}
