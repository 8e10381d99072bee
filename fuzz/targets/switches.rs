//! The administrator's switches.json. Whatever is not understood must not be read as consent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::switches::{ADMINISTRATOR, Switch, parse};
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let json = serde_json::from_slice::<Value>(bytes).ok();
    let Ok(off) = parse(bytes) else { return };
    let file = json.expect("accepted: no JSON");
    let file = file.as_object().expect("accepted: no object");
    for (name, value) in file {
        let switch = Switch::ALL.into_iter().find(|switch| switch.name() == name);
        match switch {
            Some(switch) => {
                let is_off =
                    off.iter().any(|objection| objection.switch == switch && objection.source == ADMINISTRATOR);
                // An objection may bear the administrator's name; nothing may lack it.
                assert!(value.is_boolean(), "accepted: {name} is {value}");
                assert!(is_off || value == true, "{name} is read as on");
            }
            None => assert!(!value.is_boolean(), "accepted: {name} may be a misspelt switch"),
        }
    }
    let objections = file.get("objections").and_then(Value::as_array).map_or(0, Vec::len);
    let words = Switch::ALL.iter().filter(|switch| file.get(switch.name()) == Some(&Value::Bool(false))).count();
    assert_eq!(off.len(), objections + words);
});
