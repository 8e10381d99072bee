//! What an accepted answer means for the running version.

use std::cmp::Ordering;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::answer::Answer;

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

    /// The verdict of an answer on a running version.
    pub fn of(running: &Version, answer: &Answer) -> Self {
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

    fn verdict(running: &str, recommended: Option<&str>, required: Option<&str>, status: Option<u8>) -> Verdict {
        let answer = Answer {
            latest: "2.9.0".parse().unwrap(),
            recommended: recommended.map(|v| v.parse().unwrap()),
            required: required.map(|v| v.parse().unwrap()),
            status,
            advisory: None,
            issued: 0,
            expires: 1,
            authenticated: true,
        };
        Verdict::of(&running.parse().unwrap(), &answer)
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
    fn bounds_and_overrides() {
        assert_eq!(verdict("2.8.2", Some("2.8.3"), Some("2.7.0"), None), Verdict::UpgradeRecommended);
        assert_eq!(verdict("2.6.9", Some("2.8.3"), Some("2.7.0"), None), Verdict::UpgradeRequired);
        assert_eq!(verdict("2.8.2", None, None, Some(3)), Verdict::UpgradeRequired);
        assert_eq!(verdict("2.6.9", Some("2.8.3"), Some("2.7.0"), Some(1)), Verdict::Outdated);
    }

    #[test]
    fn a_development_build_is_never_nagged() {
        assert_eq!(verdict("0.0.0", Some("2.8.3"), Some("2.7.0"), Some(3)), Verdict::Unknown);
        assert_eq!(verdict("2.8.2-dev", None, None, None), Verdict::Unknown);
        assert_eq!(verdict("2.8.2-dev.4", None, None, None), Verdict::Unknown);
    }
}
