//! Documents of 1 GiB, through the C interface, with less memory than they have bytes.

use std::path::Path;
use std::process::Command;

use crate::support::{TempDir, compile, root, succeed};

fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path.display().to_string()) }
    }
    files.sort();
    files
}

#[test]
fn a_document_of_1_gib_takes_no_memory_and_a_refused_one_leaves_nothing() {
    let dir = TempDir::new();
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
    let program = compile("gcc", &root().join("tests/c/large_documents.c"), &dir.join("program"), &flags);
    let state_dir = TempDir::new();
    let output = succeed(Command::new(program).arg(state_dir.path()).env_clear());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0 failures\n");
    // The last document was right and is stored; of those before it nothing is.
    let files = files_below(state_dir.path());
    let endings = ["/report-memory.lock", "/report.json", "/report.lock", ".jsonl", ".otr"];
    assert_eq!(files.len(), endings.len(), "{files:?}");
    assert!(files.iter().zip(endings).all(|(file, ending)| file.ends_with(ending)), "{files:?}");
}
