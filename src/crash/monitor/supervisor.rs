//! `ondat-telemetry exec`: the parent of one program. It forwards signals, reaps, reports how the program ended, and
//! ends the same way. It works as PID 1. It has one thread and does not use the network itself: a child sends.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{Pid, getpid, getsid, pipe2};
use ondat_telemetry_protocol::ending::Ending;
use serde::{Deserialize, Serialize};

use super::jobs::{Jobs, within};
use super::memory_watch::MemoryWatch;
use super::postmortem::{Death, Postmortem};
use super::reporting::{DISK_PATIENCE, Reporting};
use crate::crash::delivery::new_event_id;
use crate::crash::host::handler::CRASH_SIGNALS;
use crate::crash::marker::Marker;
use crate::crash::setup::Setup;
use crate::crash::witness::Witness;
use crate::error::Error;
use crate::sys::library::{self, Whose};
use crate::sys::program;
use crate::sys::reaper::{self, Change, next_change};
use crate::sys::signals::{self, Mask};

/// The longest line about a core that is taken from the child that looks for it.
const LINE_BYTES: u64 = 8 * 1024;

/// What the supervisor is told.
#[derive(Deserialize, Serialize)]
pub struct Task {
    /// What a report says but the ending; none: nothing is reported.
    pub setup: Option<Setup>,
    /// How long the program's end may wait for its report to be sent, in milliseconds.
    pub wait_ms: u32,
}

/// How the program ended.
pub struct Ended {
    status: i32,
    /// Where its core is, as a line for people.
    pub core: Option<String>,
}

impl Ended {
    /// Ends this process the same way.
    pub fn end_likewise(&self) -> ! {
        match Ending::from_wait_status(self.status) {
            Some(Ending::Killed { signal, .. }) => program::die_by(signal),
            Some(Ending::Exited(code)) => std::process::exit(i32::from(code)),
            Some(Ending::Unknown) | None => std::process::exit(1),
        }
    }
}

/// Runs the program to its end. The error says why it could not be started.
pub fn run(task: Task, words: &[CString]) -> io::Result<Ended> {
    let mask = Mask::block_all()?;
    // Children of a process that ignores it cannot be awaited.
    let is_sigchld_ignored = signals::is_ignored(libc::SIGCHLD);
    signals::set_default(libc::SIGCHLD);
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)?;
    let wait_ms = task.wait_ms;
    let mut postmortem = task.setup.map(|setup| Postmortem::new(Setup { wait_ms, ..setup }));
    // Made before the program runs: from then on this process may be killed with it. Without a marker, what this process
    // cannot report itself is lost, which is no reason not to run.
    let marker = postmortem.as_mut().and_then(|postmortem| postmortem.mark_run().ok().flatten());
    // Read before, too: from then on this process asks no disk, which may hang.
    postmortem.iter().for_each(Postmortem::read_beforehand);
    let has_stored = postmortem.as_ref().is_some_and(Postmortem::has_stored);
    let program = match program::start(words, &mask, is_sigchld_ignored) {
        Ok(program) => program,
        Err(error) => {
            postmortem.iter().for_each(Postmortem::forget_run);
            return Err(error);
        }
    };
    // If this fails, a reader that waits for their end waits a little longer.
    let _ = program::let_go_of_input_and_output();
    let marked = marker.iter().map(|marker| marker.place().0);
    let probe = postmortem.as_ref().and_then(Postmortem::probe);
    let own: Vec<_> = marked.chain(probe).chain([signals.as_fd().as_raw_fd()]).collect();
    program::close_others(&own);
    if let Some(postmortem) = &mut postmortem {
        postmortem.watch(program.as_raw().unsigned_abs());
    }
    let memory = MemoryWatch::new();
    let mut supervisor = Supervisor { program, signals, postmortem, senders: Vec::new(), memory, _marker: marker };
    library::give_back(Whose::Process);
    // What an earlier run could not deliver is sent now.
    if has_stored {
        supervisor.start_sender(None, |postmortem| drop(postmortem.send_all()));
    }
    let status = supervisor.supervise()?;
    let core = supervisor.report(status, Instant::now() + Duration::from_millis(task.wait_ms.into()));
    Ok(Ended { status, core })
}

