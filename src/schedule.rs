//! When the next thing is due: pure functions of the time, the state and a random number. Times are Unix seconds.

use ondat_telemetry_protocol::identity::Identity;
use serde::{Deserialize, Serialize};

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
/// Two reports of one boot are at least this far apart, whatever the clock says of the day.
const REPORT_FLOOR: i64 = 20 * HOUR;
/// And at most this far.
const LONGEST_REPORT_GAP: i64 = 48 * HOUR;
/// The most tries of one kind of delivery in 24 hours.
const TRIES_A_DAY: usize = 12;
/// How much a clock that is only being corrected may differ from the boot's in a day, in seconds.
const CLOCK_DRIFT: u64 = 60;

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
    /// When it is over, by the clock of `now`. Where nobody knows how much of it has passed, it is: waiting on might take
    /// for ever.
    pub fn due(&self, now: &Moment) -> i64 {
        let elapsed = now.seconds_since(&self.since).unwrap_or(self.wait);
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

/// The reports of a cluster so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// The UTC days of the last ones, as the clock had them.
    pub days: Vec<i64>,
    /// When the last one was made.
    pub last: Option<Moment>,
}

/// What decides when a report is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The node's slot of a day that has no report.
    Slot,
    /// The slot of today was over when the process started.
    Overdue,
    /// The last report is 48 hours old by the boot's clock, whatever the day is called.
    LongestGap,
    /// The last report is less than 20 hours old by the boot's clock.
    Floor,
    /// The process has just started.
    Start,
}

/// When the next daily report is due, and what decides that: in the slot of a UTC day that has none yet, 20 to 48 hours after the last one as
/// far as this boot knows. A process that starts after its slot of the day makes up for it within the hour.
///
/// `started` is when the process started, `chance` one draw of the process: the moment must not move while it is waited
/// for.
pub fn next_report(now: &Moment, started: &Moment, slot: i64, reported: &Reported, chance: u64) -> (i64, Reason) {
    let today = day(now.unix);
    let after = |since: &Moment, wait| Timer { since: since.clone(), wait }.due(now);
    // If the clock ran ahead earlier, tomorrow may already have its report.
    let next = (today..).find(|day| !reported.days.contains(day)).unwrap_or(today);
    let jitter = spread(mixed(chance, next), 2 * REPORT_JITTER) - REPORT_JITTER;
    // Thrown back at both ends of the day: held at midnight, many would come in its first minute, and beyond the last
    // one the report would be another day's.
    let moment = match slot + jitter {
        before if before < 0 => -before,
        beyond if beyond >= DAY => 2 * DAY - 1 - beyond,
        moment => moment,
    };
    let in_slot = next * DAY + moment;
    let started_at = after(started, 0);
    let earliest = started_at + REPORT_START_DELAY;
    let last = reported.last.as_ref().filter(|last| last.is_of_boot(now));
    let latest = last.map_or(i64::MAX, |last| after(last, LONGEST_REPORT_GAP));
    let floor = last.map_or(i64::MIN, |last| after(last, REPORT_FLOOR));
    let is_in_time = next > today || in_slot > earliest;
    let overdue = earliest + spread(mixed(chance, next), OVERDUE_SPREAD);
    let mut due = if is_in_time { (in_slot, Reason::Slot) } else { (overdue, Reason::Overdue) };
    // The later of these wins.
    if latest < due.0 {
        due = (latest, Reason::LongestGap);
    }
    if floor > due.0 {
        due = (floor, Reason::Floor);
    }
    if earliest > due.0 {
        due = (earliest, Reason::Start);
    }
    due
}

/// Whether a report may be made today, else from when on. Where the clock has gone as the boot's has since the last
/// one, the day is believed: two reports two hours apart are of two days then.
pub fn may_report(now: &Moment, reported: &Reported) -> Result<(), i64> {
    let today = day(now.unix);
    let last = reported.last.as_ref().filter(|last| last.is_of_boot(now));
    let since_last = last.and_then(|last| now.seconds_since(last));
    // A clock that was days ahead has used up days that come only now: they count again after two days of silence.
    let is_silent = since_last.is_some_and(|seconds| seconds >= LONGEST_REPORT_GAP);
    if reported.days.contains(&today) && !is_silent {
        let next = (today..).find(|day| !reported.days.contains(day)).unwrap_or(today);
        return Err(next * DAY);
    }
    let (Some(last), Some(since_last)) = (last, since_last) else { return Ok(()) };
    let shown = now.unix.saturating_sub(last.unix);
    let is_clock_true = shown.abs_diff(since_last) <= CLOCK_DRIFT;
    if since_last >= REPORT_FLOOR || is_clock_true { Ok(()) } else { Err(now.unix + REPORT_FLOOR - since_last) }
}

