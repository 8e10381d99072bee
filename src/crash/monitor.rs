//! The crash monitor: a small process that outlives its host by one report. It sleeps until the host dies, reads how
//! from the kernel, stores the report and sends it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use super::exit::{CoreDump, Ending};
use super::output::{Class, CrashOutput};
use super::postmortem::{Postmortem, Report};
use super::record::{AWAITED, Kind, RECORD_BYTES, Record, SETUP_BYTES, Setup, TENTATIVE};
use crate::error::Error;
use crate::sys::library::{self, Whose};
use crate::sys::{pidfd, procfs};

/// How often a host without a pidfd (before Linux 5.3) is looked at once its socket has closed.
const POLL_WITHOUT_PIDFD: Duration = Duration::from_millis(20);
/// A process that lives so long after an earlier handler was called has recovered.
const RECOVERY: Duration = Duration::from_secs(1);
/// The most records that are kept: a program that recovers from signal after signal must not fill this one's memory.
const RECORDS: usize = 16;

/// Watches the process at the other end of `socket` and returns when its report is stored, and sent if that was
/// possible at once.
pub fn run(socket: OwnedFd, process: Option<OwnedFd>, output: Option<OwnedFd>) -> Result<(), Error> {
    let Some(setup) = receive_setup(&socket)? else { return Ok(()) };
    let mut host = Host {
        socket: Some(socket),
        process,
        output: output.map(|pipe| (File::from(pipe), CrashOutput::default())),
        postmortem: Postmortem::new(setup),
        class: None,
        is_off: false,
        is_reported: false,
        records: Vec::new(),
        recovered_at: None,
    };
    library::give_back(Whose::Process);
    if !host.outlive() {
        return Ok(());
    }
    let Some(ending) = host.ending() else { return Ok(()) };
    host.report(ending)
}

fn receive_setup(socket: &OwnedFd) -> Result<Option<Setup>, Error> {
    let mut bytes = vec![0; SETUP_BYTES];
    let length =
        recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()).map_err(|error| Error::Io(error.to_string()))?;
    if length == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&bytes[..length]).map(Some).map_err(|error| Error::InvalidArgument(error.to_string()))
}

struct Host {
    socket: Option<OwnedFd>,
    process: Option<OwnedFd>,
    /// What the host's Go runtime writes when it dies.
    output: Option<(File, CrashOutput)>,
    postmortem: Postmortem,
    /// What it said, once it has ended.
    class: Option<Class>,
    is_off: bool,
    /// The death was reported before it came.
    is_reported: bool,
    /// The latest first.
    records: Vec<Record>,
    /// When the process will count as recovered from the last signal.
    recovered_at: Option<Instant>,
}

impl Host {
    fn setup(&self) -> &Setup {
        self.postmortem.setup()
    }

    /// Waits for the host's end. False when there is nothing to report: it said goodbye, or became another program.
    fn outlive(&mut self) -> bool {
        loop {
            let (has_message, has_ended, has_output) = self.wait();
            if has_output {
                self.read_output();
            }
            if has_message {
                match self.receive() {
                    Received::Goodbye => return false,
                    Received::Closed => {
                        self.socket = None;
                        if !has_ended && self.has_become_another_program() {
                            self.postmortem.forget_run();
                            return false;
                        }
                    }
                    Received::Record => continue,
                }
            }
            if has_ended {
                self.drain();
                self.read_output();
                return true;
            }
            if self.recovered_at.is_some_and(|at| at <= Instant::now()) {
                self.recovered_at = None;
                self.records.clear();
                self.postmortem.note(Record::of(Kind::Recovered));
            }
        }
    }

