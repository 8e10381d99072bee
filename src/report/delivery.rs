//! What a server's answer means for a stored report.

use std::time::Duration;

use ondat_telemetry_protocol::time;

use crate::error::Error;
use crate::spool::{self, Spool};
use crate::state::{StateDir, layout};
use crate::transport::https::Response;

/// What happens to the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector has it.
    Delivered,
    /// The collector, and not some box on the way, refused it for good.
    Rejected,
    /// Try again, not before this long.
    Later(Duration),
    /// The report has not been judged. Try again after a long wait, of at least this.
    MuchLater {
        /// The server that has answered.
        by: Answerer,
        /// The wait that was asked for.
        at_least: Duration,
    },
}

/// The sender of an answer that does not judge the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The collector, which does not know the key that the report is sealed for: a key set reaches many edges one after the
    /// other.
    WithoutTheKey,
    /// The collector, in a way that its clients do not know.
    Collector,
    /// A middlebox on the path.
    Middlebox,
}

/// The header by which our collector marks its answers.
pub const MARKER: &str = "Ondat-Telemetry";
const RETRY_AFTER: &str = "Retry-After";
/// The header fields by which an answer is judged.
pub const WANTED: [&str; 2] = [MARKER, RETRY_AFTER];
/// The longest wait that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// Judges an answer that came at this time, in Unix seconds.
pub fn outcome(answer: &Response, now: i64) -> Outcome {
    let at_least = retry_after(answer, now).unwrap_or_default();
    let much_later = |by| Outcome::MuchLater { by, at_least };
    if !answer.headers_of(MARKER).any(|value| value.trim() == "1") {
        return much_later(Answerer::Middlebox);
    }
    match answer.status {
        200 | 201 | 202 | 204 | 208 => Outcome::Delivered,
        400 | 410 | 413 | 415 | 422 => Outcome::Rejected,
        408 | 425 | 429 | 500..=599 => Outcome::Later(at_least),
        421 => much_later(Answerer::WithoutTheKey),
        _ => much_later(Answerer::Collector),
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3), capped.
pub fn retry_after(answer: &Response, now: i64) -> Option<Duration> {
    let text = answer.header(RETRY_AFTER)?.trim();
    let seconds = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // What is beyond every number is beyond the cap.
        text.parse().unwrap_or(u64::MAX)
    } else {
        u64::try_from(http_date(text, now)?.saturating_sub(now)).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// Unix seconds of a date in any of the three forms that have to be taken (RFC 9110, 5.6.7):
/// `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`.
fn http_date(text: &str, now: i64) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (day, month, year, clock) = match words[..] {
        [_, day, month, year, clock, "GMT" | "UTC"] => (day, month, year, clock),
        [_, date, clock, "GMT" | "UTC"] => {
            let mut parts = date.split('-');
            let all = (parts.next()?, parts.next()?, parts.next()?, clock);
            if parts.next().is_some() { return None } else { all }
        }
        [_, month, day, clock, year] => (day, month, year, clock),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? + 1;
    let digits = |text: &str, most: usize| {
        let is_number = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<i64>().ok()).flatten()
    };
    let day = digits(day, 2)?;
    let at = |year: i64| {
        // Long ago.
        if year < 1970 {
            return Some(0);
        }
        time::parse_rfc3339(&format!("{year:04}-{month:02}-{day:02}T{clock}Z"))
    };
    match (digits(year, 4)?, year.len()) {
        (year, 4) => at(year),
        (short, 2) => {
            // The last one of those that are not more than 50 years ahead.
            const FIFTY_YEARS: i64 = 50 * 31_556_952;
            let years = [2100, 2000, 1900].map(|century| at(century + short));
            years.into_iter().flatten().find(|at| *at <= now.saturating_add(FIFTY_YEARS))
        }
        _ => None,
    }
}

/// Removes the stored reports and the administrator's copies.
pub fn purge(dir: &StateDir) -> Result<(), Error> {
    let waiting = Spool::new(Some(dir), layout::REPORTS, spool::REPORTS).purge();
    waiting.and(dir.folder(layout::SENT).clear()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: i64 = 784_111_777;

    fn judged(status: u16, headers: &[(&str, &str)]) -> Outcome {
        let headers = headers.iter().map(|(name, value)| ((*name).to_ascii_lowercase(), (*value).to_owned())).collect();
        outcome(&Response { status, headers, body: Vec::new() }, NOW)
    }

    fn much_later(by: Answerer) -> Outcome {
        Outcome::MuchLater { by, at_least: Duration::ZERO }
    }

    #[test]
    fn only_the_collector_itself_judges() {
        let ours = [("Ondat-Telemetry", "1")];
        for status in [400, 410, 413, 415, 422] {
            assert_eq!(judged(status, &ours), Outcome::Rejected);
        }
        for status in [200, 201, 202, 204, 208] {
            assert_eq!(judged(status, &ours), Outcome::Delivered);
        }
        for status in [408, 425, 429, 500, 503, 507, 599] {
            assert_eq!(judged(status, &ours), Outcome::Later(Duration::ZERO));
        }
        assert_eq!(judged(421, &ours), much_later(Answerer::WithoutTheKey));
        for status in [101, 203, 206, 226, 299, 301, 302, 304, 401, 403, 404, 405, 407, 409, 411, 451, 600, 999] {
            assert_eq!(judged(status, &ours), much_later(Answerer::Collector));
        }
        for status in [200, 201, 202, 204, 208, 400, 404, 408, 409, 413, 415, 421, 422, 429, 500, 503] {
            assert_eq!(judged(status, &[]), much_later(Answerer::Middlebox));
            assert_eq!(judged(status, &[("Ondat-Telemetry", "0")]), much_later(Answerer::Middlebox));
            assert_eq!(judged(status, &[("Ondat-Telemetry", "")]), much_later(Answerer::Middlebox));
        }
        assert_eq!(judged(200, &[("Ondat-Telemetry", "0"), ("Ondat-Telemetry", " 1 ")]), Outcome::Delivered);
    }

    #[test]
    fn retry_after_counts_whoever_asks_for_it() {
        let hour = Duration::from_secs(3_600);
        let asked = |status, marker| judged(status, &[("Retry-After", "3600"), ("Ondat-Telemetry", marker)]);
        assert_eq!(asked(503, "1"), Outcome::Later(hour));
        assert_eq!(asked(503, ""), Outcome::MuchLater { by: Answerer::Middlebox, at_least: hour });
        assert_eq!(asked(421, "1"), Outcome::MuchLater { by: Answerer::WithoutTheKey, at_least: hour });
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_day_in_all_its_forms() {
        let at = |value: &str| {
            let headers = vec![("retry-after".to_owned(), value.to_owned())];
            retry_after(&Response { status: 503, headers, body: Vec::new() }, NOW).map(|wait| wait.as_secs())
        };
        for (value, seconds) in [
            ("120", Some(120)),
            (" 120\t", Some(120)),
            ("0", Some(0)),
            ("9999999", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:40:37 GMT", Some(0)),
            ("Mon, 06 Nov 2094 08:50:37 GMT", Some(86_400)),
            ("Sun, 6 nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Saturday, 06-Nov-43 08:50:37 GMT", Some(86_400)),
            // 2045 is more than 50 years ahead: 1945 is meant.
            ("Monday, 06-Nov-45 08:50:37 GMT", Some(0)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun Nov 16 08:50:37 1994", Some(86_400)),
            ("soon", None),
            ("", None),
            ("-5", None),
            ("+5", None),
            ("1.5", None),
            ("Sun, 06 Foo 1994 08:50:37 GMT", None),
            ("Sun, 36 Nov 1994 08:50:37 GMT", None),
            ("Sunday, 06-Nov-994 08:50:37 GMT", None),
            ("Sunday, 06-Nov-94-1 08:50:37 GMT", None),
            ("Sun, 06 Nov 1994 08:50:37 CET", None),
            ("Sun, 06 Nov \u{661}994 08:50:37 GMT", None),
        ] {
            assert_eq!(at(value), seconds, "{value:?}");
        }
    }
}
