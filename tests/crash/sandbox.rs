//! Hosts that may not do everything: system calls, /proc, file systems, capabilities, core dumps.

use std::io;

use serde_json::Value;

use crate::mounts::Mounts;
use crate::process::Process;
use crate::sink::Sink;
use crate::support::{TempDir, built};
use crate::victim::{Around, Outcome, Victim, assert_event, end_without, events, killed_in, run_in};

fn step(bits: u32, if_true: u8, if_false: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(bits).unwrap_or(0), jt: if_true, jf: if_false, k: value }
}

/// Loads a word of struct seccomp_data, seccomp(2).
fn load(offset: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// Goes on with the next step where the loaded word is this one, else passes over as many.
fn unless_equal(word: u32, passed_over: u8) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, passed_over, word)
}

fn answer(action: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, action)
}

fn refusal(errno: i32) -> libc::sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap_or(0))
}

/// Everything below is subject to this filter.
fn filtered(steps: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: u16::try_from(steps.len()).unwrap_or(0), filter: steps.as_mut_ptr() };
    // SAFETY: system calls; the program lives until they have returned.
    let answers = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    if answers == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Everything below may do all but one system call, which is answered with this error: BPF, seccomp(2).
fn without_call(number: libc::c_long, errno: i32) -> io::Result<()> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    // The number is the first field of struct seccomp_data.
    filtered(&mut [load(0), unless_equal(number, 1), refusal(errno), answer(libc::SECCOMP_RET_ALLOW)])
}

/// Nobody below is told by a pidfd how a process ended, as on kernels before Linux 6.15: those answer ENOTTY to
/// `PIDFD_GET_INFO`, whatever the size in its number.
pub(crate) fn without_pidfd_info() -> io::Result<()> {
    let number = u32::try_from(libc::SYS_ioctl).unwrap_or(u32::MAX);
    filtered(&mut [
        load(0),
        unless_equal(number, 4),
        // The second argument's lower half, where the machine is of little endian.
        load(24),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0xffff),
        unless_equal(0xff0b, 1),
        refusal(libc::ENOTTY),
        answer(libc::SECCOMP_RET_ALLOW),
    ])
}

/// The process whose program is this file.
fn process_of(program: &std::path::Path) -> Option<Process> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (std::fs::read_link(format!("/proc/{pid}/exe")).ok()? == program).then(|| Process::find(pid)).flatten()
    })
}

/// A crash without this system call: the same end, one report.
fn denied(number: libc::c_long) {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let (dir, sink) = (TempDir::new(), Sink::start(200));
        // A monitor that is found although it may have no descriptor of its host.
        let monitor = dir.join("monitor");
        std::fs::copy(built("ondat-telemetry-monitor"), &monitor).unwrap();
        let dsn = sink.dsn();
        let library =
            [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_MONITOR_PATH", monitor.to_str().unwrap())];
        let mut around = Around::confined(move || without_call(number, errno));
        around.environment = vec![("VICTIM_CALL".to_owned(), number.to_string())];
        let without = end_without("denied", &around);
        assert_eq!(without.1, format!("answer -1 errno {errno}"), "the scenario did not happen");
        assert_eq!(without.0, libc::SIGSEGV);

        let mut victim = Victim::start("denied", Some(&library), dir.path(), &around);
        assert_eq!(victim.installed, "installed 0");
        victim.monitor = process_of(&monitor);
        assert!(victim.monitor.is_some(), "no monitor was started");
        victim.go();
        assert_eq!(victim.end(), without);
        assert_one_segv(&events(&sink));
    }
}

fn assert_one_segv(reports: &[Value]) {
    assert_eq!(reports.len(), 1, "{reports:?}");
    let value = "victim killed by SIGSEGV (address not mapped)";
    // Reaped before a monitor without a pidfd has looked, it leaves no word on its core.
    let core_dump = reports[0]["tags"]["core_dump"].as_str().unwrap();
    assert!(matches!(core_dump, "false" | "unknown"), "{core_dump}");
    assert_event(&reports[0], "SIGSEGV", value, "address not mapped", core_dump);
}

#[test]
fn without_pidfd_open() {
    denied(libc::SYS_pidfd_open);
}

