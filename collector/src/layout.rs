//! The names of what is received, below the folder or in the bucket. They are the only place where the receiving side and the
//! opener meet: docs/receiver.md has them.

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::header::Header;
use ondat_telemetry_protocol::time::date_of_day;
use sha2::{Digest, Sha256};

use crate::storage::Pieces;

/// Sealed reports.
pub(crate) const SEALED: &str = "sealed/v1";
/// Crash reports.
pub(crate) const CRASHES: &str = "crashes";
/// Crash reports that are still to be forwarded.
pub(crate) const UNSENT: &str = "unsent";
/// Where reports lay before they were sorted by day: `reports/<report id>.otr`.
pub(crate) const OLD_REPORTS: &str = "reports";

/// How late a report may be and still lie under its own day: longer than a sender keeps it.
const REPORT_DAYS: i64 = 15;
/// How late a crash report may be and still lie under its own day.
const CRASH_DAYS: i64 = 31;
/// How many days a sender's clock may be ahead.
const DAYS_AHEAD: i64 = 1;
const DAY: i64 = 86_400;
const HOURS: u8 = 24;

/// The place of the bodies of one report id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportPlace {
    /// `sealed/v1/<day>/<hh>`.
    pub(crate) folder: String,
    id: String,
}

impl ReportPlace {
    /// Returns the place of a report that arrives at `now`, in Unix seconds. The place follows from the report alone, unless
    /// its sender's clock is wrong, so a report that is sent again after midnight finds the first one.
    pub(crate) fn new(header: &Header, now: i64) -> Self {
        let day = stable_day(i64::from(header.day), now, REPORT_DAYS);
        let hour = header.report_id[0] % HOURS;
        Self { folder: format!("{SEALED}/{day}/{hour:02}"), id: header.report_id_hex() }
    }

    /// The name of the first body.
    pub(crate) fn first(&self) -> String {
        format!("{}/{}.otr", self.folder, self.id)
    }

    /// The beginning of the file names of all other bodies.
    pub(crate) fn others(&self) -> String {
        format!("{}~", self.id)
    }

    /// The name of another body.
    pub(crate) fn other(&self, body: &Pieces) -> String {
        let mut hash = Sha256::new();
        body.iter().for_each(|piece| hash.update(piece));
        format!("{}/{}~{}.otr", self.folder, self.id, HEXLOWER.encode(&hash.finalize()[..4]))
    }
}

/// Returns the name of a crash report by the times at which it happened and arrived.
pub(crate) fn crash(event_id: &str, happened: Option<i64>, now: i64) -> String {
    let day = stable_day(happened.map_or(i64::MIN, |at| at.div_euclid(DAY)), now, CRASH_DAYS);
    format!("{CRASHES}/{day}/{event_id}.json")
}

/// Returns the stated day if it is plausible, else the day of receipt.
fn stable_day(said: i64, now: i64, days: i64) -> String {
    let today = now.div_euclid(DAY);
    let day = if (today - days..=today + DAYS_AHEAD).contains(&said) { said } else { today };
    date_of_day(u16::try_from(day).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use ondat_telemetry_protocol::header::HEADER_BYTES;

    use super::*;

    const TODAY: i64 = 20_781;
    const NOON: i64 = TODAY * DAY + DAY / 2;

    fn header(day: i64) -> Header {
        let mut bytes = [0xab; HEADER_BYTES];
        bytes[..4].copy_from_slice(b"OTR1");
        bytes[12..18].copy_from_slice(&[0, 0x20, 0, 1, 0, 2]);
        bytes[34..36].copy_from_slice(&u16::try_from(day).unwrap().to_be_bytes());
        bytes[36] = 1;
        Header::parse(&bytes).unwrap()
    }

    fn folder(day: i64, now: i64) -> String {
        ReportPlace::new(&header(day), now).folder
    }

    #[test]
    fn a_report_has_one_place_for_as_long_as_its_sender_keeps_it() {
        let first = ReportPlace::new(&header(TODAY), NOON);
        assert_eq!(first.first(), format!("sealed/v1/2026-11-24/03/{}.otr", "ab".repeat(16)));
        for days in 0..=REPORT_DAYS {
            assert_eq!(ReportPlace::new(&header(TODAY), NOON + days * DAY), first, "{days} days later");
        }
        assert_eq!(folder(TODAY, NOON - DAY), first.folder, "a clock that is ahead");
    }

    #[test]
    fn a_wrong_clock_makes_no_folders_of_its_own() {
        for said in [0, TODAY - 400, TODAY - REPORT_DAYS - 1, TODAY + 2, TODAY + 400, i64::from(u16::MAX)] {
            assert_eq!(folder(said, NOON), "sealed/v1/2026-11-24/03", "{said}");
        }
    }

    #[test]
    fn a_crash_lies_under_the_day_on_which_it_happened() {
        assert_eq!(crash("a", Some(NOON - DAY), NOON), "crashes/2026-11-23/a.json");
        for happened in [None, Some(0), Some(NOON + 2 * DAY), Some(i64::MAX), Some(i64::MIN)] {
            assert_eq!(crash("a", happened, NOON), "crashes/2026-11-24/a.json", "{happened:?}");
        }
    }

    #[test]
    fn another_body_is_named_by_its_hash_however_it_is_cut() {
        let place = ReportPlace::new(&header(TODAY), NOON);
        let whole = place.other(&Pieces::from("abc"));
        assert_eq!(whole, place.other(&["a", "bc"].map(bytes::Bytes::from).into_iter().collect()));
        assert!(whole.ends_with("~ba7816bf.otr"), "{whole}");
    }
}
