//! Children that a host has forked and that crash. Each sends its own record, waits until the monitor has opened it,
//! and is then watched as the host is.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ondat_telemetry_protocol::ending::Ending;

use super::postmortem::Death;
use super::reporting::Reporting;
use super::witnesses::{Dead, status_after_reaping};
use crate::crash::host::handler::CRASH_SIGNALS;
use crate::crash::record::{Record, TENTATIVE};
use crate::crash::witness::Witness;
use crate::sys::pidfd;
use crate::sys::procfs::{self, Stat, StatFile};

/// The most that are watched at the same time; those beyond are only passed on.
const MOST: usize = 64;
/// A child whose earlier handler was called and that lives so much longer has recovered.
const RECOVERY: Duration = Duration::from_secs(1);

/// The children that have sent a record of a crash and are not dead yet.
#[derive(Default)]
pub struct Children {
    all: Vec<Child>,
}

struct Child {
    pid: u32,
    process: OwnedFd,
    stat: StatFile,
    record: Record,
    told_at: Instant,
}

impl Children {
    /// Looks at the child that has sent this record. It waits for that.
    pub fn take(&mut self, pid: u32, record: Record) {
        if let Some(known) = self.all.iter_mut().find(|child| child.pid == pid && !child.has_ended()) {
            known.record = record;
            known.told_at = Instant::now();
            return;
        }
        if self.all.len() >= MOST {
            return;
        }
        // Before Linux 5.3 its end cannot be waited for.
        let (Ok(process), Some(stat)) = (pidfd::open(pid), StatFile::open(pid)) else { return };
        self.all.push(Child { pid, process, stat, record, told_at: Instant::now() });
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// How many more there may be.
    pub fn room(&self) -> usize {
        MOST - self.all.len().min(MOST)
    }

    /// The descriptors to poll for their ends.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().map(|child| child.process.as_fd())
    }

    /// Reports those that have ended.
    pub fn reap(&mut self, reporting: &Reporting) {
        self.all.retain(|child| {
            let has_ended = child.has_ended();
            if has_ended && let Some(death) = child.death() {
                reporting.of_child(child.pid, death);
            }
            !has_ended
        });
    }
}

impl Child {
    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// How it died, where that is for us to report: how a child exits, and what its parent kills it for, is the parent's
    /// business.
    fn death(&self) -> Option<Death> {
        let is_hidden = procfs::is_hidden(self.pid);
        let dead = Dead {
            is_hidden,
            zombie: self.stat.read().filter(Stat::has_ended),
            leaving: None,
            told: None,
            words: vec![self.record],
            class: None,
            has_met_memory_limit: false,
            kernel: procfs::kernel_version(),
        };
        let told = if dead.zombie.is_none() { status_after_reaping(self.process.as_fd()) } else { None };
        let death = Dead { told, ..dead }.death()?;
        let by_words_alone = death.witness == Witness::Handler;
        let has_recovered = self.record.has(TENTATIVE) && self.told_at.elapsed() > RECOVERY;
        let is_crash = matches!(death.ending, Ending::Killed { signal, .. } if CRASH_SIGNALS.contains(&signal));
        (is_crash && !(by_words_alone && has_recovered)).then_some(Death { is_child: true, ..death })
    }
}
