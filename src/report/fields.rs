//! The 48 fields of the daily report: the exhaustive list, and what each may hold. Everything else that speaks
//! of fields (validation, the README's table, the schema, the tests) comes from here or is tested against it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::identity::{Anonymiser, Purpose};

/// What a field describes, which is also where it stands in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Once per report, at the document's top level.
    Cluster,
    /// Once per node, in `nodes`.
    Node,
    /// Once per volume, in `volumes`.
    Volume,
}

/// The type and range of a field's value. `null` is always allowed: unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// An unsigned 64-bit integer.
    Count,
    /// An unsigned 64-bit integer of at most this much.
    CountUpTo(u64),
    /// A string of at most 256 bytes out of a closed set.
    OneOf(&'static [&'static str]),
    /// A string of at most this many bytes.
    Text(usize),
    /// A SemVer version; a leading `v` is allowed.
    Version,
    /// RFC 3339 in UTC, ending in `Z`.
    Timestamp,
    /// A raw id, sent in anonymised form only.
    Id(Purpose),
    /// Key to value, at most 64 entries; what is not on the public list is anonymised.
    Labels,
    /// Metric name to finite number, at most 64 entries.
    Metrics,
    /// Operation name to status code to count.
    ApiCalls,
    /// `total`, `free` and `available` in bytes.
    Capacity,
    /// `endpoints` (a number of them), `namespaced` and `tls`.
    EtcdConfig,
    /// A `User-Agent`; only product and version are sent.
    UserAgent,
}

/// One line of the list.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The field's name, fixed by the product's published page.
    pub name: &'static str,
    /// What it describes.
    pub level: Level,
    /// What it may hold.
    pub kind: Kind,
}

/// A value as the host gives it, lent by whoever read it.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// Unknown.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An unsigned integer.
    Count(u64),
    /// A string.
    Text(&'a str),
    /// An object.
    Object(&'a Map<String, Value>),
    /// What no field may hold: other numbers, arrays.
    Other,
}

impl<'a> From<&'a Value> for Given<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => number.as_u64().map_or(Self::Other, Self::Count),
            Value::String(text) => Self::Text(text),
            Value::Object(object) => Self::Object(object),
            Value::Array(_) => Self::Other,
        }
    }
}

const fn cluster(name: &'static str, kind: Kind) -> Field {
    Field { name, level: Level::Cluster, kind }
}

const fn node(name: &'static str, kind: Kind) -> Field {
    Field { name, level: Level::Node, kind }
}

const fn volume(name: &'static str, kind: Kind) -> Field {
    Field { name, level: Level::Volume, kind }
}

/// The list, in the order in which fields are sent.
pub const FIELDS: [Field; 48] = [
    cluster("api_call_metrics", Kind::ApiCalls),
    cluster("cluster_disable_crash_reporting", Kind::Bool),
    cluster("cluster_disable_version_check", Kind::Bool),
    cluster("cluster_log_format", Kind::OneOf(&["default", "json"])),
    cluster("cluster_log_level", Kind::OneOf(&["debug", "info", "warn", "error"])),
    cluster("cluster_tls_provided", Kind::Bool),
    cluster("k8s_distribution", Kind::Text(STRING_BYTES)),
    cluster("k8s_in_k8s", Kind::Bool),
    cluster("k8s_scheduler_extender_enabled", Kind::Bool),
    cluster("k8s_version", Kind::Text(STRING_BYTES)),
    node("node_available_bytes", Kind::Count),
    node("node_capacity", Kind::Capacity),
    node("node_crash_files_on_disk", Kind::Count),
    node("node_created_at_time", Kind::Timestamp),
    node("node_etcd_config", Kind::EtcdConfig),
    node("node_etcd_namespacing_enabled", Kind::Bool),
    node("node_etcd_tls_enabled", Kind::Bool),
    node("node_free_bytes", Kind::Count),
    node("node_health", Kind::OneOf(&["online", "offline", "unknown"])),
    node("node_http_tls_enabled", Kind::Bool),
    node("node_id", Kind::Id(Purpose::Node)),
    node("node_labels", Kind::Labels),
    node("node_status", Kind::Text(STRING_BYTES)),
    node("node_storageos_version", Kind::Version),
    node("node_system_clock_time", Kind::Timestamp),
    node("node_total_bytes", Kind::Count),
    node("node_version", Kind::Text(30)),
    volume("volume_fs_type", Kind::OneOf(&["ext2", "ext3", "ext4", "xfs", "btrfs", "block"])),
    volume("volume_id", Kind::Id(Purpose::Volume)),
    volume("volume_labels", Kind::Labels),
    volume("volume_master_attach", Kind::Count),
    volume("volume_master_delete_deployment", Kind::Count),
    volume("volume_master_detach", Kind::Count),
    volume("volume_master_failover_deployment", Kind::Count),
    volume("volume_master_promote", Kind::Count),
    volume("volume_master_provision", Kind::Count),
    volume("volume_master_recover_replica", Kind::Count),
    volume("volume_master_trigger_rejoin", Kind::Count),
    volume("volume_metrics", Kind::Metrics),
    volume("volume_placement_strategy", Kind::Text(STRING_BYTES)),
    volume("volume_provision_source_user_agent", Kind::UserAgent),
    volume("volume_replica_delete_deployment", Kind::Count),
    volume("volume_replica_failover_deployment", Kind::Count),
    volume("volume_replica_promote", Kind::Count),
    volume("volume_replica_provision", Kind::Count),
    volume("volume_replicas", Kind::CountUpTo(5)),
    volume("volume_replica_trigger_rejoin", Kind::Count),
    volume("volume_size_bytes", Kind::Count),
];

