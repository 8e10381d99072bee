//! Combines all evidence of how a process has ended into one answer, or none: an ending without evidence is not
//! reported.

use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ondat_telemetry_protocol::ending::{CoreDump, Ending};

use super::postmortem::Death;
use crate::crash::cores;
use crate::crash::output::Class;
use crate::crash::record::{Kind, Record};
use crate::crash::witness::Witness;
use crate::sys::clock::unix_now;
use crate::sys::pidfd;
use crate::sys::procfs::Stat;

/// From here on /proc shows the status of the whole process, also where its first thread has ended before the others
/// ("exit: Use the correct exit_code in /proc/<pid>/stat"). Before, 0 may be that thread's, and the core fact is missing
/// where another thread has crashed.
const WHOLE_STATUS: (u32, u32) = (5, 17);

/// What a Go runtime has written, as a record of now.
pub fn said_by_go(class: Class) -> Record {
    Record { code: class as i32, at: unix_now(), ..Record::of(Kind::Output) }
}

/// A dead process, as everybody has seen it.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Whether the kernel shows zeros in place of its status, because this process may not trace it.
    pub is_hidden: bool,
    /// The zombie in /proc.
    pub zombie: Option<Stat>,
    /// The wait status in /proc before its end, and its threads.
    pub leaving: Option<(i32, u32)>,
    /// The wait status from the kernel after the reaping.
    pub told: Option<i32>,
    /// Its own records of what it is not known to have survived, the latest last.
    pub words: Vec<Record>,
    /// The kind of death that its Go runtime has written.
    pub class: Option<Class>,
    /// Whether the kernel has killed for the memory limit just now.
    pub has_met_memory_limit: bool,
    /// The kernel's version.
    pub kernel: (u32, u32),
}

impl Dead {
    /// How it ended; none where nothing tells, or an operator has asked a Go runtime for a dump, which is a stop as SIGQUIT is
    /// elsewhere.
    pub fn death(&self) -> Option<Death> {
        if self.class == Some(Class::Quit) {
            return None;
        }
        let by_go = self.class.map(said_by_go);
        let Some((ending, witness)) = self.status() else { return self.by_its_words(by_go) };
        // A runtime that writes why it dies also sends the signal that ends it.
        let record = by_go.or_else(|| self.words.iter().rfind(|record| record.is_of(ending)).copied());
        let mut death = Death::new(ending, witness, record);
        if self.has_met_memory_limit && matches!(ending, Ending::Killed { signal: libc::SIGKILL, .. }) {
            death.class = Witness::MemoryLimit.class();
        }
        Some(death)
    }

    /// The kernel's evidence.
    fn status(&self) -> Option<(Ending, Witness)> {
        if let Some(ending) = self.told.and_then(Ending::from_wait_status) {
            return Some((ending, Witness::Kernel));
        }
        let zombie = self.zombie.map(|stat| (stat.exit_code, stat.threads, Witness::Zombie));
        let leaving = self.leaving.map(|(status, threads)| (status, threads, Witness::Leaving));
        let is_whole = self.kernel >= WHOLE_STATUS;
        let seen = zombie.into_iter().chain(leaving);
        let mut believed =
            seen.filter(|(status, ..)| *status != 0 || (!self.is_hidden && (is_whole || self.words.is_empty())));
        let (status, threads, witness) = believed.next()?;
        let ending = match Ending::from_wait_status(status)? {
            Ending::Killed { signal, core_dump: CoreDump::No } if !is_whole && threads > 1 => {
                Ending::Killed { signal, core_dump: CoreDump::Unknown }
            }
            ending => ending,
        };
        Some((ending, witness))
    }

    /// Its own records, if there is no evidence from the kernel.
    fn by_its_words(&self, by_go: Option<Record>) -> Option<Death> {
        if let Some(record) = by_go.or_else(|| self.words.last().copied()) {
            let ending = match record.ending(cores::are_files) {
                // The record only predicts the core dump.
                Ending::Killed { signal, .. } if record.kind == Kind::Crash => {
                    Ending::Killed { signal, core_dump: CoreDump::Unknown }
                }
                ending => ending,
            };
            return Some(Death::new(ending, record.witness(), Some(record)));
        }
        // A kill for the memory limit just now is no evidence: it may have been that of a child.
        None
    }
}

