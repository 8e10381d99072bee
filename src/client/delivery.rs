//! Delivery of what is stored, and when it is tried again.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::{Core, Pace, Pacing, lock, priority};
use crate::crash::delivery::{Sent, send_event};
use crate::error::Error;
use crate::memory::LastReport;
use crate::report::delivery;
use crate::schedule;
use crate::spool::{Claim, Spool};
use crate::switches::Switch;
use crate::transport::https::Request;

impl Core {
    /// Delivers what is stored, oldest first, until the deadline. [`Error::Queued`] when something is left.
    pub(super) fn deliver_stored(&self, deadline: Instant) -> Result<(), Error> {
        self.deliver(deadline, true, true)
    }

    fn deliver(&self, deadline: Instant, crashes: bool, reports: bool) -> Result<(), Error> {
        let mut failure = None;
        for entry in self.stored(&self.crashes, crashes && self.config.sentry_dsn.is_some())? {
            if let Some(claim) = self.crashes.claim(&entry)?
                && let Err(error) = self.deliver_crash(claim, deadline)
            {
                failure = Some(error);
                break;
            }
        }
        for entry in self.stored(&self.reports, reports && self.config.report_url.is_some())? {
            if let Some(claim) = self.reports.claim(&entry)?
                && let Err(error) = self.deliver_report(claim, deadline)
                && !matches!(error, Error::Refused(_))
            {
                failure = Some(error);
                break;
            }
        }
        match failure {
            None => Ok(()),
            Some(error @ (Error::Disabled(_) | Error::Queued(_))) => Err(error),
            Some(error) => Err(Error::Queued(format!("something is still stored: {error}"))),
        }
    }

    fn stored(&self, spool: &Spool, has_receiver: bool) -> Result<Vec<String>, Error> {
        if !has_receiver {
            return Ok(Vec::new());
        }
        Ok(spool.entries()?.into_iter().map(|entry| entry.name).collect())
    }

    /// When something stored is to be tried; none when nothing is stored.
    pub fn delivery_due(&self) -> Option<i64> {
        let pacing = lock(&self.pacing);
        let due = |spool: &Spool, has_receiver: bool, switch: Switch, pace: Pace| {
            let is_waiting =
                self.switches.is_on(switch) && self.stored(spool, has_receiver).is_ok_and(|names| !names.is_empty());
            is_waiting.then_some(pace.not_before)
        };
        let reports = due(&self.reports, self.config.report_url.is_some(), Switch::DailyReport, pacing.reports);
        let crashes = due(&self.crashes, self.config.sentry_dsn.is_some(), Switch::CrashReports, pacing.crashes);
        reports.into_iter().chain(crashes).min()
    }

    /// Tries everything stored once, but for what has to wait.
    pub fn deliver_due(&self) {
        let deadline = Instant::now() + self.config.timeout.saturating_mul(4);
        let now = self.now();
        let (crashes, reports) = {
            let pacing = lock(&self.pacing);
            (pacing.crashes.not_before <= now, pacing.reports.not_before <= now)
        };
        if let Err(error) = self.deliver(deadline, crashes, reports) {
            // Also when the failure came before a server was asked: nothing is retried without a pause.
            let mut pacing = lock(&self.pacing);
            let soonest = self.now() + 60;
            pacing.reports.not_before = pacing.reports.not_before.max(soonest);
            pacing.crashes.not_before = pacing.crashes.not_before.max(soonest);
            drop(pacing);
            self.log(priority::DEBUG, &error.to_string());
        }
    }

