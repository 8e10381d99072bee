//! Crash reports, taken by Bugsink, which validates each event by Sentry's published schema.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{
    CLUSTER_ID, NODE_ID, Said, Server, TempDir, VERSION, both, built, compile, expected_ids, files_in, in_venv,
    program, python, run, server, status, succeed,
};

/// What Sentry's documentation calls the event, and nothing else.
const KEYS: [&str; 8] = ["event_id", "exception", "fingerprint", "level", "platform", "release", "tags", "timestamp"];

/// A Bugsink of our own, with one project.
struct Bugsink {
    folder: Arc<TempDir>,
    dsn: String,
    _server: Server,
}

impl Bugsink {
    fn start(folder: &Arc<TempDir>) -> Self {
        let home = folder.join("bugsink");
        std::fs::create_dir(&home).unwrap();
        // As Bugsink's documentation describes a local run, whose tasks run at once and in the server's process.
        let create = ["--template=local", "--host", "127.0.0.1"];
        succeed(Self::command(program(in_venv("bugsink-create-conf")), &home).args(create));
        let config = home.join("bugsink_conf.py");
        let settings = format!(
            r#"{}
BUGSINK["VALIDATE_ON_DIGEST"] = "strict"
BUGSINK["PHONEHOME"] = False
BUGSINK["INGEST_STORE_BASE_DIR"] = "{home}/ingestion"
DATABASES["default"]["NAME"] = "{home}/db.sqlite3"
DATABASES["snappea"]["NAME"] = "{home}/snappea.sqlite3"
assert SNAPPEA["TASK_ALWAYS_EAGER"]
"#,
            std::fs::read_to_string(&config).unwrap(),
            home = home.display()
        );
        std::fs::write(config, settings).unwrap();
        let manage = || Self::command(program(in_venv("bugsink-manage")), &home);
        succeed(manage().arg("migrate"));
        succeed(manage().args(["migrate", "--database=snappea", "snappea"]));
        let create = "from projects.models import Project\n\
                      project = Project.objects.create(name='ondat')\n\
                      print('project', project.id, project.sentry_key.hex)";
        let output = succeed(manage().args(["shell", "-c", create]));
        let text = String::from_utf8(output.stdout).unwrap();
        let words = text.lines().find_map(|line| line.strip_prefix("project ")).unwrap();
        let (project, key) = words.split_once(' ').unwrap();

        let mut gunicorn = Self::command(server(in_venv("gunicorn")), &home);
        gunicorn.args(["--preload", "--workers", "1", "--bind", "127.0.0.1:0", "--log-file", "-", "bugsink.wsgi"]);
        // The log goes to the standard error unless a shell joins the two.
        let mut joined = Self::command(server("sh"), &home);
        joined.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(gunicorn.get_program()).args(gunicorn.get_args());
        let (server, address) = Server::start(&mut joined, |line| {
            let address = line.split_once("Listening at: http://")?.1;
            Some(address.split(' ').next()?.to_owned())
        });
        Self { folder: Arc::clone(folder), dsn: format!("http://{key}@{address}/{project}"), _server: server }
    }

    fn command(mut command: Command, home: &Path) -> Command {
        command.current_dir(home).env("HOME", home).env("DJANGO_SETTINGS_MODULE", "bugsink_conf");
        command
    }

    /// What it has digested.
    fn events(&self) -> Vec<Value> {
        let mut list = python("bugsink_events.py");
        list.arg(self.folder.join("bugsink/db.sqlite3"));
        let lines = String::from_utf8(succeed(&mut list).stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs a program of the product, and waits for what it leaves behind: the monitor delivers the report.
    fn run(&self, outlive: &Path, state_dir: &Path, arguments: &[&str]) -> Output {
        let mut command = program(outlive);
        command.args(arguments).current_dir(self.folder.path());
        command.env("ONDAT_TELEMETRY_VERSION", VERSION).env("ONDAT_TELEMETRY_STATE_DIR", state_dir);
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", CLUSTER_ID).env("ONDAT_TELEMETRY_NODE_ID", NODE_ID);
        command.env("ONDAT_TELEMETRY_SENTRY_DSN", &self.dsn);
        let output = run(&mut command);
        assert!(output.status.success(), "{}\n{}", output.status, both(&output));
        output
    }
}

/// The numbers of the last line of `outlive`: the wait status, and how many processes ended.
fn last_line(output: &Output) -> (i32, usize) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let words: Vec<&str> = text.lines().last().unwrap().split(' ').collect();
    let ["wait_status", status, "processes", processes] = words.as_slice() else { panic!("{words:?}") };
    (status.parse().unwrap(), processes.parse().unwrap())
}

/// What every event of ours has in common, and that nothing was added to it.
fn assert_plain(event: &Value) {
    let data = &event["data"];
    let keys: Vec<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, KEYS, "{data}");
    assert_eq!((&event["level"], &data["level"]), (&json!("fatal"), &json!("fatal")), "{event}");
    assert_eq!(event["release"], format!("ondat@{VERSION}"), "{event}");
    assert_eq!(event["platform"], "native", "{event}");
    for absent in ["server_name", "sdk_name", "environment", "transaction"] {
        assert_eq!(event[absent], "", "{absent}: {event}");
    }
    for raw in [CLUSTER_ID, NODE_ID] {
        assert!(!data.to_string().contains(raw), "{data}");
    }
}

