//! `version`: which build this is.

use std::process::Command;

use serde_json::json;

use crate::program::run;

#[test]
fn version_commit_and_build_are_said() {
    let said = run(&["version", "--json"]).with(0).json();
    assert_eq!(said["version"], json!(env!("CARGO_PKG_VERSION")));
    let commit = said["commit"].as_str().unwrap();
    let git = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]).output();
    match (option_env!("ONDAT_TELEMETRY_COMMIT"), git) {
        (Some(named), _) => assert_eq!(commit, named),
        (None, Ok(head)) if head.status.success() => assert_eq!(commit, String::from_utf8(head.stdout).unwrap().trim()),
        _ => assert_eq!(commit, "unknown"),
    }
    assert!(["debug", "release"].map(|profile| json!(profile)).contains(&said["build"]["profile"]), "{said}");
    let compiler = said["build"]["compiler"].as_str().unwrap();
    assert!(compiler.starts_with("rustc "), "{compiler}");
    let target = said["build"]["target"].as_str().unwrap();
    let text = run(&["version"]).with(0).stdout;
    let profile = said["build"]["profile"].as_str().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!("ondat-telemetry {version}\ncommit  {commit}\nbuild   {profile}, {target}, {compiler}\n");
    assert_eq!(text, expected);
    assert_eq!(run(&["--version"]).with(0).stdout, format!("ondat-telemetry {version}\n"));
    assert!(run(&["version", "7"]).with(2).stderr.contains("unexpected argument '7'"));
    assert!(run(&["verson"]).with(2).stderr.contains("a similar subcommand exists: 'version'"));
}
