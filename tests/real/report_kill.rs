//! A sender that is killed before any of its system calls: what it had accepted arrives, once and whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::identity::Identity;
use serde_json::Value;

use crate::cluster::{Cluster, document};
use crate::support::{
    Collector, NOBODY, Said, command, compile, files_below, files_in, make_private_folder, program, run, status,
    succeed,
};

/// Victims at a time.
const WORKERS: usize = 2;

/// A system call by its name and by how many of that name one thread makes up to it: strace counts for each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    name: String,
    number: usize,
}

/// Everything around the victims.
struct Scene {
    cluster: Cluster,
    collector: Collector,
    probe: PathBuf,
    document: PathBuf,
    /// Empty: what matters is not which certificates are read.
    certificates: PathBuf,
}

/// A state directory and a cluster of its own, so that its report is one of its own at the collector.
struct Victim<'a> {
    scene: &'a Scene,
    cluster_id: String,
    state_dir: PathBuf,
}

/// How far a report was when its sender was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// Not stored.
    Nothing,
    /// Stored, not sent.
    Stored,
    /// The collector has it, and it is still stored.
    Sent,
    /// The collector has it.
    Removed,
}

impl Scene {
    fn new() -> Self {
        let cluster = Cluster::new("X25519");
        let (probe, document) = (compile("probe.c", &cluster.folder), cluster.write_document(&document(2)));
        let certificates = cluster.folder.join("certificates");
        std::fs::create_dir(&certificates).unwrap();
        Self { collector: cluster.collector(), cluster, probe, document, certificates }
    }

    fn victim(&self, name: &str) -> Victim<'_> {
        let state_dir = self.cluster.folder.join(name);
        make_private_folder(&state_dir);
        Victim { scene: self, cluster_id: name.to_owned(), state_dir }
    }
}

impl Victim<'_> {
    fn settings<'c>(&self, command: &'c mut Command, url: &str) -> &'c mut Command {
        self.scene.cluster.settings(command, url, &self.scene.collector.ca_file);
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", &self.cluster_id);
        command.env("ONDAT_TELEMETRY_STATE_DIR", &self.state_dir).env("SSL_CERT_DIR", &self.scene.certificates)
    }

    fn arguments(&self, mode: &str) -> Vec<String> {
        let mut arguments = vec![mode.to_owned()];
        arguments.extend((mode == "submit").then(|| self.scene.document.display().to_string()));
        arguments
    }

    fn probe(&self, mode: &str, url: &str) -> Said {
        let mut command = program(&self.scene.probe);
        Said::of(&run(self.settings(command.args(self.arguments(mode)), url)))
    }

    /// `probe` under strace. Returns what strace has to say.
    fn trace(&self, mode: &str, options: &[String]) -> String {
        let trace = self.state_dir.with_extension("trace");
        let mut strace = program("strace");
        strace.args(["-f", "-q", "-o"]).arg(&trace).args(options).arg(&self.scene.probe);
        run(self.settings(strace.args(self.arguments(mode)), &self.scene.collector.url));
        std::fs::read_to_string(trace).unwrap()
    }

    /// The calls that a process makes from the first one that has to do with the state directory.
    fn calls(&self, mode: &str) -> Vec<Call> {
        let trace = self.trace(mode, &[]);
        assert!(trace.contains("+++ exited with 0 +++"), "{trace}");
        let (mut numbers, mut calls, mut is_ours) = (BTreeMap::new(), Vec::new(), false);
        for line in trace.lines() {
            // A process id and a call.
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let Some((name, _)) = call.trim_start().split_once('(') else { continue };
            // The end of one that another thread's came into was seen to begin.
            if name.starts_with('<') {
                continue;
            }
            let counted = (thread.to_owned(), name.to_owned());
            let number = numbers.entry(counted).and_modify(|number| *number += 1).or_insert(1_usize);
            is_ours |= line.contains(self.state_dir.to_str().unwrap());
            let call = Call { name: name.to_owned(), number: *number };
            // Whichever thread makes it first is killed before it.
            if is_ours && !calls.contains(&call) {
                calls.push(call);
            }
        }
        calls
    }

    /// Runs it and kills it before this call. False when it never made the call.
    fn kill_before(&self, mode: &str, call: &Call) -> bool {
        let Call { name, number } = call;
        let options = [format!("--trace={name}"), format!("--inject={name}:signal=SIGKILL:when={number}")];
        let trace = self.trace(mode, &options);
        let is_killed = trace.contains("+++ killed by SIGKILL +++");
        assert!(is_killed || trace.contains("+++ exited with 0 +++"), "{call:?}: {trace}");
        is_killed
    }

    fn stored(&self) -> Vec<PathBuf> {
        let stored = files_in(&self.state_dir.join("spool/reports"));
        stored.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "otr")).collect()
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        files_below(&self.state_dir).into_iter().filter(|path| path.to_str().unwrap().contains("/.")).collect()
    }

    fn is_received(&self) -> bool {
        let day = &humantime::format_rfc3339(SystemTime::now()).to_string()[..10];
        let id = HEXLOWER.encode(&Identity::from_cluster_id(&self.cluster_id).report_id(day));
        self.scene.collector.reports().iter().any(|path| path.ends_with(format!("{id}.otr")))
    }

    fn progress(&self) -> Progress {
        match (self.stored().as_slice(), self.is_received()) {
            ([], false) => Progress::Nothing,
            ([_], false) => Progress::Stored,
            ([_], true) => Progress::Sent,
            ([], true) => Progress::Removed,
            (several, _) => panic!("one report a day: {several:?}"),
        }
    }

    /// Kills it before the call and lets others go on, in one order or the other. None when it never made the call.
    fn die_and_recover(&self, mode: &str, call: &Call, is_flushed_first: bool) -> Option<Progress> {
        let is_killed = self.kill_before(mode, call);
        let progress = self.progress();
        let is_accepted = progress > Progress::Nothing;
        let scene = format!("{mode} killed before {call:?}, {progress:?}");
        if is_flushed_first {
            self.flush(&scene);
            assert_eq!(self.is_received(), is_accepted, "{scene}: what was accepted arrives, and nothing else");
            self.submit(&scene, is_accepted);
        } else {
            self.submit(&scene, is_accepted);
            self.flush(&scene);
        }
        assert!(self.is_received(), "{scene}");
        let sent = files_in(&self.state_dir.join("sent"));
        let copies = sent.iter().filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        assert_eq!(copies.count(), 1, "{scene}: what was sent is kept for the administrator: {sent:?}");
        assert_eq!(self.stored(), Vec::<PathBuf>::new(), "{scene}: delivered and still stored");

        let leftovers = self.leftovers();
        assert!(leftovers.len() <= 1, "{scene}: {leftovers:?}");
        if !leftovers.is_empty() {
            // The next day begins.
            std::fs::remove_file(self.state_dir.join("report.json")).unwrap();
            self.submit(&scene, false);
            assert_eq!(self.leftovers(), Vec::<PathBuf>::new(), "{scene}: never cleared away");
        }
        is_killed.then_some(progress)
    }

    fn flush(&self, scene: &str) {
        let said = self.probe("flush", &self.scene.collector.url);
        assert_eq!(said.number("flush"), status::OK, "{scene}: {said:?}");
        assert_eq!(self.stored(), Vec::<PathBuf>::new(), "{scene}: delivered and still stored");
    }

    /// The report of the day, which may be refused where the killed process has made one.
    fn submit(&self, scene: &str, may_be_refused: bool) {
        let said = self.probe("submit", &self.scene.collector.url);
        let outcome = said.number("submit_report");
        assert!(outcome == status::OK || (may_be_refused && outcome == status::INVALID_STATE), "{scene}: {said:?}");
    }
}

