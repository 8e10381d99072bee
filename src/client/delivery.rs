//! Delivery of what is stored, and when it is tried again.

use std::time::{Duration, Instant};

use ondat_telemetry_protocol::identity::is_hex_id;
use ondat_telemetry_protocol::{frame, time};

use super::{Core, lock};
use crate::callbacks::priority;
use crate::crash::delivery::{Sent, send_event};
use crate::error::Error;
use crate::report::delivery::{self, Answerer};
use crate::report::memory::{self, Try};
use crate::schedule::{self, Pace};
use crate::spool::{Claim, Spool};
use crate::switch::Switch;
use crate::switches::Permit;
use crate::transport::https::{Content, Request};

/// What can wait for delivery.
#[derive(Clone, Copy)]
pub(super) enum Queue {
    Crashes,
    Reports,
}

/// The shortest pause between two tries of one queue, in seconds.
const SHORTEST_PAUSE: i64 = 60;
/// The pause before an item that another process had claimed is looked at again, in seconds.
const CLAIMED_PAUSE: i64 = 1;

/// How a report that was not taken waits, and for how long at least.
#[derive(Clone, Copy)]
enum Wait {
    Short(Duration),
    Long(Duration),
}

/// How often a file that another process is delivering is looked at.
const CLAIMED_LOOK: Duration = Duration::from_millis(20);

/// What is left of a queue that was tried.
#[derive(Default)]
struct Left {
    /// Items that another thread or process is delivering.
    claimed: Vec<String>,
    /// Why one of them could not be tried.
    unusable: Option<Error>,
}

/// The worker is delivering, while this lives.
struct Delivering<'a>(&'a Core);

impl<'a> Delivering<'a> {
    fn begin(core: &'a Core) -> Self {
        *lock(&core.delivering.0) = true;
        Self(core)
    }
}

impl Drop for Delivering<'_> {
    fn drop(&mut self) {
        *lock(&self.0.delivering.0) = false;
        self.0.delivering.1.notify_all();
    }
}

impl Core {
    /// Delivers what is stored, oldest first, until the deadline. [`Error::Queued`] when something is left.
    pub(super) fn deliver_stored(&self, deadline: Instant) -> Result<(), Error> {
        // Both are tried, whatever becomes of the first.
        let outcomes = [Queue::Crashes, Queue::Reports].map(|queue| self.deliver_all(queue, deadline));
        for outcome in outcomes {
            match outcome {
                Ok(()) => {}
                Err(error @ (Error::Disabled(_) | Error::Queued(_))) => return Err(error),
                Err(error) => return Err(Error::Queued(format!("something is still stored: {error}"))),
            }
        }
        Ok(())
    }

    /// Delivers what is stored for this switch.
    pub(super) fn deliver(&self, switch: Switch, deadline: Instant) -> Result<(), Error> {
        drop(self.permit(switch)?);
        match switch {
            Switch::VersionCheck => Ok(()),
            Switch::DailyReport => self.deliver_all(Queue::Reports, deadline),
            Switch::CrashReports => {
                self.dsn()?;
                self.deliver_all(Queue::Crashes, deadline)
            }
        }
    }

    /// Delivers a queue. Waits for what the worker or another process is delivering meanwhile.
    fn deliver_all(&self, queue: Queue, deadline: Instant) -> Result<(), Error> {
        loop {
            let left = self.deliver_queue(queue, deadline)?;
            if let Some(error) = left.unusable {
                return Err(Error::Queued(format!("something is still stored: {error}")));
            }
            let Some(name) = left.claimed.first() else { return Ok(()) };
            let time = deadline.saturating_duration_since(Instant::now());
            if time.is_zero() {
                return Err(Error::Queued(format!("{name} is being delivered by somebody else; it is stored")));
            }
            let (is_delivering, changed) = &self.delivering;
            let before = lock(is_delivering);
            // A process of its own says nothing when it is done.
            let pause = if *before { time } else { time.min(CLAIMED_LOOK) };
            let has_begun = *before;
            drop(changed.wait_timeout_while(before, pause, |is_delivering| *is_delivering == has_begun));
        }
    }

