//! `status`: who turned what off, and that looking changes nothing.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use ondat_telemetry::client::Client;
use ondat_telemetry::config::{ConfigBuilder, Setting};
use ondat_telemetry::switches::Switch;
use serde_json::json;

use crate::program::{Place, command, finish, run};

#[test]
fn an_empty_state_directory_is_all_on_and_empty() {
    let place = Place::new("status-empty");
    let status = run(&["status", "--json", "--state-dir", &place.at("")]).with(0).json();
    let on = json!({ "on": true, "off_by": [] });
    assert_eq!(status["switches"], json!({ "version_check": on, "daily_report": on, "crash_reports": on }));
    assert_eq!(status["version_check"]["told"], json!([]));
    assert_eq!(status["daily_report"]["last"], json!([]));
    assert_eq!(status["spool"]["spool/reports"]["items"], json!([]));
    assert_eq!(status["cluster_id"], json!(null));
    assert!(place.listing().is_empty());
}

#[test]
fn the_administrator_is_named() {
    let place = Place::new("status-administrator");
    place.with("switches.json", r#"{"daily_report": false}"#);
    std::fs::create_dir_all(place.path().join("spool/reports")).unwrap();
    place.with("spool/reports/2026-01-01-0.otr", "stored");
    let before = place.listing();
    let state = place.at("");
    let status = run(&["status", "--json", "--state-dir", &state]).with(0).json();
    let off = json!({ "on": false, "off_by": ["the administrator (switches.json)"] });
    assert_eq!(status["switches"]["daily_report"], off);
    assert_eq!(status["switches"]["version_check"]["on"], true);
    let text = run(&["status", "--state-dir", &state]).with(0).stdout;
    assert!(text.contains("  daily_report   off by the administrator (switches.json)\n"), "{text}");
    assert_eq!(place.listing(), before, "what is stored for a switch that is off is not removed by looking at it");
}

/// A process of its own would say the same.
fn client(place: &Place, component: &str, on: u32) -> Client {
    let mut builder = ConfigBuilder::new();
    let settings = [
        (Setting::Component, component),
        (Setting::Version, "2.8.1"),
        (Setting::ClusterId, "c-1"),
        (Setting::NodeId, "n-1"),
        (Setting::StateDir, &place.at("")),
    ];
    settings.into_iter().for_each(|(setting, text)| builder.set(setting, text));
    builder.set_switches(on);
    let client = Client::new(builder.build().unwrap()).unwrap();
    client.start().unwrap();
    client
}

#[test]
fn running_processes_say_what_they_hold_off_themselves() {
    let place = Place::new("status-processes");
    let state = place.at("");
    let on_by = |name: &str| {
        let status = run(&["status", "--json", "--state-dir", &state]).with(0).json();
        let processes = status["processes"].as_array().unwrap().clone();
        (status["switches"][name]["off_by"].clone(), processes)
    };
    let dataplane = client(&place, "dataplane", Switch::ALL_BITS & !Switch::DailyReport.bit());
    let named = format!("dataplane (pid {})", std::process::id());
    let (off_by, processes) = on_by("daily_report");
    assert_eq!(off_by, json!([format!("the host program of {named}")]));
    let [process] = processes.as_slice() else { panic!("{processes:?}") };
    assert_eq!((&process["component"], &process["version"]), (&json!("dataplane"), &json!("2.8.1")));
    assert_eq!((&process["pid"], &process["is_seen"]), (&json!(std::process::id()), &json!(true)));
    let off_by = json!({ "version_check": [], "daily_report": ["the host program"], "crash_reports": [] });
    assert_eq!(process["off_by"], off_by);
    assert_eq!(on_by("version_check").0, json!([]));
    // What is turned on by the administrator is not on for that.
    let enabled = run(&["enable", "daily-report", "--state-dir", &state]).with(0).stdout;
    assert_eq!(enabled, format!("daily_report   off by the host program of {named}\n"));

    let other = client(&place, "controlplane", Switch::ALL_BITS);
    assert_eq!(on_by("daily_report").0, json!([]));
    let text = run(&["status", "--state-dir", &state]).with(0).stdout;
    let line = format!("  daily_report   on, but off in {named} by the host program\n");
    assert!(text.contains(&line), "{text}");
    assert!(text.contains(&format!("  running        {named} of version 2.8.1 since ")), "{text}");

    // It says so anew when it thinks better of it, and nothing when it has ended.
    dataplane.set_switches(Switch::ALL_BITS).unwrap();
    other.set_switches(Switch::CrashReports.bit()).unwrap();
    assert_eq!(on_by("daily_report").0, json!([]));
    dataplane.close(Duration::ZERO);
    let named = format!("controlplane (pid {})", std::process::id());
    assert_eq!(on_by("daily_report").0, json!([format!("the host program of {named}")]));
    other.close(Duration::ZERO);
    assert_eq!(on_by("daily_report"), (json!([]), Vec::new()));
}

#[test]
fn a_process_of_another_container_is_shown_with_a_doubt() {
    let place = Place::new("status-container");
    let said = json!({
        "component": "dataplane", "version": "2.8.1", "pid": 1, "at": 1_795_478_400, "objections": [],
        "boot": ondat_telemetry::sys::clock::boot_id(), "pid_namespace": "pid:[1]", "born": [1, 1],
    });
    std::fs::create_dir(place.path().join("processes")).unwrap();
    place.with("processes/dataplane-1", &said.to_string());
    let text = run(&["status", "--state-dir", &place.at("")]).with(0).stdout;
    let line = "  running        dataplane (pid 1) of version 2.8.1 since 2026-11-24T00:00:00Z, in another container: \
                whether it still runs cannot be seen\n";
    assert!(text.contains(line), "{text}");
    let status = run(&["status", "--json", "--state-dir", &place.at("")]).with(0).json();
    assert_eq!(status["processes"][0]["is_seen"], json!(false));
}

#[test]
fn what_is_not_configured_is_said() {
    let text = run(&["status"]).with(0).stdout;
    for line in ["state directory  not configured", "cluster id       not configured", "zone           not configured"]
    {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("0.0.0"), "{text}");
}

#[test]
fn ids_are_shown_in_the_form_in_which_they_are_sent() {
    let status = run(&["status", "--json", "--cluster-id", "c-1", "--node-id", "n-1"]).with(0).json();
    let identity = ondat_telemetry::identity::Identity::from_cluster_id("c-1");
    let node = identity.anonymise_hex(ondat_telemetry::identity::Purpose::Node, "n-1");
    assert_eq!(status["node_id"], json!(node));
    assert!(!status.to_string().contains("c-1"), "{status}");
}

#[test]
fn damaged_memory_is_said_and_left_alone() {
    let place = Place::new("status-damaged");
    place.with("version.json", "{");
    let before = place.listing();
    let text = run(&["status", "--state-dir", &place.at("")]).with(0).stdout;
    assert!(text.contains("version.json is damaged"), "{text}");
    assert_eq!(place.listing(), before);
}

#[test]
fn the_cluster_spec_and_a_missing_directory() {
    let place = Place::new("status-spec");
    let spec = place.with("cluster.yaml", "spec:\n  disableTelemetry: true\n");
    let status = run(&["status", "--json", "--cluster-spec", &spec]).with(0).json();
    assert_eq!(status["switches"]["crash_reports"]["off_by"], json!(["cluster spec disableTelemetry"]));
    let status = run(&["status", "--json", "--state-dir", &place.at("absent")]).with(0).json();
    let problem = status["state_dir_problem"].as_str().unwrap();
    assert!(problem.ends_with("/absent does not exist"), "{problem}");
    let text = run(&["status", "--state-dir", &place.at("absent")]).with(0).stdout;
    assert!(text.contains(&format!("cannot be used: {problem}\n")), "{text}");
    assert_eq!(place.listing().len(), 1, "it only looks");
}

#[test]
fn a_reader_that_is_gone_is_no_failure_and_a_full_disk_is() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command(&["status"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = finish(command(&["status"]).stdout(full).stderr(Stdio::piped()));
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("standard output"), "{}", ended.stderr);
}

#[test]
fn a_wrong_command_line_is_one_line() {
    let ended = run(&["check-version", "--colour"]).with(2);
    assert_eq!(ended.stderr, "ondat-telemetry: unexpected argument '--colour' found; see --help\n");
}
