//! `decode-query`: names, logs, and what is none of ours.

use ondat_telemetry::seal::MessageKey;
use ondat_telemetry::version::query::{Query, version_label};
use serde_json::{Value, json};

use crate::program::{Place, command, finish, run, run_with_input};

const ZONE: &str = "latest.example.com";

fn query(version: &str) -> Query {
    let version = version_label(&version.parse().unwrap());
    Query { cluster: [0x11; 16], node: [0x22; 16], day: 20_781, version }
}

/// Makes a seal key; its private file's path, and its public half.
fn seal_key(place: &Place, name: &str) -> (String, MessageKey) {
    let out = place.at(name);
    run(&["keygen", "version-seal", "--out", &out]).with(0);
    let public = std::fs::read_to_string(format!("{out}/version-seal.pub")).unwrap();
    (format!("{out}/version-seal.key"), MessageKey::parse(&public).unwrap())
}

fn lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_name_says_day_version_and_ids() {
    let name = query("2.8.2").name(ZONE);
    let expected = json!({
        "day": "2026-11-24", "version": "2.8.2", "version_label": "68n3gbhi",
        "cluster_id": "11".repeat(16), "node_id": "22".repeat(16), "sealed": false,
    });
    for name in [name.clone(), name.to_uppercase(), name.trim_end_matches('.').to_owned()] {
        assert_eq!(run(&["decode-query", "--json", &name]).with(0).json(), expected);
    }
    let text = run(&["decode-query", &name]).with(0).stdout;
    assert_eq!(text, format!("2026-11-24  2.8.2  cluster {}  node {}\n", "11".repeat(16), "22".repeat(16)));
    // A version too long for a label can only be recognised.
    let long = query("2.8.2-rc.1.of-a-branch-with-a-very-long-name").name(ZONE);
    let said = run(&["decode-query", "--json", &long]).with(0).json();
    assert_eq!((&said["version"], said["version_label"].as_str().map(str::len)), (&Value::Null, Some(33)));
}

#[test]
fn what_is_no_version_query_is_refused_and_the_others_are_still_read() {
    let name = query("2.8.2").name(ZONE);
    let damaged = name.replacen('4', "5", 1);
    let ended = run(&["decode-query", &damaged, "www.example.com", &name]).with(2);
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    assert_eq!(ended.stderr.matches("is no version query").count(), 2, "{}", ended.stderr);
    run(&["decode-query", "--version-zone", "other.example.com", &name]).with(2);
    run(&["decode-query", "--version-zone", ZONE, &name]).with(0);
    run(&["decode-query"]).with(2);
}

#[test]
fn a_sealed_name_is_opened_by_its_key_alone() {
    let place = Place::new("decode-sealed");
    let (key, public) = seal_key(&place, "key");
    let (other_key, _) = seal_key(&place, "other");
    let name = query("2.8.2").sealed_name(ZONE, &public).unwrap();
    let said = run(&["decode-query", "--json", "--key", &other_key, "--key", &key, &name]).with(0).json();
    assert_eq!((&said["cluster_id"], &said["sealed"]), (&json!("11".repeat(16)), &json!(true)));
    let closed = run(&["decode-query", "--json", &name]).with(0).json();
    assert_eq!(
        (&closed["cluster_id"], &closed["day"], &closed["version"]),
        (&Value::Null, &Value::Null, &json!("2.8.2"))
    );
    run(&["decode-query", "--key", &other_key, &name]).with(2);
    let ended = run(&["decode-query", "--key", &place.with("no.key", "{\"private\":\"c2VjcmV0\"}"), &name]).with(2);
    assert!(ended.stderr.contains("not a version-seal.key") && !ended.stderr.contains("c2VjcmV0"), "{}", ended.stderr);
}

#[test]
fn a_log_is_read_line_by_line_and_scanners_are_dropped() {
    let (one, two) = (query("2.8.1").name(ZONE), query("2.8.2").name(ZONE));
    let log = format!(
        "24-Nov-2026 22:12:20.101 client @0x7f 127.0.0.1#1 ({one}): query: {one} IN TXT -E(0) (127.0.0.1)\n\
         24-Nov-2026 22:12:20.102 client @0x7f 127.0.0.1#1 ({one}): query: {one} IN A -E(0) (127.0.0.1)\n\
         24-Nov-2026 22:12:20.103 client @0x7f 127.0.0.1#1 (x): query: aaaa.bbbb.o1.{ZONE} IN TXT + (127.0.0.1)\n\
         \n{}\n\
         [1795558340] unbound[1:0] info: 127.0.0.1 {} TXT IN",
        "\u{fffd}".repeat(50_000),
        two.to_uppercase(),
    );
    let place = Place::new("decode-log");
    let file = place.with("queries.log", &log);
    for ended in [
        run(&["decode-query", "--json", "--from-log", &file]),
        run_with_input(&["decode-query", "--json", "--from-log", "-"], &log),
    ] {
        let ended = ended.with(0);
        let versions: Vec<Value> = lines(&ended.stdout).iter().map(|said| said["version"].clone()).collect();
        assert_eq!(versions, ["2.8.1", "2.8.2"]);
        assert_eq!(ended.stderr, "ondat-telemetry: 2 version queries, 1 other names dropped\n");
    }
    let ended = run(&["decode-query", "--from-log", &place.at("absent.log")]).with(2);
    assert!(ended.stderr.contains("absent.log"), "{}", ended.stderr);
}

#[test]
fn a_log_without_end_takes_bounded_memory() {
    // 64 MiB of address space for the program and its heap; the log has one line of 256 MiB, then a query.
    let place = Place::new("decode-bounded");
    let file = place.at("queries.log");
    let log = std::fs::File::create(&file).unwrap();
    log.set_len(256 << 20).unwrap();
    std::io::Write::write_all(
        &mut std::fs::OpenOptions::new().append(true).open(&file).unwrap(),
        format!("\nquery: {} IN TXT\n", query("2.8.2").name(ZONE)).as_bytes(),
    )
    .unwrap();
    let program = command(&[]).get_program().to_owned();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -v 65536 && exec \"$0\" decode-query --from-log \"$1\""]).arg(program).arg(&file);
    let ended = finish(limited.env_clear().env("PATH", std::env::var_os("PATH").unwrap())).with(0);
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
}
