//! What `ondat-telemetry version` says of the build: commit, profile, target, compiler.

use std::env;
use std::path::Path;
use std::process::Command;

/// For packages, which are built from a source archive. It goes before git.
const COMMIT: &str = "ONDAT_TELEMETRY_COMMIT";
/// A hash has 64 digits, or is a name such as v0.1.0-3.
const LONGEST_COMMIT: usize = 64;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let commit = match env::var(COMMIT) {
        Ok(commit) if !commit.is_empty() => commit,
        _ => commit_of_git().unwrap_or_else(|| "unknown".to_owned()),
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if commit.len() > LONGEST_COMMIT || !commit.chars().all(is_allowed) {
        println!("cargo::error={COMMIT} is not 1 to {LONGEST_COMMIT} of A-Z a-z 0-9 . _ + -");
    }
    println!("cargo::rustc-env=BUILD_COMMIT={commit}");
    println!("cargo::rustc-env=BUILD_PROFILE={}", env::var("PROFILE").unwrap_or_default());
    println!("cargo::rustc-env=BUILD_TARGET={}", env::var("TARGET").unwrap_or_default());
    let rustc = env::var("RUSTC").ok().and_then(|rustc| said(Command::new(rustc).arg("--version")));
    println!("cargo::rustc-env=BUILD_RUSTC={}", rustc.unwrap_or_else(|| "rustc of an unknown version".to_owned()));
}

/// The commit that is checked out. None where these sources only lie in a checkout of something else.
fn commit_of_git() -> Option<String> {
    let package = env::var("CARGO_MANIFEST_DIR").ok()?;
    let root = Path::new(&package).parent()?;
    let git = |words: &[&str]| {
        // A hook of git has its own repository in these.
        let mut git = Command::new("git");
        said(git.arg("-C").arg(root).args(words).env_remove("GIT_DIR").env_remove("GIT_WORK_TREE"))
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    // They change with every commit and every checkout, and with nothing else. A file that is not there would count as changed
    // in every build.
    for name in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(&["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "HEAD"])
}

/// The one line that a program prints.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
