//! What watches over services asks: `/healthz`, `/metrics` and the product's description of its calls.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::server::{PASSWORD, Server, command, run, set_password, state_dir};

/// Runs this in the Python of the tests, with the text as its standard input; its standard output is JSON.
fn python(code: &str, text: &[u8]) -> Value {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/venv/bin/python");
    assert!(python.exists(), "{} is missing\nrun tools/setup test first", python.display());
    let mut child =
        Command::new(python).args(["-c", code]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(text));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every sample as Prometheus' own parser reads it: name, labels, value.
const PARSE: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families
samples = []
for family in text_string_to_metric_families(sys.stdin.buffer.read().decode()):
    assert family.type == 'gauge' and family.documentation, family
    samples += [[s.name, s.labels, s.value] for s in family.samples]
print(json.dumps(samples))
";

fn samples(server: &Server) -> Vec<Value> {
    let answer = server.ask("GET", "/metrics", "", "").with(200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    python(PARSE, &answer.body).as_array().unwrap().clone()
}

fn sample(name: &str, labels: Value, value: u64) -> Value {
    json!([format!("ondat_telemetry_{name}"), labels, value])
}

#[test]
fn prometheus_reads_the_figures() {
    let state = state_dir("metrics");
    set_password(&state, PASSWORD);
    assert!(run(&state, &["disable", "crash-reports"]).status.success());
    let mut held = command(&state, &["serve", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(held.env("DISABLE_TELEMETRY", "1").env("ONDAT_TELEMETRY_CLUSTER_ID", "c-1"), &state);
    let read = samples(&server);
    for expected in [
        sample("build_info", json!({ "version": env!("CARGO_PKG_VERSION") }), 1),
        sample("processes", json!({}), 0),
        sample("state_directory_usable", json!({}), 1),
        sample("switch_on", json!({ "switch": "version_check" }), 1),
        sample("switch_on", json!({ "switch": "daily_report" }), 0),
        sample("switch_on", json!({ "switch": "crash_reports" }), 0),
        sample("switch_off_by", json!({ "switch": "daily_report", "source": "environment DISABLE_TELEMETRY" }), 1),
    ] {
        assert!(read.contains(&expected), "{expected}: {read:?}");
    }
    let id = server.ask("GET", "/v1/status", &server.log_in(), "").with(200).json()["cluster_id"].clone();
    let text = server.ask("GET", "/metrics", "", "").with(200).body;
    assert!(!String::from_utf8(text).unwrap().contains(id.as_str().unwrap()), "no id is among them");
    // A page of another site, or one whose name points here, does not read them.
    let from = |host: &str, more: &str| {
        server.exchange(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"))
    };
    from("evil.example", "").with(421).error();
    from("localhost", "Origin: http://evil.example\r\n").with(403).error();
    from("192.0.2.1:5705", "").with(200);
}

#[test]
fn beyond_this_machine_figures_take_a_login_or_the_administrators_leave() {
    let state = state_dir("metrics-open");
    set_password(&state, PASSWORD);
    let open = ["serve", "--listen", "0.0.0.0:0", "--plain-http-on-trusted-network"];
    let server = Server::spawn(&mut command(&state, &open), &state);
    let refused = server.ask("GET", "/metrics", "", "").with(401).error();
    assert!(refused.contains("--metrics"), "{refused}");
    server.ask("GET", "/metrics", &server.log_in(), "").with(200);
    let server = Server::spawn(command(&state, &open).arg("--metrics"), &state);
    assert!(samples(&server).len() > 3);
}

#[test]
fn a_probe_is_answered_under_whatever_name_it_asks() {
    let server = Server::start("health");
    for head in ["HTTP/1.1\r\nHost: 10.1.2.3:5705", "HTTP/1.1\r\nHost: node-7.example", "HTTP/1.0"] {
        let answer = server.exchange(format!("GET /healthz {head}\r\nConnection: close\r\n\r\n")).with(200);
        assert_eq!(answer.body, b"ok\n");
    }
    server.exchange("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n").with(400);
    server.exchange("GET /healthz/ HTTP/1.1\r\nHost: node-7.example\r\nConnection: close\r\n\r\n").with(421);
}

#[test]
fn the_product_describes_its_calls_where_its_clients_look() {
    let server = Server::start("described-v2");
    let answer = server.ask("GET", "/v2/openapi", "", "").with(200);
    assert_eq!(answer.header("content-type"), "text/yaml");
    let document = python("import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin.buffer)))", &answer.body);
    assert_eq!(document["servers"], json!([{ "url": "/v2" }]));
    let all = server.ask("GET", "/v1/openapi.json", "", "").with(200).json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(
        paths.keys().map(String::as_str).collect::<Vec<_>>(),
        ["/auth/login", "/auth/refresh", "/cluster", "/nodes", "/openapi"]
    );
    for (path, calls) in paths {
        assert_eq!(*calls, all["paths"][format!("/v2{path}")]);
    }
    // Whatever it refers to is there, and nothing else is.
    let text = document.to_string();
    let referred = |name: &str| text.contains(&format!("\"#/components/{name}\""));
    for kind in ["schemas", "responses"] {
        let parts = document["components"][kind].as_object().unwrap();
        assert!(!parts.is_empty() && parts.keys().all(|name| referred(&format!("{kind}/{name}"))), "{parts:?}");
    }
    for name in text.split("\"#/components/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"].pointer(&format!("/{name}")).is_some(), "{name}");
    }
    assert!(document["components"]["schemas"].get("Status").is_none());
}
