//! Each surface turns each switch off and on while the built example runs, and the receiving side sees sending stop and
//! resume.

use ondat_telemetry::switch::Switch;
use serde_json::{Value, json};

use crate::api::{Api, CommandLine, Operator, PASSWORD, USER};
use crate::running::{Received, Running};
use crate::support::{files_in, ondat, program, root, succeed, wait_for};

/// Follows a dataplane while the administrator turns `off` off and on again, by means of `turn`.
fn sending_stops_and_resumes(running: &mut Running, off: &[Switch], source: &str, turn: &dyn Fn(bool)) {
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
    let reports_made = || {
        let copies = files_in(&state_dir.join("sent")).into_iter();
        copies.filter(|copy| copy.extension().is_some_and(|extension| extension == "jsonl")).collect::<Vec<_>>()
    };
    turn(false);
    running.dataplane.rest();
    for switch in off {
        running.dataplane.hear(&format!("{} is off by {source}", switch.name()));
    }
    if let Some(victim) = victim {
        victim.rest();
        victim.crash();
        then(running, [0, 0, 0], "after the crash of a dataplane that was started before");
    }
    let said = running.let_another_crash();
    then(running, [asks, 0, tells], "after a crash");
    assert!(said.ends_with(&format!(" processes {}\n", 1 + tells)), "{said}");
    for switch in off {
        let line = format!("{} is turned off by {source}", switch.name());
        assert!(said.contains(&line), "no {line:?} in {said}");
    }
    for _ in 0..2 {
        running.let_a_day_pass();
        then(running, [asks, reports, 0], "after a day of that");
    }
    assert!(files_in(&state_dir.join("spool")).is_empty(), "{:?}", files_in(&state_dir.join("spool")));
    assert_eq!(files_in(&state_dir.join("run")).len(), 1, "the run marker of the one that runs");
    if reports == 0 {
        assert!(reports_made().is_empty(), "the copies are removed, and no report is made");
    }

    turn(true);
    running.dataplane.rest();
    for switch in off {
        running.dataplane.hear(&format!("{} is on", switch.name()));
    }
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

/// Turns switches off or on.
type Turn = Box<dyn Fn(&[Switch], bool)>;

/// Turns them off and on while a dataplane runs, in the way of a `surface`. What is off is off by `source`.
fn each_and_all(source: &str, surface: impl Fn(&Running) -> Turn) {
    for off in EACH_AND_ALL {
        let mut running = Running::start();
        let turn = surface(&running);
        sending_stops_and_resumes(&mut running, off, source, &|on| turn(off, on));
    }
}

const ADMINISTRATOR: &str = "the administrator (switches.json)";
const API_CLIENT: &str = "the API client (switches.json)";

/// The switch as the command line says it.
fn word(switch: Switch) -> String {
    switch.name().replace('_', "-")
}

#[test]
fn the_command_line() {
    each_and_all(ADMINISTRATOR, |running| {
        let state_dir = running.state_dir().to_owned();
        Box::new(move |switches, on| {
            let verb = if on { "enable" } else { "disable" };
            let words = match switches {
                [one] => word(*one),
                _ => "all".to_owned(),
            };
            succeed(ondat(&[verb, &words, "--state-dir"]).arg(&state_dir));
        })
    });
}

/// The product's names of these switches, in which true is off.
fn product_names(switches: &[Switch]) -> Vec<&'static str> {
    let name = |switch: &Switch| match switch {
        Switch::VersionCheck => "disableVersionCheck",
        Switch::DailyReport => "disableTelemetry",
        Switch::CrashReports => "disableCrashReporting",
    };
    switches.iter().map(name).collect()
}

/// The settings are these, and have another version than before.
fn assert_cluster(cluster: &Value, disabled: &[&str], before: &Value) {
    for name in product_names(&Switch::ALL) {
        assert_eq!(cluster[name], disabled.contains(&name), "{name} of {cluster}");
    }
    assert_ne!(cluster["version"], before["version"], "{cluster}");
}

#[test]
fn the_products_operators() {
    each_and_all(API_CLIENT, |running| {
        let api = Api::serve(running.state_dir());
        Box::new(move |switches, on| {
            let operator = Operator::log_in(&api);
            let before = operator.read();
            let disabled = if on { Vec::new() } else { product_names(switches) };
            let after = operator.write(&disabled, before["version"].as_str().unwrap());
            assert_cluster(&after.json(), &disabled, &before);
            assert_eq!(operator.read(), after.json());
        })
    });
}

#[test]
fn the_products_command_line() {
    each_and_all(API_CLIENT, |running| {
        let api = Api::serve(running.state_dir());
        Box::new(move |switches, on| {
            let command_line = CommandLine::log_in(&api);
            let before = command_line.read();
            let disabled = if on { Vec::new() } else { product_names(switches) };
            assert_cluster(&command_line.force(&disabled).json(), &disabled, &before);
        })
    });
}