fn scene() -> (Arc<TempDir>, PathBuf, PathBuf) {
    let folder = Arc::new(TempDir::new());
    let (outlive, state_dir) = (compile("outlive.c", &folder), folder.state_dir());
    (folder, outlive, state_dir)
}

#[test]
fn a_segmentation_fault_is_one_valid_event_in_bugsink() {
    let (folder, outlive, state_dir) = scene();
    let bugsink = Bugsink::start(&folder);
    assert_eq!(bugsink.events(), Vec::<Value>::new());

    let dataplane = built("dataplane");
    let output = bugsink.run(&outlive, &state_dir, &[dataplane.to_str().unwrap(), "crash"]);
    let (wait_status, processes) = last_line(&output);
    assert_eq!(wait_status & 0x7f, libc::SIGSEGV, "{}", both(&output));
    assert_eq!(processes, 2, "the program and its monitor: {}", both(&output));
    assert_eq!(files_in(&state_dir.join("spool/crashes")), Vec::<PathBuf>::new(), "delivered and still stored");

    let events = bugsink.events();
    let [event] = events.as_slice() else { panic!("exactly one event: {events:?}") };
    assert_plain(event);
    let data = &event["data"];
    let description = "dataplane killed by SIGSEGV (address not mapped)";
    assert_eq!((&event["calculated_type"], &event["calculated_value"]), (&json!("SIGSEGV"), &json!(description)));
    let exceptions = data["exception"]["values"].as_array().unwrap();
    assert_eq!(exceptions.len(), 1, "{data}");
    assert_eq!((&exceptions[0]["type"], &exceptions[0]["value"]), (&json!("SIGSEGV"), &json!(description)), "{data}");
    let has_core = if wait_status & 0x80 == 0 { "false" } else { "true" };
    let ids = expected_ids();
    let tags = json!({
        "signal": "SIGSEGV", "exit_code": "none", "core_dump": has_core,
        "cluster_id": ids["cluster"], "node_id": ids["node"],
    });
    assert_eq!(data["tags"], tags);
}

#[test]
fn a_child_that_a_parent_reaped_is_one_valid_event_in_bugsink() {
    let (folder, outlive, state_dir) = scene();
    let bugsink = Bugsink::start(&folder);
    let probe = compile("probe.c", &folder);
    let mut output = bugsink.run(&outlive, &state_dir, &[probe.to_str().unwrap(), "reap", "3"]);
    assert_eq!(last_line(&output), (0, 1), "{}", both(&output));
    output.stdout.truncate(output.stdout.iter().rposition(|byte| *byte == b'w').unwrap());
    let said = Said::of(&output);
    assert_eq!(said.number("wait_status"), 3 * 256, "{said:?}");
    assert_eq!((said.number("report_exit"), said.number("flush")), (status::OK, status::OK), "{said:?}");
    assert_eq!(files_in(&state_dir.join("spool/crashes")), Vec::<PathBuf>::new(), "delivered and still stored");

    let events = bugsink.events();
    let [event] = events.as_slice() else { panic!("exactly one event: {events:?}") };
    assert_plain(event);
    let exception = json!({ "type": "ExitCode", "value": "controlplane exited with code 3",
        "mechanism": { "type": "exit", "handled": false } });
    assert_eq!(event["data"]["exception"]["values"], json!([exception]));
    let ids = expected_ids();
    let tags = json!({
        "signal": "none", "exit_code": "3", "core_dump": "false",
        "cluster_id": ids["cluster"], "node_id": ids["node"],
    });
    assert_eq!(event["data"]["tags"], tags);
}
