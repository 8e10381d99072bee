//! What is wrong, slow or too much: a clear error, and the process stays up.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::server::{Answer, Server, run};

/// It answers, and in time.
fn is_up(server: &Server) {
    server.ask("GET", "/v1/openapi.json", "", "").with(200);
}

#[test]
fn an_unreadable_file_is_all_off_until_it_is_repaired() {
    for (name, damage) in [
        ("half", &b"{\"daily_report\":tr"[..]),
        ("foreign", br#"{"telemetryEnabled":true,"reportErrors":true}"#),
        ("empty", b""),
        ("binary", b"\x00\xff"),
    ] {
        let server = Server::start(&format!("unreadable-{name}"));
        let login = server.log_in();
        fs::write(server.state.join("switches.json"), damage).unwrap();
        let status = server.ask("GET", "/v1/status", &login, "").with(200).json();
        for switch in ["version_check", "daily_report", "crash_reports"] {
            assert_eq!(status["switches"][switch]["on"], false, "{name}");
            assert_eq!(status["administrator"][switch], false, "{name}");
        }
        assert!(status["administrator"]["problem"].as_str().unwrap().contains("ondat-telemetry repair"), "{status}");
        let cluster = server.ask("GET", "/v2/cluster", &login, "").with(200).json();
        assert_eq!(cluster["disableTelemetry"], true);
        let change = r#"{"version_check":true,"daily_report":true,"crash_reports":true}"#;
        for path in ["/v1/switches?ignore-version=true", "/v2/cluster?ignore-version=true"] {
            let error = server.ask("PUT", path, &login, change).with(409).error();
            assert!(error.contains("ondat-telemetry repair"), "{error}");
        }
        let refused = run(&server.state, &["enable", "all"]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8(refused.stderr).unwrap().contains("ondat-telemetry repair"));
        assert_eq!(fs::read(server.state.join("switches.json")).unwrap(), damage, "only repair touches it");

        assert!(run(&server.state, &["repair"]).status.success());
        assert_eq!(fs::read(server.state.join("switches.json.damaged")).unwrap(), damage);
        let repaired = server.ask("GET", "/v1/switches", &login, "").with(200).json();
        assert_eq!(
            [&repaired["switches"]["version_check"]["on"], &repaired["switches"]["daily_report"]["on"]],
            [&json!(false); 2],
            "repair turns nothing on"
        );
        assert!(run(&server.state, &["enable", "all"]).status.success());
        assert_eq!(server.ask("GET", "/v1/switches", &login, "").with(200).json()["daily_report"], true);
        assert_eq!(server.audit().iter().filter(|line| line["action"] == "repair").count(), 1);
    }
}

#[test]
fn a_symlink_is_not_followed() {
    let server = Server::start("symlink");
    let login = server.log_in();
    let elsewhere = server.state.join("elsewhere");
    fs::write(&elsewhere, "{}").unwrap();
    symlink(&elsewhere, server.state.join("switches.json")).unwrap();
    let status = server.ask("GET", "/v1/status", &login, "").with(200).json();
    assert_eq!(status["switches"]["daily_report"]["on"], false);
    assert!(run(&server.state, &["repair"]).status.success());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"{}");
    assert_eq!(server.switches_json()["daily_report"], false);
}

#[test]
fn a_word_cut_short_anywhere_is_no_consent() {
    let server = Server::start("cut");
    run(&server.state, &["enable", "all"]);
    let whole = fs::read_to_string(server.state.join("switches.json")).unwrap();
    for length in 0..whole.trim_end().len() {
        assert!(ondat_telemetry::switches::parse(&whole.as_bytes()[..length]).is_err(), "{length}");
    }
    assert_eq!(ondat_telemetry::switches::parse(whole.as_bytes()), Ok(Vec::new()));
}

