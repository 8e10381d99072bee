//! A cluster that sends reports: a vendor's key, a state directory, and documents with every field.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{
    CLUSTER_ID, Collector, NODE_ID, Said, TempDir, VERSION, files_in, ondat, program, python, run, stay_within_one_day,
    succeed,
};

/// A vendor's key, a cluster's state directory and a place for the collector's folder.
pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    pub(crate) state_dir: PathBuf,
}

impl Cluster {
    pub(crate) fn new(kem: &str) -> Self {
        stay_within_one_day();
        let folder = TempDir::new();
        let state_dir = folder.state_dir();
        let cluster = Self { folder, state_dir };
        succeed(ondat(&["keygen", "report", "--kem", kem, "--out"]).arg(cluster.folder.join("keys")));
        cluster
    }

    pub(crate) fn public_keys(&self) -> PathBuf {
        self.folder.join("keys/report-keys.json")
    }

    pub(crate) fn collector(&self) -> Collector {
        Collector::serve(&self.folder.join("collector"), &self.public_keys())
    }

    pub(crate) fn write_document(&self, document: &Value) -> PathBuf {
        let path = self.folder.join("document.json");
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }

    pub(crate) fn who(&self, command: &mut Command) {
        command.env("ONDAT_TELEMETRY_VERSION", VERSION);
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", CLUSTER_ID).env("ONDAT_TELEMETRY_NODE_ID", NODE_ID);
        command.env("ONDAT_TELEMETRY_STATE_DIR", &self.state_dir);
    }

    /// `ondat-telemetry report` with this cluster's settings.
    pub(crate) fn report(&self, action: &str, document: &Path, collector: &Collector) -> Output {
        let mut command = ondat(&["report", action]);
        self.who(&mut command);
        command.arg(document).args(["--report-url", &collector.url, "--ca-file", &collector.ca_file]);
        command.arg("--report-keys").arg(self.public_keys());
        run(&mut command)
    }

    /// What a program needs to send this cluster's reports there.
    pub(crate) fn settings(&self, command: &mut Command, url: &str, ca_file: &str) {
        self.who(command);
        command.env("ONDAT_TELEMETRY_REPORT_URL", url).env("ONDAT_TELEMETRY_CA_FILE", ca_file);
        command.env("ONDAT_TELEMETRY_REPORT_KEYS", std::fs::read_to_string(self.public_keys()).unwrap());
    }

    /// `probe` with this cluster's settings and a collector that may be gone.
    pub(crate) fn probe(&self, probe: &Path, arguments: &[&str], url: &str, ca_file: &str) -> Said {
        let mut command = program(probe);
        self.settings(&mut command, url, ca_file);
        Said::of(&run(command.args(arguments)))
    }

    /// The plaintext of the only report the collector has, and what Python says about the file.
    pub(crate) fn opened(&self, collector: &Collector) -> (Vec<u8>, Value) {
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
    pub(crate) fn sent(&self) -> Vec<PathBuf> {
        files_in(&self.state_dir.join("sent"))
    }

    pub(crate) fn spool(&self) -> Vec<PathBuf> {
        files_in(&self.state_dir.join("spool/reports"))
    }
}

/// A document with every field of the list.
pub(crate) fn document(volumes: usize) -> Value {
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
