//! The memory limit of this process's cgroup: how often the kernel has killed because of it, and a notice when it does.
#![allow(unsafe_code, reason = "eventfd(2) is asked for by its number alone")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{OFlag, open};
use nix::poll::PollFlags;
use nix::sys::stat::Mode;

use super::descriptor;

/// The counts of kills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kills {
    /// Processes that were killed for the limit.
    pub processes: u64,
    /// Times at which the whole cgroup was (memory.oom.group; Linux 5.17).
    pub groups: u64,
}

/// One cgroup with a memory controller.
pub struct MemoryLimit {
    folder: String,
    counts: String,
    /// The descriptor to poll, and the events.
    notice: Option<(OwnedFd, PollFlags)>,
}

impl MemoryLimit {
    /// The limit of this process, if it has one.
    pub fn own() -> Option<Self> {
        let groups = descriptor::read_text("/proc/self/cgroup").ok()?;
        groups.lines().find_map(|group| {
            let (_, group) = group.split_once(':')?;
            let (controllers, path) = group.split_once(':')?;
            let (root, counts) = match controllers {
                // Beside version 1, version 2 may be there without controllers: the file is not there then.
                "" => ("/sys/fs/cgroup", "memory.events"),
                controllers if controllers.split(',').any(|name| name == "memory") => {
                    ("/sys/fs/cgroup/memory", "memory.oom_control")
                }
                _ => return None,
            };
            // In a cgroup namespace the path begins at what is mounted; without one, the host's path may not be there.
            [format!("{root}{path}"), root.to_owned()].into_iter().find_map(|folder| {
                let folder = folder.trim_end_matches('/').to_owned();
                let counts = format!("{folder}/{counts}");
                read(&counts).map(|_| Self { folder, counts, notice: None })
            })
        })
    }

    /// Asks for a notice. Where it cannot be had, there is none.
    pub fn listen(&mut self) {
        self.notice = if self.counts.ends_with("memory.events") {
            // Polled for an exceptional condition after each reading, cgroup-v2, "Memory Interface Files".
            File::open(&self.counts).ok().map(|file| (file.into(), PollFlags::POLLPRI))
        } else {
            event_of(&self.folder, &self.counts).map(|event| (event, PollFlags::POLLIN))
        };
        self.hear();
    }

    /// What to poll.
    pub fn notice(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.notice.as_ref().map(|(descriptor, flags)| (descriptor.as_fd(), *flags))
    }

    /// Takes a notice, so that the next one is heard.
    pub fn hear(&self) {
        if let Some((descriptor, _)) = &self.notice {
            let mut bytes = [0; 1024];
            // Bounded, and nothing is made of it: the counts are read by their name.
            let _ = nix::sys::uio::pread(descriptor.as_fd(), &mut bytes, 0)
                .or_else(|_| nix::unistd::read(descriptor.as_fd(), &mut bytes));
        }
    }

    /// How often by now.
    pub fn kills(&self) -> Option<Kills> {
        read(&self.counts)
    }

    /// What tells this cgroup from others of its name: its inode.
    pub fn inode(&self) -> Option<u64> {
        fs::metadata(&self.folder).ok().map(|meta| meta.ino())
    }
}

fn read(path: &str) -> Option<Kills> {
    let mut text = String::new();
    File::from(descriptor::make(|| File::open(path)).ok()?).take(4096).read_to_string(&mut text).ok()?;
    let count = |name: &str| text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok();
    Some(Kills { processes: count("oom_kill ")?, groups: count("oom_group_kill ").unwrap_or(0) })
}

/// An eventfd that version 1 signals when it kills: memory.rst of cgroup-v1, "OOM Control".
fn event_of(folder: &str, control: &str) -> Option<OwnedFd> {
    // SAFETY: numbers only; the result is looked at.
    let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    // SAFETY: the kernel has just made it and nobody else knows it.
    let event = (number >= 0).then(|| unsafe { OwnedFd::from_raw_fd(number) })?;
    let control = File::open(control).ok()?;
    let register = format!("{folder}/cgroup.event_control");
    let register = open(register.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    File::from(register).write_all(format!("{} {}", event.as_raw_fd(), control.as_raw_fd()).as_bytes()).ok()?;
    Some(event)
}