#[test]
fn malformed_logins_are_named() {
    let server = Server::start("malformed");
    let long = format!(r#"{{"username":"admin","password":"{}"}}"#, "x".repeat(1025));
    for (body, named) in [
        (r#"{"username":"admin"}"#, "password is required"),
        (r#"{"password":"x"}"#, "username is required"),
        (r#"{"username":["admin"],"password":"x"}"#, "username is not a string"),
        (long.as_str(), "too long"),
        ("nonsense", "no JSON object"),
        (r#"{"version":"1","version":"2"}"#, "stands twice"),
        (&"[".repeat(10_000), "no JSON object"),
    ] {
        let error = server.ask("POST", "/v2/auth/login", "", body).with(400).error();
        assert!(error.contains(named), "{error}");
    }
    let host = server.address;
    let form = "username=admin&password=x";
    let as_form = server.exchange(format!(
        "POST /v1/session HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{form}",
        form.len()
    ));
    as_form.with(415).error();
}

#[test]
fn another_host_or_origin_asks_in_vain() {
    let server = Server::start("rebinding");
    let login = server.log_in();
    let port = server.address.port();
    let ask = |host: &str, more: &str| {
        server.exchange(format!("GET /v1/status HTTP/1.1\r\n{host}{login}{more}Connection: close\r\n\r\n"))
    };
    ask(&format!("Host: localhost:{port}\r\n"), "").with(200);
    ask(&format!("Host: evil.example:{port}\r\n"), "").with(421).error();
    ask("", "").with(400);
    ask(&format!("Host: localhost:{port}\r\nHost: evil.example\r\n"), "").with(400).error();
    ask(&format!("Host: localhost:{port}\r\nHost: localhost:{port}\r\n"), "").with(400).error();
    ask("Host: localhost:x\r\n", "").with(400).error();
    let absolute = |target: &str| {
        server.exchange(format!(
            "GET {target}/v1/openapi.json HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
        ))
    };
    absolute(&format!("http://LOCALHOST:{port}")).with(200);
    absolute("http://evil.example").with(400).error();
    absolute("http://localhost:1").with(400).error();
    ask(&format!("Host: localhost:{port}\r\n"), "Origin: http://evil.example\r\n").with(403).error();
    ask(&format!("Host: localhost:{port}\r\n"), &format!("Origin: http://localhost:{port}\r\n")).with(200);
    // Something in front ends TLS, and writes the port or leaves it out.
    ask("Host: localhost:443\r\n", "Origin: https://localhost\r\n").with(200);
    ask("Host: localhost\r\n", "Origin: https://LOCALHOST:443\r\n").with(200);
    ask("Host: localhost\r\n", "Origin: https://localhost:8443\r\n").with(403).error();
    // Also what needs no login: a page of another name gets nothing to run.
    server.exchange("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").with(421);
    let preflight = format!(
        "OPTIONS /v1/switches HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n\
         Access-Control-Request-Method: PUT\r\nConnection: close\r\n\r\n"
    );
    assert!(!server.exchange(preflight).head.to_ascii_lowercase().contains("access-control-allow"));
}

#[test]
fn a_named_host_is_answered_to() {
    let state = crate::server::state_dir("named");
    let server = Server::start_in(&state, &["--host-name", "storageos"]);
    server.exchange("GET / HTTP/1.1\r\nHost: storageos:5705\r\nConnection: close\r\n\r\n").with(200);
}

#[test]
fn a_body_that_is_too_long_is_refused_whole() {
    let server = Server::start("oversized");
    let login = server.log_in();
    let long = format!(r#"{{"version":"{}"}}"#, "x".repeat(70_000));
    let error = server.ask("PUT", "/v2/cluster", &login, &long).with(413).error();
    assert!(error.contains("65536"), "{error}");
    // Without a length, for as long as it is let.
    let mut stream = server.connect();
    write!(stream, "PUT /v2/cluster HTTP/1.1\r\nHost: localhost\r\n{login}Content-Type: application/json\r\n").unwrap();
    write!(stream, "Transfer-Encoding: chunked\r\n\r\n").unwrap();
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut sent = 0;
    while sent < 64 << 20 && stream.write_all(piece.as_bytes()).is_ok() {
        sent += 0x10000;
    }
    assert!(sent < 64 << 20, "it was read for ever");
    is_up(&server);
}

#[test]
fn slow_heads_and_slow_bodies_end() {
    let server = Server::start("slow");
    let login = server.log_in();
    let mut body = server.connect();
    write!(body, "PUT /v2/cluster HTTP/1.1\r\nHost: localhost\r\n{login}Content-Type: application/json\r\n").unwrap();
    write!(body, "Content-Length: 100\r\n\r\n{{").unwrap();
    let mut head = server.connect();
    write!(head, "GET / HTTP/1.1\r\nHo").unwrap();
    let mut silent = server.connect();
    let mut idle = server.connect();
    write!(idle, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    Answer::read(&mut idle).with(200);
    let error = Answer::read(&mut body).with(408).error();
    assert!(error.contains("took longer than"), "{error}");
    for stream in [&mut head, &mut silent, &mut idle] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        let text = String::from_utf8(rest).unwrap();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    }
    is_up(&server);
}

#[test]
fn a_thousand_connections_are_bounded() {
    let server = Server::start("thousand");
    let ask = |stream: &mut TcpStream| {
        let mut first = [0; 12];
        let sent = write!(stream, "GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
        sent.and_then(|()| stream.read_exact(&mut first)).is_ok_and(|()| &first == b"HTTP/1.1 200")
    };
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
    // The last one is in when its answer comes, and so are all before it.
    assert!(ask(&mut server.connect()));
    let answered: Vec<_> = streams.iter_mut().map(ask).collect();
    assert!(answered.iter().filter(|answered| **answered).count() <= 256);
    assert!(!answered[0] && answered[999], "those that have said nothing for longest were closed: {answered:?}");
    drop(streams);
    is_up(&server);
}

#[test]
fn connections_that_are_at_work_are_not_closed_for_others() {
    let server = Server::start("busy");
    let login = server.log_in();
    // The server asks for the body once it is at work.
    let begin = || {
        let mut stream = server.connect();
        write!(stream, "PUT /v2/cluster?ignore-version=true HTTP/1.1\r\nHost: localhost\r\n{login}").unwrap();
        write!(stream, "Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").unwrap();
        Answer::read(&mut stream).with(100);
        stream
    };
    let mut first = begin();
    let others: Vec<TcpStream> = (0..600).map(|_| server.connect()).collect();
    write!(first, "{{}}").unwrap();
    Answer::read(&mut first).with(200);
    drop((first, others));
    // Where all are at work, one more is told so.
    let all: Vec<TcpStream> = (0..256).map(|_| begin()).collect();
    let refused = Answer::read(&mut server.connect()).with(503);
    assert!(refused.error().contains("too many connections"));
    assert_eq!(refused.header("retry-after"), "5");
    drop(all);
}

#[test]
fn nonsense_on_the_wire_harms_nobody() {
    let server = Server::start("nonsense");
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /v2/auth/login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nzz\r\n",
        &[b'A'; 200_000],
    ] {
        let mut stream = server.connect();
        // It may close before it has read everything.
        let _ = stream.write_all(nonsense);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    is_up(&server);
    for path in ["/v1/nothing", "/v1/report", "/etc/passwd", "//", "/page.js/x"] {
        server.ask("GET", path, "", "").with(404).error();
    }
    let other = server.ask("DELETE", "/v1/status", &server.log_in(), "").with(405);
    assert!(other.header("allow").contains("GET"));
    other.error();
}

#[test]
fn turning_on_that_cannot_be_written_down_is_not_done_and_turning_off_is() {
    let server = Server::start("no-audit");
    let login = server.log_in();
    let audit = server.state.join("audit.jsonl");
    fs::remove_file(&audit).unwrap();
    fs::create_dir(&audit).unwrap();
    let put = |word: bool| {
        let change = json!({ "version_check": word, "daily_report": word, "crash_reports": word }).to_string();
        server.ask("PUT", "/v1/switches?ignore-version=true", &login, &change)
    };
    let is_on =
        || server.ask("GET", "/v1/status", &login, "").with(200).json()["switches"]["daily_report"]["on"].clone();
    put(false).with(200);
    assert_eq!(is_on(), false);
    let error = put(true).with(500).error();
    assert!(error.contains("nothing was changed") && error.contains("audit.jsonl"), "{error}");
    assert_eq!(is_on(), false);
    // Both lines are there, in their order, as soon as they can be.
    fs::remove_dir(&audit).unwrap();
    put(true).with(200);
    assert_eq!(is_on(), true);
    let lines: Vec<Value> =
        fs::read_to_string(audit).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let words: Vec<_> = lines.iter().map(|line| &line["changes"]["daily_report"]["to"]).collect();
    assert_eq!(words, [false, true], "{lines:?}");
}
