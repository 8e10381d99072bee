//! One run of check, report, crash and flush after the other, in each of which a system call of the library, or of the
//! crash monitor, fails: once, or from then on. Whatever fails: no call outlasts its deadline, nothing spins, nothing
//! crashes that did not, what was accepted arrives, and what is off stays off.
//!
//! `make test` takes a sample, the same in every run. `ONDAT_TELEMETRY_SWEEP=SEED` takes another one of the same size,
//! `ONDAT_TELEMETRY_SWEEP=all` every call and every error, for hours, and `ONDAT_TELEMETRY_SWEEP="FAULT"` the one that a
//! failure names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![cfg(target_arch = "x86_64")]

mod servers;
#[path = "../programs/support.rs"]
#[allow(dead_code, reason = "shared with others")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use servers::Servers;
use support::{TempDir, built, compile, root, succeed};

const ERRORS: [(&str, i32); 8] = [
    ("EIO", libc::EIO),
    ("ENOSPC", libc::ENOSPC),
    ("EMFILE", libc::EMFILE),
    ("ENOMEM", libc::ENOMEM),
    ("EACCES", libc::EACCES),
    ("EPERM", libc::EPERM),
    ("EINTR", libc::EINTR),
    ("ESTALE", libc::ESTALE),
];

/// How many runs a sample has.
const SAMPLE: usize = 400;
/// Runs at once: most of a run is waiting.
const AT_ONCE: usize = 8;
/// After this many seconds a run hangs. Without a failure it takes half a one.
const RUN_SECONDS: &str = "30";
/// How much longer than its timeout a call may take, in milliseconds, on a machine that is busy with other runs.
const GRACE: u64 = 5_000;
/// What host and monitor may take of a processor, in milliseconds: twenty times what they take, and much less than one
/// that spins until the run is ended. A wait that is interrupted over and over is begun anew until its deadline.
const PROCESSOR: f64 = 4_000.0;

/// Calls that do not fail in a kernel, or for other reasons only than a caller could do anything about; those that end a
/// thread; futex(2), of which the C library makes its own end where that fails; and those by which the C library and the
/// loader get memory for what is not sized by input.
const UNFAILING: [libc::c_long; 27] = [
    libc::SYS_arch_prctl,
    libc::SYS_brk,
    // Without it 65 536 descriptors are closed one by one, which a tracer makes a matter of seconds.
    libc::SYS_close_range,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setsid,
    libc::SYS_umask,
    libc::SYS_clock_gettime,
];

/// What fails in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    role: &'static str,
    call: i64,
    nth: u64,
    error: (&'static str, i32),
    /// All later ones too.
    stays: bool,
    /// How the host ends, and what is off.
    end: End,
}

/// What a run does in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Crash,
    Close,
    /// As the last, and everything is off by the administrator's word.
    Off,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, call, nth, error: (error, _), stays, end } = self;
        let stays = if *stays { "on" } else { "once" };
        write!(f, "{end:?} {role} {} {nth} {stays} {error}", name(*call))
    }
}

fn name(call: i64) -> String {
    static NAMES: Mutex<BTreeMap<i64, String>> = Mutex::new(BTreeMap::new());
    let mut names = NAMES.lock().unwrap();
    if names.is_empty() {
        // The compiler's own list.
        let program = "printf '#include <sys/syscall.h>\n' | gcc -E -dM - | sed -n 's/^#define __NR_\\([a-z0-9_]*\\) \\([0-9]*\\)$/\\2 \\1/p'";
        let list = succeed(Command::new("sh").args(["-c", program])).stdout;
        let lines = String::from_utf8(list).unwrap();
        names.extend(lines.lines().filter_map(|line| {
            let (number, name) = line.split_once(' ')?;
            Some((number.parse().ok()?, name.to_owned()))
        }));
    }
    names.get(&call).cloned().unwrap_or_else(|| call.to_string())
}

/// Everything that the runs share.
struct Bench {
    folder: TempDir,
    host: PathBuf,
    inject: PathBuf,
    servers: Servers,
    keys: String,
    runs: AtomicUsize,
}

