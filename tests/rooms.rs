//! The direction of the house: a room uses what is below it, and no files use each other in a circle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The library's rooms from the bottom up, and what belongs there.
const ROOMS: [(&str, &str); 27] = [
    ("error", "the one error type"),
    ("sys", "system calls, without a policy"),
    ("state", "which directory it is, and its files"),
    ("switch", "the three that can be turned off, and who can"),
    ("switches", "who turned what off, and the permit to send"),
    ("outcome", "what became of the last try of each of the three"),
    ("follower", "ends what is turned off while it is sent"),
    ("transport", "how bytes leave the machine"),
    ("schedule", "when things are due"),
    ("spool", "what waits to be sent"),
    ("spec", "the cluster spec"),
    ("version", "what an answer means for the running version"),
    ("report", "what an answer means for a report"),
    ("presence", "what each running process says of itself"),
    ("crash", "what host and monitor both know of a death"),
    ("crash::host", "what runs in the process that may crash"),
    ("crash::monitor", "what runs in the process that watches it"),
    ("purge", "what goes when a switch is turned off"),
    ("callbacks", "what the host gives"),
    ("config", "the settings as they were given, and as they apply"),
    ("ask", "the words between a process and who asks it"),
    ("lane", "work that may wait for a disk"),
    ("worker", "the one thread: what is due is done"),
    ("client", "owns all of it; the calls"),
    ("ffi", "the C interface"),
    ("bin", "the monitor's program"),
    ("lib", "the list of the rooms"),
];

/// The parts of the repository whose files are looked at for circles.
const PACKAGES: [&str; 7] =
    ["src", "protocol/src", "service/src", "command/src", "cli/src", "collector/src", "fleet/src"];

/// The files of a package by their module's path, and of each the modules that it uses.
fn uses(package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(package);
    let (mut texts, mut folders) = (BTreeMap::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().with_extension("");
                let name = name.to_str().unwrap().replace('/', "::");
                let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
                texts.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let modules: BTreeSet<String> = texts.keys().cloned().collect();
    let used = |(module, text): (String, String)| {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: String =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let paths = used_paths(&code).into_iter().filter_map(|path| absolute(&module, &path));
        // The longest beginning of the path that is a module: what follows is a thing in it.
        let of_path = |path: String| {
            let parts: Vec<&str> = path.split("::").collect();
            let names = (1..=parts.len()).rev().map(|length| parts[..length].join("::"));
            names.into_iter().find(|name| modules.contains(name))
        };
        let used = paths.filter_map(of_path).filter(|used| *used != module).collect();
        (module, used)
    };
    texts.into_iter().map(used).collect()
}

/// Every path that begins at the crate or at a module above, each name of a list by itself.
fn used_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let is_of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(is_of_path) {
                continue;
            }
            let end = code[at..].find(|c| !is_of_path(c)).map_or(code.len(), |length| at + length);
            let path = &code[at..end];
            match path.strip_suffix("::").filter(|_| code[end..].starts_with('{')) {
                Some(before) => {
                    paths.extend(names(&code[end + 1..]).into_iter().map(|name| format!("{before}::{name}")))
                }
                None => paths.push(path.to_owned()),
            }
        }
    }
    paths
}

/// The names of a list in braces, up to its end, those of lists within it by their paths.
fn names(list: &str) -> Vec<String> {
    let (mut names, mut before, mut name) = (Vec::new(), vec![String::new()], String::new());
    for c in list.chars() {
        match c {
            '{' => before.push(std::mem::take(&mut name)),
            ',' | '}' => {
                let name = std::mem::take(&mut name);
                let name = name.split(" as ").next().unwrap().trim().to_owned();
                if !name.is_empty() && name != "self" {
                    names.push(format!("{}{name}", before.concat()));
                }
                if c == '}' {
                    before.pop();
                    if before.is_empty() {
                        break;
                    }
                }
            }
            c if c.is_whitespace() && name.is_empty() => {}
            c => name.push(c),
        }
    }
    names
}

/// The path from the crate's root; none where it leads out of it.
fn absolute(module: &str, path: &str) -> Option<String> {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut parts = path.split("::").peekable();
    if parts.next_if_eq(&"crate").is_some() {
        base.clear();
    }
    while let Some(part) = parts.next_if(|part| matches!(*part, "super" | "self")) {
        if part == "super" {
            base.pop()?;
        }
    }
    base.extend(parts.filter(|part| !part.is_empty()));
    Some(base.join("::"))
}

/// The room that a module is in, and how high it is.
fn room(module: &str) -> (usize, &'static (&'static str, &'static str)) {
    let is_in = |room: &str| module == room || module.starts_with(&format!("{room}::"));
    let rooms = ROOMS.iter().enumerate().filter(|(_, (room, _))| is_in(room));
    rooms
        .max_by_key(|(_, (room, _))| room.len())
        .unwrap_or_else(|| panic!("{module} is in no room: say in ROOMS which"))
}

#[test]
fn a_room_uses_what_is_below_it() {
    let (mut edges, mut upward) = (0, Vec::new());
    for (module, used) in uses("src") {
        let (height, (name, _)) = room(&module);
        for used in used {
            let (other, (above, what)) = room(&used);
            edges += 1;
            if other > height {
                upward.push(format!(
                    "{module} uses {used}: `{above}` ({what}) is above `{name}`. What {module} needs of it belongs into \
                     `{name}` or below, or is passed in by who calls it."
                ));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
    assert!(edges > 200, "{edges} uses: they are looked for in the wrong way");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    for package in PACKAGES {
        let mut left = uses(package);
        // A file that uses none of those left is in no circle.
        while let Some(free) = left.iter().find(|(_, used)| used.iter().all(|used| !left.contains_key(used))) {
            let free = free.0.clone();
            left.remove(&free);
        }
        let circle: BTreeMap<_, BTreeSet<_>> = left
            .iter()
            .map(|(module, used)| (module, used.iter().filter(|used| left.contains_key(*used)).collect()))
            .collect();
        assert!(
            circle.is_empty(),
            "{package}: these use each other, or what does. What two of them need belongs into a file below both: \
             {circle:#?}"
        );
    }
}

#[test]
fn uses_are_found_in_all_their_forms() {
    let code = "use crate::a::{self, b::{c, d as e}, f};\nuse super::g;\nfn h() { crate::i::j(); self::k::l(); other_crate::m(); }";
    let mut found: Vec<_> = used_paths(code).iter().filter_map(|path| absolute("x::y", path)).collect();
    found.sort();
    assert_eq!(found, ["a::b::c", "a::b::d", "a::f", "i::j", "x::g", "x::y::k::l"]);
}
