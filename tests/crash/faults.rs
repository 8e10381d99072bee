//! Faults of an instruction, and signals that say the same.

use crate::victim::{killed, run};

#[test]
fn null_dereference() {
    killed("segv", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn null_dereference_in_a_thread() {
    killed("segv_thread", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[test]
fn null_dereference_in_a_thread_with_all_signals_blocked() {
    killed("segv_blocked", libc::SIGSEGV, "SIGSEGV", None);
}

#[test]
fn bus_error() {
    killed("bus", libc::SIGBUS, "SIGBUS", Some("address beyond the object"));
}

#[cfg(target_arch = "x86_64")] // aarch64 divides by zero without a fault
#[test]
fn division_by_zero() {
    killed("fpe", libc::SIGFPE, "SIGFPE", Some("integer division by zero"));
}

#[test]
fn illegal_instruction() {
    killed("ill", libc::SIGILL, "SIGILL", Some("illegal instruction"));
}

#[test]
fn breakpoint() {
    killed("trap", libc::SIGTRAP, "SIGTRAP", Some("trap"));
}

#[test]
fn abort() {
    killed("abort", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn raised_segv() {
    killed("raise_segv", libc::SIGSEGV, "SIGSEGV", Some("sent by a process"));
}

#[test]
fn sent_sigsys() {
    killed("kill_sys", libc::SIGSYS, "SIGSYS", Some("sent by a process"));
}

#[test]
fn raised_xcpu() {
    killed("xcpu", libc::SIGXCPU, "SIGXCPU", Some("sent by a process"));
}

#[test]
fn raised_xfsz() {
    killed("xfsz", libc::SIGXFSZ, "SIGXFSZ", Some("sent by a process"));
}

#[test]
fn jump_to_an_unmapped_address() {
    killed("jump_to_unmapped", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
}

#[cfg(target_arch = "x86_64")] // elsewhere such an address is one that is not mapped
#[test]
fn general_protection() {
    killed("general_protection", libc::SIGSEGV, "SIGSEGV", Some("general protection"));
}

#[test]
fn write_to_a_read_only_page() {
    killed("write_readonly", libc::SIGSEGV, "SIGSEGV", Some("access not permitted"));
}

#[test]
fn jump_to_data() {
    killed("run_data", libc::SIGSEGV, "SIGSEGV", Some("access not permitted"));
}

#[test]
fn memory_error_of_the_hardware() {
    killed("memory_error", libc::SIGBUS, "SIGBUS", Some("memory error"));
}

#[test]
fn seccomp_trap() {
    killed("seccomp_trap", libc::SIGSYS, "SIGSYS", Some("system call not allowed"));
}

#[test]
fn failed_assert_without_its_text() {
    killed("failed_assert", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
    let text = run("failed_assert").reports[0].to_string();
    assert!(!text.contains('/') && !text.contains(".c") && !text.contains("assert"), "{text}");
}

#[test]
fn smashed_stack() {
    killed("smash_stack", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn overflow_that_fortify_sees() {
    killed("fortify", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn instructions_that_fault_in_a_thread_with_all_signals_blocked() {
    // The kernel kills without a handler.
    killed("bus_blocked", libc::SIGBUS, "SIGBUS", None);
    killed("ill_blocked", libc::SIGILL, "SIGILL", None);
    killed("trap_blocked", libc::SIGTRAP, "SIGTRAP", None);
    killed("seccomp_blocked", libc::SIGSYS, "SIGSYS", None);
    #[cfg(target_arch = "x86_64")]
    killed("fpe_blocked", libc::SIGFPE, "SIGFPE", None);
}

#[test]
fn abort_in_a_thread_with_all_signals_blocked() {
    // abort(3) unblocks it.
    killed("abort_blocked", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
}

#[test]
fn signals_to_a_process_of_which_one_thread_has_all_blocked() {
    // Another thread takes them.
    killed("xcpu_blocked", libc::SIGXCPU, "SIGXCPU", Some("sent by a process"));
    killed("xfsz_blocked", libc::SIGXFSZ, "SIGXFSZ", Some("sent by a process"));
}

#[cfg(target_arch = "x86_64")] // in assembler
mod bad_stack_pointer {
    use crate::victim::{assert_event, killed, run};

    #[test]
    fn instructions_that_fault() {
        killed("segv_bad_stack", libc::SIGSEGV, "SIGSEGV", Some("address not mapped"));
        killed("bus_bad_stack", libc::SIGBUS, "SIGBUS", Some("address beyond the object"));
        killed("fpe_bad_stack", libc::SIGFPE, "SIGFPE", Some("integer division by zero"));
        killed("ill_bad_stack", libc::SIGILL, "SIGILL", Some("illegal instruction"));
        killed("trap_bad_stack", libc::SIGTRAP, "SIGTRAP", Some("trap"));
    }

    #[test]
    fn signals() {
        killed("abrt_bad_stack", libc::SIGABRT, "SIGABRT", Some("sent by a process"));
        killed("sys_bad_stack", libc::SIGSYS, "SIGSYS", Some("sent by a process"));
        killed("xcpu_bad_stack", libc::SIGXCPU, "SIGXCPU", Some("sent by a process"));
        killed("xfsz_bad_stack", libc::SIGXFSZ, "SIGXFSZ", Some("sent by a process"));
    }

    #[test]
    fn a_thread_without_an_alternate_stack() {
        killed("segv_bad_stack_thread", libc::SIGSEGV, "SIGSEGV", None);
    }

    #[test]
    fn other_faults_of_such_a_thread_become_sigsegv() {
        // The kernel finds no room for any handler (force_sigsegv): the one difference to a run without the library.
        let outcome = run("fpe_bad_stack_thread");
        assert_eq!((outcome.without.0, outcome.with.0), (libc::SIGFPE, libc::SIGSEGV));
        assert_eq!(outcome.reports.len(), 1);
        assert_event(&outcome.reports[0], "SIGSEGV", "victim killed by SIGSEGV", "killed", "false");
        killed("fpe_bad_stack_thread_init", libc::SIGFPE, "SIGFPE", Some("integer division by zero"));
    }
}
