//! The daily report, opened by Python's `cryptography` package and by nothing of ours.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, UNIX_EPOCH};

use ondat_telemetry::report::fields::FIELDS;
use serde_json::{Value, json};

use crate::support::{
    CLUSTER_ID, Collector, NODE_ID, Said, TempDir, VERSION, both, bytes_of, compile, files_below, files_in, holds,
    ondat, program, python, run, status, stay_within_one_day, succeed,
};

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

/// A vendor's key, a cluster's state directory and a place for the collector's folder.
struct Cluster {
    folder: TempDir,
    state_dir: PathBuf,
}

impl Cluster {
    fn new(kem: &str) -> Self {
        stay_within_one_day();
        let folder = TempDir::new();
        let state_dir = folder.state_dir();
        let cluster = Self { folder, state_dir };
        succeed(ondat(&["keygen", "report", "--kem", kem, "--out"]).arg(cluster.folder.join("keys")));
        cluster
    }

    fn public_keys(&self) -> PathBuf {
        self.folder.join("keys/report-keys.json")
    }

    fn collector(&self) -> Collector {
        Collector::serve(&self.folder.join("collector"), &self.public_keys())
    }

    fn write_document(&self, document: &Value) -> PathBuf {
        let path = self.folder.join("document.json");
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }

    fn who(&self, command: &mut Command) {
        command.env("ONDAT_TELEMETRY_VERSION", VERSION);
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", CLUSTER_ID).env("ONDAT_TELEMETRY_NODE_ID", NODE_ID);
        command.env("ONDAT_TELEMETRY_STATE_DIR", &self.state_dir);
    }

    /// `ondat-telemetry report` with this cluster's settings.
    fn report(&self, action: &str, document: &Path, collector: &Collector) -> Output {
        let mut command = ondat(&["report", action]);
        self.who(&mut command);
        command.arg(document).args(["--report-url", &collector.url, "--ca-file", &collector.ca_file]);
        command.arg("--report-keys").arg(self.public_keys());
        run(&mut command)
    }

    /// `probe` with this cluster's settings and a collector that may be gone.
    fn probe(&self, probe: &Path, arguments: &[&str], url: &str, ca_file: &str) -> Said {
        let mut command = program(probe);
        self.who(&mut command);
        command.args(arguments).env("ONDAT_TELEMETRY_REPORT_URL", url).env("ONDAT_TELEMETRY_CA_FILE", ca_file);
        command.env("ONDAT_TELEMETRY_REPORT_KEYS", std::fs::read_to_string(self.public_keys()).unwrap());
        Said::of(&run(&mut command))
    }

    /// The plaintext of the only report the collector has, and what Python says about the file.
    fn opened(&self, collector: &Collector) -> (Vec<u8>, Value) {
        let reports = collector.reports();
        let [report] = reports.as_slice() else { panic!("exactly one report: {reports:?}") };
        let mut open = python("open_report.py");
        open.arg(report).arg(self.folder.join("keys/report.key"));
        let output = succeed(&mut open);
        let facts: Value = serde_json::from_slice(&output.stderr).unwrap();
        let id = report.file_stem().unwrap().to_str().unwrap();
        assert_eq!(facts["report_id"], id, "{facts}");
        (output.stdout, facts)
    }

    /// The copies kept for the administrator.
    fn sent(&self) -> Vec<PathBuf> {
        files_in(&self.state_dir.join("sent"))
    }

    fn spool(&self) -> Vec<PathBuf> {
        files_in(&self.state_dir.join("spool/reports"))
    }
}

