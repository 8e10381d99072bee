//! What the shared library is to a linker.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::{built, root, succeed};

fn output(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

pub(crate) fn exported() -> BTreeSet<String> {
    let mut nm = Command::new("nm");
    let listed = output(nm.args(["-D", "--defined-only", "--format=posix"]).arg(built("libondat_telemetry.so")));
    listed.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
}

fn dynamic() -> String {
    output(Command::new("readelf").args(["-d", "--wide"]).arg(built("libondat_telemetry.so")))
}

pub(crate) fn soname() -> String {
    let dynamic = dynamic();
    let (_, name) = dynamic.split_once("Library soname: [").unwrap();
    name.split(']').next().unwrap().to_owned()
}

#[test]
fn exported_symbols_equal_the_committed_list() {
    let committed = std::fs::read_to_string(root().join("tests/abi/symbols.txt")).unwrap();
    let committed: BTreeSet<String> = committed.lines().map(str::to_owned).collect();
    assert_eq!(exported(), committed, "a symbol may be added to tests/abi/symbols.txt, none removed");
}

#[test]
fn every_function_of_the_header_is_exported() {
    let header = std::fs::read_to_string(root().join("include/ondat_telemetry.h")).unwrap();
    let symbols = std::fs::read_to_string(root().join("tests/abi/symbols.txt")).unwrap();
    for symbol in symbols.lines() {
        assert!(header.contains(&format!("{symbol}(")), "{symbol} is exported but not declared");
    }
    let declared = header.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect::<BTreeSet<_>>();
    let functions = declared
        .into_iter()
        .filter(|word| header.contains(&format!(" {word}(")) || header.contains(&format!("*{word}(")));
    let functions: Vec<_> = functions.filter(|word| word.starts_with("ondat_telemetry_")).collect();
    assert!(functions.len() > 30, "{functions:?}");
    for function in functions {
        let is_type = header.contains(&format!("(*{function})"));
        let is_mentioned = !header.contains(&format!("{function}(void)"))
            && !header.contains(&format!(" {function}("))
            && !header.contains(&format!("*{function}("));
        assert!(
            is_type || is_mentioned || symbols.lines().any(|symbol| symbol == function),
            "{function} is declared but not exported"
        );
    }
}

#[test]
fn the_soname_counts_abi_breaks() {
    let dynamic = dynamic();
    assert_eq!(soname(), "libondat_telemetry.so.0");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    let needed: Vec<_> = dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect();
    let allowed = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-"];
    assert!(needed.iter().all(|line| allowed.iter().any(|name| line.contains(name))), "{needed:?}");
}
