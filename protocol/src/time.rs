//! Days and moments as text: RFC 3339 in UTC, whole seconds. The years that can be written are 1970 to 9999; what lies
//! outside, as a wrong clock or a damaged file may say, becomes the nearest second inside.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A day in seconds.
pub const DAY_SECONDS: i64 = 86_400;
/// 9999-12-31T23:59:59Z in Unix seconds.
pub const LAST_SECOND: i64 = 253_402_300_799;

/// A moment in Unix seconds as `YYYY-MM-DDThh:mm:ssZ`.
pub fn rfc3339(unix_seconds: i64) -> String {
    let seconds = u64::try_from(unix_seconds.min(LAST_SECOND)).unwrap_or(0);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// The UTC day of a moment in Unix seconds as `YYYY-MM-DD`.
pub fn date(unix_seconds: i64) -> String {
    let mut text = rfc3339(unix_seconds);
    text.truncate("YYYY-MM-DD".len());
    text
}

/// A day, counted from 1970-01-01, as `YYYY-MM-DD`.
pub fn date_of_day(day: u16) -> String {
    date(i64::from(day) * DAY_SECONDS)
}

/// The Unix seconds of a moment in RFC 3339 and UTC; none for any other text.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    is_rfc3339(text).then_some(())?;
    unix_seconds(humantime::parse_rfc3339(text).ok()?)
}

/// The Unix seconds at which a day `YYYY-MM-DD` begins; none for any other text.
pub fn parse_date(text: &str) -> Option<i64> {
    parse_rfc3339(&format!("{text}T00:00:00Z"))
}

/// Whether a text is a moment in RFC 3339 and UTC, with or without a fraction of a second. humantime also lets pass a
/// point without a fraction and an offset before the `Z`.
pub fn is_rfc3339(text: &str) -> bool {
    let fraction = text.strip_suffix('Z').and_then(|text| text.get("2026-01-31T12:00:00".len()..));
    let is_fraction =
        |text: &str| text.strip_prefix('.').is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    fraction.is_some_and(|text| text.is_empty() || is_fraction(text)) && humantime::parse_rfc3339(text).is_ok()
}

/// A clock's moment in Unix seconds; none for one before 1970.
pub fn unix_seconds(time: SystemTime) -> Option<i64> {
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for seconds in [0, 1, 951_782_399, 951_782_400, 1_790_000_000, LAST_SECOND] {
            assert_eq!(parse_rfc3339(&rfc3339(seconds)), Some(seconds));
            assert_eq!(parse_date(&date(seconds)), Some(seconds - seconds % DAY_SECONDS));
        }
        assert_eq!((date_of_day(0), date_of_day(20_781)), ("1970-01-01".to_owned(), "2026-11-24".to_owned()));
        assert_eq!(
            (rfc3339(i64::MIN), rfc3339(i64::MAX)),
            ("1970-01-01T00:00:00Z".into(), "9999-12-31T23:59:59Z".into())
        );
    }

    #[test]
    fn other_texts_are_no_moments() {
        for text in [
            "",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+01:00",
            "2026-13-01T00:00:00Z",
        ] {
            assert!(!is_rfc3339(text) && parse_rfc3339(text).is_none(), "{text}");
        }
        assert!(is_rfc3339("2026-01-31T12:00:00.123456789Z"));
        assert_eq!(parse_date("2026-1-31"), None);
    }
}
