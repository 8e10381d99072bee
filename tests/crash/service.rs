//! Hosts under a service manager: what is done to all processes of a control group at once.

use std::io::BufRead;
use std::path::Path;

use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::process::Process;
use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{Victim, assert_event, events, files_below, send, sent_by_next_run, state_variable};

/// A victim in a cgroup with its monitor.
struct Service {
    group: Cgroup,
    dir: TempDir,
    sink: Sink,
    state: String,
}

impl Service {
    fn new() -> Self {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let (_, state) = state_variable(&dir);
        Self { group: Cgroup::with("cgroup.kill"), dir, sink, state }
    }

    fn start(&self, scenario: &str) -> Victim {
        let dsn = self.sink.dsn();
        let library =
            [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", self.state.as_str())];
        let mut victim = Victim::start(scenario, Some(&library), self.dir.path(), &self.group.around());
        let monitor = victim.monitor.as_ref().expect("no monitor was started").pid;
        let mut processes = self.group.processes();
        processes.sort_unstable();
        let mut expected = [victim.pid, monitor];
        expected.sort_unstable();
        assert_eq!(processes, expected, "the monitor is not in the host's cgroup");
        victim.go();
        victim
    }

    /// To every process of the group, the monitor first.
    fn signal(&self, victim: &Victim, signal: i32) {
        victim.monitor.as_ref().unwrap().signal(signal);
        send(victim.pid, signal);
    }
}

#[test]
fn a_stop_of_the_whole_group_is_no_report_and_leaves_no_monitor() {
    let service = Service::new();
    let victim = service.start("wait");
    service.signal(&victim, libc::SIGTERM);
    assert_eq!(victim.end().0, libc::SIGTERM);
    assert_eq!(service.group.processes(), Vec::<u32>::new());
    assert_eq!(service.sink.bodies(), Vec::<String>::new());
    assert_eq!(sent_by_next_run(&service.state), Vec::<Value>::new());
}

#[test]
fn a_host_that_crashes_while_the_group_is_stopped_is_reported() {
    let service = Service::new();
    let mut victim = service.start("crash_when_stopped");
    let mut line = String::new();
    victim.output.read_line(&mut line).unwrap();
    assert_eq!(line, "running\n");
    service.signal(&victim, libc::SIGTERM);
    assert_eq!(victim.end().0, libc::SIGSEGV);
    let reports = events(&service.sink);
    assert_eq!(reports.len(), 1);
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&reports[0], "SIGSEGV", value, "address not mapped", "false");
    assert_eq!(service.group.processes(), Vec::<u32>::new());
}

/// Host and monitor die together, of which nothing tells: an operator may have wanted that.
fn killed_together(kill: impl Fn(&Service, &Victim)) {
    let service = Service::new();
    let victim = service.start("wait");
    kill(&service, &victim);
    assert_eq!(victim.end().0, libc::SIGKILL);
    assert_eq!(service.sink.bodies(), Vec::<String>::new());
    assert_eq!(files_below(Path::new(&service.state)).len(), 1, "the run marker");
    assert_eq!(sent_by_next_run(&service.state), Vec::<Value>::new());
}

#[test]
fn a_kill_of_the_whole_group_is_no_evidence_of_a_crash() {
    killed_together(|service, _| service.group.write("cgroup.kill", "1"));
}

#[test]
fn a_kill_of_host_and_monitor_is_no_evidence_of_a_crash() {
    killed_together(|service, victim| service.signal(victim, libc::SIGKILL));
}

#[test]
fn a_cleanup_that_kills_what_the_host_left_loses_nothing() {
    // The main process is dead, its monitor is killed as a leftover before it could look.
    let service = Service::new();
    let victim = service.start("wait");
    let monitor = victim.monitor.as_ref().unwrap();
    monitor.signal(libc::SIGSTOP);
    send(victim.pid, libc::SIGSEGV);
    Process::open(victim.pid).wait();
    service.group.write("cgroup.kill", "1");
    assert_eq!(victim.end().0, libc::SIGSEGV);
    assert_eq!(sent_by_next_run(&service.state).len(), 1);
}
