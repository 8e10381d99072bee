//! `decode-query`: names, logs, and what is none of ours.

use std::io::{Read, Write};
use std::process::Stdio;

use nix::pty::openpty;
use ondat_telemetry_protocol::message::MessageKey;
use ondat_telemetry_protocol::query::{Query, version_label};
use serde_json::{Value, json};

use crate::program::{Ended, Place, command, finish, run, run_with_input};

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
        assert_eq!(ended.stderr, "ondat-telemetry: 2 version queries, 1 other names dropped, 1 lines not understood\n");
    }
    let ended = run(&["decode-query", "--from-log", &place.at("absent.log")]).with(2);
    assert!(ended.stderr.contains("absent.log"), "{}", ended.stderr);
}

#[test]
fn a_log_without_end_takes_bounded_memory() {
    // 64 MiB of address space for the program and its heap; the log has one line of 80 MiB, then a query.
    let place = Place::new("decode-bounded");
    let file = place.at("queries.log");
    let log = std::fs::File::create(&file).unwrap();
    log.set_len(80 << 20).unwrap();
    Write::write_all(
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

/// What a log says, and what is said of it.
fn read(arguments: &[&str], log: &str) -> Ended {
    run_with_input(&[&["decode-query", "--from-log", "-"], arguments].concat(), log)
}

#[test]
fn a_log_of_which_nothing_is_understood_fails() {
    let name = query("2.8.1").name(ZONE);
    let unknown = format!("{}\n", json!({ "dns_label": name, "dns_kind": "TXT" }));
    for (log, lines) in [
        (unknown.repeat(3), 3),
        ("\u{0}\u{1}\n".repeat(2), 2),
        ("{".repeat(1_000_000), 1),
        (format!("{{\"QueryName\":\"{}", &name[..40]), 1),
    ] {
        let ended = read(&["--json"], &log).with(2);
        let said: Vec<&str> = ended.stderr.lines().collect();
        let [why, counts] = said[..] else { panic!("{said:?}") };
        assert!(why.contains("--from-log -: no query log of a form that is known here"), "{why}");
        assert!(counts.ends_with(&format!("0 version queries, 0 other names dropped, {lines} lines not understood")));
        assert_eq!(ended.stdout, "");
    }
    // One that is understood is enough, whatever it says; so is nothing at all.
    let ended = read(&[], &format!("{unknown}query: www.example.com IN A +\n")).with(0);
    assert!(ended.stderr.ends_with("0 version queries, 0 other names dropped, 1 lines not understood\n"));
    assert_eq!(read(&[], "").with(0).stderr, "ondat-telemetry: 0 version queries, 0 other names dropped\n");
    // Names of others' making: escaped, cut short, damaged.
    let others = format!("{}.\\032.o1.{ZONE}\n{}.o1.{ZONE}\n.o1..\n", "a".repeat(63), &name[..60]);
    assert!(read(&[], &others).with(0).stderr.ends_with("0 version queries, 3 other names dropped\n"));
    // Each log for itself.
    let place = Place::new("decode-understood");
    let (good, bad) = (place.with("good.log", &format!("{name}\n")), place.with("bad.log", &unknown));
    let ended = run(&["decode-query", "--from-log", &good, "--from-log", &bad]).with(2);
    assert!(ended.stdout.lines().count() == 1 && ended.stderr.contains("bad.log: no query log"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("good.log"), "{}", ended.stderr);
}

#[test]
fn logs_of_providers_are_read() {
    let name = query("2.8.1").name(ZONE);
    let bare = name.trim_end_matches('.');
    let cloudflare = json!({ "ColoCode": "SFO", "QueryName": bare, "QueryType": 16, "ResponseCode": 0 });
    let google = json!({ "jsonPayload": { "queryName": name, "queryType": "TXT", "rdata": format!("{name}\t300\tIN\ttxt\tx") },
                         "resource": { "type": "dns_query" } });
    let azure = json!({ "category": "DnsResponse", "properties": { "queryName": name, "queryType": "TXT" } });
    let resolver = json!({ "query_name": name, "query_type": "TXT", "answers": [{ "Rdata": "x", "Type": "TXT" }] });
    let route_53 = format!("1.0 2026-11-24T08:16:02.130Z Z123412341234 {bare} TXT NOERROR UDP FRA6 192.168.1.1 -");
    let dnsdist = format!("Packet from 127.0.0.1:38466 for {name} TXT with id 4711");
    let (upper, array) = (name.to_uppercase(), json!([google, cloudflare]));
    let pretty = serde_json::to_string_pretty(&array).unwrap();
    for (log, count) in [
        (cloudflare.to_string(), 1),
        (google.to_string(), 1),
        (azure.to_string(), 1),
        (resolver.to_string(), 1),
        (serde_json::to_string_pretty(&resolver).unwrap(), 1),
        (route_53, 1),
        (dnsdist, 1),
        (bare.to_owned(), 1),
        (format!("{upper}\r\n{name}"), 2),
        (array.to_string(), 2),
        (pretty, 2),
    ] {
        let ended = read(&["--json"], &log).with(0);
        let said = lines(&ended.stdout);
        assert_eq!(
            (said.len(), &said[0]["version"], &said[0]["sealed"]),
            (count, &json!("2.8.1"), &json!(false)),
            "{log}"
        );
        assert_eq!(ended.stderr, format!("ondat-telemetry: {count} version queries, 0 other names dropped\n"), "{log}");
    }
}

#[test]
fn a_summary_counts_clusters_and_nodes_by_day_and_version() {
    let asked = |day, version, cluster, node| {
        Query { cluster: [cluster; 16], node: [node; 16], day, ..query(version) }.name(ZONE)
    };
    let place = Place::new("decode-summary");
    let (key, public) = seal_key(&place, "key");
    let sealed = Query { node: [9; 16], ..query("2.9.0") }.sealed_name(ZONE, &public).unwrap();
    let log = [
        asked(20_781, "2.8.1", 1, 1),
        asked(20_781, "2.8.1", 1, 1),
        asked(20_781, "2.10.0", 1, 2),
        asked(20_782, "2.10.0", 1, 1),
        sealed,
        "www.example.com.".to_owned(),
    ]
    .join("\n");
    let ended = read(&["--summary", "--key", &key], &log).with(0);
    assert_eq!(
        ended.stdout,
        "day         version                   clusters       nodes     queries\n\
         2026-11-24  2.8.1                            1           1           2\n\
         2026-11-24  2.9.0                            1           1           1\n\
         2026-11-24  2.10.0                           1           1           1\n\
         2026-11-24  all versions                     2           3           4\n\
         2026-11-25  2.10.0                           1           1           1\n\
         2026-11-25  all versions                     1           1           1\n\
         all days    all versions                     2           3           5\n\
         days: 2, versions: 3; clusters and nodes are counted once in each line\n"
    );
    assert_eq!(ended.stderr, "ondat-telemetry: 5 version queries, 0 other names dropped\n");
    // Without the key, who has asked is not known.
    let said = read(&["--summary", "--json"], &log).with(0).json();
    assert_eq!((&said["nodes"], &said["queries"]), (&json!(2), &json!(4)));
    assert_eq!(said["sealed"], json!([{ "version": "2.9.0", "version_label": query("2.9.0").version, "queries": 1 }]));
    let days: Vec<_> = said["days"].as_array().unwrap().iter().map(|day| day["day"].as_str().unwrap()).collect();
    assert_eq!(days, ["2026-11-24", "2026-11-25"]);
    // Names on the command line are counted like those of logs.
    let said = run(&["decode-query", "--summary", "--json", &asked(1, "2.8.1", 1, 1), "x.example"]).with(2).json();
    assert_eq!(said["queries"], 1);
    run(&["decode-query", "--summary"]).with(2);
}

#[test]
fn a_packed_log_is_named_and_not_read_as_text() {
    let place = Place::new("decode-packed");
    let log = place.with("queries.log", &format!("{}\n", query("2.8.1").name(ZONE)));
    let packed = std::process::Command::new("gzip").arg("-k").arg(&log).status().unwrap();
    assert!(packed.success());
    let packed = format!("{log}.gz");
    let ended = run(&["decode-query", "--from-log", &packed]).with(2);
    assert!(ended.stderr.contains("queries.log.gz: it is packed: zcat FILE |"), "{}", ended.stderr);
    let ask = "gzip -dc \"$1\" | \"$0\" decode-query --json --from-log -";
    let program = command(&[]).get_program().to_owned();
    let piped = std::process::Command::new("sh").args(["-c", ask]).arg(program).arg(&packed).output().unwrap();
    assert_eq!(lines(&String::from_utf8(piped.stdout).unwrap()).len(), 1);
}

#[test]
fn progress_is_for_terminals_and_leaves_nothing_behind() {
    let place = Place::new("decode-progress");
    let log = place.at("queries.log");
    std::fs::write(&log, format!("{}\n", query("2.8.1").name(ZONE)).repeat(60_000)).unwrap();
    let arguments = ["decode-query", "--summary", "--from-log", &log];
    assert!(!run(&arguments).with(0).stderr.contains('\r'));
    let terminal = openpty(None, None).unwrap();
    // The terminal ends when nobody has it any more, this process included.
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(terminal.slave).spawn().unwrap();
    let mut said = Vec::new();
    // The terminal's end is an error to who reads it.
    let _ = std::fs::File::from(terminal.master).read_to_end(&mut said);
    assert!(child.wait().unwrap().success());
    let said = String::from_utf8(said).unwrap();
    let (progress, last) = said.rsplit_once("\r\u{1b}[K").unwrap();
    assert_eq!(last, "ondat-telemetry: 60000 version queries, 0 other names dropped\r\n");
    // How often depends on the machine.
    let shown = progress.split('\r').filter(|line| !line.is_empty());
    assert!(shown.clone().all(|line| line.contains("queries.log: ") && line.ends_with(" %\u{1b}[K")), "{progress:?}");
}
