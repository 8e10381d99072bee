//! The fields of the daily report: the exhaustive list, and what each may hold. Everything else that speaks
//! of fields (validation, the README's table, the schema, the tests) comes from here or is tested against it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::buffer::Buffer;
use crate::identity::{Anonymiser, Purpose, is_hex_id, raw_id};
use crate::limits::{ENTRIES, ID_BYTES, STRING_BYTES, VERSION_BYTES};
use crate::time::is_rfc3339;

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
    /// A string out of a closed set.
    OneOf(&'static [&'static str]),
    /// A string of this form.
    Text(Form),
    /// A name of [`DISTRIBUTIONS`], with or without `-x.y`; every other string is sent as [`OTHER_DISTRIBUTION`].
    Distribution,
    /// A SemVer version; a leading `v` is cut.
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
    /// A `User-Agent`: any string. Only product and version are sent, where they have their forms.
    UserAgent,
}

/// The form of a string that is not of a closed set. An empty string is of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What Kubernetes calls its gitVersion.
    KubernetesVersion,
    /// The opaque version of an entity.
    EntityVersion,
    /// One word.
    Word,
}

impl Form {
    /// As a regular expression of ECMA-262 and others, without anchors.
    pub fn pattern(self) -> &'static str {
        match self {
            Self::KubernetesVersion => "v?[0-9][A-Za-z0-9.+~_-]{0,62}",
            Self::EntityVersion => "[A-Za-z0-9+/=_-]{1,30}",
            Self::Word => "[A-Za-z0-9_-]{1,64}",
        }
    }

    fn has(self, text: &str) -> bool {
        match self {
            Self::KubernetesVersion => is_numbered(text, 62),
            Self::EntityVersion => is_of(text, 30, |b| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b)),
            Self::Word => is_of(text, 64, |b| b.is_ascii_alphanumeric() || b"_-".contains(&b)),
        }
    }
}

/// `v?[0-9][A-Za-z0-9.+~_-]{0,most}`
fn is_numbered(text: &str, most: usize) -> bool {
    let mut bytes = text.strip_prefix('v').unwrap_or(text).bytes();
    bytes.next().is_some_and(|first| first.is_ascii_digit())
        && bytes.len() <= most
        && bytes.all(|b| b.is_ascii_alphanumeric() || b".+~_-".contains(&b))
}

