//! A state directory whose file system hangs: the end is not held up, and the report is sent all the same.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::exec::{Node, Running, no_core, value};
use crate::pid1::NAMESPACE;
use crate::process::Process;
use crate::sink::{Sink, answer};
use crate::support::{DEADLINE, TempDir, succeed};
use crate::victim::{
    Around, Victim, assert_event, core_before_death, end_without, events, evidence_below, send, sent_by_next_run,
};

/// linux/fs.h: `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)`.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// How a disk hangs. PID 1 may learn that of an ext4 by the times of reading, where it keeps them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hang {
    /// ext4, frozen by fsfreeze(8): reading goes on.
    Frozen { times: &'static str },
    /// A FUSE file system whose server is stopped: nothing goes on, closing a file neither.
    Unanswered,
}

const HANGS: [Hang; 3] = [Hang::Frozen { times: "relatime" }, Hang::Frozen { times: "noatime" }, Hang::Unanswered];

/// A file system of its own that can be made to hang.
struct Disk {
    folder: PathBuf,
    /// Has the disk answer again and unmounts when this process lets go of its standard input, whatever becomes of the test,
    /// which may be interrupted: a hanging file system would keep its processes for ever.
    keeper: Child,
    /// The server of a FUSE file system.
    server: Option<u32>,
    // Dropped last.
    _dir: TempDir,
}

impl Disk {
    /// None where this machine has no such file systems.
    #[allow(clippy::print_stderr, reason = "a test that is left out says so")]
    fn new(hang: Hang) -> Option<Self> {
        let dir = TempDir::new();
        let (inside, folder) = (dir.join("inside"), dir.join("disk"));
        std::fs::create_dir(&folder).unwrap();
        let mut mount = match hang {
            Hang::Frozen { times } => {
                File::create(&inside).unwrap().set_len(32 << 20).unwrap();
                succeed(Command::new("mkfs.ext4").arg("-q").arg(&inside));
                let mut mount = Command::new("mount");
                mount.args(["-o", &format!("loop,{times}")]);
                mount
            }
            Hang::Unanswered => {
                std::fs::create_dir(&inside).unwrap();
                Command::new("bindfs")
            }
        };
        let mounted = mount.arg(&inside).arg(&folder).output().unwrap();
        if !mounted.status.success() {
            eprintln!("skipped: {hang:?}: {}", String::from_utf8_lossy(&mounted.stderr));
            return None;
        }
        let server = (hang == Hang::Unanswered).then(|| server_of(&folder));
        let thaw = match server {
            Some(pid) => format!("kill -CONT {pid}"),
            None => "fsfreeze --unfreeze \"$1\"".to_owned(),
        };
        let end = format!("read -r line; {thaw}; umount \"$1\" || umount --lazy \"$1\"");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", &end, "sh"]).arg(&folder).current_dir("/").process_group(0).stdin(Stdio::piped());
        let keeper = keeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let state = folder.join("state");
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(state).unwrap();
        Some(Self { folder, keeper, server, _dir: dir })
    }

    fn state(&self) -> String {
        self.folder.join("state").to_str().unwrap().to_owned()
    }

    /// 0 or the error.
    fn control(&self, request: libc::c_ulong) -> i32 {
        let folder = File::open(&self.folder).unwrap();
        // SAFETY: a system call that reads an int nobody uses.
        let answer = unsafe { libc::ioctl(folder.as_raw_fd(), request, 0) };
        if answer == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap() }
    }

    fn freeze(&self) {
        let Some(server) = self.server else {
            assert_eq!(self.control(FIFREEZE), 0, "the disk cannot be frozen");
            return;
        };
        send(server, libc::SIGSTOP);
        while !is_stopped(server) {
            std::thread::yield_now();
        }
    }

    /// It has been frozen all the time, and is no more.
    fn thaw(&self) {
        let Some(server) = self.server else {
            assert_eq!(self.control(FIFREEZE), libc::EBUSY, "the scenario did not happen");
            assert_eq!(self.control(FITHAW), 0);
            return;
        };
        assert!(is_stopped(server), "the scenario did not happen");
        send(server, libc::SIGCONT);
    }
}

/// Who serves the FUSE file system that is mounted there.
fn server_of(folder: &Path) -> u32 {
    let is_it = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.starts_with(b"bindfs\0") && words.ends_with(&[folder.as_os_str().as_bytes(), b"\0"].concat())
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_it).expect("bindfs serves it")
}

