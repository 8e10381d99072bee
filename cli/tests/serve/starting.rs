//! How it starts, what it refuses to start with, and how it ends.

use std::fs;
use std::io::BufRead;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::Write;

use crate::server::{Answer, PASSWORD, Server, command, run, set_password, state_dir};

/// A certificate for this machine that signs itself, and its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

/// Asks over TLS, trusting this certificate alone.
fn ask_over_tls(server: &Server, certificate: &Path, request: &str) -> Result<Answer, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let connection = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, server.connect());
    stream.write_all(request.as_bytes())?;
    Ok(Answer::read(&mut stream))
}

#[test]
fn without_a_password_one_run_has_its_own() {
    let state = state_dir("run-password");
    let server = Server::start_in(&state, &[]);
    let file = state.join("serve.password");
    let password = fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(password.len(), 32);
    let log_in = |server: &Server, password: &str| {
        let body = format!(r#"{{"username":"admin","password":"{password}"}}"#);
        server.ask("POST", "/v2/auth/login", "", &body)
    };
    log_in(&server, &password).with(200);
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("no password is set") && log.contains("serve.password"), "{log}");
    assert!(!log.contains(&password), "secrets stay out of the log");
    assert!(!file.exists());
    let next = Server::start_in(&state, &[]);
    log_in(&next, &password).with(401);
    // A password that is set while it runs is in force at once, and the run's is none any more.
    let of_this_run = fs::read_to_string(&file).unwrap().trim().to_owned();
    log_in(&next, &of_this_run).with(200);
    set_password(&state, PASSWORD);
    log_in(&next, &of_this_run).with(401);
    log_in(&next, PASSWORD).with(200);
}

#[test]
fn beyond_this_machine_it_takes_a_certificate_and_a_password() {
    let state = state_dir("open");
    let (certificate, key) = certificate(&state);
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let refused = |options: &[&str], why: &str| {
        let ended = run(&state, &[&["serve", "--listen"], options].concat());
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    };
    let tls = ["--tls-certificate", certificate, "--tls-key", key];
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:5705"] {
        refused(&[address], "which takes a certificate");
        refused(&[&[address], tls.as_slice()].concat(), "which takes a password");
    }
    set_password(&state, PASSWORD);
    refused(&["0.0.0.0:0"], "which takes a certificate");
    refused(&["127.0.0.1:0", "--tls-certificate", certificate], "--tls-key");
    refused(&["127.0.0.1:0", "--tls-certificate", key, "--tls-key", key], "no certificate in PEM");
    let mut open = command(&state, &["serve", "--listen", "0.0.0.0:0"]);
    let server = Server::spawn(open.args(tls), &state);
    let request = format!("GET /v1/openapi.json HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", server.address.port());
    ask_over_tls(&server, Path::new(certificate), &request).unwrap().with(200);
}

