//! `version`: identifies this build.

use serde_json::json;

use crate::Output;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, which build.rs sets.
const COMMIT: &str = env!("BUILD_COMMIT");
const PROFILE: &str = env!("BUILD_PROFILE");
const TARGET: &str = env!("BUILD_TARGET");
const RUSTC: &str = env!("BUILD_RUSTC");

/// Prints version, commit and build.
pub(crate) fn run(json: bool) -> Output {
    if json {
        let build = json!({ "profile": PROFILE, "target": TARGET, "compiler": RUSTC });
        return Output::json(&json!({ "version": VERSION, "commit": COMMIT, "build": build }));
    }
    Output::text(format!("ondat-telemetry {VERSION}\ncommit  {COMMIT}\nbuild   {PROFILE}, {TARGET}, {RUSTC}\n"))
}
