//! The StorageOSCluster resource, YAML or JSON: the three keys in it that concern this library.

use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::{BTreeMap, BTreeSet};

/// The longest text that is read, in bytes: etcd's own limit for a resource is 1.5 MiB.
const LONGEST: usize = 1 << 20;
/// How deep a resource may nest.
const DEEPEST: usize = 64;

/// What the cluster spec says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSpec {
    /// `spec.disableTelemetry`: all three switches.
    pub disable_telemetry: bool,
    /// `spec.environment`: variables for the node.
    pub environment: BTreeMap<String, String>,
    /// `spec.k8sDistro`.
    pub k8s_distro: Option<String>,
}

/// Reads a resource; other kinds, unknown keys and everything outside `spec` are ignored. The error names the key.
pub fn parse(text: &str) -> Result<ClusterSpec, String> {
    if text.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    let mut spec = ClusterSpec::default();
    let mut place = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, at) = event.map_err(|error| format!("not YAML: {error}"))?;
        let line = at.start.line();
        match event {
            Event::Alias(_) => return Err(format!("line {line}: aliases are not read")),
            Event::MappingStart(..) => {
                may_begin(&place, true).map_err(|why| format!("line {line}: {why}"))?;
                place.push(Level::Mapping { key: None, seen: BTreeSet::new() });
            }
            Event::SequenceStart(..) => {
                may_begin(&place, false).map_err(|why| format!("line {line}: {why}"))?;
                place.push(Level::Sequence);
            }
            Event::MappingEnd | Event::SequenceEnd => {
                place.pop();
                end_value(&mut place);
            }
            Event::Scalar(value, style, ..) => {
                if let Some(Level::Mapping { key: key @ None, seen }) = place.last_mut() {
                    if !seen.insert(value.to_string()) {
                        let name: String = value.chars().take(64).collect();
                        return Err(format!("line {line}: the key {name:?} stands twice in one mapping"));
                    }
                    *key = Some(value.into_owned());
                    continue;
                }
                take(&mut spec, &keys(&place), &value, style == ScalarStyle::Plain)
                    .map_err(|why| format!("line {line}: {why}"))?;
                end_value(&mut place);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
        }
        if place.len() > DEEPEST {
            return Err(format!("line {line}: nested deeper than {DEEPEST}"));
        }
    }
    Ok(spec)
}

/// Where the parser stands: in a mapping, with or without its current key, or in a sequence.
enum Level {
    Mapping { key: Option<String>, seen: BTreeSet<String> },
    Sequence,
}

fn keys(place: &[Level]) -> Vec<&str> {
    place
        .iter()
        .map(|level| match level {
            Level::Mapping { key, .. } => key.as_deref().unwrap_or_default(),
            Level::Sequence => "[]",
        })
        .collect()
}

fn end_value(place: &mut [Level]) {
    if let Some(Level::Mapping { key, .. }) = place.last_mut() {
        *key = None;
    }
}

/// Refuses a mapping or list where something else belongs.
fn may_begin(place: &[Level], is_mapping: bool) -> Result<(), String> {
    if let Some(Level::Mapping { key: None, .. }) = place.last() {
        return Err("a mapping or list as a key is not read".to_owned());
    }
    match keys(place)[..] {
        ["spec"] if !is_mapping => Err("spec is not a mapping".to_owned()),
        ["spec", "environment"] if !is_mapping => Err("spec.environment is not a mapping".to_owned()),
        ["spec", key @ ("disableTelemetry" | "k8sDistro")] => Err(format!("spec.{key} is not a plain value")),
        ["spec", "environment", key] => Err(format!("spec.environment.{key} is not a plain value")),
        _ => Ok(()),
    }
}

fn take(spec: &mut ClusterSpec, keys: &[&str], value: &str, is_plain: bool) -> Result<(), String> {
    let is_null = is_plain && matches!(value, "" | "~" | "null" | "Null" | "NULL");
    match keys {
        ["spec", "disableTelemetry"] => {
            // Off wins, also where a stream has several resources.
            spec.disable_telemetry |= match value {
                "true" | "True" | "TRUE" if is_plain => true,
                "false" | "False" | "FALSE" if is_plain => false,
                _ if is_null => false,
                _ => return Err("spec.disableTelemetry is not true or false".to_owned()),
            };
        }
        ["spec", "k8sDistro"] if !is_null => spec.k8s_distro = Some(value.to_owned()),
        ["spec", "environment"] if !is_null => return Err("spec.environment is not a mapping".to_owned()),
        ["spec", "environment", key] if !is_null => {
            let before = spec.environment.insert((*key).to_owned(), value.to_owned());
            if before.is_some() {
                return Err(format!("spec.environment.{key} stands in two resources"));
            }
        }
        ["spec"] if !is_null => return Err("spec is not a mapping".to_owned()),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "apiVersion: storageos.com/v1\nkind: StorageOSCluster\nspec:\n  disableTelemetry: true\n  images: {node: x}\n  \
                    tolerations:\n  - key: a\n  environment:\n    DISABLE_VERSION_CHECK: \"true\"\n  k8sDistro: rancher-1.2\n";
        let json = r#"{"spec":{"disableTelemetry":true,"environment":{"DISABLE_VERSION_CHECK":"true"},"k8sDistro":"rancher-1.2"}}"#;
        let read = parse(yaml).unwrap();
        assert!(read.disable_telemetry);
        assert_eq!(read.environment.get("DISABLE_VERSION_CHECK").map(String::as_str), Some("true"));
        assert_eq!(read.k8s_distro.as_deref(), Some("rancher-1.2"));
        assert_eq!(parse(json).unwrap(), read);
    }

    #[test]
    fn a_wrong_type_is_named() {
        assert!(parse("spec:\n  disableTelemetry: \"true\"\n").unwrap_err().contains("spec.disableTelemetry"));
        assert!(parse("spec:\n  disableTelemetry: [1]\n").unwrap_err().contains("spec.disableTelemetry"));
        assert!(parse("spec:\n  environment: 7\n").unwrap_err().contains("spec.environment"));
        assert!(parse("a: &x [1]\nb: *x\n").unwrap_err().contains("aliases"));
        assert!(parse("spec: [disableTelemetry]\n").unwrap_err().contains("spec is not a mapping"));
        let list = "spec:\n  environment:\n  - DISABLE_TELEMETRY=true\n";
        assert!(parse(list).unwrap_err().contains("spec.environment is not a mapping"));
        assert!(parse("{{{{").is_err());
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert_eq!(parse(""), Ok(ClusterSpec::default()));
    }

    #[test]
    fn nothing_takes_an_objection_back_or_hides_it() {
        let twice = "spec:\n  disableTelemetry: true\n  disableTelemetry: false\n";
        assert!(parse(twice).unwrap_err().contains("\"disableTelemetry\" stands twice"));
        let two = "spec: {disableTelemetry: true}\n---\nspec: {disableTelemetry: false}\n";
        assert!(parse(two).unwrap().disable_telemetry);
        let two = "spec: {environment: {DO_NOT_TRACK: \"1\"}}\n---\nspec: {environment: {DO_NOT_TRACK: \"0\"}}\n";
        assert!(parse(two).unwrap_err().contains("DO_NOT_TRACK stands in two resources"));
        // Not read as a key, the list would make values of keys and keys of values from there on.
        let after_a_list = "? [a]\n: b\nspec: {disableTelemetry: true}\n";
        assert!(parse(after_a_list).unwrap_err().contains("as a key"), "{:?}", parse(after_a_list));
    }
}