/// Kills a process before each of these calls, in as many state directories, and returns how often it was how far.
fn kill_before_each<'s>(
    calls: &[Call],
    mode: &str,
    victim: impl Fn(&str) -> Victim<'s> + Sync,
) -> BTreeMap<Progress, usize> {
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(call) = calls.get(at) else { break };
                    let victim = victim(&format!("victim-{at}"));
                    if let Some(progress) = victim.die_and_recover(mode, call, at % 2 == 0) {
                        *seen.lock().unwrap().entry(progress).or_insert(0) += 1;
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    // The number of calls hangs a little on the weather: how the heap grows, how an answer is cut into pieces.
    let killed: usize = seen.values().sum();
    assert!(killed * 20 >= calls.len() * 19, "{killed} of {} were killed", calls.len());
    seen
}

/// The collector has this many reports, and every one opens.
fn assert_all_open(scene: &Scene, reports: usize) {
    let mut open = program(command("ondat-telemetry-collector"));
    open.args(["open", "--json", "--data"]).arg(&scene.collector.data);
    open.arg("--key").arg(scene.cluster.folder.join("keys/report.key"));
    let output = succeed(&mut open);
    let opened: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    // A report that was made anew may be there with both bodies.
    let ids: BTreeSet<_> = opened.iter().map(|report| report["report_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), reports);
    assert_eq!(scene.collector.reports().len(), reports);
}

#[test]
fn killed_before_any_call_of_making_and_sending_a_report() {
    let scene = Scene::new();
    let calls = scene.victim("reference").calls("submit");
    assert!(calls.len() > 100, "{calls:?}");
    let seen = kill_before_each(&calls, "submit", |name| scene.victim(name));
    let all = [Progress::Nothing, Progress::Stored, Progress::Sent, Progress::Removed];
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), all, "{seen:?}");
    assert_all_open(&scene, calls.len() + 1);
}

#[test]
fn killed_before_any_call_of_sending_a_stored_report() {
    let scene = Scene::new();
    let victim = |name: &str| {
        let victim = scene.victim(name);
        assert_eq!(victim.probe("submit", NOBODY).number("submit_report"), status::QUEUED);
        victim
    };
    let calls = victim("reference").calls("flush");
    assert!(calls.len() > 100, "{calls:?}");
    let seen = kill_before_each(&calls, "flush", victim);
    let all = [Progress::Stored, Progress::Sent, Progress::Removed];
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), all, "{seen:?}");
    assert_all_open(&scene, calls.len() + 1);
}