struct Supervisor {
    program: Pid,
    signals: SignalFd,
    postmortem: Option<Postmortem>,
    /// The children that report.
    senders: Vec<Pid>,
    memory: MemoryWatch,
    /// Locked while this process lives.
    _marker: Option<Marker>,
}

impl Supervisor {
    /// Has a child do what may hang: a disk, a server.
    fn start_sender(&mut self, kept: Option<RawFd>, work: impl FnOnce(&Postmortem)) -> Option<Pid> {
        let postmortem = self.postmortem.as_ref()?;
        let kept: Vec<_> = kept.into_iter().chain(postmortem.probe()).collect();
        let sender = program::in_child(&kept, || work(postmortem)).ok()?;
        self.senders.push(sender);
        Some(sender)
    }

    /// Hands signals on and reaps until the program has ended.
    fn supervise(&mut self) -> io::Result<i32> {
        loop {
            self.sleep();
            let signal = match self.signals.read_signal() {
                Ok(Some(signal)) => signal,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let number = libc::c_int::try_from(signal.ssi_signo).unwrap_or(0);
            if number != libc::SIGCHLD {
                self.hand_on(number, &signal);
            } else if let Some(status) = self.reap() {
                return Ok(status);
            }
        }
    }

    /// Until there is a signal, or news of the memory limit.
    fn sleep(&mut self) {
        let timeout = self.memory.look_at().map(|at| at.saturating_duration_since(Instant::now()));
        // Rounded up: a timeout of 0 would spin.
        let timeout = timeout.map(|timeout| PollTimeout::try_from(timeout + Duration::from_millis(1)));
        let has_notice = {
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.memory.notice().map(|(notice, flags)| PollFd::new(notice, flags)));
            let _ = poll(&mut fds, timeout.and_then(Result::ok).unwrap_or(PollTimeout::NONE));
            fds.get(1).and_then(PollFd::any).unwrap_or(false)
        };
        self.memory.look(has_notice);
    }

    /// Takes note of every child that has changed. The program's wait status, once it has ended.
    fn reap(&mut self) -> Option<i32> {
        let mut ended = None;
        loop {
            // The name must be read before the process is reaped.
            let name = reaper::next_ended().filter(|pid| *pid != self.program).map(|pid| (pid, name_of(pid)));
            let Some((pid, change)) = next_change() else { return ended };
            match change {
                Change::Ended(status) if pid == self.program => ended = Some(status),
                Change::Ended(_) if self.senders.contains(&pid) => self.senders.retain(|sender| *sender != pid),
                Change::Ended(status) => {
                    let name = name.filter(|(named, _)| *named == pid).and_then(|(_, name)| name);
                    self.report_orphan(pid, name, status);
                }
                // Its stop is this process's, so that a shell sees its job stopped and can continue it.
                Change::Stopped(signal) if pid == self.program && getpid().as_raw() != 1 => program::stop_by(signal),
                Change::Stopped(_) => {}
            }
        }
    }

    /// A process that was left to this one has ended: one that crashed, or that was killed for memory, is reported under its
    /// program's name.
    fn report_orphan(&mut self, pid: Pid, name: Option<String>, status: i32) {
        let Some(Ending::Killed { signal, core_dump }) = Ending::from_wait_status(status) else { return };
        let is_for_memory = signal == libc::SIGKILL && self.memory.take();
        if !is_for_memory && !CRASH_SIGNALS.contains(&signal) {
            return;
        }
        let mut death = Death::new(Ending::Killed { signal, core_dump }, Witness::Parent, None);
        if is_for_memory {
            death.class = Witness::MemoryLimit.class();
        }
        let Ok(event_id) = new_event_id() else { return };
        self.start_sender(None, |postmortem| {
            let Ok(jobs) = Jobs::new() else { return };
            let orphan = postmortem.of_another(pid.as_raw().unsigned_abs(), name);
            report(jobs, orphan, event_id, death);
        });
    }

