//! Everything raw that a report's making can see is marked, and the mark is looked for in everything it leaves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::fields::FIELDS;
use serde_json::{Value, json};

use crate::cluster::{Cluster, document};
use crate::relay::Relay;
use crate::support::{
    NOBODY, Said, both, bytes_of, command, compile, files_below, files_in, holds, make_private_folder, program, run,
    status,
};

/// In everything that is marked, and in nothing else.
const MARK: &str = "q7taint";

fn marked(what: &str) -> String {
    format!("{MARK}-{what}")
}

/// A document with every field, of which all that is raw is marked.
fn marked_document() -> Value {
    let mut document = document(3);
    for (at, node) in document["nodes"].as_array_mut().unwrap().iter_mut().enumerate() {
        node["node_id"] = marked(&format!("node-{at}")).into();
        node["node_labels"] = json!({
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/os": format!("{} of corp.example", marked("os")),
            "topology.kubernetes.io/region": format!("{}@corp.example", marked("region")),
            "node.kubernetes.io/instance-type": format!("/{}", marked("instance")),
            "storageos.com/owner": format!("{}@corp.example", marked("owner")),
            "storageos.com/computeonly": marked("computeonly"),
            format!("storageos.com/{}", marked("storageos-label")): "true",
            "topology.kubernetes.io/zone": "eu-west-2a",
            "kubernetes.io/hostname": marked("label-host"),
            marked("node-label"): "a value that is no secret",
            format!("{}.example.com/team", marked("label-domain")): marked("node-label-value"),
        });
    }
    for (at, volume) in document["volumes"].as_array_mut().unwrap().iter_mut().enumerate() {
        volume["volume_id"] = marked(&format!("volume-{at}")).into();
        volume["volume_labels"] = json!({
            "storageos.com/replicas": "2",
            "storageos.com/hint.master": format!("{}.corp.example", marked("hint")),
            "storageos.com/failure-mode": marked("failure-mode"),
            "storageos.com/nocompress": format!("true {}", marked("nocompress")),
            "app": marked("volume-label-value"),
            marked("volume-label"): marked("volume-label-value-2"),
        });
        volume["volume_provision_source_user_agent"] = match at {
            0 => format!("storageos-cli/2.4.2 ({}; {}) {}/1.0", marked("user"), marked("host"), marked("product")),
            1 => format!("{}@corp.example/1.0", marked("product")),
            _ => format!("storageos-cli/{}", marked("version")),
        }
        .into();
    }
    document["k8s_distribution"] = format!("openshift-{}", marked("distribution")).into();
    document
}

/// What a secret may look like.
const SECRETS: [&str; 8] = [
    "q7taint@corp.example",
    "q7taint.rack-3.corp.example",
    "/var/lib/q7taint",
    "q7taint 10.0.0.1",
    "q7taint:2379",
    "https://q7taint/",
    "größe q7taint",
    "q7taint\n",
];

/// Documents with one secret each in every place that has a form, which it is not of.
fn refused_documents() -> Vec<Value> {
    let mut documents = Vec::new();
    for secret in SECRETS {
        documents.push(json!({ "k8s_version": secret }));
        documents.push(json!({ "k8s_version": format!("v1.31.2 {secret}") }));
        documents.push(json!({ "cluster_log_level": secret }));
        documents.push(json!({ "api_call_metrics": { secret: { "200": 1 } } }));
        documents.push(json!({ "api_call_metrics": { "ListNodes": { secret: 1 } } }));
        documents.push(json!({ secret: true }));
        for (name, value) in [
            ("node_version", json!(secret)),
            ("node_status", json!(secret)),
            ("node_health", json!(secret)),
            ("node_storageos_version", json!(secret)),
            ("node_storageos_version", json!(format!("2.8.1-{secret}"))),
            ("node_created_at_time", json!(secret)),
            ("node_capacity", json!({ secret: 1 })),
            ("node_etcd_config", json!({ "endpoints": secret })),
        ] {
            // These forms are the vendor's: they let such words pass.
            let has_form =
                ["2.8.1-q7taint.rack-3.corp.example", "/var/lib/q7taint"].contains(&value.as_str().unwrap_or(""));
            if !has_form || name != "node_version" && name != "node_storageos_version" {
                documents.push(json!({ "nodes": [{ name: value }] }));
            }
        }
        for (name, value) in [
            ("volume_placement_strategy", json!(secret)),
            ("volume_fs_type", json!(secret)),
            ("volume_metrics", json!({ secret: 1 })),
            ("volume_id", json!(format!("{secret}\u{7}{secret}"))),
        ] {
            documents.push(json!({ "volumes": [{}, { name: value }] }));
        }
    }
    documents
}

#[test]
fn what_is_not_of_its_form_is_refused_and_nothing_of_it_is_stored() {
    let scene = Scene::new();
    for document in refused_documents() {
        std::fs::write(&scene.document, document.to_string()).unwrap();
        let (said, _) = scene.probe(&["submit", scene.document.to_str().unwrap()], NOBODY);
        assert_eq!(said.number("submit_report"), status::INVALID_REPORT, "{document} {said:?}");
        assert_clean_below(&scene.state_dir);
    }
}