/// All of its threads.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    threads.into_iter().all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.contains("\nState:\tT")
    })
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A sink, and a message for each report that arrives there.
fn announcing() -> (Sink, Receiver<()>) {
    let (sender, arrived) = channel();
    let sink = Sink::answering(move |_| {
        let _ = sender.send(());
        Some(answer(200, "", "{}"))
    });
    (sink, arrived)
}

/// A victim with its state on this disk.
fn victim_on(disk: &Disk, scenario: &str, sink: &Sink, dir: &TempDir, around: &Around) -> Victim {
    let (dsn, state) = (sink.dsn(), disk.state());
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", state.as_str())];
    let victim = Victim::start(scenario, Some(&library), dir.path(), around);
    assert_eq!(victim.installed, "installed 0");
    assert!(victim.monitor.is_some(), "no monitor was started");
    victim
}

/// Runs a scenario and freezes the disk before it ends. It has ended, and was reported where it is to be, on the frozen
/// disk.
fn ended_while_frozen(scenario: &str, signal: Option<i32>, status: i32, report: Option<(&str, &str, &str)>) {
    for hang in HANGS {
        if let Some(disk) = Disk::new(hang) {
            ended_while_it_hangs(&disk, scenario, signal, status, report);
        }
    }
}

fn ended_while_it_hangs(
    disk: &Disk,
    scenario: &str,
    signal: Option<i32>,
    status: i32,
    report: Option<(&str, &str, &str)>,
) {
    let (dir, (sink, arrived)) = (TempDir::new(), announcing());
    let mut victim = victim_on(disk, scenario, &sink, &dir, &Around::default());
    let host = Process::open(victim.pid);
    disk.freeze();
    victim.go();
    if let Some(signal) = signal {
        send(victim.pid, signal);
    }
    host.wait();
    if report.is_some() {
        arrived.recv_timeout(DEADLINE).expect("no report came while the disk hung");
    }
    disk.thaw();
    assert_eq!(victim.end().0, status, "{scenario}");
    let reports = events(&sink);
    assert_eq!(reports.len(), usize::from(report.is_some()), "{scenario}: {reports:?}");
    if let Some((kind, value, class)) = report {
        assert_event(&reports[0], kind, value, class, "false");
    }
    assert_eq!(evidence_below(Path::new(&disk.state())), Vec::<String>::new(), "{scenario}: something was left");
}

#[test]
fn a_fault_ends_the_host_and_is_reported() {
    let status = end_without("segv", &Around::default()).0;
    assert_eq!(status, libc::SIGSEGV);
    let value = "victim killed by SIGSEGV (address not mapped)";
    ended_while_frozen("segv", None, status, Some(("SIGSEGV", value, "address not mapped")));
}

#[test]
fn a_kill_ends_the_host_and_is_reported() {
    let report = ("SIGKILL", "victim killed by SIGKILL", "killed");
    ended_while_frozen("wait", Some(libc::SIGKILL), libc::SIGKILL, Some(report));
}

#[test]
fn an_exit_code_ends_the_host_and_is_reported() {
    let status = end_without("exit_3", &Around::default()).0;
    assert_eq!(status, 3 << 8);
    ended_while_frozen("exit_3", None, status, Some(("ExitCode", "victim exited with code 3", "exited")));
}

#[test]
fn close_returns() {
    ended_while_frozen("close_within_500", None, 0, None);
}

#[test]
fn clean_ends_without_close_are_not_held_up() {
    ended_while_frozen("_exit_0", None, 0, None);
    ended_while_frozen("exit_0", None, 0, None);
    ended_while_frozen("wait", Some(libc::SIGTERM), libc::SIGTERM, None);
}

#[test]
fn a_fault_of_a_pid_1_ends_it_and_is_reported() {
    for hang in HANGS {
        let Some(disk) = Disk::new(hang) else { continue };
        let (dir, (sink, arrived)) = (TempDir::new(), announcing());
        let around = Around::launched_by(&NAMESPACE);
        let without = end_without("segv", &around);
        assert_eq!(without.0, libc::SIGSEGV);
        let mut victim = victim_on(&disk, "segv", &sink, &dir, &around);
        let launcher = Process::open(victim.child.id());
        disk.freeze();
        victim.go();
        arrived.recv_timeout(DEADLINE).expect("no report came while the disk hung");
        launcher.wait();
        disk.thaw();
        assert_eq!(victim.end(), without);
        // What was sent and could not be removed has the same id, by which servers take it for one.
        let mut reports = events(&sink);
        reports.extend(sent_by_next_run(&disk.state()));
        let ids: HashSet<_> = reports.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 1, "{reports:?}");
        let value = "victim killed by SIGSEGV (address not mapped)";
        assert_event(&reports[0], "SIGSEGV", value, "address not mapped", core_before_death());
    }
}