    /// Tries everything in a queue once. What could not be tried.
    fn deliver_queue(&self, queue: Queue, deadline: Instant) -> Result<Left, Error> {
        let (names, unusable) = self.waiting(queue);
        if let Some(error) = &unusable {
            self.log(priority::DEBUG, &error.to_string());
        }
        let mut left = Left { unusable, ..Left::default() };
        for name in names {
            if matches!(queue, Queue::Crashes) {
                let wait = self.crashes_paused_until() - self.now();
                if wait > 0 {
                    return Err(Error::Queued(format!("the crash server wants nothing for {wait} s; it is stored")));
                }
            }
            let claim = match self.spool(queue).claim(&name) {
                Ok(Some(claim)) => claim,
                Ok(None) => {
                    left.claimed.push(name);
                    continue;
                }
                // An entry that cannot be opened is skipped.
                Err(error) => {
                    self.log(priority::DEBUG, &error.to_string());
                    left.unusable = Some(error);
                    continue;
                }
            };
            let delivered = match queue {
                Queue::Crashes => self.deliver_crash(claim, deadline),
                Queue::Reports => self.deliver_report(claim, deadline),
            };
            match delivered {
                // Dropped and logged; the next one may fare better.
                Ok(()) | Err(Error::Refused(_)) => {}
                // As above: one that cannot be read, or not be removed.
                Err(error @ Error::Io(_)) => left.unusable = Some(error),
                Err(error) => return Err(error),
            }
        }
        left.claimed.retain(|name| !self.spool(queue).has(name).is_ok_and(|is_there| !is_there));
        self.say_what_disk_lacks();
        Ok(left)
    }

    fn spool(&self, queue: Queue) -> &Spool {
        match queue {
            Queue::Crashes => &self.crashes,
            Queue::Reports => &self.reports,
        }
    }

    /// The names of what waits, oldest first; nothing while there is nobody to take it, or leave to send it. Where the disk
    /// cannot be read, what waits in memory, and why.
    fn waiting(&self, queue: Queue) -> (Vec<String>, Option<Error>) {
        let (has_receiver, switch) = match queue {
            Queue::Crashes => (self.config.given.sentry_dsn.is_some(), Switch::CrashReports),
            Queue::Reports => (self.config.given.report_url.is_some(), Switch::DailyReport),
        };
        if !has_receiver || !self.switches.is_on(switch) {
            return (Vec::new(), None);
        }
        let spool = self.spool(queue);
        let (entries, unusable) =
            spool.entries().map_or_else(|error| (spool.in_memory(), Some(error)), |entries| (entries, None));
        (entries.into_iter().map(|entry| entry.name).collect(), unusable)
    }

    /// When something stored is to be tried; none when nothing is stored.
    pub fn delivery_due(&self) -> Option<i64> {
        let held = (self.config.given.sentry_dsn.is_some() && self.switches.is_on(Switch::CrashReports))
            .then(|| self.crash_release_due())
            .flatten();
        let queues = [Queue::Crashes, Queue::Reports].into_iter();
        let waiting = queues.filter(|queue| !self.waiting(*queue).0.is_empty());
        waiting.map(|queue| self.not_before(queue)).chain(held).min()
    }

    /// Tries everything stored once, but for what has to wait.
    pub fn deliver_due(&self) {
        let _delivering = Delivering::begin(self);
        self.release_held_crashes();
        let deadline = Instant::now() + self.config.given.timeout.saturating_mul(4);
        for queue in [Queue::Crashes, Queue::Reports] {
            if self.not_before(queue) > self.now() {
                continue;
            }
            let claimed = match self.deliver_queue(queue, deadline) {
                Ok(left) => left.claimed,
                // Turned off meanwhile: what is stored once it is on again need not wait for what is gone.
                Err(Error::Disabled(_)) => continue,
                Err(error) => {
                    self.log(priority::DEBUG, &error.to_string());
                    Vec::new()
                }
            };
            let (waiting, _) = self.waiting(queue);
            // Also where no server was asked: nothing is retried without a pause. Another process may give back what it has,
            // or is only storing.
            if !waiting.is_empty() {
                let is_claimed = waiting.iter().all(|name| claimed.contains(name));
                let pause = if is_claimed { CLAIMED_PAUSE } else { SHORTEST_PAUSE };
                let now = self.moment();
                self.change_pace(queue, |pace| pace.hold(&now, pause));
            }
        }
    }

    /// Leave to send something that is stored, and that is removed where it has been turned off.
    fn permit_stored(&self, switch: Switch) -> Result<Permit, Error> {
        self.permit(switch).inspect_err(|error| {
            if matches!(error, Error::Disabled(_)) {
                self.purge_what_is_off();
            }
        })
    }

    /// When this queue may be tried again.
    pub(super) fn not_before(&self, queue: Queue) -> i64 {
        let now = self.moment();
        match queue {
            Queue::Crashes => {
                let paused_until = self.crashes_paused_until();
                lock(&self.crash_pace).not_before(&now).max(paused_until)
            }
            Queue::Reports => lock(&self.reports_known).memory.pace.not_before(&now),
        }
    }

