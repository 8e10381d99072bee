//! A cluster's resource. JSON is YAML: where serde_json can read it too, both must say the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::spec;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let Ok(read) = spec::parse(text) else { return };
    let Ok(json) = serde_json::from_str::<Value>(text) else { return };
    let spec = &json["spec"];
    assert!(spec.is_null() || spec.is_object(), "accepted: spec is {spec}");
    assert_eq!(read.disable_telemetry, spec["disableTelemetry"] == true, "{read:?}");
    assert_eq!(read.k8s_distro.as_deref().map(str::len).is_some(), !spec["k8sDistro"].is_null(), "{read:?}");
    let environment = &spec["environment"];
    assert!(environment.is_null() || environment.is_object(), "accepted: environment is {environment}");
    let mut variables = 0;
    for (name, value) in environment.as_object().into_iter().flatten() {
        variables += usize::from(!value.is_null());
        match value {
            Value::String(value) => assert_eq!(read.environment.get(name), Some(value)),
            _ => assert_eq!(read.environment.contains_key(name), !value.is_null(), "{name}: {read:?}"),
        }
    }
    assert_eq!(read.environment.len(), variables, "variables were made up: {read:?}");
});
