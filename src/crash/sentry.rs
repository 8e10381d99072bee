//! Sentry's server: where it is, and what an answer means for a stored event.

use std::time::Duration;

use ondat_telemetry_protocol::dsn;
use serde_json::Value;

use crate::transport::https::{Endpoint, Response};
use crate::transport::retry_after::retry_after;

/// Where crash reports go, from a DSN: `https://KEY@HOST[:PORT][/PREFIX]/PROJECT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    text: String,
    endpoint: Endpoint,
    public_key: String,
}

impl std::fmt::Display for Dsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Dsn {
    /// Reads a DSN. The error does not repeat it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let dsn = dsn::Dsn::parse(text)?;
        let endpoint = Endpoint::parse(&dsn.envelope_url())?;
        Ok(Self { text: text.trim().to_owned(), endpoint, public_key: dsn.public_key })
    }

    /// Where envelopes are posted.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The value of `X-Sentry-Auth`.
    pub fn auth(&self) -> String {
        format!(
            "Sentry sentry_version=7, sentry_client=ondat-telemetry/{}, sentry_key={}",
            env!("CARGO_PKG_VERSION"),
            self.public_key
        )
    }
}

/// What happens to the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server has it.
    Delivered,
    /// The server refused it for good.
    Rejected,
    /// Try again, not before this long.
    Later(Duration),
}

/// The pause after a 429 that names none (Sentry's SDK documentation).
const DEFAULT_RATE_LIMIT: Duration = Duration::from_secs(60);

/// The longest pause that a server may ask for.
const LONGEST_RATE_LIMIT: Duration = Duration::from_secs(86_400);

/// Judges an answer that came at this time, in Unix seconds. Only a server that speaks Sentry's language can refuse for good; a proxy's error page cannot.
pub fn outcome(answer: &Response, now: i64) -> Outcome {
    match answer.status {
        200..=299 => Outcome::Delivered,
        429 => Outcome::Later(rate_limit(answer, now).unwrap_or(DEFAULT_RATE_LIMIT)),
        413 => Outcome::Rejected,
        400..=499 if has_sentry_body(answer) => Outcome::Rejected,
        _ => Outcome::Later(retry_after(answer, now).unwrap_or_default()),
    }
}

const RATE_LIMITS: &str = "X-Sentry-Rate-Limits";
const ERROR: &str = "X-Sentry-Error";
/// What an answer is judged by, besides its body.
pub const WANTED: [&str; 3] = [RATE_LIMITS, ERROR, "Retry-After"];

/// For how long a server that answers so wants no more events: `X-Sentry-Rate-Limits`, which may come with any status, a
/// list of `seconds:categories:scope:…` where no category means all; on 429 without it `Retry-After`, else a minute
/// (Sentry's SDK documentation, "Rate Limiting"). What cannot be read is passed over.
pub fn rate_limit(answer: &Response, now: i64) -> Option<Duration> {
    if answer.header(RATE_LIMITS).is_none() {
        return (answer.status == 429).then(|| retry_after(answer, now).unwrap_or(DEFAULT_RATE_LIMIT));
    }
    let limits = answer.headers_of(RATE_LIMITS).flat_map(|limits| limits.split(','));
    let seconds = limits.filter_map(|limit| {
        let mut parts = limit.trim().split(':');
        let seconds =
            parts.next()?.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds > 0.0)?;
        let mut categories = parts.next().unwrap_or_default().split(';').map(str::trim);
        categories.any(|category| matches!(category, "" | "error" | "default")).then_some(seconds)
    });
    let longest = seconds.fold(0.0, f64::max).min(LONGEST_RATE_LIMIT.as_secs_f64());
    (longest > 0.0).then(|| Duration::from_secs_f64(longest.ceil()))
}

