use std::fs;
use std::path::Path;

use hickory_server::proto::rr::RecordType;
use nix::sys::signal::Signal;

use crate::program::{Collector, Request, Scratch, command};

fn nothing_here(collector: &Collector) -> u16 {
    collector.https(&Request { line: "GET /v1/".to_owned(), headers: Vec::new(), body: b"" }).status
}

#[test]
fn a_restart_keeps_the_authority_the_certificate_and_the_key() {
    let scratch = Scratch::new();
    let first = Collector::start(&scratch, &[]);
    let (key, ca_file) = (first.sentry_key(), first.text("ca_file"));
    let files = ["ca.pem", "ca.key", "server.pem", "server.key", "sentry-key"];
    let read = || files.map(|name| fs::read(scratch.data().join(name)).unwrap());
    let before = read();
    assert_eq!(nothing_here(&first), 404);
    assert_eq!(first.stop(Signal::SIGTERM), Some(0));
    let second = Collector::start(&scratch, &[]);
    assert_eq!((second.sentry_key(), second.text("ca_file")), (key, ca_file));
    assert_eq!(read(), before);
    assert_eq!(nothing_here(&second), 404);
    assert_eq!(second.stop(Signal::SIGINT), Some(0));
}

#[test]
fn the_line_says_where_everything_is() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &["--http", "[::1]:0"]);
    let names: Vec<&str> = collector.ready.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = ["ready", "https", "http", "dns", "ca_file", "sentry_dsn", "sentry_dsn_http"];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(Path::new(&collector.text("ca_file")).is_absolute());
    let (https, http, key) = (collector.text("https"), collector.text("http"), collector.sentry_key());
    assert_eq!(collector.text("sentry_dsn"), format!("https://{key}@{}/1", https.strip_prefix("https://").unwrap()));
    assert_eq!(collector.text("sentry_dsn_http"), format!("http://{key}@{}/1", http.strip_prefix("http://").unwrap()));
    assert!(http.starts_with("http://[::1]:"));
}

#[test]
fn what_cannot_work_is_said_in_one_line() {
    let scratch = Scratch::new();
    let says = |arguments: &[&str]| {
        let output = command().arg("serve").args(arguments).arg("--data").arg(scratch.data()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    assert!(says(&["--http", "0.0.0.0:0"]).contains("loopback"));
    assert!(says(&["--zone", "/nonexistent"]).contains("/nonexistent"));
    let zone = scratch.file("zone", "$ORIGIN a.\n$TTL 1\n@ IN A 192.0.2.1\n");
    assert!(says(&["--zone", zone.to_str().unwrap()]).contains("no SOA"));
    let keys = scratch.file("keys", r#"{"keys":[{"id":"00","public":"AA=="}]}"#);
    assert!(says(&["--report-keys", keys.to_str().unwrap()]).contains("keys[0]"));
    let running = Collector::start(&scratch, &[]);
    let taken = running.text("https");
    assert!(says(&["--https", taken.strip_prefix("https://").unwrap()]).contains("--https"));
}

#[test]
fn version_queries_are_shown() {
    let scratch = Scratch::new();
    let zone = "$ORIGIN latest.example.\n$TTL 60\n@ IN SOA ns hostmaster 1 2 3 4 5\n*.o1 IN TXT \"o1\"\n";
    let zone = scratch.file("zone", zone);
    let collector = Collector::start(&scratch, &["--zone", zone.to_str().unwrap()]);
    // Format 1, cluster 11…, node 22…, day 20781, check value; version 2.8.2. Computed with Python.
    let name = "048h248h248h248h248h248h248i48h248h248h248h248h248h24k9d3q68kf8.68n3gbhi.o1.latest.example.";
    collector.ask(name, RecordType::TXT);
    collector.ask("probe.o1.latest.example.", RecordType::TXT);
    let shown = String::from_utf8(scratch.run(&["show", "--zone-name", "latest.example"]).stdout).unwrap();
    let (cluster, node) = ("11".repeat(16), "22".repeat(16));
    assert!(shown.starts_with("Version queries: 1\n"), "{shown}");
    assert!(shown.contains("2.8.2"), "{shown}");
    assert!(shown.contains(&format!("cluster {cluster}  node {node}  day 2026-11-24")), "{shown}");
    assert!(shown.contains("1 other TXT question below the zone"), "{shown}");
    let json = String::from_utf8(scratch.run(&["show", "--json"]).stdout).unwrap();
    assert_eq!(json.lines().count(), 2);
    assert!(json.contains(&format!("\"version\":\"2.8.2\",\"cluster\":\"{cluster}\"")), "{json}");
}
