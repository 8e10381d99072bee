//! The header alone, in every standard it promises, and the example.

use std::process::Command;

use crate::support::{TempDir, compile, root, succeed};

#[test]
fn the_header_stands_alone_and_may_come_twice() {
    let dir = TempDir::new();
    let source = dir.join("twice.c");
    std::fs::write(&source, "#include <ondat_telemetry.h>\n#include <ondat_telemetry.h>\nint unused;\n").unwrap();
    for (compiler, standard, language) in [
        ("gcc", "c99", "c"),
        ("gcc", "c11", "c"),
        ("gcc", "c2x", "c"),
        ("g++", "c++11", "c++"),
        ("g++", "c++20", "c++"),
        ("clang", "c99", "c"),
        ("clang", "c2x", "c"),
        ("clang++", "c++17", "c++"),
    ] {
        let mut command = Command::new(compiler);
        command.args([
            &format!("-std={standard}"),
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
            "-fsyntax-only",
            "-x",
            language,
        ]);
        succeed(command.arg("-I").arg(root().join("include")).arg(&source));
    }
}

#[test]
fn the_example_compiles_without_a_warning() {
    let dir = TempDir::new();
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2"];
    for compiler in ["gcc", "clang"] {
        compile(compiler, &root().join("examples/dataplane.c"), &dir.join("dataplane"), &flags);
    }
}

#[test]
fn the_quick_start_of_the_readme_compiles_without_a_warning() {
    let dir = TempDir::new();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, code) = readme.split_once("```c\n").unwrap();
    let (code, _) = code.split_once("\n```").unwrap();
    let source = dir.join("quick_start.c");
    let main = "int main(int argc, char **argv)\n{\n    (void)argc;\n    return begin_telemetry(argv[0], argv[0], argv[0]) \
                == NULL;\n}\n";
    std::fs::write(&source, format!("#include <string.h>\n#include <syslog.h>\n{code}\n{main}")).unwrap();
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2"];
    for compiler in ["gcc", "clang"] {
        compile(compiler, &source, &dir.join("quick_start"), &flags);
    }
}
