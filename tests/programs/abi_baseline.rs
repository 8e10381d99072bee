//! The interface of the last release, tests/abi/ondat_telemetry.abi, against the one that is built: libabigail compares them.
//! Additions pass. Anything else breaks the programs of users, and fails.
//!
//! The library's own debug information has no types. So libabigail sees a stand-in: the functions of the header with empty
//! bodies, of which those are exported that the library exports. It is C++, where a call returns its enum and not an int32_t.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::abi::{exported, soname};
use crate::support::{TempDir, root, succeed};

const BASELINE: &str = "tests/abi/ondat_telemetry.abi";

struct Interface {
    header: String,
    exported: BTreeSet<String>,
    soname: String,
}

impl Interface {
    fn built() -> Self {
        let header = std::fs::read_to_string(root().join("include/ondat_telemetry.h")).unwrap();
        Self { header, exported: exported(), soname: soname() }
    }

    fn stand_in(&self, dir: &TempDir) -> PathBuf {
        let (types, functions) = self.header.split_once("extern \"C\" {").unwrap();
        let functions = functions.replace(");\n", ") { __builtin_trap(); }\n");
        // Macros leave no trace in a program: their values become an enum's.
        let macros = types.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
        let macros =
            macros.filter(|(name, _)| !name.starts_with("ONDAT_TELEMETRY_VERSION_M") && !name.ends_with("_PATCH"));
        let values: String = macros.map(|(name, value)| format!("MACRO_{name} = {value},\n")).collect();
        assert!(values.contains("MACRO_ONDAT_TELEMETRY_DAILY_REPORT = "), "{values}");
        let macros = format!("enum macros {{\n{values}}};\nextern \"C\" {{ enum macros macros; }}\n");
        std::fs::write(dir.join("interface.cpp"), format!("{types}extern \"C\" {{{functions}{macros}")).unwrap();
        let exported: String = self.exported.iter().map(|symbol| format!("{symbol}; ")).collect();
        std::fs::write(dir.join("exported"), format!("{{ global: macros; {exported}local: *; }};")).unwrap();
        let mut compiler = Command::new("g++");
        compiler.current_dir(dir.path()).args(["-std=c++11", "-g", "-O0", "-w", "-fPIC", "-shared", "interface.cpp"]);
        compiler.arg(format!("-Wl,-soname,{}", self.soname));
        succeed(compiler.args(["-Wl,--version-script,exported", "-o", "interface.so"]));
        dir.join("interface.so")
    }

    /// Without what depends on where it was made and by which compiler.
    fn describe(&self) -> String {
        let dir = TempDir::new();
        let mut abidw = Command::new("abidw");
        abidw.args([
            "--no-corpus-path",
            "--no-comp-dir-path",
            "--no-show-locs",
            "--no-elf-needed",
            "--no-architecture",
        ]);
        abidw.args(["--no-parameter-names", "--type-id-style", "hash"]);
        String::from_utf8(succeed(abidw.arg(self.stand_in(&dir))).stdout).unwrap()
    }

    /// What is not an addition, as abidiff says it.
    fn breaks(mut self, baseline: &Path) -> Option<String> {
        self.header = without_new_fields(&self.header, &std::fs::read_to_string(baseline).unwrap());
        let dir = TempDir::new();
        let mut abidiff = Command::new("abidiff");
        abidiff.args(["--no-added-syms", "--no-architecture", "--no-show-locs", "--fail-no-debug-info"]);
        let output = abidiff.arg(baseline).arg(self.stand_in(&dir)).output().expect("abidiff: run tools/setup test");
        // The status is a set of bits: 1 and 2 for a failure of abidiff itself, 4 for a change, 8 for one that it is sure of.
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.code().is_some_and(|status| status & 3 == 0), "abidiff: {}\n{said}", output.status);
        (!output.status.success()).then_some(said)
    }
}

/// A struct says its size, so fields behind its last one are additions. To abidiff they are changes.
fn without_new_fields(header: &str, baseline: &str) -> String {
    let mut header = header.to_owned();
    for known in baseline.split("<class-decl name='").skip(1) {
        let name = known.split('\'').next().unwrap();
        let fields = known.split("</class-decl>").next().unwrap().rsplit_once("<var-decl name='");
        let Some(last) = fields.and_then(|(_, field)| field.split('\'').next()) else { continue };
        let Some(start) = header.find(&format!("typedef struct {name} {{")) else { continue };
        let Some(end) = header[start..].find(&format!("\n}} {name};")) else { continue };
        let field = format!("{last};");
        if let Some(at) = header[start..start + end].find(&field) {
            header.replace_range(start + at + field.len()..start + end, "");
        }
    }
    header
}

