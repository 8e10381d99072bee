//! The state directory as a client has it: it may not be usable, hang, or become usable again.

use std::time::Duration;

use super::{Core, lock};
use crate::callbacks::priority;
use crate::error::Error;
use crate::outcome;
use crate::state::{StateDir, layout};
use crate::switch::Switch;
use crate::sys::thread;

/// What `report_exit` and `set_switches` wait for a disk, fsync(2) on a busy one included. One that takes longer has stopped
/// answering, for all that a host can wait.
const DISK_PATIENCE: Duration = Duration::from_millis(500);

impl Core {
    /// Does what has to do with the disk, on a thread of its own where there is one. None where the disk has not answered
    /// within [`DISK_PATIENCE`]: it is done when it does, while the process lives.
    pub(super) fn without_waiting_for_the_disk(
        &self,
        work: impl FnOnce() -> Result<(), Error> + Send + 'static,
    ) -> Option<Result<(), Error>> {
        // In a callback on a thread of the library's, it may be the lane itself that would be waited for.
        let is_at_once = self.config.state_dir.is_none() || thread::is_ours();
        if is_at_once { Some(work()) } else { self.lane.run(DISK_PATIENCE, work) }
    }

    /// Says what has changed about the state directory: whether it can be used, and what its file system lacks.
    pub(super) fn say_what_disk_lacks(&self) {
        let Some(dir) = &self.config.state_dir else { return };
        for lack in dir.lacks() {
            self.log(priority::WARNING, &lack);
        }
        for note in self.reports.notes().into_iter().chain(self.crashes.notes()) {
            self.log(priority::WARNING, &note);
        }
    }

    /// The same, and whether it can be used at all.
    pub(super) fn look_at_disk(&self) {
        let Some(dir) = &self.config.state_dir else { return };
        let problem = dir.problem().map(|why| why.to_string());
        let before = std::mem::replace(&mut *lock(&self.disk_problem), problem.clone());
        match (before, problem) {
            (None, Some(why)) => self.log(priority::WARNING, &Self::without_disk(&why)),
            (Some(_), None) => self.log(priority::NOTICE, "the state directory can be used from now on"),
            _ => {}
        }
        self.say_what_disk_lacks();
    }

    /// The state directory, where it can be used.
    pub(super) fn disk(&self) -> Option<&StateDir> {
        self.config.state_dir.as_ref().filter(|_| lock(&self.disk_problem).is_none())
    }

    /// The administrator must be able to turn off what is on when the disk is full.
    pub(super) fn keep_reserve(&self) {
        if let Some(dir) = self.disk().filter(|_| self.switches.on() != 0) {
            dir.root().keep_reserve(layout::SWITCHES_RESERVE);
        }
    }

    /// Remembers for `status` how a try has ended: that it was turned off, or does not fit the moment, is neither.
    pub(super) fn note_outcome(&self, switch: Switch, error: Option<&Error>, next: Option<i64>) {
        match (self.disk(), error) {
            (None, _) | (_, Some(Error::Disabled(_) | Error::InvalidState(_))) => {}
            (Some(dir), None) => outcome::note_success(dir, switch),
            (Some(dir), Some(error)) => outcome::note_failure(dir, switch, self.now(), &error.to_string(), next),
        }
    }

    /// Says what the disk did not do. Where that is no wonder, it has been said already.
    pub(super) fn complain_of_disk(&self, line: &str) {
        let is_known = lock(&self.disk_problem).is_some();
        self.log(if is_known { priority::DEBUG } else { priority::WARNING }, line);
    }

    /// What is said of a state directory that cannot be used.
    pub(super) fn without_disk(why: &str) -> String {
        format!("{why}; until that changes nothing is remembered, and reports are sent at once or not at all")
    }
}
