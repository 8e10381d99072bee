//! What a run has left behind: its marker, the list of core files, and what a Go runtime has written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::crash::cores::Cores;
use ondat_telemetry::crash::marker::parse;
use ondat_telemetry::crash::output::CrashOutput;

const NAME: &str = "dataplane-7-0123456789abcdef0123456789abcdef";

fuzz_target!(|bytes: &[u8]| {
    if let Some(leftover) = parse(NAME, bytes) {
        assert!(NAME.ends_with(&leftover.event_id));
        assert!(ondat_telemetry_protocol::identity::component(&leftover.component).is_ok());
        let _ = leftover.ending();
        assert!(parse("dataplane-7", bytes).is_none());
    }
    if let Ok(json) = serde_json::from_slice(bytes) {
        let cores = Cores::from_json(&json);
        let again = Cores::from_json(&serde_json::to_value(&cores).expect("a list that was read cannot be written"));
        assert_eq!(serde_json::to_value(&again).ok(), serde_json::to_value(&cores).ok());
    }
    let (mut whole, mut parts) = (CrashOutput::default(), CrashOutput::default());
    whole.take(bytes);
    bytes.chunks(7).for_each(|part| parts.take(part));
    assert_eq!(whole.class(), parts.class());
});
