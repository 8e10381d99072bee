//! `report`: the preview is the bytes, a submission says what became of it.

use crate::program::{IDENTITY, Place, run, run_with_input};
use crate::servers;

const DOCUMENT: &str = r#"{"k8s_version":"v1.24.1","nodes":[{"node_id":"n-1","node_health":"online"}]}"#;

/// `report <action> <file>` with the identity and these options.
fn arguments<'a>(action: &'a str, file: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    ["report", action, file].into_iter().chain(IDENTITY).chain(options.iter().copied()).collect()
}

/// Makes a report key and returns its public set's path.
pub(crate) fn report_keys(place: &Place) -> String {
    run(&["keygen", "report", "--out", &place.at("keys")]).with(0);
    place.at("keys/report-keys.json")
}

#[test]
fn the_preview_is_the_document_and_nothing_else() {
    let place = Place::new("report-preview");
    let file = place.with("report.json", DOCUMENT);
    let ended = run(&arguments("preview", &file, &[])).with(0);
    let lines: Vec<_> = ended.stdout.split_inclusive('\n').collect();
    let day = &lines[0].split("\"day\":\"").nth(1).unwrap()[..10];
    let identity = ondat_telemetry_protocol::identity::Identity::from_cluster_id("c-1");
    let id = data_encoding::HEXLOWER.encode(&identity.report_id(day));
    assert_eq!(
        lines[0],
        format!(
            "{{\"schema\":\"ondat-report/1\",\"report_id\":\"{id}\",\"day\":\"{day}\",\"api_call_metrics\":null,\
             \"cluster_disable_crash_reporting\":false,\"cluster_disable_version_check\":false,\
             \"cluster_log_format\":null,\"cluster_log_level\":null,\"cluster_tls_provided\":null,\
             \"k8s_distribution\":null,\"k8s_in_k8s\":null,\"k8s_scheduler_extender_enabled\":null,\
             \"k8s_version\":\"v1.24.1\"}}\n"
        )
    );
    assert!(lines[1].starts_with("{\"nodes\":{\"node_available_bytes\":[null],"), "{}", lines[1]);
    assert_eq!(lines[2..], ["{\"end\":{\"nodes\":1,\"volumes\":0}}\n"]);
    assert_eq!(ended.stderr, "");
    assert_eq!(run_with_input(&arguments("preview", "-", &[]), DOCUMENT).with(0).stdout, ended.stdout);
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let refused = run_with_input(&arguments("preview", "-", &[]), r#"{"nodes":[{"hostname":"db-1"}]}"#).with(2);
    assert_eq!(refused.stdout, "");
    assert_eq!(refused.stderr, "ondat-telemetry: nodes[0].hostname: not one of the fields of the report\n");
}

#[test]
fn a_preview_follows_the_administrator_and_removes_nothing() {
    let place = Place::new("report-preview-state");
    place.with("switches.json", r#"{"version_check": false, "daily_report": false}"#);
    std::fs::create_dir_all(place.path().join("spool/reports")).unwrap();
    place.with("spool/reports/2026-01-01-0.otr", "stored");
    let before = place.listing();
    let ended = run_with_input(&arguments("preview", "-", &["--state-dir", &place.at("")]), DOCUMENT).with(0);
    assert!(ended.stdout.contains("\"cluster_disable_version_check\":true"), "{}", ended.stdout);
    assert_eq!(place.listing(), before);
}

#[test]
fn a_delivered_report_is_delivered_once_a_day() {
    let place = Place::new("report-delivered");
    let keys = report_keys(&place);
    let host = servers::collector(201, true);
    let url = format!("http://{host}/");
    let state = place.at("");
    let submit = arguments("submit", "-", &["--report-url", &url, "--report-keys", &keys, "--state-dir", &state]);
    let said = run_with_input(&submit, DOCUMENT).with(0).stdout;
    let tries = run(&["report", "history", "--json", "--state-dir", &state]).with(0).json()["tries"].clone();
    let word = |name: &str| tries[0][name].as_str().unwrap().to_owned();
    let which = format!("report {} of {}, {} bytes sealed", word("report_id"), word("day"), tries[0]["bytes"]);
    assert_eq!(said, format!("delivered: {which}, to {host}\n"));
    let again = run_with_input(&submit, DOCUMENT).with(2);
    assert!(again.stderr.contains("the report of this UTC day was delivered at"), "{}", again.stderr);
    let status = run(&["status", "--json", "--state-dir", &state, "--cluster-id", "c-1"]).with(0).json();
    assert!(status["daily_report"]["last"][0]["delivered_at"].is_i64(), "{status}");
    let report = &status["daily_report"];
    assert_eq!((&report["waiting"], &report["last_error"]), (&0.into(), &serde_json::Value::Null), "{report}");
    assert!(report["last_success"].is_i64() && report["next_try"].is_null(), "{report}");
}

#[test]
fn an_undelivered_report_is_stored_and_shown() {
    let place = Place::new("report-stored");
    let keys = report_keys(&place);
    let url = format!("http://{}/", servers::collector(503, true));
    let state = place.at("");
    let options = ["--report-url", &url, "--report-keys", &keys, "--state-dir", &state];
    let ended = run_with_input(&arguments("submit", "-", &options), DOCUMENT).with(6);
    assert!(ended.stdout.starts_with("stored for later: ") && ended.stdout.lines().count() == 1, "{}", ended.stdout);
    assert!(ended.stdout.contains("HTTP 503") && ended.stderr.is_empty(), "{}{}", ended.stdout, ended.stderr);
    let which = format!(" bytes sealed, to {}: ", url.trim_start_matches("http://").trim_end_matches('/'));
    assert!(ended.stdout.contains(&which), "{}", ended.stdout);
    let status = run(&["status", "--json", "--state-dir", &state]).with(0).json();
    let report = &status["daily_report"];
    assert_eq!((&report["waiting"], &report["last_success"]), (&1.into(), &serde_json::Value::Null), "{report}");
    let why = report["last_error"]["text"].as_str().unwrap();
    assert!(why.ends_with("answered HTTP 503") && report["next_try"].is_i64(), "{report}");
    let text = run(&["status", "--state-dir", &state]).with(0).stdout;
    assert!(
        text.contains("  waiting        1\n  last error     ")
            && text.contains(&format!("Z: {why}\n  next try       ")),
        "{text}"
    );
    let items = status["spool"]["spool/reports"]["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{status}");
    assert!(items[0]["bytes"].as_u64() > Some(0), "{status}");
}

#[test]
fn without_a_state_directory_nothing_is_said_to_be_stored() {
    let place = Place::new("report-lost");
    let keys = report_keys(&place);
    let url = format!("http://{}/", servers::collector(503, true));
    let options = ["--report-url", &url, "--report-keys", &keys];
    let ended = run_with_input(&arguments("submit", "-", &options), DOCUMENT).with(4);
    assert!(ended.stderr.contains("not stored because no --state-dir is set"), "{}", ended.stderr);
}

#[test]
fn programs_read_id_bytes_and_host() {
    let place = Place::new("report-submit-json");
    let keys = report_keys(&place);
    for (status, outcome, code) in [(201, "delivered", 0), (503, "stored", 6)] {
        let host = servers::collector(status, true).to_string();
        let (url, state) = (format!("http://{host}/"), place.at(outcome));
        let options = ["--report-url", &url, "--report-keys", &keys, "--state-dir", &state, "--json"];
        let said = run_with_input(&arguments("submit", "-", &options), DOCUMENT).with(code).json();
        assert_eq!((said["outcome"].as_str(), said["host"].as_str()), (Some(outcome), Some(host.as_str())), "{said}");
        let identity = ondat_telemetry_protocol::identity::Identity::from_cluster_id("c-1");
        let id = data_encoding::HEXLOWER.encode(&identity.report_id(said["day"].as_str().unwrap()));
        assert_eq!(said["report_id"], id.as_str());
        assert!(said["bytes"].as_u64() > Some(100), "{said}");
        assert_eq!(said.get("reason").is_some(), outcome == "stored", "{said}");
    }
    // Without a state directory it is known as well.
    let url = format!("http://{}/", servers::collector(201, true));
    let options = ["--report-url", &url, "--report-keys", &keys, "--json"];
    let said = run_with_input(&arguments("submit", "-", &options), DOCUMENT).with(0).json();
    assert!(said["report_id"].is_string() && said["bytes"].is_u64(), "{said}");
}

#[test]
fn a_refusal_is_one_line() {
    let place = Place::new("report-refused");
    let keys = report_keys(&place);
    let url = format!("http://{}/", servers::collector(422, true));
    let options = ["--report-url", &url, "--report-keys", &keys];
    let ended = run_with_input(&arguments("submit", "-", &options), DOCUMENT).with(7);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn the_history_shows_each_try_and_no_password() {
    let place = Place::new("report-history");
    let keys = report_keys(&place);
    let state = place.at("");
    let history = ["report", "history", "--state-dir", &state];
    assert_eq!(run(&history).with(0).stdout, "no report was tried yet\n");
    run(&["report", "history"]).with(2);

    // A proxy where nobody listens, then the collector itself.
    let proxy = "http://somebody:hunter2@127.0.0.1:9";
    let url = "https://collector.example.com/".to_owned();
    let options = ["--report-url", &url, "--report-keys", &keys, "--state-dir", &state, "--proxy", proxy];
    run_with_input(&arguments("submit", "-", &options), DOCUMENT).with(6);
    let tries = run(&["report", "history", "--json", "--state-dir", &state]).with(0).json()["tries"].clone();
    assert_eq!(tries.as_array().map(Vec::len), Some(1), "{tries}");
    assert_eq!((&tries[0]["url"], &tries[0]["proxy"]), (&url.as_str().into(), &"http://127.0.0.1:9".into()));
    let stored =
        place.listing().into_iter().find(|(path, _)| path.to_str().unwrap().contains("spool/reports/")).unwrap();
    assert_eq!(tries[0]["bytes"], stored.1);
    let text = run(&history).with(0).stdout;
    assert!(text.contains(" through http://127.0.0.1:9: stored: ") && !text.contains("hunter2"), "{text}");
}
