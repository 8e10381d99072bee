//! What the next report would be, for an administrator who asks this process. It is gathered like the report of the
//! day, and neither sent nor stored.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use nix::errno::Errno;
use ondat_telemetry_protocol::time::date;

use super::{Core, lock};
use crate::ask::Asker;
use crate::callbacks::priority;
use crate::error::Error;
use crate::presence::Presence;
use crate::switch::Switch;
use crate::sys::descriptor::{self, Owned};

/// The socket at which this process is asked.
#[derive(Default)]
pub(super) struct Door {
    listener: Option<Arc<Owned>>,
    /// Whether the log has said that it cannot be opened.
    is_told: bool,
}

impl Door {
    fn is_open(&self) -> bool {
        self.listener.as_ref().is_some_and(|listener| listener.get().is_some())
    }
}

impl Core {
    /// Has the process be found by who asks, from `start` to `close`: also where the state directory can be used only since now,
    /// where it is another one than before, and where the host has closed the socket. What is removed from the one that it was is
    /// not put there again: whoever removes a directory removes one thing after the other.
    pub(super) fn keep_door(&self, is_anew: bool) {
        // The holder is announcing the process, or withdrawing it.
        let Ok(mut presence) = self.presence.try_lock() else { return };
        if self.is_closing() || self.disk().is_none() {
            return;
        }
        let kept = self.keep_present(&mut presence, is_anew);
        // Not held while the host's code runs, which may change the switches.
        drop(presence);
        let before = std::mem::replace(&mut lock(&self.door).is_told, kept.is_err());
        if let (Err(error), false) = (kept, before) {
            self.log(priority::INFO, &format!("`ondat-telemetry report next` cannot ask this process: {error}"));
        }
    }

    fn keep_present(&self, presence: &mut Option<Presence>, is_anew: bool) -> Result<(), Error> {
        let Some(dir) = &self.config.state_dir else { return Ok(()) };
        if self.callbacks().is_none_or(|callbacks| callbacks.on_report.is_none()) {
            return Ok(());
        }
        let presence = match presence {
            Some(presence) => presence,
            None => presence.insert(Presence::announce(dir, &self.process())?),
        };
        if lock(&self.door).is_open() && (!is_anew || presence.has_door()) {
            return Ok(());
        }
        // With a directory made anew, what it says is gone as well.
        presence.say(&self.process())?;
        let listener = Arc::new(presence.open_door()?);
        lock(&self.door).listener = Some(listener);
        Ok(())
    }

    /// Accepts no more connections.
    pub(super) fn shut_door(&self) {
        lock(&self.door).listener = None;
    }

    /// The socket to wait at.
    pub(super) fn door(&self) -> Option<Arc<Owned>> {
        let door = lock(&self.door);
        door.listener.clone().filter(|_| door.is_open())
    }

    /// The next connection at the socket. The error means that none can be accepted.
    pub(super) fn visitor(&self) -> Result<Option<OwnedFd>, Errno> {
        match self.door().as_ref().and_then(|door| door.get()) {
            Some(door) => descriptor::accept(door),
            None => Ok(None),
        }
    }

    /// Gathers the report for the asker.
    pub(super) fn answer(&self, visitor: OwnedFd) {
        let Ok(asker) = Asker::hear(visitor) else { return };
        let (status, said) = match self.gather(&asker) {
            Ok(said) => (0, said),
            Err(error) => (error.status() as u8, error.to_string()),
        };
        // A child that was forked in the callback: the parent answers.
        if self.is_forked() {
            return;
        }
        self.log(priority::INFO, &format!("daily report: uid {} has asked what would be sent: {said}", asker.uid));
        asker.end(status, &said);
    }

    /// How long it would be sealed, its id and its day.
    fn gather(&self, asker: &Asker) -> Result<String, Error> {
        asker.check_user()?;
        let permit = self.switches.permit(Switch::DailyReport)?;
        let interrupt = Arc::clone(&asker.interrupt);
        permit.on_revoke(move || interrupt.raise());
        let closing = || Err(Error::InvalidState("the client is closing".to_owned()));
        if self.is_closing() {
            return closing();
        }
        self.has_collector()?;
        let now = self.now();
        let measure = self.reports.create_to_measure();
        let sealed = self.seal_report(now, measure, None, Some(asker), &|report| self.fill_by_callback(report));
        if permit.is_revoked() {
            // This returns the source that turned it off; otherwise the client is closing.
            drop(self.switches.permit(Switch::DailyReport)?);
            return closing();
        }
        let (bytes, day) = (sealed?.1.written(), date(now));
        Ok(format!("{bytes} {} {day}", HEXLOWER.encode(&self.config.identity.report_id(&day))))
    }
}
