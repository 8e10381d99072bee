//! What the worker of a client does, and when.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::Core;
use crate::callbacks::priority;
use crate::sys::descriptor::Owned;
use crate::sys::waiter::Place;
use crate::worker::Jobs;

impl Jobs for Core {
    fn watched(&self) -> Option<Place> {
        let dir = self.config.state_dir.clone();
        dir.map(|dir| -> Place { Box::new(move || dir.path()) })
    }

    fn has_ended(&self) -> bool {
        self.is_closing() || self.is_forked()
    }

    fn is_forked(&self) -> bool {
        Self::is_forked(self)
    }

    fn now(&self) -> i64 {
        Self::now(self)
    }

    fn look(&self, is_anew: bool) {
        self.refresh_switches();
        self.refresh_version();
        self.keep_door(is_anew);
    }

    fn look_at_switches(&self) {
        self.refresh_switches();
    }

    fn next_due(&self) -> Option<i64> {
        let next = [self.version_check_due(), self.version_expiry(), self.delivery_due(), self.report_due()];
        next.into_iter().flatten().min()
    }

    fn do_due(&self) {
        let is_due = |due: Option<i64>| due.is_some_and(|due| due <= self.now());
        if is_due(self.version_check_due()) {
            self.make_scheduled_version_check();
        }
        if is_due(self.delivery_due()) {
            self.deliver_due();
        }
        if is_due(self.report_due()) {
            self.make_scheduled_report();
        }
    }

    fn door(&self) -> Option<Arc<Owned>> {
        Self::door(self)
    }

    fn visitor(&self) -> Result<Option<OwnedFd>, Errno> {
        Self::visitor(self)
    }

    fn shut_door(&self) {
        Self::shut_door(self);
    }

    fn answer(&self, visitor: OwnedFd) {
        Self::answer(self, visitor);
    }

    fn tell_of_bug(&self, line: &str) {
        self.log(priority::WARNING, line);
    }
}

impl Core {
    /// What the worker does, once and without a second thread. When the next thing is due.
    pub(super) fn work(&self) -> Option<i64> {
        self.refresh_switches();
        self.refresh_version();
        self.do_due();
        self.next_due()
    }
}
