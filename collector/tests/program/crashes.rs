use serde_json::{Value, json};

use crate::program::{Collector, Request, Response, Scratch};

pub(crate) const EVENT_ID: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn event() -> Value {
    json!({
        "event_id": EVENT_ID,
        "timestamp": "2026-11-24T10:00:00Z",
        "release": "ondat@2.8.2",
        "exception": {"values": [{"type": "SIGSEGV", "value": "dataplane killed by SIGSEGV (address not mapped)"}]},
        "tags": {"signal": "SIGSEGV", "core_dump": "true", "cluster_id": "cc", "node_id": "dd"},
    })
}

pub(crate) fn envelope(header: &Value, event: &Value) -> Vec<u8> {
    let event = event.to_string();
    let item = json!({"type": "event", "length": event.len()});
    format!("{header}\n{item}\n{event}\n").into_bytes()
}

pub(crate) fn post(collector: &Collector, path: &str, auth: Option<String>, body: &[u8]) -> Response {
    let headers = auth.into_iter().map(|auth| ("X-Sentry-Auth", auth)).collect();
    collector.https(&Request { line: format!("POST {path}"), headers, body })
}

pub(crate) fn auth(key: &str) -> Option<String> {
    Some(format!("Sentry sentry_version=7, sentry_client=test/1, sentry_key={key}"))
}

fn refused(response: &Response, status: u16, why: &str) {
    assert_eq!(response.status, status, "{response:?}");
    assert!(response.json()["detail"].as_str().unwrap().contains(why), "{}", response.body);
}

fn stored(scratch: &Scratch) -> Vec<String> {
    let names = scratch.stored(".json").into_iter().filter(|path| path.starts_with("crashes/"));
    names.map(|path| path.rsplit_once('/').unwrap().1.to_owned()).collect()
}

#[test]
fn an_event_sent_twice_is_one_event() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let key = collector.sentry_key();
    let mut second = event();
    second["release"] = json!("other");
    for event in [event(), second] {
        let response = post(&collector, "/api/1/envelope/", auth(&key), &envelope(&json!({}), &event));
        assert_eq!((response.status, response.json()), (200, json!({"id": EVENT_ID})));
    }
    assert_eq!(stored(&scratch), [format!("{EVENT_ID}.json")]);
    assert_eq!(scratch.only(&format!("{EVENT_ID}.json")), event().to_string().as_bytes());
}

#[test]
fn the_key_may_stand_in_three_places() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let key = collector.sentry_key();
    let plain = envelope(&json!({}), &event());
    let with_dsn = envelope(&json!({"dsn": collector.text("sentry_dsn")}), &event());
    assert_eq!(post(&collector, "/api/1/envelope/", auth(&key), &plain).status, 200);
    assert_eq!(
        post(&collector, &format!("/api/1/envelope/?sentry_version=7&sentry_key={key}"), None, &plain).status,
        200
    );
    assert_eq!(post(&collector, "/api/1/envelope/", None, &with_dsn).status, 200);
}

#[test]
fn a_missing_or_wrong_key_is_refused() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let key = collector.sentry_key();
    let wrong = "0".repeat(32);
    let plain = envelope(&json!({}), &event());
    let wrong_dsn = envelope(&json!({"dsn": format!("https://{wrong}@127.0.0.1/1")}), &event());
    refused(&post(&collector, "/api/1/envelope/", None, &plain), 403, "sentry_key");
    refused(&post(&collector, "/api/1/envelope/", auth(&wrong), &plain), 403, "sentry_key");
    refused(
        &post(&collector, "/api/1/envelope/", Some("Sentry sentry_version=7".to_owned()), &plain),
        403,
        "sentry_key",
    );
    refused(&post(&collector, &format!("/api/1/envelope/?sentry_key={wrong}"), None, &plain), 403, "sentry_key");
    refused(&post(&collector, "/api/1/envelope/", None, &wrong_dsn), 403, "sentry_key");
    refused(&post(&collector, "/api/1/envelope/", auth(&key), &wrong_dsn), 403, "sentry_key");
    refused(&post(&collector, "/api/2/envelope/", auth(&key), &plain), 403, "project");
    refused(&post(&collector, "/api/1/envelope/", None, b"no envelope"), 403, "sentry_key");
    assert!(stored(&scratch).is_empty());
}

#[test]
fn malformed_envelopes_are_refused() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let key = collector.sentry_key();
    let send = |body: &[u8]| post(&collector, "/api/1/envelope/", auth(&key), body);
    refused(&send(b""), 400, "header");
    refused(&send(b"{}\n{\"type\":\"event\",\"length\":100}\n{}"), 400, "more than there is");
    refused(&send(b"{}\n{\"type\":\"event\"}\nno json\n"), 400, "no JSON object");
    refused(&send(b"{}\n{\"type\":\"event\"}\n{}\n"), 400, "no event_id");
    refused(&send(b"{}\n{\"type\":\"event\"}\n{\"event_id\":\"../../x\"}\n"), 400, "32 hex digits");
    let mut large = event();
    large["extra"] = json!("x".repeat(1 << 20));
    refused(&send(&envelope(&json!({}), &large)), 413, "at most");
    assert!(stored(&scratch).is_empty());
}

#[test]
fn other_items_are_passed_over_and_the_envelopes_id_stands_in() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let key = collector.sentry_key();
    let dashed = "01234567-89ab-cdef-0123-456789ABCDEF";
    let body = format!(
        "{{\"event_id\":\"{dashed}\"}}\n{{\"type\":\"attachment\",\"length\":5}}\na\nb\nc\n{{\"type\":\"event\"}}\n{{}}\n"
    );
    let response = post(&collector, "/api/1/envelope/", auth(&key), body.as_bytes());
    assert_eq!((response.status, response.json()), (200, json!({"id": EVENT_ID})));
    let session = b"{}\n{\"type\":\"session\"}\n{}\n";
    let response = post(&collector, "/api/1/envelope/", auth(&key), session);
    assert_eq!((response.status, response.json()), (200, json!({})));
    assert_eq!(stored(&scratch).len(), 1);
}

#[test]
fn a_packed_envelope_is_unpacked() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let packed = crate::seal::gzip(&envelope(&json!({}), &event()));
    let headers =
        vec![("X-Sentry-Auth", auth(&collector.sentry_key()).unwrap()), ("Content-Encoding", "gzip".to_owned())];
    let line = "POST /api/1/envelope/".to_owned();
    assert_eq!(collector.https(&Request { line, headers, body: &packed }).status, 200);
    assert_eq!(stored(&scratch).len(), 1);
}

#[test]
fn crash_reports_are_shown() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let key = collector.sentry_key();
    post(&collector, "/api/1/envelope/", auth(&key), &envelope(&json!({}), &event()));
    let shown = String::from_utf8(scratch.run(&["show"]).stdout).unwrap();
    for part in [
        "Crash reports: 1",
        "2026-11-24T10:00:00Z  dataplane killed by SIGSEGV (address not mapped)",
        "ondat@2.8.2 · signal SIGSEGV · exit code – · core dump true",
        "cluster cc  node dd",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let json: Value = serde_json::from_slice(&scratch.run(&["show", "--json"]).stdout).unwrap();
    assert_eq!(
        (&json["kind"], &json["signal"], &json["exit_code"]),
        (&json!("crash"), &json!("SIGSEGV"), &Value::Null)
    );
}
