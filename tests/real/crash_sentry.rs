//! Crash events before Sentry's own code: nothing is wrong with them, nothing is lost, and nothing is derived from where
//! they come from. (That Relay takes a connection's address for the user's is left out of the Python package; it does so
//! for other platforms than `native`, and where an event has a user or a request.)

use serde_json::{Value, json};

use crate::crash_kinds::kinds;
use crate::support::{TempDir, python, root, succeed};

/// What Relay adds to every event, none of it about the sender's machine.
const ADDED: [&str; 8] = ["contexts", "key_id", "logger", "project", "received", "sdk", "type", "version"];
/// The address and a word of the user agent that the events come with.
const OF_THE_SENDER: [&str; 2] = ["203.0.113.7", "iPhone"];

/// What `judge_crashes.py` says of each event.
fn judged(events: &[Value]) -> Vec<Value> {
    let folder = TempDir::new();
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    std::fs::write(folder.join("events"), lines).unwrap();
    let verdicts = String::from_utf8(succeed(python("judge_crashes.py").arg(folder.join("events"))).stdout).unwrap();
    let verdicts: Vec<Value> = verdicts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(verdicts.len(), events.len());
    verdicts
}

/// The event in Relay's form: tags are a list of pairs, the time is a number.
fn in_relays_form(event: &Value) -> Value {
    let mut event = event.clone();
    event["tags"] = event["tags"].as_object().unwrap().iter().map(|(name, value)| json!([name, value])).collect();
    let at = humantime::parse_rfc3339(event["timestamp"].as_str().unwrap()).unwrap();
    event["timestamp"] = json!(at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64());
    event
}

fn without_what_relay_adds(mut event: Value) -> Value {
    let contexts = event["contexts"].as_object().unwrap();
    assert_eq!(contexts.keys().collect::<Vec<_>>(), ["trace"], "made from the event's id");
    assert_eq!(event["sdk"], json!({"name": "ondat-telemetry", "version": "0.1.0"}), "from X-Sentry-Auth");
    for name in ADDED {
        assert!(event.as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    event
}

#[test]
fn sentrys_schema_and_relay_have_nothing_against_any_event_and_add_nothing_of_the_sender() {
    let (names, events): (Vec<_>, Vec<_>) = kinds().into_iter().unzip();
    for ((name, event), verdict) in names.iter().zip(&events).zip(judged(&events)) {
        assert_eq!(verdict["schema"], Value::Null, "{name}");
        // Where something is dropped or changed, `_meta` or `errors` says so.
        let relayed = without_what_relay_adds(verdict["normalised"].clone());
        assert_eq!(relayed, in_relays_form(event), "{name}");
        for word in OF_THE_SENDER {
            assert!(!verdict["normalised"].to_string().contains(word), "{name}: {word}");
        }
        // A caller's own words are the one thing in which a scrubber may find something.
        if *name != "caller's text" {
            assert_eq!(verdict["scrubbed"], verdict["normalised"], "{name}");
        }
    }
}

#[test]
fn the_same_code_finds_what_other_events_have_wrong_or_ask_for() {
    let event = kinds().remove(0).1;
    let with = |name: &str, value: Value| {
        let mut event = event.clone();
        event[name] = value;
        event
    };
    let events = [
        with("request", json!({"env": {"REMOTE_ADDR": OF_THE_SENDER[0]}})),
        with("request", json!({"headers": [["User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 16_0 like Mac OS X)"]]})),
        with("level", json!("deadly")),
        with("environment", json!("a/b")),
    ];
    let [address, device, level, environment] = &judged(&events)[..] else { panic!() };
    assert_eq!(address["normalised"]["user"]["ip_address"], OF_THE_SENDER[0]);
    assert_eq!(device["normalised"]["contexts"]["device"]["family"], OF_THE_SENDER[1]);
    assert!(level["schema"].is_string(), "{level}");
    assert!(environment["normalised"]["_meta"]["environment"].is_object(), "{environment}");
}

#[test]
fn the_rule_of_the_documentation_keeps_the_place_out() {
    let page = std::fs::read_to_string(root().join("docs/sentry.md")).unwrap();
    assert!(page.contains("[Remove] [Anything] from [$user.geo.**]"));
    let verdict = judged(&[kinds().remove(0).1]).remove(0);
    assert_eq!(verdict["geo"]["$user.geo.**"], json!({}));
    assert_eq!(verdict["geo"]["$user.geo"]["city"], "Melbourne", "the documentation says that the stars matter");
}