/// `UPDATE_ABI=1 cargo test --test programs abi_baseline::` writes the file anew: docs/abi.md says when.
#[test]
fn the_interface_is_the_baselines_with_additions() {
    let path = root().join(BASELINE);
    let built = Interface::built();
    if std::env::var_os("UPDATE_ABI").is_some() {
        std::fs::write(&path, built.describe()).unwrap();
    }
    if let Some(breaks) = built.breaks(&path) {
        panic!("programs that are linked to the last release would break (docs/abi.md):\n{breaks}");
    }
}

/// Something changed in the interface, against the interface as it is.
fn after(change: impl FnOnce(&mut Interface)) -> Option<String> {
    let dir = TempDir::new();
    let mut interface = Interface::built();
    std::fs::write(dir.join("baseline"), interface.describe()).unwrap();
    change(&mut interface);
    interface.breaks(&dir.join("baseline"))
}

fn after_edit(before: &str, after_it: &str) -> Option<String> {
    after(|interface| {
        assert!(interface.header.contains(before), "{before} is not in the header");
        interface.header = interface.header.replacen(before, after_it, 1);
        interface.exported.insert("ondat_telemetry_new".into());
    })
}

#[test]
fn additions_pass() {
    for (before, addition) in [
        ("    ONDAT_TELEMETRY_INTERNAL = 13,\n", "    ONDAT_TELEMETRY_INTERNAL = 13,\n    ONDAT_TELEMETRY_NEW = 14,\n"),
        (
            "#define ONDAT_TELEMETRY_DAILY_REPORT 2\n",
            "#define ONDAT_TELEMETRY_DAILY_REPORT 2\n#define ONDAT_TELEMETRY_NEW 8\n",
        ),
        ("    int64_t checked_at;\n", "    int64_t checked_at;\n    int64_t valid_until;\n    const char *zone;\n"),
        (
            "const char *ondat_telemetry_version(void);\n",
            "const char *ondat_telemetry_version(void);\nint ondat_telemetry_new(int a);\n",
        ),
    ] {
        assert_eq!(after_edit(before, addition), None, "{addition}");
    }
}

#[test]
fn every_other_change_fails_and_is_named() {
    for (before, change, named) in [
        ("uint32_t on);\n", "uint64_t on);\n", "'function void ondat_telemetry_config_set_switches("),
        ("void ondat_telemetry_close(", "int ondat_telemetry_close(", "return type changed"),
        ("(int level, const char", "(long level, const char", "parameter 1 of type 'int' changed"),
        ("ONDAT_TELEMETRY_QUEUED = 6", "ONDAT_TELEMETRY_QUEUED = 60", "ONDAT_TELEMETRY_QUEUED' from value '6' to '60'"),
        ("    ONDAT_TELEMETRY_INTERNAL = 13,\n", "", "ONDAT_TELEMETRY_INTERNAL' value '13'"),
        ("DAILY_REPORT 2\n", "DAILY_REPORT 8\n", "ONDAT_TELEMETRY_DAILY_REPORT' from value '2' to '8'"),
        ("    int32_t verdict;\n", "    uint32_t verdict;\n", "type of 'int32_t verdict' changed"),
        ("    const char *latest;\n", "", "'const char* latest', at offset"),
        (
            "    int64_t checked_at;\n",
            "    int64_t first;\n    int64_t checked_at;\n",
            "'int64_t checked_at' offset changed",
        ),
        ("const char *ondat_telemetry_version(void);\n", "", "Removed function"),
    ] {
        let said = after_edit(before, change).unwrap_or_else(|| panic!("{change}: nothing was noticed"));
        assert!(said.contains(named), "{change}: {said}");
    }
}

#[test]
fn a_symbol_that_is_gone_and_another_soname_fail() {
    let said = after(|interface| assert!(interface.exported.remove("ondat_telemetry_flush"))).unwrap();
    assert!(said.contains("Removed function") && said.contains("ondat_telemetry_flush"), "{said}");
    let said = after(|interface| interface.soname = "libondat_telemetry.so.1".into()).unwrap();
    assert!(said.contains("SONAME changed"), "{said}");
}