    pub(super) fn deliver_report(&self, mut claim: Claim<'_>, deadline: Instant) -> Result<(), Error> {
        let Some(url) = &self.config.report_url else { return Ok(()) };
        let Some((day, id)) = day_and_id(claim.name()) else {
            let why = format!("the stored report {} has no report's name and is set aside", claim.name());
            self.log(priority::WARNING, &why);
            return claim.set_aside();
        };
        let permit = self.switches.permit(Switch::DailyReport)?;
        let request = Request {
            method: "PUT",
            url: &url.join(&format!("v1/reports/{id}")),
            headers: &[("Content-Type", "application/vnd.ondat.telemetry-report")],
            content: claim.content()?,
            timeout: self.time_left(deadline)?,
        };
        let answer = match self.surroundings.https.send(permit, &request) {
            Ok(answer) => answer,
            Err(error @ Error::Disabled(_)) => {
                self.purge_what_is_off();
                return Err(error);
            }
            Err(error) => return Err(self.queue_report(0, &error.to_string())),
        };
        match delivery::outcome(&answer) {
            delivery::Outcome::Delivered => {
                claim.remove()?;
                lock(&self.pacing).reports = Pace::default();
                self.note_report(LastReport { day, delivered_at: Some(self.now()) });
                self.log(priority::INFO, &format!("daily report {id} delivered to {url}"));
                Ok(())
            }
            delivery::Outcome::Rejected => {
                claim.remove()?;
                self.forget_report(day);
                self.slow_down(|pacing| &mut pacing.reports, 0);
                let error = Error::Refused(format!(
                    "{url} refused the report for good (HTTP {}); it is dropped",
                    answer.status
                ));
                self.log(priority::WARNING, &error.to_string());
                Err(error)
            }
            delivery::Outcome::Later(wait) => Err(self.queue_report(
                i64::try_from(wait.as_secs()).unwrap_or(0),
                &format!("{url} answered HTTP {}", answer.status),
            )),
            delivery::Outcome::Middlebox => {
                let why = format!("HTTP {} that is not from the collector, for {url}", answer.status);
                Err(self.queue_report(6 * 3600, &why))
            }
        }
    }

    fn queue_report(&self, at_least: i64, why: &str) -> Error {
        let wait = self.slow_down(|pacing| &mut pacing.reports, at_least);
        Error::Queued(format!("the report is stored and tried again in {wait} s: {why}"))
    }

    pub(super) fn slow_down(&self, pace: impl FnOnce(&mut Pacing) -> &mut Pace, at_least: i64) -> i64 {
        let mut pacing = lock(&self.pacing);
        let pace = pace(&mut pacing);
        pace.failures = pace.failures.saturating_add(1);
        let wait = schedule::delivery_retry(pace.failures, (self.surroundings.random)()).max(at_least);
        pace.not_before = self.now() + wait;
        wait
    }

    fn time_left(&self, deadline: Instant) -> Result<Duration, Error> {
        let left = deadline.saturating_duration_since(Instant::now()).min(self.config.timeout);
        if left.is_zero() {
            Err(Error::TimedOut("no time was left to deliver it; it stays stored".to_owned()))
        } else {
            Ok(left)
        }
    }

    fn deliver_crash(&self, claim: Claim<'_>, deadline: Instant) -> Result<(), Error> {
        let permit = self.switches.permit(Switch::CrashReports)?;
        let timeout = self.time_left(deadline)?;
        let now = (self.surroundings.now)();
        match send_event(&*self.surroundings.https, permit, self.dsn()?, claim, now, timeout) {
            Ok(Sent::Delivered) => {
                lock(&self.pacing).crashes = Pace::default();
                self.log(priority::INFO, "crash report delivered");
                Ok(())
            }
            Ok(Sent::Dropped(why)) => {
                self.log(priority::WARNING, &why);
                Ok(())
            }
            Ok(Sent::Later { at_least, why }) => {
                let wait = self.slow_down(|pacing| &mut pacing.crashes, i64::try_from(at_least.as_secs()).unwrap_or(0));
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
    let midnight = humantime::parse_rfc3339(&format!("{date}T00:00:00Z")).ok()?;
    let seconds = midnight.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let id = id.strip_prefix('-').filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some((schedule::day(i64::try_from(seconds).ok()?), id.to_owned()))
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
