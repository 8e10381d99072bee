//! The page of `serve` in a browser, as its reader has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use data_encoding::BASE32HEX_NOPAD;
use ondat_telemetry::client::Client;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::Setting;
use ondat_telemetry::switch::Switch;
use ondat_telemetry_protocol::fields::{FIELDS, Level};
use serde_json::{Value, json};

use super::server::{PASSWORD, Server, command, run, set_password, state_dir};

const REPORT_ID: &str = "5b0f3d9c1e7a42d886f0a1b2c3d4e5f6";
/// What would run if anything of a report were taken for markup.
const MARKUP: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";
/// What is read of a report into the page, in bytes.
const SHOWN_BYTES: usize = 1 << 20;
/// How many crash reports are listed at first.
const LISTED: usize = 50;
/// What became of the reports of the last days, as `prepared` has it written.
const DAYS: [&str; 11] = [
    "not in use",
    "delivered",
    "late",
    "not known",
    "delivered",
    "waiting",
    "missing",
    "delivered",
    "not known",
    "missing",
    "not made yet",
];
/// What happened to reports and processes, as `prepared` has it written.
const TRIES: u64 = 6;
const CRASHES: [(&str, &str, &str, u64); 5] = [
    ("sent", "SIGSEGV", "none", 9),
    ("sent", "SIGSEGV", "none", 9),
    ("sent", "none", "3", 5),
    ("spool", "SIGKILL", "none", 5),
    ("spool", "SIGABRT", "none", 2),
];

/// A state directory in which something has happened already.
fn prepared(name: &str) -> PathBuf {
    let state = state_dir(name);
    set_password(&state, PASSWORD);
    for folder in ["sent/crashes", "spool/crashes", "spool/reports"] {
        fs::create_dir_all(state.join(folder)).unwrap();
    }
    fs::write(state.join(format!("sent/2026-11-24-{REPORT_ID}.jsonl")), report()).unwrap();
    let results = ["delivered (HTTP 200)", "stored: connection refused", "refused for good (HTTP 400)"];
    let today = unix_now() / 86_400;
    let tries: Vec<_> = (0..TRIES)
        .map(|number| {
            json!({
                "at": (today - 6 + number) * 86_400, "report_id": REPORT_ID, "day": today - 6 + number,
                "bytes": 1753 + 512 * number, "url": "https://telemetry.example", "proxy": null,
                "result": results[usize::try_from(number).unwrap() % results.len()],
            })
        })
        .collect();
    // Delivered on its day, a day late, and waiting.
    let made = [(9, Some(9)), (8, Some(7)), (6, Some(6)), (5, None)].map(|(ago, delivered): (u64, Option<u64>)| {
        let (at, delivered) = ((today - ago) * 86_400 + 60, delivered.map(|ago| (today - ago) * 86_400 + 120));
        json!({ "day": today - ago, "at": { "unix": at, "boot": null }, "delivered_at": delivered })
    });
    let pace = json!({ "failures": 0, "pause": null, "tries": [] });
    let memory = json!({ "made": { "5".repeat(32): made }, "pace": pace, "tries": tries });
    fs::write(state.join("report.json"), memory.to_string()).unwrap();
    let waiting = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs((today - 5) * 86_400));
    fs::write(state.join(format!("spool/reports/{}-{REPORT_ID}.otr", &waiting.to_string()[..10])), "sealed").unwrap();
    fs::write(state.join("version.json"), told().to_string()).unwrap();
    for (number, (folder, signal, exit_code, days)) in CRASHES.into_iter().enumerate() {
        let id = format!("{number:012x}47788990a1b2c3d4e5f6");
        let at = SystemTime::now() - Duration::from_secs(days * 86_400);
        let folder = if folder == "sent" { "sent/crashes" } else { "spool/crashes" };
        crash(&state, folder, &id, at, (signal, exit_code), &format!("dataplane ended {MARKUP}"));
    }
    state
}