    fn change_pace(&self, queue: Queue, change: impl FnOnce(&mut Pace)) {
        match queue {
            Queue::Crashes => change(&mut lock(&self.crash_pace)),
            Queue::Reports => self.change_reports(|memory| change(&mut memory.pace)),
        }
    }

    /// Sends one stored report and does what the answer says: it is gone, was refused for good, or waits on.
    pub(super) fn deliver_report(&self, claim: Claim<'_>, deadline: Instant) -> Result<(), Error> {
        let Some(url) = &self.config.given.report_url else { return Ok(()) };
        let Some((mut claim, day, id)) = self.whole_report(claim)? else { return Ok(()) };
        let permit = self.permit_stored(Switch::DailyReport)?;
        let bytes = claim.size()?;
        let request = Request {
            method: "PUT",
            url: &url.join(&format!("v1/reports/{id}")),
            headers: &[("Content-Type", "application/vnd.ondat.telemetry-report")],
            content: claim.content()?,
            wants: &delivery::WANTED,
            timeout: self.time_left(deadline).map_err(|error| Error::Queued(error.to_string()))?,
        };
        let proxy = self.config.given.https.proxy_of(url).map(|proxy| proxy.map(|proxy| proxy.address()));
        let tried = Try {
            at: self.now(),
            report_id: id,
            day,
            bytes,
            url: url.to_string(),
            proxy: proxy.unwrap_or_default(),
            ..Try::default()
        };
        let answer = match self.followed(|| self.surroundings.https.send(permit, &request)) {
            Ok(answer) => answer,
            Err(error @ Error::Disabled(_)) => {
                self.purge_what_is_off();
                return Err(error);
            }
            Err(error) => return Err(self.queue_report(tried, Wait::Short(Duration::ZERO), &error.to_string())),
        };
        let status = answer.status;
        match delivery::outcome(&answer, self.now()) {
            delivery::Outcome::Delivered => self.report_delivered(claim, tried, status),
            delivery::Outcome::Rejected => self.report_refused(claim, tried, status),
            delivery::Outcome::Later(at_least) => {
                Err(self.queue_report(tried, Wait::Short(at_least), &format!("{url} answered HTTP {status}")))
            }
            delivery::Outcome::MuchLater { by, at_least } => {
                let why = match by {
                    Answerer::WithoutTheKey => {
                        format!("{url} does not know the key that the report is sealed for (HTTP {status})")
                    }
                    Answerer::Collector => format!("{url} answered HTTP {status}"),
                    Answerer::Middlebox => format!("HTTP {status} that is not from the collector, for {url}"),
                };
                Err(self.queue_report(tried, Wait::Long(at_least), &why))
            }
        }
    }

