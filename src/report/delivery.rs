//! What a server's answer means for a stored report.

use std::time::{Duration, UNIX_EPOCH};

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
    /// Something on the way answered; the report has not been judged.
    Middlebox,
}

/// The header by which our collector shows that it is the one who speaks.
pub const MARKER: &str = "Ondat-Telemetry";
/// The longest wait that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(86_400);

/// Judges an answer that came at this time, in Unix seconds.
pub fn outcome(answer: &Response, now: i64) -> Outcome {
    let is_ours = answer.header(MARKER).is_some_and(|value| value.trim() == "1");
    match answer.status {
        200 | 201 | 202 | 204 | 208 | 409 => Outcome::Delivered,
        400 | 410 | 413 | 415 | 421 | 422 if is_ours => Outcome::Rejected,
        408 | 425 | 429 | 500..=599 => Outcome::Later(retry_after(answer, now).unwrap_or_default()),
        _ => Outcome::Middlebox,
    }
}

/// `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3), capped.
pub fn retry_after(answer: &Response, now: i64) -> Option<Duration> {
    let text = answer.header("Retry-After")?.trim();
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => u64::try_from(http_date(text)?.saturating_sub(now)).unwrap_or(0),
    };
    Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER))
}

/// Unix seconds of an IMF-fixdate such as `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that servers may make
/// (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let moment = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    i64::try_from(moment.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, headers: &[(&str, &str)]) -> Outcome {
        let headers = headers.iter().map(|(name, value)| ((*name).to_ascii_lowercase(), (*value).to_owned())).collect();
        outcome(&Response { status, headers, body: Vec::new() }, 784_111_777)
    }

    #[test]
    fn only_the_collector_itself_can_reject() {
        let ours = [("Ondat-Telemetry", "1")];
        for status in [400, 410, 413, 415, 421, 422] {
            assert_eq!(judged(status, &ours), Outcome::Rejected);
            assert_eq!(judged(status, &[]), Outcome::Middlebox);
        }
        for status in [200, 201, 202, 204, 208, 409] {
            assert_eq!(judged(status, &[]), Outcome::Delivered);
        }
        for status in [301, 302, 401, 403, 404, 407] {
            assert_eq!(judged(status, &ours), Outcome::Middlebox);
        }
    }

    #[test]
    fn retry_after_is_honoured_up_to_a_day() {
        assert_eq!(judged(503, &[("Retry-After", "120")]), Outcome::Later(Duration::from_secs(120)));
        assert_eq!(judged(429, &[("Retry-After", "9999999")]), Outcome::Later(Duration::from_secs(86_400)));
        assert_eq!(judged(500, &[("Retry-After", "soon")]), Outcome::Later(Duration::ZERO));
        let at = |date| judged(503, &[("Retry-After", date)]);
        assert_eq!(at("Sun, 06 Nov 1994 08:50:37 GMT"), Outcome::Later(Duration::from_secs(60)));
        assert_eq!(at("Sun, 06 Nov 1994 08:40:37 GMT"), Outcome::Later(Duration::ZERO));
        assert_eq!(at("Mon, 06 Nov 2094 08:50:37 GMT"), Outcome::Later(Duration::from_secs(86_400)));
        assert_eq!(at("Sun, 06 Foo 1994 08:50:37 GMT"), Outcome::Later(Duration::ZERO));
    }
}