#[test]
fn our_own_call() {
    each_and_all(API_CLIENT, |running| {
        let api = Api::serve(running.state_dir());
        Box::new(move |switches, on| {
            let caller = CommandLine::log_in(&api);
            let before = caller.switches();
            let mut wanted = json!({ "version": before["version"] });
            for switch in Switch::ALL {
                wanted[switch.name()] = (on || !switches.contains(&switch)).into();
            }
            let after = caller.set_switches(&wanted).json();
            for switch in Switch::ALL {
                assert_eq!(after[switch.name()], wanted[switch.name()], "{after}");
                assert_eq!(after["switches"][switch.name()]["on"], wanted[switch.name()], "{after}");
            }
        })
    });
}

#[test]
fn the_page() {
    each_and_all(ADMINISTRATOR, |running| {
        let api = Api::serve(running.state_dir());
        Box::new(move |switches, on| {
            let python = root().join("target/page-venv/bin/python");
            assert!(python.exists(), "{} is missing\nrun tools/setup test first", python.display());
            let names: Vec<_> = switches.iter().map(|switch| switch.name()).collect();
            let scene = json!({ "url": api.url(), "user": USER, "password": PASSWORD, "switches": names, "on": on });
            // -B: nothing is written beside the sources.
            let mut browser = program(python);
            browser.arg("-B").arg(root().join("cli/tests/serve/browser.py")).args(["turn", &scene.to_string()]);
            assert_eq!(succeed(&mut browser).stdout, b"seen\n");
        })
    });
}

#[test]
fn neither_an_operator_nor_a_person_turns_on_what_the_other_one_has_turned_off() {
    let running = Running::start();
    let api = Api::serve(running.state_dir());
    let state_dir = running.state_dir().to_owned();
    let person = |words: &[&str]| {
        let said = succeed(ondat(&[words, &["--state-dir"]].concat()).arg(&state_dir)).stdout;
        String::from_utf8(said).unwrap()
    };
    let operator = |disabled: &[&str]| {
        let operator = Operator::log_in(&api);
        let version = operator.read()["version"].as_str().unwrap().to_owned();
        assert_eq!(operator.write(disabled, &version).status, 200);
    };
    person(&["disable", "daily-report"]);
    operator(&["disableCrashReporting"]);
    running.dataplane.rest();
    running.dataplane.hear(&format!("daily_report is off by {ADMINISTRATOR}"));
    running.dataplane.hear(&format!("crash_reports is off by {API_CLIENT}"));
    // The resource says nothing of the report, and goes on saying so.
    operator(&[]);
    running.dataplane.rest();
    running.dataplane.hear("crash_reports is on");
    assert_eq!(running.dataplane.said("daily_report is on"), 0);
    operator(&["disableTelemetry"]);
    let said = person(&["enable", "all"]);
    assert!(said.contains(&format!("daily_report   off by {API_CLIENT}\n")), "{said}");
    running.dataplane.rest();
    assert_eq!(running.dataplane.said("daily_report is on"), 0);
    let before = running.received();
    running.let_a_day_pass();
    assert_eq!(running.received(), [before[0] + 1, before[1], before[2]], "no report");
    person(&["enable", "daily-report", "--also-api"]);
    running.dataplane.rest();
    running.dataplane.hear("daily_report is on");
    assert_eq!(running.received()[1], before[1] + 1, "one of today");
}

#[test]
fn two_administrators_at_once() {
    let running = Running::start();
    let api = Api::serve(running.state_dir());
    let (one, other) = (Operator::log_in(&api), CommandLine::log_in(&api));
    let read = one.read();
    let version = read["version"].as_str().unwrap().to_owned();
    assert_cluster(&read, &[], &Value::Null);
    let forced = other.force(&["disableCrashReporting"]).json();
    assert_cluster(&forced, &["disableCrashReporting"], &read);

    let stale = one.write(&["disableTelemetry", "disableVersionCheck"], &version);
    assert_eq!(stale.status, 412, "{stale:?}");
    let why: Value = serde_json::from_str(&stale.body).unwrap();
    assert!(why["error"].as_str().unwrap().starts_with("attempting to write stale object"), "{why}");
    assert_eq!(one.read(), forced, "nothing is lost");

    // Flipped back, it is another state than the first one.
    let back = one.write(&[], forced["version"].as_str().unwrap()).json();
    assert_cluster(&back, &[], &read);
    assert_eq!(one.write(&["disableTelemetry"], &version).status, 412);
    running.dataplane.rest();
    running.dataplane.hear("crash_reports is off");
    assert_eq!(running.dataplane.said(" is off"), 1, "what was refused was never in force");
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
fn the_cluster_spec_of_a_running_dataplane() {
    each_and_all("cluster spec ", |running| {
        let (state_dir, file) = (running.state_dir().to_owned(), running.cluster.folder.join("cluster.yaml"));
        Box::new(move |switches, on| {
            std::fs::write(&file, cluster_spec(if on { &[] } else { switches })).unwrap();
            succeed(ondat(&["apply", "--cluster-spec"]).arg(&file).arg("--state-dir").arg(&state_dir));
        })
    });
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
        running.dataplane.hear("turned off by cluster spec ");

        running.crash_and_restart();
        let restarted = [2 + 3 * asks, 1 + 2 * reports + (1 - reports), tells];
        assert_eq!(running.received(), restarted, "after a crash with {off:?} off, and a start with all on");
        running.let_a_day_pass();
        assert_eq!(running.received(), [restarted[0] + 1, restarted[1] + 1, tells], "after a day with all on");
        running.crash_and_restart();
        assert_eq!(running.received()[2], tells + 1, "after a crash with all on");
    }
}