    /// A stored report with its UTC day and its id. None where it is not one, or is damaged: it is set aside.
    fn whole_report<'a>(&self, mut claim: Claim<'a>) -> Result<Option<(Claim<'a>, i64, String)>, Error> {
        let Some((day, id)) = day_and_id(claim.name()) else {
            let why = format!("the stored report {} has no report's name and is set aside", claim.name());
            self.log(priority::WARNING, &why);
            return claim.set_aside().map(|()| None);
        };
        let is_whole = match claim.content()? {
            Content::Bytes(bytes) => frame::is_whole(bytes, &id),
            Content::File(file) => frame::is_whole(file, &id),
        };
        if is_whole.map_err(|error| Error::Io(format!("stored report {id}: {error}")))? {
            return Ok(Some((claim, day, id)));
        }
        let why = format!("the stored report {} is damaged and is set aside", claim.name());
        self.log(priority::WARNING, &why);
        self.change_reports(|memory| memory.forget(&self.cluster_id(), day));
        claim.set_aside().map(|()| None)
    }

    fn report_delivered(&self, claim: Claim<'_>, mut tried: Try, status: u16) -> Result<(), Error> {
        claim.remove()?;
        tried.end(memory::Outcome::Delivered, &format!("HTTP {status}"));
        let line = format!("daily report {} delivered to {}", tried.report_id, tried.url);
        self.change_reports(|memory| {
            memory.note_delivered(&self.cluster_id(), tried.day, tried.at);
            memory.note_try(tried);
        });
        self.log(priority::INFO, &line);
        Ok(())
    }

    fn report_refused(&self, claim: Claim<'_>, mut tried: Try, status: u16) -> Result<(), Error> {
        claim.remove()?;
        tried.end(memory::Outcome::Refused, &format!("HTTP {status}"));
        let why = format!("{} refused the report for good (HTTP {status}); it is dropped", tried.url);
        let (now, random) = (self.moment(), (self.surroundings.random)());
        self.change_reports(|memory| {
            memory.forget(&self.cluster_id(), tried.day);
            memory.pace.failed(&now, 0, random);
            memory.note_try(tried);
        });
        self.log(priority::WARNING, &why);
        Err(Error::Refused(why))
    }

    fn queue_report(&self, mut tried: Try, wait: Wait, why: &str) -> Error {
        tried.end(memory::Outcome::Stored, why);
        let (now, random) = (self.moment(), (self.surroundings.random)());
        let seconds = |at_least: Duration| i64::try_from(at_least.as_secs()).unwrap_or(i64::MAX);
        let mut left = 0;
        self.change_reports(|memory| {
            left = match wait {
                Wait::Short(at_least) => memory.pace.failed(&now, seconds(at_least), random),
                Wait::Long(at_least) => memory.pace.failed_for_long(&now, seconds(at_least), random),
            };
            memory.note_try(tried);
        });
        Error::Queued(format!("the report is stored and tried again in {left} s: {why}"))
    }

    /// Notes a failure of this queue. Returns how many seconds it waits now.
    pub(super) fn slow_down(&self, queue: Queue, at_least: i64) -> i64 {
        let (now, random) = (self.moment(), (self.surroundings.random)());
        let mut wait = 0;
        self.change_pace(queue, |pace| wait = pace.failed(&now, at_least, random));
        wait
    }

    fn time_left(&self, deadline: Instant) -> Result<Duration, Error> {
        let left = deadline.saturating_duration_since(Instant::now()).min(self.config.given.timeout);
        if left.is_zero() {
            Err(Error::TimedOut("no time was left to deliver it; it stays stored".to_owned()))
        } else {
            Ok(left)
        }
    }

    fn deliver_crash(&self, claim: Claim<'_>, deadline: Instant) -> Result<(), Error> {
        let permit = self.permit_stored(Switch::CrashReports)?;
        let timeout = self.time_left(deadline)?;
        let now = self.now();
        let dsn = self.dsn()?;
        let sent = self.followed(|| send_event(&*self.surroundings.https, permit, dsn, claim, now, timeout));
        if let Ok((_, Some(pause))) = &sent {
            let (now, seconds) = (self.moment(), i64::try_from(pause.as_secs()).unwrap_or(i64::MAX));
            self.change_crash_limits(|limits| limits.pause(&now, seconds));
        }
        let sent = sent.map(|(sent, _)| sent);
        let wait = match &sent {
            Ok(Sent::Later { at_least, .. }) => {
                self.slow_down(Queue::Crashes, i64::try_from(at_least.as_secs()).unwrap_or(0))
            }
            _ => 0,
        };
        if let (Ok(sent), Some(dir)) = (&sent, self.disk()) {
            let now = self.now();
            sent.note(dir, now, (wait > 0).then_some(now + wait));
        }
        match sent {
            Ok(Sent::Delivered) => {
                *lock(&self.crash_pace) = Pace::default();
                self.log(priority::INFO, "crash report delivered");
                Ok(())
            }
            Ok(Sent::Dropped(why)) => {
                self.log(priority::WARNING, &why);
                Ok(())
            }
            Ok(Sent::Later { why, .. }) => {
                Err(Error::Queued(format!("the crash report is stored and tried again in {wait} s: {why}")))
            }
            Err(error @ Error::Disabled(_)) => {
                self.purge_what_is_off();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// The UTC day and the report id in the name of a stored report, `YYYY-MM-DD-<32 hex digits>.otr`.
fn day_and_id(name: &str) -> Option<(i64, String)> {
    let (date, id) = name.strip_suffix(".otr")?.split_at_checked(10)?;
    let id = id.strip_prefix('-').filter(|id| is_hex_id(id))?;
    Some((schedule::day(time::parse_date(date)?), id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_reports_name_says_its_day_and_id() {
        let id = "00112233445566778899aabbccddeeff";
        assert_eq!(day_and_id(&format!("1970-01-03-{id}.otr")), Some((2, id.to_owned())));
        for name in [
            "",
            "x.otr",
            "1970-01-03-abc.otr",
            "1970-13-03-00112233445566778899aabbccddeeff.otr",
            "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}.otr",
        ] {
            assert_eq!(day_and_id(name), None, "{name}");
        }
    }
}
