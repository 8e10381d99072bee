//! What servers answer: two bytes of status, header lines, an empty line, a body.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::crash::sentry;
use ondat_telemetry::report::delivery;
use ondat_telemetry::transport::https::Response;
use ondat_telemetry_protocol::envelope;

const DAY: Duration = Duration::from_secs(86_400);

fuzz_target!(|bytes: &[u8]| {
    let Some((status, rest)) = bytes.split_first_chunk::<2>() else { return };
    let end = rest.windows(2).position(|two| two == b"\n\n").unwrap_or(rest.len());
    let Ok(lines) = std::str::from_utf8(&rest[..end]) else { return };
    let headers = lines.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let body = rest.get(end + 2..).unwrap_or_default().to_vec();
    let answer = Response { status: u16::from_be_bytes(*status) % 1000, headers, body };

    let is_ours = answer.headers_of("Ondat-Telemetry").any(|value| value.trim() == "1");
    match delivery::outcome(&answer, 1_800_000_000) {
        delivery::Outcome::Delivered => assert!(is_ours && matches!(answer.status, 200..=208)),
        delivery::Outcome::Rejected => assert!(is_ours && answer.status / 100 == 4),
        delivery::Outcome::Later(wait) => assert!(is_ours && wait <= DAY),
        delivery::Outcome::MuchLater { at_least, .. } => assert!(at_least <= DAY),
    }
    match sentry::outcome(&answer, 1_800_000_000) {
        sentry::Outcome::Delivered => assert_eq!(answer.status / 100, 2),
        sentry::Outcome::Rejected => assert!(answer.status / 100 == 4 && answer.status != 429),
        sentry::Outcome::Later(wait) => assert!(wait <= DAY && answer.status / 100 != 2),
    }
    // A stored event is such a body. What is made of it is read back.
    if let Some(envelope) = envelope::write(&answer.body, "2026-11-24T04:00:00Z") {
        let read = envelope::Envelope::parse(&envelope).expect("what was written is not read");
        assert!(read.header["event_id"].is_string());
        assert_eq!(
            read.items.iter().map(|item| (item.kind(), item.payload)).collect::<Vec<_>>(),
            [("event", &*answer.body)]
        );
    }
});
