//! The administrator's switches.json. Whatever is not understood must not be read as consent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::switch::Switch;
use ondat_telemetry::switches::{WORDS, parse};
use serde_json::{Map, Value};

fuzz_target!(|bytes: &[u8]| {
    let json = serde_json::from_slice::<Value>(bytes).ok();
    let Ok(off) = parse(bytes) else { return };
    let file = json.expect("accepted: no JSON");
    let file = file.as_object().expect("accepted: no object");
    let mut words = vec![file];
    if let Some(more) = file.get(WORDS) {
        let more = more.as_object().expect("accepted: words are no object");
        words.extend(more.values().map(|word| word.as_object().expect("accepted: a word is no object")));
    }
    let mut said = 0;
    for word in &words {
        said += judge(word, |switch| off.iter().any(|objection| objection.switch == switch));
    }
    let objections = file.get("objections").and_then(Value::as_array).map_or(0, Vec::len);
    assert!(off.len() <= objections + said && (!off.is_empty() || objections + said == 0));
});

/// How many switches a word turns off. All of them must be.
fn judge(word: &Map<String, Value>, is_off: impl Fn(Switch) -> bool) -> usize {
    let mut said = 0;
    for (name, value) in word {
        match Switch::ALL.into_iter().find(|switch| switch.name() == name) {
            Some(switch) => {
                assert!(value.is_boolean(), "accepted: {name} is {value}");
                assert!(is_off(switch) || value == true, "{name} is read as on");
                said += usize::from(value == false);
            }
            None => assert!(!value.is_boolean(), "accepted: {name} may be a misspelt switch"),
        }
    }
    said
}