/// A crash report that is stored in this folder.
fn crash(state: &Path, folder: &str, id: &str, at: SystemTime, (signal, exit_code): (&str, &str), what: &str) {
    let event = json!({
        "event_id": id, "timestamp": humantime::format_rfc3339_seconds(at).to_string(),
        "platform": "native", "level": "fatal",
        "release": "ondat@2.8.1",
        "exception": { "values": [{ "type": signal, "value": what }] },
        "tags": { "signal": signal, "exit_code": exit_code, "core_dump": "unknown" },
    });
    fs::write(state.join(folder).join(format!("{id}.json")), event.to_string()).unwrap();
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// What a process says that runs in another container.
fn running(state: &Path, component: &str, objections: Value) {
    let said = json!({
        "component": component, "version": "2.8.1", "pid": 1, "at": 1_795_478_400, "objections": objections,
        "boot": ondat_telemetry::sys::clock::boot_id(), "pid_namespace": "pid:[1]", "born": [1, 1],
    });
    fs::create_dir_all(state.join("processes")).unwrap();
    // The name of a file has none of what a name of a process may have.
    let name: String = component.chars().filter(char::is_ascii_alphanumeric).collect();
    fs::write(state.join(format!("processes/{name}-1")), said.to_string()).unwrap();
}

/// What two versions were told: one is current, the other is not.
fn told() -> Value {
    let now = unix_now();
    let answer = format!("o1 v=* l=2.9.0 r=2.8.2 m=2.7.0 a=ODT-2026-014 t={} e={}", now - 3_600, now + 86_400);
    let told = ["2.9.0", "2.8.1"].map(|version| {
        let label = BASE32HEX_NOPAD.encode(version.as_bytes()).to_lowercase();
        json!({ "label": label, "zone": "latest.example.com", "answer": answer, "checked_at": now - 60, "next": null,
            "failures": 0 })
    });
    json!({ "told": told })
}

/// A report that is longer than what is shown, and has half a letter where that ends.
fn long_report() -> String {
    const VOLUMES: usize = 512;
    let short = report();
    let (cluster, _) = short.split_once('\n').unwrap();
    let group = |strategy: &str| {
        let ids: Vec<_> = (0..VOLUMES).map(|number| format!("{number:032x}")).collect();
        json!({ "volumes": { "volume_id": ids, "volume_placement_strategy": vec![strategy; VOLUMES] } }).to_string()
    };
    // White space of JSON before the last group moves its letters, of two bytes each.
    let long = |space: &str| format!("{cluster}\n{}\n{space}{}\n", group("default"), group(&"ß".repeat(2048)));
    let long = ["", " "].map(long).into_iter().find(|long| !long.is_char_boundary(SHOWN_BYTES)).unwrap();
    format!("{long}{}\n", json!({ "end": { "nodes": 0, "volumes": 2 * VOLUMES } }))
}

/// JSON lines with all fields, and a number that a double cannot hold.
fn report() -> String {
    let mut cluster = json!({
        "schema": "ondat-report/1", "report_id": REPORT_ID, "day": "2026-11-24",
        "api_call_metrics": { "ListVolumes": { "200": 4811, "503": 2 } }, "cluster_disable_crash_reporting": false,
        "cluster_disable_version_check": false, "cluster_log_format": "json", "cluster_log_level": "info",
        "cluster_tls_provided": true, "k8s_distribution": "größe <b>", "k8s_in_k8s": true,
        "k8s_scheduler_extender_enabled": true, "k8s_version": "v1.34.1",
    });
    let both = |value: Value| json!([value, value]);
    let mut nodes = json!({
        "node_id": ["8d5f0c2b9e6147a3b1c0d9e8f7a6b5c4", "1a2b3c4d5e6f708192a3b4c5d6e7f809"],
        "node_available_bytes": [u64::MAX, 9_007_199_254_740_993_u64],
        "node_capacity": both(json!({ "total": 107_374_182_400_u64, "free": 64_424_509_440_u64,
            "available": 64_424_509_440_u64 })),
        "node_crash_files_on_disk": [0, 2], "node_created_at_time": both(json!("2026-01-31T12:00:00Z")),
        "node_etcd_config": both(json!({ "endpoints": 3, "namespaced": false, "tls": true })),
        "node_etcd_namespacing_enabled": [false, false], "node_etcd_tls_enabled": [true, true],
        "node_free_bytes": both(json!(64_424_509_440_u64)), "node_health": ["online", "offline"],
        "node_http_tls_enabled": [true, null],
        "node_labels": [{ "kubernetes.io/arch": "amd64", "beside": MARKUP }, {}],
        "node_status": ["", "not answering"], "node_storageos_version": ["2.8.1", "2.8.0"],
        "node_system_clock_time": both(json!("2026-11-24T09:13:07Z")),
        "node_total_bytes": both(json!(107_374_182_400_u64)), "node_version": both(json!("v2")),
    });
    let counts = [
        "volume_master_attach",
        "volume_master_delete_deployment",
        "volume_master_detach",
        "volume_master_failover_deployment",
        "volume_master_promote",
        "volume_master_provision",
        "volume_master_recover_replica",
        "volume_master_trigger_rejoin",
        "volume_replica_delete_deployment",
        "volume_replica_failover_deployment",
        "volume_replica_promote",
        "volume_replica_provision",
        "volume_replica_trigger_rejoin",
    ];
    let mut volumes = json!({
        "volume_id": ["e5f60718293a4b5c6d7e8f90a1b2c3d4"], "volume_fs_type": ["ext4"],
        "volume_labels": [{ "storageos.com/replicas": "2" }], "volume_metrics": [{ "read_ops": 1.5 }],
        "volume_placement_strategy": ["default"], "volume_provision_source_user_agent": ["storageos-csi/2.8.1"],
        "volume_replicas": [2], "volume_size_bytes": [5_368_709_120_u64],
    });
    counts.iter().for_each(|field| volumes[field] = json!([1]));
    // What is not shown here says nothing.
    for field in FIELDS {
        match field.level {
            Level::Cluster if cluster.get(field.name).is_none() => cluster[field.name] = Value::Null,
            Level::Node if nodes.get(field.name).is_none() => nodes[field.name] = json!([null, null]),
            Level::Volume if volumes.get(field.name).is_none() => volumes[field.name] = json!([null]),
            _ => {}
        }
    }
    let end = json!({ "end": { "nodes": 2, "volumes": 1 } });
    format!("{cluster}\n{}\n{}\n{end}\n", json!({ "nodes": nodes }), json!({ "volumes": volumes }))
}

/// Lets a reader do this with the page.
fn look(scenario: &str, server: &Server) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join("target/page-venv/bin/python");
    assert!(python.exists(), "{} is missing\nrun tools/setup test first", python.display());
    let pictures = root.join("target/page");
    let stored = |folder: &str| fs::read_dir(server.state.join(folder)).map_or(0, Iterator::count);
    let crashes = (stored("sent/crashes") + stored("spool/crashes")).min(LISTED);
    fs::create_dir_all(&pictures).unwrap();
    let scene = json!({
        "url": format!("http://{}", server.address),
        "program": env!("CARGO_BIN_EXE_ondat-telemetry"), "state": server.state, "pictures": pictures,
        "password": PASSWORD, "report": server.state.join(format!("sent/2026-11-24-{REPORT_ID}.jsonl")),
        "node": nix::unistd::gethostname().unwrap().into_string().unwrap(),
        "markup": MARKUP, "fields": FIELDS.len(), "tries": TRIES, "crashes": crashes, "days": DAYS,
    });
    // -B: nothing is written beside the sources.
    let output = Command::new(python)
        .arg("-B")
        .arg(root.join("cli/tests/serve/browser.py"))
        .args([scenario, &scene.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    assert!(said.ends_with("seen\n"), "{said}");
}

fn look_at_prepared(scenario: &str) -> Server {
    let state = prepared(&format!("browser-{scenario}"));
    let server = Server::start_in(&state, &[]);
    look(scenario, &server);
    server
}

#[test]
fn only_the_right_password_shows_the_page() {
    look_at_prepared("login");
}

#[test]
fn switches_are_operated_by_mouse_and_by_keyboard() {
    let server = look_at_prepared("switches");
    let said = server.switches_json();
    for switch in ["version_check", "daily_report", "crash_reports"] {
        assert_eq!(said[switch], false, "{said}");
    }
    let audit = server.audit();
    let switched = audit.iter().filter(|line| line["via"] == "page").count();
    assert_eq!(switched, 12, "each switch off, on and off again, two on, and all off: {audit:?}");
}

#[test]
fn a_page_that_is_out_of_date_is_told_and_loses_nothing() {
    let server = look_at_prepared("stale");
    let said = server.switches_json();
    assert_eq!((&said["crash_reports"], &said["daily_report"]), (&json!(false), &json!(false)), "{said}");
}

#[test]
fn a_switch_held_off_elsewhere_names_who_holds_it() {
    let state = prepared("browser-held");
    let objection = json!({ "switch": "crash_reports", "source": "environment DISABLE_ERROR_REPORTING" });
    running(&state, "controlplane", json!([objection]));
    running(&state, "dataplane", json!([]));
    let server =
        Server::spawn(command(&state, &["serve", "--listen", "127.0.0.1:0"]).env("DISABLE_TELEMETRY", "true"), &state);
    look("held", &server);
    assert!(!state.join("switches.json").exists(), "what cannot be turned on here was not even asked for");
}

#[test]
fn anybody_can_use_the_page_on_any_screen() {
    look_at_prepared("accessibility");
}

#[test]
fn a_report_is_shown_as_it_was_sent_and_never_as_markup() {
    look_at_prepared("shown");
}

#[test]
fn a_long_report_is_shown_in_part_and_given_whole() {
    let state = prepared("browser-long");
    fs::write(state.join(format!("sent/2026-11-24-{REPORT_ID}.jsonl")), long_report()).unwrap();
    look("long", &Server::start_in(&state, &[]));
}

/// A daemon on this state directory that reaches nobody.
fn daemon(state: &Path, component: &str, zone: &str) -> Client {
    let keys = state.join("keys");
    if !keys.exists() {
        assert!(run(state, &["keygen", "report", "--out", keys.to_str().unwrap()]).status.success());
    }
    let keys = fs::read_to_string(keys.join("report-keys.json")).unwrap();
    let mut builder = ConfigBuilder::new();
    let settings = [
        (Setting::Component, component),
        (Setting::Version, "2.8.1"),
        (Setting::ClusterId, "c-1"),
        (Setting::NodeId, "n-1"),
        (Setting::StateDir, state.to_str().unwrap()),
        (Setting::VersionZone, zone),
        // Nobody listens there.
        (Setting::Nameservers, "127.0.0.1:9"),
        (Setting::ReportUrl, "https://127.0.0.1:9/"),
        (Setting::ReportKeys, &keys),
        (Setting::SentryDsn, "https://publickey@sentry.example.com/42"),
    ];
    settings.into_iter().for_each(|(setting, text)| builder.set(setting, text));
    builder.set_switches(Switch::ALL_BITS);
    let client = Client::new(builder.build().unwrap()).unwrap();
    client.start().unwrap();
    client
}

#[test]
fn the_first_screen_says_whether_it_works_and_why_not() {
    let state = state_dir("browser-works");
    set_password(&state, PASSWORD);
    let server = Server::start_in(&state, &[]);
    look("unused", &server);
    let daemons = ["dataplane", "controlplane"].map(|name| daemon(&state, name, "latest.example.com"));
    look("starting", &server);
    let document = br#"{"k8s_version":"v1.34.1"}"#;
    daemons[0].submit_report(document, Duration::from_secs(60)).unwrap_err();
    // As an operator does it, over and over.
    let login = server.log_in();
    let cluster = r#"{"disableCrashReporting":true,"logLevel":"debug","logFormat":"json"}"#;
    server.ask("PUT", "/v2/cluster?ignore-version=true", &login, cluster).with(200);
    look("waiting", &server);
    let third = daemon(&state, "api", "another.example.com");
    look("differing", &server);
    [third].into_iter().chain(daemons).for_each(|daemon| daemon.close(Duration::ZERO));
    look("ending", &server);
}

#[test]
fn what_is_huge_is_shown_in_part() {
    let state = prepared("browser-huge");
    let path = state.join(format!("sent/2026-11-24-{REPORT_ID}.jsonl"));
    fs::write(&path, format!("{{\"k8s_version\":\"{}", "v".repeat(1 << 21))).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(64 << 20).unwrap();
    fs::remove_dir_all(state.join("sent/crashes")).unwrap();
    fs::remove_dir_all(state.join("spool/crashes")).unwrap();
    fs::create_dir_all(state.join("spool/crashes")).unwrap();
    for number in 0..1000_u64 {
        let at = SystemTime::now() - Duration::from_secs(number * 2_500);
        crash(
            &state,
            "spool/crashes",
            &format!("{number:032x}"),
            at,
            ("SIGSEGV", "none"),
            "dataplane killed by SIGSEGV",
        );
    }
    look("huge", &Server::start_in(&state, &[]));
}

#[test]
fn names_are_never_markup_and_turn_nothing_around() {
    let state = prepared("browser-hostile");
    let name = "data\u{202e}plane<b>\u{7}";
    running(&state, name, json!([{ "switch": "crash_reports", "source": format!("environment {name}") }]));
    running(&state, "elsewhere", json!([]));
    let what = format!("{name} ended \u{2066}<i>{MARKUP}\u{200f}");
    crash(&state, "sent/crashes", &"f".repeat(32), SystemTime::now(), ("SIGSEGV", "none"), &what);
    look("hostile", &Server::start_in(&state, &[]));
}

#[test]
fn on_paper_everything_is_open() {
    look_at_prepared("paper");
}

#[test]
fn what_would_be_sent_next_is_shown_or_why_not() {
    look_at_prepared("following");
}

#[test]
fn diagnostics_are_shown_before_they_are_saved() {
    look_at_prepared("diagnosed");
}

#[test]
fn a_server_that_refuses_is_told_and_asked_again() {
    look_at_prepared("refused");
}

#[test]
fn the_most_urgent_answer_is_told() {
    look_at_prepared("told");
}

#[test]
fn what_changes_elsewhere_is_shown_and_nothing_else_moves() {
    look_at_prepared("followed");
}

#[test]
fn settings_that_cannot_be_read_are_said_and_not_written() {
    let server = look_at_prepared("unreadable");
    let damaged = fs::read_to_string(server.state.join("switches.json.damaged")).unwrap();
    assert_eq!(damaged, "{\"daily_report\": \"off\"}");
    assert_eq!(server.switches_json()["daily_report"], true, "after the repair it is turned on again");
}

#[test]
fn a_server_that_does_not_answer_changes_nothing() {
    let server = look_at_prepared("lost");
    assert!(!server.state.join("switches.json").exists());
}

#[test]
fn a_session_that_has_ended_is_begun_anew_where_it_was() {
    look_at_prepared("ended");
}

#[test]
fn plain_http_that_others_can_reach_is_said() {
    let state = prepared("browser-plain");
    let open = ["serve", "--listen", "0.0.0.0:0", "--plain-http-on-trusted-network"];
    look("plain", &Server::spawn(&mut command(&state, &open), &state));
}
