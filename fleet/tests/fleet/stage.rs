//! What the tests have in common: a folder, a made-up fleet in it, the program run over it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ondat-telemetry-fleet");

/// A folder that goes with its test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fleet-{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A fleet that was made up.
pub(crate) struct Fleet {
    pub(crate) scratch: Scratch,
    pub(crate) ledger: Vec<Value>,
}

impl Fleet {
    pub(crate) fn new(clusters: u32, days: u32, seed: u32) -> Self {
        let scratch = Scratch::new("made");
        let (clusters, days, seed) = (clusters.to_string(), days.to_string(), seed.to_string());
        let arguments = ["--clusters", &clusters, "--days", &days, "--seed", &seed];
        run(Command::new(PROGRAM).arg("gen").arg(scratch.0.join("made")).args(arguments));
        let ledger = fs::read_to_string(scratch.0.join("made/ledger.jsonl")).unwrap();
        let ledger = ledger.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { scratch, ledger }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.scratch.0.join("made/data")
    }

    pub(crate) fn key(&self, number: u32) -> PathBuf {
        self.scratch.0.join(format!("made/keys/key-{number}.json"))
    }

    /// A data folder with these bodies in it, or with more of them than before, and with all crash reports and version queries.
    pub(crate) fn receive<'a>(&self, name: &str, places: impl IntoIterator<Item = &'a str>) -> PathBuf {
        let data = self.scratch.0.join(name);
        let link = |from: PathBuf| {
            let to = data.join(from.strip_prefix(self.data()).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::hard_link(from, to)
        };
        for place in places {
            link(self.data().join("sealed/v1").join(place)).unwrap();
        }
        // A small fleet may have none of one kind.
        let days = ["crashes", "dns"].map(|folder| fs::read_dir(self.data().join(folder)));
        for day in days.into_iter().flatten().flatten().flatten() {
            for file in fs::read_dir(day.path()).unwrap().flatten() {
                match link(file.path()) {
                    Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {}
                    linked => linked.unwrap(),
                }
            }
        }
        data
    }

    pub(crate) fn places(&self) -> Vec<&str> {
        self.ledger.iter().map(|line| line["place"].as_str().unwrap()).collect()
    }

    pub(crate) fn of_fate(&self, fate: &str) -> BTreeSet<&str> {
        let lines = self.ledger.iter().filter(|line| line["fate"] == fate);
        lines.map(|line| line["place"].as_str().unwrap()).collect()
    }

    /// The command that opens with both keys.
    pub(crate) fn open(&self, data: &Path) -> Command {
        opening(data, &[self.key(1), self.key(2)])
    }
}

pub(crate) fn opening(data: &Path, keys: &[PathBuf]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("open").arg("--data").arg(data);
    for key in keys {
        command.arg("--key").arg(key);
    }
    command
}

/// Every file that an opener leaves, and what is in it.
pub(crate) fn left_by_openers(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in ["lake", "late", "aside", "opening"] {
        let mut folders = vec![data.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(data).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read(&path).unwrap());
                }
            }
        }
    }
    // The lock itself.
    files.remove("opening/placing");
    files
}

/// Fails with the names of the files that differ.
#[track_caller]
pub(crate) fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let differ: Vec<_> = names.into_iter().filter(|name| found.get(*name) != expected.get(*name)).collect();
    assert!(differ.is_empty(), "these differ: {differ:?}");
}
