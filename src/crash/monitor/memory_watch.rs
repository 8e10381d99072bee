//! Whether a process was killed for the memory limit of its cgroup, which it shares with its monitor. That is so only
//! if the kernel's count has risen with this death.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use crate::sys::memory_limit::MemoryLimit;

/// How long after a kill a watched process that lives is taken for one that was not meant, and the least time between two
/// looks at the count: under pressure there is a notice every few milliseconds.
const LOOK: Duration = Duration::from_secs(1);

/// The count, and what it was when the watched process was last known to live.
pub struct MemoryWatch {
    limit: Option<MemoryLimit>,
    kills: u64,
    /// When to look again.
    look_at: Option<Instant>,
}

impl MemoryWatch {
    /// From now on.
    pub fn new() -> Self {
        let mut limit = MemoryLimit::own();
        if let Some(limit) = &mut limit {
            limit.listen();
        }
        let kills = limit.as_ref().and_then(MemoryLimit::kills).unwrap_or_default().processes;
        Self { limit, kills, look_at: None }
    }

    /// The descriptor to poll; none while a look is due anyway.
    pub fn notice(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.limit.as_ref().filter(|_| self.look_at.is_none()).and_then(MemoryLimit::notice)
    }

    /// When [`look`](Self::look) is to be called without a notice.
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// The watched process lives, and there may be a notice.
    pub fn look(&mut self, has_notice: bool) {
        if has_notice {
            if let Some(limit) = &self.limit {
                limit.hear();
            }
            self.look_at = Some(Instant::now() + LOOK);
        } else if self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.look_at = None;
            // Another process was killed.
            self.take();
        }
    }

    /// Whether the count has risen since.
    pub fn has_killed(&self) -> bool {
        self.count().is_some_and(|kills| kills > self.kills)
    }

    /// The same once: each rise tells of one death.
    pub fn take(&mut self) -> bool {
        let has_killed = self.has_killed();
        if let Some(kills) = self.count() {
            self.kills = kills;
        }
        has_killed
    }

    fn count(&self) -> Option<u64> {
        self.limit.as_ref().and_then(MemoryLimit::kills).map(|kills| kills.processes)
    }
}

impl Default for MemoryWatch {
    fn default() -> Self {
        Self::new()
    }
}
