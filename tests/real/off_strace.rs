//! What is turned off does not touch the network, by the kernel's own account.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{
    CLUSTER_ID, NODE_ID, Said, TempDir, VERSION, compile, files_below, free_port, holds, ondat, program, run, status,
    succeed,
};

const CALLS: [&str; 4] = ["check_version", "submit_report", "install_crash_handler", "report_exit"];
const ALL_ON: i64 = 7;
const VERSION_CHECK: i64 = 1;
const DAILY_REPORT: i64 = 2;
const CRASH_REPORTS: i64 = 4;

/// `probe all` under strace, with ports of this machine where nobody listens.
struct Scene {
    folder: TempDir,
    state_dir: PathBuf,
    probe: PathBuf,
    dns: u16,
    report: u16,
    sentry: u16,
}

/// What came of it.
struct Outcome {
    said: Said,
    trace: String,
    scene: Scene,
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new();
        let (probe, state_dir) = (compile("probe.c", &folder), folder.state_dir());
        succeed(ondat(&["keygen", "report", "--out"]).arg(folder.join("keys")));
        std::fs::write(folder.join("report.json"), r#"{"k8s_version":"v1.31.2","nodes":[],"volumes":[]}"#).unwrap();
        Self { folder, state_dir, probe, dns: free_port(), report: free_port(), sentry: free_port() }
    }

    fn run(self, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
        let trace = self.folder.join("trace");
        let mut command = program("strace");
        command.args(["-f", "-e", "trace=%network,execve", "-o"]).arg(&trace);
        command.arg(&self.probe).arg("all").arg(self.folder.join("report.json")).args(arguments);
        command.env("ONDAT_TELEMETRY_VERSION", VERSION).env("ONDAT_TELEMETRY_STATE_DIR", &self.state_dir);
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", CLUSTER_ID).env("ONDAT_TELEMETRY_NODE_ID", NODE_ID);
        command.env("ONDAT_TELEMETRY_VERSION_ZONE", "latest.example.com");
        command.env("ONDAT_TELEMETRY_NAMESERVERS", format!("127.0.0.1:{}", self.dns));
        command.env("ONDAT_TELEMETRY_REPORT_URL", format!("http://127.0.0.1:{}", self.report));
        let keys = std::fs::read_to_string(self.folder.join("keys/report-keys.json")).unwrap();
        command.env("ONDAT_TELEMETRY_REPORT_KEYS", keys);
        command.env("ONDAT_TELEMETRY_SENTRY_DSN", format!("http://key@127.0.0.1:{}/1", self.sentry));
        command.envs(variables.iter().copied());
        let said = Said::of(&run(&mut command));
        assert_eq!(said.number("closed"), 0, "{said:?}");
        Outcome { said, trace: std::fs::read_to_string(trace).unwrap(), scene: self }
    }

    fn write_switches(&self, content: &[u8]) {
        std::fs::write(self.state_dir.join("switches.json"), content).unwrap();
    }
}

impl Outcome {
    /// Whether the trace shows a socket address with this port.
    fn reached(&self, port: u16) -> bool {
        holds(self.trace.as_bytes(), &format!("sin_port=htons({port})"))
    }

    /// The sources that turned this switch off, as told to the host.
    fn off_by(&self, switch: &str) -> String {
        let explained: Value = serde_json::from_str(self.said.text("explained")).unwrap();
        explained[switch]["off_by"].to_string()
    }

    fn network_calls(&self) -> Vec<&str> {
        // Each line is a process id and a call; execve and the ends of processes are the rest of the trace.
        let calls = self.trace.lines().filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start()));
        calls.filter(|call| !["execve(", "+++", "---"].iter().any(|other| call.starts_with(other))).collect()
    }

    /// Everything is off, by this source: nothing is sent, nothing is stored, nobody is started.
    fn assert_silent(&self, source: &str, files: &[PathBuf]) {
        assert_eq!(self.said.number("switches"), 0, "{:?}", self.said);
        for switch in ["version_check", "daily_report", "crash_reports"] {
            let sources = self.off_by(switch);
            assert!(sources.contains(source), "{switch} is off by {sources}, not by {source}");
        }
        for call in CALLS {
            assert_eq!(self.said.number(call), status::DISABLED, "{call}: {:?}", self.said);
        }
        assert_eq!(self.said.number("start"), status::OK, "{:?}", self.said);
        assert_eq!(self.network_calls(), Vec::<&str>::new());
        let programs = self.trace.lines().filter(|line| line.contains(" execve(")).count();
        assert_eq!(programs, 1, "only the probe itself is started:\n{}", self.trace);
        assert_eq!(files_below(&self.scene.state_dir), files);
    }

    /// One is off by this source, and that one alone.
    fn assert_one_off(&self, off: i64, switch: &str, source: &str) {
        assert_eq!(self.said.number("switches"), ALL_ON & !off, "{:?}", self.said);
        assert_eq!(self.off_by(switch), json!([source]).to_string());
        for (call, bit) in CALLS.iter().zip([VERSION_CHECK, DAILY_REPORT, CRASH_REPORTS, CRASH_REPORTS]) {
            assert_eq!(self.said.number(call) == status::DISABLED, bit == off, "{call}: {:?}", self.said);
        }
        let ports = [self.scene.dns, self.scene.report, self.scene.sentry];
        let reached = ports.map(|port| self.reached(port));
        assert_eq!(reached, [off != VERSION_CHECK, off != DAILY_REPORT, off != CRASH_REPORTS], "{}", self.trace);
        let (reports, crashes) = (self.has_files("spool/reports"), self.has_files("spool/crashes"));
        assert_eq!((reports, crashes), (off != DAILY_REPORT, off != CRASH_REPORTS), "what is off is not stored");
    }

    fn has_files(&self, folder: &str) -> bool {
        let folder = self.scene.state_dir.join(folder);
        folder.is_dir() && !files_below(&folder).is_empty()
    }
}

