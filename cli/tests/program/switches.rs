//! `enable`, `disable`, `apply`, `repair`, `password`: the administrator's word from the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::program::{Place, command, finish, held_by, run, run_with_input};

fn audit(place: &Place) -> Vec<Value> {
    let text = fs::read_to_string(place.path().join("audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn switches(place: &Place) -> Value {
    run(&["status", "--json", "--state-dir", &place.at("")]).with(0).json()["switches"].clone()
}

#[test]
fn each_switch_goes_off_and_on() {
    let place = Place::new("switches-each");
    let state = place.at("");
    for (name, member) in
        [("version-check", "version_check"), ("daily-report", "daily_report"), ("crash-reports", "crash_reports")]
    {
        let said = run(&["disable", name, "--state-dir", &state]).with(0).stdout;
        assert_eq!(said, format!("{member:<15}off by the administrator (switches.json)\n"));
        let now = switches(&place);
        let off: Vec<_> = now.as_object().unwrap().iter().filter(|(_, switch)| switch["on"] == false).collect();
        assert_eq!(off.len(), 1);
        assert_eq!(now[member]["on"], false);
        let said = run(&["enable", name, "--state-dir", &state]).with(0).stdout;
        assert_eq!(said, format!("{member:<15}on\n"));
    }
    let said = run(&["disable", "all", "--json", "--state-dir", &state]).with(0).json();
    assert_eq!(said["switches"]["crash_reports"]["on"], false);
    assert_eq!(said["switches"], switches(&place));
    for name in ["switches.json", "audit.jsonl"] {
        let mode = fs::metadata(place.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let lines = audit(&place);
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[0]["changes"], json!({ "version_check": { "from": true, "to": false } }));
    assert_eq!((&lines[0]["via"], &lines[0]["address"]), (&json!("command"), &json!(null)));
    // The same again is no change.
    run(&["disable", "all", "--state-dir", &state]).with(0);
    assert_eq!(audit(&place).len(), 7);
}

#[test]
fn the_names_that_people_type_are_the_switches() {
    let place = Place::new("switches-names");
    let state = place.at("");
    let table =
        include_str!("../../../docs/administration.md").split("| `enable` and `disable` take | for |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let mut found = Vec::new();
    for row in rows {
        let (names, what) = row.trim_matches('|').split_once(" | ").unwrap();
        let members: &[&str] = match what.trim() {
            "the daily report" => &["daily_report"],
            "crash reports" => &["crash_reports"],
            "the version check" => &["version_check"],
            "all three" => &["version_check", "daily_report", "crash_reports"],
            other => panic!("{other}"),
        };
        for name in names.split('`').skip(1).step_by(2) {
            for typed in [name.to_owned(), name.to_uppercase(), name.to_lowercase().replace('-', "_")] {
                run(&["disable", &typed, "--state-dir", &state]).with(0);
                let now = switches(&place);
                let off = now.as_object().unwrap().iter().filter(|(_, switch)| switch["on"] == false);
                assert!(off.map(|(member, _)| member.as_str()).eq(sorted(members)), "{typed}: {now}");
                let ended = run(&["enable", &typed, "--state-dir", &state]).with(0);
                let said: String = members.iter().map(|member| format!("{member:<15}on\n")).collect();
                assert_eq!(ended.stdout, said, "{typed}");
                // What `enable DISABLE_TELEMETRY` has done is not left to be guessed.
                let is_variable = name.starts_with('D');
                assert_eq!(ended.stderr.contains("; this turns it on\n"), is_variable, "{typed}: {}", ended.stderr);
            }
            found.push(name.to_owned());
        }
    }
    for name in
        ["telemetry", "crash-reporting", "error-reporting", "version-check", "DISABLE_TELEMETRY", "DO_NOT_TRACK", "all"]
    {
        assert!(found.iter().any(|found| found == name), "{name} is not in docs/administration.md");
    }
}

fn sorted<'a>(members: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let mut members = members.to_vec();
    members.sort_unstable();
    members.into_iter()
}

#[test]
fn a_name_of_nothing_is_refused_with_what_it_may_have_meant() {
    let place = Place::new("switches-misspelt");
    let own = "[possible values: version-check, daily-report, crash-reports, all]";
    for (typed, tip) in [
        ("telemetyr", "'telemetry'"),
        ("crash-report", "'crash-reports'"),
        ("DISABLE_TELEMETYR", "'DISABLE_TELEMETRY'"),
        ("dayly-report", "'daily-report'"),
    ] {
        let why = run(&["disable", typed, "--state-dir", &place.at("")]).with(2).stderr;
        assert!(why.contains(own) && why.contains(tip) && why.lines().count() == 1, "{why}");
    }
    // In the cluster spec it is all three, in the API one of them.
    for typed in ["disableTelemetry", "", "telemetry ", "\u{1b}[31m", "7"] {
        let why = run(&["disable", typed, "--state-dir", &place.at("")]).with(2).stderr;
        assert!(why.lines().count() == 1 && !why.contains('\u{1b}'), "{why:?}");
    }
    assert!(run(&["disable", "--state-dir", &place.at("")]).with(2).stderr.contains("<WHICH>"));
    assert!(place.listing().is_empty());
    for (words, tip) in
        [(&["statu"][..], "'status'"), (&["crashes", "lst"], "'list'"), (&["status", "--jsn"], "'--json'")]
    {
        let why = run(words).with(2).stderr;
        assert!(why.contains("similar") && why.contains(tip) && why.lines().count() == 1, "{why}");
    }
}

#[test]
fn enabled_is_not_on_while_somebody_else_says_off() {
    let place = Place::new("switches-held");
    let mut enable = command(&["enable", "daily-report", "--state-dir", &place.at("")]);
    let said = finish(enable.env("DISABLE_TELEMETRY", "true")).with(0).stdout;
    assert_eq!(said, "daily_report   off by environment DISABLE_TELEMETRY\n");
}

#[test]
fn the_api_clients_word_is_another_ones() {
    let place = Place::new("switches-api");
    let state = place.at("");
    // An older version reads what is off by either.
    place.with("switches.json", r#"{"daily_report":false,"words":{"api":{"daily_report":false}}}"#);
    let held = held_by("api_client", "", "the API client (switches.json)");
    assert_eq!(switches(&place)["daily_report"], held);
    let said = run(&["enable", "all", "--state-dir", &state]).with(0).stdout;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[..3],
        ["version_check  on", "daily_report   off by the API client (switches.json)", "crash_reports  on"]
    );
    assert!(lines[3].starts_with("daily_report is still off by the API client's word: "), "{said}");
    assert!(lines[3].contains("`ondat-telemetry enable daily-report --also-api`") && lines.len() == 4, "{said}");
    assert_eq!(switches(&place)["daily_report"], held);
    run(&["disable", "daily-report", "--state-dir", &state]).with(0);
    let both = json!(["the administrator (switches.json)", "the API client (switches.json)"]);
    assert_eq!(switches(&place)["daily_report"]["off_by"], both);
    let said = run(&["enable", "daily-report", "--json", "--state-dir", &state]).with(0).json();
    assert_eq!(said["changed"], "turned on daily_report as the administrator");
    assert_eq!(switches(&place)["daily_report"], held);
    let said = run(&["enable", "daily-report", "--also-api", "--state-dir", &state]).with(0).stdout;
    assert_eq!(said, "daily_report   on\n");
    assert_eq!(switches(&place)["daily_report"]["on"], true);
    let lines = audit(&place);
    let words: Vec<_> = lines.iter().map(|line| line["word"].as_str().unwrap()).collect();
    assert_eq!(words, ["administrator", "administrator", "api"]);
    assert_eq!(lines[2]["changes"], json!({ "daily_report": { "from": false, "to": true } }));
    // The word of neither is in the way of what a cluster spec turns off.
    let spec = place.with("cluster.yaml", "kind: StorageOSCluster\nspec: {disableTelemetry: true}\n");
    run(&["apply", "--cluster-spec", &spec, "--state-dir", &state]).with(0);
    run(&["enable", "all", "--also-api", "--state-dir", &state]).with(0);
    assert_eq!(switches(&place)["daily_report"]["off_by"], json!(["cluster spec disableTelemetry"]));
    assert!(run(&["disable", "all", "--also-api", "--state-dir", &state]).with(2).stderr.contains("--also-api"));
}

#[test]
fn a_damaged_word_turns_everything_off_and_is_repaired() {
    let place = Place::new("switches-words-damaged");
    let state = place.at("");
    for words in [
        r#"5"#,
        r#"[]"#,
        r#"{"api":false}"#,
        r#"{"api":{"daily_report":0}}"#,
        r#"{"api":{"daily-report":false}}"#,
        r#"{"api":{"daily_report":true,"daily_report":false}}"#,
        r#"{"administrator":{"telemetry":true}}"#,
    ] {
        place.with("switches.json", &format!(r#"{{"daily_report":true,"words":{words}}}"#));
        let now = switches(&place);
        assert!(now.as_object().unwrap().values().all(|switch| switch["on"] == false), "{words}: {now}");
        let why = run(&["enable", "all", "--state-dir", &state]).with(2).stderr;
        assert!(why.contains("switches.json") && why.contains("ondat-telemetry repair"), "{words}: {why}");
        run(&["repair", "--state-dir", &state]).with(0);
        // What can be read of the API client's word is kept.
        let is_kept = words.ends_with(r#""daily_report":false}}"#);
        let off_by = ["the administrator (switches.json)", "the API client (switches.json)"];
        let off_by = &off_by[..1 + usize::from(is_kept)];
        assert_eq!(switches(&place)["daily_report"]["off_by"], json!(off_by), "{words}");
        run(&["enable", "all", "--state-dir", &state]).with(0);
        assert_eq!(switches(&place)["daily_report"]["off_by"], json!(off_by[1..]), "{words}");
        run(&["enable", "all", "--also-api", "--state-dir", &state]).with(0);
        assert_eq!(switches(&place)["daily_report"]["on"], true, "{words}");
    }
}

#[test]
fn what_others_have_written_into_the_file_stays() {
    let place = Place::new("switches-others");
    place.with("switches.json", r#"{"note":"by hand","daily_report":false}"#);
    run(&["disable", "version-check", "--state-dir", &place.at("")]).with(0);
    let file: Value = serde_json::from_slice(&fs::read(place.path().join("switches.json")).unwrap()).unwrap();
    assert_eq!((&file["note"], &file["daily_report"]), (&json!("by hand"), &json!(false)));
}

#[test]
fn the_cluster_spec_is_taken_over_and_given_up() {
    let place = Place::new("switches-apply");
    let state = place.at("");
    let apply = |text: &str| {
        let spec = place.with("cluster.yaml", text);
        run(&["apply", "--cluster-spec", &spec, "--state-dir", &state])
    };
    apply("kind: StorageOSCluster\nspec:\n  disableTelemetry: true\n").with(0);
    let held = held_by("cluster_spec", "disableTelemetry", "cluster spec disableTelemetry");
    assert_eq!(switches(&place), json!({ "version_check": held, "daily_report": held, "crash_reports": held }));
    // The administrator's own word is another one.
    let said = run(&["enable", "all", "--state-dir", &state]).with(0).stdout;
    assert!(said.contains("daily_report   off by cluster spec disableTelemetry\n"), "{said}");
    run(&["disable", "crash-reports", "--state-dir", &state]).with(0);
    apply("kind: StorageOSCluster\nspec:\n  environment:\n    DISABLE_VERSION_CHECK: \"true\"\n").with(0);
    let now = switches(&place);
    assert_eq!(now["version_check"]["off_by"], json!(["cluster spec environment DISABLE_VERSION_CHECK"]));
    assert_eq!(now["daily_report"]["on"], true);
    assert_eq!(now["crash_reports"]["off_by"], json!(["the administrator (switches.json)"]));
    let wrong = apply("kind: StorageOSCluster\nspec:\n  disableTelemetry: 1\n").with(2).stderr;
    assert!(wrong.contains("spec.disableTelemetry is not true or false"), "{wrong}");
    assert_eq!(switches(&place), now);
    let spec = place.with("cluster.yaml", "kind: StorageOSCluster\n");
    run(&["apply", "--cluster-spec", &spec, "--state-dir", &state]).with(0);
    assert_eq!(switches(&place)["version_check"]["on"], true);
    assert!(run(&["apply", "--state-dir", &state]).with(2).stderr.contains("--cluster-spec"));
    let spec = place.with("cluster.yaml", "spec: {disableTelemetry: true}\n");
    let said = run(&["apply", "--cluster-spec", &spec, "--state-dir", &state, "--json"]).with(0).json();
    let all = "version_check, daily_report, crash_reports";
    assert_eq!(said["changed"], format!("taken over that the cluster spec turns off {all}"));
    let taken_over = audit(&place).iter().filter(|line| line["changes"].get("objections").is_some()).count();
    assert_eq!(taken_over, 4);
}

#[test]
fn without_a_state_directory_there_is_nothing_to_change() {
    for arguments in
        [&["enable", "all"][..], &["disable", "all"], &["repair"], &["password"], &["reset-identity"], &["serve"]]
    {
        let why = run(arguments).with(2).stderr;
        assert!(why.contains("--state-dir") && why.lines().count() == 1, "{why}");
    }
    let place = Place::new("switches-absent");
    let file = place.with("file", "");
    assert!(run(&["disable", "all", "--state-dir", &file]).with(8).stderr.contains("not a directory"));
    run(&["disable", "all", "--state-dir", &place.at("absent/too")]).with(0);
    assert!(fs::read(place.path().join("absent/too/switches.json")).is_ok(), "it is made");
}

#[test]
fn what_can_be_read_is_not_repaired() {
    let place = Place::new("switches-whole");
    run(&["disable", "all", "--state-dir", &place.at("")]).with(0);
    let before = place.listing();
    assert_eq!(run(&["repair", "--json", "--state-dir", &place.at("")]).with(0).json(), json!({ "repaired": false }));
    assert_eq!(place.listing(), before);
}

#[test]
fn a_full_audit_file_goes_aside_and_a_torn_line_stays_alone() {
    let place = Place::new("switches-audit");
    let state = place.at("");
    place.with("audit.jsonl", "{\"at\":\"2026");
    run(&["disable", "all", "--state-dir", &state]).with(0);
    let text = fs::read_to_string(place.path().join("audit.jsonl")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "{\"at\":\"2026"));
    serde_json::from_str::<Value>(lines[1]).unwrap();
    place.with("audit.jsonl", &"x".repeat(1 << 20));
    run(&["enable", "all", "--state-dir", &state]).with(0);
    assert_eq!(fs::metadata(place.path().join("audit.jsonl.1")).unwrap().len(), 1 << 20);
    assert_eq!(audit(&place).len(), 1);
}

#[test]
fn passwords_are_kept_as_hashes_alone() {
    let place = Place::new("switches-password");
    let state = place.at("");
    let said = run_with_input(&["password", "--state-dir", &state], "correct horse\n").with(0).stdout;
    assert_eq!(said, "the password is set\n");
    run_with_input(&["password", "ops", "--state-dir", &state], "another horse\n").with(0);
    let users = fs::read_to_string(place.path().join("users.json")).unwrap();
    assert_eq!(users.matches("$argon2id$v=19$m=19456,t=2,p=1$").count(), 2, "{users}");
    assert!(!users.contains("horse"));
    let short = run_with_input(&["password", "--state-dir", &state], "short\n").with(2).stderr;
    assert!(short.contains("at least 8 characters"), "{short}");
    assert_eq!(fs::read_to_string(place.path().join("users.json")).unwrap(), users);
    run(&["password", "--remove", "ops", "--state-dir", &state]).with(0);
    assert!(run(&["password", "--remove", "ops", "--state-dir", &state]).with(2).stderr.contains("no user"));
    let actions: Vec<_> = audit(&place).iter().map(|line| line["action"].clone()).collect();
    assert_eq!(actions, ["password", "password", "password removed"]);
    assert!(!fs::read_to_string(place.path().join("audit.jsonl")).unwrap().contains("argon2"));
}

#[test]
fn a_password_can_come_from_a_file() {
    let place = Place::new("switches-password-file");
    let (state, file) = (place.at("state"), place.at("password"));
    place.with("password", "correct horse\nno part of it\n");
    assert_eq!(run(&["password", "--file", &file, "--state-dir", &state]).with(0).stdout, "the password is set\n");
    let users = fs::read_to_string(place.path().join("state/users.json")).unwrap();
    assert!(users.contains("\"admin\"") && !users.contains("horse"), "{users}");
    for (file, why) in [(place.at("missing"), "No such file"), (place.at(""), "Is a directory")] {
        let said = run(&["password", "--file", &file, "--state-dir", &state]).with(2).stderr;
        assert!(said.contains(&file) && said.contains(why), "{said}");
    }
    place.with("password", "short\n");
    assert!(
        run(&["password", "--file", &file, "--state-dir", &state]).with(2).stderr.contains("at least 8 characters")
    );
    assert!(run(&["password", "--file", &file, "--remove", "--state-dir", &state]).with(2).stderr.contains("--remove"));
    assert_eq!(fs::read_to_string(place.path().join("state/users.json")).unwrap(), users);
}

#[test]
fn a_new_identity_has_nothing_in_common_with_the_old_one() {
    let (place, other) = (Place::new("identity"), Place::new("identity-other"));
    let reset = |state: &str, more: &[&str]| {
        run(&[&["reset-identity", "--json", "--cluster-id", "c-1", "--state-dir", state], more].concat())
    };
    let id = |state: &str| run(&["status", "--json", "--cluster-id", "c-1", "--state-dir", state]).with(0).json();
    let before = id(&place.at(""))["cluster_id"].clone();
    let said = reset(&place.at(""), &[]).with(0).json();
    let after = id(&place.at(""))["cluster_id"].clone();
    assert_ne!(before, after);
    assert_eq!(said["cluster_id"], json!({ "before": before, "after": after }));
    let key = place.at("identity.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // The other nodes of the cluster.
    reset(&other.at(""), &["--key-file", &key]).with(0);
    assert_eq!(id(&other.at(""))["cluster_id"], after);
    // A damaged key brings no old ids back, and this command is the way out.
    place.with("identity.key", "damaged");
    let why = run(&["status", "--state-dir", &place.at("")]).with(2).stderr;
    assert!(why.contains("reset-identity"), "{why}");
    reset(&place.at(""), &[]).with(0);
    assert_ne!(id(&place.at(""))["cluster_id"], after);
    assert!(reset(&other.at(""), &["--key-file", &place.with("short", "AAAA")]).with(2).stderr.contains("32 bytes"));
    let mut explicit = command(&["reset-identity", "--state-dir", &place.at("")]);
    let why = finish(explicit.env("ONDAT_TELEMETRY_IDENTITY_KEY", "x")).with(2).stderr;
    assert!(why.contains("goes before"), "{why}");
}

#[test]
fn telemetry_can_be_turned_off_whatever_is_wrong_with_the_settings() {
    let place = Place::new("switches-wrong-settings");
    place.with("identity.key", "damaged");
    let ended = run(&["disable", "all", "--state-dir", &place.at(""), "--report-url", "nonsense"]).with(0);
    assert!(ended.stdout.contains("daily_report   off by the administrator"), "{}", ended.stdout);
    assert!(ended.stderr.contains("warning: whether the environment turns it off is not known"), "{}", ended.stderr);
    let file: Value = serde_json::from_slice(&fs::read(place.path().join("switches.json")).unwrap()).unwrap();
    assert_eq!(file["crash_reports"], false);
}
