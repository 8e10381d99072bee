//! What the library costs a host at rest.

use std::process::Command;

use crate::support::{TempDir, compile, root, succeed};

#[test]
fn one_thread_and_five_descriptors_at_most_and_nothing_after_close() {
    let dir = TempDir::new();
    let program = compile(
        "gcc",
        &root().join("tests/c/descriptors.c"),
        &dir.join("descriptors"),
        &["-std=gnu99", "-Wall", "-Werror"],
    );
    let state = dir.join("state");
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&state).unwrap();
    // The fifth is where the host is asked for its next report.
    for (descriptors, callback) in [(4, &[][..]), (5, &["report"])] {
        let mut command = Command::new(&program);
        command
            .arg(descriptors.to_string())
            .args(callback)
            .env_clear()
            .env("ONDAT_TELEMETRY_STATE_DIR", &state)
            .env("ONDAT_TELEMETRY_SENTRY_DSN", "https://key@127.0.0.1:9/1");
        let output = String::from_utf8(succeed(&mut command).stdout).unwrap();
        assert_eq!(output, format!("running {descriptors} 1\nclosed 0 0\n"));
    }
}
