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
    let mut expected = ["ready", "https", "http", "dns", "ca_file", "sentry_dsn", "sentry_dsn_http", "operations"];
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
    let says = |arguments: &[&str]| scratch.refused(2, &[&["serve"], arguments].concat());
    assert!(says(&["--http", "0.0.0.0:0"]).contains("loopback"));
    assert!(says(&["--zone", "/nonexistent"]).contains("/nonexistent"));
    let zone = scratch.file("zone", "$ORIGIN a.\n$TTL 1\n@ IN A 192.0.2.1\n");
    assert!(says(&["--zone", zone.to_str().unwrap()]).contains("no SOA"));
    let keys =
        scratch.file("keys", r#"{"keys":[{"id":"00","kem":"X25519","public":"AA==","not_before":0,"not_after":1}]}"#);
    assert!(says(&["--report-keys", keys.to_str().unwrap()]).contains("keys[0]"));
    let running = Collector::start(&scratch, &[]);
    let taken = running.text("https");
    assert!(says(&["--https", taken.strip_prefix("https://").unwrap()]).contains("--https"));
    for (option, wrong) in [("--https", "8443"), ("--http", "localhost"), ("--dns", "x:1"), ("--name", "a b")] {
        assert!(says(&[option, wrong]).contains(option), "{option}");
    }
    for wrong in [&["--colour"][..], &["--zone"], &["\u{1b}[2J"]] {
        let said = says(wrong);
        assert!(said.ends_with("; see --help\n") && !said.contains('\u{1b}'), "{said:?}");
    }
}

#[test]
fn each_failure_has_the_exit_status_that_the_operators_command_gives_it() {
    let scratch = Scratch::new();
    // Nothing has been received yet: there is no folder.
    let key = scratch.file("key", "{}");
    for (code, arguments, why) in [
        (8, &["show"][..], "--data"),
        (2, &["show", "--zone-name", "a..b"], "--zone-name: \"a..b\" is not a DNS name"),
        (2, &["show", "--json=1"], "--json"),
        (2, &["open"], "--key <FILE>"),
        (2, &["open", "--key", "/nonexistent"], "/nonexistent"),
        (2, &["open", "--key", key.to_str().unwrap()], "expected {\"id\",\"kem\",\"private\"}"),
    ] {
        let said = scratch.refused(code, arguments);
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
    let folder = scratch.file("no-folder", "");
    let output = command().args(["serve", "--data"]).arg(folder.join("data")).output().unwrap();
    assert_eq!(output.status.code(), Some(8));
    fs::create_dir_all(scratch.data().join("reports")).unwrap();
    fs::write(scratch.data().join("reports/00.otr"), "OTR1").unwrap();
    assert!(scratch.refused(1, &["show", "--json"]).contains("00.otr"));
    assert_eq!(command().output().unwrap().status.code(), Some(2));
    assert_eq!(command().arg("--version").output().unwrap().status.code(), Some(0));
}

#[test]
fn a_certificate_may_be_given_and_is_read_anew() {
    let scratch = Scratch::new();
    let make = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = scratch.file("tls.crt", made.cert.pem());
        (certificate, scratch.file("tls.key", made.signing_key.serialize_pem()), made.cert.pem())
    };
    let (certificate, key, first) = make("first.example");
    let given = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let collector =
        Collector::start(&scratch, &["--tls-certificate", given[0], "--tls-key", given[1], "--name", "first.example"]);
    assert_eq!(collector.ready["ca_file"], serde_json::Value::Null);
    assert!(collector.text("https").starts_with("https://first.example:"));
    assert!(!scratch.data().join("ca.pem").exists());
    assert!(collector.has_certificate(&first));
    let (.., second) = make("second.example");
    assert!(collector.has_certificate(&first) && !collector.has_certificate(&second));
    collector.signal(Signal::SIGHUP);
    collector.until(|collector| collector.has_certificate(&second));
    // One that is of no use changes nothing.
    fs::write(&certificate, "").unwrap();
    collector.signal(Signal::SIGHUP);
    assert_eq!(collector.ask("a.example.", RecordType::TXT).answers.len(), 0);
    assert!(collector.has_certificate(&second));
    assert_eq!(collector.stop(Signal::SIGTERM), Some(0));

    let says = |arguments: &[&str]| scratch.refused(2, &[&["serve"], arguments].concat());
    assert!(says(&["--tls-certificate", given[0]]).contains("--tls-key"));
    assert!(says(&["--tls-key", given[1]]).contains("--tls-certificate"));
    assert!(says(&["--tls-certificate", given[0], "--tls-key", given[1]]).contains("tls.crt"));
    assert!(says(&["--tls-certificate", "/nonexistent", "--tls-key", given[1]]).contains("/nonexistent"));
    fs::write(&certificate, &first).unwrap();
    assert!(says(&["--tls-certificate", given[0], "--tls-key", given[1]]).contains("with its key"));
    fs::write(&key, "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n").unwrap();
    assert!(says(&["--tls-certificate", given[0], "--tls-key", given[1]]).contains("tls.key"));
}

