//! Our own calls, and the page's session.

use std::fs;

use serde_json::{Value, json};

use crate::server::{PASSWORD, Server, command, run, set_password, state_dir};

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
    let held = json!({ "on": false, "off_by": ["the API client (switches.json)"] });
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
    assert_eq!(empty, json!({ "made": [], "tries": [], "kept": [] }));
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
    let held = json!({ "on": false, "off_by": ["the administrator (switches.json)"] });
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