/// Other random bits for each day, the same each time they are asked for (SplitMix64).
fn mixed(chance: u64, day: i64) -> u64 {
    let mut z = chance.wrapping_add(day.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How soon a delivery that failed is tried again.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Pace {
    /// Failures since the last success.
    pub failures: u32,
    /// How many of the last ones in a row were of the kind that seldom goes away by itself.
    #[serde(default)]
    long_failures: u32,
    pause: Option<Timer>,
    /// The last tries that failed, at most [`TRIES_A_DAY`].
    tries: Vec<Moment>,
}

impl Pace {
    /// When the next try may be, in Unix seconds; in the past where there is nothing to wait for.
    pub fn not_before(&self, now: &Moment) -> i64 {
        self.pause.as_ref().map_or(0, |pause| pause.due(now))
    }

    /// Notes a failure; `at_least` is what the server asked for. Returns the seconds to the next try.
    pub fn failed(&mut self, now: &Moment, at_least: i64, random: u64) -> i64 {
        self.long_failures = 0;
        let wait = delivery_retry(self.failures.saturating_add(1), random);
        self.note(now, wait.max(at_least))
    }

    /// The same for a failure that seldom goes away by itself: a box on the way, a key that has not come everywhere.
    pub fn failed_for_long(&mut self, now: &Moment, at_least: i64, random: u64) -> i64 {
        self.long_failures = self.long_failures.saturating_add(1);
        let wait = long_retry(self.long_failures, random);
        self.note(now, wait.max(at_least))
    }

    fn note(&mut self, now: &Moment, wait: i64) -> i64 {
        self.failures = self.failures.saturating_add(1);
        let age = |try_: &Moment| now.seconds_since(try_).unwrap_or(DAY);
        self.tries.retain(|try_| age(try_) < DAY);
        self.tries.push(now.clone());
        if self.tries.len() > TRIES_A_DAY {
            self.tries.remove(0);
        }
        let full = self.tries.first().filter(|_| self.tries.len() == TRIES_A_DAY);
        let for_the_day = full.map_or(0, |oldest| DAY - age(oldest));
        let wait = wait.max(for_the_day);
        self.pause = Some(Timer { since: now.clone(), wait });
        wait
    }

    /// Prevents another try for at least so many seconds.
    pub fn hold(&mut self, now: &Moment, seconds: i64) {
        if self.not_before(now) < now.unix + seconds {
            self.pause = Some(Timer { since: now.clone(), wait: seconds });
        }
    }
}

/// How long to wait after this many failed deliveries: full jitter over 1 min doubling to 6 h
/// (Brooker, "Exponential Backoff and Jitter", 2015), at least a minute.
fn delivery_retry(failures: u32, random: u64) -> i64 {
    let most = (60_i64 << failures.min(9)).min(6 * HOUR);
    60 + spread(random, most)
}

/// How long to wait after this many of them in a row: 1 h doubling to 6 h, up to a quarter more by chance.
fn long_retry(failures: u32, random: u64) -> i64 {
    let wait = (HOUR << failures.saturating_sub(1).min(3)).min(6 * HOUR);
    (wait + spread(random, wait / 4)).min(6 * HOUR)
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
        let noon = moment(100 * DAY + DAY / 2, "a", 10 * DAY);
        let due =
            |days: &[i64], slot| next_report(&noon, &noon, slot, &Reported { days: days.to_vec(), last: None }, 7).0;
        let tomorrow = due(&[100], 3_600);
        assert!((101 * DAY + 3_300..101 * DAY + 3_900).contains(&tomorrow), "{tomorrow}");
        let overdue = due(&[99], 3_600) - noon.unix;
        assert!((300..=3_600).contains(&overdue), "{overdue}");
        // Days that a clock used up when it was ahead do not silence reports until then.
        assert_eq!(day(due(&[200], 80_000)), 100);
        assert_eq!(day(due(&[100, 101], 80_000)), 102);
    }

    #[test]
    fn what_decides_when_a_report_is_due_is_told() {
        let at = |hours: i64| moment(100 * DAY + hours * HOUR, "a", 10 * DAY + hours * HOUR);
        let why = |now: i64, started: i64, slot: i64, last: Option<i64>, days: &[i64]| {
            let reported = Reported { days: days.to_vec(), last: last.map(at) };
            next_report(&at(now), &at(started), slot * HOUR, &reported, 7).1
        };
        assert_eq!(why(12, 0, 18, None, &[]), Reason::Slot);
        assert_eq!(why(12, 12, 6, None, &[]), Reason::Overdue);
        // Its days are used up by a clock that ran ahead.
        assert_eq!(why(12, 0, 18, Some(-24), &[100, 101, 102, 103]), Reason::LongestGap);
        // The last was made at the end of yesterday's slot, and today's is early.
        assert_eq!(why(0, -30, 1, Some(-2), &[99]), Reason::Floor);
        assert_eq!(why(12, 12, 18, Some(-47), &[98, 100, 101]), Reason::Start);
    }

    #[test]
    fn a_second_report_of_a_boot_waits_for_the_floor_unless_the_clock_is_true() {
        let made = moment(100 * DAY + 23 * HOUR, "a", 10 * DAY);
        let reported = Reported { days: vec![100], last: Some(made.clone()) };
        let later = |unix, seconds| moment(made.unix + unix, "a", 10 * DAY + seconds);
        assert_eq!(may_report(&later(60, 60), &reported), Err(101 * DAY));
        assert_eq!(may_report(&later(2 * HOUR, 2 * HOUR), &reported), Ok(()), "the next day has begun");
        let stepped = later(25 * HOUR, HOUR);
        assert_eq!(may_report(&stepped, &reported), Err(stepped.unix + 19 * HOUR), "somebody has set the clock");
        assert_eq!(may_report(&later(-50 * HOUR, 21 * HOUR), &reported), Ok(()));
        let rebooted = moment(made.unix + 2 * HOUR, "b", 5);
        assert_eq!(may_report(&rebooted, &reported), Ok(()));
    }

    #[test]
    fn failures_back_off_and_stay_bounded() {
        assert_eq!(version_check_retry(1, 0), HOUR);
        assert_eq!(version_check_retry(99, 0), DAY);
        assert!(delivery_retry(99, u64::MAX) <= 6 * HOUR + 60);
    }

    #[test]
    fn what_seldom_goes_away_waits_for_hours() {
        let (mut pace, now) = (Pace::default(), moment(1_000_000, "a", 50));
        let waits = [0, 1, 2, 3, 4, 5].map(|_| pace.failed_for_long(&now, 0, 0) / HOUR);
        assert_eq!(waits, [1, 2, 4, 6, 6, 6]);
        assert_eq!(pace.failed_for_long(&now, 10 * HOUR, 0), 10 * HOUR, "the server may ask for more");
        assert!(pace.failed(&now, 0, 0) < HOUR);
        assert_eq!(pace.failed_for_long(&now, 0, 0), HOUR);
        assert_eq!(pace.failures, 9);
        let written = serde_json::to_string(&Pace::default()).unwrap().replace("\"long_failures\":0,", "");
        assert_eq!(serde_json::from_str::<Pace>(&written).unwrap(), Pace::default(), "as an older version wrote it");
    }

    #[test]
    fn a_dead_server_is_tried_twelve_times_a_day_at_most() {
        let (mut pace, mut at, mut tries) = (Pace::default(), 0, Vec::new());
        while at < 10 * DAY {
            tries.push(at);
            // The shortest waits that chance can give.
            at += pace.failed(&moment(1_000_000 + at, "a", at), 0, 0);
        }
        for (first, at) in tries.iter().enumerate() {
            let within_a_day = tries[first..].iter().filter(|other| **other < at + DAY).count();
            assert!(within_a_day <= TRIES_A_DAY, "{within_a_day} from {at}");
        }
        assert!(tries.len() >= 9 * TRIES_A_DAY, "{}", tries.len());
        assert_eq!(pace.tries.len(), TRIES_A_DAY);
    }
}
