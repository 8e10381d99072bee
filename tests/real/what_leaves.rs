//! Every byte that leaves the machine, by the kernel's account, is on the published list (docs/protocols.md, "Every byte
//! that leaves"), and everything on the list leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::fields::Level;
use ondat_telemetry_protocol::identity::{Identity, Purpose};
use ondat_telemetry_protocol::query::Query;
use serde_json::Value;

use crate::servers::Servers;
use crate::support::{TempDir, compile, files_in, ondat, program, python, root, run, stay_within_one_day, succeed};

const CLUSTER: &str = "q7taint-cluster";
const NODE: &str = "q7taint-node";
const VERSION: &str = "2.8.1";
const ZONE: &str = "run1.test";
const PAYLOAD: u16 = 1232;

/// What was sent over one connection, or in one datagram.
struct Sent {
    port: u16,
    bytes: Vec<u8>,
}

/// Reads `strace -f -yy -xx`. A call that sends and that this does not understand fails.
fn sent(trace: &str) -> Vec<Sent> {
    let mut connections = BTreeMap::<(String, String), Sent>::new();
    let mut order = Vec::new();
    let mut begun = BTreeMap::<String, String>::new();
    let mut datagrams = BTreeMap::new();
    for line in trace.lines() {
        let (process, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        let call = if let Some((first, _)) = rest.split_once(" <unfinished ...>") {
            begun.insert(process.to_owned(), first.to_owned());
            continue;
        } else if rest.starts_with("<... ") {
            let (_, end) = rest.split_once(" resumed>").unwrap();
            begun.remove(process).unwrap() + end
        } else {
            rest.to_owned()
        };
        let Some((name, arguments)) = call.split_once('(') else { continue };
        let descriptor = arguments.split('<').next().unwrap();
        // strace has no peer for a datagram's socket.
        if name == "connect" && arguments.contains("<UDP") {
            let (_, port) = arguments.split_once("sin_port=htons(").expect("IPv4");
            datagrams.insert(descriptor.to_owned(), port.split(')').next().unwrap().parse::<u16>().unwrap());
        }
        if !["write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice", "pwrite64"].contains(&name) {
            continue;
        }
        // `5<TCP:[127.0.0.1:4000->127.0.0.1:80]>`: other descriptors are files, pipes and pairs of sockets.
        let Some((socket, data)) = arguments.split_once("]>") else { continue };
        let is_datagram = socket.contains("<UDP");
        if !is_datagram && !socket.contains("->127.0.0.1:") {
            continue;
        }
        let taken = call.rsplit_once(" = ").and_then(|(_, taken)| taken.split(' ').next()?.parse::<usize>().ok());
        let Some(taken) = taken else { continue };
        assert!(["write", "writev", "sendto", "sendmsg"].contains(&name), "{call}");
        let mut bytes = Vec::new();
        for text in data.split('"').skip(1).step_by(2) {
            let hex: String = text.split("\\x").collect();
            bytes.extend(HEXLOWER.decode(hex.as_bytes()).unwrap_or_else(|why| panic!("{why}: {call}")));
        }
        bytes.truncate(taken);
        assert_eq!(bytes.len(), taken, "strace has cut it: {name} {socket}");
        let port =
            if is_datagram { datagrams[descriptor] } else { socket.rsplit_once(':').unwrap().1.parse().unwrap() };
        // A datagram is a message of its own.
        let datagram = if is_datagram { order.len().to_string() } else { String::new() };
        let key = (socket.split_once('<').unwrap().1.to_owned(), datagram);
        if !connections.contains_key(&key) {
            order.push(key.clone());
        }
        connections.entry(key).or_insert(Sent { port, bytes: Vec::new() }).bytes.extend(bytes);
    }
    order.into_iter().map(|key| connections.remove(&key).unwrap()).collect()
}

/// The names in the first column of the table under this heading.
fn published(heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/protocols.md")).unwrap();
    let (_, rest) = text.split_once(&format!("\n### {heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    let table = rest.split("\n#").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap().to_owned()).collect()
}

fn assert_published(heading: &str, left: &BTreeSet<String>) {
    let published = published(heading);
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect::<Vec<_>>();
    assert_eq!(
        (only(left, &published), only(&published, left)),
        (vec![], vec![]),
        "{heading}: (left, published) alone"
    );
}

/// The names of everything in a question, each byte of which is accounted for.
fn of_question(bytes: &[u8], identity: &Identity) -> BTreeSet<String> {
    // Recursion desired, one question, one additional record: all else is 0.
    assert_eq!(bytes[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 1], "{bytes:02x?}");
    let (mut name, mut at) = (String::new(), 12);
    while bytes[at] != 0 {
        let end = at + 1 + usize::from(bytes[at]);
        name.push_str(std::str::from_utf8(&bytes[at + 1..end]).unwrap());
        name.push('.');
        at = end;
    }
    assert_eq!(bytes[at + 1..at + 5], [0, 16, 0, 1], "TXT, IN");
    // The root's name, OPT, the payload that is taken; no flag, no option.
    let [high, low] = PAYLOAD.to_be_bytes();
    assert_eq!(bytes[at + 5..], [0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]);
    let query = Query::decode(&name, Some(ZONE)).unwrap_or_else(|| panic!("not a query: {name}"));
    assert_eq!(query.cluster, identity.anonymise(Purpose::Cluster, CLUSTER));
    assert_eq!(query.node, identity.anonymise(Purpose::Node, NODE));
    assert_eq!(query.version_text().as_deref(), Some(VERSION));
    assert_eq!(query.name(ZONE), name);
    ["ID", "RD", "QNAME", "QTYPE", "QCLASS", "OPT"].map(str::to_owned).into()
}

/// A request's line, its fields and its body.
fn of_request(bytes: &[u8]) -> (String, BTreeMap<String, String>, &[u8]) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let fields: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap()).collect();
    let named: BTreeMap<String, String> =
        fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect();
    assert_eq!(named.len(), fields.len(), "a field stands twice: {head}");
    let body = &bytes[end + 4..];
    assert_eq!(named["content-length"], body.len().to_string(), "{head}");
    (first, named, body)
}

/// The names of a JSON value's members, those of objects in it behind a point.
fn members(value: &Value, before: &str, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                members(value, &format!("{before}{name}."), names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, before, names)),
        _ => drop(names.insert(before.trim_end_matches('.').to_owned())),
    }
}

