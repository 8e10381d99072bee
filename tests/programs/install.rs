//! `make install`, and the build systems that find what it has put into its place.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{TempDir, built, root, succeed};

/// Everything that is installed, in one folder: the release's library and monitor, and quickly built commands.
fn everything(dir: &TempDir) -> PathBuf {
    let folder = dir.join("built");
    std::fs::create_dir(&folder).unwrap();
    let commands =
        std::env::var_os("ONDAT_TELEMETRY_COMMANDS").map_or_else(|| root().join("target/debug"), PathBuf::from);
    for name in ["ondat-telemetry", "ondat-telemetry-collector"] {
        let command = commands.join(name);
        assert!(command.exists(), "{} is missing: run cargo build --workspace first", command.display());
        symlink(command, folder.join(name)).unwrap();
    }
    for name in ["libondat_telemetry.so", "libondat_telemetry.a", "ondat-telemetry-monitor"] {
        symlink(built(name), folder.join(name)).unwrap();
    }
    folder
}

fn make(target: &str, variables: &[String]) {
    // A make above this one has its own.
    let mut make = Command::new("make");
    make.args(["--silent", "-C"]).arg(root()).arg(target).args(variables).env_remove("MAKEFLAGS").env_remove("DESTDIR");
    succeed(&mut make);
}

/// The library and the monitor in a prefix.
fn install_library(prefix: &Path, more: &[&str]) {
    let build = built("libondat_telemetry.so").parent().unwrap().to_owned();
    let mut variables =
        vec![format!("prefix={}", prefix.display()), format!("ONDAT_TELEMETRY_BUILD={}", build.display())];
    variables.extend(more.iter().map(|variable| (*variable).to_owned()));
    make("install-library", &variables);
}

fn files(folder: &Path, below: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            files(&path, below, found);
        } else {
            found.insert(path.strip_prefix(below).unwrap().display().to_string());
        }
    }
}

fn has_symbols(file: &Path) -> bool {
    let sections = succeed(Command::new("readelf").args(["--sections", "--wide"]).arg(file)).stdout;
    String::from_utf8(sections).unwrap().contains(" .symtab ")
}

/// Compiles the example with what pkg-config says of `package`, as a shell reads it.
fn compile_by_pkg_config(prefix: &Path, flags: &str, package: &str, program: &Path) {
    let source = root().join("examples/dataplane.c");
    let gcc = r#"gcc -std=c99 -Wall -Wextra -Werror \"\$SOURCE\" -o \"\$PROGRAM\""#;
    let line = format!(r#"eval "{gcc} {flags} $(pkg-config --cflags --libs {package})""#);
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &line]).env("SOURCE", source).env("PROGRAM", program);
    succeed(shell.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
}

/// Runs the example to its end, with a crash handler, and so with the monitor of the prefix.
fn run_the_example(program: &Path, prefix: &Path, dir: &TempDir) {
    let mut example = Command::new(program);
    example.args(["exit", "0"]).env_clear().env("LD_LIBRARY_PATH", prefix.join("lib"));
    example.env("ONDAT_TELEMETRY_STATE_DIR", dir.join("state"));
    // Nobody is asked: nothing is configured but a server for crashes, and there is none.
    example.env("ONDAT_TELEMETRY_SENTRY_DSN", "http://key@127.0.0.1:9/1");
    let said = String::from_utf8(succeed(&mut example).stdout).unwrap();
    assert!(said.contains("version check"), "the example has not run: {said}");
    assert!(!said.contains("crash reports"), "the monitor was not found: {said}");
}

#[test]
fn names_of_the_gnu_standards_say_where_it_goes() {
    let dir = TempDir::new();
    let stage = dir.join("a stage");
    let mut variables = vec![
        format!("DESTDIR={}", stage.display()),
        format!("ONDAT_TELEMETRY_BUILD={}", everything(&dir).display()),
        "prefix=/usr".to_owned(),
        "libdir=/usr/lib/x86_64-linux-gnu".to_owned(),
    ];
    make("install", &variables);
    let mut found = BTreeSet::new();
    files(&stage, &stage, &mut found);
    for file in [
        "usr/bin/ondat-telemetry",
        "usr/bin/ondat-telemetry-collector",
        "usr/include/ondat_telemetry.h",
        "usr/lib/x86_64-linux-gnu/cmake/OndatTelemetry/OndatTelemetryConfig.cmake",
        "usr/lib/x86_64-linux-gnu/libondat_telemetry.a",
        "usr/lib/x86_64-linux-gnu/libondat_telemetry.so.0",
        "usr/lib/x86_64-linux-gnu/pkgconfig/ondat_telemetry.pc",
        "usr/libexec/ondat-telemetry-monitor",
        "usr/share/bash-completion/completions/ondat-telemetry",
        "usr/share/man/man1/ondat-telemetry.1",
        "usr/share/zsh/site-functions/_ondat-telemetry-collector",
    ] {
        assert!(found.contains(file), "{file} is missing: {found:#?}");
    }
    assert!(found.iter().all(|file| file.starts_with("usr/")), "{found:#?}");
    assert!(!has_symbols(&stage.join("usr/lib/x86_64-linux-gnu/libondat_telemetry.so.0")));
    assert!(!has_symbols(&stage.join("usr/bin/ondat-telemetry")));

    make("uninstall", &variables);
    let mut left = BTreeSet::new();
    files(&stage, &stage, &mut left);
    assert_eq!(left, BTreeSet::new());

    // The older names, and where they differ: MANDIR is that of section 1.
    variables.truncate(2);
    variables.extend(["PREFIX=/opt/ondat", "LIBDIR=/opt/ondat/lib64", "MANDIR=/opt/ondat/man"].map(str::to_owned));
    make("install", &variables);
    for file in ["lib64/libondat_telemetry.so.0", "man/ondat-telemetry.1", "libexec/ondat-telemetry-monitor"] {
        assert!(stage.join("opt/ondat").join(file).exists(), "{file}");
    }
}

