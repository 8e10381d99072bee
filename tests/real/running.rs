//! A dataplane that runs for days, and the receiving side it sends to. A day passes when a test says so.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use ondat_telemetry_protocol::identity::Identity;

use crate::cluster::Cluster;
use crate::support::{
    CLUSTER_ID, Collector, NODE_ID, Server, TempDir, both, built, compile, compile_preload, ondat, program, run,
    server, succeed, wait_for,
};

const DAY: i64 = 86_400;
const ZONE: &str = "latest.example.com";
/// The name of the library's thread, as /proc shows it.
const WORKER: &str = "ondat-telemetry\n";
/// The numbers of poll(2), whichever the C library calls.
const POLLS: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
];
/// Their timeouts that never end: -1 of 32 or 64 bits, and no pointer.
const FOR_EVER: [&str; 3] = ["0xffffffff", "0xffffffffffffffff", "0x0"];

/// The clock of the programs that are started with it.
pub(crate) struct Clock {
    object: PathBuf,
    path: PathBuf,
    file: File,
    passed: Mutex<i64>,
}

impl Clock {
    /// It is tomorrow, an hour after the node's slot: what is due in a day is due when 24 hours have passed, once.
    fn new(folder: &TempDir) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let slot = Identity::from_cluster_id(CLUSTER_ID).slot_seconds(NODE_ID);
        assert!(slot < 22 * 3600, "the hour after the slot and this test are of one UTC day");
        let ahead = 86_400 - now % 86_400 + slot + 3600;
        let path = folder.join("clock");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all_at(&[i64::try_from(ahead).unwrap().to_ne_bytes(), [0; 8]].concat(), 0).unwrap();
        Self { object: compile_preload("clock_preload.c", folder), path, file, passed: Mutex::new(0) }
    }

    fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.object).env("CLOCK_FILE", &self.path);
    }

    fn pass(&self, seconds: i64) {
        let mut passed = self.passed.lock().unwrap();
        *passed += seconds;
        assert!(*passed < 12 * DAY, "the kernel dates files by its own clock: from now on new reports are 14 days old");
        self.file.write_all_at(&passed.to_ne_bytes(), 8).unwrap();
    }
}

/// The built example, running.
pub(crate) struct Dataplane {
    server: Server,
    said: Arc<Mutex<Vec<String>>>,
}

impl Dataplane {
    fn start(command: &mut Command) -> Self {
        let said = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&said);
        let (server, ()) = Server::start(command, move |line| {
            lines.lock().unwrap().push(line.to_owned());
            (line == "dataplane: ready").then_some(())
        });
        let dataplane = Self { server, said };
        dataplane.rest();
        dataplane
    }

    /// Returns when a line with this in it has been printed.
    pub(crate) fn hear(&self, what: &str) {
        wait_for(&format!("the dataplane to say {what:?}"), || (self.said(what) > 0).then_some(()));
    }

    /// How many lines with this in it have been read so far.
    pub(crate) fn said(&self, what: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|line| line.contains(what)).count()
    }

    /// Returns when the library has done what there was to do: its thread waits for time to pass and for files in the
    /// state directory, and for nothing else. What was changed there before this call has been dealt with then.
    pub(crate) fn rest(&self) {
        wait_for("the library's thread to rest", || self.is_at_rest().then_some(()));
    }

    /// Whether it waits for nothing else by now.
    pub(crate) fn is_at_rest(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.server.id())).unwrap();
        let is_worker = |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == WORKER);
        let Some(worker) = tasks.map(|task| task.unwrap().path()).find(is_worker) else { return false };
        let stat = std::fs::read_to_string(worker.join("stat")).unwrap();
        // A thread that was woken, and has not run since, does not sleep by this file, but does by the next one.
        if !stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('S')) {
            return false;
        }
        // Number and arguments of the call it sleeps in (proc_pid_syscall(5)).
        let call = std::fs::read_to_string(worker.join("syscall")).unwrap();
        let words: Vec<&str> = call.split(' ').collect();
        // A poll of three descriptors, the timer, the folder and the door, without an end. (One for an answer of DNS has an
        // end.)
        words.len() > 3
            && POLLS.iter().any(|number| number.to_string() == words[0])
            && words[2] == "0x3"
            && FOR_EVER.contains(&words[3])
    }

    /// Lets it die of a fault, and returns when its crash monitor, if it has one, has ended as well.
    pub(crate) fn crash(mut self) {
        let monitor = self.monitor();
        self.server.signal(Signal::SIGSEGV);
        wait_for("the end of a dataplane", || self.server.ended());
        wait_for("the end of its monitor", || monitor.is_none_or(has_ended).then_some(()));
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Its crash monitor: the process that has a descriptor of it as number 4.
    pub(crate) fn monitor(&self) -> Option<u32> {
        let host = format!("Pid:\t{}\n", self.server.id());
        let processes = std::fs::read_dir("/proc").unwrap();
        let mut pids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.find(|pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/fdinfo/4")).is_ok_and(|text| text.contains(&host))
        })
    }
}

fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    // Who adopts it may be slow to reap it.
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z')))
}

/// How many version queries, daily reports and crash reports have arrived.
pub(crate) type Received = [usize; 3];

/// Dataplanes on one state directory, and whom they send to. They end before their folder goes.
pub(crate) struct Running {
    /// The one that runs all the time.
    pub(crate) dataplane: Dataplane,
    pub(crate) collector: Collector,
    settings: Settings,
    pub(crate) cluster: Cluster,
}

/// What dataplanes are started with.
struct Settings {
    clock: Clock,
    outlive: PathBuf,
    environment: Vec<(String, String)>,
}

impl Settings {
    fn new(cluster: &Cluster, collector: &Collector) -> Self {
        let version_key = std::fs::read_to_string(cluster.folder.join("keys/version.pub")).unwrap();
        let environment = [
            ("ONDAT_TELEMETRY_VERSION_ZONE", ZONE),
            ("ONDAT_TELEMETRY_VERSION_KEY", version_key.trim()),
            ("ONDAT_TELEMETRY_NAMESERVERS", &collector.dns),
            ("ONDAT_TELEMETRY_SENTRY_DSN", &collector.sentry_dsn),
            // Nothing ends by taking too long.
            ("ONDAT_TELEMETRY_TIMEOUT_MS", "600000"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let folder = &cluster.folder;
        Self { clock: Clock::new(folder), outlive: compile("outlive.c", folder), environment }
    }

    fn start(&self, cluster: &Cluster, collector: &Collector, more: &[(&str, &str)]) -> Dataplane {
        let mut command = server(built("dataplane"));
        self.give(&mut command, cluster, collector);
        Dataplane::start(command.envs(more.iter().copied()))
    }

    fn give(&self, command: &mut Command, cluster: &Cluster, collector: &Collector) {
        cluster.settings(command, &collector.url, &collector.ca_file);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Core files go there.
        self.clock.give(command.current_dir(cluster.folder.path()));
    }
}

impl Running {
    /// Everything runs, and everything is on.
    pub(crate) fn start() -> Self {
        let cluster = Cluster::new("X25519");
        let keys = cluster.folder.join("keys");
        succeed(ondat(&["keygen", "version", "--out"]).arg(&keys));
        let (release, zone) = (cluster.folder.join("release.toml"), cluster.folder.join("zone"));
        // Valid for longer than a test's days.
        std::fs::write(&release, format!("zone = '{ZONE}'\nlatest = '2.9.0'\nexpires_days = 400\n")).unwrap();
        let signed = succeed(ondat(&["zone"]).arg(&release).arg("--key").arg(keys.join("version.key"))).stdout;
        std::fs::write(&zone, signed).unwrap();
        let collector = Collector::serve_zone(&cluster.folder.join("collector"), &cluster.public_keys(), &zone);
        let settings = Settings::new(&cluster, &collector);
        let dataplane = settings.start(&cluster, &collector, &[]);
        let running = Self { dataplane, collector, settings, cluster };
        assert_eq!(running.received(), [1, 1, 0], "a dataplane asks and reports when it starts");
        running
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.cluster.state_dir
    }

    pub(crate) fn received(&self) -> Received {
        let collector = &self.collector;
        [collector.queries().len(), collector.reports().len(), collector.crashes().len()]
    }

    /// Another dataplane on the same state directory.
    pub(crate) fn another(&self) -> Dataplane {
        self.settings.start(&self.cluster, &self.collector, &[])
    }

    /// Starts the dataplane anew, with these variables besides.
    pub(crate) fn restart(&mut self, more: &[(&str, &str)]) {
        self.dataplane.server.end();
        self.dataplane = self.settings.start(&self.cluster, &self.collector, more);
    }

    /// Lets the dataplane die of a fault, and starts it anew.
    pub(crate) fn crash_and_restart(&mut self) {
        let next = self.another();
        std::mem::replace(&mut self.dataplane, next).crash();
    }

    /// Lets a day pass, and returns when the dataplane has done what was due in it.
    pub(crate) fn let_a_day_pass(&self) {
        self.begin_a_day();
        self.dataplane.rest();
    }

    /// Lets a day pass.
    pub(crate) fn begin_a_day(&self) {
        self.settings.clock.pass(DAY);
        // The library's thread looks at what is due when a file is moved into its folder. (Of one that is written there
        // it may hear later: a program that another test starts at that moment has it open until it is executed.)
        let file = self.cluster.folder.join("a-day-has-passed");
        std::fs::write(&file, "").unwrap();
        std::fs::rename(file, self.state_dir().join("a-day-has-passed")).unwrap();
    }

    /// Another dataplane starts, and writes through a null pointer. Returns what it said, when its monitor, if it had
    /// one, has ended as well.
    pub(crate) fn let_another_crash(&self) -> String {
        let mut command = program(&self.settings.outlive);
        self.settings.give(&mut command, &self.cluster, &self.collector);
        both(&run(command.arg(built("dataplane")).arg("crash")))
    }
}
