//! Our own calls, and the page's session.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::server::{PASSWORD, Server, command, held_by, run, set_password, state_dir};

#[test]
fn switches_change_for_one_of_two_who_have_read_the_same() {
    let server = Server::start("switches");
    let login = server.log_in();
    let read = || server.ask("GET", "/v1/switches", &login, "").with(200).json();
    let first = read();
    assert_eq!([&first["version_check"], &first["daily_report"], &first["crash_reports"]], [&json!(true); 3]);
    let body = |on: bool| {
        json!({ "version_check": on, "daily_report": true, "crash_reports": true, "version": first["version"] })
            .to_string()
    };
    let second = server.ask("PUT", "/v1/switches", &login, &body(false)).with(200).json();
    let held = held_by("api_client", "", "the API client (switches.json)");
    assert_eq!(second["switches"]["version_check"], held);
    assert_eq!(second, read());
    server.ask("PUT", "/v1/switches", &login, &body(true)).with(412).error();
    assert_eq!(second, read(), "nothing is lost");
    let forced = server.ask("PUT", "/v1/switches?ignore-version=true", &login, &body(true)).with(200).json();
    assert_eq!(forced["version_check"], true);
    assert_eq!(server.switches_json()["version_check"], true);
}

#[test]
fn of_many_at_once_one_is_granted() {
    let server = Server::start("at-once");
    let login = server.log_in();
    let version = server.ask("GET", "/v1/switches", &login, "").with(200).json()["version"].clone();
    let body = json!({ "version_check": false, "daily_report": false, "crash_reports": false, "version": version })
        .to_string();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..16).map(|_| scope.spawn(|| server.ask("PUT", "/v1/switches", &login, &body).status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 15, "{statuses:?}");
    let changes = server.audit().iter().filter(|line| line["action"] == "switches").count();
    assert_eq!(changes, 1, "who is refused leaves no line");
}

