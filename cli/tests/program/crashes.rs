//! `crashes`: what is stored, shown, sent and removed.

use std::net::TcpListener;
use std::time::Duration;

use ondat_telemetry::client::Client;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::Setting;

use crate::program::{IDENTITY, Place, run};

/// The wait status of a process that called exit(3).
const EXITED_3: i32 = 3 << 8;
const SIGKILL: i32 = 9;

/// A state directory in which a client has stored these endings.
fn stored(place: &Place, wait_statuses: &[i32]) {
    let mut builder = ConfigBuilder::new();
    builder.set(Setting::Component, "controlplane");
    builder.set(Setting::Version, "2.8.2");
    builder.set(Setting::ClusterId, "c-1");
    builder.set(Setting::NodeId, "n-1");
    builder.set(Setting::StateDir, &place.at(""));
    builder.set(Setting::SentryDsn, "http://key@127.0.0.1:9/1");
    let client = Client::new(builder.build().unwrap()).unwrap();
    for wait_status in wait_statuses {
        client.report_exit("dataplane", *wait_status, None).unwrap();
    }
    client.close(Duration::ZERO);
}

fn ids(place: &Place) -> Vec<String> {
    let listed = run(&["crashes", "list", "--json", "--state-dir", &place.at("")]).with(0).json();
    let crashes = listed["crashes"].as_array().unwrap();
    crashes.iter().map(|crash| crash["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_stored_is_listed_and_shown_byte_for_byte() {
    let place = Place::new("crashes-list");
    let state = place.at("");
    let empty = run(&["crashes", "list", "--state-dir", &state]).with(0);
    assert_eq!(empty.stdout, "no crash report is stored\n");
    stored(&place, &[EXITED_3, SIGKILL]);
    let listed = run(&["crashes", "list", "--state-dir", &state]).with(0).stdout;
    assert!(listed.contains("  ondat@2.8.2  dataplane exited with code 3\n"), "{listed}");
    assert!(listed.contains("  ondat@2.8.2  dataplane killed by SIGKILL\n"), "{listed}");
    for id in ids(&place) {
        let shown = run(&["crashes", "show", &id, "--state-dir", &state]).with(0).stdout;
        let file = std::fs::read_to_string(place.path().join(format!("spool/crashes/{id}.json"))).unwrap();
        assert_eq!(shown, file + "\n");
    }
    for id in ["0123456789abcdef0123456789abcdef", "../../crash", ""] {
        let ended = run(&["crashes", "show", id, "--state-dir", &state]).with(2);
        assert!(ended.stderr.contains("is stored; `crashes list` names them"), "{}", ended.stderr);
    }
    run(&["crashes", "list"]).with(2);
}

#[test]
fn a_crash_loop_is_listed_with_what_is_held_back() {
    let place = Place::new("crashes-held");
    stored(&place, &[EXITED_3; 9]);
    assert_eq!(ids(&place).len(), 5);
    let listed = run(&["crashes", "list", "--state-dir", &place.at("")]).with(0).stdout;
    assert!(listed.ends_with("4 more are held back, as there were many of their kind within an hour\n"), "{listed}");
}

#[test]
fn one_or_all_are_removed() {
    let place = Place::new("crashes-purge");
    let state = place.at("");
    stored(&place, &[EXITED_3, SIGKILL, SIGKILL, SIGKILL, SIGKILL, SIGKILL, SIGKILL]);
    let all = ids(&place);
    run(&["crashes", "purge", &all[0], "--state-dir", &state]).with(0);
    assert_eq!(ids(&place), all[1..]);
    run(&["crashes", "purge", "--state-dir", &state]).with(2);
    run(&["crashes", "purge", "--all", "--state-dir", &state]).with(0);
    let left = run(&["crashes", "list", "--json", "--state-dir", &state]).with(0).json();
    let outcome = run(&["crashes", "purge", "--all", "--json", "--state-dir", &state]).with(0).json();
    assert_eq!(outcome, serde_json::json!({ "outcome": "removed" }));
    assert_eq!((left["crashes"].as_array().map(Vec::len), &left["held_back"]), (Some(0), &0.into()));
}

#[test]
fn what_is_stored_is_sent_and_stays_where_it_cannot_be() {
    let place = Place::new("crashes-send");
    let state = place.at("");
    stored(&place, &[EXITED_3]);
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dsn = |address: std::net::SocketAddr| format!("http://key@{address}/1");
    let arguments = |dsn: &str| {
        let mut arguments = vec!["crashes", "send", "--state-dir", &state, "--sentry-dsn"];
        arguments.push(dsn);
        arguments.extend(IDENTITY);
        run(&arguments)
    };
    let ended = arguments(&dsn(gone)).with(6);
    assert!(ended.stderr.contains("stored and tried again"), "{}", ended.stderr);
    assert_eq!(ids(&place).len(), 1);
    let status = || run(&["status", "--json", "--state-dir", &state]).with(0).json()["crash_reports"].clone();
    let failed = status();
    let why = failed["last_error"]["text"].as_str().unwrap();
    assert!(ended.stderr.trim_end().ends_with(why), "{} does not end with {why}", ended.stderr);
    assert_eq!((&failed["waiting"], &failed["last_success"]), (&1.into(), &serde_json::Value::Null));
    assert!(failed["next_try"].as_i64() > failed["last_error"]["at"].as_i64(), "{failed}");
    let text = run(&["status", "--state-dir", &state]).with(0).stdout;
    assert!(text.contains("  waiting        1\n  last error     ") && text.contains(&format!("Z: {why}\n")), "{text}");
    let (address, received) = crate::servers::sentry();
    arguments(&dsn(address)).with(0);
    assert!(received.recv_timeout(Duration::from_secs(20)).unwrap().contains("dataplane exited with code 3"));
    assert_eq!(ids(&place).len(), 0);
    let sent = status();
    assert_eq!(
        (&sent["waiting"], &sent["last_error"], &sent["next_try"]),
        (&0.into(), &serde_json::Value::Null, &serde_json::Value::Null)
    );
    assert!(sent["last_success"].as_i64() >= failed["last_error"]["at"].as_i64(), "{sent}");
    // It is in the list from now on, and can be looked at.
    let listed = run(&["crashes", "list", "--state-dir", &state]).with(0).stdout;
    let sent = listed
        .strip_prefix("no crash report waits\n\nsent (the last 100 are kept)\n")
        .unwrap_or_else(|| panic!("{listed}"));
    assert!(sent.ends_with("  ondat@2.8.2  dataplane exited with code 3\n"), "{sent}");
    let json = run(&["crashes", "list", "--json", "--state-dir", &state]).with(0).json();
    let id = json["sent"][0]["id"].as_str().unwrap();
    assert!(sent.starts_with(id), "{sent}");
    let shown = run(&["crashes", "show", id, "--state-dir", &state]).with(0).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), json["sent"][0]["event"]);
    // What has left the machine cannot be taken back.
    let why = run(&["crashes", "purge", id, "--state-dir", &state]).with(2).stderr;
    assert!(why.contains("waits: it was sent"), "{why}");
    stored(&place, &[SIGKILL]);
    let both = run(&["crashes", "list", "--state-dir", &state]).with(0).stdout;
    let (waiting, sent) = both.split_once("\n\nsent (the last 100 are kept)\n").unwrap();
    assert!(waiting.ends_with("killed by SIGKILL") && sent.contains(id), "{both}");
}

#[test]
fn what_a_file_holds_does_nothing_to_the_terminal() {
    let place = Place::new("crashes-controls");
    let folder = place.at("spool/crashes");
    std::fs::create_dir_all(&folder).unwrap();
    let event = "{\"timestamp\":\"\\u001b[2J\",\"release\":\"a\\u202eb\",\"exception\":{\"values\":[{\"value\":\"\\u009b31m\"}]}}";
    place.with("spool/crashes/0123456789abcdef0123456789abcdef.json", event);
    place.with("spool/crashes/00000000000000000000000000000000.json", "{");
    let listed = run(&["crashes", "list", "--state-dir", &place.at("")]).with(0).stdout;
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines.contains(&"0123456789abcdef0123456789abcdef  \u{fffd}[2J  a\u{fffd}b  \u{fffd}31m"), "{listed:?}");
    assert!(lines.contains(&"00000000000000000000000000000000  unreadable  unreadable  unreadable"), "{listed:?}");
}
