//! The seal: what was changed does not open, and which key of a set seals when.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cluster::{Cluster, document};
use crate::support::{both, bytes_of, compile, files_below, ondat, python, run, status, succeed};

/// Bytes of a header's fields.
const HEADER: [(&str, u64); 8] =
    [("magic", 4), ("key id", 8), ("kem", 2), ("kdf", 2), ("aead", 2), ("report id", 16), ("day", 2), ("flags", 1)];
/// Of these, what a reader must know before it can open anything. The rest only the seal can notice.
const FORM: [&str; 4] = ["magic", "kem", "kdf", "aead"];

fn assert_changes_are_noticed(kem: &str, volumes: usize, are_chunks: impl Fn(u64) -> bool) {
    let cluster = Cluster::new(kem);
    let collector = cluster.collector();
    let submitted = cluster.report("submit", &cluster.write_document(&document(volumes)), &collector);
    assert_eq!(submitted.status.code(), Some(0), "{}", both(&submitted));
    let [report] = collector.reports().try_into().unwrap();
    let mut tamper = python("tamper_report.py");
    tamper.arg(report).arg(cluster.folder.join("keys/report.key"));
    let outcome: Value = serde_json::from_slice(&succeed(&mut tamper).stdout).unwrap();
    let chunks = outcome["chunks"].as_u64().unwrap();
    assert!(are_chunks(chunks), "{outcome}");

    // None of them opened, or the program had failed. What was noticed how:
    let noticed = outcome["noticed"].as_object().unwrap();
    let by_all = |kind: &str| noticed[kind].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let by_seal = |kind: &str| noticed[kind]["seal"].as_u64().unwrap_or(0);
    for (field, bytes) in HEADER {
        let kind = format!("header: {field}");
        let by_all: u64 = by_all(&kind);
        assert_eq!(by_all, bytes * 8, "every bit of {kind}: {outcome}");
        assert!(FORM.contains(&field) || by_seal(&kind) == by_all, "{kind}: {outcome}");
    }
    let encapsulated_bytes = if kem == "X25519" { 32 } else { 1120 };
    assert_eq!(by_seal("encapsulated key"), encapsulated_bytes * 2, "{outcome}");
    assert_eq!(by_seal("ciphertext"), chunks * 6, "{outcome}");
    let pairs = chunks * (chunks - 1) / 2;
    // Whatever the header's flag says.
    for (kind, count) in [("swapped", pairs), ("duplicated", chunks), ("repeated at the end", chunks)] {
        for kind in [format!("chunk {kind}"), format!("chunk {kind}, flag changed")] {
            assert_eq!(noticed.get(&kind).map_or(0, |_| by_seal(&kind)), count, "{kind}: {outcome}");
        }
    }
    // Without any chunk there is nothing that the seal could be asked about.
    for kind in ["dropped", "truncated after"] {
        assert_eq!(by_all(&format!("chunk {kind}")), chunks, "{outcome}");
    }
    assert!(
        by_seal("chunk dropped") >= chunks - 1 && by_all("file cut off") > 1100.min(encapsulated_bytes),
        "{outcome}"
    );
}

#[test]
fn every_change_of_one_chunk_is_noticed() {
    assert_changes_are_noticed("X25519", 3, |chunks| chunks == 1);
}

#[test]
fn every_change_of_several_chunks_is_noticed() {
    assert_changes_are_noticed("X25519", 10_000, |chunks| chunks >= 4);
}

#[test]
fn every_change_of_one_chunk_of_the_post_quantum_hybrid_is_noticed() {
    assert_changes_are_noticed("X-Wing", 3, |chunks| chunks == 1);
}

#[test]
fn every_change_of_several_chunks_of_the_post_quantum_hybrid_is_noticed() {
    assert_changes_are_noticed("X-Wing", 10_000, |chunks| chunks >= 4);
}

/// A new key of a set, valid from and to so many seconds from now. Its private half stays in the folder.
fn key(folder: &Path, kem: &str, from: i64, to: i64) -> Value {
    succeed(ondat(&["keygen", "report", "--kem", kem, "--out"]).arg(folder));
    let set: Value = serde_json::from_slice(&bytes_of(&folder.join("report-keys.json"))).unwrap();
    let mut key = set["keys"][0].clone();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    (key["not_before"], key["not_after"]) = (json!(now + from), json!(now + to));
    key
}

#[test]
fn of_several_valid_keys_the_newest_seals() {
    const DAY: i64 = 86_400;
    let cluster = Cluster::new("X25519");
    let folder = |name: &str| cluster.folder.join(name);
    let keys = [
        key(&folder("not-yet"), "X25519", DAY, 90 * DAY),
        key(&folder("older"), "X25519", -60 * DAY, 30 * DAY),
        key(&folder("newest"), "X-Wing", -DAY, 10 * DAY),
        key(&folder("oldest"), "X25519", -90 * DAY, 90 * DAY),
        key(&folder("expired"), "X25519", -3600, -60),
    ];
    std::fs::write(cluster.public_keys(), json!({ "keys": keys }).to_string()).unwrap();
    std::fs::copy(folder("newest/report.key"), folder("keys/report.key")).unwrap();
    let collector = cluster.collector();
    let submitted = cluster.report("submit", &cluster.write_document(&document(1)), &collector);
    assert_eq!(submitted.status.code(), Some(0), "{}", both(&submitted));
    let (_, facts) = cluster.opened(&collector);
    assert_eq!(facts["key_id"], keys[2]["id"], "{facts}");
}

#[test]
fn without_a_valid_key_nothing_is_sent_and_everybody_says_so() {
    let cluster = Cluster::new("X25519");
    let expired = key(&cluster.folder.join("expired"), "X25519", -7200, -60);
    let not_yet = key(&cluster.folder.join("not-yet"), "X-Wing", 7200, 14_400);
    std::fs::write(cluster.public_keys(), json!({ "keys": [expired, not_yet] }).to_string()).unwrap();
    let collector = cluster.collector();
    let (probe, document) = (compile("probe.c", &cluster.folder), cluster.write_document(&document(1)));
    let arguments = ["submit", document.to_str().unwrap()];
    let said = cluster.probe(&probe, &arguments, &collector.url, &collector.ca_file);
    assert_eq!(said.number("submit_report"), status::INVALID_CONFIG, "{said:?}");
    assert_eq!(said.text("submit_report_why"), "report_keys: no key is valid now; nothing was sent");
    assert_eq!(collector.reports().len(), 0);
    let left = files_below(&cluster.state_dir);
    assert!(
        matches!(left.as_slice(), [notice, lock] if notice.ends_with("notice.json") && lock.ends_with("report.lock")),
        "{left:?}"
    );

    let mut status = ondat(&["status", "--state-dir"]);
    status.arg(&cluster.state_dir).arg("--report-keys").arg(cluster.public_keys());
    let output = run(status.args(["--report-url", &collector.url, "--ca-file", &collector.ca_file]));
    assert!(both(&output).contains("none is valid now: nothing is sent"), "{}", both(&output));
}
