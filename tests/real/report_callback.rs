//! The daily report of a host that hands over one record at a time, through the C interface, opened by Python.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use ondat_telemetry_protocol::fields::{FIELDS, Level};
use ondat_telemetry_protocol::identity::{Identity, Purpose};
use ondat_telemetry_protocol::limits::GROUP_RECORDS;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::support::{CLUSTER_ID, Collector, compile, program, status, wait_for};

/// What the host's callback was told, call by call, and the most memory that the process had.
struct Filled {
    told: Vec<(i64, String)>,
    peak_kib: u64,
}

/// Lets a host fill its report with these calls, so often, and returns when the collector has it.
fn fill(cluster: &Cluster, collector: &Collector, calls: &[String], times: usize) -> Filled {
    fill_from(1, cluster, collector, calls, times)
}

/// The same from so many threads at once, from each of them all calls.
fn fill_from(threads: usize, cluster: &Cluster, collector: &Collector, calls: &[String], times: usize) -> Filled {
    let host = compile("report_callback.c", &cluster.folder);
    let file = cluster.folder.join("calls");
    std::fs::write(&file, calls.iter().map(|call| format!("{call}\n")).collect::<String>()).unwrap();
    let mut command = program(host);
    cluster.who(&mut command);
    command.arg(&file).args([times.to_string(), threads.to_string()]).env("ONDAT_TELEMETRY_REPORT_URL", &collector.url);
    command.env("ONDAT_TELEMETRY_CA_FILE", &collector.ca_file);
    command.env("ONDAT_TELEMETRY_REPORT_KEYS", std::fs::read_to_string(cluster.public_keys()).unwrap());
    let mut host = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(host.stdout.take().unwrap());
    let mut told = Vec::new();
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).unwrap() > 0, "the callback was not called, or did not end: {told:?}");
        match line.trim_end().split_once(' ') {
            Some((status, why)) => told.push((status.parse().unwrap(), why.to_owned())),
            None if line == "filled\n" => break,
            None => told.push((line.trim_end().parse().unwrap(), String::new())),
        }
    }
    wait_for("the report", || (!collector.reports().is_empty()).then_some(()));
    drop(host.stdin.take());
    let mut last = String::new();
    output.read_to_string(&mut last).unwrap();
    assert!(host.wait().unwrap().success(), "{last}");
    assert_eq!(told.len(), calls.len() * times * threads);
    Filled { told, peak_kib: last.trim_end().parse().unwrap() }
}

/// A report's lines: the first, the row groups of nodes and of volumes, the last.
struct Opened {
    head: Value,
    nodes: Vec<Value>,
    volumes: Vec<Value>,
    end: Value,
}

fn open(cluster: &Cluster, collector: &Collector) -> Opened {
    let plaintext = String::from_utf8(cluster.opened(collector).0).unwrap();
    let mut lines: Vec<Value> = plaintext.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (head, end) = (lines.remove(0), lines.pop().unwrap());
    let groups = |name: &str| lines.iter().filter_map(|line| line.get(name).cloned()).collect::<Vec<_>>();
    let (nodes, volumes) = (groups("nodes"), groups("volumes"));
    assert_eq!(nodes.len() + volumes.len(), lines.len());
    Opened { head, nodes, volumes, end: end["end"].clone() }
}

/// The sizes of row groups, in which every column is equally long.
fn sizes(level: Level, groups: &[Value]) -> Vec<usize> {
    let size = |group: &Value| {
        let lengths: Vec<usize> = level.fields().map(|field| group[field.name].as_array().unwrap().len()).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
        lengths[0]
    };
    groups.iter().map(size).collect()
}

/// A field's values over all row groups.
fn column(groups: &[Value], field: &str) -> Vec<Value> {
    groups.iter().flat_map(|group| group[field].as_array().unwrap().clone()).collect()
}

fn volume(number: usize) -> Value {
    json!({
        "volume_id": format!("volume {number}"),
        "volume_labels": { "storageos.com/replicas": "2", "app": "postgres" },
        "volume_size_bytes": number,
    })
}

