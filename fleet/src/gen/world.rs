//! The fleet that is made up: what each cluster is on each day.

use ondat_telemetry_protocol::identity::Identity;
use serde_json::{Map, Value, json};

use super::random::Random;
use crate::data::Day;

/// The product's releases: on which day of the fleet each came out.
pub(crate) const RELEASES: [(&str, i64); 5] =
    [("2.7.0", -200), ("2.8.0", -60), ("2.8.1", 5), ("2.9.0-rc.1", 12), ("2.9.0", 20)];
const DISTRIBUTIONS: [&str; 6] = ["eks", "gke", "openshift-4.16", "rke2", "k3s", "kubeadm"];
const KUBERNETES: [&str; 6] = ["v1.27.16", "v1.29.9", "v1.30.5+rke2r1", "v1.31.2", "v1.31.2-gke.100", "v1.32.0"];
const OPERATIONS: [&str; 5] = ["ListVolumes", "CreateVolume", "GetNode", "UpdateNode", "AttachVolume"];
const FILE_SYSTEMS: [&str; 4] = ["ext4", "xfs", "btrfs", "block"];
const AGENTS: [&str; 3] = ["storageos-cli/2.4.2", "kubectl/v1.31.2", "csi-provisioner"];
const GIB: u64 = 1 << 30;

/// One cluster, for as long as the fleet is watched.
pub(crate) struct Cluster {
    seed: u64,
    number: u64,
    pub(crate) identity: Identity,
    /// The day of the fleet on which it first reports.
    pub(crate) born: i64,
    nodes: u64,
    volumes: u64,
    /// Days after a release on which it upgrades; never, for one that is stuck half-way.
    lag: i64,
    pub(crate) is_stuck: bool,
    is_unreplicated: bool,
}

impl Cluster {
    pub(crate) fn new(seed: u64, number: u64, days: i64) -> Self {
        let mut random = Random::new(seed, &[1, number]);
        let born = if random.happens(600) { 0 } else { i64::try_from(random.below(days as u64)).unwrap_or(0) };
        let nodes = 1 + random.below(5) * random.below(4) + random.below(3);
        Self {
            seed,
            number,
            identity: Identity::from_key(random.bytes()),
            born,
            nodes,
            volumes: random.below(4) * random.below(12),
            lag: i64::try_from(random.below(40)).unwrap_or(0),
            is_stuck: random.happens(50),
            is_unreplicated: random.happens(300),
        }
    }

    pub(crate) fn node_name(&self, node: u64) -> String {
        format!("c{}-node-{node}", self.number)
    }

    /// How many nodes it has on a day: clusters grow.
    pub(crate) fn nodes_on(&self, day: i64) -> u64 {
        self.nodes + u64::try_from((day - self.born) / 30).unwrap_or(0)
    }

    fn volumes_on(&self, day: i64) -> u64 {
        self.volumes + u64::try_from((day - self.born) / 7).unwrap_or(0) * (self.volumes / 8)
    }

