//! The program under test, and a place for its files.

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The answers of every setting that identifies somebody.
pub(crate) const IDENTITY: [&str; 6] = ["--product-version", "2.8.2", "--cluster-id", "c-1", "--node-id", "n-1"];

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The exit status, or everything that was said.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    /// The one line of JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A command with nothing in its environment but the search path.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ondat-telemetry"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// A switch that one source turns off, as JSON says it.
pub(crate) fn held_by(kind: &str, name: &str, text: &str) -> serde_json::Value {
    let source = serde_json::json!({ "kind": kind, "name": name, "text": text, "process": null });
    serde_json::json!({ "on": false, "off_by": [text], "sources": [source] })
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    finish(command(arguments).stdin(Stdio::null()))
}

/// Runs it with this on its standard input.
pub(crate) fn run_with_input(arguments: &[&str], input: &str) -> Ended {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    ended(&child.wait_with_output().unwrap())
}

/// Runs a prepared command to its end.
pub(crate) fn finish(command: &mut Command) -> Ended {
    ended(&command.output().unwrap())
}

fn ended(output: &std::process::Output) -> Ended {
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout.clone()).unwrap(),
        stderr: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}

/// An empty directory of mode 0700 for the test of this name.
pub(crate) struct Place {
    path: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).unwrap();
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file's path as an argument.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file and returns its path as an argument.
    pub(crate) fn with(&self, name: &str, text: &str) -> String {
        fs::write(self.path.join(name), text).unwrap();
        self.at(name)
    }

    /// Every file below, with its size.
    pub(crate) fn listing(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                if meta.is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push((entry.path(), meta.len()));
                }
            }
        }
        found.sort();
        found
    }
}
