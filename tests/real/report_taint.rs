//! Everything raw that a report's making can see is marked, and the mark is looked for in everything it leaves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use data_encoding::HEXLOWER;
use ondat_telemetry::report::fields::FIELDS;
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
    let mut document = document(2);
    for (at, node) in document["nodes"].as_array_mut().unwrap().iter_mut().enumerate() {
        node["node_id"] = marked(&format!("node-{at}")).into();
        node["node_labels"] = json!({
            "kubernetes.io/arch": "amd64",
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
            "app": marked("volume-label-value"),
            marked("volume-label"): marked("volume-label-value-2"),
        });
        volume["volume_provision_source_user_agent"] =
            format!("storageos-cli/2.4.2 ({}; {}) {}/1.0", marked("user"), marked("host"), marked("product")).into();
    }
    document
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