/// The longest string in a report, label keys and values included, in bytes.
pub const STRING_BYTES: usize = 256;
/// The most labels or metrics of one record.
pub const ENTRIES: usize = 64;

/// Labels that say nothing about a particular cluster and stay as they are.
const PUBLIC_LABELS: [&str; 5] = [
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const PUBLIC_LABEL_PREFIX: &str = "storageos.com/";

impl Level {
    /// The fields of this level, in the list's order.
    pub fn fields(self) -> impl Iterator<Item = &'static Field> {
        FIELDS.iter().filter(move |field| field.level == self)
    }

    /// The field of this level with that name.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().find(|field| field.name == name)
    }
}

impl Field {
    /// Checks a value as the host gives it. The error says what was expected.
    pub fn check<'a>(&self, value: impl Into<Given<'a>>) -> Result<(), String> {
        let value = value.into();
        let is_right = matches!(value, Given::Null) || self.holds(value);
        if is_right { Ok(()) } else { Err(format!("expected {}", self.expectation())) }
    }

    /// Checks a value as it was sent: as [`check`](Self::check), and nothing raw in it.
    pub fn check_sent(&self, value: &Value) -> Result<(), String> {
        self.check(value)?;
        let anonymised = match (self.kind, value) {
            (Kind::Id(_), Value::String(id)) => is_anonymised(id),
            (Kind::Labels, Value::Object(labels)) => labels.iter().all(|(key, value)| {
                is_public_label(key) || (is_anonymised(key) && value.as_str().is_some_and(is_anonymised))
            }),
            (Kind::UserAgent, Value::String(agent)) => product_and_version(agent) == agent,
            _ => true,
        };
        if anonymised { Ok(()) } else { Err("expected nothing but anonymised ids".to_owned()) }
    }

    /// Writes a checked value as JSON, in the form in which it leaves the process.
    pub fn publish<'a>(
        &self,
        value: impl Into<Given<'a>>,
        anonymiser: &mut Anonymiser,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        match (self.kind, value.into()) {
            (Kind::Id(purpose), Given::Text(raw)) => serde_json::to_writer(out, &anonymiser.hex(purpose, raw)),
            (Kind::UserAgent, Given::Text(agent)) => serde_json::to_writer(out, product_and_version(agent)),
            (Kind::Labels, Given::Object(labels)) => {
                let labels = labels.iter().map(|(key, value)| publish_label(key, value, anonymiser));
                serde_json::to_writer(out, &labels.collect::<BTreeMap<_, _>>())
            }
            (_, Given::Text(text)) => serde_json::to_writer(out, text),
            (_, Given::Count(count)) => serde_json::to_writer(out, &count),
            (_, Given::Bool(value)) => serde_json::to_writer(out, &value),
            (_, Given::Object(object)) => serde_json::to_writer(out, object),
            (_, Given::Null | Given::Other) => serde_json::to_writer(out, &()),
        }
    }

    fn holds(&self, value: Given<'_>) -> bool {
        match (self.kind, value) {
            (Kind::Bool, Given::Bool(_)) | (Kind::Count, Given::Count(_)) => true,
            (Kind::CountUpTo(most), Given::Count(count)) => count <= most,
            (Kind::OneOf(words), Given::Text(text)) => words.contains(&text),
            (Kind::Text(bytes), Given::Text(text)) => text.len() <= bytes,
            (Kind::Version, Given::Text(text)) => {
                text.len() <= STRING_BYTES && semver::Version::parse(text.strip_prefix('v').unwrap_or(text)).is_ok()
            }
            (Kind::Timestamp, Given::Text(text)) => text.len() <= STRING_BYTES && is_timestamp(text),
            (Kind::Id(_), Given::Text(text)) => (1..=STRING_BYTES).contains(&text.len()),
            (Kind::UserAgent, Given::Text(text)) => text.len() <= STRING_BYTES,
            (Kind::Labels, Given::Object(labels)) => {
                let is_text = |value: &Value| value.as_str().is_some_and(|text| text.len() <= STRING_BYTES);
                labels.len() <= ENTRIES && labels.iter().all(|(key, value)| key.len() <= STRING_BYTES && is_text(value))
            }
            (Kind::Metrics, Given::Object(metrics)) => {
                metrics.len() <= ENTRIES
                    && metrics.iter().all(|(name, value)| {
                        is_name(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                            && value.as_f64().is_some_and(f64::is_finite)
                    })
            }
            (Kind::ApiCalls, Given::Object(operations)) => operations.iter().all(|(name, codes)| {
                is_name(name, |c| c.is_ascii_alphanumeric() || c == '_')
                    && codes
                        .as_object()
                        .is_some_and(|codes| codes.iter().all(|(code, count)| is_http_status(code) && count.is_u64()))
            }),
            (Kind::Capacity, Given::Object(object)) => {
                is_record(object, &[("total", Value::is_u64), ("free", Value::is_u64), ("available", Value::is_u64)])
            }
            (Kind::EtcdConfig, Given::Object(object)) => is_record(
                object,
                &[("endpoints", Value::is_u64), ("namespaced", Value::is_boolean), ("tls", Value::is_boolean)],
            ),
            _ => false,
        }
    }

    /// The field's type and range in words.
    pub fn expectation(&self) -> String {
        match self.kind {
            Kind::Bool => "true or false".to_owned(),
            Kind::Count => "an integer from 0 to 18446744073709551615".to_owned(),
            Kind::CountUpTo(most) => format!("an integer from 0 to {most}"),
            Kind::OneOf(words) => format!("one of {}", words.join(", ")),
            Kind::Text(bytes) => format!("a string of at most {bytes} bytes"),
            Kind::Version => "a SemVer version such as 2.8.2".to_owned(),
            Kind::Timestamp => "a time in RFC 3339 and UTC such as 2026-01-31T12:00:00Z".to_owned(),
            Kind::Id(_) => format!("a string of 1 to {STRING_BYTES} bytes"),
            Kind::Labels => {
                format!("an object of at most {ENTRIES} strings, keys and values of at most {STRING_BYTES} bytes")
            }
            Kind::Metrics => format!("an object of at most {ENTRIES} finite numbers, names of 1 to 64 of a-z 0-9 _"),
            Kind::ApiCalls => {
                "an object of operation names to objects of status codes (100 to 599) to counts".to_owned()
            }
            Kind::Capacity => "an object with the byte counts total, free and available".to_owned(),
            Kind::EtcdConfig => "an object with endpoints (a count), namespaced and tls (true or false)".to_owned(),
            Kind::UserAgent => format!("a string of at most {STRING_BYTES} bytes"),
        }
    }
}

