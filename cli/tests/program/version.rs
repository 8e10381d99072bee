//! `version`: which build this is.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::program::run;

#[test]
fn version_commit_and_build_are_said() {
    let said = run(&["version", "--json"]).with(0).json();
    assert_eq!(said["version"], json!(env!("CARGO_PKG_VERSION")));
    let commit = said["commit"].as_str().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).arg("rev-parse").args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    // These sources may lie in a checkout of something else.
    let is_ours = git(&["--show-toplevel"]).is_some_and(|top| Path::new(&top) == root.canonicalize().unwrap());
    let of_git = git(&["HEAD"]).filter(|_| is_ours);
    let expected = option_env!("ONDAT_TELEMETRY_COMMIT").map(str::to_owned).or(of_git);
    assert_eq!(commit, expected.as_deref().unwrap_or("unknown"));
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
