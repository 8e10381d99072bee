//! `--output yaml`: a parser that is not ours reads the same as in JSON.

use std::path::Path;
use std::process::Command;

use ondat_telemetry_protocol::query::{Query, version_label};
use serde_json::{Value, json};

use crate::program::{Ended, IDENTITY, Place, run, run_with_input};

/// Every subcommand that has JSON, as far as it needs no server.
const WITH_JSON: [&[&str]; 8] = [
    &["status"],
    &["crashes", "list"],
    &["report", "history"],
    &["disable", "telemetry"],
    &["enable", "telemetry"],
    &["repair"],
    &["version"],
    &["crashes", "purge", "--all"],
];

/// What PyYAML reads, by YAML 1.1's rules.
fn read_yaml(text: &str) -> Value {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/api-venv/bin/python");
    assert!(python.exists(), "{} is missing\nrun tools/setup test first", python.display());
    let script = "import json, sys, yaml\nprint(json.dumps(list(yaml.safe_load_all(open(sys.argv[1], 'rb')))))";
    let place = Place::new(&format!("form-yaml-{:?}", std::thread::current().id()));
    let read = Command::new(python).args(["-c", script, &place.with("document.yaml", text)]).output().unwrap();
    assert!(read.status.success(), "{}\n{text}", String::from_utf8_lossy(&read.stderr));
    serde_json::from_slice(&read.stdout).unwrap()
}

#[test]
fn yaml_says_what_json_says() {
    let place = Place::new("form-commands");
    let state = place.at("");
    for words in WITH_JSON {
        let with = |form: &[&str]| run(&[words, &["--state-dir", &state], form].concat()).with(0);
        // What changes something, changes it now.
        with(&[]);
        let json = with(&["--json"]).json();
        assert_eq!(with(&["--output", "json"]).json(), json, "{words:?}");
        assert_eq!(with(&["-o", "json", "--json"]).json(), json, "{words:?}");
        assert_eq!(read_yaml(&with(&["-o", "yaml"]).stdout), json!([json]), "{words:?}");
        assert_ne!(with(&["-o", "text"]).stdout, with(&["--json"]).stdout);
    }
}

#[test]
fn whatever_stands_in_a_value_comes_out_of_yaml_as_it_went_in() {
    let place = Place::new("form-values");
    let texts = [
        "",
        "on",
        "Off",
        "YES",
        "n",
        "null",
        "~",
        "true",
        "1",
        "-1",
        "+1",
        "1_000",
        "0o7",
        "0x1f",
        "1e3",
        "1.5e300",
        ".5",
        ".inf",
        ".NaN",
        "190:20:30",
        "2026-11-30",
        "2026-11-30T01:02:03Z",
        "=",
        "<<",
        "- a",
        "a: b",
        "a #b",
        "#",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{a",
        "[a",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "a\nb",
        "a\r\nb\n",
        "\t",
        " a",
        "a ",
        "---",
        "...",
        "? a",
        "é",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{202e}",
        "\u{7f}",
        "\u{1b}[31m",
        "\u{0}",
        "\u{1f600}",
        "\u{ffff}",
    ];
    let members: serde_json::Map<String, Value> = texts.iter().map(|text| ((*text).to_owned(), json!(text))).collect();
    let event = json!({
        "texts": texts.to_vec(), "members": members, "numbers": [0, -1, u64::MAX, i64::MIN, 1.5, 1e300, -1e-7, 100.0],
        "others": [null, true, false, [], {}, [[], [[]], {"a": []}], [{"a": {"b": [1, {"c": 2}]}}]],
    });
    std::fs::create_dir_all(place.at("spool/crashes")).unwrap();
    place.with("spool/crashes/0123456789abcdef0123456789abcdef.json", &event.to_string());
    let list = |form: &str| run(&["crashes", "list", "-o", form, "--state-dir", &place.at("")]).with(0);
    assert_eq!(list("json").json()["crashes"][0]["event"], event);
    let yaml = list("yaml").stdout;
    assert_eq!(read_yaml(&yaml)[0]["crashes"][0]["event"], event);
    assert!(yaml.chars().all(|c| c == '\n' || !c.is_control()), "{yaml:?}");
}

#[test]
fn a_row_of_values_is_a_row_of_documents() {
    let version = version_label(&"2.8.2".parse().unwrap());
    let name = |day| Query { cluster: [1; 16], node: [2; 16], day, version: version.clone() }.name("z.example");
    let (one, other) = (name(20_781), name(20_782));
    let with = |form: &str| run(&["decode-query", &one, "-o", form, &other]).with(0).stdout;
    let json: Vec<Value> = with("json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.len(), read_yaml(&with("yaml"))), (2, json!(json)));
    assert_eq!(run(&["decode-query", "www.example.com", "-o", "yaml"]).with(2).stdout, "");
}

#[test]
fn a_form_that_is_none_is_refused() {
    let one_line = |ended: Ended, expected: &str| {
        assert_eq!(ended.stdout, "");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    };
    one_line(run(&["status", "-o", "xml"]).with(2), "invalid value 'xml' for '--output <FORM>'");
    one_line(run(&["status", "-o", "jsno"]).with(2), "a similar value exists: 'json'");
    one_line(run(&["status", "-o"]).with(2), "--output <FORM>");
    one_line(run(&["--json", "status", "-o", "yaml"]).with(2), "--json and --output name two forms: say one");
    one_line(run(&["status", "--json", "-o", "text"]).with(2), "--json and --output name two forms: say one");
    // What has a form of its own keeps it.
    let preview = |form: &[&str]| {
        let words = [&["report", "preview", "-"], &IDENTITY[..], form].concat();
        run_with_input(&words, "{}").with(0).stdout
    };
    assert_eq!(preview(&["-o", "yaml"]), preview(&[]));
}
