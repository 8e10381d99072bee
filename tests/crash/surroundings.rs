//! What a host has around itself: the monitor is no burden to it, and nothing there stops the monitor.

use std::io::{self, BufRead};
use std::path::Path;

use serde_json::Value;

use crate::mounts::Mounts;
use crate::pid1::NAMESPACE;
use crate::process::Process;
use crate::sink::Sink;
use crate::support::TempDir;
use crate::victim::{
    Around, Outcome, Victim, assert_event, core_before_death, end_with, end_without, ended_by, events, evidence_below,
    monitor_of, monitors_of, run_in, send, sent_by_next_run, state_variable,
};

fn assert_one_segv(reports: &[Value], core_dump: &str) {
    assert_eq!(reports.len(), 1, "{reports:?}");
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&reports[0], "SIGSEGV", value, "address not mapped", core_dump);
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn no_signal_ends_the_monitor() {
    // Those that nothing can be done about, and those that stop.
    let not_sent = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCONT, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let real_time = [libc::SIGRTMIN(), libc::SIGRTMIN() + 1, 50, libc::SIGRTMAX()];
    for signal in (1..=31).filter(|signal| !not_sent.contains(signal)).chain(real_time) {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        let act = |victim: &Victim| {
            let monitor = victim.monitor.as_ref().unwrap();
            send(monitor.pid, signal);
            assert!(!monitor.has_ended(), "signal {signal} ended the monitor");
            send(victim.pid, libc::SIGSEGV);
        };
        let (status, reports) = ended_by(act, &sink, &dir, &[]);
        assert_eq!((status, reports.len()), (libc::SIGSEGV, 1), "signal {signal}");
        let value = "victim killed by SIGSEGV (sent by a process)";
        assert_event(&reports[0], "SIGSEGV", value, "sent by a process", "false");
    }
}

/// A crash where the victim sees this around itself.
fn reported_in(around: &Around, seen: &str) {
    let outcome = run_in("look_and_segv", around);
    assert_eq!(outcome.without, (libc::SIGSEGV, seen.to_owned()), "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_one_segv(&outcome.reports, "false");
}

#[test]
fn a_host_whose_files_nobody_may_read() {
    let around = Around::confined(|| {
        // SAFETY: a system call on a number.
        unsafe { libc::umask(0o777) };
        Ok(())
    });
    reported_in(&around, "umask 777 fsize -1 policy 0 null 0");
}

#[test]
fn a_host_that_may_write_no_file() {
    let around = Around::confined(|| {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a system call with a local.
        check(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const none) })
    });
    reported_in(&around, "umask 22 fsize 0 policy 0 null 0");
}

#[test]
fn a_host_without_devices() {
    reported_in(&Mounts::default().tmpfs("/dev", 0, "").around(), "umask 22 fsize -1 policy 0 null -1");
}

/// Scheduling policy, processors and nice value of a process.
fn scheduling(pid: u32) -> (i32, i32, i32) {
    let number = i32::try_from(pid).unwrap();
    // SAFETY: system calls on numbers and a local.
    unsafe {
        let mut processors = std::mem::zeroed::<libc::cpu_set_t>();
        assert_eq!(libc::sched_getaffinity(number, size_of::<libc::cpu_set_t>(), &raw mut processors), 0);
        let policy = libc::sched_getscheduler(number);
        (policy, libc::CPU_COUNT(&processors), libc::getpriority(libc::PRIO_PROCESS, pid))
    }
}

#[test]
fn a_host_of_real_time_on_one_processor() {
    let around = Around::confined(|| {
        // SAFETY: system calls on numbers and locals.
        unsafe {
            let mut processors = std::mem::zeroed::<libc::cpu_set_t>();
            check(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut processors))?;
            let first = (0..1024).find(|number| libc::CPU_ISSET(*number, &processors)).unwrap_or(0);
            libc::CPU_ZERO(&mut processors);
            libc::CPU_SET(first, &mut processors);
            check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const processors))?;
            check(libc::setpriority(libc::PRIO_PROCESS, 0, -10))?;
            let parameter = libc::sched_param { sched_priority: 10 };
            check(libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter))
        }
    });
    let without = end_without("look_and_segv", &around);
    assert_eq!(without.0, libc::SIGSEGV);
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    let mut victim = Victim::start("look_and_segv", Some(&library), dir.path(), &around);
    assert_eq!(victim.installed, "installed 0");
    assert_eq!(scheduling(victim.pid), (libc::SCHED_FIFO, 1, -10), "the scenario did not happen");
    let (_, all, nice) = scheduling(std::process::id());
    assert!(all > 1, "one processor is all there is: nothing is shown");
    assert_eq!(scheduling(victim.monitor.as_ref().unwrap().pid), (libc::SCHED_OTHER, all, nice.max(0)));
    victim.go();
    assert_eq!(victim.end(), without);
    assert_one_segv(&events(&sink), "false");
}

#[test]
fn a_host_whose_standard_descriptors_are_closed() {
    // The scenario installs by itself, in between.
    let without = end_without("closed_stdio", &Around::default());
    assert_eq!(without.1, "open below 3: 0");
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let environment = vec![("ONDAT_TELEMETRY_SENTRY_DSN".to_owned(), sink.dsn())];
    let around = Around { environment, ..Around::default() };
    let mut victim = Victim::start("closed_stdio", None, dir.path(), &around);
    victim.go();
    let mut line = String::new();
    victim.output.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), without.1, "the library took a standard descriptor");
    victim.monitor = monitor_of(victim.pid);
    let monitor = victim.monitor.as_ref().expect("no monitor was started").pid;
    for number in 0..3 {
        let target = std::fs::read_link(format!("/proc/{monitor}/fd/{number}")).unwrap();
        assert_eq!(target, Path::new("/dev/null"), "descriptor {number} of the monitor");
    }
    victim.go();
    assert_eq!(victim.end().0, libc::SIGSEGV);
    // Nothing that the host printed is in it.
    assert_one_segv(&events(&sink), "false");
}