/// The names of everything in a report.
fn of_report(bytes: &[u8], folder: &Path, http: u16) -> BTreeSet<String> {
    let (first, fields, body) = of_request(bytes);
    let sealed = folder.join("sent.otr");
    std::fs::write(&sealed, body).unwrap();
    let output = succeed(python("open_report.py").arg(&sealed).arg(folder.join("keys/report.key")));
    let facts: Value = serde_json::from_slice(&output.stderr).unwrap();
    let id = facts["report_id"].as_str().unwrap();
    assert_eq!(first, format!("PUT /run1/v1/reports/{id} HTTP/1.1"));
    let expected = [
        ("content-length", body.len().to_string()),
        ("content-type", "application/vnd.ondat.telemetry-report".to_owned()),
        ("host", format!("127.0.0.1:{http}")),
        ("user-agent", "ondat-telemetry".to_owned()),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value)).into());
    let mut names: BTreeSet<String> = fields.into_keys().chain(["PUT".to_owned()]).collect();
    names.extend(["header", "enc", "chunk"].map(str::to_owned));

    // What was sealed: the envelope and the fields.
    let lines: Vec<Value> = output
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let [head, nodes, volumes, end] = &lines[..] else { panic!("{lines:?}") };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let of_level = |level: Level| level.fields().map(|field| field.name.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(keys(nodes), ["nodes".to_owned()].into());
    assert_eq!(keys(volumes), ["volumes".to_owned()].into());
    assert_eq!(keys(&nodes["nodes"]), of_level(Level::Node));
    assert_eq!(keys(&volumes["volumes"]), of_level(Level::Volume));
    let mut envelope = keys(head);
    assert!(of_level(Level::Cluster).iter().all(|name| envelope.remove(name)), "{head}");
    members(end, "", &mut envelope);
    names.extend(envelope);
    names
}

