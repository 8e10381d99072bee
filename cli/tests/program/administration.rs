//! docs/administration.md: every row about the command, with wrong input beside the right one.

use serde_json::json;

use crate::program::{Place, command, finish, run, run_with_input};

const PAGE: &str = include_str!("../../../docs/administration.md");

/// The words of a row, what it needs to be right, what makes it wrong, and what is then said.
const COMMANDS: [(&str, &[&str], &[&str], &str); 12] = [
    ("status", &[], &["--state-dir"], "a value is required for '--state-dir <DIR>'"),
    ("disable daily-report", &[], &["--all"], "unexpected argument '--all' found"),
    ("enable all", &[], &["telemetry"], "unexpected argument 'telemetry' found"),
    (
        "apply --cluster-spec cluster.yaml",
        &[],
        &["--cluster-spec", "absent.yaml"],
        "'--cluster-spec <FILE>' cannot be used multiple times",
    ),
    ("repair", &[], &["everything"], "unexpected argument 'everything' found"),
    ("reset-identity", &[], &["--key-file", "absent"], "identity key absent: No such file or directory"),
    ("deletion-list", &["--cluster-id", "c-1"], &["--days", "0"], "invalid value '0' for '--days <N>'"),
    ("report history", &[], &["--json=yes"], "unexpected value 'yes' for '--json' found"),
    ("crashes list", &[], &["-o", "table"], "invalid value 'table' for '--output <FORM>'"),
    ("password", &["--remove", "nobody"], &["one", "two"], "unexpected argument 'two' found"),
    ("version", &[], &["--commit"], "unexpected argument '--commit' found"),
    ("help settings", &[], &["all"], "unrecognized subcommand 'all'"),
];
/// They go on until they are ended, and have tests of their own.
const LASTING: [&str; 2] = ["status --watch", "serve"];

/// The rows of the block of commands.
fn rows() -> Vec<String> {
    let block = PAGE.split("## The command\n").nth(1).unwrap();
    let rows = block
        .lines()
        .filter_map(|line| line.strip_prefix("    ondat-telemetry "))
        .take_while(|row| !row.contains("SIGSEGV"));
    rows.map(|row| row.split("   ").next().unwrap().to_owned()).take(14).collect()
}

#[test]
fn every_row_works_and_its_wrong_input_is_a_line() {
    let place = Place::new("administration-rows");
    place.with("cluster.yaml", "kind: StorageOSCluster\nspec:\n  disableTelemetry: true\n");
    let known: Vec<_> = COMMANDS.iter().map(|(row, ..)| *row).chain(LASTING).collect();
    for row in rows() {
        assert!(known.contains(&row.as_str()), "{row:?} of docs/administration.md has no test here");
    }
    assert_eq!(rows().len(), known.len());
    for (row, more, wrong, why) in COMMANDS {
        let words: Vec<&str> = row.split(' ').collect();
        let run = |more: &[&str]| {
            let mut command = command(&[&words, more].concat());
            finish(command.env("ONDAT_TELEMETRY_STATE_DIR", place.at("state")).current_dir(place.path()))
        };
        // Nobody is there to be removed, which is known only after everything else was right.
        let right = run(more);
        assert_eq!(right.code, if row == "password" { 2 } else { 0 }, "{row}: {}", right.stderr);
        assert!(!right.stdout.is_empty() || right.stderr.contains("there is no user"), "{row}");
        let ended = run(wrong).with(2);
        assert!(
            ended.stdout.is_empty() && ended.stderr.lines().count() == 1,
            "{row}: {}{}",
            ended.stdout,
            ended.stderr
        );
        assert!(ended.stderr.contains(why), "{row}: {}", ended.stderr);
        for text in ["Os {", "Error(", "Some(", "kind:", "Utf8Error"] {
            assert!(!ended.stderr.contains(text), "{row}: {}", ended.stderr);
        }
    }
}

#[test]
fn the_ways_that_the_command_goes_take_nothing_else() {
    let place = Place::new("administration-ways");
    let state = place.at("state");
    // The cluster spec.
    for (text, why) in [
        ("kind: StorageOSCluster\nspec: [", "cluster spec"),
        ("kind: Pod\n", "StorageOSCluster"),
        ("kind: StorageOSCluster\nspec:\n  disableTelemetry: maybe\n", "spec.disableTelemetry is not true or false"),
        ("kind: StorageOSCluster\nspec:\n  environment: 7\n", "environment"),
    ] {
        let spec = place.with("cluster.yaml", text);
        let ended = run(&["apply", "--cluster-spec", &spec, "--state-dir", &state]).with(2);
        assert!(ended.stderr.contains(why) && ended.stderr.lines().count() == 1, "{text:?}: {}", ended.stderr);
        assert!(!place.path().join("state/switches.json").exists());
    }
    // What was taken over is not given up by a file with nothing in it.
    let apply =
        |text: &str| run(&["apply", "--cluster-spec", &place.with("cluster.yaml", text), "--state-dir", &state]);
    apply("kind: StorageOSCluster\nspec:\n  disableTelemetry: true\n").with(0);
    let before = std::fs::read(place.at("state/switches.json")).unwrap();
    for text in ["", "# kind\n", "null", "{}", "spec:\n", "kind: List\nitems: []\n"] {
        let why = apply(text).with(2).stderr;
        assert!(why.starts_with("ondat-telemetry: cluster spec: no StorageOSCluster in it"), "{text}: {why}");
        assert_eq!(std::fs::read(place.at("state/switches.json")).unwrap(), before);
    }
    apply("kind: StorageOSCluster\n").with(0);
    // The environment: whatever is not a word for "no" turns off.
    for (value, is_on) in [("true", false), ("yes", false), ("flase", false), ("false", true), ("", true)] {
        let mut status = command(&["status", "--json", "--state-dir", &state]);
        let seen = finish(status.env("DISABLE_TELEMETRY", value)).with(0).json();
        assert_eq!(seen["switches"]["daily_report"]["on"], json!(is_on), "{value:?}");
    }
    let mut status = command(&["status", "--state-dir", &state]);
    let why = finish(status.env("ONDAT_TELEMETRY_TIMEOUT_MS", "soon")).with(2).stderr;
    assert_eq!(why, "ondat-telemetry: timeout_ms: not a number of milliseconds\n");
    // A word of the administrator's that cannot be read, and the way out.
    std::fs::create_dir_all(&state).unwrap();
    place.with("state/switches.json", "{\"daily_report\": \"no\"}");
    let why = run(&["disable", "all", "--state-dir", &state]).with(2).stderr;
    assert!(why.contains("daily_report is not true or false") && why.lines().count() == 1, "{why}");
    run(&["repair", "--state-dir", &state]).with(0);
    run(&["enable", "all", "--state-dir", &state]).with(0);
    // Passwords and reports.
    let why = run_with_input(&["password", "--state-dir", &state], "\u{0}\n").with(2).stderr;
    assert_eq!(why.lines().count(), 1, "{why}");
    place.with("state/users.json", "{");
    let why = run_with_input(&["password", "--state-dir", &state], "correct horse\n").with(2).stderr;
    assert!(why.contains("users.json is damaged") && why.lines().count() == 1, "{why}");
    place.with("state/report.json", "[1");
    let why = run(&["report", "history", "--state-dir", &state]).with(8).stderr;
    assert!(why.contains("report.json is damaged") && why.lines().count() == 1, "{why}");
}
