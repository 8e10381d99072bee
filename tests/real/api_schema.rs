//! Schemathesis asks a running API whatever its own document allows, and what it does not allow, and judges the answers.

use serde_json::Value;

use crate::api::{Api, CommandLine};
use crate::running::Running;
use crate::support::{program, root, succeed};

/// Judges these operations. The answer is Schemathesis' own report.
fn judge(running: &Running, api: &Api, token: &str, selection: &[&str]) -> Value {
    let report = running.cluster.folder.join("api-report.json");
    let schemathesis = root().join("target/api-venv/bin/schemathesis");
    assert!(schemathesis.exists(), "{} is missing\nrun tools/setup test first", schemathesis.display());
    let mut run = program(schemathesis);
    run.arg("--config-file").arg(root().join("tests/real/api_schema.toml"));
    run.arg("run").arg(format!("http://{}/v1/openapi.json", api.address));
    run.args(["--header", &format!("Authorization: Bearer {token}")]).args(selection);
    run.args(["--report", "json", "--report-json-path"])
        .arg(&report)
        .current_dir(running.state_dir().parent().unwrap());
    succeed(&mut run);
    serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap()
}

#[test]
fn the_api_is_what_its_document_says() {
    let running = Running::start();
    let api = Api::serve(running.state_dir());
    // Logging out ends what it is asked with.
    let [all, last] = [(); 2].map(|()| CommandLine::log_in(&api).token);
    let parts = [
        // While there is a copy of a report: turning the daily report off removes it.
        judge(&running, &api, &all, &["--include-operation-id", "reportPreview"]),
        judge(
            &running,
            &api,
            &all,
            &["--exclude-operation-id", "endSession", "--exclude-operation-id", "reportPreview"],
        ),
        judge(&running, &api, &last, &["--include-operation-id", "endSession"]),
    ];

    let document = std::fs::read(root().join("cli/src/serve/openapi.json")).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            if operation.get("security").is_some_and(|schemes| schemes.as_array().unwrap().is_empty()) {
                continue;
            }
            let name = format!("{} {path}", method.to_uppercase());
            let accepted =
                parts.iter().any(|part| part["valid_rates"][&name]["coverage"]["accepted"].as_u64() > Some(0));
            assert!(accepted, "{name} was never answered with a success: {parts:?}");
        }
    }
    let tested: u64 = parts.iter().map(|part| part["operations"]["tested"].as_u64().unwrap()).sum();
    // All but the call that the document is loaded from, by each of the two.
    assert_eq!(tested, operations - 1, "{parts:?}");
}