#[test]
fn without_clone3() {
    denied(libc::SYS_clone3);
}

#[test]
fn without_memfd_create() {
    denied(libc::SYS_memfd_create);
}

#[test]
fn without_close_range() {
    denied(libc::SYS_close_range);
}

#[test]
fn without_ptrace() {
    denied(libc::SYS_ptrace);
}

#[test]
fn without_pidfd_send_signal() {
    denied(libc::SYS_pidfd_send_signal);
}

/// The end and the report of `read_only` in these surroundings, without a state directory.
fn seen_in(around: &Around, seen: &str) {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let without = end_without("read_only", around);
    assert_eq!(without, (libc::SIGSEGV, seen.to_owned()), "the scenario did not happen");
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str())];
    let mut victim = Victim::start("read_only", Some(&library), dir.path(), around);
    assert_eq!(victim.installed, "installed 0");
    assert!(victim.monitor.is_some(), "no monitor was started");
    victim.go();
    assert_eq!(victim.end(), without);
    assert_one_segv(&events(&sink));
}

#[test]
fn without_proc() {
    let mounts = Mounts::default().tmpfs("/tmp", 0, "").tmpfs("/dev/shm", 0, "").tmpfs("/proc", 0, "");
    let around = mounts.root(libc::MS_RDONLY).around();
    seen_in(&around, &format!("{} 0 0 {}", libc::EROFS, libc::ENOENT));
}

#[test]
fn on_a_read_only_root_without_tmp_and_shared_memory() {
    let mounts = Mounts::default().tmpfs("/tmp", libc::MS_RDONLY, "").tmpfs("/dev/shm", libc::MS_RDONLY, "");
    let around = mounts.root(libc::MS_RDONLY).around();
    seen_in(&around, &format!("{0} {0} {0} 0", libc::EROFS));
}

fn drop_capability_to_trace() -> io::Result<()> {
    /// linux/capability.h.
    const CAP_SYS_PTRACE: libc::c_int = 19;
    // SAFETY: a system call on numbers.
    let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn without_the_capability_to_trace() {
    let around = Around::confined(drop_capability_to_trace);
    killed_in("segv", &around, libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

/// No core although the limit allows one: the kernel does not dump what has had another user's rights.
fn without_core(scenario: &str) -> Outcome {
    let outcome = run_in(scenario, &Around { core: u64::MAX, ..Around::default() });
    assert_eq!(outcome.without.0, libc::SIGSEGV, "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_one_segv(&outcome.reports);
    outcome
}

#[test]
fn a_host_that_may_not_be_dumped() {
    let outcome = without_core("undumpable");
    assert_eq!(outcome.reports[0]["tags"]["core_dump"], "false");
}

#[test]
fn a_host_that_has_become_another_user() {
    let outcome = without_core("nobody");
    assert_eq!(outcome.reports[0]["tags"]["core_dump"], "false");
}

/// A monitor that may not trace its host is shown zeros for wait status and addresses, proc_pid_stat(5).
#[test]
fn a_host_that_may_not_be_traced() {
    for (scenario, value, class) in [
        ("undumpable", "victim killed by SIGSEGV (address not mapped)", "address not mapped"),
        ("nobody", "victim killed by SIGSEGV (address not mapped)", "address not mapped"),
        // The closed socket is no sign of exec.
        ("nobody_without_files", "victim killed by SIGSEGV (address not mapped)", "address not mapped"),
    ] {
        let outcome = run_in(scenario, &Around::confined(drop_capability_to_trace));
        assert_eq!(outcome.without.0, libc::SIGSEGV, "the scenario did not happen");
        assert_eq!(outcome.with, outcome.without, "{scenario}");
        assert_eq!(outcome.reports.len(), 1, "{scenario}");
        // Before Linux 6.15 there is no other way to the wait status.
        let core_dump = outcome.reports[0]["tags"]["core_dump"].as_str().unwrap();
        assert!(matches!(core_dump, "false" | "unknown"), "{scenario}: {core_dump}");
        assert_event(&outcome.reports[0], "SIGSEGV", value, class, core_dump);
    }
}
