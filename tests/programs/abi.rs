//! What the shared library is to a linker.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::{built, root, succeed};

fn output(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap()
}

#[test]
fn exported_symbols_equal_the_committed_list() {
    let listed =
        output(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(built("libondat_telemetry.so")));
    let exported: BTreeSet<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    let committed = std::fs::read_to_string(root().join("tests/abi/symbols.txt")).unwrap();
    let committed: BTreeSet<&str> = committed.lines().collect();
    assert_eq!(exported, committed, "a symbol may be added to tests/abi/symbols.txt, none removed");
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
    let dynamic = output(Command::new("readelf").args(["-d", "--wide"]).arg(built("libondat_telemetry.so")));
    assert!(dynamic.contains("Library soname: [libondat_telemetry.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    let needed: Vec<_> = dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect();
    let allowed = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-"];
    assert!(needed.iter().all(|line| allowed.iter().any(|name| line.contains(name))), "{needed:?}");
}
