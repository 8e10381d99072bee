//! `status --watch`: one block for each change, for programs, people and terminals, whatever becomes of the directory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::program::{Place, command, run};

/// For a line that has to come; it proves nothing but that it does not take for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// A watching command, ended with the test.
struct Watching {
    child: Child,
    said: Receiver<String>,
}

impl Watching {
    fn start(words: &[&str]) -> Self {
        let mut command = command(&[&["status", "--watch"], words].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (say, said) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        Self { child, said }
    }

    fn line(&self) -> String {
        self.said.recv_timeout(PATIENCE).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_line_of_json_for_each_change_and_none_for_time_that_goes_by() {
    let (place, away) = (Place::new("watch-json/state"), Place::new("watch-json-away"));
    let state = place.at("");
    // Something waits: its age, and when it may be tried, are others every second.
    fs::create_dir_all(place.at("spool/reports")).unwrap();
    place.with("spool/reports/2026-01-01-0.otr", "stored");
    let mut watching = Watching::start(&["--json", "--state-dir", &state]);
    let first = watching.json();
    assert_eq!(first["spool"]["spool/reports"]["items"].as_array().map(Vec::len), Some(1));
    for which in ["version-check", "crash-reports"] {
        run(&["disable", which, "--state-dir", &state]).with(0);
        let now = watching.json();
        assert_eq!(now["switches"][which.replace('-', "_")]["on"], json!(false), "{now}");
        assert_eq!(now["switches"]["daily_report"]["on"], json!(true), "{now}");
    }
    // Gone, and back.
    fs::remove_dir(away.path()).unwrap();
    fs::rename(place.path(), away.path()).unwrap();
    let gone = watching.json();
    assert!(gone["state_dir_problem"].as_str().unwrap().ends_with("does not exist"), "{gone}");
    fs::rename(away.path(), place.path()).unwrap();
    let back = watching.json();
    assert_eq!((&back["state_dir_problem"], &back["switches"]["crash_reports"]["on"]), (&json!(null), &json!(false)));
    // What cannot be read for a while is said, and the watch goes on.
    place.with("settings.env", "export X=1");
    let mut errors = BufReader::new(watching.child.stderr.take().unwrap());
    let mut said = String::new();
    errors.read_line(&mut said).unwrap();
    assert!(said.contains("settings.env: line 1: `export`"), "{said}");
    place.with("settings.env", "ONDAT_TELEMETRY_VERSION_ZONE=a.example\n");
    assert_eq!(watching.json()["version_check"]["zone"], json!("a.example"));
    kill(Pid::from_raw(watching.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(watching.child.wait().unwrap().signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn elsewhere_than_on_a_terminal_there_are_blocks() {
    let place = Place::new("watch-text");
    let state = place.at("");
    let watching = Watching::start(&["--state-dir", &state]);
    let block = || {
        let first = watching.line();
        assert!(first.starts_with("state directory  "), "{first}");
        // The last line of a status without anything that waits.
        let rest = std::iter::from_fn(|| Some(watching.line()))
            .take_while(|line| !line.ends_with("spool/crashes: 0 items, 0 bytes"));
        [first].into_iter().chain(rest).collect::<Vec<_>>().join("\n")
    };
    assert!(block().contains("\n  daily_report   on\n"));
    run(&["disable", "telemetry", "--state-dir", &state]).with(0);
    assert_eq!(watching.line(), "", "a gap between blocks");
    let now = block();
    assert!(now.contains("\n  daily_report   off by the administrator") && !now.contains('\u{1b}'), "{now}");
}

#[test]
fn yaml_is_a_document_for_each_change() {
    let place = Place::new("watch-yaml");
    let watching = Watching::start(&["-o", "yaml", "--state-dir", &place.at("")]);
    assert_eq!(watching.line(), "---");
    run(&["disable", "telemetry", "--state-dir", &place.at("")]).with(0);
    let next = std::iter::from_fn(|| Some(watching.line())).find(|line| line == "---");
    assert_eq!(next.as_deref(), Some("---"));
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let place = Place::new("watch-reader");
    let mut command = command(&["status", "--watch", "--json", "--state-dir", &place.at("")]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    assert!(child.wait().unwrap().success());
}

#[test]
fn on_a_terminal_it_is_drawn_over() {
    for (term, draws) in [("xterm", true), ("dumb", false)] {
        let place = Place::new(&format!("watch-terminal-{term}"));
        let state = place.at("");
        let terminal = openpty(None, None).unwrap();
        let mut watch = command(&["status", "--watch", "--state-dir", &state]);
        let mut child = watch.env("TERM", term).stdout(File::from(terminal.slave)).spawn().unwrap();
        // What still has the other end of the terminal goes with it.
        drop(watch);
        let mut master = File::from(terminal.master);
        let mut seen = String::new();
        let mut until = |word: &str| {
            while !seen.contains(word) {
                let mut bytes = [0; 4096];
                let length = master.read(&mut bytes).unwrap();
                seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
            std::mem::take(&mut seen)
        };
        let first = until("spool/crashes: 0 items, 0 bytes");
        assert_eq!(first.starts_with("\u{1b}[H") && first.contains("\u{1b}[K\r\n"), draws, "{first:?}");
        run(&["disable", "telemetry", "--state-dir", &state]).with(0);
        let next = until("by the administrator");
        assert_eq!(next.contains("\u{1b}[H"), draws, "{next:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn what_cannot_be_watched_is_refused_as_status_refuses_it() {
    let place = Place::new("watch-refused");
    let file = place.with("file", "");
    let (watched, once) = (["status", "--watch", "--state-dir", &file], ["status", "--state-dir", &file]);
    assert_eq!(run(&watched).with(8).stderr, run(&once).with(8).stderr);
    let why = run(&["status", "--wach"]).with(2).stderr;
    assert!(why.contains("'--watch'") && why.lines().count() == 1, "{why}");
    run(&["status", "--watch=1"]).with(2);
}