/// The names of everything in a crash report.
fn of_crash(bytes: &[u8], identity: &Identity, http: u16) -> BTreeSet<String> {
    let (first, mut fields, body) = of_request(bytes);
    assert_eq!(first, "POST /run1/api/1/envelope/ HTTP/1.1");
    let auth = fields.remove("x-sentry-auth").unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let said = format!("Sentry sentry_version=7, sentry_client=ondat-telemetry/{version}, sentry_key=key");
    assert_eq!(auth, said);
    let expected = [
        ("content-length", body.len().to_string()),
        ("content-type", "application/x-sentry-envelope".to_owned()),
        ("host", format!("127.0.0.1:{http}")),
        ("user-agent", "ondat-telemetry".to_owned()),
    ];
    assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value)).into());
    let mut names: BTreeSet<String> = fields.into_keys().chain(["POST".to_owned()]).collect();
    let parts = auth.split([' ', ',']).filter_map(|part| part.split_once('=')).map(|(name, _)| name);
    names.extend(parts.map(|name| format!("x-sentry-auth {name}")));
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    let [envelope, item, event, []] = &lines[..] else { panic!("{}", String::from_utf8_lossy(body)) };
    for (what, line) in [("envelope", envelope), ("item", item), ("event", event)] {
        members(&serde_json::from_slice(line).unwrap(), &format!("{what}."), &mut names);
    }
    let event: Value = serde_json::from_slice(event).unwrap();
    assert_eq!(event["tags"]["cluster_id"], identity.anonymise_hex(Purpose::Cluster, CLUSTER));
    assert_eq!(event["tags"]["node_id"], identity.anonymise_hex(Purpose::Node, NODE));
    names
}

#[test]
fn every_byte_that_leaves_is_published() {
    stay_within_one_day();
    let folder = TempDir::new();
    succeed(ondat(&["keygen", "report", "--out"]).arg(folder.join("keys")));
    let keys = std::fs::read_to_string(folder.join("keys/report-keys.json")).unwrap();
    let servers = Servers::start("o1 v=* l=2.9.0 r=2.8.2 t=1 e=9999999999".to_owned());
    let (host, state) = (compile("../sweep/host.c", &folder), folder.state_dir());
    let trace = folder.join("trace");
    let mut command = program("strace");
    command.args(["-f", "-yy", "-xx", "-s", "16777216", "-e", "trace=%network,write,writev,pwrite64,sendfile,splice"]);
    command.arg("-o").arg(&trace).arg(&host).arg("crash");
    let http = servers.http;
    for (name, value) in [
        ("COMPONENT", "sweep".to_owned()),
        ("VERSION", VERSION.to_owned()),
        ("CLUSTER_ID", CLUSTER.to_owned()),
        ("NODE_ID", format!("{NODE}\n")),
        ("STATE_DIR", state.display().to_string()),
        ("VERSION_ZONE", ZONE.to_owned()),
        ("NAMESERVERS", format!("127.0.0.1:{}", servers.dns)),
        ("REPORT_URL", format!("http://127.0.0.1:{http}/run1")),
        ("REPORT_KEYS", keys),
        ("SENTRY_DSN", format!("http://key@127.0.0.1:{http}/run1/1")),
    ] {
        command.env(format!("ONDAT_TELEMETRY_{name}"), value);
    }
    run(&mut command);
    let received = servers.sent(1);
    assert_eq!((received.questions, received.reports, received.events.len()), (1, 1, 2), "{received:?}");
    assert_eq!(files_in(&state.join("sent")).len(), 3, "the report and two crash reports");

    let identity = Identity::from_cluster_id(CLUSTER);
    let all = sent(&std::fs::read_to_string(&trace).unwrap());
    assert_eq!(all.len(), 4, "one question and three requests");
    let (mut questions, mut reports, mut crashes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for Sent { port, bytes } in &all {
        let small = bytes.to_ascii_lowercase();
        assert!(!small.windows(7).any(|seven| seven == b"q7taint"), "something raw has left");
        match bytes {
            bytes if *port == servers.dns => questions.extend(of_question(bytes, &identity)),
            bytes if bytes.starts_with(b"PUT ") => reports.extend(of_report(bytes, folder.path(), http)),
            bytes => crashes.extend(of_crash(bytes, &identity, http)),
        }
    }
    assert_published("The version check's question", &questions);
    assert_published("The daily report's request", &reports);
    assert_published("The crash report's request", &crashes);
}
