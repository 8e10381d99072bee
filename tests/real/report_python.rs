//! The daily report, opened by Python's `cryptography` package and by nothing of ours.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use ondat_telemetry_protocol::fields::FIELDS;
use serde_json::{Value, json};

use crate::cluster::{Cluster, document};
use crate::support::{CLUSTER_ID, NODE_ID, both, bytes_of, compile, files_below, holds, status};

/// What a control plane knows and must not tell: in node labels, volume labels and user agents.
const SECRETS: [&str; 9] = [
    CLUSTER_ID,
    NODE_ID,
    "storage-8.rack-3.corp.internal",
    "0a4f2f6e-5d6e-4b0e-9a53-0f2f1d8a6b11",
    "kubernetes.io/hostname",
    "payroll-team",
    "cost-centre",
    "postgres-of-payroll",
    "alice-laptop",
];
/// Values of public labels, which stay readable.
const PUBLIC: [&str; 4] = ["amd64", "eu-west-2", "storageos.com/replicas", "storageos-cli/2.4.2"];

/// The ids of the key encapsulations.
const X25519: u64 = 0x0020;
const X_WING: u64 = 0x647a;

/// Every name of the list stands in the report, with a value for each record.
fn assert_complete(plaintext: &[u8], nodes: usize, volumes: usize) {
    let text = std::str::from_utf8(plaintext).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last(), Some(&json!({ "end": { "nodes": nodes, "volumes": volumes } })));
    for field in FIELDS {
        let (group, records) = match field.name.split_once('_') {
            Some(("node", _)) => ("nodes", nodes),
            Some(("volume", _)) => ("volumes", volumes),
            _ => {
                assert!(!lines[0][field.name].is_null(), "{}", field.name);
                continue;
            }
        };
        let columns = lines.iter().filter_map(|line| line.get(group)).map(|columns| &columns[field.name]);
        let values: Vec<&Value> = columns.flat_map(|column| column.as_array().unwrap()).collect();
        assert_eq!(values.len(), records, "{}", field.name);
        assert!(values.iter().all(|value| !value.is_null()), "{}", field.name);
    }
}

/// Nothing raw stands in these bytes.
fn assert_anonymous(what: &str, bytes: &[u8]) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // A host name of a few letters occurs by chance in what has nothing to do with it.
    let host = Some(host.trim()).filter(|host| host.len() >= 6);
    for secret in SECRETS.into_iter().chain(host) {
        assert!(!holds(bytes, secret), "{what} holds {secret:?}");
    }
}

#[test]
fn a_report_of_five_volumes_is_small_on_the_wire() {
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let file = cluster.write_document(&document(5));
    let submitted = cluster.report("submit", &file, &collector);
    assert_eq!(submitted.status.code(), Some(0), "{}", both(&submitted));
    let (plaintext, facts) = cluster.opened(&collector);
    assert_complete(&plaintext, 2, 5);
    let sealed = bytes_of(&collector.reports()[0]).len();
    assert!(sealed <= 2500, "{sealed} bytes: {facts}");
}

#[test]
fn python_opens_what_was_previewed_and_nothing_raw_is_in_it() {
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let document = document(3);
    let file = cluster.write_document(&document);
    let given = document.to_string();
    assert!(SECRETS[1..].iter().all(|secret| given.contains(secret)), "the document must hold what is looked for");

    let preview = cluster.report("preview", &file, &collector);
    assert!(preview.status.success(), "{}", both(&preview));
    assert_eq!(files_below(&cluster.state_dir), Vec::<PathBuf>::new(), "a preview stores nothing");
    assert_eq!(collector.reports(), Vec::<PathBuf>::new(), "a preview sends nothing");

    let submitted = cluster.report("submit", &file, &collector);
    let is_said = submitted.stdout.starts_with(b"delivered: report ");
    assert_eq!((submitted.status.code(), is_said), (Some(0), true), "{}", both(&submitted));
    let (plaintext, facts) = cluster.opened(&collector);
    assert_eq!(facts["chunks"], 1, "{facts}");
    assert_eq!(facts["key_id_holds"], true, "{facts}");
    assert!(plaintext == preview.stdout, "the sealed report is not what was previewed");
    let sent = cluster.sent();
    assert!(matches!(sent.as_slice(), [copy] if bytes_of(copy) == plaintext), "{sent:?} is not what was sealed");
    assert_eq!(cluster.spool(), Vec::<PathBuf>::new(), "delivered and still in the spool");

    assert_complete(&plaintext, 2, 3);
    for public in PUBLIC {
        assert!(holds(&plaintext, public), "{public:?} is missing");
    }
    assert_anonymous("the report", &plaintext);
    for path in files_below(&cluster.state_dir) {
        assert_anonymous(&path.display().to_string(), &bytes_of(&path));
    }
    assert_anonymous("the sealed file", &bytes_of(&collector.reports()[0]));

    // The day has its report.
    let again = cluster.report("submit", &file, &collector);
    assert_eq!(again.status.code(), Some(2), "{}", both(&again));
    let probe = compile("probe.c", &cluster.folder);
    let arguments = ["submit", file.to_str().unwrap()];
    let said = cluster.probe(&probe, &arguments, &collector.url, &collector.ca_file);
    assert_eq!(said.number("submit_report"), status::INVALID_STATE, "{said:?}");
    assert_eq!(collector.reports().len(), 1);
}