#[test]
fn a_fault_without_a_monitor_ends_the_host_and_is_kept() {
    for hang in HANGS {
        if let Some(disk) = Disk::new(hang) {
            kept_without_a_monitor(&disk);
        }
    }
}

fn kept_without_a_monitor(disk: &Disk) {
    let (dir, (sink, _)) = (TempDir::new(), announcing());
    let mut victim = victim_on(disk, "segv", &sink, &dir, &Around::default());
    let host = Process::open(victim.pid);
    send(victim.monitor.as_ref().unwrap().pid, libc::SIGKILL);
    victim.monitor.as_ref().unwrap().wait();
    disk.freeze();
    victim.go();
    host.wait();
    // Who writes in the host's place waits for the disk.
    let writers = processes_in(dir.path());
    disk.thaw();
    assert_eq!(victim.child.wait().unwrap().into_raw(), libc::SIGSEGV);
    writers.iter().for_each(Process::wait);
    assert_eq!(sink.bodies(), Vec::<String>::new());
    let reports = sent_by_next_run(&disk.state());
    assert_eq!(reports.len(), 1, "{reports:?}");
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&reports[0], "SIGSEGV", value, "address not mapped", core_before_death());
}

/// The living processes whose current folder this is.
fn processes_in(folder: &Path) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (std::fs::read_link(format!("/proc/{pid}/cwd")).ok()? == folder).then_some(pid)
    });
    pids.filter_map(Process::find).collect()
}

#[test]
fn what_else_writes_returns_and_is_kept() {
    for hang in HANGS {
        if let Some(disk) = Disk::new(hang) {
            returns_and_is_kept(&disk);
        }
    }
}

fn returns_and_is_kept(disk: &Disk) {
    let (dir, (sink, _)) = (TempDir::new(), announcing());
    let mut victim = victim_on(disk, "switch_and_report_exit", &sink, &dir, &Around::default());
    disk.freeze();
    victim.go();
    let mut fds = [PollFd::new(victim.output.get_ref().as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::try_from(DEADLINE).unwrap()).unwrap();
    assert_eq!(ready, 1, "the calls did not return");
    disk.thaw();
    let mut line = String::new();
    victim.output.read_line(&mut line).unwrap();
    // The schedule was not started: nobody promises to deliver it.
    assert!(line.starts_with("switched 0 reported 11 "), "{line}");
    victim.go();
    assert_eq!(victim.end(), (0, "flushed 0".to_owned()));
    let mut reports = events(&sink);
    reports.extend(sent_by_next_run(&disk.state()));
    let values: Vec<_> = reports.iter().map(value).collect();
    assert_eq!(values, ["child exited with code 3"]);
}

/// The supervisor as PID 1 or not: its program dies on the frozen disk, and so does it, with a report.
fn supervised(launcher: &[&str], hang: Hang, code: Option<i32>) {
    let Some(disk) = Disk::new(hang) else { return };
    let (sink, arrived) = announcing();
    let node = Node { state: disk.state(), ..Node::new(sink.dsn()) };
    let mut command = node.exec(launcher, &[], &["sh", "-c", "echo ready; read -r line; kill -SEGV $$"]);
    no_core(&mut command);
    let mut running = Running::start(command);
    assert_eq!(running.line(), "ready");
    let supervisor = Process::open(running.child.id());
    disk.freeze();
    drop(running.child.stdin.take());
    arrived.recv_timeout(DEADLINE).expect("no report came while the disk hung");
    supervisor.wait();
    disk.thaw();
    assert_eq!(running.child.wait().unwrap().code(), code);
    let reported: Vec<_> = events(&sink).iter().map(|event| value(event).to_owned()).collect();
    assert_eq!(reported, ["sh killed by SIGSEGV"]);
}

#[test]
fn the_supervisor_ends_with_its_program() {
    HANGS.into_iter().for_each(|hang| supervised(&[], hang, None));
}

#[test]
fn the_supervisor_as_pid_1_ends_with_its_program() {
    HANGS.into_iter().for_each(|hang| supervised(&NAMESPACE, hang, Some(139)));
}
