//! `status`: who turned what off, and that looking changes nothing.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use ondat_telemetry::client::Client;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::Setting;
use ondat_telemetry::switch::Switch;
use ondat_telemetry_protocol::identity::Purpose;
use serde_json::{Value, json};

use crate::program::{Place, command, finish, held_by, run};
use crate::report::report_keys;

#[test]
fn an_empty_state_directory_is_all_on_and_empty() {
    let place = Place::new("status-empty");
    let status = run(&["status", "--json", "--state-dir", &place.at("")]).with(0).json();
    let on = json!({ "on": true, "off_by": [], "sources": [] });
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
    let off = held_by("administrator", "", "the administrator (switches.json)");
    assert_eq!(status["switches"]["daily_report"], off);
    assert_eq!(status["switches"]["version_check"]["on"], true);
    let text = run(&["status", "--state-dir", &state]).with(0).stdout;
    assert!(text.contains("  daily_report   off by the administrator (switches.json)\n"), "{text}");
    assert_eq!(place.listing(), before, "what is stored for a switch that is off is not removed by looking at it");
}

/// A process of its own would say the same.
fn client(place: &Place, component: &str, on: u32) -> Client {
    client_with(place, component, on, &[])
}

fn client_with(place: &Place, component: &str, on: u32, more: &[(Setting, &str)]) -> Client {
    let mut builder = ConfigBuilder::new();
    let settings = [
        (Setting::Component, component),
        (Setting::Version, "2.8.1"),
        (Setting::ClusterId, "c-1"),
        (Setting::NodeId, "n-1"),
        (Setting::StateDir, &place.at("")),
    ];
    settings.into_iter().chain(more.iter().copied()).for_each(|(setting, text)| builder.set(setting, text));
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

/// A DNS server that does not answer.
const NOBODY: &str = "127.0.0.1:9";
/// Its id is 92afeaf8.
const VERSION_KEY: &str = "ayL0s5TA8tJuS8HZ7x0DW3MIng7alTPOXU/+mdi1gps=";

#[test]
fn it_speaks_of_the_daemons_and_not_of_itself() {
    let place = Place::new("status-daemons");
    let (state, keys) = (place.at(""), report_keys(&place));
    let key_set: Value = serde_json::from_str(&std::fs::read_to_string(&keys).unwrap()).unwrap();
    let settings = [
        (Setting::VersionZone, "latest.example.com"),
        (Setting::Nameservers, NOBODY),
        (Setting::VersionKey, VERSION_KEY),
        (Setting::ReportUrl, "https://collector.example.com:8443/some/path"),
        (Setting::ReportKeys, &key_set.to_string()),
        (Setting::SentryDsn, "https://publickey:hunter2@sentry.example.com/42"),
    ];
    let daemon = client_with(&place, "dataplane", Switch::ALL_BITS, &settings);
    // The command was told other things, or nothing.
    let own =
        ["--cluster-id", "c-2", "--version-zone", "own.example.com", "--sentry-dsn", "https://k@own.example.com/1"];
    for told in [&own[..], &[]] {
        let status = run(&[&["status", "--json", "--state-dir", &state], told].concat()).with(0).json();
        let said = &status["processes"][0]["settings"];
        let identity = ondat_telemetry_protocol::identity::Identity::from_cluster_id("c-1");
        let id = |purpose, raw| json!(identity.anonymise_hex(purpose, raw));
        assert_eq!(
            *said,
            json!({
                "cluster_id": id(Purpose::Cluster, "c-1"),
                "node_id": id(Purpose::Node, "n-1"),
                "version_zone": "latest.example.com",
                "version_keys": ["92afeaf8"],
                "verifies_answers": true,
                "seals_queries": false,
                "report_host": "collector.example.com:8443",
                "report_keys": [key_set["keys"][0]["id"]],
                "sentry_host": "sentry.example.com",
                "monitor": "not installed",
                "monitor_why": null,
                "state_dir": "own",
                "state_dir_why": null,
            })
        );
        assert_eq!(status["settings_differ"], json!([]));
        assert_eq!((&status["cluster_id"], &status["node_id"]), (&said["cluster_id"], &said["node_id"]));
        assert_eq!(status["version_check"]["zone"], "latest.example.com");
        assert_eq!(
            (&status["version_check"]["keys"], &status["daily_report"]["has_valid_key"]),
            (&json!(1), &json!(true))
        );
        assert_eq!(status["daily_report"]["url"], "collector.example.com:8443");
        assert_eq!(status["crash_reports"]["server"], "sentry.example.com");
        assert_eq!(status["used"], true);
        let text = run(&[&["status", "--state-dir", &state], told].concat()).with(0).stdout;
        for line in [
            "zone           latest.example.com\n",
            "keys           1 (92afeaf8)\n",
            "collector      collector.example.com:8443\n",
            "server         sentry.example.com\n",
            "                 crash monitor not installed, state directory as it was named\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        for foreign in ["own.example.com", "publickey", "hunter2", "some/path", "not configured", "not known"] {
            assert!(!text.contains(foreign) && !status.to_string().contains(foreign), "{foreign} in {text}{status}");
        }
    }
    // Nobody runs: what the command was told, and nothing else.
    daemon.close(Duration::ZERO);
    let status = run(&[&["status", "--json", "--state-dir", &state], &own[..]].concat()).with(0).json();
    assert_eq!((&status["processes"], &status["version_check"]["zone"]), (&json!([]), &json!("own.example.com")));
    assert_eq!(status["crash_reports"]["server"], "https://own.example.com/api/1/envelope/");
    assert_eq!((&status["used"], &status["daily_report"]["url"]), (&json!(true), &json!(null)));
}

#[test]
fn processes_that_differ_are_named_and_older_ones_are_not_guessed_at() {
    let place = Place::new("status-differ");
    let state = place.at("");
    let status = || run(&["status", "--json", "--state-dir", &state]).with(0).json();
    let text = || run(&["status", "--state-dir", &state]).with(0).stdout;
    let older = json!({
        "component": "api", "version": "2.7.0", "pid": 9, "at": 1_795_478_400, "objections": [],
        "boot": ondat_telemetry::sys::clock::boot_id(), "pid_namespace": "pid:[1]", "born": [1, 1],
    });
    std::fs::create_dir(place.path().join("processes")).unwrap();
    place.with("processes/api-9", &older.to_string());
    let alone = status();
    assert_eq!((&alone["processes"][0]["settings"], &alone["cluster_id"]), (&json!(null), &json!(null)));
    assert!(text().contains("zone           not known: api (pid 9) is of an older version\n"), "{}", text());
    let asks = [(Setting::VersionZone, "one.example.com"), (Setting::Nameservers, NOBODY)];
    let dataplane = client_with(&place, "dataplane", Switch::ALL_BITS, &asks);
    let both = status();
    assert_eq!((&both["version_check"]["zone"], &both["settings_differ"]), (&json!("one.example.com"), &json!([])));
    assert!(text().contains("                 settings not known: it is of an older version\n"), "{}", text());

    let mut newer = older;
    newer["settings"] = json!({ "version_zone": "two.example.com", "state_dir": "own" });
    newer["settings"]["cluster_id"] = both["cluster_id"].clone();
    newer["settings"]["node_id"] = both["node_id"].clone();
    place.with("processes/api-9", &newer.to_string());
    let differing = status();
    assert_eq!(differing["settings_differ"], json!(["version_zone"]));
    assert_eq!((&differing["version_check"]["zone"], &differing["cluster_id"]), (&json!(null), &both["cluster_id"]));
    let one = format!("api (pid 9) has two.example.com, dataplane (pid {}) has one.example.com\n", std::process::id());
    for line in [format!("  version zone differs: {one}"), format!("  zone           differs: {one}")] {
        assert!(text().contains(&line), "{line} in {}", text());
    }
    // What is no settings is none, whatever it is.
    for damaged in [json!(5), json!([]), json!("x")] {
        newer["settings"] = damaged;
        place.with("processes/api-9", &newer.to_string());
        assert_eq!(status()["settings_differ"], json!([]));
    }
    dataplane.close(Duration::ZERO);
}

#[test]
fn a_crash_monitor_is_where_its_process_is() {
    let place = Place::new("status-monitor");
    let state = place.at("");
    let dsn = [(Setting::SentryDsn, "https://k@sentry.example.com/1"), (Setting::MonitorPath, "/nonexistent")];
    let daemon = client_with(&place, "dataplane", Switch::ALL_BITS, &dsn);
    let monitor = || {
        let status = run(&["status", "--json", "--state-dir", &state]).with(0).json();
        let said = &status["processes"][0]["settings"];
        (said["monitor"].clone(), said["monitor_why"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(monitor(), (json!("not installed"), String::new()));
    assert!(daemon.install_crash_handler(0).is_err());
    let (state_of_it, why) = monitor();
    assert_eq!(state_of_it, "none");
    assert!(why.contains("/nonexistent"), "{why}");
    daemon.close(Duration::ZERO);
}

#[test]
fn a_directory_that_nobody_has_used_is_said_to_be_one() {
    let place = Place::new("status-unused");
    let state = place.at("");
    let said = "                 no process has used this directory: is it the one that the daemons have?\n";
    let used = |state: &str| run(&["status", "--json", "--state-dir", state]).with(0).json()["used"].clone();
    for state in [&state, &place.at("absent")] {
        let text = run(&["status", "--state-dir", state]).with(0).stdout;
        assert!(text.contains(said), "{text}");
        assert_eq!(used(state), false);
    }
    // What administrators write there is no use of it.
    let disabled = run(&["disable", "all", "--state-dir", &state]).with(0);
    assert!(
        disabled.stderr.contains(&format!("warning: {}: no process has used", state.trim_end_matches('/'))),
        "{}",
        disabled.stderr
    );
    assert_eq!((used(&state), disabled.stderr.lines().count()), (json!(false), 1));
    for looks in [["report", "history"], ["crashes", "list"]] {
        let said = run(&[&looks[..], &["--state-dir", &state]].concat()).with(0).stderr;
        assert!(said.contains("no process has used this directory") && said.lines().count() == 1, "{said}");
    }
    let daemon = client(&place, "dataplane", Switch::ALL_BITS);
    assert_eq!(used(&state), true);
    daemon.close(Duration::ZERO);
    assert_eq!(used(&state), true, "one has");
    assert!(!run(&["status", "--state-dir", &state]).with(0).stdout.contains("no process has used"));
    assert_eq!(run(&["enable", "all", "--state-dir", &state]).with(0).stderr, "");
    let status = run(&["status", "--json"]).with(0).json();
    assert_eq!(status["used"], json!(null));
    // Others may write to this one: each user has a folder of its own.
    let shared = Place::new("status-shared");
    std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::create_dir(shared.path().join("ondat-telemetry-4711")).unwrap();
    let text = run(&["status", "--state-dir", &shared.at("")]).with(0).stdout;
    let theirs = "processes of other users have ondat-telemetry-4711 in it: run this as one of them\n";
    assert!(text.contains(theirs), "{text}");
}

#[test]
fn the_node_and_the_administrators_file_are_named() {
    let place = Place::new("status-node");
    let state = place.at("");
    let status = || run(&["status", "--json", "--state-dir", &state]).with(0).json();
    let before = status();
    assert!(!before["node"]["name"].as_str().unwrap().is_empty());
    assert_eq!(
        (&before["created_at"], &before["log"]),
        (&json!(null), &json!({ "level": "info", "format": "default" }))
    );
    run(&["disable", "version-check", "--state-dir", &state]).with(0);
    let after = status();
    assert!(after["created_at"].as_i64() > Some(1_700_000_000), "{after}");
    assert_eq!(after["administrator"]["version_check"], false);
    let all_on = json!({ "version_check": true, "daily_report": true, "crash_reports": true });
    assert_eq!(after["administrator"]["api"], all_on);
    place.with("switches.json", "{");
    let damaged = status();
    assert_eq!(
        (&damaged["administrator"]["api"]["daily_report"], &damaged["log"]["level"]),
        (&json!(false), &json!(null))
    );
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
    let not_known = [
        "cluster id       ",
        "node id          ",
        "zone           ",
        "keys           ",
        "collector      ",
        "sealing key    ",
        "server         ",
    ];
    let not_known = not_known.map(|line| format!("{line}not known to this command\n"));
    for line in not_known.iter().map(String::as_str).chain(["state directory  not configured"]) {
        assert!(text.contains(line), "{line} in {text}");
    }
    for untrue in ["0.0.0", "not verified", "unsigned answers are accepted"] {
        assert!(!text.contains(untrue), "{text}");
    }
    let told = ["--version-zone", "z.example", "--sentry-dsn", "https://key@sentry.example.com/1"];
    let text = run(&[&["status"], &told[..]].concat()).with(0).stdout;
    for line in [
        "zone           z.example\n",
        "keys           not configured: unsigned answers are accepted\n",
        "server         sentry.example.com\n",
        "collector      not known to this command\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn ids_are_shown_in_the_form_in_which_they_are_sent() {
    let status = run(&["status", "--json", "--cluster-id", "c-1", "--node-id", "n-1"]).with(0).json();
    let identity = ondat_telemetry_protocol::identity::Identity::from_cluster_id("c-1");
    let node = identity.anonymise_hex(Purpose::Node, "n-1");
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