/// A cluster with marked names, and the places that its process can see.
struct Scene {
    cluster: Cluster,
    probe: PathBuf,
    state_dir: PathBuf,
    document: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let cluster = Cluster::new("X25519");
        let folder = cluster.folder.join(&marked("folder"));
        let state_dir = folder.join(marked("state-dir"));
        make_private_folder(&folder);
        make_private_folder(&state_dir);
        let document = folder.join(marked("document.json"));
        std::fs::write(&document, marked_document().to_string()).unwrap();
        Self { probe: compile("probe.c", &cluster.folder), cluster, state_dir, document }
    }

    /// Runs a program on a host with a marked name, for a user with one.
    fn run(&self, path: impl AsRef<OsStr>, arguments: &[&str], url: &str) -> Output {
        let mut host = program("unshare");
        let script = "echo \"$0\" > /proc/sys/kernel/hostname && test \"$(uname -n)\" = \"$0\" && exec \"$@\"";
        host.args(["--uts", "sh", "-c", script]).arg(marked("hostname")).arg(path).args(arguments);
        self.environment(&mut host, url);
        run(&mut host)
    }

    fn environment(&self, command: &mut Command, url: &str) {
        self.cluster.settings(command, url, "");
        command.env_remove("ONDAT_TELEMETRY_CA_FILE").current_dir(self.state_dir.parent().unwrap());
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", marked("cluster")).env("ONDAT_TELEMETRY_NODE_ID", marked("node"));
        command.env("ONDAT_TELEMETRY_STATE_DIR", &self.state_dir);
        let home = marked("home");
        command.env("USER", marked("user")).env("LOGNAME", marked("user")).env("HOME", format!("/home/{home}"));
        command.env("HOSTNAME", marked("hostname")).env("NODE_NAME", marked("node-name"));
    }

    fn probe(&self, arguments: &[&str], url: &str) -> (Said, Vec<u8>) {
        let output = self.run(&self.probe, arguments, url);
        (Said::of(&output), output.stderr)
    }
}

/// No mark is in these bytes, as it is, in capitals or in hex.
fn assert_clean(what: &str, bytes: &[u8]) {
    let small = bytes.to_ascii_lowercase();
    for mark in [MARK.to_owned(), HEXLOWER.encode(MARK.as_bytes())] {
        if let Some(at) = small.windows(mark.len()).position(|window| window == mark.as_bytes()) {
            let near = &bytes[at.saturating_sub(40)..bytes.len().min(at + 60)];
            panic!("{what} has a mark: {}", String::from_utf8_lossy(near));
        }
    }
}

/// No mark is in the names below this folder or in what the files hold. Returns how many files there are.
fn assert_clean_below(folder: &Path) -> usize {
    let files = files_below(folder);
    for path in &files {
        let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
        assert_clean("a name", name.as_bytes());
        assert_clean(name, &bytes_of(path));
    }
    files.len()
}

#[test]
fn no_byte_of_what_is_raw_is_in_plaintext_log_or_spool() {
    let scene = Scene::new();
    let given = marked_document();
    let text = given.to_string();
    for field in FIELDS {
        assert!(holds(text.as_bytes(), &format!("\"{}\":", field.name)), "{} is not given", field.name);
    }
    assert!(text.matches(MARK).count() > 20, "{text}");

    let submit = ["submit", scene.document.to_str().unwrap()];
    let (said, log) = scene.probe(&submit, NOBODY);
    assert_eq!(said.number("submit_report"), status::QUEUED, "{said:?}");
    assert_clean("the log", &log);
    assert_eq!(files_in(&scene.state_dir.join("spool/reports")).len(), 1);
    // The stored report, the copy for the administrator, what is remembered, that the notice was given, and two locks.
    assert_eq!(assert_clean_below(&scene.state_dir), 6);

    let collector = scene.cluster.collector();
    let relay = Relay::start(&collector.http, 1);
    let (said, log) = scene.probe(&["flush"], &relay.url);
    assert_eq!(said.number("flush"), status::OK, "{said:?}");
    assert!(holds(&log, "delivered"), "{}", String::from_utf8_lossy(&log));
    assert_clean("the log", &log);
    assert_eq!(assert_clean_below(&scene.state_dir), 5);
    let [request] = relay.requests().try_into().unwrap();
    assert!(request.starts_with(b"PUT /v1/reports/"), "{}", String::from_utf8_lossy(&request));
    assert_clean("the request", &request);

    let (plaintext, _) = scene.cluster.opened(&collector);
    assert_clean("the plaintext", &plaintext);
    assert!(holds(&plaintext, "storageos-cli/2.4.2") && holds(&plaintext, "eu-west-2a"), "what is public is there");
    assert!(holds(&plaintext, r#""k8s_distribution":"other""#) && holds(&plaintext, r#""storageos.com/replicas":"2""#));
    let [sent] = files_in(&scene.state_dir.join("sent")).try_into().unwrap();
    assert!(bytes_of(&sent) == plaintext, "the administrator's copy is not what was sealed");
    let preview = scene.run(command("ondat-telemetry"), &["report", "preview", submit[1]], NOBODY);
    assert!(preview.status.success(), "{}", both(&preview));
    assert!(preview.stdout == plaintext, "the sealed report is not what was previewed");

    // The day has its report.
    let (said, log) = scene.probe(&submit, &relay.url);
    assert_eq!(said.number("submit_report"), status::INVALID_STATE, "{said:?}");
    assert_clean("the log", &log);
    assert_clean_below(&scene.state_dir);
    assert_clean_below(&collector.data);
}