/// A document with every field of the list.
fn document(volumes: usize) -> Value {
    let node = |id: &str| {
        json!({
            "node_available_bytes": 70_000_000_000_u64,
            "node_capacity": {
                "total": 100_000_000_000_u64, "free": 80_000_000_000_u64, "available": 70_000_000_000_u64,
            },
            "node_crash_files_on_disk": 2,
            "node_created_at_time": "2026-01-31T12:00:00Z",
            "node_etcd_config": { "endpoints": 3, "namespaced": true, "tls": true },
            "node_etcd_namespacing_enabled": true,
            "node_etcd_tls_enabled": true,
            "node_free_bytes": 80_000_000_000_u64,
            "node_health": "online",
            "node_http_tls_enabled": false,
            "node_id": id,
            "node_labels": {
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/region": "eu-west-2",
                "kubernetes.io/hostname": id,
                "cost-centre": "payroll-team",
            },
            "node_status": "alive",
            "node_storageos_version": VERSION,
            "node_system_clock_time": "2026-11-24T04:00:00Z",
            "node_total_bytes": 100_000_000_000_u64,
            "node_version": "MQ",
        })
    };
    let volume = |number: usize| {
        let id = match number {
            0 => "0a4f2f6e-5d6e-4b0e-9a53-0f2f1d8a6b11".to_owned(),
            _ => format!("volume-{number}"),
        };
        json!({
            "volume_fs_type": "ext4",
            "volume_id": id,
            "volume_labels": { "storageos.com/replicas": "2", "app": "postgres-of-payroll" },
            "volume_master_attach": 4,
            "volume_master_delete_deployment": 0,
            "volume_master_detach": 3,
            "volume_master_failover_deployment": 1,
            "volume_master_promote": 1,
            "volume_master_provision": 1,
            "volume_master_recover_replica": 2,
            "volume_master_trigger_rejoin": 0,
            "volume_metrics": { "read_bytes": 73_400_320, "write_latency_seconds": 0.0021 },
            "volume_placement_strategy": "recommended",
            "volume_provision_source_user_agent": "storageos-cli/2.4.2 (alice-laptop)",
            "volume_replica_delete_deployment": 0,
            "volume_replica_failover_deployment": 1,
            "volume_replica_promote": 1,
            "volume_replica_provision": 2,
            "volume_replicas": 2,
            "volume_replica_trigger_rejoin": 1,
            "volume_size_bytes": 5_368_709_120_u64,
        })
    };
    json!({
        "api_call_metrics": { "ListNodes": { "200": 14 }, "CreateVolume": { "201": 2, "409": 1 } },
        "cluster_disable_crash_reporting": false,
        "cluster_disable_version_check": false,
        "cluster_log_format": "json",
        "cluster_log_level": "info",
        "cluster_tls_provided": false,
        "k8s_distribution": "rancher-1.2",
        "k8s_in_k8s": true,
        "k8s_scheduler_extender_enabled": true,
        "k8s_version": "v1.31.2+rke2r1",
        "nodes": [node(NODE_ID), node("storage-8.rack-3.corp.internal")],
        "volumes": (0..volumes).map(volume).collect::<Vec<_>>(),
    })
}

/// Every name of the list stands in the report, with a value for each record.
fn assert_complete(plaintext: &[u8], nodes: usize, volumes: usize) {
    let text = std::str::from_utf8(plaintext).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last(), Some(&json!({ "end": { "nodes": nodes, "volumes": volumes } })));
    assert_eq!(FIELDS.len(), 48);
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
    assert_eq!((submitted.status.code(), &*submitted.stdout), (Some(0), &b"delivered\n"[..]), "{}", both(&submitted));
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

#[test]
fn python_opens_a_report_of_several_chunks() {
    let cluster = Cluster::new("X25519");
    let collector = cluster.collector();
    let file = cluster.write_document(&document(5000));
    let preview = cluster.report("preview", &file, &collector);
    assert!(preview.status.success(), "{}", both(&preview));
    let submitted = cluster.report("submit", &file, &collector);
    assert_eq!(submitted.status.code(), Some(0), "{}", both(&submitted));
    let (plaintext, facts) = cluster.opened(&collector);
    assert!(facts["chunks"].as_u64().unwrap() >= 2, "{facts}");
    assert!(plaintext == preview.stdout, "the sealed report is not what was previewed");
    assert!(bytes_of(&cluster.sent()[0]) == plaintext, "the administrator's copy is not what was sealed");
    assert_complete(&plaintext, 2, 5000);
    assert_anonymous("the report", &plaintext);
}

#[test]
fn python_opens_a_report_sealed_with_the_post_quantum_hybrid() {
    const X_WING: u64 = 0x647a;
    let cluster = Cluster::new("X-Wing");
    let collector = cluster.collector();
    let file = cluster.write_document(&document(3));
    let submitted = cluster.report("submit", &file, &collector);
    assert_eq!(submitted.status.code(), Some(0), "{}", both(&submitted));
    let (plaintext, facts) = cluster.opened(&collector);
    assert_eq!((facts["kem"].as_u64(), facts["chunks"].as_u64()), (Some(X_WING), Some(1)), "{facts}");
    assert!(bytes_of(&cluster.sent()[0]) == plaintext, "the administrator's copy is not what was sealed");
    assert_complete(&plaintext, 2, 3);
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
    let clusters: Vec<&mut Value> = memory["last"].as_object_mut().unwrap().values_mut().collect();
    let [last] = clusters.try_into().unwrap();
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
