//! The product's calls, byte for byte as its real clients make them: two operators' Go client, and the command line.

use serde_json::{Value, json};

use crate::server::{Answer, PASSWORD, Server, held_by, run};

/// What the clients say besides, in their order.
const OPERATOR: &str = "User-Agent: OpenAPI-Generator/2.4.0/go\r\n";
const COMMAND_LINE: &str = "User-Agent: storageos-cli/2.4.2\r\n";

/// A request as Go's net/http writes it; JSON bodies end with a newline (encoding/json's Encoder).
fn go(server: &Server, agent: &str, line: &str, authorization: Option<&str>, body: Option<&str>) -> Answer {
    let host = server.address;
    let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    let (body_head, body) = match body {
        Some(body) => (
            format!(
                "Content-Length: {}\r\nAccept: application/json\r\n{authorization}Content-Type: application/json\r\n",
                body.len() + 1
            ),
            format!("{body}\n"),
        ),
        None if line.starts_with("POST") => {
            (format!("Content-Length: 0\r\nAccept: application/json\r\n{authorization}"), String::new())
        }
        None => (format!("Accept: application/json\r\n{authorization}"), String::new()),
    };
    server.exchange(format!("{line} HTTP/1.1\r\nHost: {host}\r\n{agent}{body_head}Accept-Encoding: gzip\r\n\r\n{body}"))
}

