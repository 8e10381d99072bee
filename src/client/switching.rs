//! Leave to send, and what follows when a switch is turned.

use std::sync::atomic::Ordering;

use super::{Core, lock};
use crate::callbacks::priority;
use crate::error::Error;
use crate::follower::following;
use crate::state::{StateDir, layout};
use crate::switch::Switch;
use crate::switches::{Permit, in_words};

/// What an administrator is told before anything is sent.
const NOTICE: &str = "this product tells its vendor about itself: in a daily DNS query anonymised ids and the version \
                      (DISABLE_VERSION_CHECK=true turns it off), in a daily sealed report a fixed list of fields about \
                      cluster, nodes and volumes (DISABLE_TELEMETRY=true), and after a crash its signal, exit code and version \
                      (DISABLE_ERROR_REPORTING=true); `ondat-telemetry status` and `report preview` show what exactly";

/// Whether the administrator's notice was given in this state directory; notes that it is now.
fn note_notice(dir: &StateDir, now: i64) -> Result<bool, Error> {
    if dir.root().read(layout::NOTICE)?.is_some() {
        return Ok(true);
    }
    dir.root().write(layout::NOTICE, format!("{{\"given_at\":{now}}}").as_bytes())?;
    Ok(false)
}

impl Core {
    /// The mask of switches, for callers that have only the core: 0 in a forked child.
    pub fn switches_here(&self) -> u32 {
        if self.is_forked() { 0 } else { self.switches.on() }
    }

    /// Leave to send, from the gate. The administrator is told before the first time.
    pub(super) fn permit(&self, switch: Switch) -> Result<Permit, Error> {
        self.may_call()?;
        let permit = self.switches.permit(switch)?;
        self.give_notice();
        Ok(permit)
    }

    /// Says once in a state directory what is sent and how to turn it off.
    pub(super) fn give_notice(&self) {
        // Do not record the notice as given where no log callback shows it.
        let is_heard = self.callbacks().is_some_and(|callbacks| {
            callbacks.log.as_ref().is_some_and(|(most_verbose, _)| priority::NOTICE <= *most_verbose)
        });
        if !is_heard || self.is_notice_given.swap(true, Ordering::AcqRel) {
            return;
        }
        match self.config.state_dir.as_ref().map(|dir| note_notice(dir, self.now())) {
            Some(Ok(true)) => {}
            // If the marker cannot be written, repeat the notice rather than lose it.
            Some(Ok(false) | Err(_)) | None => self.log(priority::NOTICE, NOTICE),
        }
    }

    /// Does this while the switches are followed: by the schedule's thread where there is one, else by another.
    pub(super) fn followed<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.has_worker() {
            return work();
        }
        let outcome = following(&self.switches, work);
        if self.switches.on() != self.said_on.load(Ordering::Acquire) {
            self.after_switching();
        }
        outcome
    }

    /// Follows the administrator's file.
    pub fn refresh_switches(&self) {
        self.look_at_disk();
        if let Some(why) = self.switches.refresh() {
            self.log(priority::WARNING, &format!("{why}: everything counts as off"));
        }
        self.after_switching();
    }

    pub(super) fn after_switching(&self) {
        let on = self.switches.on();
        let changed = self.said_on.swap(on, Ordering::AcqRel) ^ on;
        for switch in Switch::ALL.into_iter().filter(|switch| changed & switch.bit() != 0) {
            let is = match &*in_words(&self.switches.sources_against(switch)).join(", ") {
                "" => "on".to_owned(),
                sources => format!("off by {sources}"),
            };
            self.log(priority::NOTICE, &format!("{} is {is}", switch.name()));
        }
        self.purge_what_is_off();
        if let Some(watch) = lock(&self.watch).as_ref() {
            watch.set_enabled(self.switches.is_on(Switch::CrashReports));
        }
    }

    pub(super) fn purge_what_is_off(&self) {
        for switch in [Switch::DailyReport, Switch::CrashReports] {
            if !self.switches.is_said_off(switch) {
                continue;
            }
            match self.purge(switch) {
                Ok(0) => {}
                Ok(_) => {
                    self.log(priority::NOTICE, &format!("{} is off: what was stored for it is removed", switch.name()))
                }
                Err(error) => self.complain_of_disk(&format!("{} is off, but {error}", switch.name())),
            }
        }
    }

    /// Removes what is stored for this switch, and says how much that was.
    pub(super) fn purge(&self, switch: Switch) -> Result<usize, Error> {
        match switch {
            Switch::VersionCheck => Ok(0),
            Switch::DailyReport => {
                let copies = self.sent_folder().map_or(Ok(0), |folder| folder.clear());
                Ok(self.reports.purge()? + copies?)
            }
            Switch::CrashReports => {
                let forgotten = self.forget_held_crashes();
                let removed = self.crashes.purge()?;
                forgotten.map(|()| removed)
            }
        }
    }
}
