//! `ondat-telemetry exec`: the parent of one program. It hands signals on, reaps, reports how the program ended, and ends
//! the same way; works as PID 1. It has one thread and needs no network itself: what sends is a child.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{Pid, getpid, getsid};
use serde::{Deserialize, Serialize};

use super::cores::Core;
use super::exit::Ending;
use super::marker::Marker;
use super::postmortem::{Postmortem, Report};
use super::record::Setup;
use crate::error::Error;
use crate::sys::library::{self, Whose};
use crate::sys::program;
use crate::sys::reaper::{Change, next_change};
use crate::sys::signals::{self, Mask};

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
    /// Where its core is.
    pub core: Option<Core>,
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
    let mut postmortem = task.setup.map(Postmortem::new);
    // Made before the program runs: from then on this process may be killed with it. Without a marker, what this process
    // cannot report itself is lost, which is no reason not to run.
    let marker = postmortem.as_mut().and_then(|postmortem| postmortem.mark_run().ok().flatten());
    let program = match program::start(words, &mask, is_sigchld_ignored) {
        Ok(program) => program,
        Err(error) => {
            postmortem.iter().for_each(Postmortem::forget_run);
            return Err(error);
        }
    };
    // Who waits for their end then waits a little longer.
    let _ = program::let_go_of_input_and_output();
    let own: Vec<_> = marker.iter().map(Marker::descriptor).chain([signals.as_fd().as_raw_fd()]).collect();
    program::close_others(&own);
    if let Some(postmortem) = &mut postmortem {
        postmortem.watch(program.as_raw().unsigned_abs());
    }
    let mut supervisor = Supervisor { program, signals, postmortem, sender: None, _marker: marker };
    library::give_back(Whose::Process);
    // What an earlier run could not deliver waits for whoever runs next.
    if supervisor.postmortem.as_ref().is_some_and(Postmortem::has_stored) {
        supervisor.start_sender();
    }
    let status = supervisor.supervise()?;
    let core = supervisor.report(status, Instant::now() + Duration::from_millis(task.wait_ms.into()));
    Ok(Ended { status, core })
}

struct Supervisor {
    program: Pid,
    signals: SignalFd,
    postmortem: Option<Postmortem>,
    /// The child that sends.
    sender: Option<Pid>,
    /// Locked while this process lives.
    _marker: Option<Marker>,
}

impl Supervisor {
    fn start_sender(&mut self) {
        if let Some(postmortem) = &self.postmortem {
            let sender = program::in_child(|| {
                // What cannot be sent stays stored.
                let _ = postmortem.send_all();
            });
            self.sender = sender.ok();
        }
    }

    /// Hands signals on and reaps until the program has ended.
    fn supervise(&mut self) -> io::Result<i32> {
        loop {
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

    /// Takes note of every child that has changed. The program's wait status, once it has ended.
    fn reap(&mut self) -> Option<i32> {
        let mut ended = None;
        while let Some((pid, change)) = next_change() {
            match change {
                Change::Ended(status) if pid == self.program => ended = Some(status),
                Change::Ended(_) if Some(pid) == self.sender => self.sender = None,
                // Its stop is this process's, so that a shell sees its job stopped and can continue it.
                Change::Stopped(signal) if pid == self.program && getpid().as_raw() != 1 => program::stop_by(signal),
                Change::Ended(_) | Change::Stopped(_) => {}
            }
        }
        ended
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

    fn report(&mut self, status: i32, deadline: Instant) -> Option<Core> {
        let ending = Ending::from_wait_status(status)?;
        let core = self.postmortem.as_ref()?.note_core(ending);
        let own_words = self.postmortem.as_mut()?.take_own_words();
        if own_words.as_ref().is_some_and(|words| words.is_off) {
            self.postmortem.as_ref()?.forget_run();
            return core;
        }
        let record = own_words.and_then(|words| words.record).filter(|record| record.is_of(ending));
        // What cannot be stored is not reported; the program's end is more important than that.
        let is_stored = matches!(self.postmortem.as_ref()?.store(ending, record), Ok(Report::Stored(_)));
        if is_stored {
            self.start_sender();
            let sender = self.sender;
            self.wait(deadline, |this| this.sender == sender && sender.is_some());
        }
        core
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
            // Who stops a container now has what he wants: the program is dead.
            if self.signals.read_signal().is_ok_and(|signal| signal.is_some()) {
                self.reap();
            }
        }
    }
}

/// A task as bytes, for the descriptor on which the supervisor reads it.
pub fn encode(task: &Task) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(task).map_err(|error| Error::Internal(format!("the supervisor's task: {error}")))
}

/// Reads it back.
pub fn decode(bytes: &[u8]) -> Result<Task, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::InvalidArgument(error.to_string()))
}
