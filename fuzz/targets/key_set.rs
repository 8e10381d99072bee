//! The vendor's key set. The ids are made right, as no fuzzer finds a hash.
#![no_main]

use std::io::Write;

use data_encoding::{BASE64, HEXLOWER};
use libfuzzer_sys::fuzz_target;
use ondat_telemetry_protocol::header::HEADER_BYTES;
use ondat_telemetry_protocol::keys::{KeySet, key_id};
use ondat_telemetry_protocol::seal::Sealer;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let _ = KeySet::parse(text);
    let Ok(mut json) = serde_json::from_str::<Value>(text) else { return };
    let mut windows = Vec::new();
    for key in json.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten() {
        let public = key["public"].as_str().and_then(|public| BASE64.decode(public.as_bytes()).ok());
        if let (Some(public), Some(key)) = (public, key.as_object_mut()) {
            key.insert("id".to_owned(), HEXLOWER.encode(&key_id(&public)).into());
        }
        windows.push((key["not_before"].as_i64(), key["not_after"].as_i64()));
    }
    let Ok(keys) = KeySet::parse(&json.to_string()) else { return };
    for now in windows.iter().flat_map(|window| [window.0, window.1]).flatten() {
        let valid = windows.iter().filter(|window| window.0 <= Some(now) && Some(now) < window.1);
        let newest = valid.map(|window| window.0).max();
        assert_eq!(keys.current(now).is_some(), newest.is_some(), "at {now} of {windows:?}");
    }
    let Some(key) = windows[0].0.and_then(|now| keys.current(now)) else { return };
    let mut sealer = Sealer::new(Vec::new(), key, [3; 16], 7);
    let sealed = sealer.write_all(b"report").and_then(|()| sealer.finish()).expect("an accepted key seals nothing");
    assert!(sealed.starts_with(b"OTR1") && sealed.len() > HEADER_BYTES);
});