fn has_sentry_body(answer: &Response) -> bool {
    answer.header(ERROR).is_some()
        || serde_json::from_slice::<Value>(&answer.body)
            .is_ok_and(|body| ["detail", "error", "causes"].iter().any(|key| body.get(key).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_keeps_port_and_prefix() {
        let dsn = Dsn::parse("https://abc:secret@sentry.example.com:9000/some/prefix/42").unwrap();
        assert_eq!(dsn.endpoint().to_string(), "https://sentry.example.com:9000/some/prefix/api/42/envelope/");
        assert!(dsn.auth().ends_with("sentry_key=abc"));
        let dsn = Dsn::parse("https://abc@o1.ingest.sentry.io/7").unwrap();
        assert_eq!(dsn.endpoint().to_string(), "https://o1.ingest.sentry.io/api/7/envelope/");
        for (text, endpoint) in [
            ("https://abc@[2001:db8::1]/7", "https://[2001:db8::1]/api/7/envelope/"),
            ("https://abc:secret@[2001:db8::1]:9000/a/b/7/", "https://[2001:db8::1]:9000/a/b/api/7/envelope/"),
            (" https://a_b-C@192.0.2.1:65535/project-x\n", "https://192.0.2.1:65535/api/project-x/envelope/"),
            ("http://abc@127.0.0.1:9000/1", "http://127.0.0.1:9000/api/1/envelope/"),
            ("http://abc@[::1]/p/1", "http://[::1]/p/api/1/envelope/"),
        ] {
            assert_eq!(Dsn::parse(text).unwrap().endpoint().to_string(), endpoint, "{text:?}");
        }
    }

    #[test]
    fn the_secret_of_an_old_dsn_goes_nowhere() {
        let dsn = Dsn::parse("https://abc:hunter2@sentry.example.com/1").unwrap();
        assert_eq!(dsn.auth().split(", ").last(), Some("sentry_key=abc"));
        assert!(!dsn.auth().contains("hunter2") && !dsn.endpoint().to_string().contains("hunter2"));
    }

    #[test]
    fn a_malformed_dsn_says_what_is_missing() {
        for (text, why) in [
            ("sentry.example.com/1", "expected https"),
            ("https://sentry.example.com/1", "public key"),
            ("https://@sentry.example.com/1", "public key"),
            ("https://abc@sentry.example.com", "project"),
            ("https://abc@/1", "host"),
            ("http://abc@sentry.example.com/1", "https"),
            ("ftp://abc@sentry.example.com/1", "https"),
            ("", "expected https"),
            ("https://:secret@sentry.example.com/1", "public key"),
            ("https://a%62c@sentry.example.com/1", "public key"),
            ("https://abc@sentry.example.com/", "project"),
            ("https://abc@sentry.example.com//", "project"),
            ("https://abc@sentry.example.com/1?x=2", "project"),
            ("https://abc@:443/1", "host"),
            ("https://abc@[2001:db8::1/1", "host"),
            ("https://abc@sentry.example.com:0/1", "port"),
            ("https://abc@sentry.example.com:65536/1", "port"),
            ("https://abc@def@sentry.example.com/1", "credentials"),
            ("http://abc@127.0.0.1.example.com/1", "https"),
            ("http://abc@192.0.2.1/1", "https"),
            ("http://abc@[2001:db8::1]/1", "https"),
        ] {
            let error = Dsn::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_proxys_error_page_discards_nothing() {
        let judged = |status, body: &str| outcome(&Response { status, headers: Vec::new(), body: body.into() }, 0);
        assert_eq!(judged(403, "<html>blocked</html>"), Outcome::Later(Duration::ZERO));
        assert_eq!(judged(403, r#"{"detail":"bad key"}"#), Outcome::Rejected);
        assert_eq!(judged(429, ""), Outcome::Later(Duration::from_secs(60)));
    }

    #[test]
    fn without_limits_by_category_retry_after_counts_on_429_alone() {
        let limit = |status, value: &str| {
            let headers = vec![("retry-after".to_owned(), value.to_owned())];
            // Sun, 06 Nov 1994 08:49:37 GMT.
            rate_limit(&Response { status, headers, body: Vec::new() }, 784_111_777).map(|limit| limit.as_secs())
        };
        for (value, seconds) in [
            ("120", 120),
            (" 120\t", 120),
            ("0", 0),
            ("86401", 86_400),
            ("Sun, 06 Nov 1994 08:51:37 GMT", 120),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
            // What cannot be read is as good as nothing: a minute.
            ("", 60),
            ("soon", 60),
            ("-5", 60),
            ("1.5", 60),
            ("nan", 60),
            ("inf", 60),
            ("99999999999999999999", 86_400),
            ("Sunday, 06-Nov-94 08:51:37 GMT", 120),
            ("Sun Nov  6 08:51:37 1994", 120),
        ] {
            assert_eq!(limit(429, value), Some(seconds), "{value:?}");
            assert_eq!(limit(200, value), None, "{value:?}");
            assert_eq!(limit(503, value), None, "{value:?}");
        }
    }

    #[test]
    fn rate_limits_are_read_and_what_is_none_is_passed_over() {
        let limit = |status, header: Option<&str>| {
            let headers =
                header.map(|value| ("x-sentry-rate-limits".to_owned(), value.to_owned())).into_iter().collect();
            rate_limit(&Response { status, headers, body: Vec::new() }, 0).map(|limit| limit.as_secs())
        };
        assert_eq!(limit(200, None), None);
        assert_eq!(limit(429, None), Some(60));
        for (header, seconds) in [
            ("60:error:organization", Some(60)),
            ("60::organization", Some(60)),
            ("2700", Some(2_700)),
            ("60:transaction;attachment:key", None),
            (" 5 : transaction ; error : key , 30:default:organization:reason", Some(30)),
            ("1.2:error:key", Some(2)),
            ("99999999999:error:key", Some(86_400)),
            ("nan:error:key, inf:error, -5:error, :error, x:error, ,,", None),
            ("", None),
            (",", None),
            (":::", None),
            ("60:", Some(60)),
            ("60:;", Some(60)),
            ("\t60 :\tdefault ; replay", Some(60)),
            ("60:ERROR", None),
            ("60:errors", None),
            ("0.2:error", Some(1)),
            ("0:error, -0:error", None),
            ("1e3:error", Some(1_000)),
            ("1e400:error", None),
            ("0x10:error, 10s:error, 1_0:error, 1 0:error", None),
            ("7:session:organization, 8:error:organization:quota, 9:attachment", Some(8)),
            ("x, 8:error", Some(8)),
        ] {
            assert_eq!(limit(200, Some(header)), seconds, "{header:?}");
        }
    }
}
