//! The units of `deploy/systemd`, by systemd's own judgement, without a running systemd.

use std::path::Path;
use std::process::Command;

use crate::support::{TempDir, root, succeed};

const UNITS: [&str; 3] =
    ["ondat-telemetry-serve.service", "ondat-telemetry-exec@.service", "ondat-telemetry-collector.service"];

/// Puts a unit into a folder, where it runs a program that is on this machine; a template becomes an instance.
fn instance(name: &str, dir: &TempDir) -> std::path::PathBuf {
    let unit = std::fs::read_to_string(root().join("deploy/systemd").join(name)).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/ondat-telemetry"), "{name}");
    let path = dir.join(&name.replace('@', "@instance"));
    std::fs::write(&path, unit.replace("=/usr/bin/ondat-telemetry", "=/bin/true /usr/bin/ondat-telemetry")).unwrap();
    path
}

fn exposure(unit: &Path) -> f64 {
    let mut analyze = Command::new("systemd-analyze");
    let said = succeed(analyze.args(["security", "--offline=yes", "--no-pager"]).arg(unit)).stdout;
    let said = String::from_utf8(said).unwrap();
    let (_, level) = said.split_once("Overall exposure level for ").unwrap();
    level.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn every_unit_is_listed() {
    let mut found: Vec<_> = std::fs::read_dir(root().join("deploy/systemd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".service"))
        .collect();
    found.sort();
    let mut units = UNITS;
    units.sort_unstable();
    assert_eq!(found, units);
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    assert!(makefile.contains(&format!("UNITS = {}\n", UNITS.join(" "))));
}

#[test]
fn units_are_valid_and_closed() {
    let dir = TempDir::new();
    for name in UNITS {
        let unit = instance(name, &dir);
        let verified = succeed(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit));
        assert_eq!(String::from_utf8_lossy(&verified.stderr), "", "{name}");
        let level = exposure(&unit);
        assert!(level < 3.0, "{name}: {level}");
    }
    // It does judge: a unit without restrictions is open.
    let open = dir.join("open.service");
    std::fs::write(&open, "[Service]\nExecStart=/bin/true\n").unwrap();
    assert!(exposure(&open) > 8.0);
}