    /// The version of a node on a day.
    pub(crate) fn version(&self, node: u64, day: i64) -> &'static str {
        // A stuck cluster has upgraded its first nodes and stays there.
        let lag = if self.is_stuck && node % 2 == 1 { i64::MAX / 2 } else { self.lag };
        let is_known = |(_, released): &&(&str, i64)| *released <= -60 || day >= released.saturating_add(lag);
        RELEASES.iter().rev().find(is_known).map_or(RELEASES[0].0, |(version, _)| version)
    }

    pub(crate) fn random(&self, purpose: u64, day: i64) -> Random {
        Random::new(self.seed, &[purpose, self.number, day.unsigned_abs()])
    }

    /// The report's document of a day, with so many nodes.
    pub(crate) fn document(&self, day: i64, date: &str, nodes: u64) -> Document {
        let mut random = self.random(2, day);
        let mut calls = Map::new();
        for operation in OPERATIONS {
            let mut codes = Map::new();
            codes.insert("200".to_owned(), (1000 + random.below(100_000)).into());
            if random.happens(300) {
                codes.insert("409".to_owned(), random.below(50).into());
            }
            if random.happens(100) {
                codes.insert("500".to_owned(), (1 + random.below(9)).into());
            }
            calls.insert(operation.to_owned(), codes.into());
        }
        let mut of_cluster = Random::new(self.seed, &[3, self.number]);
        let cluster = json!({
            "api_call_metrics": calls,
            "cluster_disable_crash_reporting": of_cluster.happens(100),
            "cluster_disable_version_check": of_cluster.happens(50),
            "cluster_log_format": if of_cluster.happens(800) { "default" } else { "json" },
            "cluster_log_level": of_cluster.pick(&["info", "info", "debug", "warn"]),
            "cluster_tls_provided": of_cluster.happens(400),
            "k8s_distribution": of_cluster.pick(&DISTRIBUTIONS),
            "k8s_in_k8s": of_cluster.happens(50),
            "k8s_scheduler_extender_enabled": of_cluster.happens(700),
            "k8s_version": of_cluster.pick(&KUBERNETES),
        });
        let nodes = (0..nodes).map(|node| self.node(node, day, date)).collect();
        let volumes = (0..self.volumes_on(day)).map(|volume| self.volume(volume, day)).collect();
        Document { cluster: object(cluster), nodes, volumes }
    }

    fn node(&self, node: u64, day: i64, date: &str) -> Map<String, Value> {
        let mut random = Random::new(self.seed, &[4, self.number, node]);
        let total = (20 + random.below(2000)) * GIB + random.below(GIB);
        let free =
            total / 1000 * (100 + Random::new(self.seed, &[5, self.number, node, day.unsigned_abs()]).below(800));
        let mut record = object(json!({
            "node_available_bytes": free / 20 * 19,
            "node_capacity": {"total": total, "free": free, "available": free / 20 * 19},
            "node_crash_files_on_disk": random.below(2),
            "node_created_at_time": "2026-01-31T12:00:00Z",
            "node_etcd_config": {"endpoints": 1 + random.below(5), "namespaced": random.happens(500), "tls": random.happens(600)},
            "node_etcd_namespacing_enabled": random.happens(500),
            "node_etcd_tls_enabled": random.happens(600),
            "node_free_bytes": free,
            "node_health": if random.happens(970) { "online" } else { "offline" },
            "node_http_tls_enabled": random.happens(500),
            "node_id": self.node_name(node),
            "node_labels": {"kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": format!("zone-{}", random.below(3)), "team": "storage"},
            "node_status": "ready",
            "node_storageos_version": self.version(node, day),
            "node_system_clock_time": format!("{date}T12:00:00Z"),
            "node_total_bytes": total,
            "node_version": "MTIzNDU2",
        }));
        if self.number.is_multiple_of(7) {
            // An old host says less.
            record.remove("node_id");
            record.remove("node_capacity");
        }
        record
    }

    fn volume(&self, volume: u64, day: i64) -> Map<String, Value> {
        let mut random = Random::new(self.seed, &[6, self.number, volume]);
        // Cumulative since the volume's creation, and more on some days than on others.
        let age = u64::try_from(day + 1).unwrap_or(0);
        let mut grown = |thousandths: u64| {
            let phase = random.below(1000);
            (age * thousandths + phase) / 1000
        };
        let (failovers, rejoins, recoveries, promotions) = (grown(40), grown(20), grown(30), grown(10));
        let attaches = grown(2000);
        let mut record = object(json!({
            "volume_fs_type": random.pick(&FILE_SYSTEMS),
            "volume_id": format!("c{}-volume-{volume}", self.number),
            "volume_labels": {"storageos.com/replicas": "1", "app": format!("app-{}", volume % 3)},
            "volume_master_attach": attaches,
            "volume_master_detach": attaches.saturating_sub(1),
            "volume_master_failover_deployment": failovers,
            "volume_master_promote": promotions,
            "volume_master_provision": 1,
            "volume_master_recover_replica": recoveries,
            "volume_master_trigger_rejoin": rejoins,
            "volume_metrics": {"read_bytes": random.below(1 << 40), "latency_ms": random.below(1000) as f64 / 8.0},
            "volume_provision_source_user_agent": random.pick(&AGENTS),
            "volume_replicas": if self.is_unreplicated { 0 } else { 1 + random.below(3) },
            "volume_replica_promote": promotions,
            "volume_replica_provision": random.below(3),
            "volume_size_bytes": (1 + random.below(500)) * GIB,
        }));
        if random.happens(500) {
            record.insert("volume_placement_strategy".to_owned(), "topology-aware".into());
        }
        record
    }
}

/// What a host gives.
pub(crate) struct Document {
    pub(crate) cluster: Map<String, Value>,
    pub(crate) nodes: Vec<Map<String, Value>>,
    pub(crate) volumes: Vec<Map<String, Value>>,
}

impl Document {
    /// Of a throwaway cluster that somebody makes up.
    pub(crate) fn forged(random: &mut Random) -> Self {
        let node = json!({"node_id": format!("forged-{}", random.next()), "node_total_bytes": random.below(GIB)});
        Self { cluster: Map::new(), nodes: vec![object(node)], volumes: Vec::new() }
    }

    /// The sum of a field over the volumes.
    pub(crate) fn volume_bytes(&self) -> u64 {
        self.volumes.iter().filter_map(|volume| volume["volume_size_bytes"].as_u64()).sum()
    }

    /// All API calls.
    pub(crate) fn api_calls(&self) -> u64 {
        let operations = self.cluster.get("api_call_metrics").and_then(Value::as_object);
        let codes = operations.into_iter().flat_map(Map::values).filter_map(Value::as_object);
        codes.flat_map(Map::values).filter_map(Value::as_u64).sum()
    }
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// The day of the fleet as a date.
pub(crate) fn date(first: Day, day: i64) -> Day {
    Day::try_from(i64::from(first) + day).unwrap_or(0)
}
