//! The cause that is reported is this death's own.

use crate::cgroup::Cgroup;
use crate::victim::{Around, assert_event, killed, run_in};

#[test]
fn a_slow_handler_of_the_host_keeps_its_cause() {
    killed("slow_handler", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn a_signal_that_was_survived_is_not_the_cause_of_a_later_death() {
    for (scenario, signal, kind, class) in [
        ("survive_and_kill", libc::SIGKILL, "SIGKILL", None),
        ("survive_and_abort", libc::SIGABRT, "SIGABRT", Some("sent by a process")),
    ] {
        let outcome = run_in(scenario, &Around::default());
        assert_eq!(outcome.without, (signal, format!("survived {}", libc::SIGSEGV)), "the scenario did not happen");
        assert_eq!(outcome.with, outcome.without);
        assert_eq!(outcome.reports.len(), 1, "{:?}", outcome.reports);
        let value =
            class.map_or(format!("victim killed by {kind}"), |class| format!("victim killed by {kind} ({class})"));
        assert_event(&outcome.reports[0], kind, &value, class.unwrap_or("killed"), "false");
    }
}

#[test]
fn a_child_killed_for_the_memory_limit_is_not_the_hosts_cause() {
    let version_1 = std::path::Path::new("/sys/fs/cgroup/memory").exists();
    let limit = if version_1 { "memory.limit_in_bytes" } else { "memory.max" };
    let group = Cgroup::with(limit);
    group.write(limit, "64M");
    let outcome = run_in("child_at_the_limit", &group.around());
    // Killed, and nobody but the kernel did it.
    assert_eq!(outcome.without, (libc::SIGKILL, "child 9".to_owned()), "the scenario did not happen");
    assert_eq!(outcome.with, outcome.without);
    assert_eq!(outcome.reports.len(), 1, "{:?}", outcome.reports);
    assert_event(&outcome.reports[0], "SIGKILL", "victim killed by SIGKILL", "killed", "false");
}
