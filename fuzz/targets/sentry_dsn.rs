//! Sentry DSNs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::crash::sentry::Dsn;
use ondat_telemetry::transport::https::Endpoint;

fuzz_target!(|text: &str| {
    let Ok(dsn) = Dsn::parse(text) else { return };
    assert_eq!(Dsn::parse(&dsn.to_string()).as_ref(), Ok(&dsn));
    let endpoint = dsn.endpoint().to_string();
    assert_eq!(Endpoint::parse(&endpoint).as_ref(), Ok(dsn.endpoint()));
    let project = text.trim().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    assert!(endpoint.ends_with(&format!("/api/{project}/envelope/")), "{text:?} became {endpoint:?}");
    let key = dsn.auth().rsplit_once("sentry_key=").map(|(_, key)| key.to_owned()).unwrap_or_default();
    assert!(!key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic() && b != b',' && b != b'"'), "{key:?}");
    assert!(text.contains(&format!("://{key}")), "{text:?} became {key:?}");
});