/// What came of a run.
struct Outcome {
    /// What the host said of its calls: status and milliseconds.
    calls: BTreeMap<String, (i64, u64)>,
    /// Why they failed, for who reads it.
    said: String,
    /// How often each call was made.
    counts: BTreeMap<(String, i64), u64>,
    /// How processes ended, as the word of waitpid(2).
    ends: Vec<(String, i32)>,
    processor: BTreeMap<String, f64>,
    is_late: bool,
    failed: u64,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new();
        let sources = root().join("tests/sweep");
        let host = folder.join("host");
        compile("gcc", &sources.join("host.c"), &host, &["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-O1"]);
        built("ondat-telemetry-monitor");
        let inject = folder.join("inject");
        let mut compiler = Command::new("gcc");
        compiler.args(["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-O1"]).arg(sources.join("inject.c"));
        succeed(compiler.arg("-o").arg(&inject));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let answer = format!("o1 v=* l=2.9.0 r=2.8.2 t={now} e={}", now + 86_400);
        let public = [9; 32];
        let id = HEXLOWER.encode(&Sha256::digest(public)[..8]);
        let keys = format!(
            r#"{{"keys":[{{"id":"{id}","kem":"X25519","public":"{}","not_before":0,"not_after":9999999999}}]}}"#,
            BASE64.encode(&public)
        );
        Self { folder, host, inject, servers: Servers::start(answer), keys, runs: AtomicUsize::new(0) }
    }

    fn new_run(&self) -> (u32, PathBuf) {
        let run = u32::try_from(self.runs.fetch_add(1, Ordering::Relaxed)).unwrap();
        let folder = self.folder.join(&format!("run{run}"));
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&folder).unwrap();
        (run, folder)
    }

    fn environment(&self, command: &mut Command, run: u32, folder: &Path) {
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).stdin(Stdio::null());
        let state = folder.join("state");
        let http = format!("127.0.0.1:{}", self.servers.http);
        for (name, value) in [
            ("COMPONENT", "sweep".to_owned()),
            ("VERSION", "2.8.1".to_owned()),
            ("CLUSTER_ID", "cluster".to_owned()),
            ("NODE_ID", "node".to_owned()),
            ("STATE_DIR", state.display().to_string()),
            ("VERSION_ZONE", format!("run{run}.test")),
            ("NAMESERVERS", format!("127.0.0.1:{}", self.servers.dns)),
            ("REPORT_URL", format!("http://{http}/run{run}")),
            ("REPORT_KEYS", self.keys.clone()),
            ("SENTRY_DSN", format!("http://key@{http}/run{run}/1")),
            ("TIMEOUT_MS", "1000".to_owned()),
        ] {
            command.env(format!("ONDAT_TELEMETRY_{name}"), value);
        }
    }

    /// One run, its calls failing by this; none: as they are.
    fn run(&self, end: End, fault: Option<&Fault>, run: u32, folder: &Path) -> Outcome {
        let log = folder.join("log");
        let state = folder.join("state");
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&state).unwrap();
        if end == End::Off {
            let all_off = r#"{"version_check":false,"daily_report":false,"crash_reports":false}"#;
            std::fs::write(state.join("switches.json"), all_off).unwrap();
        }
        let mut command = Command::new(&self.inject);
        let none = Fault { role: "host", call: -1, nth: 1, error: ("", 0), stays: false, end };
        let Fault { role, call, nth, error: (_, errno), stays, .. } = *fault.unwrap_or(&none);
        command.arg(&log).args([RUN_SECONDS, role, &call.to_string(), &nth.to_string(), &errno.to_string()]);
        command.arg(if stays { "on" } else { "once" }).arg(&self.host);
        command.arg(if end == End::Crash { "crash" } else { "close" });
        self.environment(&mut command, run, folder);
        let output = command.output().unwrap();
        let log = std::fs::read_to_string(log).unwrap_or_default();
        Outcome::of(&output, &log)
    }

    /// What the next start of a daemon does: everything that is left is sent.
    fn recover(&self, run: u32, folder: &Path) -> Outcome {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", RUN_SECONDS]).arg(&self.host).arg("recover");
        self.environment(&mut command, run, folder);
        Outcome::of(&command.output().unwrap(), "")
    }

    /// What is wrong with a run in which this fails.
    fn wrongs(&self, fault: &Fault) -> (Vec<String>, Outcome) {
        let (run, folder) = self.new_run();
        let outcome = self.run(fault.end, Some(fault), run, &folder);
        let mut wrongs = outcome.wrongs(fault);
        if fault.end == End::Off {
            let sent = self.servers.sent(run);
            if sent.questions + sent.reports + sent.events.len() > 0 {
                wrongs.push(format!("what is off was sent: {sent:?}"));
            }
            for call in ["switches", "still"] {
                if outcome.calls.get(call).is_some_and(|(on, _)| *on != 0) {
                    wrongs.push(format!("what is off counts as on: {call}"));
                }
            }
        } else if !outcome.is_late {
            let recovered = self.recover(run, &folder);
            let sent = self.servers.sent(run);
            let was = |call: &str, statuses: &[i64]| {
                outcome.calls.get(call).is_some_and(|(status, _)| statuses.contains(status))
            };
            let has = |what: &str| sent.events.iter().any(|event| event.contains(what));
            let is_watched = was("install", &[OK])
                || was("install", &[UNSUPPORTED]) && outcome.said.contains("reported at the next start");
            let lost = [
                ("the report", was("submit", &[OK, QUEUED]) && sent.reports == 0),
                ("the child's end", was("exit", &[OK]) && !has("child killed by SIGKILL")),
                ("the crash", fault.end == End::Crash && is_watched && !has("sweep killed by SIGSEGV")),
            ];
            for (what, is_lost) in lost {
                if is_lost {
                    wrongs.push(format!("{what} was accepted and lost; the next start says:\n{}", recovered.said));
                }
            }
        }
        let _ = std::fs::remove_dir_all(folder);
        (wrongs, outcome)
    }
}

