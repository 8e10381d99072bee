//! The crash monitor: a small process that outlives its host by one report. It sleeps until the host dies, reads how
//! from the kernel, stores the report and sends it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use super::delivery::{new_event_id, send_event, store_event};
use super::event::{Crash, Subject, event};
use super::exit::{CoreDump, Ending};
use super::marker;
use super::record::{Kind, RECORD_BYTES, Record, SETUP_BYTES, Setup};
use super::sentry::Dsn;
use super::signals;
use crate::error::Error;
use crate::memory;
use crate::spool::{self, Spool};
use crate::state::StateDir;
use crate::switches::{Switch, Switches};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::{pidfd, procfs};
use crate::transport::https::UreqHttps;

/// How often a host without a pidfd (before Linux 5.3) is looked at once its socket has closed.
const POLL_WITHOUT_PIDFD: Duration = Duration::from_millis(20);

/// Watches the process at the other end of `socket` and returns when its report is stored, and sent if that was
/// possible at once.
pub fn run(socket: OwnedFd, process: Option<OwnedFd>) -> Result<(), Error> {
    let Some(setup) = receive_setup(&socket)? else { return Ok(()) };
    let oom_kills = procfs::oom_kills();
    let mut host = Host { socket: Some(socket), process, setup, oom_kills, is_off: false, records: Vec::new() };
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
    setup: Setup,
    oom_kills: Option<u64>,
    is_off: bool,
    records: Vec<Record>,
}

impl Host {
    /// Waits for the host's end. False when there is nothing to report: it said goodbye, or became another program.
    fn outlive(&mut self) -> bool {
        loop {
            let (has_message, has_ended) = self.wait();
            if has_message {
                match self.receive() {
                    Received::Goodbye => return false,
                    Received::Closed => {
                        self.socket = None;
                        if !has_ended && self.has_become_another_program() {
                            self.forget();
                            return false;
                        }
                    }
                    Received::Record => continue,
                }
            }
            if has_ended {
                self.drain();
                return true;
            }
        }
    }

