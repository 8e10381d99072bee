//! docs/fleet.md: its commands work as they stand there, and it lists what there is.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::stage::{PROGRAM, Scratch, run, said};
use crate::tables::rows;

const PAGE: &str = include_str!("../../../docs/fleet.md");

#[test]
fn the_first_commands_work() {
    let section = PAGE.split("## Try it\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let commands: Vec<&str> = section.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    let scratch = Scratch::new("document");
    let programs = Path::new(PROGRAM).parent().unwrap().to_str().unwrap();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut last = String::new();
    for command in commands {
        let mut shell = Command::new("sh");
        last = said(&run(shell.args(["-ec", command]).env("PATH", &path).current_dir(&scratch.0)));
    }
    assert!(last.starts_with("1 reports and"), "{last}");
    assert!(rows(&scratch.0.join("made/data"), "lake/reports").len() > 100);
}

#[test]
fn every_question_is_in_the_list() {
    let questions = PAGE.split("## Questions\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let listed = questions.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name);
    let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(listed, files.filter(|name| name != "cluster_days.sql").collect());
}
