//! include/ondat_telemetry.h is what the source says, and its version is the package's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

const HEADER: &str = "include/ondat_telemetry.h";

/// `UPDATE_HEADER=1 cargo test --test header` writes the file anew.
#[test]
fn the_committed_header_equals_the_generated_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let sources = ["types", "config", "client", "report"].map(|name| root.join(format!("src/ffi/{name}.rs")));
    let builder =
        sources.iter().fold(cbindgen::Builder::new().with_config(config), |builder, source| builder.with_src(source));
    let mut generated = Vec::new();
    builder.generate().unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(root.join(HEADER), &generated).unwrap();
    }
    let committed = std::fs::read_to_string(root.join(HEADER)).unwrap();
    assert!(committed == generated, "{HEADER} is stale: run UPDATE_HEADER=1 cargo test --test header");
}

#[test]
fn the_version_macros_are_the_packages_version() {
    use ondat_telemetry::ffi::types::*;
    let macros =
        format!("{ONDAT_TELEMETRY_VERSION_MAJOR}.{ONDAT_TELEMETRY_VERSION_MINOR}.{ONDAT_TELEMETRY_VERSION_PATCH}");
    assert_eq!(macros, env!("CARGO_PKG_VERSION"));
}