#[test]
fn names_that_no_client_has_asked_are_no_version_queries() {
    use data_encoding::BASE32_DNSSEC;
    use ondat_telemetry_protocol::query::Query;
    let scratch = Scratch::new();
    let zone = "$ORIGIN latest.example.\n$TTL 60\n@ IN SOA ns hostmaster 1 2 3 4 5\n*.o1 IN TXT \"o1\"\n";
    let zone = scratch.file("zone", zone);
    let collector = Collector::start(&scratch, &["--zone", zone.to_str().unwrap()]);
    // With a right check value, and versions that are none: anybody can compute one.
    for version in ["2.8", "<script>", "v2.8.2", "2.8.2+build", "02.8.2", "2.8.2"] {
        let label = BASE32_DNSSEC.encode(version.as_bytes());
        let query = Query { cluster: [1; 16], node: [2; 16], day: 20_781, version: label };
        collector.ask(&query.name("latest.example"), RecordType::TXT);
    }
    let shown = String::from_utf8(scratch.run(&["show", "--json", "--zone-name", "LATEST.example."]).stdout).unwrap();
    let shown: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let versions: Vec<_> = shown.iter().filter_map(|item| item["version"].as_str()).collect();
    assert_eq!((versions.as_slice(), shown.len()), (&["2.8.2"][..], 6));
    let other = shown.iter().filter(|item| item["kind"] == "other_query");
    assert!(other.clone().count() == 5 && other.clone().all(|item| item["reason"].is_string()), "{shown:?}");
}