/// Previewed, sent, kept for the administrator and opened by Python: one and the same.
fn assert_same_everywhere(kem: &str, kem_id: u64, volumes: usize, are_chunks: impl Fn(u64) -> bool) {
    let cluster = Cluster::new(kem);
    let collector = cluster.collector();
    let file = cluster.write_document(&document(volumes));
    let preview = cluster.report("preview", &file, &collector);
    assert!(preview.status.success(), "{}", both(&preview));
    let submitted = cluster.report("submit", &file, &collector);
    assert_eq!(submitted.status.code(), Some(0), "{}", both(&submitted));
    let (plaintext, facts) = cluster.opened(&collector);
    assert_eq!((facts["kem"].as_u64(), &facts["key_id_holds"]), (Some(kem_id), &json!(true)), "{facts}");
    assert!(are_chunks(facts["chunks"].as_u64().unwrap()), "{facts}");
    assert!(plaintext == preview.stdout, "the sealed report is not what was previewed");
    let sent = cluster.sent();
    assert!(matches!(sent.as_slice(), [copy] if bytes_of(copy) == plaintext), "{sent:?} is not what was sealed");
    assert_complete(&plaintext, 2, volumes);
    assert_anonymous("the report", &plaintext);
}

#[test]
fn python_opens_a_report_of_several_chunks() {
    assert_same_everywhere("X25519", X25519, 5000, |chunks| chunks >= 2);
}

#[test]
fn python_opens_a_report_sealed_with_the_post_quantum_hybrid() {
    assert_same_everywhere("X-Wing", X_WING, 3, |chunks| chunks == 1);
}

#[test]
fn python_opens_several_chunks_sealed_with_the_post_quantum_hybrid() {
    assert_same_everywhere("X-Wing", X_WING, 5000, |chunks| chunks >= 2);
}

#[test]
fn a_report_waits_for_the_collector_and_arrives_once() {
    let cluster = Cluster::new("X25519");
    let probe = compile("probe.c", &cluster.folder);
    let file = cluster.write_document(&document(3));
    // Its authority must be known before it goes away.
    let collector = cluster.collector();
    let (url, ca_file) = (collector.url.clone(), collector.ca_file.clone());
    collector.stop();

    let submit = ["submit", file.to_str().unwrap()];
    let said = cluster.probe(&probe, &submit, &url, &ca_file);
    assert_eq!(said.number("submit_report"), status::QUEUED, "{said:?}");
    let spooled = cluster.spool();
    let [sealed] = spooled.as_slice() else { panic!("exactly one sealed report: {spooled:?}") };
    let sealed = bytes_of(sealed);
    assert!(sealed.starts_with(b"OTR1"), "the spool holds sealed bytes only");
    let said = cluster.probe(&probe, &["flush"], &url, &ca_file);
    assert_eq!(said.number("flush"), status::QUEUED, "it is still gone: {said:?}");
    assert_eq!(cluster.spool(), spooled);

    let collector = cluster.collector();
    assert_eq!(collector.reports(), Vec::<PathBuf>::new());
    let said = cluster.probe(&probe, &["flush"], &collector.url, &collector.ca_file);
    assert_eq!(said.number("flush"), status::OK, "{said:?}");
    assert_eq!(cluster.spool(), Vec::<PathBuf>::new(), "delivered and still in the spool");
    assert!(bytes_of(&collector.reports()[0]) == sealed, "what arrived is not what was stored");
    let (plaintext, _) = cluster.opened(&collector);
    assert!(bytes_of(&cluster.sent()[0]) == plaintext, "the administrator's copy is not what was sealed");

    let said = cluster.probe(&probe, &submit, &collector.url, &collector.ca_file);
    assert_eq!(said.number("submit_report"), status::INVALID_STATE, "{said:?}");
    assert_eq!(collector.reports().len(), 1, "one day, one report");
}

#[test]
fn a_report_of_yesterday_that_arrives_today_leaves_the_day_its_own() {
    let cluster = Cluster::new("X25519");
    let probe = compile("probe.c", &cluster.folder);
    let file = cluster.write_document(&document(3));
    let collector = cluster.collector();
    let (url, ca_file) = (collector.url.clone(), collector.ca_file.clone());
    collector.stop();
    let submit = ["submit", file.to_str().unwrap()];
    assert_eq!(cluster.probe(&probe, &submit, &url, &ca_file).number("submit_report"), status::QUEUED);

    // Midnight: what was remembered and stored today becomes yesterday's.
    let memory_file = cluster.state_dir.join("report.json");
    let mut memory: Value = serde_json::from_slice(&bytes_of(&memory_file)).unwrap();
    let clusters: Vec<&mut Value> = memory["made"].as_object_mut().unwrap().values_mut().collect();
    let [made] = clusters.try_into().unwrap();
    let last = &mut made[0];
    let yesterday = last["day"].as_u64().unwrap() - 1;
    last["day"] = yesterday.into();
    std::fs::write(&memory_file, memory.to_string()).unwrap();
    let [sealed] = cluster.spool().try_into().unwrap();
    let name = sealed.file_name().unwrap().to_str().unwrap();
    let id = name.rsplit_once('-').unwrap().1;
    let midnight = UNIX_EPOCH + Duration::from_secs(yesterday * 86_400);
    let name = format!("{}-{id}", &humantime::format_rfc3339(midnight).to_string()[..10]);
    std::fs::rename(&sealed, sealed.with_file_name(name)).unwrap();

    let collector = cluster.collector();
    let said = cluster.probe(&probe, &["flush"], &collector.url, &collector.ca_file);
    assert_eq!(said.number("flush"), status::OK, "yesterday's arrives: {said:?}");
    assert_eq!(collector.reports().len(), 1);
    let said = cluster.probe(&probe, &submit, &collector.url, &collector.ca_file);
    assert_eq!(said.number("submit_report"), status::OK, "today's has not been made yet: {said:?}");
}
