//! What a server's answer means for a stored report.

use std::time::Duration;

use crate::error::Error;
use crate::spool::{self, Spool};
use crate::state::{StateDir, layout};
use crate::transport::https::Response;
use crate::transport::retry_after::{RETRY_AFTER, retry_after};

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
/// The header fields by which an answer is judged.
pub const WANTED: [&str; 2] = [MARKER, RETRY_AFTER];

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
}
