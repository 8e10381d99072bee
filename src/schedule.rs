//! When the next thing is due: pure functions of the time, what is remembered, and chance. Times are Unix seconds.

use crate::identity::Identity;

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

/// When the first version check of this process is due, given when the next one was due when it was last noted.
pub fn first_version_check(now: i64, noted: Option<i64>, random: u64) -> i64 {
    match noted {
        // Noted too far ahead to be true: the clock was wrong when it was noted.
        Some(due) if due > now && due <= now + 2 * DAY => due,
        _ => now + spread(random, START_JITTER),
    }
}

/// When to ask again after an answer: in the node's slot, 12 to 36 hours from now.
pub fn next_version_check(now: i64, slot: i64) -> i64 {
    let next = day(now + DAY / 2) * DAY + slot;
    if next < now + DAY / 2 { next + DAY } else { next }
}

/// When to ask again after this many failures in a row: 1 h doubling to 24 h, up to a quarter more by chance.
pub fn version_check_retry(now: i64, failures: u32, random: u64) -> i64 {
    let wait = (HOUR << failures.saturating_sub(1).min(5)).min(DAY);
    now + wait + spread(random, wait / 4)
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

    #[test]
    fn checks_are_half_a_day_apart_at_least_and_in_the_slot() {
        for now in (0..4 * DAY).step_by(977) {
            for slot in [0, 1, 43_200, 86_399] {
                let next = next_version_check(now, slot);
                assert!((DAY / 2..=DAY * 3 / 2).contains(&(next - now)), "{now} {slot} {next}");
                assert_eq!(next.rem_euclid(DAY), slot);
            }
        }
    }

    #[test]
    fn a_restart_keeps_the_noted_time_unless_it_cannot_be_true() {
        assert_eq!(first_version_check(1_000, Some(5_000), 7), 5_000);
        assert_eq!(first_version_check(1_000, Some(900), 7), 1_007);
        assert_eq!(first_version_check(1_000, Some(1_000 + 30 * DAY), 7), 1_007);
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
        assert_eq!(version_check_retry(0, 1, 0), HOUR);
        assert_eq!(version_check_retry(0, 99, 0), DAY);
        assert!(delivery_retry(99, u64::MAX) <= 6 * HOUR + 60);
    }
}
