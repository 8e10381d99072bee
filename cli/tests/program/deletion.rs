//! `deletion-list`: the ids are those of the reports, and nobody has them who has not the key.

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::identity::{Identity, Purpose, is_hex_id};
use ondat_telemetry_protocol::time::{date, unix_seconds};
use serde_json::Value;

use crate::program::{Place, run};

fn today() -> String {
    date(unix_seconds(std::time::SystemTime::now()).unwrap())
}

#[test]
fn the_list_has_the_ids_of_the_reports() {
    let place = Place::new("deletion");
    let state = place.at("state");
    let list = |more: &[&str]| {
        let arguments = [&["deletion-list", "--cluster-id", "c-1", "--state-dir", &state], more].concat();
        run(&arguments).with(0).stdout
    };
    // Midnight may come in between.
    let (before, text, after) = (today(), list(&["--days", "30"]), today());
    let identity = Identity::from_cluster_id("c-1");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("cluster {}", identity.anonymise_hex(Purpose::Cluster, "c-1")));
    let last = [before, after].map(|day| format!("report {}", HEXLOWER.encode(&identity.report_id(&day))));
    assert!(last.iter().any(|last| last == lines[30]), "{} is none of {last:?}", lines[30]);
    let ids: Vec<&str> = lines[1..].iter().map(|line| line.strip_prefix("report ").unwrap()).collect();
    assert!(ids.len() == 30 && ids.iter().all(|id| is_hex_id(id)));

    let json: Value = serde_json::from_str(&list(&["--json"])).unwrap();
    assert_eq!(json["report_ids"].as_array().unwrap().len(), 400);
    // With another key they are others.
    run(&["reset-identity", "--state-dir", &state]).with(0);
    assert!(!list(&["--days", "30"]).lines().any(|line| lines.contains(&line)));
    let why = run(&["deletion-list", "--state-dir", &state]).with(2).stderr;
    assert!(why.contains("the cluster id is required"), "{why}");
}