    /// Sleeps until the socket or the process has something to say.
    fn wait(&self) -> (bool, bool) {
        let mut fds = Vec::with_capacity(2);
        fds.extend(self.socket.as_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.process.as_ref().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
        let is_blind = self.socket.is_none() && self.process.is_none();
        let timeout = if is_blind {
            PollTimeout::try_from(POLL_WITHOUT_PIDFD).unwrap_or(PollTimeout::ZERO)
        } else {
            PollTimeout::NONE
        };
        let _ = poll(&mut fds, timeout);
        let mut is_ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let has_message = self.socket.is_some() && is_ready.next().unwrap_or(false);
        let has_ended = match &self.process {
            Some(_) => is_ready.next().unwrap_or(false),
            None => is_blind && self.stat().is_none_or(|stat| matches!(stat.state, 'Z' | 'X')),
        };
        (has_message, has_ended)
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
            Kind::Crash => {
                let _ = send(socket.as_raw_fd(), &[1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
                // A program that recovers from signal after signal must not fill this process's memory.
                self.records.truncate(15);
                self.records.insert(0, record);
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
        match (self.setup.born, self.stat()) {
            // 0 is what the kernel shows to who may not know.
            (Some(born), Some(now)) => !now.is_exiting && now.start_stack != 0 && now.start_stack != born.start_stack,
            _ => false,
        }
    }

    /// The host in /proc, and not another process with its pid.
    fn stat(&self) -> Option<procfs::Stat> {
        let now = procfs::stat(self.setup.pid)?;
        self.setup.born.is_none_or(|born| born.start_time == now.start_time).then_some(now)
    }

    /// How the host ended: from the zombie, from the kernel after it was reaped, or as the handler saw it coming.
    fn ending(&self) -> Option<Ending> {
        // Asked first: of a process that is reaped meanwhile there is no status to be hidden.
        let is_hidden = procfs::is_hidden(self.setup.pid);
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

    fn report(&self, ending: Ending) -> Result<(), Error> {
        let state_dir = self.setup.state_dir.as_deref().map(StateDir::open).transpose();
        // A state directory that has become unusable takes nothing away from the upload.
        let state_dir = state_dir.unwrap_or(None);
        let switches = Switches::new(self.setup.host_switches, self.setup.objections.clone(), state_dir.clone());
        let permit = if self.is_off || !ending.is_crash() { None } else { switches.permit(Switch::CrashReports).ok() };
        if let Some(permit) = permit {
            let spool = Spool::new(state_dir.as_ref(), "spool/crashes", spool::CRASHES);
            let of_run = self.setup.marker.as_deref().and_then(marker::event_id);
            let event_id = of_run.map_or_else(new_event_id, |id| Ok(id.to_owned()))?;
            let now = SystemClock::new().now();
            let event = self.event(&event_id, ending);
            // Held back is remembered as well as stored: this ending is dealt with.
            let (event, is_paused) = match &state_dir {
                None => (Some(event), false),
                Some(dir) => {
                    memory::change_crash_limits(dir, |limits| {
                        (limits.admit(event, &now), limits.paused_until(&now) > now.unix)
                    })
                    .0
                }
            };
            let Some(event) = event else {
                self.remove_marker(state_dir.as_ref());
                return Ok(());
            };
            let stored = store_event(&spool, &event_id, &event);
            self.remove_marker(state_dir.as_ref());
            let in_memory;
            let (claim, _) = match stored {
                Ok(stored) => stored,
                Err(_) => {
                    in_memory = Spool::new(None, "spool/crashes", spool::CRASHES);
                    store_event(&in_memory, &event_id, &event)?
                }
            };
            if is_paused {
                return Ok(());
            }
            let dsn = Dsn::parse(&self.setup.dsn).map_err(Error::InvalidConfig)?;
            let https = UreqHttps::new(self.setup.https.clone());
            let timeout = Duration::from_millis(self.setup.timeout_ms);
            // What cannot be delivered now stays stored for the next process on this state directory.
            let (_, pause) = send_event(&https, permit, &dsn, claim, SystemTime::now(), timeout)?;
            if let (Some(dir), Some(pause)) = (&state_dir, pause) {
                let seconds = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
                memory::change_crash_limits(dir, |limits| limits.pause(&now, seconds));
            }
        } else {
            self.remove_marker(state_dir.as_ref());
        }
        Ok(())
    }

    fn event(&self, event_id: &str, ending: Ending) -> serde_json::Value {
        let subject = Subject {
            component: &self.setup.component,
            version: &self.setup.version,
            cluster_id: &self.setup.cluster_id,
            node_id: &self.setup.node_id,
        };
        let record = match ending {
            Ending::Killed { signal, .. } => self.records.iter().find(|record| record.signal == signal),
            Ending::Exited(_) | Ending::Unknown => None,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let crash = Crash {
            event_id,
            at: record.map_or(now, |record| record.at),
            ending,
            class: match ending {
                Ending::Killed { signal: libc::SIGKILL, .. } if self.has_met_memory_limit() => Some("memory limit"),
                _ => record.and_then(|record| signals::cause(record.signal, record.code)),
            },
            text: None,
        };
        event(&subject, &crash)
    }

    /// Whether the kernel has killed for the memory limit of the cgroup, which the host and this process share, since
    /// the host was first watched.
    fn has_met_memory_limit(&self) -> bool {
        matches!((self.oom_kills, procfs::oom_kills()), (Some(before), Some(now)) if now > before)
    }

    /// The run is over without an ending: its marker must not be taken for one.
    fn forget(&self) {
        self.remove_marker(self.setup.state_dir.as_deref().and_then(|dir| StateDir::open(dir).ok()).as_ref());
    }

    fn remove_marker(&self, state_dir: Option<&StateDir>) {
        if let (Some(dir), Some(name)) = (state_dir, &self.setup.marker) {
            // One that stays is found at the next start.
            let _ = marker::remove(dir, name);
        }
    }
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
