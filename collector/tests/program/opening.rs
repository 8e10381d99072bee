use std::fs;
use std::path::Path;
use std::process::Output;

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::fields::FIELDS;
use serde_json::Value;

use crate::program::Scratch;
use crate::seal::{self, Keys, REPORT_ID};

/// Where the encapsulated key begins.
const HEADER_BYTES: usize = 37;

fn place(scratch: &Scratch, sealed: &[u8]) {
    let reports = scratch.data().join("reports");
    fs::create_dir_all(&reports).unwrap();
    fs::write(reports.join(format!("{}.otr", HEXLOWER.encode(&REPORT_ID))), sealed).unwrap();
}

fn open(scratch: &Scratch, key: &Path, json: bool) -> Output {
    let key = key.to_str().unwrap();
    if json { scratch.run(&["open", "--key", key, "--json"]) } else { scratch.run(&["open", "--key", key]) }
}

fn opens<K: hpke::Kem>(keys: &Keys<K>, volumes: usize, is_single: bool) {
    let scratch = Scratch::new();
    let sealed = keys.seal(seal::report(volumes).as_bytes());
    assert_eq!(sealed[HEADER_BYTES - 1] == 1, is_single);
    place(&scratch, &sealed);
    let key = scratch.file("private.json", keys.private_file());
    let output = open(&scratch, &key, true);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["fields"], FIELDS.len());
    assert_eq!(report["day"], "2026-11-24");
    assert_eq!(report["cluster"]["k8s_version"], "v1.31.2");
    assert_eq!(report["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(report["volumes"].as_array().unwrap().len(), volumes);
    assert_eq!(report["volumes"][volumes - 1]["volume_size_bytes"], 1_610_612_736_u64);
}

/// What `open` says about a sealed report that is not right.
fn refused<K: hpke::Kem>(keys: &Keys<K>, sealed: &[u8]) -> String {
    let scratch = Scratch::new();
    place(&scratch, sealed);
    let key = scratch.file("private.json", keys.private_file());
    let output = open(&scratch, &key, true);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&format!("{}.otr", HEXLOWER.encode(&REPORT_ID))), "{said}");
    said
}

#[test]
fn x25519_in_one_chunk() {
    opens(&seal::x25519(), 3, true);
}

#[test]
fn x25519_in_several_chunks() {
    opens(&seal::x25519(), 10_000, false);
}

#[test]
fn x_wing_in_one_chunk_and_in_several() {
    opens(&seal::x_wing(), 3, true);
    opens(&seal::x_wing(), 10_000, false);
}

#[test]
fn the_table_is_readable() {
    let scratch = Scratch::new();
    let keys = seal::x25519();
    place(&scratch, &keys.seal(seal::report(20).as_bytes()));
    let key = scratch.file("private.json", keys.private_file());
    let table = String::from_utf8(open(&scratch, &key, false).stdout).unwrap();
    for part in [
        "Report of 2026-11-24   abababababababababababababababab",
        &format!("2 nodes · 20 volumes · {} fields", FIELDS.len()),
        "ListVolumes (200=12)",
        "node_capacity.total                 107374182400 (100 GiB)",
        "1610612736 (1.50 GiB)",
        "… and 8 volumes; --json shows all.",
        "–",
    ] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let keys = seal::x25519();
    let sealed = keys.seal(seal::report(10_000).as_bytes());
    let change = |at: usize| {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        refused(&keys, &changed)
    };
    // The day in the header, the encapsulated key, the first chunk, the last chunk.
    for at in [35, HEADER_BYTES, HEADER_BYTES + 32 + 4, sealed.len() - 1] {
        assert!(change(at).contains("changed"), "{at}");
    }
    assert!(change(5).contains("not given"));
    assert!(change(36).contains("changed"));
}