/// The wait status that the kernel gives as soon as a process has been reaped; none if it never does.
pub fn status_after_reaping(process: BorrowedFd<'_>) -> Option<i32> {
    if let Some(status) = pidfd::exit_status(process) {
        return Some(status);
    }
    if !pidfd::tells_exit_status(process) {
        return None;
    }
    // POLLHUP announces it (pidfd_open(2)). Bounded: a parent need not reap a zombie that /proc does not show.
    for _ in 0..50 {
        let mut fds = [PollFd::new(process, PollFlags::empty())];
        let has_hung_up = poll(&mut fds, PollTimeout::from(100_u8)).is_ok_and(|ready| ready > 0);
        if let Some(status) = pidfd::exit_status(process) {
            return Some(status);
        }
        if has_hung_up {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGV: i32 = libc::SIGSEGV;

    fn unseen() -> Dead {
        Dead {
            is_hidden: false,
            zombie: None,
            leaving: None,
            told: None,
            words: Vec::new(),
            class: None,
            has_met_memory_limit: false,
            kernel: (6, 1),
        }
    }

    fn crash(signal: i32) -> Record {
        Record { signal, code: 1, ..Record::of(Kind::Crash) }
    }

    fn exit(code: i32) -> Record {
        Record { code, ..Record::of(Kind::Exit) }
    }

    fn killed(signal: i32, core_dump: CoreDump) -> Ending {
        Ending::Killed { signal, core_dump }
    }

    fn zombie(exit_code: i32, threads: u32) -> Option<Stat> {
        let stat = crate::sys::procfs::stat(std::process::id()).unwrap();
        Some(Stat { state: 'Z', exit_code, threads, ..stat })
    }

    #[test]
    fn nothing_tells_of_nothing() {
        assert_eq!(unseen().death(), None);
    }

    #[test]
    fn the_kernels_word_goes_before_the_process_own() {
        let words = vec![crash(SEGV), exit(3)];
        for (dead, witness) in [
            (Dead { told: Some(0), words: words.clone(), ..unseen() }, Witness::Kernel),
            (Dead { zombie: zombie(0, 1), words: words.clone(), ..unseen() }, Witness::Zombie),
            (Dead { leaving: Some((0, 1)), words: words.clone(), ..unseen() }, Witness::Leaving),
        ] {
            let death = dead.death().unwrap();
            assert_eq!((death.ending, death.witness, death.record), (Ending::Exited(0), witness, None));
        }
        let dead = Dead { told: Some(0x80 | SEGV), words, ..unseen() };
        let death = dead.death().unwrap();
        assert_eq!((death.ending, death.record), (killed(SEGV, CoreDump::Yes), Some(crash(SEGV))));
    }

    #[test]
    fn a_zero_that_may_be_a_blank_is_no_word() {
        let dead = Dead { zombie: zombie(0, 1), is_hidden: true, words: vec![crash(SEGV)], ..unseen() };
        let death = dead.death().unwrap();
        assert_eq!((death.ending, death.witness), (killed(SEGV, CoreDump::Unknown), Witness::Handler));
        let dead = Dead { zombie: zombie(0, 1), is_hidden: true, ..unseen() };
        assert_eq!(dead.death(), None);
    }

    #[test]
    fn before_linux_5_17_the_first_threads_status_is_not_the_whole() {
        let kernel = (5, 10);
        let dead = Dead { zombie: zombie(0, 1), words: vec![exit(3)], kernel, ..unseen() };
        assert_eq!(dead.death().unwrap().ending, Ending::Exited(3));
        let dead = Dead { zombie: zombie(0, 1), kernel, ..unseen() };
        assert_eq!(dead.death().unwrap().ending, Ending::Exited(0));
        let dead = Dead { zombie: zombie(SEGV, 2), kernel, ..unseen() };
        assert_eq!(dead.death().unwrap().ending, killed(SEGV, CoreDump::Unknown));
        let dead = Dead { zombie: zombie(SEGV, 2), ..unseen() };
        assert_eq!(dead.death().unwrap().ending, killed(SEGV, CoreDump::No));
    }

    #[test]
    fn the_last_word_counts() {
        let dead = Dead { words: vec![crash(SEGV), exit(3)], ..unseen() };
        let death = dead.death().unwrap();
        assert_eq!((death.ending, death.witness), (Ending::Exited(3), Witness::Exit));
    }

    #[test]
    fn a_go_runtime_names_the_cause_and_a_dump_is_no_crash() {
        let dead = Dead { told: Some(2 << 8), class: Some(Class::Panic), ..unseen() };
        let death = dead.death().unwrap();
        assert_eq!((death.ending, death.record.and_then(Record::cause)), (Ending::Exited(2), Some("Go panic")));
        let dead = Dead { class: Some(Class::FatalError), ..unseen() };
        assert_eq!(dead.death().unwrap().ending, Ending::Unknown);
        let dead = Dead { told: Some(2 << 8), class: Some(Class::Quit), ..unseen() };
        assert_eq!(dead.death(), None);
    }

    #[test]
    fn the_memory_limit_kills_by_sigkill_alone() {
        let met = Dead { has_met_memory_limit: true, ..unseen() };
        assert_eq!(met.death(), None, "it may have been a child");
        let class = |told| Dead { told: Some(told), ..met.clone() }.death().unwrap().class;
        assert_eq!(class(libc::SIGKILL), Some("memory limit"));
        assert_eq!(class(SEGV), None);
        assert_eq!(class(3 << 8), None);
    }
}
