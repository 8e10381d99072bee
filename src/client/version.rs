//! The version check of a client.
//!
//! Its locks, from the outermost: the turn (`version_turn`, between the threads of this process), the lock file of
//! `version.json` (between processes), and what is known (`version`, never held while a disk is used, because
//! `latest_version` takes it).

use std::time::Duration;

use ondat_telemetry_protocol::answer::{Answer, Judge};
use ondat_telemetry_protocol::query::Query;

use super::{Core, lock};
use crate::callbacks::{VersionInfo, in_callback, priority};
use crate::config::Config;
use crate::error::{Error, Status};
use crate::schedule::{self, Timer};
use crate::state::StateDir;
use crate::switch::Switch;
use crate::switches::Permit;
use crate::sys::clock::Moment;
use crate::version::memory::{Told, VersionMemory};
use crate::version::verdict::Verdict;

/// What a client knows about versions.
#[derive(Default)]
pub(super) struct Known {
    told: Told,
    /// The answer in `told`, read and found acceptable.
    answer: Option<Answer>,
    /// When the newest answer of the zone to any version was issued: an older one is a replay.
    newest_issued: i64,
    announced: Option<VersionInfo>,
    /// The wait of every process at its start.
    at_start: Option<Timer>,
    /// How the last scheduled check failed, until one succeeds.
    failure: Option<Status>,
    /// Whether the state directory knows less than `told`.
    is_unsaved: bool,
}

impl Known {
    /// What is remembered, and why it is not believed where it is not.
    pub(super) fn recall(config: &Config, memory: &VersionMemory, at_start: Timer) -> (Self, Option<String>) {
        let mut known = Self { at_start: Some(at_start), ..Self::default() };
        known.told.label.clone_from(&config.version_label);
        known.told.zone = config.given.version_zone.clone().unwrap_or_default();
        let complaint = known.take(config, memory);
        (known, complaint)
    }

    /// Takes what this or another process has remembered. The verdict known here is not lost by it.
    fn take(&mut self, config: &Config, memory: &VersionMemory) -> Option<String> {
        let zone = config.given.version_zone.as_deref()?;
        let mut complaint = None;
        for told in memory.told.iter().filter(|told| told.zone == zone) {
            let is_own = told.label == self.told.label;
            let answer = told.answer.as_ref().map(|text| remembered_answer(config, zone, told, text));
            if is_own {
                self.told.next.clone_from(&told.next);
                self.told.failures = told.failures;
            }
            match answer {
                Some(Ok(answer)) => {
                    self.newest_issued = self.newest_issued.max(answer.issued);
                    // Not by the time of the check: clocks are set back, what the vendor issued is not.
                    if is_own && self.answer.as_ref().is_none_or(|known| known.issued <= answer.issued) {
                        self.told = told.clone();
                        self.answer = Some(answer);
                    }
                }
                Some(Err(why)) if is_own && self.answer.is_none() => {
                    // Asked anew when the process has started, and forgotten with that.
                    self.told.next = None;
                    complaint = Some(format!("what is remembered of the version check does not count: {why}"));
                }
                _ => {}
            }
        }
        complaint
    }

    fn info(&self, config: &Config, now: i64) -> VersionInfo {
        let running = config.version_text.clone();
        let Some(answer) = &self.answer else { return VersionInfo { running, ..VersionInfo::default() } };
        let verdict = Verdict::at(now, &config.version, answer);
        VersionInfo {
            running,
            latest: Some(answer.latest.to_string()),
            advisory: verdict.advisory(answer).map(str::to_owned),
            verdict,
            authenticated: answer.authenticated,
            checked_at: self.told.checked_at,
            expires: Some(answer.expires),
        }
    }
}

/// The answer of an earlier run, judged anew by the keys of today at the time when it came.
fn remembered_answer(config: &Config, zone: &str, told: &Told, text: &str) -> Result<Answer, String> {
    let judge = Judge {
        zone,
        version_label: &told.label,
        keys: &config.given.version_keys,
        now: told.checked_at,
        newest_issued: 0,
    };
    judge.first_acceptable(&[text.as_bytes().to_vec()]).map(|(answer, _)| answer)
}

/// What is remembered by all processes, and what is to be said about the file. One that cannot be read counts as empty:
/// that is said by whoever cannot write it either.
fn read_memory(dir: &StateDir) -> (VersionMemory, Option<String>) {
    VersionMemory::load(dir).unwrap_or_default()
}

