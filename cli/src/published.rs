//! `zone --verify`: whether the published zone answers, which keys have signed its answers, and how long these are
//! valid.

use ondat_telemetry::config::setting;
use ondat_telemetry::error::Error;
use ondat_telemetry::schedule::DAY;
use ondat_telemetry::switch::Switch;
use ondat_telemetry::switches::Switches;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry::transport::dns::{Dns, ResolverDns};
use ondat_telemetry_protocol::answer::{Answer, Judge, VersionKey};
use ondat_telemetry_protocol::query::version_label;
use ondat_telemetry_protocol::time::rfc3339;
use semver::Version;
use serde_json::{Value, json};

use crate::Output;
use crate::settings::Settings;

/// The exit status for what expires soon.
const EXPIRES_SOON: u8 = 1;

/// Asks, and says what there is.
pub(crate) fn run(zone: &str, within_days: u16, settings: &Settings, json: bool) -> Result<Output, Error> {
    let zone = setting::zone(zone).map_err(|why| Error::InvalidArgument(format!("--verify: {why}")))?;
    if settings.config.given.version_keys.is_empty() {
        let why = "the key that signs the zone is required: set --version-key or ONDAT_TELEMETRY_VERSION_KEY";
        return Err(Error::InvalidConfig(why.to_owned()));
    }
    let version = settings.has_version.then_some(&settings.config.version);
    let label = version.map(version_label);
    let texts = ask(&zone, label.as_deref(), settings)?;
    // Without a version, any stands for all: the answer for all is for it too.
    let any = version_label(&Version::new(0, 0, 1));
    let label = label.as_deref().unwrap_or(&any);
    // A client knows one of the keys, so each must have an answer of its own.
    let answers = settings.config.given.version_keys.iter().map(|key| signed_by(key, &zone, label, &texts));
    let answers: Vec<Answer> = answers.collect::<Result<_, _>>()?;
    let answer = answers.into_iter().min_by_key(|answer| answer.expires);
    let answer = answer.ok_or_else(|| Error::Internal("a zone without an answer".to_owned()))?;
    let left = answer.expires.saturating_sub(unix_now());
    let said = Said { zone: &zone, answer: &answer, left, is_soon: left <= i64::from(within_days) * DAY };
    let output = if json { Output::json(&said.as_json()) } else { Output::text(said.as_text()) };
    Ok(output.with_code(if said.is_soon { EXPIRES_SOON } else { 0 }))
}

/// The TXT records of a name that nobody has asked for before, so that no cache answers, and that is no version query, so
/// that nobody counts it.
fn ask(zone: &str, label: Option<&str>, settings: &Settings) -> Result<Vec<Vec<u8>>, Error> {
    let config = &settings.config;
    let chance = getrandom::u64().map_err(|error| Error::Internal(format!("no randomness for a name: {error}")))?;
    let label = label.map(|label| format!("{label}.")).unwrap_or_default();
    let name = format!("verify-{chance:016x}.{label}o1.{zone}.");
    let switches = Switches::new(config.host_switches, config.objections.clone(), config.state_dir.clone());
    let permit = switches.permit(Switch::VersionCheck)?;
    ResolverDns::new(config.given.https.nameservers.clone()).txt(permit, &name, config.given.timeout)
}

/// The answer that clients with this key take, whenever it expires: the last one, of several.
fn signed_by(key: &VersionKey, zone: &str, label: &str, texts: &[Vec<u8>]) -> Result<Answer, Error> {
    let mut refusal = None;
    let mut accepted = Vec::new();
    for text in texts {
        // As a client judges it, but while it was good.
        let now = expires(text).map_or_else(unix_now, |expires| unix_now().min(expires.saturating_sub(1)));
        let judge = Judge { zone, version_label: label, keys: std::slice::from_ref(key), now, newest_issued: 0 };
        match judge.first_acceptable(std::slice::from_ref(text)) {
            Ok((answer, _)) => accepted.push(answer),
            Err(error) => {
                refusal.get_or_insert(error);
            }
        }
    }
    let nothing = || format!("the zone {zone} has no answer: it is not published there");
    accepted
        .into_iter()
        .max_by_key(|answer| answer.issued)
        .ok_or_else(|| Error::Untrusted(refusal.unwrap_or_else(nothing)))
}

fn expires(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.split(' ').find_map(|field| field.strip_prefix("e="))?.parse().ok()
}

struct Said<'a> {
    zone: &'a str,
    answer: &'a Answer,
    left: i64,
    is_soon: bool,
}

impl Said<'_> {
    fn as_text(&self) -> String {
        let Self { zone, answer, left, is_soon } = self;
        let version = |version: &Option<Version>| version.as_ref().map_or("none".to_owned(), Version::to_string);
        let left = match left {
            ..=0 => "it has expired".to_owned(),
            left => format!("in {} days", left / DAY),
        };
        format!(
            "zone         {zone}\nlatest       {}\nrecommended  {}\nrequired     {}\nadvisory     {}\n\
             issued       {}\nexpires      {}, {left}{}\nsignature    verified\n",
            answer.latest,
            version(&answer.recommended),
            version(&answer.required),
            answer.advisory.as_deref().unwrap_or("none"),
            rfc3339(answer.issued),
            rfc3339(answer.expires),
            if *is_soon { ": sign and publish it again" } else { "" },
        )
    }

    fn as_json(&self) -> Value {
        let Self { zone, answer, left, is_soon } = self;
        let version = |version: &Option<Version>| version.as_ref().map(Version::to_string);
        json!({
            "zone": zone,
            "latest": answer.latest.to_string(),
            "recommended": version(&answer.recommended),
            "required": version(&answer.required),
            "status": answer.status,
            "advisory": answer.advisory,
            "issued": answer.issued,
            "expires": answer.expires,
            "seconds_left": left,
            "expires_soon": is_soon,
            "authenticated": answer.authenticated,
        })
    }
}
