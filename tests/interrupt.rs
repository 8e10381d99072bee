//! Turning a switch off ends what is under way for it, whatever the server does, and removes what was stored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use ondat_telemetry::client::Client;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::{Number, Setting};
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::keys::{Kem, generate_key, key_id};
use serde_json::json;

const DAILY_REPORT: u32 = 2;
/// What the calls are given: no test waits for it.
const FOR_EVER: Duration = Duration::from_secs(600);
/// How long a test waits for anything: far above what it takes.
const DEADLINE: Duration = Duration::from_secs(20);

fn builder() -> ConfigBuilder {
    let mut builder = ConfigBuilder::new();
    builder.set(Setting::Component, "test");
    builder.set(Setting::Version, "2.8.1");
    builder.set(Setting::ClusterId, "cluster");
    builder.set(Setting::NodeId, "node");
    builder.set_number(Number::TimeoutMs, u64::try_from(FOR_EVER.as_millis()).unwrap());
    builder
}

/// A folder that is gone when the test is over.
struct StateDir(PathBuf);

impl StateDir {
    fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("ondat-telemetry-interrupt-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes the call, waits until the server has the request, turns the switches off, and returns what the call says then.
fn turned_off_during<T: Send>(
    client: &Client,
    call: impl FnOnce() -> Result<T, Error> + Send,
    request: &Receiver<()>,
    turn_off: impl FnOnce(&Client),
) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let (done, outcome) = channel();
        scope.spawn(move || done.send(call()).unwrap());
        request.recv_timeout(DEADLINE).expect("the server got no request");
        assert!(outcome.try_recv().is_err(), "the call is over before the server has answered");
        turn_off(client);
        outcome.recv_timeout(DEADLINE).expect("the call goes on although it is turned off")
    })
}

#[test]
fn a_version_check_that_waits_ends() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut builder = builder();
    builder.set(Setting::VersionZone, "latest.example.com");
    builder.set(Setting::Nameservers, &server.local_addr().unwrap().to_string());
    let client = Client::new(builder.build().unwrap()).unwrap();
    let (asked, request) = channel();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while server.recv(&mut question).is_ok() && asked.send(()).is_ok() {}
    });
    let outcome = turned_off_during(
        &client,
        || client.check_version(FOR_EVER),
        &request,
        |client| {
            client.set_switches(DAILY_REPORT).unwrap();
        },
    );
    assert!(matches!(outcome, Err(Error::Disabled(_))), "{outcome:?}");
}

fn items(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        entries.filter(|entry| !entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.')).count()
    })
}

#[test]
fn a_report_under_way_ends_and_is_not_kept() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = StateDir::new();
    let public = generate_key(Kem::X25519).1;
    let (id, public) = (HEXLOWER.encode(&key_id(&public)), BASE64.encode(&public));
    let keys = json!({"keys": [{"id": id, "kem": "X25519", "public": public, "not_before": 0, "not_after": i64::MAX}]});
    let mut builder = builder();
    builder.set(Setting::StateDir, dir.0.to_str().unwrap());
    builder.set(Setting::ReportUrl, &format!("http://{}", server.local_addr().unwrap()));
    builder.set(Setting::ReportKeys, &keys.to_string());
    let client = Client::new(builder.build().unwrap()).unwrap();
    let (asked, request) = channel();
    std::thread::spawn(move || {
        let (mut connection, _) = server.accept().unwrap();
        let mut bytes = [0; 1024];
        assert!(connection.read(&mut bytes).unwrap() > 0 && bytes.starts_with(b"PUT /v1/reports/"));
        asked.send(()).unwrap();
        // Until the library hangs up.
        while connection.read(&mut bytes).is_ok_and(|length| length > 0) {}
    });
    let spool = dir.0.join("spool/reports");
    // The administrator's file, as the command and the page write it.
    let outcome = turned_off_during(
        &client,
        || client.submit_report(b"{}", FOR_EVER),
        &request,
        |client| {
            assert_eq!(items(&spool), 1, "it was stored before it was sent");
            let file = dir.0.join("switches.json");
            std::fs::write(dir.0.join("new"), r#"{"daily_report": false}"#).unwrap();
            std::fs::rename(dir.0.join("new"), file).unwrap();
            assert_eq!(client.explain_switches()["daily_report"]["on"], false);
        },
    );
    assert!(matches!(outcome, Err(Error::Disabled(_))), "{outcome:?}");
    assert_eq!(items(&spool), 0, "what was stored for a switch that is off is removed");
    assert_eq!(client.switches(), 7 - DAILY_REPORT);
    assert!(matches!(client.submit_report(b"{}", FOR_EVER), Err(Error::Disabled(_))));
}