/// Records that are no volumes, and what a host is told about each: after the list's name and the index, where it is
/// exact, or with this in it.
fn no_volumes() -> Vec<(&'static str, String)> {
    let expected = |name: &str| {
        let field = FIELDS.iter().find(|field| field.name == name).unwrap();
        format!(".{name}: expected {}", field.expectation())
    };
    vec![
        (r#"{"volume_size_bytes":-1}"#, expected("volume_size_bytes")),
        (r#"{"volume_replicas":6}"#, expected("volume_replicas")),
        (r#"{"volume_fs_type":"zfs"}"#, expected("volume_fs_type")),
        // Good fields first: they must not stay behind.
        (r#"{"volume_id":"half","volume_size_bytes":7,"volume_labels":{"app":5}}"#, expected("volume_labels")),
        (r#"{"volume_id":"half","volume_name":"x"}"#, ".volume_name: not one of the fields of the report".to_owned()),
        (r#"{"node_id":"x"}"#, ".node_id: not one of the fields of the report".to_owned()),
        (r#"{"volume_id":"a","volume_id":"b"}"#, ".volume_id: stands twice in one object".to_owned()),
        // Numbers beyond every range, and what is not even one.
        (r#"{"volume_size_bytes":1e999}"#, ".volume_size_bytes: number out of range at line 1".to_owned()),
        (r#"{"volume_id":"half","volume_metrics":{"a":-1e400}}"#, ".volume_metrics: number out of range".to_owned()),
        (r#"{"volume_size_bytes":18446744073709551616}"#, expected("volume_size_bytes")),
        (r#"{"volume_size_bytes":-0}"#, expected("volume_size_bytes")),
        (r#"{"volume_size_bytes":NaN}"#, ".volume_size_bytes: expected value at line 1".to_owned()),
        (
            r#"{"volume_id":"half","volume_labels":{"a":"x","a":"y"}}"#,
            r#".volume_labels: the key "a" stands"#.to_owned(),
        ),
        (r#"{"volume_id":"half""#, ": not a JSON object: EOF".to_owned()),
        (r#"{"volume_id":"half"} {}"#, ": not a JSON object: trailing characters".to_owned()),
        (r#"["volume_id"]"#, ": not a JSON object: invalid type: sequence".to_owned()),
        ("", ": not a JSON object: EOF".to_owned()),
    ]
}

#[test]
fn bad_records_name_themselves_and_the_good_ones_are_reported() {
    const VOLUMES: usize = 5000;
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let bad = no_volumes();
    let (mut calls, mut expected) = (vec![r#"c{"k8s_in_k8s":true}"#.to_owned()], vec![(status::OK, String::new())]);
    let mut given = 0;
    for number in 0..VOLUMES {
        // Around the ends of the row groups too.
        if number % 100 == 0 || number % GROUP_RECORDS < 2 {
            let (json, why) = &bad[given % bad.len()];
            calls.push(format!("v{json}"));
            expected.push((status::INVALID_REPORT, format!("volumes[{given}]{why}")));
            given += 1;
        }
        if number % 2000 == 0 {
            calls.push(r#"n{"node_health":"broken"}"#.to_owned());
            let node = number / 1000;
            let why = format!("nodes[{node}].node_health: expected one of online, offline, unknown");
            expected.push((status::INVALID_REPORT, why));
            calls.push(format!(r#"n{{"node_id":"node {number}","node_health":"online"}}"#));
            expected.push((status::OK, String::new()));
        }
        calls.push(format!("v{}", volume(number)));
        expected.push((status::OK, String::new()));
        given += 1;
    }
    let refused = expected.iter().filter(|(status, _)| *status == status::INVALID_REPORT).count();
    assert!(refused > 50, "{refused}");

    let filled = fill(&cluster, &collector, &calls, 1);
    for ((call, told), (status, why)) in calls.iter().zip(&filled.told).zip(&expected) {
        assert!(told.0 == *status && told.1.contains(why), "{call}\n{told:?} instead of {status} {why}");
    }

    let report = open(&cluster, &collector);
    assert_eq!(report.head["k8s_in_k8s"], true);
    assert_eq!(report.end, json!({ "nodes": 3, "volumes": VOLUMES }));
    assert_eq!(sizes(Level::Volume, &report.volumes), [1024, 1024, 1024, 1024, 904]);
    assert_eq!(sizes(Level::Node, &report.nodes), [3]);
    let identity = Identity::from_cluster_id(CLUSTER_ID);
    let id = |purpose, raw: String| Value::from(identity.anonymise_hex(purpose, &raw));
    let volumes: Vec<Value> = (0..VOLUMES).map(|number| id(Purpose::Volume, format!("volume {number}"))).collect();
    assert!(column(&report.volumes, "volume_id") == volumes, "not the good volumes in their order");
    let numbers: Vec<Value> = (0..VOLUMES).map(Value::from).collect();
    assert!(column(&report.volumes, "volume_size_bytes") == numbers, "not each with its own size");
    let nodes = [0, 2000, 4000].map(|number| id(Purpose::Node, format!("node {number}")));
    assert_eq!(column(&report.nodes, "node_id"), nodes);
    assert_eq!(column(&report.nodes, "node_health"), ["online"; 3]);
}

/// The cluster fields of a report that say something.
fn known(head: &Value) -> Vec<(&str, &Value)> {
    let fields = Level::Cluster.fields().map(|field| (field.name, &head[field.name]));
    fields.filter(|(_, value)| !value.is_null()).collect()
}

/// What the library knows without being told.
const BY_ITSELF: [(&str, &Value); 2] =
    [("cluster_disable_crash_reporting", &Value::Bool(false)), ("cluster_disable_version_check", &Value::Bool(false))];

#[test]
fn a_callback_that_says_nothing_or_nothing_right_makes_a_report_of_nothing() {
    let wrong = ["c{\"k8s_in_k8s\":5}", "n{\"node_id\":\"\"}", "v[]"];
    for calls in [&[][..], &wrong.map(str::to_owned)] {
        let cluster = Cluster::new("X25519");
        let collector = cluster.collector();
        let filled = fill(&cluster, &collector, calls, 1);
        assert!(filled.told.iter().all(|(status, _)| *status == status::INVALID_REPORT), "{:?}", filled.told);
        let report = open(&cluster, &collector);
        assert_eq!(known(&report.head), BY_ITSELF);
        assert_eq!(report.end, json!({ "nodes": 0, "volumes": 0 }));
        assert_eq!((report.nodes.len(), report.volumes.len()), (0, 0));
    }
}

#[test]
fn the_cluster_fields_are_set_once_and_before_the_first_full_row_group() {
    let set = |version: &str| format!(r#"c{{"k8s_version":"{version}"}}"#);
    let many = |count: usize| (0..count).map(|number| format!("v{}", volume(number)));
    let refused = "c{\"k8s_version\":\"v0\",\"k8s_in_k8s\":\"yes\"}".to_owned();

    // A refused object changes nothing; one that was taken stays.
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let calls: Vec<String> = many(GROUP_RECORDS - 1).chain([refused, set("v1"), set("v2")]).chain(many(1)).collect();
    let told = fill(&cluster, &collector, &calls, 1).told;
    let [wrong, first, second] = &told[GROUP_RECORDS - 1..GROUP_RECORDS + 2] else { panic!("{}", told.len()) };
    assert_eq!(wrong, &(status::INVALID_REPORT, "k8s_in_k8s: expected true or false".to_owned()));
    assert_eq!(first.0, status::OK, "{first:?}");
    assert!(second.0 == status::INVALID_STATE && second.1.contains("already set"), "{second:?}");
    let report = open(&cluster, &collector);
    assert_eq!((&report.head["k8s_version"], &report.head["k8s_in_k8s"]), (&json!("v1"), &Value::Null));
    assert_eq!(sizes(Level::Volume, &report.volumes), [GROUP_RECORDS]);

    // With the first full row group the cluster fields are written.
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let calls: Vec<String> = many(GROUP_RECORDS).chain([set("v1")]).chain(many(1)).collect();
    let told = fill(&cluster, &collector, &calls, 1).told;
    let late = &told[GROUP_RECORDS];
    assert!(late.0 == status::INVALID_STATE && late.1.contains("before record 1024"), "{late:?}");
    let report = open(&cluster, &collector);
    assert_eq!(known(&report.head), BY_ITSELF);
    assert_eq!(sizes(Level::Volume, &report.volumes), [GROUP_RECORDS, 1]);
}

#[test]
fn several_threads_may_fill_it_at_once() {
    const THREADS: usize = 8;
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let calls: Vec<String> = (0..3 * GROUP_RECORDS).map(|number| format!("v{}", volume(number))).collect();
    let calls: Vec<String> = calls.into_iter().chain([r#"n{"node_id":"node"}"#.to_owned()]).collect();
    let filled = fill_from(THREADS, &cluster, &collector, &calls, 1);
    assert!(filled.told.iter().all(|(status, _)| *status == status::OK));
    let report = open(&cluster, &collector);
    let volumes = THREADS * 3 * GROUP_RECORDS;
    assert_eq!(report.end, json!({ "nodes": THREADS, "volumes": volumes }));
    // Every record is whole, and none is lost or doubled.
    let identity = Identity::from_cluster_id(CLUSTER_ID);
    let mut found = vec![0; 3 * GROUP_RECORDS];
    for (id, size) in column(&report.volumes, "volume_id").iter().zip(column(&report.volumes, "volume_size_bytes")) {
        let number = usize::try_from(size.as_u64().unwrap()).unwrap();
        assert_eq!(*id, identity.anonymise_hex(Purpose::Volume, &format!("volume {number}")));
        found[number] += 1;
    }
    assert!(found.iter().all(|times| *times == THREADS));
}

/// What a process may have more for ten times the volumes: far less than a list of their ids would take.
const SLACK_KIB: u64 = 1024;

#[test]
fn memory_does_not_grow_with_the_number_of_volumes() {
    let calls: Vec<String> = (0..10 * GROUP_RECORDS).map(|number| format!("v{}", volume(number))).collect();
    let [once, ten_times] = [1, 10].map(|times| {
        let cluster = Cluster::new("X25519");
        let collector = cluster.collector();
        let filled = fill(&cluster, &collector, &calls, times);
        assert!(filled.told.iter().all(|(status, _)| *status == status::OK));
        assert_eq!(open(&cluster, &collector).end["volumes"], calls.len() * times);
        filled.peak_kib
    });
    assert!(
        ten_times <= once + SLACK_KIB,
        "{once} KiB for {} volumes, {ten_times} KiB for ten times that",
        calls.len()
    );
}

/// A volume with all its fields, of which no two are alike: as little of it is packed as of real ones.
fn full_volume(number: u64) -> Value {
    // SplitMix64.
    let mut draws = (0..).map(|draw: u64| {
        let z = (number * 32 + draw).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    });
    let mut below = |bound: u64| draws.next().unwrap() % bound;
    json!({
        "volume_id": format!("volume {number}"),
        "volume_fs_type": if below(10) > 0 { "ext4" } else { "xfs" },
        "volume_labels": {
            "storageos.com/replicas": below(3).to_string(),
            "app.kubernetes.io/name": format!("service-{}", below(100)),
            "team": format!("payments-{}", below(40)),
        },
        "volume_master_attach": below(20),
        "volume_master_detach": below(20),
        "volume_master_promote": below(5),
        "volume_metrics": { "read_iops": below(5000), "write_iops": below(5000) },
        "volume_replicas": below(4),
        "volume_size_bytes": (1 + below(500)) << 30,
    })
}

/// So many volumes get to the collector that is built here, whole. Returns how long the sealed report is.
fn volumes_arrive(volumes: u64) -> u64 {
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let calls: Vec<String> = (0..volumes).map(|number| format!("v{}", full_volume(number))).collect();
    let filled = fill(&cluster, &collector, &calls, 1);
    assert!(filled.told.iter().all(|(status, _)| *status == status::OK));
    let reports = collector.reports();
    assert_eq!(reports.len(), 1);
    std::fs::metadata(&reports[0]).unwrap().len()
}

/// docs/architecture.md says how large a report of a million volumes is; both sides take 64 MiB.
#[test]
fn a_million_volumes_arrive() {
    let bytes = volumes_arrive(1_000_000);
    assert!((32 << 20..=64 << 20).contains(&bytes), "{bytes}");
}
