//! The version check of a client.

use std::time::Duration;

use super::{Core, VersionInfo, in_callback, lock, priority};
use crate::config::Config;
use crate::error::Error;
use crate::memory::{Told, VersionMemory};
use crate::schedule;
use crate::switches::Switch;
use crate::version::answer::{Answer, Judge};
use crate::version::query::Query;
use crate::version::verdict::Verdict;

impl Core {
    /// Asks the zone and remembers the answer.
    pub fn check_version(&self, timeout: Duration) -> Result<VersionInfo, Error> {
        let zone = self.config.version_zone.as_deref();
        let zone =
            zone.ok_or_else(|| Error::InvalidConfig("version_zone is not set: there is nobody to ask".to_owned()))?;
        let permit = self.switches.permit(Switch::VersionCheck)?;
        let now = self.now();
        self.note_version(now, |told| {
            // Noted before asking, so that a process that dies while asking does not ask again at once.
            told.failures += 1;
            told.next_due = Some(schedule::version_check_retry(now, told.failures, (self.surroundings.random)()));
        });
        let query = Query {
            cluster: self.config.cluster,
            node: self.config.node,
            day: u16::try_from(schedule::day(now)).unwrap_or(0),
            version: self.config.version_label.clone(),
        };
        let name = match &self.config.version_seal_key {
            None => query.name(zone),
            Some(key) => {
                query.sealed_name(zone, key).map_err(|error| Error::Internal(format!("version query: {error}")))?
            }
        };
        let texts = self.surroundings.dns.txt(permit, &name, timeout)?;
        let newest_issued = lock(&self.version).answer.as_ref().map_or(0, |answer| answer.issued);
        let judge = Judge { now: self.now(), newest_issued, ..self.judge(zone) };
        let (answer, text) = judge.first_acceptable(&texts)?;
        lock(&self.version).answer = Some(answer);
        self.note_version(now, |told| {
            *told = Told {
                zone: zone.to_owned(),
                answer: Some(text),
                checked_at: now,
                next_due: Some(schedule::next_version_check(now, self.config.slot)),
                failures: 0,
            };
        });
        self.announce_version();
        Ok(self.version_info())
    }

    fn judge<'a>(&'a self, zone: &'a str) -> Judge<'a> {
        judge(&self.config, zone)
    }

    /// Changes what is remembered, in memory and on disk, where other versions' entries stay.
    fn note_version(&self, now: i64, change: impl FnOnce(&mut Told)) {
        let mut version = lock(&self.version);
        change(&mut version.told);
        let Some(dir) = &self.config.state_dir else { return };
        let stored = VersionMemory::load(dir).and_then(|(mut memory, _)| {
            memory.told.insert(self.config.version_label.clone(), version.told.clone());
            memory.store(dir)
        });
        drop(version);
        if let Err(error) = stored {
            self.log(priority::WARNING, &format!("the version check of {now} is not remembered: {error}"));
        }
    }

    pub(super) fn version_info(&self) -> VersionInfo {
        let version = lock(&self.version);
        let running = self.config.version_text.clone();
        let Some(answer) = &version.answer else { return VersionInfo { running, ..VersionInfo::default() } };
        let mut verdict = Verdict::of(&self.config.version, answer);
        if verdict == Verdict::Current && answer.expires <= self.now() {
            verdict = Verdict::Unknown;
        }
        VersionInfo {
            running,
            latest: Some(answer.latest.to_string()),
            advisory: answer.advisory.clone(),
            verdict,
            authenticated: answer.authenticated,
            checked_at: version.told.checked_at,
        }
    }

    fn announce_version(&self) {
        let info = self.version_info();
        let before = lock(&self.version).announced.replace(info.clone());
        let is_news = before.is_none_or(|before| (before.verdict, &before.latest) != (info.verdict, &info.latest));
        if !is_news {
            self.log(priority::DEBUG, "version check: nothing new");
            return;
        }
        let advisory = info.advisory.as_deref().map(|advisory| format!(", advisory {advisory}")).unwrap_or_default();
        let latest = info.latest.as_deref().unwrap_or("unknown");
        let line = match info.verdict {
            Verdict::Unknown | Verdict::Current => {
                format!("version {} is running, the latest is {latest}: {}", info.running, info.verdict.as_str())
            }
            _ => format!(
                "a newer version is available: {latest}, running {}: {}{advisory}",
                info.running,
                info.verdict.as_str()
            ),
        };
        self.log(priority::NOTICE, &line);
        let callbacks = self.callbacks();
        if let Some(on_version) = callbacks.as_ref().and_then(|callbacks| callbacks.on_version.as_ref()) {
            in_callback(|| on_version(&info));
        }
    }

    /// When the version check is due; none while nobody can be asked.
    pub fn version_check_due(&self) -> Option<i64> {
        if self.config.version_zone.is_none() || !self.switches.is_on(Switch::VersionCheck) {
            return None;
        }
        let mut version = lock(&self.version);
        let due = version.told.next_due;
        // The first one of this process is drawn once and kept in memory.
        let drawn = schedule::first_version_check(self.now(), due, (self.surroundings.random)());
        let due = due.filter(|due| *due <= drawn).unwrap_or(drawn);
        version.told.next_due = Some(due);
        Some(due)
    }
}

fn judge<'a>(config: &'a Config, zone: &'a str) -> Judge<'a> {
    Judge { zone, version_label: &config.version_label, keys: &config.version_keys, now: 0, newest_issued: 0 }
}

/// The answer of an earlier run, judged anew by the keys of today at the time when it came.
pub(super) fn remembered_answer(config: &Config, told: &Told) -> Option<Answer> {
    let zone = config.version_zone.as_deref().filter(|zone| *zone == told.zone)?;
    let text = told.answer.as_ref()?.clone().into_bytes();
    let judge = Judge { now: told.checked_at, ..judge(config, zone) };
    judge.first_acceptable(&[text]).ok().map(|(answer, _)| answer)
}