    fn hand_on(&self, number: libc::c_int, signal: &siginfo) {
        // Of what the kernel makes, keys and the size of the terminal reach the whole foreground group, which the
        // program is in; only a hang-up is told to the session's leader alone.
        const SI_KERNEL: i32 = 0x80;
        const SI_QUEUE: i32 = -1;
        let is_leader = getsid(None).is_ok_and(|session| session == getpid());
        if signal.ssi_code == SI_KERNEL && !(number == libc::SIGHUP && is_leader) {
            return;
        }
        // A signal that the program has sent to its whole group has reached it already.
        if Pid::from_raw(i32::try_from(signal.ssi_pid).unwrap_or(0)) == self.program {
            return;
        }
        program::pass_on(self.program, number, (signal.ssi_code == SI_QUEUE).then_some(signal.ssi_int));
    }

    /// Reports the program's end and waits for that, but not longer than agreed: whatever hangs is the child's.
    fn report(&mut self, status: i32, deadline: Instant) -> Option<String> {
        let ending = Ending::from_wait_status(status)?;
        let is_for_memory = self.memory.take() && matches!(ending, Ending::Killed { signal: libc::SIGKILL, .. });
        let pid = self.program.as_raw().unsigned_abs();
        let (line, told) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok().unzip();
        let sender = self.start_sender(told.as_ref().map(AsRawFd::as_raw_fd), |postmortem| {
            let Ok(jobs) = Jobs::new() else { return };
            let another = || postmortem.of_another(pid, None);
            let (mut own, reader, finder) = (another(), another(), another());
            let note_core = move || {
                if let (Some(core), Some(told)) = (finder.note_core(pid, ending), told) {
                    let _ = File::from(told).write_all(core.to_string().as_bytes());
                }
            };
            if !own.ends_with_pid_1() {
                jobs.beside(note_core);
            } else if own.may_use_disk() {
                note_core();
            }
            // From a disk that hangs there is no word: what the kernel tells is reported all the same.
            let words = within(DISK_PATIENCE, move || reader.take_own_words()).flatten();
            words.iter().for_each(|words| own.adopt(words));
            if words.as_ref().is_some_and(|words| words.is_off) {
                if own.may_use_disk() {
                    own.forget_run();
                }
                return;
            }
            // The id of the run that the program has marked itself, whose marker may have to stay.
            let event_id = words.as_ref().map_or_else(|| own.event_id(), |words| Ok(words.event_id.clone()));
            let record = words.and_then(|words| words.record).filter(|record| record.is_of(ending));
            let mut death = Death::new(ending, Witness::Parent, record);
            if is_for_memory {
                death.class = Witness::MemoryLimit.class();
            }
            if let Ok(event_id) = event_id {
                report(jobs, own, event_id, death);
            }
        });
        self.wait(deadline, |this| sender.is_some_and(|sender| this.senders.contains(&sender)));
        // Those of orphans too: with PID 1 they end.
        self.wait(deadline, |this| getpid().as_raw() == 1 && !this.senders.is_empty());
        let mut text = String::new();
        let _ = File::from(line?).take(LINE_BYTES).read_to_string(&mut text);
        Some(text).filter(|text| !text.is_empty())
    }

    /// Reaps while something is going on, for a bounded time.
    fn wait(&mut self, deadline: Instant, is_going_on: impl Fn(&Self) -> bool) {
        while is_going_on(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            let is_ready = {
                let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
            };
            if left.is_zero() || !is_ready {
                return;
            }
            // A signal stops the container: the program is to die, and it is dead already.
            if self.signals.read_signal().is_ok_and(|signal| signal.is_some()) {
                self.reap();
            }
        }
    }
}

/// Reports a death as a child of the supervisor.
fn report(jobs: Jobs, postmortem: Postmortem, event_id: String, death: Death) {
    let reporting = Reporting::new(Arc::new(jobs), Arc::new(postmortem), None);
    reporting.of_program(event_id, death);
}

/// The name of a program, where it has the form of a component's.
fn name_of(pid: Pid) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    ondat_telemetry_protocol::identity::component(name.trim_end_matches('\n')).ok()
}

/// A task as bytes, for the descriptor on which the supervisor reads it.
pub fn encode(task: &Task) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(task).map_err(|error| Error::Internal(format!("the supervisor's task: {error}")))
}

/// Reads it back.
pub fn decode(bytes: &[u8]) -> Result<Task, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::InvalidArgument(error.to_string()))
}
