//! `check-version`: one question, one answer.

use std::time::Duration;

use ondat_telemetry::callbacks::VersionInfo;
use ondat_telemetry::client::Client;
use ondat_telemetry::config::Config;
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::time::rfc3339;
use serde_json::{Value, json};

use crate::{Output, exit};

/// Asks now.
pub(crate) fn run(config: Config, json: bool) -> Result<Output, Error> {
    let (timeout, has_key) = (config.given.timeout, !config.given.version_keys.is_empty());
    let client = Client::new(config)?;
    let info = client.check_version(timeout);
    client.close(Duration::ZERO);
    let info = info?;
    let output = if json { Output::json(&as_json(&info)) } else { Output::text(as_text(&info, has_key)) };
    Ok(output.with_code(exit::of_verdict(info.verdict)))
}

fn as_json(info: &VersionInfo) -> Value {
    json!({
        "running": info.running,
        "latest": info.latest,
        "verdict": info.verdict,
        "advisory": info.advisory,
        "authenticated": info.authenticated,
        "checked_at": info.checked_at,
        "expires": info.expires,
    })
}

fn as_text(info: &VersionInfo, has_key: bool) -> String {
    let signature = match (info.authenticated, has_key) {
        (true, _) => "verified",
        (false, true) => "not verified",
        (false, false) => "not verified, no version key is configured",
    };
    format!(
        "running    {}\nlatest     {}\nverdict    {}\nadvisory   {}\nexpires    {}\n\
         signature  {signature}\n",
        info.running,
        info.latest.as_deref().unwrap_or("unknown"),
        info.verdict.as_str(),
        info.advisory.as_deref().unwrap_or("none"),
        info.expires.map_or("unknown".to_owned(), rfc3339),
    )
}

#[cfg(test)]
mod tests {
    use ondat_telemetry::version::verdict::Verdict;

    use super::*;

    fn info() -> VersionInfo {
        VersionInfo {
            running: "2.8.2".to_owned(),
            latest: Some("2.9.0".to_owned()),
            advisory: None,
            verdict: Verdict::UpgradeRecommended,
            authenticated: false,
            checked_at: 7,
            expires: Some(1_800_000_000),
        }
    }

    #[test]
    fn an_unsigned_answer_is_not_shown_as_verified() {
        let text = as_text(&info(), false);
        assert!(
            text.contains("verdict    upgrade recommended\nadvisory   none\nexpires    2027-01-15T08:00:00Z\n"),
            "{text}"
        );
        assert!(text.ends_with("signature  not verified, no version key is configured\n"), "{text}");
    }

    #[test]
    fn json_names_verdicts_in_snake_case() {
        assert_eq!(as_json(&info())["verdict"], "upgrade_recommended");
    }
}