#[test]
fn a_change_says_all_of_it() {
    let server = Server::start("strict");
    let login = server.log_in();
    for (body, named) in [
        (r#"{"version_check":true,"daily_report":true}"#, "crash_reports is required"),
        (r#"{"version_check":true,"daily_report":true,"crash_reports":0}"#, "crash_reports is not true or false"),
        (r#"{"version_check":true,"daily_report":true,"crash_reports":true,"telemetry":true}"#, "telemetry is none of"),
    ] {
        let error = server.ask("PUT", "/v1/switches?ignore-version=true", &login, body).with(400).error();
        assert!(error.contains(named), "{error}");
    }
    let whole = r#"{"version_check":true,"daily_report":true,"crash_reports":true}"#;
    assert!(server.ask("PUT", "/v1/switches", &login, whole).with(400).error().contains("version is required"));
    assert!(!server.state.join("switches.json").exists());
}

#[test]
fn the_status_is_that_of_the_command() {
    let state = state_dir("same-status");
    set_password(&state, PASSWORD);
    fs::create_dir_all(state.join("spool/crashes")).unwrap();
    fs::write(state.join("spool/crashes/00112233445546778899aabbccddeeff.json"), "{}").unwrap();
    let spec = state.join("cluster.yaml");
    fs::write(&spec, "kind: StorageOSCluster\nspec:\n  environment: {DISABLE_VERSION_CHECK: \"1\"}\n").unwrap();
    let spec = spec.to_str().unwrap();
    let server = Server::spawn(
        command(&state, &["serve", "--listen", "127.0.0.1:0", "--cluster-spec", spec]).env("DISABLE_TELEMETRY", "1"),
        &state,
    );
    let login = server.log_in();
    let mut served = server.ask("GET", "/v1/status", &login, "").with(200).json();
    let said =
        command(&state, &["status", "--json", "--cluster-spec", spec]).env("DISABLE_TELEMETRY", "1").output().unwrap();
    let mut said: Value = serde_json::from_slice(&said.stdout).unwrap();
    for status in [&mut served, &mut said] {
        // A second may have passed between the two.
        status["spool"]["spool/crashes"]["items"][0]["age_seconds"].take();
    }
    assert_eq!(served, said);
    let off_by = |name: &str| served["switches"][name]["off_by"].clone();
    assert_eq!(off_by("version_check"), json!(["cluster spec environment DISABLE_VERSION_CHECK"]));
    assert_eq!(off_by("daily_report"), json!(["environment DISABLE_TELEMETRY"]));
    assert_eq!(served["version_check"], server.ask("GET", "/v1/version", &login, "").with(200).json());
    // The spec is followed: it is read anew each time.
    fs::write(spec, "kind: StorageOSCluster\nspec: {disableTelemetry: true}\n").unwrap();
    let now = server.ask("GET", "/v1/status", &login, "").with(200).json();
    assert_eq!(now["switches"]["crash_reports"]["off_by"], json!(["cluster spec disableTelemetry"]));
}

#[test]
fn what_was_sent_is_shown_byte_for_byte() {
    let server = Server::start("sent");
    let login = server.log_in();
    server.ask("GET", "/v1/report/preview", &login, "").with(404).error();
    let empty = server.ask("GET", "/v1/reports", &login, "").with(200).json();
    let days = empty["days"].as_array().unwrap();
    assert!(days.len() == 30 && days.iter().all(|day| day["state"] == "before"), "{empty}");
    assert_eq!(empty, json!({ "made": [], "tries": [], "kept": [], "days": days }));
    fs::create_dir_all(server.state.join("sent/crashes")).unwrap();
    let id = "00112233445566778899aabbccddeeff";
    // The last by its day, whatever was written last.
    fs::write(server.state.join(format!("sent/2026-11-24-{id}.jsonl")), "{\"last\":\"\u{fc}<\"}\n").unwrap();
    fs::write(server.state.join(format!("sent/2026-11-23-{id}.jsonl")), "{}\n").unwrap();
    let preview = server.ask("GET", "/v1/report/preview", &login, "").with(200);
    assert_eq!(preview.body, "{\"last\":\"\u{fc}<\"}\n".as_bytes());
    assert_eq!(preview.header("content-type"), "application/jsonl");
    assert_eq!(preview.header("ondat-telemetry-report"), format!("2026-11-24-{id}"));
    let kept = server.ask("GET", "/v1/reports", &login, "").with(200).json();
    assert_eq!(kept["kept"][1]["day"], "2026-11-24");
    let event = json!({ "event_id": id, "tags": { "signal": "SIGSEGV" } });
    fs::write(server.state.join(format!("sent/crashes/{id}.json")), event.to_string()).unwrap();
    let crashes = server.ask("GET", "/v1/crashes", &login, "").with(200).json();
    assert_eq!(crashes, json!({ "waiting": [], "sent": [{ "id": id, "event": event }], "held_back": 0 }));
    // One that is far too large does not keep the others from being shown.
    let large = "ffffffffffffffffffffffffffffffff";
    fs::write(server.state.join(format!("sent/crashes/{large}.json")), vec![b' '; 2 << 20]).unwrap();
    let crashes = server.ask("GET", "/v1/crashes", &login, "").with(200).json();
    let sent = crashes["sent"].as_array().unwrap();
    assert!(sent.contains(&json!({ "id": id, "event": event })), "{crashes}");
    assert!(sent.contains(&json!({ "id": large, "event": null })), "{crashes}");
}

#[test]
fn what_became_of_the_last_days_is_told() {
    let server = Server::start("days");
    let login = server.log_in();
    let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let today = now / 86_400;
    let made = |ago: i64, delivered_at: Option<i64>| {
        let day = today - ago;
        json!({ "day": day, "at": { "unix": day * 86_400 + 60, "boot": null }, "delivered_at": delivered_at })
    };
    let made = [made(9, Some((today - 9) * 86_400 + 61)), made(8, Some((today - 6) * 86_400)), made(7, None)];
    let name = |day: i64| {
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(day.unsigned_abs() * 86_400))
            .to_string()[..10]
            .to_owned()
    };
    fs::write(server.state.join("report.json"), json!({ "made": { "c": made }, "pace": {}, "tries": [] }).to_string())
        .unwrap();
    fs::create_dir_all(server.state.join("spool/reports")).unwrap();
    fs::write(server.state.join(format!("spool/reports/{}-{}.otr", name(today - 7), "0".repeat(32))), "sealed")
        .unwrap();
    let line = |ago: i64, on: bool| {
        let changes = json!({ "daily_report": { "from": !on, "to": on } });
        json!({ "at": format!("{}T12:00:00Z", name(today - ago)), "via": "page", "action": "switches", "changes": changes })
    };
    // The second one was cut short by a power cut.
    fs::write(server.state.join("audit.jsonl"), format!("{}\n{{\"at\":\n{}\n", line(5, false), line(2, true))).unwrap();
    let told = server.ask("GET", "/v1/reports", &login, "").with(200).json();
    let days = told["days"].as_array().unwrap();
    assert_eq!((days.len(), &days[29]["day"]), (30, &json!(name(today))));
    let states: Vec<_> = days[19..].iter().map(|day| day["state"].as_str().unwrap()).collect();
    let expected =
        ["before", "delivered", "late", "waiting", "unknown", "unknown", "off", "off", "unknown", "unknown", "due"];
    assert_eq!(states, expected);
    // By the real command, and in force for today at once; what is stored for it is gone with that.
    assert!(run(&server.state, &["disable", "daily-report"]).status.success());
    let told = server.ask("GET", "/v1/reports", &login, "").with(200).json();
    assert_eq!((&told["days"][29]["state"], &told["days"][22]["state"]), (&json!("off"), &json!("off")));
}

#[test]
fn diagnostics_say_what_is_wrong_and_not_who_it_is() {
    let state = state_dir("diagnostics");
    set_password(&state, PASSWORD);
    let raw = "raw-id-of-the-cluster";
    let server = Server::start_in(&state, &["--cluster-id", raw, "--node-id", "raw-id-of-the-node"]);
    let login = server.log_in();
    let change = r#"{"version_check":false,"daily_report":true,"crash_reports":true}"#;
    server.ask("PUT", "/v1/switches?ignore-version=true", &login, change).with(200);
    fs::create_dir_all(state.join("sent/crashes")).unwrap();
    let id = "00112233445566778899aabbccddeeff";
    let event = json!({ "event_id": id, "timestamp": "2026-11-24T00:00:00Z", "tags": { "signal": "SIGSEGV", "node_id": "n" },
        "exception": { "values": [{ "value": "dataplane killed by SIGSEGV" }] } });
    fs::write(state.join(format!("sent/crashes/{id}.json")), event.to_string()).unwrap();
    let result = "stored: connection refused";
    let tries =
        json!([{ "at": 1_795_000_000, "report_id": id, "day": 20_775, "bytes": 1, "url": "u", "result": result }]);
    fs::write(state.join("report.json"), json!({ "made": {}, "pace": {}, "tries": tries }).to_string()).unwrap();

    let answer = server.ask("GET", "/v1/diagnostics", &login, "").with(200);
    let (text, said) = (String::from_utf8(answer.body.clone()).unwrap(), answer.json());
    for secret in [raw, "raw-id-of-the-node", "admin\"", "127.0.0.1", PASSWORD] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert_eq!(said["versions"]["ondat_telemetry"], env!("CARGO_PKG_VERSION"));
    assert_eq!(said["status"]["state_dir"], json!(state));
    assert!(said["errors"].as_array().unwrap().iter().any(|error| error["text"] == result), "{said}");
    assert_eq!(said["crashes"]["sent"][0]["ending"], "dataplane killed by SIGSEGV");
    let changed = &said["changes"].as_array().unwrap().last().unwrap()["changes"];
    assert_eq!(changed["version_check"], json!({ "from": true, "to": false }));

    // What is wrong is when it is asked for: the rest is told all the same.
    fs::write(state.join("report.json"), "damaged").unwrap();
    fs::write(state.join("switches.json"), "damaged").unwrap();
    let said = server.ask("GET", "/v1/diagnostics", &login, "").with(200).json();
    assert!(said["reports"]["problem"].as_str().unwrap().contains("report.json is damaged"), "{said}");
    let errors = said["errors"].as_array().unwrap();
    for named in ["report.json", "switches.json"] {
        assert!(errors.iter().any(|error| error["text"].as_str().unwrap().contains(named)), "{named}: {said}");
    }
    assert_eq!(said["crashes"]["sent"][0]["signal"], "SIGSEGV");
}

#[test]
fn the_page_has_a_cookie_and_says_a_word_with_each_change() {
    let server = Server::start("page");
    server.ask("GET", "/v1/session", "", "").with(401).error();
    let wrong = r#"{"username":"admin","password":"wrong"}"#;
    assert!(!server.ask("POST", "/v1/session", "", wrong).with(401).has_header("set-cookie"));
    let body = format!(r#"{{"username":"admin","password":"{PASSWORD}"}}"#);
    let begun = server.ask("POST", "/v1/session", "", &body).with(200);
    let set = begun.header("set-cookie").to_owned();
    for attribute in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(set.contains(attribute), "{set}");
    }
    let cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
    let csrf = begun.json()["csrf"].as_str().unwrap().to_owned();
    assert!(!set.contains(&csrf));
    let again = server.ask("GET", "/v1/session", &cookie, "").with(200).json();
    assert_eq!((again["csrf"].as_str(), &again["username"]), (Some(csrf.as_str()), &json!("admin")));

    let change = r#"{"version_check":false,"daily_report":true,"crash_reports":true}"#;
    let put = |headers: &str| server.ask("PUT", "/v1/switches?ignore-version=true", headers, change);
    put(&cookie).with(403).error();
    put(&format!("{cookie}X-CSRF-Token: {}\r\n", "0".repeat(32))).with(403).error();
    assert!(!server.state.join("switches.json").exists(), "a cookie alone changes nothing");
    let whole = format!("{cookie}X-CSRF-Token: {csrf}\r\n");
    let put = put(&whole).with(200).json();
    let held = held_by("administrator", "", "the administrator (switches.json)");
    assert_eq!((&put["version_check"], &put["switches"]["version_check"]), (&json!(false), &held));
    let last = server.audit().last().unwrap().clone();
    assert_eq!((&last["via"], &last["word"]), (&json!("page"), &json!("administrator")));
    // Whoever comes with a token has a word of its own, and takes back nothing.
    let login = server.log_in();
    let api = server.ask("GET", "/v1/switches", &login, "").with(200).json();
    assert_eq!((&api["version_check"], &api["switches"]["version_check"]), (&json!(true), &held));
    let all_on = r#"{"version_check":true,"daily_report":true,"crash_reports":false}"#;
    let api = server.ask("PUT", "/v1/switches?ignore-version=true", &login, all_on).with(200).json();
    assert_eq!((&api["crash_reports"], &api["switches"]["version_check"]), (&json!(false), &held));
    let page = server.ask("GET", "/v1/switches", &cookie, "").with(200).json();
    assert_eq!((&page["crash_reports"], &page["version_check"]), (&json!(true), &json!(false)));
    let said = server.ask("GET", "/v1/status", &cookie, "").with(200).json()["administrator"].clone();
    assert_eq!((&said["crash_reports"], &said["api"]["crash_reports"]), (&json!(true), &json!(false)));
    assert_eq!((&said["version_check"], &said["api"]["version_check"]), (&json!(false), &json!(true)));

    // The cookie's token is good for the page alone.
    let token = set.split(['=', ';']).nth(1).unwrap();
    server.ask("GET", "/v1/status", &format!("Authorization: Bearer {token}\r\n"), "").with(401);
    server.ask("DELETE", "/v1/session", &cookie, "").with(403);
    let ended = server.ask("DELETE", "/v1/session", &whole, "").with(204);
    assert!(ended.header("set-cookie").contains("Max-Age=0"));
    server.ask("GET", "/v1/session", &cookie, "").with(401);
}

#[test]
fn a_new_password_ends_the_sessions_of_the_old_one() {
    let server = Server::start("new-password");
    let login = server.log_in();
    server.ask("GET", "/v1/status", &login, "").with(200);
    set_password(&server.state, "another password");
    server.ask("GET", "/v1/status", &login, "").with(401).error();
    assert!(run(&server.state, &["password", "--remove"]).status.success());
    let body = r#"{"username":"admin","password":"another password"}"#;
    server.ask("POST", "/v2/auth/login", "", body).with(401);
}

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let server = Server::start("described");
    let document = server.ask("GET", "/v1/openapi.json", "", "").with(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut described: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let code = include_str!("../../src/serve/mod.rs");
    let mut routes: Vec<_> =
        code.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
    described.sort();
    routes.sort();
    routes.dedup();
    assert_eq!(described, routes);
    // What needs a login says so.
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let is_open = operation["security"] == json!([]);
            let status = server.ask(&method.to_uppercase(), path, "", "").status;
            assert_eq!(status == 401, !is_open, "{method} {path}: {status}");
        }
    }
}

#[test]
fn it_can_be_turned_off_whatever_has_become_of_the_settings() {
    let state = state_dir("broken");
    set_password(&state, PASSWORD);
    let spec = state.join("cluster.yaml");
    fs::write(&spec, "kind: StorageOSCluster\nspec: {environment: {DISABLE_VERSION_CHECK: \"1\"}}\n").unwrap();
    let server = Server::start_in(&state, &["--cluster-spec", spec.to_str().unwrap()]);
    let login = server.log_in();
    fs::write(&spec, "kind: StorageOSCluster\nspec: {disableTelemetry: 1}\n").unwrap();
    fs::write(state.join("identity.key"), "damaged").unwrap();
    let change = r#"{"version_check":true,"daily_report":false,"crash_reports":true}"#;
    let after = server.ask("PUT", "/v1/switches?ignore-version=true", &login, change).with(200).json();
    assert_eq!(after["switches"]["daily_report"]["on"], false);
    // What was true before the resource could not be read stays.
    assert_eq!(after["switches"]["version_check"]["on"], false);
    server.ask("GET", "/v1/status", &login, "").with(200);
    let (_, log) = server.stop();
    assert!(log.contains("the settings of before stay") && log.contains("spec.disableTelemetry"), "{log}");
}
