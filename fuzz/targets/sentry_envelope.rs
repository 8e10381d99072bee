//! A crash report as it comes from the network.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry_protocol::envelope::Envelope;
use ondat_telemetry_protocol::event::{Summary, event_id};
use ondat_telemetry_protocol::identity::is_hex_id;
use ondat_telemetry_protocol::limits::ENVELOPE_ITEMS;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(envelope) = Envelope::parse(bytes) else { return };
    assert!(envelope.items.len() <= ENVELOPE_ITEMS);
    for item in &envelope.items {
        let _ = item.kind();
        // Payloads are parts of what came, none twice.
        assert!(bytes.as_ptr_range().contains(&item.payload.as_ptr()) || item.payload.is_empty());
        let Ok(event) = serde_json::from_slice::<Value>(item.payload) else { continue };
        let _ = Summary::read(&event);
        if let Some(id) = event["event_id"].as_str().and_then(event_id) {
            assert!(is_hex_id(&id));
        }
    }
    let payloads: usize = envelope.items.iter().map(|item| item.payload.len()).sum();
    assert!(payloads < bytes.len());
});