#[test]
fn what_a_running_dataplane_holds_off_itself_is_named_everywhere() {
    let mut running = Running::start();
    let api = Api::serve(running.state_dir());
    let (operator, caller) = (Operator::log_in(&api), CommandLine::log_in(&api));
    // Each surface says the same.
    let off_by = |running: &Running| {
        let status = succeed(ondat(&["status", "--json", "--state-dir"]).arg(running.state_dir()));
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let held = status["switches"]["daily_report"].clone();
        assert_eq!(operator.read()["switches"]["daily_report"], held);
        assert_eq!(caller.switches()["switches"]["daily_report"], held);
        assert_eq!(held["on"], held["off_by"] == json!([]));
        held["off_by"].clone()
    };
    assert_eq!(off_by(&running), json!([]));

    running.restart(&[("DISABLE_TELEMETRY", "true")]);
    let name = format!("dataplane (pid {})", running.dataplane.pid());
    assert_eq!(off_by(&running), json!([format!("environment DISABLE_TELEMETRY of {name}")]));

    // Where another one has it on, it is on, but not in that one.
    let other = running.another();
    assert_eq!(off_by(&running), json!([]));
    let text = succeed(ondat(&["status", "--state-dir"]).arg(running.state_dir())).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(&format!("on, but off in {name} by environment DISABLE_TELEMETRY\n")), "{text}");
    other.crash();
    assert_ne!(off_by(&running), json!([]), "what is dead has no say");

    running.crash_and_restart();
    assert_eq!(off_by(&running), json!([]));
    let left = files_in(&running.state_dir().join("processes"));
    assert_eq!(left.len(), 2, "its words and its socket; what the dead have left is removed: {left:?}");
}

/// Whether something has come to a port of this machine that nobody has read yet.
fn is_unread(protocol: &str, address: &str) -> bool {
    let port = address.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let table = std::fs::read_to_string(format!("/proc/net/{protocol}")).unwrap();
    // Number, local address, remote address, state (0A listens), bytes to be sent and to be read (proc_net_tcp.rst).
    let is_there = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1].ends_with(&format!(":{port:04X}")) && !words[4].ends_with(":00000000") && words[3] != "0A"
    };
    table.lines().skip(1).any(is_there)
}

#[test]
fn what_is_under_way_when_it_is_turned_off_ends() {
    for switch in [Switch::VersionCheck, Switch::DailyReport] {
        let running = Running::start();
        let turn = |verb, switch| {
            succeed(ondat(&[verb, &word(switch), "--state-dir"]).arg(running.state_dir()));
        };
        let (protocol, address, other) = match switch {
            Switch::VersionCheck => ("udp", &running.collector.dns, Switch::DailyReport),
            _ => ("tcp", &running.collector.url, Switch::VersionCheck),
        };
        turn("disable", other);
        running.dataplane.rest();
        running.collector.server.pause();
        running.begin_a_day();
        wait_for("a request", || is_unread(protocol, address).then_some(()));
        assert!(!running.dataplane.is_at_rest(), "nothing is under way");

        turn("disable", switch);
        // It would wait for ten minutes.
        running.dataplane.rest();
        running.dataplane.hear(&format!("{} is off", switch.name()));
        assert!(files_in(&running.state_dir().join("spool")).is_empty());

        running.collector.server.resume();
        turn("enable", switch);
        running.dataplane.rest();
        running.let_a_day_pass();
        let reports = if switch == Switch::DailyReport { 2 } else { 1 };
        assert_eq!(running.received()[1], reports, "the one at the start, and the one of the day after");
    }
}
