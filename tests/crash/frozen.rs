//! A state directory whose file system hangs: the end is not held up, and the report is sent all the same.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd};
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

/// Ways to keep the times of reading: PID 1 may learn by them that its disk hangs.
const TIMES: [&str; 2] = ["relatime", "noatime"];

/// An ext4 file system of its own that can be frozen.
struct Disk {
    folder: PathBuf,
    /// Thaws and unmounts when this process lets go of its standard input, whatever becomes of the test, which may
    /// be interrupted: a frozen file system would keep its processes for ever.
    keeper: Child,
    // Dropped last.
    _dir: TempDir,
}

impl Disk {
    /// None where there is no loop device.
    fn new() -> Option<Self> {
        Self::mounted("relatime")
    }

    /// With this way to keep the times of reading.
    #[allow(clippy::print_stderr, reason = "a test that is left out says so")]
    fn mounted(times: &str) -> Option<Self> {
        let dir = TempDir::new();
        let (image, folder) = (dir.join("image"), dir.join("disk"));
        std::fs::create_dir(&folder).unwrap();
        File::create(&image).unwrap().set_len(32 << 20).unwrap();
        succeed(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let mounted =
            Command::new("mount").args(["-o", &format!("loop,{times}")]).arg(&image).arg(&folder).output().unwrap();
        if !mounted.status.success() {
            eprintln!("skipped: no loop device: {}", String::from_utf8_lossy(&mounted.stderr));
            return None;
        }
        let end = "read -r line; fsfreeze --unfreeze \"$1\"; umount \"$1\" || umount --lazy \"$1\"";
        let mut keeper = Command::new("sh");
        keeper.args(["-c", end, "sh"]).arg(&folder).current_dir("/").process_group(0).stdin(Stdio::piped());
        let keeper = keeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let state = folder.join("state");
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(state).unwrap();
        Some(Self { folder, keeper, _dir: dir })
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
        assert_eq!(self.control(FIFREEZE), 0, "the disk cannot be frozen");
    }

    /// It has been frozen all the time, and is no more.
    fn thaw(&self) {
        assert_eq!(self.control(FIFREEZE), libc::EBUSY, "the scenario did not happen");
        assert_eq!(self.control(FITHAW), 0);
    }
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
    let Some(disk) = Disk::new() else { return };
    let (dir, (sink, arrived)) = (TempDir::new(), announcing());
    let mut victim = victim_on(&disk, scenario, &sink, &dir, &Around::default());
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
    for times in TIMES {
        let Some(disk) = Disk::mounted(times) else { return };
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
    let Some(disk) = Disk::new() else { return };
    let (dir, (sink, _)) = (TempDir::new(), announcing());
    let mut victim = victim_on(&disk, "segv", &sink, &dir, &Around::default());
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
    let Some(disk) = Disk::new() else { return };
    let (dir, (sink, _)) = (TempDir::new(), announcing());
    let mut victim = victim_on(&disk, "switch_and_report_exit", &sink, &dir, &Around::default());
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
fn supervised(launcher: &[&str], times: &str, code: Option<i32>) {
    let Some(disk) = Disk::mounted(times) else { return };
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
    TIMES.iter().for_each(|times| supervised(&[], times, None));
}

#[test]
fn the_supervisor_as_pid_1_ends_with_its_program() {
    TIMES.iter().for_each(|times| supervised(&NAMESPACE, times, Some(139)));
}