fn log_in(server: &Server, agent: &str) -> Answer {
    let body = format!(r#"{{"username":"admin","password":"{PASSWORD}"}}"#);
    go(server, agent, "POST /v2/auth/login", None, Some(&body)).with(200)
}

/// The operators split the header at the space and panic where there is none.
fn operators_token(answer: &Answer) -> String {
    answer.header("authorization").split_once(' ').unwrap().1.to_owned()
}

const DISABLE_ALL: &str = r#"{"disableTelemetry":true,"disableCrashReporting":true,"disableVersionCheck":true,"logLevel":"info","logFormat":"json","version":"VERSION"}"#;
const ENABLE_ALL: &str = r#"{"logLevel":"info","logFormat":"json","version":"VERSION"}"#;

fn disabled(cluster: &Value) -> [bool; 3] {
    ["disableTelemetry", "disableCrashReporting", "disableVersionCheck"].map(|name| cluster[name].as_bool().unwrap())
}

#[test]
fn an_operator_reads_flips_and_flips_back() {
    let server = Server::start("operator");
    let bearer = format!("Bearer {}", operators_token(&log_in(&server, OPERATOR)));
    let read = || go(&server, OPERATOR, "GET /v2/cluster", Some(&bearer), None).with(200).json();
    let write = |body: &str| go(&server, OPERATOR, "PUT /v2/cluster", Some(&bearer), Some(body));
    let version = |cluster: &Value| cluster["version"].as_str().unwrap().to_owned();

    let first = read();
    assert_eq!(disabled(&first), [false; 3]);
    assert_eq!((&first["logLevel"], &first["logFormat"]), (&json!("info"), &json!("default")));
    assert_eq!(first.get("createdAt"), None, "an empty time breaks Go's decoder");

    let off = write(&DISABLE_ALL.replace("VERSION", &version(&first))).with(200).json();
    assert_eq!(disabled(&off), [true; 3]);
    assert_ne!(version(&off), version(&first));
    assert!(version(&off).len() <= 30);
    assert_eq!(off, read(), "the answer is what is read afterwards");
    for time in ["createdAt", "updatedAt"] {
        humantime::parse_rfc3339(off[time].as_str().unwrap()).unwrap();
    }
    let file = server.switches_json();
    assert_eq!([&file["version_check"], &file["daily_report"], &file["crash_reports"]], [&json!(false); 3]);

    // With the version of before: somebody else's change would be lost.
    let stale = write(&ENABLE_ALL.replace("VERSION", &version(&first))).with(412);
    assert!(stale.error().contains("attempting to write stale object"), "{}", stale.error());
    assert_eq!(read(), off);

    // Go leaves out what is false.
    let on = write(&ENABLE_ALL.replace("VERSION", &version(&off))).with(200).json();
    assert_eq!(disabled(&on), [false; 3]);
    assert_eq!(on["logFormat"], "json");
}

#[test]
fn the_command_line_forces_and_compares() {
    let server = Server::start("command-line");
    // It takes the token from the body and says it without a scheme.
    let session = log_in(&server, COMMAND_LINE).json();
    assert_eq!(session["session"]["expiresInSeconds"], 300);
    let token = session["session"]["token"].as_str().unwrap().to_owned();
    let ask = |line: &str, body: Option<&str>| go(&server, COMMAND_LINE, line, Some(&token), body);

    assert_eq!(disabled(&ask("GET /v2/cluster", None).with(200).json()), [false; 3]);
    assert!(ask("GET /v2/nodes", None).with(200).json().is_array());

    let forced = r#"{"disableVersionCheck":true,"logLevel":"info","logFormat":"json"}"#;
    let one = ask("PUT /v2/cluster?ignore-version=true", Some(forced)).with(200).json();
    assert_eq!(disabled(&one), [false, false, true]);

    let compared = r#"{"disableTelemetry":true,"logLevel":"info","logFormat":"json","version":"VERSION"}"#;
    let stale = compared.replace("VERSION", "MQ");
    ask("PUT /v2/cluster?ignore-version=false", Some(&stale)).with(412);
    let fresh = compared.replace("VERSION", one["version"].as_str().unwrap());
    let other = ask("PUT /v2/cluster?ignore-version=false", Some(&fresh)).with(200).json();
    assert_eq!(disabled(&other), [true, false, false], "a write replaces all three");
    let never_compared = ask("PUT /v2/cluster", Some(r#"{"logLevel":"info"}"#)).with(400);
    assert!(never_compared.error().contains("version is required"), "{}", never_compared.error());
}

#[test]
fn a_token_is_refreshed_and_one_that_is_none_is_not() {
    let server = Server::start("refresh");
    let first = operators_token(&log_in(&server, OPERATOR));
    let refreshed = go(&server, OPERATOR, "POST /v2/auth/refresh", Some(&format!("Bearer {first}")), None).with(200);
    assert_eq!(refreshed.header("authorization-expires-in"), "300");
    let second = operators_token(&refreshed);
    assert_ne!(first, second);
    assert_eq!(refreshed.json()["session"]["token"], json!(second));
    // Others may be using the first one at this moment.
    for token in [&first, &second] {
        go(&server, OPERATOR, "GET /v2/cluster", Some(&format!("Bearer {token}")), None).with(200);
    }
    for wrong in ["Bearer ", "Bearer x", "x", "Basic YWRtaW46YWRtaW4=", ""] {
        go(&server, OPERATOR, "POST /v2/auth/refresh", Some(wrong), None).with(401).error();
    }
}

#[test]
fn what_clients_may_send_besides_is_ignored_and_what_is_wrong_is_named() {
    let server = Server::start("members");
    let bearer = format!("Bearer {}", operators_token(&log_in(&server, OPERATOR)));
    let write = |body: &str| go(&server, OPERATOR, "PUT /v2/cluster?ignore-version=true", Some(&bearer), Some(body));
    let after =
        write(r#"{"disableTelemetry":true,"disableVersionCheck":null,"licenceKey":"x","id":7}"#).with(200).json();
    assert_eq!(disabled(&after), [true, false, false]);
    assert_eq!(after["logLevel"], "info", "what is left out stays");
    for (body, named) in [
        (r#"{"disableTelemetry":"true"}"#, "disableTelemetry is not true or false"),
        (r#"{"disableCrashReporting":1}"#, "disableCrashReporting is not true or false"),
        (r#"{"logLevel":"trace"}"#, "logLevel is not one of info, debug, warn, error"),
        (r#"{"logFormat":1}"#, "logFormat is not a string"),
        (r#"["disableTelemetry"]"#, "no JSON object"),
        ("{", "no JSON object"),
    ] {
        let error = write(body).with(400).error();
        assert!(error.contains(named), "{body}: {error}");
    }
    let unknown = go(&server, OPERATOR, "PUT /v2/cluster?force=true", Some(&bearer), Some("{}")).with(400);
    assert!(unknown.error().contains("ignore-version"), "{}", unknown.error());
}

#[test]
fn the_cluster_says_who_else_holds_a_switch_off() {
    let state = crate::server::state_dir("held");
    crate::server::set_password(&state, PASSWORD);
    let mut command = crate::server::command(&state, &["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("DISABLE_TELEMETRY", "true")
        .env("ONDAT_TELEMETRY_CLUSTER_ID", "c-1")
        .env("ONDAT_TELEMETRY_NODE_ID", "n-1");
    let server = Server::spawn(&mut command, &state);
    let bearer = format!("Bearer {}", operators_token(&log_in(&server, OPERATOR)));
    let read = |path: &str| go(&server, OPERATOR, &format!("GET {path}"), Some(&bearer), None).with(200).json();
    let cluster = read("/v2/cluster");
    // The administrator's word, so that an operator who compares it with the cluster's resource does not write it for ever.
    assert_eq!(disabled(&cluster), [false; 3]);
    let held = held_by("environment", "DISABLE_TELEMETRY", "environment DISABLE_TELEMETRY");
    assert_eq!(cluster["switches"]["daily_report"], held);
    let identity = ondat_telemetry_protocol::identity::Identity::from_cluster_id("c-1");
    let id = |purpose, raw| identity.anonymise_hex(purpose, raw);
    assert_eq!(cluster["id"], json!(id(ondat_telemetry_protocol::identity::Purpose::Cluster, "c-1")));
    let nodes = read("/v2/nodes");
    assert_eq!(nodes[0]["id"], json!(id(ondat_telemetry_protocol::identity::Purpose::Node, "n-1")));
    assert!(!nodes[0]["name"].as_str().unwrap().is_empty());
}

#[test]
fn the_command_and_the_api_see_each_others_changes() {
    let server = Server::start("both");
    let bearer = format!("Bearer {}", operators_token(&log_in(&server, OPERATOR)));
    let read = || go(&server, OPERATOR, "GET /v2/cluster", Some(&bearer), None).with(200).json();
    let before = read();
    assert!(run(&server.state, &["disable", "crash-reports"]).status.success());
    let after = read();
    // The operator's own word is unchanged: it has nothing to write. What holds is another matter.
    assert_eq!(disabled(&after), [false; 3]);
    let held = held_by("administrator", "", "the administrator (switches.json)");
    assert_eq!(after["switches"]["crash_reports"], held);
    let body = ENABLE_ALL.replace("VERSION", before["version"].as_str().unwrap());
    go(&server, OPERATOR, "PUT /v2/cluster", Some(&bearer), Some(&body)).with(412);
    let body = ENABLE_ALL.replace("VERSION", after["version"].as_str().unwrap());
    go(&server, OPERATOR, "PUT /v2/cluster", Some(&bearer), Some(&body)).with(200);
    let said = run(&server.state, &["status", "--json"]).stdout;
    let status: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(status["switches"]["crash_reports"], held, "a reconcile turns on nothing that a person has turned off");
    let off = DISABLE_ALL.replace("VERSION", read()["version"].as_str().unwrap());
    go(&server, OPERATOR, "PUT /v2/cluster", Some(&bearer), Some(&off)).with(200);
    let audit = server.audit();
    let of = |via: &str| audit.iter().filter(|line| line["via"] == via && line["action"] == "switches").count();
    assert_eq!((of("command"), of("api")), (1, 2), "{audit:?}");
    let last = audit.last().unwrap();
    assert_eq!((&last["user"], &last["address"]), (&json!("admin"), &json!("127.0.0.1")));
    assert_eq!(
        (&last["word"], &last["changes"]["crash_reports"]),
        (&json!("api"), &json!({ "from": true, "to": false }))
    );
    let said = run(&server.state, &["enable", "all"]).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("crash_reports  off by the API client (switches.json)\n"), "{said}");
    assert_eq!(disabled(&read()), [true; 3]);
    // What an older version reads is off by either.
    assert_eq!(server.switches_json()["crash_reports"], false);
    let (_, log) = server.stop();
    // In the log's format of these settings.
    let turned = "\"admin from 127.0.0.1 has turned off version_check as the API client, turned off daily_report as the API \
                  client, turned off crash_reports as the API client\"";
    assert_eq!(log.matches(turned).count(), 1, "{log}");
    assert_eq!(log.matches("has set the log's format to json\"").count(), 1, "{log}");
}

#[test]
fn an_operator_that_writes_for_ever_has_nothing_to_write() {
    let server = Server::start("reconcile");
    let bearer = format!("Bearer {}", operators_token(&log_in(&server, OPERATOR)));
    let read = || go(&server, OPERATOR, "GET /v2/cluster", Some(&bearer), None).with(200).json();
    // What operators do at each turn: they compare with the resource, and write what differs.
    let reconcile = |wants: bool| {
        let cluster = read();
        if disabled(&cluster) == [wants; 3] {
            return false;
        }
        let body = if wants { DISABLE_ALL } else { ENABLE_ALL };
        let body = body.replace("VERSION", cluster["version"].as_str().unwrap());
        go(&server, OPERATOR, "PUT /v2/cluster", Some(&bearer), Some(&body)).with(200);
        true
    };
    let on = || {
        let status: Value = serde_json::from_slice(&run(&server.state, &["status", "--json"]).stdout).unwrap();
        status["switches"]["daily_report"]["on"].as_bool().unwrap()
    };
    assert!(!reconcile(false));
    assert!(run(&server.state, &["disable", "all"]).status.success());
    assert_eq!((reconcile(false), on()), (false, false));
    assert_eq!((reconcile(true), reconcile(true), on()), (true, false, false));
    assert!(run(&server.state, &["enable", "all"]).status.success());
    assert_eq!((reconcile(true), on()), (false, false));
    assert_eq!((reconcile(false), on()), (true, true));
    // Taken back by a person, it is written again as long as the resource says so.
    assert!(reconcile(true));
    assert!(run(&server.state, &["enable", "all", "--also-api"]).status.success());
    assert_eq!((on(), reconcile(true), on()), (true, true, false));
}
