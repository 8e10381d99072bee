//! The rules of docs/architecture.md that can be checked by reading: what may stand where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use ondat_telemetry_protocol::limits::GROUP_RECORDS;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder that are texts of this tree: what is built or fetched is none of it.
fn files(below: &str) -> Vec<(String, String)> {
    let (mut files, mut folders) = (Vec::new(), vec![root().join(below)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path: PathBuf = entry.path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                let is_made = ["target", ".git", "corpus", "node_modules"].iter().any(|made| path.ends_with(made));
                folders.extend((!is_made).then_some(path));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                files.push((name, text));
            }
        }
    }
    files
}

/// The library's sources, without their tests and comments.
fn sources() -> Vec<(String, String)> {
    let sources = files("src").into_iter().map(|(name, text)| {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        (name, code.join("\n"))
    });
    let sources: Vec<_> = sources.collect();
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
        &[
            "src/worker.rs",
            "src/lane.rs",
            "src/follower.rs",
            "src/crash/monitor/jobs.rs",
            "src/crash/monitor/leaving.rs",
        ],
    );
    // How a thread comes to be is a system call like others; when, is not.
    only(&["pthread_create("], &["src/sys/thread.rs"]);
}

/// Programs with other clocks, other disks and no C library read the same bytes with it.
#[test]
fn the_protocol_does_no_io() {
    let mut read = 0;
    for (name, text) in files("protocol/src") {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        read += 1;
        for word in [
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "std::os",
            "libc::",
            "nix::",
            "unsafe",
            "SystemTime::now",
            "Instant",
            "println!",
            "stdout()",
            "stderr()",
        ] {
            assert!(!code.contains(word), "{word} stands in {name}: what travels is read and written without it");
        }
    }
    assert!(read > 15, "{read}");
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
    only(&["env::var"], &["src/config/environment.rs"]);
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
    use ondat_telemetry_protocol::fields::{DISTRIBUTIONS, FIELDS, PUBLIC_LABELS};
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
    let (table, after) = rest.split_once("\n## Where things are").unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = format!("{before}| field | type |\n|---|---|\n{rows}\n## Where things are{after}");
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
    let names = [
        "switches.json",
        "report.json",
        "version.json",
        "crash.json",
        "cores.json",
        "notice.json",
        "identity.key",
        "settings.env",
    ];
    let names =
        names.into_iter().chain(["spool/reports", "spool/crashes", "report.lock", "audit.jsonl", "sent/crashes"]);
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    only(&names, &["src/state/layout.rs"]);
}

/// What is tracked at the top, as documents name it.
const FOLDERS: [&str; 16] = [
    "protocol/",
    "src/",
    "tests/",
    "docs/",
    "deploy/",
    "cmake/",
    "cli/",
    "collector/",
    "service/",
    "bindings/",
    "examples/",
    "include/ondat",
    "tools/",
    "fleet/",
    "fuzz/",
    "benches/",
];

/// The paths of this tree that a text names, without a line number or an anchor behind them.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "_./-*{}<>".contains(c);
    let words = text.split(move |c| !is_of_path(c)).map(|word| word.trim_end_matches(['.', '-', '/']));
    // A pattern stands for many, and a word in capitals for another one.
    let is_pattern = |word: &str| word.contains(['*', '{', '<']) || word.contains("NAME") || word.contains("X.Y.Z");
    words.filter(move |word| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !is_pattern(word))
}