/// RFC 3339 in UTC. What humantime lets pass besides are a point without a fraction and an offset before the `Z`.
fn is_timestamp(text: &str) -> bool {
    let fraction = text.strip_suffix('Z').and_then(|text| text.get("2026-01-31T12:00:00".len()..));
    let is_fraction =
        |text: &str| text.strip_prefix('.').is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    fraction.is_some_and(|text| text.is_empty() || is_fraction(text)) && humantime::parse_rfc3339(text).is_ok()
}

fn is_name(name: &str, allowed: impl Fn(char) -> bool) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

fn is_http_status(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_digit()) && ("100"..="599").contains(&code)
}

/// A member of a fixed object and what its value must be.
type Member = (&'static str, fn(&Value) -> bool);

/// Whether the object has some of these members, each of its type or null, and no others.
fn is_record(object: &Map<String, Value>, members: &[Member]) -> bool {
    object.iter().all(|(name, value)| {
        members.iter().any(|(member, is_right)| member == name && (value.is_null() || is_right(value)))
    })
}

fn is_public_label(key: &str) -> bool {
    PUBLIC_LABELS.contains(&key) || key.starts_with(PUBLIC_LABEL_PREFIX)
}

fn is_anonymised(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn publish_label<'a>(key: &'a str, value: &'a Value, anonymiser: &mut Anonymiser) -> (Cow<'a, str>, Cow<'a, str>) {
    let value = value.as_str().unwrap_or_default();
    if is_public_label(key) {
        return (key.into(), value.into());
    }
    (anonymiser.label_key(key).into(), anonymiser.hex(Purpose::LabelValue, value).into())
}

/// The first product of a `User-Agent` with its version (RFC 9110, 10.1.5); comments and further products may
/// name hosts and people.
fn product_and_version(agent: &str) -> &str {
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
    let product = agent.find(|c| !is_token(c)).unwrap_or(agent.len());
    let Some(version) = agent[product..].strip_prefix('/') else {
        return &agent[..product];
    };
    let version = version.find(|c| !is_token(c)).unwrap_or(version.len());
    &agent[..product + 1 + version]
}