fn is_of(text: &str, most: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(allowed)
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
pub const FIELDS: &[Field] = &[
    cluster("api_call_metrics", Kind::ApiCalls),
    cluster("cluster_disable_crash_reporting", Kind::Bool),
    cluster("cluster_disable_version_check", Kind::Bool),
    cluster("cluster_log_format", Kind::OneOf(&["default", "json"])),
    cluster("cluster_log_level", Kind::OneOf(&["debug", "info", "warn", "error"])),
    cluster("cluster_tls_provided", Kind::Bool),
    cluster("k8s_distribution", Kind::Distribution),
    cluster("k8s_in_k8s", Kind::Bool),
    cluster("k8s_scheduler_extender_enabled", Kind::Bool),
    cluster("k8s_version", Kind::Text(Form::KubernetesVersion)),
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
    node("node_status", Kind::Text(Form::Word)),
    node("node_storageos_version", Kind::Version),
    node("node_system_clock_time", Kind::Timestamp),
    node("node_total_bytes", Kind::Count),
    node("node_version", Kind::Text(Form::EntityVersion)),
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
    volume("volume_placement_strategy", Kind::Text(Form::Word)),
    volume("volume_provision_source_user_agent", Kind::UserAgent),
    volume("volume_replica_delete_deployment", Kind::Count),
    volume("volume_replica_failover_deployment", Kind::Count),
    volume("volume_replica_promote", Kind::Count),
    volume("volume_replica_provision", Kind::Count),
    volume("volume_replicas", Kind::CountUpTo(5)),
    volume("volume_replica_trigger_rejoin", Kind::Count),
    volume("volume_size_bytes", Kind::Count),
];

/// The Kubernetes distributions that are sent by name.
pub const DISTRIBUTIONS: [&str; 31] = [
    "ack",
    "aks",
    "aws-eks",
    "canonical-kubernetes",
    "charmed-kubernetes",
    "digitalocean",
    "docker-desktop",
    "docker-enterprise",
    "eks",
    "eks-anywhere",
    "gke",
    "iks",
    "k0s",
    "k3d",
    "k3s",
    "kind",
    "kops",
    "kubeadm",
    "kubernetes",
    "kubespray",
    "kubesphere",
    "microk8s",
    "minikube",
    "okd",
    "oke",
    "openshift",
    "pks",
    "rancher",
    "rke",
    "rke2",
    "tanzu",
];
/// Any other one.
pub const OTHER_DISTRIBUTION: &str = "other";

/// The values of a label that is sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelForm {
    /// 1 to 63 letters, digits, points, hyphens and underscores.
    Name,
    /// `true` or `false`.
    Bool,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// The labels that say nothing about a particular cluster and stay as they are, where their value has this form. Names
/// below `storageos.com` are not public as such: `storageos.com/hint.master` holds the name of a host.
pub const PUBLIC_LABELS: [(&str, LabelForm); 12] = [
    ("kubernetes.io/arch", LabelForm::Name),
    ("kubernetes.io/os", LabelForm::Name),
    ("node.kubernetes.io/instance-type", LabelForm::Name),
    ("storageos.com/computeonly", LabelForm::Bool),
    ("storageos.com/encryption", LabelForm::Bool),
    ("storageos.com/failure-mode", LabelForm::OneOf(&["hard", "soft", "alwayson", "0", "1", "2", "3", "4", "5"])),
    ("storageos.com/nocache", LabelForm::Bool),
    ("storageos.com/nocompress", LabelForm::Bool),
    ("storageos.com/replicas", LabelForm::OneOf(&["0", "1", "2", "3", "4", "5"])),
    ("storageos.com/topology-aware", LabelForm::Bool),
    ("topology.kubernetes.io/region", LabelForm::Name),
    ("topology.kubernetes.io/zone", LabelForm::Name),
];

impl LabelForm {
    fn has(self, value: &str) -> bool {
        match self {
            Self::Name => is_of(value, 63, |b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            Self::Bool => matches!(value, "true" | "false"),
            Self::OneOf(words) => words.contains(&value),
        }
    }

    /// The form in words.
    pub fn expectation(self) -> String {
        match self {
            Self::Name => "1 to 63 of A-Z a-z 0-9 . _ -".to_owned(),
            Self::Bool => "true, false".to_owned(),
            Self::OneOf(words) => words.join(", "),
        }
    }
}

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
        let is_as_sent = match (self.kind, value) {
            (Kind::Id(_), Value::String(id)) => is_hex_id(id),
            (Kind::Labels, Value::Object(labels)) => labels.iter().all(|(key, value)| {
                let value = value.as_str().unwrap_or_default();
                is_public_label(key, value) || (is_hex_id(key) && is_hex_id(value))
            }),
            (Kind::UserAgent, Value::String(agent)) => product_and_version(agent) == Some(agent),
            (Kind::Distribution, Value::String(name)) => distribution(name) == name,
            (Kind::Version, Value::String(version)) => !version.starts_with('v'),
            _ => true,
        };
        if is_as_sent { Ok(()) } else { Err("expected the form in which it is sent, ids anonymised".to_owned()) }
    }

    /// Writes a checked value as JSON, in the form in which it leaves the process.
    pub fn publish(&self, value: Given<'_>, anonymiser: &mut Anonymiser, out: &mut Buffer) -> serde_json::Result<()> {
        match (self.kind, value) {
            (Kind::Id(purpose), Given::Text(raw)) => {
                serde_json::to_writer(out, &anonymiser.hex(purpose, raw_id(raw).unwrap_or_default()))
            }
            (Kind::UserAgent, Given::Text(agent)) => serde_json::to_writer(out, &product_and_version(agent)),
            (Kind::Distribution, Given::Text(name)) => serde_json::to_writer(out, distribution(name)),
            (Kind::Version, Given::Text(version)) => serde_json::to_writer(out, without_v(version)),
            (Kind::Labels, Given::Object(labels)) => {
                let mut published = BTreeMap::new();
                for (key, value) in labels {
                    let (key, value) = publish_label(key, value, anonymiser);
                    published.insert(key, value);
                }
                serde_json::to_writer(out, &published)
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
            (Kind::Text(form), Given::Text(text)) => form.has(text),
            // What others than the host decide is no reason to refuse a report.
            (Kind::UserAgent | Kind::Distribution, Given::Text(_)) => true,
            (Kind::Version, Given::Text(text)) => {
                let version = without_v(text);
                version.len() <= VERSION_BYTES && semver::Version::parse(version).is_ok()
            }
            (Kind::Timestamp, Given::Text(text)) => text.len() <= STRING_BYTES && is_rfc3339(text),
            (Kind::Id(_), Given::Text(text)) => raw_id(text).is_ok(),
            (Kind::Labels, Given::Object(labels)) => {
                let is_text = |value: &Value| value.as_str().is_some_and(|text| text.len() <= STRING_BYTES);
                labels.len() <= ENTRIES && labels.iter().all(|(key, value)| key.len() <= STRING_BYTES && is_text(value))
            }
            (Kind::Metrics, Given::Object(metrics)) => {
                metrics.len() <= ENTRIES
                    && metrics
                        .iter()
                        .all(|(name, value)| is_field_name(name) && value.as_f64().is_some_and(f64::is_finite))
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
            Kind::Text(Form::KubernetesVersion) => {
                "a version such as v1.31.2+rke2r1: digits first, then at most 62 of A-Z a-z 0-9 . + ~ _ -".to_owned()
            }
            Kind::Text(Form::EntityVersion) => "a string of 1 to 30 of A-Z a-z 0-9 + / = _ -".to_owned(),
            Kind::Text(Form::Word) => "a string of 1 to 64 of A-Z a-z 0-9 _ -".to_owned(),
            Kind::Distribution => {
                format!(
                    "a string; sent as it is where it is a known name or `name-x.y`, else as `{OTHER_DISTRIBUTION}`"
                )
            }
            Kind::Version => format!("a SemVer version such as 2.8.2, of at most {VERSION_BYTES} bytes"),
            Kind::Timestamp => "a time in RFC 3339 and UTC such as 2026-01-31T12:00:00Z".to_owned(),
            Kind::Id(_) => {
                format!("a string of 1 to {ID_BYTES} bytes without control characters; sent as an anonymised id")
            }
            Kind::Labels => {
                format!("an object of at most {ENTRIES} strings, keys and values of at most {STRING_BYTES} bytes")
            }
            Kind::Metrics => format!("an object of at most {ENTRIES} finite numbers, names of 1 to 64 of a-z 0-9 _"),
            Kind::ApiCalls => {
                "an object of operation names to objects of status codes (100 to 599) to counts".to_owned()
            }
            Kind::Capacity => "an object with the byte counts total, free and available".to_owned(),
            Kind::EtcdConfig => "an object with endpoints (a count), namespaced and tls (true or false)".to_owned(),
            Kind::UserAgent => "a string; product and version are sent where they have their forms".to_owned(),
        }
    }
}

/// Whether a field may have this name, also one that is not on the list yet.
pub fn is_field_name(name: &str) -> bool {
    is_name(name, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
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

fn is_public_label(key: &str, value: &str) -> bool {
    PUBLIC_LABELS.iter().any(|(public, form)| *public == key && form.has(value))
}

fn publish_label<'a>(key: &'a str, value: &'a Value, anonymiser: &mut Anonymiser) -> (Cow<'a, str>, Cow<'a, str>) {
    let value = value.as_str().unwrap_or_default();
    if is_public_label(key, value) {
        return (key.into(), value.into());
    }
    (anonymiser.label_key(key).into(), anonymiser.hex(Purpose::LabelValue, value).into())
}

/// The first product of a `User-Agent` (RFC 9110, 10.1.5), with its version where that has a version's form; comments
/// and further products may name hosts and people, and so may what is no product.
fn product_and_version(agent: &str) -> Option<&str> {
    let first = agent.split(|c: char| c.is_ascii_whitespace()).next()?;
    let (product, version) = first.split_once('/').map_or((first, None), |(product, rest)| (product, Some(rest)));
    if !Form::Word.has(product) {
        return None;
    }
    let has_version = version.is_some_and(|version| is_numbered(version, 31));
    Some(if has_version { first } else { product })
}

/// The name that is sent for a distribution.
fn distribution(name: &str) -> &str {
    let is_number = |text: &str| is_of(text, 4, |b| b.is_ascii_digit());
    let is_version = |text: &str| text.split_once('.').is_some_and(|(x, y)| is_number(x) && is_number(y));
    let is_known = DISTRIBUTIONS.iter().any(|known| {
        let rest = name.strip_prefix(known);
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(is_version))
    });
    if is_known { name } else { OTHER_DISTRIBUTION }
}

fn without_v(version: &str) -> &str {
    version.strip_prefix('v').unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::Identity;

    /// What leaves the process of a value; the reason where that is refused.
    fn sent(level: Level, name: &str, value: &Value) -> Result<Value, String> {
        let field = level.field(name).unwrap();
        field.check(value)?;
        let mut out = Buffer::default();
        field.publish(value.into(), &mut Anonymiser::new(&Identity::from_key([7; 32])), &mut out).unwrap();
        let sent: Value = serde_json::from_slice(&out).unwrap();
        field.check_sent(&sent).unwrap();
        Ok(sent)
    }

    #[test]
    fn of_a_user_agent_only_what_has_the_forms_is_sent() {
        let (long, too_long) = ("x".repeat(64), "x".repeat(65));
        let (version, long_version) = (format!("1{}", "0".repeat(31)), format!("1{}", "0".repeat(32)));
        for (agent, expected) in [
            ("storageos-cli/2.4.2", Some("storageos-cli/2.4.2")),
            ("storageos-cli/2.4.2 (linux; alice) other/1.0", Some("storageos-cli/2.4.2")),
            ("kubectl/v1.31.2+rke2r1 (linux/amd64) kubernetes/25b4e43", Some("kubectl/v1.31.2+rke2r1")),
            ("cli", Some("cli")),
            ("cli/", Some("cli")),
            ("cli/alice", Some("cli")),
            ("cli/v", Some("cli")),
            ("cli/2.4.2@worker-7.corp.example", Some("cli")),
            ("cli/2.4.2/alice", Some("cli")),
            ("cli/2.4.2(alice)", Some("cli")),
            ("cli\t2.4.2", Some("cli")),
            ("alice@corp.example", None),
            ("alice@corp.example/2.4.2", None),
            ("worker-7.corp.example/1.0", None),
            ("10.0.0.1", None),
            ("cli(alice)/1.0", None),
            (" cli/1.0", None),
            ("/1.0", None),
            ("größer/1.0", None),
            ("", None),
            (&*long, Some(&*long)),
            (&*too_long, None),
            (&*format!("c/{version}"), Some(&*format!("c/{version}"))),
            (&*format!("c/v{version}"), Some(&*format!("c/v{version}"))),
            (&*format!("c/{long_version}"), Some("c")),
            (&*format!("cli/1.0 {}", "(alice)".repeat(1000)), Some("cli/1.0")),
        ] {
            let sent = sent(Level::Volume, "volume_provision_source_user_agent", &agent.into());
            assert_eq!(sent, Ok(json!(expected)), "{agent:?}");
        }
        assert!(sent(Level::Volume, "volume_provision_source_user_agent", &json!(5)).is_err());
    }

    #[test]
    fn a_distribution_that_is_not_known_is_other() {
        for name in DISTRIBUTIONS {
            for known in [name.to_owned(), format!("{name}-4.10"), format!("{name}-1.2")] {
                assert_eq!(sent(Level::Cluster, "k8s_distribution", &known.clone().into()), Ok(known.into()));
            }
        }
        let long = "x".repeat(1000);
        for other in [
            "",
            "other",
            "alice",
            "OpenShift",
            "openshift ",
            "openshift-alice",
            "openshift-4",
            "openshift-4.10.1",
            "openshift-4.10-alice",
            "openshift-.",
            "openshift-12345.0",
            "openshift4.10",
            "rancher/1.2",
            "worker-7.corp.example",
            &long,
        ] {
            assert_eq!(sent(Level::Cluster, "k8s_distribution", &other.into()), Ok("other".into()), "{other:?}");
        }
        assert!(sent(Level::Cluster, "k8s_distribution", &json!(true)).is_err());
    }

    #[test]
    fn a_version_of_the_product_goes_without_its_v() {
        let name = "node_storageos_version";
        let long = format!("1.2.3-{}", "a".repeat(VERSION_BYTES - 6));
        for (given, expected) in [("2.8.2", "2.8.2"), ("v2.8.2-rc.1+5", "2.8.2-rc.1+5"), (&*format!("v{long}"), &*long)]
        {
            assert_eq!(sent(Level::Node, name, &given.into()), Ok(expected.into()));
        }
        for wrong in ["", "v", "vv1.2.3", "2.8", "2.8.2 (alice)", &format!("{long}a")] {
            assert!(sent(Level::Node, name, &wrong.into()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn white_space_around_an_id_does_not_make_another_one() {
        let id = |raw: &str| sent(Level::Node, "node_id", &raw.into());
        let plain = id("worker 7");
        for raw in ["worker 7\n", "worker 7\r\n", " worker 7", "\t\u{b}\u{c}worker 7 "] {
            assert_eq!(id(raw), plain, "{raw:?}");
        }
        // Not ASCII: part of the id.
        assert_ne!(id("worker 7\u{a0}"), plain);
        for raw in ["", " \n", "worker\n7", "worker\u{0}7", "worker\u{7f}", "worker\u{85}7", "\u{1b}worker"] {
            assert!(id(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn only_listed_labels_with_values_of_their_forms_stay_as_they_are() {
        let public = [
            ("kubernetes.io/arch", "amd64"),
            ("kubernetes.io/os", "linux"),
            ("node.kubernetes.io/instance-type", "Standard_D4s.v3"),
            ("topology.kubernetes.io/region", "eu-west-2"),
            ("topology.kubernetes.io/zone", "a"),
            ("storageos.com/computeonly", "true"),
            ("storageos.com/nocache", "false"),
            ("storageos.com/nocompress", "true"),
            ("storageos.com/encryption", "true"),
            ("storageos.com/topology-aware", "false"),
            ("storageos.com/replicas", "5"),
            ("storageos.com/failure-mode", "alwayson"),
            ("storageos.com/failure-mode", "0"),
        ];
        for (key, value) in public {
            let labels = json!({ key: value });
            assert_eq!(sent(Level::Volume, "volume_labels", &labels), Ok(labels));
        }
        let long = "a".repeat(64);
        for (key, value) in [
            ("storageos.com/hint.master", "worker-7.corp.example"),
            ("storageos.com/owner", "alice@corp.example"),
            ("storageos.com/", "true"),
            ("storageos.com/replicas ", "2"),
            ("Storageos.com/replicas", "2"),
            ("storageos.com/replicas", "6"),
            ("storageos.com/replicas", "02"),
            ("storageos.com/replicas", "-1"),
            ("storageos.com/replicas", ""),
            ("storageos.com/failure-mode", "6"),
            ("storageos.com/failure-mode", "Hard"),
            ("storageos.com/failure-mode", "alice"),
            ("storageos.com/nocompress", "worker-7"),
            ("storageos.com/nocache", "True"),
            ("storageos.com/encryption", "1"),
            ("storageos.com/topology-aware", ""),
            ("kubernetes.io/arch", "alice@corp"),
            ("kubernetes.io/os", ""),
            ("kubernetes.io/hostname", "worker-7"),
            ("topology.kubernetes.io/zone", "größer"),
            ("topology.kubernetes.io/zone", "a b"),
            ("topology.kubernetes.io/region", &long),
            ("topology.kubernetes.io/region/x", "eu"),
            ("failure-domain.beta.kubernetes.io/zone", "a"),
            ("", ""),
        ] {
            let sent = sent(Level::Node, "node_labels", &json!({ key: value })).unwrap();
            let (sent_key, sent_value) = sent.as_object().unwrap().iter().next().unwrap();
            let identity = Identity::from_key([7; 32]);
            assert_eq!(*sent_key, identity.anonymise_hex(Purpose::LabelKey, key), "{key} {value}");
            assert_eq!(*sent_value, identity.anonymise_hex(Purpose::LabelValue, value), "{key} {value}");
        }
    }
}