/// A document that names what is no longer there sends its reader astray.
#[test]
fn paths_that_documents_name_exist() {
    let (mut found, mut missing) = (0, Vec::new());
    for (name, text) in files("") {
        let is_document = name.ends_with(".md") || name.ends_with("Makefile");
        if !is_document && !name.ends_with(".rs") || name == "CHANGELOG.md" {
            continue;
        }
        let said = text.lines().filter(|line| is_document || line.trim_start().starts_with("//"));
        for line in said {
            for path in paths(line) {
                // A module is named with or without its ending, from the top or from its own package.
                let package = name.split_once('/').map_or("", |(package, _)| package);
                let places = [root().join(path), root().join(package).join(path), root().join(format!("{path}.rs"))];
                found += 1;
                if !places.iter().any(|place| place.exists()) {
                    missing.push(format!("{name} names {path}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 100, "{found}: the paths are looked for in the wrong way");
}

/// tools/fuzz and tools/test-fleet build with `--locked`, and nothing else reads these files.
#[test]
fn the_locks_of_other_workspaces_have_our_packages() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    for workspace in ["fuzz", "fleet"] {
        let lock_file = format!("{workspace}/Cargo.lock");
        let (manifest, lock) = (read(&format!("{workspace}/Cargo.toml")), read(&lock_file));
        let ours: Vec<&str> = manifest
            .lines()
            .filter(|line| line.contains("path = \".."))
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert!(ours.len() > 1, "{ours:?}");
        let packages: Vec<&str> = lock.split("[[package]]\n").collect();
        let own = format!("ondat-telemetry-{workspace}");
        for name in ours.iter().copied().chain([own.as_str()]) {
            let begins = format!("name = \"{name}\"\n");
            let package = packages.iter().find(|package| package.starts_with(&begins));
            let package =
                package.unwrap_or_else(|| panic!("{lock_file} lacks {name}: run cargo update in {workspace}/"));
            // What each of them depends on among ours stands in its entry.
            let folder = name.strip_prefix("ondat-telemetry-").unwrap_or("");
            let manifest = read(&Path::new(folder).join("Cargo.toml").to_string_lossy());
            for line in
                manifest.split("[dev-dependencies]").next().unwrap().lines().filter(|line| line.contains("{ path = "))
            {
                let used = line.split(' ').next().unwrap();
                assert!(package.contains(&format!("\"{used}\"")), "{lock_file}, {name}: {used} is missing");
            }
        }
    }
}

/// A workspace of its own inherits nothing.
#[test]
fn the_fleet_has_the_lints_and_the_version_of_the_workspace() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let (ours, fleet) = (read("Cargo.toml"), read("fleet/Cargo.toml"));
    let section = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("[{name}]\n")).unwrap();
        let lines = rest.lines().take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for lints in ["lints.rust", "lints.clippy"] {
        let expected = section(&ours, &format!("workspace.{lints}"));
        assert!(expected.len() > 4);
        assert_eq!(section(&fleet, lints), expected, "fleet/Cargo.toml, {lints}");
    }
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(section(&fleet, "package").contains(&version), "fleet/Cargo.toml: {version}");
}

/// The constants of a file by name and value, where that is a number, a power of two or a shift.
fn numbers(text: &str) -> Vec<(String, u64)> {
    let constants = text.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(": "));
    let value = |value: &str| {
        let (number, shift) = value.split_once(" << ").unwrap_or((value, "0"));
        number.replace('_', "").parse::<u64>().unwrap() << shift.parse::<u32>().unwrap()
    };
    let numbers = constants.map(|(name, rest)| {
        let (_, text) = rest.split_once(" = ").unwrap();
        (name.to_owned(), value(text.trim_end_matches(';')))
    });
    numbers.collect()
}

#[test]
fn the_protocol_document_has_every_limit() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let limits = numbers(&read("protocol/src/limits.rs"));
    assert!(limits.len() > 10 && limits.contains(&("GROUP_RECORDS".to_owned(), GROUP_RECORDS as u64)), "{limits:?}");
    let document = read("docs/protocols.md");
    let (_, section) = document.split_once("\n## Limits\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let written: Vec<(String, u64)> =
        rows.map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap().parse().unwrap())).collect();
    assert_eq!(written, limits, "docs/protocols.md, Limits");
}

/// The version and the number of the C ABI, RELEASE.md.
#[test]
fn the_places_of_the_version_agree() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let after = |text: &str, words: &str| {
        let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("{words:?} is gone"));
        rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect::<String>()
    };
    let version = env!("CARGO_PKG_VERSION");
    let constants = read("src/ffi/types.rs");
    let parts = ["MAJOR", "MINOR", "PATCH"];
    let parts = parts.map(|part| after(&constants, &format!("ONDAT_TELEMETRY_VERSION_{part}: u32 = ")));
    assert_eq!(parts.join("."), version, "src/ffi/types.rs");
    assert_eq!(after(&read("README.md"), "**Maturity**: version ").trim_end_matches('.'), version, "README.md");
    let (wanted_major, wanted_minor) = {
        let guard = read("bindings/go/callback.h");
        (after(&guard, "VERSION_MAJOR != "), after(&guard, "VERSION_MINOR < "))
    };
    assert_eq!(wanted_major, parts[0], "bindings/go/callback.h");
    assert!(wanted_minor.parse::<u32>().unwrap() <= parts[1].parse().unwrap(), "bindings/go/callback.h");
    let so = after(&read("Makefile"), "SOVERSION = ");
    assert_eq!(after(&read("build.rs"), "libondat_telemetry.so.").trim_end_matches('.'), so, "build.rs");
    assert_eq!(after(&read("docs/abi.md"), "libondat_telemetry.so.").trim_end_matches('.'), so, "docs/abi.md");
    assert_eq!(after(&read("deploy/debian/changelog"), "ondat-telemetry ("), version, "deploy/debian/changelog");
    assert!(
        read("deploy/debian/control").contains(&format!("Package: libondat-telemetry{so}\n")),
        "deploy/debian/control"
    );
}

#[test]
fn the_symbols_of_the_debian_package_are_those_of_the_library() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let package = read("deploy/debian/libondat-telemetry0.symbols");
    let package: Vec<_> = package.lines().filter_map(|line| line.strip_prefix(' ')?.split_once("@Base ")).collect();
    let package: Vec<_> = package.iter().map(|(symbol, _)| *symbol).collect();
    // Each with the version in which it came, for those who depend on the package.
    assert_eq!(package, read("tests/abi/symbols.txt").lines().collect::<Vec<_>>());
}
