//! The rules of docs/architecture.md that can be checked by reading: what may stand where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The library's sources, without their tests and comments.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path: PathBuf = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            sources.push((name, code.join("\n")));
        }
    }
    assert!(sources.len() > 30);
    sources
}

/// Fails for every source that has one of the words and is not one of the places.
fn only(words: &[&str], places: &[&str]) {
    let mut found = 0;
    for (name, code) in sources() {
        for word in words {
            if code.contains(word) {
                found += 1;
                assert!(
                    places.iter().any(|place| name.starts_with(place)),
                    "{word:?} stands in {name}, allowed: {places:?}"
                );
            }
        }
    }
    assert!(found > 0, "none of {words:?} was found: the rule is checked with the wrong words");
}

#[test]
fn unsafe_code_stands_in_three_places() {
    only(
        &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
        &["src/ffi/", "src/crash/host/handler.rs", "src/sys/"],
    );
}

#[test]
fn few_files_start_a_thread() {
    only(
        &["Thread::start(", "thread::spawn", "thread::Builder", "thread::scope"],
        // The monitor is a process of its own, whose threads do what may hang.
        &["src/worker.rs", "src/follower.rs", "src/crash/monitor/jobs.rs", "src/crash/monitor/leaving.rs"],
    );
    // How a thread comes to be is a system call like others; when, is not.
    only(&["pthread_create("], &["src/sys/thread.rs"]);
}

#[test]
fn one_file_makes_permits() {
    only(&["Permit {", "Revocation::default"], &["src/switches.rs"]);
}

#[test]
fn every_transport_takes_a_permit() {
    for (name, code) in sources() {
        for line in code.lines().filter(|line| line.contains("fn send(") || line.contains("fn txt(")) {
            if name.starts_with("src/transport/") {
                assert!(line.contains("permit: Permit"), "{name}: {line}");
            }
        }
    }
}

#[test]
fn the_network_is_behind_the_transport() {
    only(&["ureq::Agent", "TcpStream", "UdpSocket", "TcpListener"], &["src/transport/"]);
    // Of this machine: a socket has a name in the state directory alone, and its owner alone comes to it.
    only(&["UnixAddr", "UnixListener"], &["src/state/socket.rs"]);
    only(&["descriptor::accept("], &["src/client/next.rs"]);
}

#[test]
fn files_are_written_in_one_room() {
    only(&["renameat(", "mkdirat(", "fsync("], &["src/state/", "src/sys/descriptor.rs"]);
    // Core files are the kernel's: they are only found and removed.
    only(&["unlinkat("], &["src/state/", "src/crash/cores.rs"]);
    // A signal handler can call nothing but the kernel.
    only(&["openat("], &["src/state/", "src/crash/cores.rs", "src/crash/host/handler.rs"]);
    for (name, code) in sources() {
        for word in ["File::create", "fs::write", "OpenOptions", "create_dir", "remove_file", "fs::rename"] {
            assert!(!code.contains(word), "{word} stands in {name}: files are written by src/state/");
        }
    }
}

#[test]
fn one_function_reads_the_environment() {
    only(&["env::var"], &["src/config.rs"]);
}

#[test]
fn nothing_is_printed() {
    for (name, code) in sources() {
        // The supervisor is a program that a person starts.
        if name == "src/bin/ondat-telemetry-monitor.rs" {
            continue;
        }
        for word in ["println!", "eprintln!", "print!(", "stdout()", "stderr()"] {
            assert!(!code.contains(word), "{word} stands in {name}");
        }
    }
}

#[test]
fn the_readme_lists_the_fields_as_they_are() {
    use ondat_telemetry::report::fields::{DISTRIBUTIONS, FIELDS, PUBLIC_LABELS};
    let fields = FIELDS.iter().map(|field| format!("| `{}` | {} |\n", field.name, field.expectation()));
    let labels = PUBLIC_LABELS.iter().map(|(name, form)| format!("| `{name}` | {} |\n", form.expectation()));
    let rows = format!(
        "{}\n| label that is sent as it is | where its value is one of |\n|---|---|\n{}\nDistributions that are sent by \
         name: {}.\n",
        fields.collect::<String>(),
        labels.collect::<String>(),
        DISTRIBUTIONS.join(", ")
    );
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once("| field | type |\n|---|---|\n").unwrap();
    let (table, after) = rest.split_once("\n**Crash report**").unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = format!("{before}| field | type |\n|---|---|\n{rows}\n**Crash report**{after}");
        std::fs::write(&path, updated).unwrap();
        return;
    }
    assert_eq!(format!("{table}"), rows, "run UPDATE_README=1 cargo test --test house");
}

/// A table that names tests is worth what the names are.
#[test]
fn the_crash_scenarios_name_tests_that_are_there() {
    let table = std::fs::read_to_string(root().join("docs/crash-scenarios.md")).unwrap();
    let mut found = 0;
    for name in table.split('`').skip(1).step_by(2) {
        let Some((module, test)) = name.split_once("::") else { continue };
        let Ok(code) = std::fs::read_to_string(root().join(format!("tests/crash/{module}.rs"))) else { continue };
        for part in test.split("::") {
            assert!(
                ["fn", "mod"].iter().any(|kind| code.contains(&format!("{kind} {part}"))),
                "docs/crash-scenarios.md names {name}, which is not in tests/crash/{module}.rs"
            );
        }
        found += 1;
    }
    assert!(found > 100, "{found}");
}

/// A name that stands in two places is written in one of them and looked for in the other.
#[test]
fn the_names_of_the_state_directory_stand_in_one_file() {
    let names =
        ["switches.json", "report.json", "version.json", "crash.json", "cores.json", "notice.json", "identity.key"];
    let names =
        names.into_iter().chain(["spool/reports", "spool/crashes", "report.lock", "audit.jsonl", "sent/crashes"]);
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    only(&names, &["src/state/layout.rs"]);
}