impl Core {
    /// Asks the zone now and remembers the answer.
    pub fn check_version(&self, timeout: Duration) -> Result<VersionInfo, Error> {
        let (zone, permit) = self.may_ask()?;
        self.update_known(|known| self.note_asking(&mut known.told));
        self.ask(zone, permit, timeout)
    }

    /// Asks, if it is still due, and says in the log how it went where that has changed.
    pub fn make_scheduled_version_check(&self) {
        let asked = self.may_ask().and_then(|(zone, permit)| {
            let is_ours = self.update_known(|known| {
                let now = self.moment();
                // Another process on the state directory may have asked meanwhile.
                let is_due = known.told.next.as_ref().is_none_or(|next| next.due(&now) <= now.unix);
                if is_due {
                    self.note_asking(&mut known.told);
                }
                is_due
            });
            if is_ours {
                self.ask(zone, permit, self.config.given.timeout).map(drop)?
            };
            Ok(is_ours)
        });
        self.announce_version();
        if matches!(asked, Ok(false) | Err(Error::Disabled(_))) {
            return;
        }
        let failure = asked.as_ref().err().map(Error::status);
        let before = std::mem::replace(&mut lock(&self.version).failure, failure);
        match asked {
            Err(error) => {
                let priority = match error {
                    _ if before == failure => priority::DEBUG,
                    Error::Untrusted(_) => priority::WARNING,
                    _ => priority::INFO,
                };
                self.log(priority, &format!("version check: {error}; it is tried again, later and later"));
            }
            Ok(_) if before.is_some() => self.log(priority::INFO, "version check: answered again"),
            Ok(_) => {}
        }
    }

    fn may_ask(&self) -> Result<(&str, Permit), Error> {
        let zone = self.config.given.version_zone.as_deref();
        let zone =
            zone.ok_or_else(|| Error::InvalidConfig("version_zone is not set: there is nobody to ask".to_owned()))?;
        Ok((zone, self.permit(Switch::VersionCheck)?))
    }

    /// Noted before asking, so that a process that dies while asking does not ask again at once, and counted as a
    /// failure until it is none.
    fn note_asking(&self, told: &mut Told) {
        told.failures = told.failures.saturating_add(1);
        let wait = schedule::version_check_retry(told.failures, (self.surroundings.random)());
        told.next = Some(Timer { since: self.moment(), wait });
    }

    fn ask(&self, zone: &str, permit: Permit, timeout: Duration) -> Result<VersionInfo, Error> {
        let asked = self.ask_zone(zone, permit, timeout);
        self.note_outcome(Switch::VersionCheck, asked.as_ref().err(), None);
        asked
    }

    fn ask_zone(&self, zone: &str, permit: Permit, timeout: Duration) -> Result<VersionInfo, Error> {
        let asked_at = self.moment();
        let query = Query {
            cluster: self.config.cluster,
            node: self.config.node,
            day: u16::try_from(schedule::day(asked_at.unix)).unwrap_or(0),
            version: self.config.version_label.clone(),
        };
        let name = match &self.config.given.version_seal_key {
            None => query.name(zone),
            Some(key) => {
                query.sealed_name(zone, key).map_err(|error| Error::Internal(format!("version query: {error}")))?
            }
        };
        let texts = self.followed(|| self.surroundings.dns.txt(permit, &name, timeout))?;
        let judge = Judge {
            zone,
            version_label: &self.config.version_label,
            keys: &self.config.given.version_keys,
            now: self.now(),
            newest_issued: lock(&self.version).newest_issued,
        };
        let (answer, text) = judge.first_acceptable(&texts).map_err(Error::Untrusted)?;
        self.update_known(|known| {
            known.told.answer = Some(text);
            known.told.checked_at = asked_at.unix;
            known.told.failures = 0;
            known.told.authenticated = Some(answer.authenticated);
            let wait = schedule::next_version_check(asked_at.unix, self.config.slot);
            known.told.next = Some(Timer { since: asked_at, wait });
            known.newest_issued = known.newest_issued.max(answer.issued);
            known.answer = Some(answer);
        });
        self.announce_version();
        Ok(self.version_info())
    }

