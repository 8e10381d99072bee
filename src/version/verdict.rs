//! What an accepted answer means for the running version.

use std::cmp::Ordering;

use ondat_telemetry_protocol::answer::Answer;
use semver::Version;
use serde::{Deserialize, Serialize};

/// How the running version stands. The numbers are those of the C interface.
#[repr(i32)]
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No answer, or none that can be applied: a development build is not compared.
    #[default]
    Unknown = 0,
    /// The running version is the latest, or newer.
    Current = 1,
    /// A newer version exists.
    Outdated = 2,
    /// The vendor recommends to upgrade.
    UpgradeRecommended = 3,
    /// The vendor says an upgrade is required.
    UpgradeRequired = 4,
}

impl Verdict {
    /// The verdict in words, for log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Current => "current",
            Self::Outdated => "outdated",
            Self::UpgradeRecommended => "upgrade recommended",
            Self::UpgradeRequired => "upgrade required",
        }
    }

    /// What an answer means at this time, in Unix seconds. That a version is the latest holds until the answer expires;
    /// that there is a newer one holds for ever.
    pub fn at(now: i64, running: &Version, answer: &Answer) -> Self {
        match Self::of(running, answer) {
            Self::Current if answer.expires <= now => Self::Unknown,
            verdict => verdict,
        }
    }

    /// The advisory to tell with this verdict on an answer: it is about versions that should not be run any more.
    pub fn advisory(self, answer: &Answer) -> Option<&str> {
        let is_told = matches!(self, Self::UpgradeRecommended | Self::UpgradeRequired);
        answer.advisory.as_deref().filter(|_| is_told)
    }

    /// Whether a newer version is known.
    pub fn is_newer_known(self) -> bool {
        self >= Self::Outdated
    }

    /// The verdict of an answer on a running version.
    fn of(running: &Version, answer: &Answer) -> Self {
        if is_development_build(running) {
            return Self::Unknown;
        }
        let is_below = |bound: &Option<Version>| {
            bound.as_ref().is_some_and(|bound| running.cmp_precedence(bound) == Ordering::Less)
        };
        match answer.status {
            Some(3) => return Self::UpgradeRequired,
            Some(2) => return Self::UpgradeRecommended,
            // An override that says "fine" takes the general bounds off this version.
            Some(_) => {}
            None if is_below(&answer.required) => return Self::UpgradeRequired,
            None if is_below(&answer.recommended) => return Self::UpgradeRecommended,
            None => {}
        }
        if running.cmp_precedence(&answer.latest) == Ordering::Less { Self::Outdated } else { Self::Current }
    }
}

/// A build from a developer's machine: never told to upgrade.
pub fn is_development_build(version: &Version) -> bool {
    let core = (version.major, version.minor, version.patch);
    core == (0, 0, 0) || version.pre.split(['.', '-']).any(|part| part == "dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(recommended: Option<&str>, required: Option<&str>, status: Option<u8>) -> Answer {
        Answer {
            latest: "2.9.0".parse().unwrap(),
            recommended: recommended.map(|v| v.parse().unwrap()),
            required: required.map(|v| v.parse().unwrap()),
            status,
            advisory: None,
            issued: 0,
            expires: 1,
            authenticated: true,
        }
    }

    fn verdict(running: &str, recommended: Option<&str>, required: Option<&str>, status: Option<u8>) -> Verdict {
        Verdict::of(&running.parse().unwrap(), &answer(recommended, required, status))
    }

    #[test]
    fn precedence_is_semver() {
        assert_eq!(verdict("2.9.0", None, None, None), Verdict::Current);
        assert_eq!(verdict("2.9.0+build.7", None, None, None), Verdict::Current);
        assert_eq!(verdict("2.10.0", None, None, None), Verdict::Current);
        assert_eq!(verdict("2.9.0-rc.1", None, None, None), Verdict::Outdated);
        assert_eq!(verdict("2.8.2", None, None, None), Verdict::Outdated);
    }

    #[test]
    fn current_holds_until_the_answer_expires() {
        let answer = answer(Some("2.8.3"), None, None);
        let at = |now, running: &str| Verdict::at(now, &running.parse().unwrap(), &answer);
        assert_eq!((at(0, "2.9.0"), at(1, "2.9.0")), (Verdict::Current, Verdict::Unknown));
        assert_eq!((at(0, "2.8.3"), at(1, "2.8.3")), (Verdict::Outdated, Verdict::Outdated));
        assert_eq!((at(0, "2.8.2"), at(1, "2.8.2")), (Verdict::UpgradeRecommended, Verdict::UpgradeRecommended));
    }

    #[test]
    fn bounds_and_overrides() {
        assert_eq!(verdict("2.8.2", Some("2.8.3"), Some("2.7.0"), None), Verdict::UpgradeRecommended);
        assert_eq!(verdict("2.6.9", Some("2.8.3"), Some("2.7.0"), None), Verdict::UpgradeRequired);
        assert_eq!(verdict("2.8.2", None, None, Some(3)), Verdict::UpgradeRequired);
        assert_eq!(verdict("2.6.9", Some("2.8.3"), Some("2.7.0"), Some(1)), Verdict::Outdated);
    }

    #[test]
    fn an_advisory_is_told_with_a_recommendation_or_a_requirement_only() {
        let advised = Answer { advisory: Some("ODT-1".to_owned()), ..answer(Some("2.8.3"), Some("2.7.0"), None) };
        for (running, told) in [("2.6.0", true), ("2.8.2", true), ("2.8.3", false), ("2.9.0", false), ("3.0.0", false)]
        {
            let verdict = Verdict::of(&running.parse().unwrap(), &advised);
            assert_eq!(verdict.advisory(&advised).is_some(), told, "{running}");
        }
        for (running, status, told) in
            [("2.9.0", 3, true), ("2.9.0", 2, true), ("2.6.0", 1, false), ("0.0.0", 3, false)]
        {
            let advised = Answer { status: Some(status), ..advised.clone() };
            let verdict = Verdict::of(&running.parse().unwrap(), &advised);
            assert_eq!(verdict.advisory(&advised).is_some(), told, "{running} by an override with {status}");
        }
    }

    #[test]
    fn a_development_build_is_never_nagged() {
        assert_eq!(verdict("0.0.0", Some("2.8.3"), Some("2.7.0"), Some(3)), Verdict::Unknown);
        assert_eq!(verdict("2.8.2-dev", None, None, None), Verdict::Unknown);
        assert_eq!(verdict("2.8.2-dev.4", None, None, None), Verdict::Unknown);
    }
}