#[test]
fn nothing_that_was_sent_steers_a_terminal() {
    let scratch = Scratch::new();
    Collector::start(&scratch, &[]).stop(Signal::SIGTERM);
    // A line of a terminal's commands, of C1's, of marks that turn or hide, of line separators.
    let hostile: String = ('\0'..='\u{9f}')
        .filter(|c| c.is_control())
        .chain("\u{ad}\u{61c}\u{200b}\u{200e}\u{2028}".chars())
        .chain(
            "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}\u{fff9}\u{e0041}".chars(),
        )
        .collect();
    let event = serde_json::json!({
        "event_id": "1".repeat(32), "timestamp": hostile, "release": hostile,
        "exception": { "values": [{ "value": format!("dataplane{hostile} died") }] },
        "tags": { "signal": hostile, "cluster_id": { &hostile: &hostile }, "node_id": [hostile] },
    });
    fs::create_dir(scratch.data().join("reports")).unwrap();
    fs::write(scratch.data().join(format!("crashes/{}.json", "1".repeat(32))), event.to_string()).unwrap();
    let logged = serde_json::json!({ "time": hostile, "name": format!("{hostile}.o1.example") });
    fs::write(scratch.data().join("queries.jsonl"), format!("{logged}\n")).unwrap();
    fs::write(scratch.data().join(format!("reports/{}.otr", hostile.replace('\0', ""))), "OTR1").unwrap();
    for arguments in [&["show"][..], &["show", "--json"]] {
        let output = scratch.run(arguments);
        for said in [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()) {
            let is_obeyed = |c: char| c != '\n' && hostile.contains(c);
            assert!(!said.contains(is_obeyed), "{arguments:?}: {said:?}");
            assert!(said.contains("dataplane") || said.contains(".otr"), "{said:?}");
        }
    }
    let shown = String::from_utf8(scratch.run(&["show", "--json"]).stdout).unwrap();
    let shown: Vec<serde_json::Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(shown.iter().any(|item| item["release"] == hostile), "{shown:?}");
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

#[test]
fn signed_keys_are_given_out_as_they_are_and_never_older_ones() {
    use data_encoding::BASE64;
    use ed25519_dalek::{Signer, SigningKey};
    use ondat_telemetry_protocol::answer::key_id;
    use ondat_telemetry_protocol::signed_keys::{signature_line, signed_message};
    let scratch = Scratch::new();
    let key = SigningKey::from_bytes(&[7; 32]);
    let public = key.verifying_key().to_bytes();
    let set = crate::seal::x25519().key_set();
    let issue = |issued: u64| {
        let line = set.replacen('{', &format!("{{\"issued\":{issued},"), 1);
        let signature = signature_line(&key_id(&public), &key.sign(&signed_message(&line)).to_bytes());
        let text = format!("{line}\n{signature}");
        (scratch.file("signed", &text), text)
    };
    let (path, second) = issue(1_800_000_002);
    let (file, public) = (path.to_str().unwrap(), BASE64.encode(&public));
    let arguments = ["--signed-keys", file, "--version-key", &public];
    let collector = Collector::start(&scratch, &arguments);
    let ask = |collector: &Collector, method: &str| {
        collector.https(&Request { line: format!("{method} /v1/keys"), headers: Vec::new(), body: b"" })
    };
    let given = ask(&collector, "GET");
    assert_eq!((given.status, given.body.as_str()), (200, second.as_str()));
    assert_eq!((ask(&collector, "PUT").status, given.header("Ondat-Telemetry")), (405, Some("1")));
    // An older one, and one that is damaged, change nothing; a newer one is given out.
    let said = || fs::read_to_string(scratch.0.join("said")).unwrap().matches("the signed keys of before stay").count();
    issue(1_800_000_001);
    collector.signal(Signal::SIGHUP);
    collector.until(|_| said() == 1);
    scratch.file("signed", second.replace("1800000002", "1800000009"));
    collector.signal(Signal::SIGHUP);
    collector.until(|_| said() == 2);
    assert_eq!(ask(&collector, "GET").body, second);
    let (_, third) = issue(1_800_000_003);
    collector.signal(Signal::SIGHUP);
    collector.until(|collector| ask(collector, "GET").body == third);
    collector.stop(Signal::SIGTERM);
    issue(1_800_000_002);
    let says = |arguments: &[&str]| scratch.refused(2, &[&["serve"], arguments].concat());
    assert!(says(&arguments).contains("1800000003 was given out"));
    let other = BASE64.encode(&SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes());
    assert!(says(&["--signed-keys", file, "--version-key", &other]).contains("not signed by a configured key"));
    assert!(says(&["--signed-keys", file]).contains("--version-key"));
    assert!(says(&["--signed-keys", file, "--version-key", "x"]).contains("--version-key"));
    assert!(says(&["--signed-keys", "/nonexistent", "--version-key", &public]).contains("/nonexistent"));
}

#[test]
fn readiness_and_counts_are_told_to_those_who_run_it() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &["--operations", "127.0.0.1:0"]);
    let ask = |path: &str| collector.https(&Request { line: format!("GET {path}"), headers: Vec::new(), body: b"" });
    assert_eq!((ask("/ready").status, ask("/ready").json()["ready"].as_bool()), (200, Some(true)));
    assert_eq!(ask("/metrics").status, 404, "counts are not told to everybody");
    let metrics = collector.operations("/metrics");
    assert_eq!((metrics.status, metrics.header("Content-Type")), (200, Some("text/plain; version=0.0.4")));
    assert_eq!((collector.metric("ready"), collector.operations("/ready").status), (1, 200));
    assert_eq!(collector.operations("/").status, 404);
}