#[test]
fn plain_http_beyond_this_machine_takes_its_word_and_a_password_and_is_said() {
    let state = state_dir("plain");
    let plain = ["serve", "--listen", "0.0.0.0:0", "--plain-http-on-trusted-network"];
    let refused = run(&state, &plain);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("which takes a password"), "{said}");
    set_password(&state, PASSWORD);
    let (certificate, key) = certificate(&state);
    let both = ["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let refused = run(&state, &[plain.as_slice(), &both].concat());
    assert_eq!(refused.status.code(), Some(2));
    let session = |server: &Server| {
        let body = format!(r#"{{"username":"admin","password":"{PASSWORD}"}}"#);
        server.ask("POST", "/v1/session", "", &body).with(200).json()
    };
    // The administrator wants to hear of errors alone, and hears this.
    fs::write(state.join("switches.json"), r#"{"log_level":"error"}"#).unwrap();
    for _ in 0..2 {
        let server = Server::spawn(&mut command(&state, &plain), &state);
        assert_eq!(session(&server)["plain_http"], true);
        let (_, log) = server.stop();
        assert!(log.contains("http without TLS beyond this machine") && log.lines().count() == 1, "{log}");
    }
    let server = Server::start_in(&state, &["--plain-http-on-trusted-network"]);
    assert_eq!(session(&server)["plain_http"], false, "nobody else sees what stays on this machine");
    assert!(!server.stop().1.contains("without TLS"));
}

#[test]
fn http_where_tls_is_spoken_is_told_so() {
    let state = state_dir("http-to-tls");
    let (certificate, key) = certificate(&state);
    let options = ["--tls-certificate", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = Server::start_in(&state, &options);
    let long = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n{}", "x".repeat(60_000));
    for request in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "G", "\r\n", &long] {
        let error = server.exchange(request).with(400).error();
        assert!(error.contains("https://"), "{error}");
    }
    // One that says nothing keeps nobody from it.
    let silent = server.connect();
    let request = format!("GET / HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", server.address.port());
    ask_over_tls(&server, &certificate, &request).unwrap().with(200);
    drop(silent);
    let origin = |origin: &str| {
        let request = format!("GET /v1/openapi.json HTTP/1.1\r\nHost: localhost:443\r\nOrigin: {origin}\r\n\r\n");
        ask_over_tls(&server, &certificate, &request).unwrap()
    };
    origin("https://localhost").with(200);
    for foreign in ["http://localhost:443", "http://localhost", "https://localhost:8443", "https://evil.example"] {
        origin(foreign).with(403).error();
    }
}

#[test]
fn certificates_keys_and_names_that_cannot_be_used_are_named_in_words() {
    let state = state_dir("bad-files");
    let (certificate, key) = certificate(&state);
    let pem = fs::read_to_string(&certificate).unwrap();
    let key_pem = fs::read_to_string(&key).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().signing_key.serialize_pem();
    let file = |name: &str, text: &str| {
        let path = state.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refused = |certificate: &str, key: &str, options: &[&str], why: &str| {
        let all = ["serve", "--listen", "127.0.0.1:0", "--tls-certificate", certificate, "--tls-key", key];
        let ended = run(&state, &[&all, options].concat());
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(why) && !said.contains('[') && !said.contains('{'), "{why}: {said}");
    };
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let cut = file("cut.pem", pem.split("-----END").next().unwrap());
    let damaged = file("damaged.pem", &pem.replacen('M', "!", 1));
    let nonsense = file("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let header = file("header.pem", "-----BEGIN CERTIFICATE\nAAAA\n");
    let empty = file("empty.pem", "");
    let encrypted = file("encrypted.key", &key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    let bad_key = file("bad.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    let others = file("other.key", &other);
    for (certificate, key, why) in [
        (cut.as_str(), key, "it is cut short"),
        (damaged.as_str(), key, "its base64 is damaged"),
        (nonsense.as_str(), key, "damaged"),
        (header.as_str(), key, "-----BEGIN line is malformed"),
        (empty.as_str(), key, "no certificate in PEM"),
        ("/nonexistent.pem", key, "/nonexistent.pem: No such file"),
        (certificate, "/nonexistent.key", "/nonexistent.key: No such file"),
        (certificate, certificate, "no private key in PEM"),
        (certificate, &empty, "no private key in PEM"),
        (certificate, &encrypted, "the key is encrypted"),
        (certificate, &bad_key, "the key is damaged"),
        (certificate, &others, "the key does not belong to the certificate"),
        ("/dev/zero", key, "longer than"),
    ] {
        refused(certificate, key, &[], why);
    }
    for name in ["https://storageos", "storageos:5705", "", "stor ageos", "192.0.2.1", "*.example"] {
        refused(certificate, key, &["--host-name", name], "--host-name");
    }
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let state = state_dir("taken");
    let ended = run(&state, &["serve", "--listen", &address]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(said.contains(&format!("cannot listen on {address}")) && said.contains("--listen"), "{said}");
    assert!(!state.join("serve.password").exists());
}

#[test]
fn a_new_certificate_is_taken_without_a_restart() {
    let state = state_dir("reload");
    let (path, key) = certificate(&state);
    let options = ["--tls-certificate", path.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let mut server = Server::start_in(&state, &options);
    let request = format!("GET / HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", server.address.port());
    ask_over_tls(&server, &path, &request).unwrap().with(200);
    let before = state.join("before.pem");
    fs::copy(&path, &before).unwrap();
    let mut log = server.log();
    let mut log_until = |what: &str| {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it said {what:?}");
        }
    };
    // One that cannot be used changes nothing.
    fs::write(&path, "half a certificate").unwrap();
    server.signal(Signal::SIGHUP);
    log_until("the certificate of before stays");
    ask_over_tls(&server, &before, &request).unwrap().with(200);
    certificate(&state);
    server.signal(Signal::SIGHUP);
    log_until("the certificate was read anew");
    ask_over_tls(&server, &path, &request).unwrap().with(200);
    assert!(ask_over_tls(&server, &before, &request).is_err());
}

#[test]
fn it_ends_with_connections_open() {
    let server = Server::start("ending");
    let idle = server.connect();
    let mut busy = server.connect();
    write!(busy, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    Answer::read(&mut busy).with(200);
    assert_eq!(server.stop().0, Some(0));
    drop((idle, busy));
}

#[test]
fn damaged_users_are_no_open_door() {
    let state = state_dir("damaged-users");
    fs::write(state.join("users.json"), "{").unwrap();
    let ended = run(&state, &["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert!(said.contains("users.json is damaged"), "{said}");
}

#[test]
fn the_settings_file_is_followed_and_a_damaged_one_changes_nothing() {
    let state = state_dir("settings-file");
    set_password(&state, PASSWORD);
    let file = state.join("a.env");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("ONDAT_TELEMETRY_VERSION_ZONE=one.example\nDISABLE_TELEMETRY=true\n");
    let mut server = Server::start_in(&state, &["--env-file", file.to_str().unwrap()]);
    let session = server.log_in();
    let status = || server.ask("GET", "/v1/status", &session, "").with(200).json();
    let seen = status();
    assert_eq!(seen["version_check"]["zone"], "one.example");
    assert_eq!(seen["settings_file"], file.to_str().unwrap());
    let source = format!("settings file {} DISABLE_TELEMETRY", file.display());
    assert_eq!(seen["switches"]["daily_report"]["off_by"], serde_json::json!([source]));
    write("ONDAT_TELEMETRY_VERSION_ZONE=two.example\nDISABLE_TELEMETRY=true\n");
    assert_eq!(status()["version_check"]["zone"], "two.example");
    write("export DISABLE_TELEMETRY=false\n");
    let seen = status();
    assert_eq!(
        (&seen["version_check"]["zone"], &seen["switches"]["daily_report"]["on"]),
        (&"two.example".into(), &false.into())
    );
    let log = server.log();
    server.signal(Signal::SIGTERM);
    let why = log.lines().map(Result::unwrap).find(|line| line.contains("the settings of before stay")).unwrap();
    assert!(why.contains("a.env: line 1: `export`"), "{why}");
}
