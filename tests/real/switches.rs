//! Each surface turns each switch off and on while the built example runs, and the receiving side sees sending stop and
//! resume.

use std::path::Path;

use ondat_telemetry::switches::Switch;
use serde_json::{Map, Value, json};

use crate::running::{Received, Running};
use crate::support::files_in;

/// Follows a dataplane while the administrator turns `off` off and on again: `turn` is how he does it.
fn sending_stops_and_resumes(running: &mut Running, off: &[Switch], turn: &dyn Fn(bool)) {
    let [asks, reports, tells] = Switch::ALL.map(|switch| usize::from(!off.contains(&switch)));
    let state_dir = running.state_dir().to_owned();
    let mut expected = running.received();
    let mut then = |running: &Running, received: Received, when: &str| {
        for (expected, received) in expected.iter_mut().zip(received) {
            *expected += received;
        }
        assert_eq!(running.received(), expected, "queries, reports and crash reports {when}, with {off:?} off");
    };

    running.let_a_day_pass();
    then(running, [1, 1, 0], "after a day");
    let victim = (tells == 0).then(|| {
        let said = running.let_another_crash();
        assert!(said.ends_with(" processes 2\n"), "no monitor: {said}");
        then(running, [1, 0, 1], "after a crash");
        let victim = running.another();
        then(running, [1, 0, 0], "after the start of another dataplane");
        victim
    });
    let made = files_in(&state_dir.join("sent"));

    turn(false);
    running.dataplane.rest();
    for switch in off {
        let line = format!("{} is off", switch.name());
        assert!(running.dataplane.said(&line) > 0, "the dataplane has not noticed that {line}");
    }
    if let Some(victim) = victim {
        victim.rest();
        victim.crash();
        then(running, [0, 0, 0], "after the crash of a dataplane that was started before");
    }
    let said = running.let_another_crash();
    then(running, [asks, 0, tells], "after a crash");
    assert!(said.ends_with(&format!(" processes {}\n", 1 + tells)), "{said}");
    for _ in 0..2 {
        running.let_a_day_pass();
        then(running, [asks, reports, 0], "after a day of that");
    }
    assert!(files_in(&state_dir.join("spool")).is_empty(), "{:?}", files_in(&state_dir.join("spool")));
    assert_eq!(files_in(&state_dir.join("run")).len(), 1, "the run marker of the one that runs");
    if reports == 0 {
        assert_eq!(files_in(&state_dir.join("sent")), made, "no report is made");
    }

    turn(true);
    running.dataplane.rest();
    // What was due meanwhile is made up for by one, of today.
    then(running, [1 - asks, 1 - reports, 0], "at once when it is on again");
    running.let_a_day_pass();
    then(running, [1, 1, 0], "after another day");
    if tells == 0 {
        running.let_another_crash();
        then(running, [1, 0, 1], "after a crash");
        running.crash_and_restart();
        then(running, [1, 0, 1], "after the crash of the dataplane that ran all the time");
    }
}

/// The three one by one, and all at once.
const EACH_AND_ALL: [&[Switch]; 4] =
    [&[Switch::VersionCheck], &[Switch::DailyReport], &[Switch::CrashReports], &Switch::ALL];

/// Turns them off and on while a dataplane runs: `turn` is told the state directory, what to turn, and whether on.
fn each_and_all(turn: impl Fn(&Path, &[Switch], bool)) {
    for off in EACH_AND_ALL {
        let mut running = Running::start();
        let state_dir = running.state_dir().to_owned();
        sending_stops_and_resumes(&mut running, off, &|on| turn(&state_dir, off, on));
    }
}

/// Writes the administrator's file, as the commands do.
fn write_switches(state_dir: &Path, switches: &[Switch], on: bool) {
    let words: Map<String, Value> = switches.iter().map(|switch| (switch.name().to_owned(), on.into())).collect();
    let new = state_dir.join("new");
    std::fs::write(&new, Value::Object(words).to_string()).unwrap();
    std::fs::rename(new, state_dir.join("switches.json")).unwrap();
}

#[test]
fn the_file() {
    each_and_all(write_switches);
}

/// A cluster's resource that turns these off.
fn cluster_spec(off: &[Switch]) -> String {
    if *off == Switch::ALL {
        let spec = json!({ "disableTelemetry": true, "storageClassName": "ondat" });
        return json!({ "apiVersion": "storageos.com/v1alpha1", "kind": "StorageOSCluster", "spec": spec }).to_string();
    }
    let variable = |switch: &Switch| match switch {
        Switch::VersionCheck => "    DISABLE_VERSION_CHECK: \"true\"\n",
        Switch::DailyReport => "    DISABLE_TELEMETRY: \"true\"\n",
        Switch::CrashReports => "    DISABLE_CRASH_REPORTING: \"true\"\n",
    };
    let variables: String = off.iter().map(variable).collect();
    format!(
        "apiVersion: storageos.com/v1\nkind: StorageOSCluster\nmetadata:\n  name: ondat\nspec:\n  \
         disableTelemetry: false\n  environment:\n    LOG_LEVEL: info\n{variables}  k8sDistro: rancher-1.2\n"
    )
}

#[test]
fn a_dataplane_that_starts_with_a_cluster_spec() {
    for off in EACH_AND_ALL {
        let [asks, reports, tells] = Switch::ALL.map(|switch| usize::from(!off.contains(&switch)));
        let mut running = Running::start();
        let spec = running.cluster.folder.join("cluster.yaml");
        std::fs::write(&spec, cluster_spec(off)).unwrap();
        running.restart(&[("DATAPLANE_CLUSTER_SPEC", spec.to_str().unwrap())]);
        assert_eq!(running.received(), [1 + asks, 1, 0], "after a start with {off:?} off");
        running.let_a_day_pass();
        running.let_a_day_pass();
        assert_eq!(running.received(), [1 + 3 * asks, 1 + 2 * reports, 0], "after two days with {off:?} off");
        assert_eq!(running.dataplane.monitor().is_some(), tells == 1);
        let sources = running.dataplane.said("turned off by cluster spec ");
        assert!(sources > 0, "the dataplane does not say who has turned {off:?} off");

        running.crash_and_restart();
        let restarted = [2 + 3 * asks, 1 + 2 * reports + (1 - reports), tells];
        assert_eq!(running.received(), restarted, "after a crash with {off:?} off, and a start with all on");
        running.let_a_day_pass();
        assert_eq!(running.received(), [restarted[0] + 1, restarted[1] + 1, tells], "after a day with all on");
        running.crash_and_restart();
        assert_eq!(running.received()[2], tells + 1, "after a crash with all on");
    }
}
