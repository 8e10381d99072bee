//! The version check against BIND with the zone file that `ondat-telemetry zone` prints.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{
    CLUSTER_ID, NODE_ID, Said, Server, TempDir, VERSION, compile, expected_ids, free_port, ondat, program, python, run,
    server, status, succeed, wait_for,
};

const ZONE: &str = "latest.example.com";
const OUTDATED: i64 = 2;
const UPGRADE_REQUIRED: i64 = 4;
/// What `probe` gives a call, and some time for the process around it.
const PROBE_TIME: Duration = Duration::from_secs(8 + 4);

/// A folder with a version key, the zones signed by it, and `probe`.
struct Vendor {
    folder: TempDir,
    probe: PathBuf,
}

impl Vendor {
    fn new() -> Self {
        let folder = TempDir::new();
        let probe = compile("probe.c", &folder);
        let vendor = Self { folder, probe };
        vendor.make_key("key");
        vendor
    }

    fn make_key(&self, name: &str) {
        succeed(ondat(&["keygen", "version", "--out"]).arg(self.folder.join(name)));
    }

    fn public_key(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join(name).join("version.pub")).unwrap();
        text.trim().to_owned()
    }

    /// Signs a release with a key and serves it.
    fn serve(&self, key: &str, release: &str, zone_arguments: &[&str]) -> Named<'_> {
        let file = self.folder.join("release.toml");
        std::fs::write(&file, format!("zone = \"{ZONE}\"\n{release}")).unwrap();
        let mut command = ondat(&["zone"]);
        command.arg(file).arg("--key").arg(self.folder.join(key).join("version.key")).args(zone_arguments);
        let zone_file = self.folder.join("zone");
        std::fs::write(&zone_file, succeed(&mut command).stdout).unwrap();
        // BIND's own opinion, which also shows that a failure to load is not what a test sees.
        succeed(program("named-checkzone").arg(ZONE).arg(zone_file));
        Named::start(&self.folder)
    }

    /// One check in a process of its own, without any memory of earlier ones.
    fn check(&self, zone: &str, port: u16, public_key: &str) -> Said {
        let mut command = program(&self.probe);
        command.arg("check");
        command.env("ONDAT_TELEMETRY_VERSION", VERSION);
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", CLUSTER_ID).env("ONDAT_TELEMETRY_NODE_ID", NODE_ID);
        command.env("ONDAT_TELEMETRY_VERSION_ZONE", zone).env("ONDAT_TELEMETRY_VERSION_KEY", public_key);
        command.env("ONDAT_TELEMETRY_NAMESERVERS", format!("127.0.0.1:{port}"));
        Said::of(&run(&mut command))
    }
}

/// BIND in the foreground with its files in a folder of the test.
struct Named<'a> {
    folder: &'a TempDir,
    port: u16,
    server: Server,
}

impl<'a> Named<'a> {
    fn start(folder: &'a TempDir) -> Self {
        // Another process may take the port between the choice and BIND's start: then another one is chosen.
        for _ in 0..5 {
            let port = free_port();
            let mut named = Self { folder, port, server: Self::spawn(folder, port) };
            if wait_for("BIND to answer", || named.answers()) {
                return named;
            }
        }
        panic!("BIND does not start: {}", std::fs::read_to_string(folder.join("named.log")).unwrap_or_default());
    }

    fn spawn(folder: &TempDir, port: u16) -> Server {
        let home = folder.path().display();
        let config = folder.join("named.conf");
        let text = format!(
            r#"options {{
    directory "{home}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file "{home}/named.pid";
    session-keyfile "{home}/session.key";
    recursion no;
    dnssec-validation no;
    notify no;
    querylog yes;
}};
controls {{ }};
logging {{
    channel queries {{ file "{home}/queries.log"; }};
    channel rest {{ file "{home}/named.log"; }};
    category queries {{ queries; }};
    category default {{ rest; }};
}};
zone "{ZONE}" {{ type primary; file "{home}/zone"; }};
"#
        );
        std::fs::write(&config, text).unwrap();
        Server::spawn(server("named").args(["-f", "-4", "-n", "1", "-c"]).arg(config))
    }

    /// True when the zone's SOA is answered, false when BIND has ended, none as long as neither.
    fn answers(&mut self) -> Option<bool> {
        if self.server.ended().is_some() {
            return Some(false);
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        // RFC 1035, 4.1: id 0x4f44, one question.
        let mut question = vec![0x4f, 0x44, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in ZONE.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend_from_slice(label.as_bytes());
        }
        const SOA_IN: [u8; 5] = [0, 0, 6, 0, 1];
        question.extend_from_slice(&SOA_IN);
        let mut answer = [0; 512];
        socket.send_to(&question, ("127.0.0.1", self.port)).ok()?;
        let length = socket.recv(&mut answer).ok()?;
        // The same id, no error, one answer.
        let is_answer = length > 12 && answer[..2] == question[..2] && answer[3] & 0x0f == 0 && answer[7] == 1;
        is_answer.then_some(true)
    }

    /// The names for which TXT was asked, by BIND's own log.
    fn asked(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.join("queries.log")).unwrap();
        let questions = log.lines().filter_map(|line| line.split_once(" query: "));
        let names = questions.filter_map(|(_, question)| question.split_once(" IN TXT "));
        names.map(|(name, _)| name.to_owned()).collect()
    }
}

fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400
}

#[test]
fn a_signed_answer_of_bind_is_believed_and_the_question_says_who_asks() {
    let vendor = Vendor::new();
    let named = vendor.serve("key", "latest = '2.9.0'\nrecommended = '2.7.0'\n", &[]);
    let day_before = today();
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::OK, "{said:?}");
    assert_eq!((said.number("verdict"), said.text("latest")), (OUTDATED, "2.9.0"), "{said:?}");
    assert_eq!((said.text("running"), said.text("advisory")), (VERSION, "-"), "{said:?}");
    assert_eq!(said.number("authenticated"), 1, "{said:?}");

    let asked = named.asked();
    assert_eq!(asked.len(), 1, "one check is one TXT query: {asked:?}");
    let mut decode = python("decode_query.py");
    decode.args([asked[0].as_str(), ZONE]);
    let read: Value = serde_json::from_slice(&succeed(&mut decode).stdout).unwrap();
    let ids = expected_ids();
    assert_eq!(read["format"], 1, "{read}");
    assert_eq!(read["check_holds"], true, "{read}");
    assert_eq!(read["version"], VERSION, "{read}");
    assert_eq!(read["cluster"], ids["cluster"], "{read}");
    assert_eq!(read["node"], ids["node"], "{read}");
    let day = read["day"].as_u64().unwrap();
    assert!((day_before..=today()).contains(&day), "{read}");
    for raw in [CLUSTER_ID, NODE_ID] {
        assert!(!asked[0].contains(raw), "{asked:?}");
    }

    // The next check is the next question.
    vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(named.asked(), [asked[0].clone(), asked[0].clone()]);
}

#[test]
fn an_override_for_the_running_version_requires_the_upgrade() {
    let vendor = Vendor::new();
    let release = "latest = '2.9.0'\nadvisory = 'ODT-2026-001'\n\
                   [[override]]\nversion = '2.8.1'\nstatus = 3\nadvisory = 'ODT-2026-007'\nreplayable = true\n";
    let named = vendor.serve("key", release, &[]);
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::OK, "{said:?}");
    assert_eq!(said.number("verdict"), UPGRADE_REQUIRED, "{said:?}");
    assert_eq!((said.text("latest"), said.text("advisory")), ("2.9.0", "ODT-2026-007"), "{said:?}");
    assert_eq!(said.number("authenticated"), 1, "{said:?}");
    assert_eq!(named.asked().len(), 1);
}

#[test]
fn an_answer_signed_by_another_key_is_untrusted() {
    let vendor = Vendor::new();
    vendor.make_key("other");
    let named = vendor.serve("other", "latest = '2.9.0'\n", &[]);
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::UNTRUSTED, "{said:?}");
    assert_eq!(named.asked().len(), 1);
    // The same answer is believed by who has the other key: it was whole.
    let said = vendor.check(ZONE, named.port, &vendor.public_key("other"));
    assert_eq!(said.number("check_version"), status::OK, "{said:?}");
}

#[test]
fn an_expired_answer_is_untrusted() {
    let vendor = Vendor::new();
    let three_days_ago = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 3 * 86_400).to_string();
    let named = vendor.serve("key", "latest = '2.9.0'\nexpires_days = 2\n", &["--now", &three_days_ago]);
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::UNTRUSTED, "{said:?}");
    assert!(said.text("check_version_why").contains("expired"), "{said:?}");
    assert_eq!(named.asked().len(), 1);
}

#[test]
fn a_name_that_does_not_exist_is_no_answer() {
    let vendor = Vendor::new();
    let named = vendor.serve("key", "latest = '2.9.0'\n", &[]);
    let absent = format!("absent.{ZONE}");
    let said = vendor.check(&absent, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::UNTRUSTED, "{said:?}");
    assert!(said.text("check_version_why").contains("no answer"), "{said:?}");
    let asked = named.asked();
    assert!(matches!(asked.as_slice(), [name] if name.ends_with(&format!(".o1.{absent}"))), "{asked:?}");
}

#[test]
fn a_server_that_is_gone_is_a_network_failure_within_the_timeout() {
    let vendor = Vendor::new();
    let named = vendor.serve("key", "latest = '2.9.0'\n", &[]);
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::OK, "it was there: {said:?}");

    let port = named.port;
    named.server.stop();
    let started = Instant::now();
    let said = vendor.check(ZONE, port, &vendor.public_key("key"));
    let took = started.elapsed();
    let outcome = said.number("check_version");
    assert!([status::NETWORK, status::TIMED_OUT].contains(&outcome), "{said:?}");
    assert!(took < PROBE_TIME, "{took:?}");
}