/// A host that waits until it has no child left, while its monitor watches it.
fn waits_for_all(scenario: &str, around: &Around, core_dump: &str) {
    let seen = format!("reaped 3 errno {}", libc::ECHILD);
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    let mut ends = Vec::new();
    for library in [None, Some(&library[..])] {
        let mut victim = Victim::start(scenario, library, dir.path(), around);
        assert_eq!(victim.monitor.is_some(), library.is_some());
        victim.go();
        let mut line = String::new();
        victim.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), seen, "{scenario}");
        assert!(victim.monitor.as_ref().is_none_or(|monitor| !monitor.has_ended()), "the monitor has gone");
        victim.go();
        ends.push(victim.end());
    }
    assert_eq!(ends[0].0, libc::SIGSEGV);
    assert_eq!(ends[0], ends[1]);
    assert_one_segv(&events(&sink), core_dump);
}

#[test]
fn a_subreaper_that_waits_for_all_its_children() {
    waits_for_all("wait_for_all_as_subreaper", &Around::default(), "false");
}

#[test]
fn a_pid_1_that_waits_for_all_its_children() {
    waits_for_all("wait_for_all", &Around::launched_by(&NAMESPACE), core_before_death());
}

#[test]
fn a_host_whose_children_are_in_another_pid_namespace() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let without = end_without("fork_in_new_pid_namespace", &Around::default());
    assert_eq!(without, (0, "fork 1 status 500".to_owned()), "the scenario did not happen");
    let (installed, end) = end_with("fork_in_new_pid_namespace", &library, &Around::default());
    assert!(installed.starts_with("installed 12 "), "{installed}");
    assert_eq!(end, without, "the first process of the namespace is the host's");
    assert_eq!(sink.bodies(), Vec::<String>::new());
    assert_eq!(sent_by_next_run(&state), Vec::<Value>::new());
}

/// A host that becomes itself anew where addresses are not randomised, beside a child that holds what exec closes.
fn anew_beside_a_child(next: &str) -> Outcome {
    /// `ADDR_NO_RANDOMIZE`, personality(2).
    const NOT_RANDOM: u32 = 0x0004_0000;
    let mut around = Around::launched_by(&["setarch", "-R"]);
    around.environment = vec![("VICTIM_NEXT".to_owned(), next.to_owned())];
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let mut victim = Victim::start("start_anew_beside_a_child", Some(&library), dir.path(), &around);
    let personality = std::fs::read_to_string(format!("/proc/{}/personality", victim.pid)).unwrap();
    let personality = u32::from_str_radix(personality.trim(), 16).unwrap();
    assert_eq!(personality & NOT_RANDOM, NOT_RANDOM, "the scenario did not happen");
    let old = victim.monitor.take().expect("no monitor was started");
    victim.go();
    let mut line = String::new();
    if next == "with" {
        victim.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), "installed 0");
    }
    line.clear();
    victim.output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // The new image waits, and the child holds the socket.
    let pid = victim.pid;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "no child is left: {children}");
    old.wait();
    assert_eq!(sink.bodies(), Vec::<String>::new(), "the old image did not crash");
    victim.monitor = monitors_of(pid).pop();
    assert_eq!(victim.monitor.is_some(), next == "with");
    victim.go();
    let with = victim.end();
    assert_eq!(evidence_below(Path::new(&state)), Vec::<String>::new(), "something was left in the state directory");
    Outcome { without: (libc::SIGSEGV, String::new()), with, reports: events(&sink) }
}

#[test]
fn a_new_image_that_installs_is_reported_and_not_the_old_one() {
    let outcome = anew_beside_a_child("with");
    assert_eq!(outcome.with.0, outcome.without.0);
    assert_one_segv(&outcome.reports, "false");
}

#[test]
fn a_new_image_without_the_library_is_nobodys_business() {
    let outcome = anew_beside_a_child("without");
    assert_eq!(outcome.with.0, outcome.without.0);
    assert_eq!(outcome.reports, Vec::<Value>::new());
}

/// A process that is ended with the test.
struct Worker(Process);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.signal(libc::SIGKILL);
    }
}

#[test]
fn a_worker_that_outlives_its_parent_does_not_hide_its_crash() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (name, state) = state_variable(&dir);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let mut victim = Victim::start("prefork", Some(&library), dir.path(), &Around::default());
    assert_eq!(victim.installed, "installed 0");
    victim.go();
    let mut line = String::new();
    victim.output.read_line(&mut line).unwrap();
    let worker = line.trim_end().strip_prefix("worker ").unwrap().parse().unwrap();
    let worker = Worker(Process::open(worker));
    let monitor = victim.monitor.as_ref().expect("no monitor was started");
    send(monitor.pid, libc::SIGKILL);
    monitor.wait();
    victim.go();
    assert_eq!(victim.end().0, libc::SIGSEGV);
    assert_eq!(sink.bodies(), Vec::<String>::new());
    assert_one_segv(&sent_by_next_run(&state), core_before_death());
    assert!(!worker.0.has_ended(), "the scenario did not happen");
    assert_eq!(sent_by_next_run(&state), Vec::<Value>::new());
}
