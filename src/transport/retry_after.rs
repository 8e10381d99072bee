//! How long a server wants to be left alone.

use std::time::Duration;

use ondat_telemetry_protocol::time;

use super::https::Response;

/// The longest wait that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(86_400);
/// The header that says so.
pub const RETRY_AFTER: &str = "Retry-After";

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: i64 = 784_111_777;

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