    /// Sleeps until the socket or the process has something to say.
    fn wait(&self) -> (bool, bool, bool) {
        let mut fds = Vec::with_capacity(3);
        fds.extend(self.socket.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.process.as_ref().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.output.as_ref().map(|(pipe, _)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        let is_blind = self.socket.is_none() && self.process.is_none();
        let recovery = self.recovered_at.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = recovery.into_iter().chain(is_blind.then_some(POLL_WITHOUT_PIDFD)).min();
        // Rounded up: a timeout of 0 would spin.
        let timeout = timeout.map(|timeout| PollTimeout::try_from(timeout + Duration::from_millis(1)));
        let _ = poll(&mut fds, timeout.and_then(Result::ok).unwrap_or(PollTimeout::NONE));
        let mut is_ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let has_message = self.socket.is_some() && is_ready.next().unwrap_or(false);
        let has_ended = match &self.process {
            Some(_) => is_ready.next().unwrap_or(false),
            None => is_blind && self.stat().is_none_or(|stat| matches!(stat.state, 'Z' | 'X')),
        };
        (has_message, has_ended, is_ready.next().unwrap_or(false))
    }

    /// Reads what there is, so that the dying host is not held up. Its text goes no further.
    fn read_output(&mut self) {
        let Some((pipe, output)) = &mut self.output else { return };
        let known = output.class();
        let mut bytes = [0; 4096];
        let has_ended = loop {
            match pipe.read(&mut bytes) {
                Ok(0) => break true,
                Ok(length) => output.take(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        let class = output.class();
        if let (None, Some(class)) = (known, class) {
            // The host ends any moment, and this process with it where that is PID 1.
            match class {
                Class::Quit => self.postmortem.forget_run(),
                Class::Panic | Class::FatalError => {
                    self.postmortem.note(Record { code: class as i32, ..Record::of(Kind::Output) });
                }
            }
        }
        if has_ended {
            // Closed without a word it says nothing, and polling it would spin.
            self.class = class;
            self.output = None;
        }
    }

    fn receive(&mut self) -> Received {
        let Some(socket) = &self.socket else { return Received::Closed };
        let mut bytes = [0; RECORD_BYTES + 1];
        let length = match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Received::Closed,
            Ok(length) => length,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Received::Record,
            Err(_) => return Received::Closed,
        };
        // Anything but a record is from a host that is out of its mind: it changes nothing.
        let Some(record) = Record::from_bytes(&bytes[..length]) else { return Received::Record };
        match record.kind {
            Kind::Goodbye => return Received::Goodbye,
            Kind::On => self.is_off = false,
            Kind::Off => self.is_off = true,
            Kind::Recovered | Kind::Output => {}
            Kind::Crash | Kind::Exit => {
                self.recovered_at = record.has(TENTATIVE).then(|| Instant::now() + RECOVERY);
                // What cannot be reported now is tried again when the process is dead.
                let _ = self.announce(record);
                if let Some(socket) = &self.socket {
                    let _ = send(socket.as_raw_fd(), &[1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
                }
            }
        }
        Received::Record
    }

    /// Takes what the host still said before it died.
    fn drain(&mut self) {
        for _ in 0..64 {
            if !matches!(self.receive(), Received::Record) {
                return;
            }
        }
    }

    /// The socket closes on exec; it also closes when the host dies, and when it closes descriptors that are not its
    /// own. A process that lives on with its stack elsewhere has called exec. (One that has called exec and is already
    /// dead again when this process gets to look cannot be told from a host that died.)
    fn has_become_another_program(&self) -> bool {
        match (self.setup().born, self.stat()) {
            // 0 is what the kernel shows to who may not know.
            (Some(born), Some(now)) => !now.is_exiting && now.start_stack != 0 && now.start_stack != born.start_stack,
            _ => false,
        }
    }

    /// The host in /proc, and not another process with its pid.
    fn stat(&self) -> Option<procfs::Stat> {
        let now = procfs::stat(self.setup().pid)?;
        self.setup().born.is_none_or(|born| born.start_time == now.start_time).then_some(now)
    }

    /// How the host ended: from the zombie, from the kernel after it was reaped, or as the handler saw it coming.
    fn ending(&self) -> Option<Ending> {
        // Asked first: of a process that is reaped meanwhile there is no status to be hidden.
        let is_hidden = procfs::is_hidden(self.setup().pid);
        let of_zombie = self.stat().filter(|stat| matches!(stat.state, 'Z' | 'X')).map(|stat| stat.exit_code);
        let of_zombie = of_zombie.filter(|status| *status != 0 || !is_hidden);
        let status = of_zombie.or_else(|| self.status_after_reaping());
        match status {
            Some(status) => Ending::from_wait_status(status),
            None => {
                let record = self.records.first()?;
                Some(Ending::Killed { signal: record.signal, core_dump: CoreDump::Unknown })
            }
        }
    }

    fn status_after_reaping(&self) -> Option<i32> {
        let process = self.process.as_ref()?;
        // The kernel has it from the moment of reaping, which POLLHUP announces (pidfd_open(2)); bounded, in case a
        // parent never reaps a zombie that /proc did not show.
        for _ in 0..50 {
            if let Some(status) = pidfd::exit_status(process.as_fd()) {
                return Some(status);
            }
            let mut fds = [PollFd::new(process.as_fd(), PollFlags::empty())];
            let hung_up = poll(&mut fds, PollTimeout::from(100_u8)).is_ok_and(|ready| ready > 0);
            if hung_up {
                return pidfd::exit_status(process.as_fd());
            }
        }
        None
    }

    /// The handler's record of this ending, where it has one.
    fn record_of(&self, ending: Ending) -> Option<Record> {
        self.records.iter().find(|record| record.is_of(ending)).copied()
    }

    /// Notes what the process says of its end. Where it waits for that, its death is reported before it comes.
    fn announce(&mut self, record: Record) -> Result<(), Error> {
        if record.kind == Kind::Crash {
            self.records.truncate(RECORDS - 1);
            self.records.insert(0, record);
        }
        if record.ending().is_crash() {
            self.postmortem.note(record);
        } else {
            self.postmortem.forget_run();
        }
        if let Some(cwd) = procfs::cwd(self.setup().pid) {
            self.postmortem.set_cwd(cwd);
        }
        if record.has(AWAITED) && !self.is_reported && !self.is_off {
            // No second report follows the death, and none is lost where this process dies with it.
            let stored = self.postmortem.store(record.ending(), Some(record))?;
            self.is_reported = true;
            if let Report::Stored(claim) = stored {
                self.postmortem.send(claim)?;
            }
        }
        Ok(())
    }

    fn report(&mut self, ending: Ending) -> Result<(), Error> {
        self.postmortem.note_core(ending);
        if self.is_reported || self.is_off {
            self.postmortem.forget_run();
            return Ok(());
        }
        let class = self.class.or_else(|| self.output.as_ref().and_then(|(_, output)| output.class()));
        if class == Some(Class::Quit) {
            // An operator's stop, as SIGQUIT is elsewhere.
            self.postmortem.forget_run();
            return Ok(());
        }
        let told = class.map(|class| Record { code: class as i32, at: now(), ..Record::of(Kind::Output) });
        // A runtime that says what it dies of also sends the signal that ends it.
        let record = told.or_else(|| self.record_of(ending));
        if let Report::Stored(claim) = self.postmortem.store(ending, record)? {
            self.postmortem.send(claim)?;
        }
        Ok(())
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

enum Received {
    Record,
    Goodbye,
    Closed,
}

/// Makes this process one that a stop of the whole service does not end before its report is sent: systemd and
/// terminals signal every process of a group.
pub fn ignore_stop_signals() -> io::Result<()> {
    crate::sys::signals::ignore(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE])
}
