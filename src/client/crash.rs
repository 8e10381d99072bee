//! The crash reports that a client makes itself: those of children, and those of earlier runs.

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::event::{Crash, Subject, event};
use serde_json::Value;

use super::{Core, lock};
use crate::callbacks::priority;
use crate::crash::cores::{self, Cores};
use crate::crash::delivery::{file_of, keep_in_memory, store_event};
use crate::crash::limit::{self, CrashLimits, LastEnding};
use crate::crash::marker;
use crate::crash::record::Record;
use crate::crash::witness::Witness;
use crate::error::Error;

impl Core {
    /// Stores what earlier runs on this state directory left behind.
    pub(super) fn report_leftovers(&self) -> Result<(), Error> {
        let Some(dir) = &self.config.state_dir else { return Ok(()) };
        if cores::read(dir).is_some_and(|cores| cores.has_untold()) {
            for core in cores::change(dir, Cores::take_untold)? {
                self.log(priority::NOTICE, &core.to_string());
            }
        }
        marker::take_leftovers(dir, |leftover| {
            // A monitor has reported it and was killed before it could remove the marker.
            if self.crashes.has(&file_of(&leftover.event_id))? {
                return Ok(());
            }
            let Some((ending, witness)) = leftover.ending().filter(|(ending, _)| ending.is_crash()) else {
                return Ok(());
            };
            let record = leftover.record;
            let class = record.and_then(Record::cause).or(witness.class());
            // What the monitor notes of a Go runtime has no time of its own.
            let at = record.map(|record| record.at).filter(|at| *at > 0).unwrap_or_else(|| self.now());
            let event_id = &leftover.event_id;
            let crash = Crash { event_id, at, ending, class, text: None, is_child: false };
            self.store_crash(&leftover.component, &leftover.version, witness, &crash)
        })
    }

    pub(super) fn store_crash(
        &self,
        component: &str,
        version: &str,
        witness: Witness,
        crash: &Crash<'_>,
    ) -> Result<(), Error> {
        let cluster_id = HEXLOWER.encode(&self.config.cluster);
        let node_id = HEXLOWER.encode(&self.config.node);
        let subject = Subject { component, version, cluster_id: &cluster_id, node_id: &node_id };
        let (event, now) = (event(&subject, crash), self.moment());
        let last = LastEnding::new(component, crash, witness);
        let change = |limits: &mut CrashLimits| {
            limits.set_last(last);
            limits.admit(event, &now)
        };
        match self.change_crash_limits(change) {
            Some(event) => self.store_crash_event(&event),
            // Held back, remembered, and counted by the next one.
            None => Ok(()),
        }
    }

    /// Stores what was held back and may be sent by now.
    pub(super) fn release_held_crashes(&self) {
        let now = self.moment();
        if self.crash_release_due().is_none_or(|due| due > now.unix) {
            return;
        }
        // Stored before it is forgotten: a process that dies in between stores the same event once more.
        for event in self.crash_limits().release(&now) {
            if let Err(error) = self.store_crash_event(&event) {
                self.log(priority::WARNING, &error.to_string());
                return;
            }
        }
        drop(self.change_crash_limits(|limits| limits.release(&now)));
    }

    /// When something that is held back may be sent.
    pub(super) fn crash_release_due(&self) -> Option<i64> {
        let now = self.moment();
        self.crash_limits().next_release(&now)
    }

    /// Until when the server wants no crash reports.
    pub(super) fn crashes_paused_until(&self) -> i64 {
        let now = self.moment();
        self.crash_limits().paused_until(&now)
    }

    fn crash_limits(&self) -> CrashLimits {
        match self.disk() {
            Some(dir) => limit::read(dir),
            None => lock(&self.crash_limits).clone(),
        }
    }

    /// Forgets what is held back: the switch has gone off.
    pub(super) fn forget_held_crashes(&self) -> Result<(), Error> {
        *lock(&self.crash_limits) = CrashLimits::default();
        self.config.state_dir.as_ref().map_or(Ok(()), limit::forget)
    }

    /// Changes what is remembered of crash reports, by all processes on the state directory.
    pub(super) fn change_crash_limits<T>(&self, change: impl FnOnce(&mut CrashLimits) -> T) -> T {
        let Some(dir) = self.disk() else { return change(&mut lock(&self.crash_limits)) };
        let (outcome, complaint) = limit::change(dir, change);
        if let Some(complaint) = complaint {
            self.complain_of_disk(&complaint);
        }
        outcome
    }

    fn store_crash_event(&self, event: &Value) -> Result<(), Error> {
        let event_id = event["event_id"].as_str().unwrap_or_default();
        let stored = store_event(&self.crashes, event_id, event).and_then(|(mut claim, dropped)| {
            claim.sync()?;
            Ok(dropped)
        });
        let dropped = match stored {
            Ok(dropped) => dropped,
            Err(error) => {
                let dropped = keep_in_memory(&self.crashes, event_id, event)?;
                if !self.has_worker() {
                    return Err(error);
                }
                self.complain_of_disk(&format!("{error}; the crash report is kept in memory until it is delivered"));
                dropped
            }
        };
        if dropped > 0 {
            self.log(
                priority::WARNING,
                &format!("{dropped} undelivered crash reports were dropped: the spool is full"),
            );
        }
        Ok(())
    }
}