#[test]
fn chunks_missing_at_the_end_or_out_of_order_are_noticed() {
    let keys = seal::x25519();
    let sealed = keys.seal(seal::report(10_000).as_bytes());
    let (start, chunk) = (HEADER_BYTES + 32, 4 + 65_536 + 16);
    assert!(refused(&keys, &sealed[..start + 2 * chunk]).contains("changed"));
    assert!(refused(&keys, &sealed[..start + chunk + 7]).contains("cut off"));
    assert!(refused(&keys, &sealed[..start]).contains("cut off"));
    let mut swapped = sealed.clone();
    swapped[start..start + 2 * chunk].rotate_left(chunk);
    assert!(refused(&keys, &swapped).contains("changed"));
}

#[test]
fn what_is_inside_is_checked() {
    let keys = seal::x25519();
    let report = seal::report(3);
    let packed = seal::gzip(report.as_bytes());
    assert!(refused(&keys, &keys.seal_packed(&[packed.clone(), vec![0, 1]].concat())).contains("padding"));
    assert!(refused(&keys, &keys.seal_packed(&packed[..packed.len() - 9])).contains("cannot open"));
    assert!(refused(&keys, &keys.seal(report.replace("\"ext4\"", "\"ntfs\"").as_bytes())).contains("volume_fs_type"));
    assert!(refused(&keys, &keys.seal(report.replace("2026-11-24", "2026-11-23").as_bytes())).contains("day"));
    // A clean start, then a line that unpacks without end.
    let bomb = report.split_inclusive('\n').next().unwrap().to_owned() + &" ".repeat(65 << 20);
    assert!(refused(&keys, &keys.seal(bomb.as_bytes())).contains("does not end"));
}

#[test]
fn another_key_does_not_open_and_no_report_is_no_fault() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.data()).unwrap();
    let key = scratch.file("private.json", seal::x25519().private_file());
    let output = open(&scratch, &key, false);
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"No reports yet.\n".to_vec()));
    place(&scratch, &seal::x25519().seal(seal::report(1).as_bytes()));
    let output = open(&scratch, &key, false);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("which was not given"));
}

#[test]
fn a_damaged_report_does_not_hide_the_others() {
    let scratch = Scratch::new();
    let keys = seal::x25519();
    place(&scratch, &keys.seal(seal::report(1).as_bytes()));
    fs::write(scratch.data().join("reports/00000000000000000000000000000000.otr"), b"OTR1").unwrap();
    let key = scratch.file("private.json", keys.private_file());
    let output = open(&scratch, &key, true);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 1);
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
    let shown = scratch.run(&["show"]);
    assert!(String::from_utf8(shown.stdout).unwrap().contains("report abababababababababababababababab"));
}

#[test]
fn what_an_earlier_version_received_is_opened_with_what_lies_by_day() {
    use crate::program::{Collector, Request};
    let (scratch, keys) = (Scratch::new(), seal::x25519());
    let old = keys.seal(seal::report(1).as_bytes());
    place(&scratch, &old);
    let key = scratch.file("private.json", keys.private_file());
    let ids = || {
        let output = open(&scratch, &key, true);
        assert!(output.status.success(), "{output:?}");
        let reports = String::from_utf8(output.stdout).unwrap();
        let volumes = |line: &str| serde_json::from_str::<Value>(line).unwrap()["volumes"].as_array().unwrap().len();
        let mut volumes: Vec<usize> = reports.lines().map(volumes).collect();
        volumes.sort_unstable();
        volumes
    };
    let collector = Collector::start(&scratch, &[]);
    let id = HEXLOWER.encode(&REPORT_ID);
    let send = |body: &[u8]| {
        let headers = vec![("Content-Type", "application/vnd.ondat.telemetry-report".to_owned())];
        collector.https(&Request { line: format!("PUT /v1/reports/{id}"), headers, body }).status
    };
    assert_eq!(ids(), [1]);
    // The same again, and another one of the id: each is listed once.
    assert_eq!((send(&old), ids()), (201, vec![1]));
    assert_eq!((send(&keys.seal(seal::report(2).as_bytes())), ids()), (201, vec![1, 2]));
    let shown = String::from_utf8(scratch.run(&["show"]).stdout).unwrap();
    assert!(shown.contains("Daily reports: 2"), "{shown}");
}
