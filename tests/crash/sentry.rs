//! What Sentry is told: the keys of events and the headers of requests, by committed lists.

use std::collections::BTreeSet;
use std::time::Duration;

use ondat_telemetry::client::Client;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::Setting;
use ondat_telemetry::error::Error;
use serde_json::Value;

use crate::kinds::kinds;
use crate::sink::Sink;
use crate::support::{TempDir, root};

/// Every path of a value that leads to no object or list.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| paths(value, &format!("{path}.{name}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| paths(value, &format!("{path}[{at}]"), found));
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

/// The committed list: paths below the names of the kinds that have them.
fn committed() -> Vec<(String, BTreeSet<String>)> {
    let text = std::fs::read_to_string(root().join("tests/abi/crash_event.txt")).unwrap();
    let kinds = text.split("\n\n").map(|block| {
        let (name, paths) = block.trim().split_once(":\n").unwrap();
        (name.to_owned(), paths.lines().map(|line| line.trim().to_owned()).collect())
    });
    kinds.collect()
}

#[test]
fn events_have_the_committed_keys_and_no_other() {
    let made = kinds().into_iter().map(|(name, event)| {
        let mut found = BTreeSet::new();
        paths(&event, "", &mut found);
        (name.to_owned(), found)
    });
    assert_eq!(made.collect::<Vec<_>>(), committed(), "what is sent is a promise: docs/protocols.md");
}

fn client(dsn: &str, state_dir: Option<&str>) -> Client {
    let mut builder = ConfigBuilder::new();
    builder.set(Setting::Component, "test");
    builder.set(Setting::Version, "2.8.1");
    builder.set(Setting::ClusterId, "cluster");
    builder.set(Setting::NodeId, "node");
    builder.set(Setting::SentryDsn, dsn);
    if let Some(state_dir) = state_dir {
        builder.set(Setting::StateDir, state_dir);
    }
    Client::new(builder.build().unwrap()).unwrap()
}

/// The event of an envelope; the envelope's header names the same one.
fn event(envelope: &str) -> Value {
    let [header, _, event] = envelope.lines().collect::<Vec<_>>()[..] else { panic!("{envelope}") };
    let (header, event): (Value, Value) = (serde_json::from_str(header).unwrap(), serde_json::from_str(event).unwrap());
    assert_eq!(header["event_id"], event["event_id"]);
    assert_eq!(header.as_object().unwrap().keys().collect::<Vec<_>>(), ["event_id", "sent_at"]);
    event
}

#[test]
fn a_request_has_these_headers_and_the_same_event_on_every_try() {
    let dir = TempDir::new();
    for state_dir in [None, dir.path().to_str()] {
        let sink = Sink::start(503);
        let client = client(&sink.dsn(), state_dir);
        client.report_exit("dataplane", 3 << 8, Some("disk full")).unwrap();
        for _ in 0..3 {
            let kept = client.flush(Duration::from_secs(10));
            assert!(matches!(kept, Err(Error::Queued(_))), "{kept:?}");
        }
        let events: Vec<Value> = sink.bodies().iter().map(|body| event(body)).collect();
        assert_eq!(events.len(), 3);
        assert!(events.iter().all(|event| *event == events[0]), "{events:#?}");
        for head in sink.heads() {
            let mut lines = head.lines();
            assert_eq!(lines.next(), Some("POST /api/1/envelope/ HTTP/1.1"));
            let fields: BTreeSet<(String, &str)> = lines
                .map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)).unwrap())
                .collect();
            let (address, length) = (sink.address.to_string(), sink.bodies()[0].len().to_string());
            let auth = concat!(
                "Sentry sentry_version=7, sentry_client=ondat-telemetry/",
                env!("CARGO_PKG_VERSION"),
                ", sentry_key=key"
            );
            let expected = [
                ("content-length", length.as_str()),
                ("content-type", "application/x-sentry-envelope"),
                ("host", address.as_str()),
                ("user-agent", "ondat-telemetry"),
                ("x-sentry-auth", auth),
            ];
            assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value)).into());
        }
    }
}

#[test]
fn a_new_process_tries_with_the_same_event() {
    let (dir, sink) = (TempDir::new(), Sink::start(503));
    for process in 0..2 {
        let client = client(&sink.dsn(), dir.path().to_str());
        if process == 0 {
            client.report_exit("dataplane", 3 << 8, None).unwrap();
        }
        let kept = client.flush(Duration::from_secs(10));
        assert!(matches!(kept, Err(Error::Queued(_))), "{kept:?}");
    }
    let events: Vec<Value> = sink.bodies().iter().map(|body| event(body)).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0], events[1]);
}