fn file_in(state_dir: &Path) -> [PathBuf; 1] {
    [state_dir.join("switches.json")]
}

/// Without this, a trace that sees nothing would let every other test pass.
#[test]
fn with_everything_on_the_same_trace_sees_all_three() {
    let outcome = Scene::new().run(&[], &[]);
    let said = &outcome.said;
    assert_eq!(said.number("switches"), ALL_ON, "{said:?}");
    assert!([status::NETWORK, status::TIMED_OUT].contains(&said.number("check_version")), "{said:?}");
    assert_eq!(said.number("submit_report"), status::QUEUED, "{said:?}");
    assert_eq!(said.number("install_crash_handler"), status::OK, "{said:?}");
    assert_eq!(said.number("report_exit"), status::OK, "{said:?}");
    let calls = outcome.network_calls();
    for call in ["socket(", "socketpair(", "connect("] {
        assert!(calls.iter().any(|line| line.starts_with(call)), "no {call}:\n{}", outcome.trace);
    }
    let ports = [outcome.scene.dns, outcome.scene.report, outcome.scene.sentry];
    assert!(ports.iter().all(|port| outcome.reached(*port)), "{ports:?}:\n{}", outcome.trace);
    assert!(outcome.trace.contains("ondat-telemetry-monitor"), "the monitor is not in the trace:\n{}", outcome.trace);
    assert!(outcome.has_files("spool/reports") && outcome.has_files("spool/crashes"));
}

#[test]
fn disable_version_check() {
    let outcome = Scene::new().run(&[("DISABLE_VERSION_CHECK", "true")], &[]);
    outcome.assert_one_off(VERSION_CHECK, "version_check", "environment DISABLE_VERSION_CHECK");
}

#[test]
fn disable_telemetry() {
    let outcome = Scene::new().run(&[("DISABLE_TELEMETRY", "1")], &[]);
    outcome.assert_one_off(DAILY_REPORT, "daily_report", "environment DISABLE_TELEMETRY");
}

#[test]
fn disable_error_reporting() {
    let outcome = Scene::new().run(&[("DISABLE_ERROR_REPORTING", "yes")], &[]);
    outcome.assert_one_off(CRASH_REPORTS, "crash_reports", "environment DISABLE_ERROR_REPORTING");
}

#[test]
fn disable_crash_reporting() {
    let outcome = Scene::new().run(&[("DISABLE_CRASH_REPORTING", "true")], &[]);
    outcome.assert_one_off(CRASH_REPORTS, "crash_reports", "environment DISABLE_CRASH_REPORTING");
}

#[test]
fn the_three_variables_together() {
    let variables = [("DISABLE_VERSION_CHECK", "1"), ("DISABLE_TELEMETRY", "1"), ("DISABLE_ERROR_REPORTING", "1")];
    Scene::new().run(&variables, &[]).assert_silent("environment DISABLE_", &[]);
}

#[test]
fn do_not_track() {
    Scene::new().run(&[("DO_NOT_TRACK", "1")], &[]).assert_silent("environment DO_NOT_TRACK", &[]);
}

#[test]
fn a_variable_that_says_no_does_not_object() {
    let variables = [("DO_NOT_TRACK", "0"), ("DISABLE_TELEMETRY", "false"), ("DISABLE_VERSION_CHECK", "")];
    let outcome = Scene::new().run(&variables, &[]);
    assert_eq!(outcome.said.number("switches"), ALL_ON, "{:?}", outcome.said);
    assert!(outcome.reached(outcome.scene.dns) && outcome.reached(outcome.scene.report), "{}", outcome.trace);
}

#[test]
fn the_host_program() {
    Scene::new().run(&[], &["mask", "0"]).assert_silent("the host program", &[]);
}

#[test]
fn the_host_program_for_one_of_them() {
    let outcome = Scene::new().run(&[], &["mask", "5"]);
    outcome.assert_one_off(DAILY_REPORT, "daily_report", "the host program");
}

#[test]
fn the_administrator() {
    let scene = Scene::new();
    scene.write_switches(br#"{"version_check":false,"daily_report":false,"crash_reports":false}"#);
    let files = file_in(&scene.state_dir);
    scene.run(&[], &[]).assert_silent("administrator", &files);
}

#[test]
fn an_administrators_file_that_is_no_json_turns_everything_off() {
    let scene = Scene::new();
    scene.write_switches(b"\x00version_check = off\xff");
    let files = file_in(&scene.state_dir);
    scene.run(&[], &[]).assert_silent("switches.json", &files);
}

#[test]
fn an_administrators_file_that_cannot_be_read_turns_everything_off() {
    let scene = Scene::new();
    // Not even root reads through it: it is not followed.
    let elsewhere = scene.folder.join("elsewhere.json");
    std::fs::write(&elsewhere, "{}").unwrap();
    std::os::unix::fs::symlink(&elsewhere, scene.state_dir.join("switches.json")).unwrap();
    let files = file_in(&scene.state_dir);
    scene.run(&[], &[]).assert_silent("switches.json", &files);
}

#[test]
fn the_cluster_spec() {
    let scene = Scene::new();
    let spec = scene.folder.join("cluster.yaml");
    let text = "apiVersion: storageos.com/v1\nkind: StorageOSCluster\nmetadata:\n  name: ondat\n\
                spec:\n  disableTelemetry: true\n";
    std::fs::write(&spec, text).unwrap();
    let spec = spec.to_str().unwrap().to_owned();
    scene.run(&[], &["spec", &spec]).assert_silent("cluster spec disableTelemetry", &[]);
}
