//! A cluster's resource. JSON is YAML: where serde_json can read it too, both must say the same.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::spec;
use serde_json::Value;

const OURS: &str = "StorageOSCluster";

fuzz_target!(|text: &str| {
    let Ok(read) = spec::parse(text) else { return };
    let Ok(json) = serde_json::from_str::<Value>(text) else { return };
    assert!(json.is_null() || json.is_object(), "accepted: {json}");
    let items = json["items"].as_array().into_iter().flatten().filter(|item| item.is_object());
    let resources: Vec<&Value> = std::iter::once(&json).chain(items).collect();
    let kinds: Vec<String> = resources.iter().map(|resource| kind(resource)).collect();
    // What an item does not say its list says.
    let of_list = if kinds[0] == format!("{OURS}List") { OURS } else { &kinds[0] };
    let of_items = kinds[1..].iter().map(|own| if own.is_empty() { of_list } else { own });
    let counted: Vec<&str> = std::iter::once(kinds[0].as_str()).chain(of_items).collect();
    assert!(counted.contains(&OURS) || kinds.iter().all(String::is_empty), "accepted: the kinds {kinds:?}");

    let (mut is_off, mut distro, mut environment) = (false, &Value::Null, BTreeMap::new());
    for (resource, _) in resources.iter().zip(counted).filter(|(_, kind)| ["", OURS].contains(kind)) {
        let spec = &resource["spec"];
        assert!(spec.is_null() || spec.is_object(), "accepted: spec is {spec}");
        is_off |= spec["disableTelemetry"] == true;
        distro = if spec["k8sDistro"].is_null() { distro } else { &spec["k8sDistro"] };
        let variables = &spec["environment"];
        assert!(variables.is_null() || variables.is_object(), "accepted: environment is {variables}");
        for (name, value) in variables.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            assert!(environment.insert(name, value).is_none(), "accepted: {name} in two resources");
        }
    }
    assert_eq!(read.disable_telemetry, is_off, "{read:?}");
    assert!(is_same(read.k8s_distro.as_ref(), distro), "{read:?}");
    assert!(environment.keys().copied().eq(read.environment.keys()), "{read:?}");
    for (name, value) in environment {
        assert!(is_same(read.environment.get(name), value), "{name}: {read:?}");
    }
});

fn kind(resource: &Value) -> String {
    match &resource["kind"] {
        Value::Null => String::new(),
        Value::String(kind) => kind.clone(),
        other => other.to_string(),
    }
}

/// Whether this was read of a value: of a number that there is one, which JSON's reader may spell differently.
fn is_same(read: Option<&String>, value: &Value) -> bool {
    match value {
        Value::String(text) => read == Some(text),
        _ => read.is_some() != value.is_null(),
    }
}
