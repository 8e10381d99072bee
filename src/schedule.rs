//! When the next thing is due: pure functions of the time, what is remembered, and chance. Times are Unix seconds.

use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::sys::clock::Moment;

/// A day in seconds.
pub const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
/// The first version check comes within this after start: many processes start together after a power cut.
const START_JITTER: i64 = 60;
/// A report waits this long after start, so that a process that lives only briefly sends none.
const REPORT_START_DELAY: i64 = 300;
/// A report's moment of the day moves by up to this to either side.
const REPORT_JITTER: i64 = 300;
/// Reports that are overdue when processes start are spread over this.
const OVERDUE_SPREAD: i64 = HOUR;

/// A number from 0 to below `bound`, from 64 random bits.
fn spread(random: u64, bound: i64) -> i64 {
    i64::try_from(random % bound.unsigned_abs().max(1)).unwrap_or(0)
}

/// The UTC day of a time, in days since 1970-01-01.
pub fn day(now: i64) -> i64 {
    now.div_euclid(DAY)
}

/// The node's own moment of the day in seconds.
pub fn slot(identity: &Identity, node_id: &str) -> i64 {
    i64::try_from(identity.slot_seconds(node_id)).unwrap_or(0)
}

/// A wait that began at some moment. Within one boot it is as long as it was meant to be, whatever becomes of the clock.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Timer {
    /// When it began.
    pub since: Moment,
    /// How long it takes, in seconds.
    pub wait: i64,
}

impl Timer {
    /// When it is over, by the clock of `now`.
    pub fn due(&self, now: &Moment) -> i64 {
        let elapsed = match (&self.since.boot, &now.boot) {
            (Some(since), Some(boot)) if since.id == boot.id => boot.seconds.saturating_sub(since.seconds),
            // Nothing but the clock tells how long the machine was down. If it says that time went backwards, it was
            // wrong then or is wrong now: waiting on might take for ever.
            _ if now.unix < self.since.unix => self.wait,
            _ => now.unix.saturating_sub(self.since.unix),
        };
        now.unix.saturating_add(self.wait.saturating_sub(elapsed))
    }
}

/// How long the first version check of a process waits, if none is due later.
pub fn version_check_at_start(random: u64) -> i64 {
    spread(random, START_JITTER)
}

/// How long to wait after an answer: until the node's slot, 12 to 36 hours.
pub fn next_version_check(now: i64, slot: i64) -> i64 {
    let next = day(now + DAY / 2) * DAY + slot;
    (if next < now + DAY / 2 { next + DAY } else { next }) - now
}

/// How long to wait after this many failures in a row: 1 h doubling to 24 h, up to a quarter more by chance.
pub fn version_check_retry(failures: u32, random: u64) -> i64 {
    let wait = (HOUR << failures.saturating_sub(1).min(5)).min(DAY);
    wait + spread(random, wait / 4)
}

/// When the next daily report is due. `last_day` is the UTC day of the last one.
pub fn next_report(now: i64, started: i64, slot: i64, last_day: Option<i64>, random: u64) -> i64 {
    let today = day(now);
    let jitter = spread(random, 2 * REPORT_JITTER) - REPORT_JITTER;
    if last_day.is_some_and(|last| last >= today && last <= today + 2) {
        return ((today + 1) * DAY + slot + jitter).max((today + 1) * DAY);
    }
    let in_slot = (today * DAY + slot + jitter).max(today * DAY);
    if in_slot > started {
        in_slot.max(started + REPORT_START_DELAY)
    } else {
        started + REPORT_START_DELAY + spread(random, OVERDUE_SPREAD)
    }
}

/// How long to wait after this many failed deliveries: full jitter over 1 min doubling to 6 h
/// (Brooker, "Exponential Backoff and Jitter", 2015), at least a minute.
pub fn delivery_retry(failures: u32, random: u64) -> i64 {
    let most = (60_i64 << failures.min(9)).min(6 * HOUR);
    60 + spread(random, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::Uptime;

    #[test]
    fn checks_are_half_a_day_apart_at_least_and_in_the_slot() {
        for now in (0..4 * DAY).step_by(977) {
            for slot in [0, 1, 43_200, 86_399] {
                let wait = next_version_check(now, slot);
                assert!((DAY / 2..=DAY * 3 / 2).contains(&wait), "{now} {slot} {wait}");
                assert_eq!((now + wait).rem_euclid(DAY), slot);
            }
        }
    }

    fn moment(unix: i64, boot: &str, seconds: i64) -> Moment {
        Moment { unix, boot: Some(Uptime { id: boot.to_owned(), seconds }) }
    }

    #[test]
    fn within_a_boot_a_wait_is_as_long_as_it_was_meant_to_be() {
        let timer = Timer { since: moment(1_000_000, "a", 50), wait: 600 };
        for stepped_to in [1_000_100, 1_000_100 + 9 * DAY, 1_000_100 - 9 * DAY] {
            assert_eq!(timer.due(&moment(stepped_to, "a", 150)), stepped_to + 500);
        }
    }

    #[test]
    fn over_a_boot_the_clock_counts_unless_it_cannot_be_true() {
        let timer = Timer { since: moment(1_000_000, "a", 50), wait: 600 };
        for boot in [Some(Uptime { id: "b".to_owned(), seconds: 7 }), None] {
            let now = |unix| Moment { unix, boot: boot.clone() };
            assert_eq!(timer.due(&now(1_000_100)), 1_000_600);
            assert!(timer.due(&now(1_009_000)) <= 1_009_000, "long over");
            assert!(timer.due(&now(0)) <= 0, "a clock that was set back over a reboot must not silence it");
        }
    }

    #[test]
    fn a_report_is_due_once_a_day() {
        let noon = 100 * DAY + DAY / 2;
        let tomorrow = next_report(noon, noon, 3_600, Some(100), 300);
        assert_eq!(day(tomorrow), 101);
        assert!(next_report(noon, noon, 3_600, Some(99), 300) >= noon + 300);
        assert!(next_report(noon, noon, 3_600, Some(99), u64::MAX) <= noon + 300 + 3_600);
        // A stored day that the clock contradicts by more than two days does not silence reports for ever.
        assert_eq!(day(next_report(noon, noon, 80_000, Some(200), 300)), 100);
    }

    #[test]
    fn failures_back_off_and_stay_bounded() {
        assert_eq!(version_check_retry(1, 0), HOUR);
        assert_eq!(version_check_retry(99, 0), DAY);
        assert!(delivery_retry(99, u64::MAX) <= 6 * HOUR + 60);
    }
}