const OK: i64 = 0;
const QUEUED: i64 = 6;
const UNSUPPORTED: i64 = 12;

impl Outcome {
    fn of(output: &Output, log: &str) -> Self {
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut outcome = Self {
            calls: BTreeMap::new(),
            counts: BTreeMap::new(),
            ends: Vec::new(),
            processor: BTreeMap::new(),
            is_late: false,
            failed: 0,
            said,
        };
        for line in outcome.said.lines() {
            let mut words = line.split(' ');
            let mut next = || words.next().unwrap_or_default();
            if let (name, Ok(status), Ok(milliseconds)) = (next(), next().parse(), next().parse()) {
                outcome.calls.insert(name.to_owned(), (status, milliseconds));
            }
        }
        for line in log.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["count", role, call, times] => {
                    outcome.counts.insert((role.to_owned(), call.parse().unwrap()), times.parse().unwrap());
                }
                ["end", role, status] => outcome.ends.push((role.to_owned(), status.parse().unwrap())),
                ["cpu", role, milliseconds] => {
                    outcome.processor.insert(role.to_owned(), milliseconds.parse().unwrap());
                }
                ["late"] => outcome.is_late = true,
                ["failed", times] => outcome.failed = times.parse().unwrap(),
                _ => panic!("{line:?} in the log"),
            }
        }
        outcome
    }

    fn wrongs(&self, fault: &Fault) -> Vec<String> {
        let mut wrongs = Vec::new();
        if self.is_late {
            wrongs.push(format!("it does not end, {:?} ms of CPU", self.processor));
        }
        for (call, (_, milliseconds)) in &self.calls {
            let timeout = if ["check", "submit", "flush"].contains(&call.as_str()) { 1_000 } else { 500 };
            if *milliseconds > timeout + GRACE {
                wrongs.push(format!("{call} has taken {milliseconds} ms"));
            }
        }
        for (role, milliseconds) in &self.processor {
            if *milliseconds > PROCESSOR {
                wrongs.push(format!("{role} has spun for {milliseconds} ms"));
            }
        }
        for (role, status) in &self.ends {
            let is_right = match (role.as_str(), fault.end) {
                ("host", End::Crash) => status & 0x7f == libc::SIGSEGV,
                ("host", _) => *status == 0,
                // A monitor may find that it cannot work; it may not crash. One that Rust's runtime ends before it has begun
                // is told by install.
                _ => status & 0x7f == 0 || self.said.contains("ended before it answered"),
            };
            if !is_right && !self.is_late {
                wrongs.push(format!("{role} has ended with {status:#x}"));
            }
        }
        wrongs
    }
}