    /// Changes what is known, and what is remembered of it. `change` sees what other processes have written.
    fn update_known<T: Default>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let (mut change, mut outcome) = (Some(change), T::default());
        self.update_known_once(&mut |known| {
            if let Some(change) = change.take() {
                outcome = change(known);
            }
        });
        outcome
    }

    /// In the library once.
    fn update_known_once(&self, change: &mut dyn FnMut(&mut Known)) {
        let turn = lock(&self.version_turn);
        let Some(dir) = &self.config.state_dir else { return change(&mut lock(&self.version)) };
        let locked = VersionMemory::lock(dir);
        let (mut memory, damaged) = read_memory(dir);
        let told = {
            // Not held while the disk is used: latest_version must not wait for that.
            let mut known = lock(&self.version);
            if !known.is_unsaved {
                known.take(&self.config, &memory);
            }
            change(&mut known);
            known.told.clone()
        };
        memory.remember(told);
        let stored = memory.store(dir);
        drop(locked);
        lock(&self.version).is_unsaved = stored.is_err();
        drop(turn);
        if let Some(damaged) = damaged {
            self.log(priority::WARNING, &damaged);
        }
        if let Err(error) = stored {
            let line = format!("the version check is not remembered, a restart will ask again: {error}");
            self.complain_of_disk(&line);
        }
    }

    /// Follows what other processes on the state directory have learnt, and time, by which an answer expires.
    pub fn refresh_version(&self) {
        if let Some(dir) = self.config.state_dir.as_ref().filter(|_| self.config.given.version_zone.is_some()) {
            let turn = lock(&self.version_turn);
            let (memory, damaged) = read_memory(dir);
            {
                let mut known = lock(&self.version);
                if !known.is_unsaved {
                    known.take(&self.config, &memory);
                }
            }
            drop(turn);
            if let Some(damaged) = damaged {
                self.log(priority::WARNING, &damaged);
            }
        }
        self.announce_version();
    }

    pub(super) fn version_info(&self) -> VersionInfo {
        lock(&self.version).info(&self.config, self.now())
    }

    /// Tells log and callback what has changed, if anything has.
    fn announce_version(&self) {
        let info = {
            let mut known = lock(&self.version);
            let info = known.info(&self.config, self.now());
            let news = |info: &VersionInfo| (info.verdict, info.latest.clone(), info.advisory.clone());
            if known.announced.as_ref().is_some_and(|before| news(before) == news(&info)) {
                return;
            }
            known.announced = Some(info.clone());
            info
        };
        let advisory = info.advisory.as_deref().map(|advisory| format!(", advisory {advisory}")).unwrap_or_default();
        let latest = info.latest.as_deref().unwrap_or("unknown");
        let (running, verdict) = (&info.running, info.verdict.as_str());
        let line = match info.verdict {
            Verdict::Unknown | Verdict::Current => {
                format!("version {running} is running, the latest is {latest}: {verdict}{advisory}")
            }
            _ => format!("a newer version is available: {latest}, running {running}: {verdict}{advisory}"),
        };
        self.log(priority::NOTICE, &line);
        let callbacks = self.callbacks();
        if let Some(on_version) = callbacks.as_ref().and_then(|callbacks| callbacks.on_version.as_ref()) {
            in_callback(|| on_version(&info));
        }
    }

    /// What is known now counts as told: only what changes from here on is announced.
    pub(super) fn hold_announced(&self) {
        let mut known = lock(&self.version);
        known.announced = Some(known.info(&self.config, self.now()));
    }

    /// Has a known newer version announced once more: after a restart somebody may act on it.
    pub(super) fn announce_newer_again(&self) {
        if self.switches.is_on(Switch::VersionCheck) {
            let mut known = lock(&self.version);
            known.announced.take_if(|announced| announced.verdict.is_newer_known());
        }
    }

    /// When the version check is due; none while there is no zone to ask.
    pub fn version_check_due(&self) -> Option<i64> {
        if self.config.given.version_zone.is_none() || !self.switches.is_on(Switch::VersionCheck) {
            return None;
        }
        let now = self.moment();
        let known = lock(&self.version);
        let due = |timer: &Option<Timer>| timer.as_ref().map(|timer| timer.due(&now));
        due(&known.at_start).max(due(&known.told.next)).or(Some(now.unix))
    }

    /// When the known verdict will change by itself: "current" holds until the answer expires.
    pub fn version_expiry(&self) -> Option<i64> {
        let known = lock(&self.version);
        let is_current = known.announced.as_ref().is_some_and(|info| info.verdict == Verdict::Current);
        known.answer.as_ref().filter(|_| is_current).map(|answer| answer.expires)
    }

    pub(super) fn moment(&self) -> Moment {
        self.surroundings.clock.now()
    }
}