#[test]
fn an_empty_strip_keeps_symbols_and_another_strip_is_used() {
    let dir = TempDir::new();
    let prefix = dir.join("a prefix");
    install_library(&prefix, &["STRIP="]);
    let installed = ["lib/libondat_telemetry.so.0", "libexec/ondat-telemetry-monitor"].map(|file| prefix.join(file));
    assert!(installed.iter().all(|file| has_symbols(file)));

    let strip = dir.join("other-strip");
    std::fs::write(&strip, "#!/bin/sh\nexec strip --strip-debug \"$@\"\n").unwrap();
    std::fs::set_permissions(&strip, PermissionsExt::from_mode(0o755)).unwrap();
    let unstripped = std::fs::metadata(&installed[0]).unwrap().len();
    install_library(&prefix, &[&format!("STRIP={}", strip.display())]);
    assert!(has_symbols(&installed[0]));
    assert!(std::fs::metadata(&installed[0]).unwrap().len() < unstripped);
}

#[test]
fn pkg_config_finds_it_in_a_prefix_with_a_space() {
    let dir = TempDir::new();
    let prefix = dir.join("a prefix");
    install_library(&prefix, &[]);
    let program = dir.join("a program");
    compile_by_pkg_config(&prefix, "", "ondat_telemetry", &program);
    run_the_example(&program, &prefix, &dir);
    for (flags, package) in
        [("", "ondat_telemetry-static"), ("-static", "ondat_telemetry-static"), ("-static", "--static ondat_telemetry")]
    {
        compile_by_pkg_config(&prefix, flags, package, &program);
        // A static program's monitor is beside it, or in libexec beside its folder.
        let bin = prefix.join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let inside = bin.join("program");
        std::fs::rename(&program, &inside).unwrap();
        run_the_example(&inside, Path::new("/nowhere"), &dir);
    }
}

#[test]
fn the_commands_of_the_document_about_static_programs_work() {
    let dir = TempDir::new();
    // The document's commands have no quotes.
    let prefix = dir.join("prefix");
    install_library(&prefix, &[]);
    let document = std::fs::read_to_string(root().join("docs/deploy/static.md")).unwrap();
    let (_, commands) = document.split_once("```sh\n").unwrap();
    let (commands, _) = commands.split_once("```").unwrap();
    std::fs::copy(root().join("examples/dataplane.c"), dir.join("program.c")).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", commands]).current_dir(dir.path());
    shell.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    succeed(&mut shell);
    for (program, is_static) in [("program", false), ("static-program", true)] {
        let headers = succeed(Command::new("readelf").args(["--program-headers", "--wide"]).arg(dir.join(program)));
        assert_eq!(!String::from_utf8(headers.stdout).unwrap().contains("INTERP"), is_static, "{program}");
        std::fs::create_dir_all(prefix.join("bin")).unwrap();
        let inside = prefix.join("bin").join(program);
        std::fs::rename(dir.join(program), &inside).unwrap();
        run_the_example(&inside, Path::new("/nowhere"), &dir);
    }
}

#[test]
fn cmake_finds_it_after_it_was_moved() {
    let dir = TempDir::new();
    let installed = dir.join("a prefix");
    install_library(&installed, &["libdir=$(prefix)/lib/x86_64-linux-gnu"]);
    let prefix = dir.join("moved to");
    std::fs::rename(installed, &prefix).unwrap();
    let build = dir.join("cmake build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(root().join("tests/programs/user")).arg("-B").arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    configure.arg("-DCMAKE_LIBRARY_ARCHITECTURE=x86_64-linux-gnu");
    succeed(&mut configure);
    succeed(Command::new("cmake").arg("--build").arg(&build));
    let out = |program: &str| String::from_utf8(succeed(&mut Command::new(build.join(program))).stdout).unwrap();
    for program in ["c-shared", "cpp-shared", "c-static", "cpp-static"] {
        assert_eq!(out(program), format!("{}\n", env!("CARGO_PKG_VERSION")), "{program}");
    }
    // A later version than there is, is not found.
    let mut later = Command::new("cmake");
    later.arg("-S").arg(root().join("tests/programs/user")).arg("-B").arg(dir.join("later")).arg("-DWANTED=999.0");
    later.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    later.arg("-DCMAKE_LIBRARY_ARCHITECTURE=x86_64-linux-gnu");
    let output = later.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("requested version \"999.0\""), "{said}");
}

#[test]
fn meson_finds_it_by_pkg_config() {
    let dir = TempDir::new();
    let prefix = dir.join("a prefix");
    install_library(&prefix, &[]);
    let build = dir.join("meson build");
    let mut setup = Command::new("meson");
    setup.arg("setup").arg(&build).arg(root().join("tests/programs/user"));
    succeed(setup.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
    succeed(Command::new("meson").arg("compile").arg("-C").arg(&build));
    for program in ["shared", "static"] {
        let said = succeed(Command::new(build.join(program)).env("LD_LIBRARY_PATH", prefix.join("lib"))).stdout;
        assert_eq!(String::from_utf8(said).unwrap(), format!("{}\n", env!("CARGO_PKG_VERSION")), "{program}");
    }
}