/// SplitMix64: the same sample in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// Everything that can fail in these runs.
fn all_faults(bench: &Bench) -> Vec<Fault> {
    let mut faults = BTreeSet::new();
    for end in [End::Crash, End::Close, End::Off] {
        let (run, folder) = bench.new_run();
        let outcome = bench.run(end, None, run, &folder);
        let none = Fault { role: "host", call: -1, nth: 0, error: ("none", 0), stays: false, end };
        let wrongs = outcome.wrongs(&none);
        assert!(wrongs.is_empty(), "nothing fails, and {wrongs:?}: {}", outcome.said);
        if end != End::Off {
            let expected = [("init", OK), ("install", OK), ("start", OK), ("check", OK), ("submit", OK), ("flush", OK)];
            for (call, status) in expected {
                assert_eq!(
                    outcome.calls.get(call).map(|(status, _)| *status),
                    Some(status),
                    "{call}: {}",
                    outcome.said
                );
            }
        }
        for ((role, call), times) in &outcome.counts {
            if UNFAILING.contains(call) {
                continue;
            }
            let role = if role == "host" { "host" } else { "monitor" };
            for error in ERRORS {
                // Rust's library relies on that.
                if *call == libc::SYS_clock_nanosleep && error.1 != libc::EINTR {
                    continue;
                }
                for nth in 1..=*times {
                    faults.insert(Fault { role, call: *call, nth, error, stays: false, end });
                    faults.insert(Fault { role, call: *call, nth, error, stays: true, end });
                }
            }
        }
    }
    faults.into_iter().collect()
}

/// Some of them: of each call of each kind of process first, then of whatever chance says.
fn sample(all: &[Fault], seed: u64) -> Vec<Fault> {
    let chance = &mut Chance(seed);
    let mut by_call = BTreeMap::<(&str, i64, bool), Vec<&Fault>>::new();
    for fault in all {
        by_call.entry((fault.role, fault.call, fault.stays)).or_default().push(fault);
    }
    let mut chosen = BTreeSet::new();
    while chosen.len() < SAMPLE.min(all.len()) {
        for faults in by_call.values() {
            chosen.insert(*faults[chance.below(faults.len())]);
        }
    }
    let mut chosen: Vec<Fault> = chosen.into_iter().collect();
    while chosen.len() > SAMPLE {
        chosen.swap_remove(chance.below(chosen.len()));
    }
    chosen
}

#[test]
fn whatever_fails_nothing_hangs_spins_crashes_or_is_lost() {
    let bench = Bench::new();
    let all = all_faults(&bench);
    let wanted = std::env::var("ONDAT_TELEMETRY_SWEEP").unwrap_or_default();
    let faults = match &*wanted {
        "" => sample(&all, 14),
        "all" => all.clone(),
        wanted => wanted.parse().map_or_else(
            |_| all.iter().filter(|fault| fault.to_string() == wanted).copied().collect(),
            |seed| sample(&all, seed),
        ),
    };
    assert!(!faults.is_empty(), "ONDAT_TELEMETRY_SWEEP={wanted} is no fault of these runs");
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (wrongs, outcome) = bench.wrongs(fault);
                    failed.fetch_add(usize::from(outcome.failed > 0), Ordering::Relaxed);
                    if !wrongs.is_empty() {
                        found.lock().unwrap().push(format!("{fault}: {}\n{}", wrongs.join("; "), outcome.said));
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(
        found.is_empty(),
        "{} of {} runs, of {} faults:\n{}",
        found.len(),
        faults.len(),
        all.len(),
        found.join("\n")
    );
    // What a run does differs a little from the next, and a call may not come to its number.
    assert!(failed.into_inner() * 2 > faults.len(), "few of the calls that are meant to fail are made");
}
