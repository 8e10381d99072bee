//! The host's side of crash reporting: the handler, monitor and run marker of one client.

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair};
use nix::unistd::{getppid, pipe2};

use super::handler::{self, Armament, Awaits, CRASH_SIGNALS, GO_SIGNALS};
use crate::crash::cores;
use crate::crash::marker::{self, Head, Marker, Watched};
use crate::crash::record::{Kind, RECORD_BYTES, Record};
use crate::crash::setup::{SETUP_BYTES, Setup};
use crate::error::Error;
use crate::state::StateDir;
use crate::sys::descriptor::{self, Owned};
use crate::sys::page::{Page, Stage};
use crate::sys::spawn::{self, Parked};
use crate::sys::{altstack, library, pidfd, procfs};

/// The host contains a Go runtime.
pub const FLAG_GO_HOST: u32 = 1;
/// Raise the soft limit of core files to the hard one.
pub const FLAG_CORE_DUMPS: u32 = 2;

/// How long PID 1 waits for its report to be sent, in milliseconds, unless the host says otherwise.
pub const PID_1_WAIT_MS: u32 = 2_000;

/// How long `install` waits for the monitor's word that it watches: starting it takes a millisecond, on a machine that
/// reads it from a slow disk or swaps some hundred.
const READY: Duration = Duration::from_secs(5);
/// How long `close` waits at most for the monitor to clear up what it keeps on disk, whatever its own timeout.
const FAREWELL: Duration = Duration::from_millis(100);

/// The monitor's program.
const MONITOR: &str = "ondat-telemetry-monitor";

/// The installed crash handler.
pub struct Watch {
    monitor: Option<Monitor>,
    marker: Option<Marker>,
    page: Option<Page>,
    /// The last word on the switch.
    is_enabled: Cell<bool>,
}

/// The monitor as its host has it.
struct Monitor {
    program: PathBuf,
    socket: Owned,
    /// Where a Go runtime writes when it dies.
    crash_output: Option<Owned>,
    /// Its parent, where the host would be.
    parked: Option<Parked>,
}

/// What is left when an installation has been removed.
pub enum Farewell {
    /// Nothing: the monitor removes the run marker and the other files of this process in the state directory.
    Cleared,
    /// This, which is to be removed. One that cannot be is no evidence of a crash.
    Left(Option<Marker>),
}

/// What the crash handler has to know of its host.
pub struct Host<'a> {
    /// What the monitor learns; the name of the run marker and the wait are filled in.
    pub setup: Setup,
    /// Where the run marker goes.
    pub state_dir: Option<&'a StateDir>,
    /// The monitor's program, where that is configured.
    pub monitor_path: Option<&'a Path>,
    /// How long a crash waits for its report to be sent, in milliseconds; none: PID 1 for 2 s, others not.
    pub wait_ms: Option<u32>,
}

/// The result of an installation.
pub struct Installed {
    /// The handler.
    pub watch: Watch,
    /// Why there is no monitor: the handler writes into the run marker then.
    pub why_no_monitor: Option<Error>,
    /// Why there is no run marker: what the monitor does not see is lost then.
    pub complaint: Option<Error>,
    /// Why this thread has no stack for the handler: a crash for want of stack is reported without its cause then.
    pub why_no_stack: Option<Error>,
}

impl Watch {
    /// Starts the monitor and installs the handler, also where there is only one of monitor and run marker.
    pub fn install(host: Host<'_>, flags: u32) -> Result<Installed, Error> {
        if flags & !(FLAG_GO_HOST | FLAG_CORE_DUMPS) != 0 {
            return Err(Error::InvalidArgument(format!("flags: {flags:#x} has bits that mean nothing")));
        }
        if spawn::children_are_elsewhere() {
            return Err(Error::Unsupported(
                "the children of this process are in another PID namespace, where the crash monitor would be its PID 1: \
                 install the crash handler before unshare(CLONE_NEWPID), or in the child"
                    .to_owned(),
            ));
        }
        // Only a crash for want of stack needs it.
        let why_no_stack = altstack::ensure().err();
        let pid = host.setup.pid;
        let marker = host.state_dir.map(|_| marker::name(&host.setup.component, pid)).transpose()?;
        // The kernel kills everything in the namespace of a PID 1 that dies, the monitor too (pid_namespaces(7)).
        let wait_ms = host.wait_ms.unwrap_or(if pid == 1 { PID_1_WAIT_MS } else { 0 });
        let setup = Setup { marker, wait_ms, ..host.setup };
        let mut watch = Self { monitor: None, marker: None, page: None, is_enabled: Cell::new(true) };
        let (mut why_no_monitor, mut complaint) = (None, None);
        let (page, file) = Page::create().map_or((None, None), |(page, file)| (Some(page), file));
        let mut monitor = None;
        let watched = if host.state_dir.is_some_and(is_supervised) {
            Watched::Supervised
        } else {
            if let Some(page) = &page {
                // Where the C library has no such mutex, the monitor finds out about exec by the end of its socket alone.
                page.hold();
            }
            match start_monitor(host.monitor_path, &setup, flags & FLAG_GO_HOST != 0, file.as_ref()) {
                Ok(started) => {
                    monitor = Some(started);
                    Watched::Monitor
                }
                Err(error) => Watched::Nobody(why_no_monitor.insert(error).to_string()),
            }
        };
        // While the monitor starts.
        let mark = |watched| {
            let head = Head::new(&setup.component, &setup.version, setup.born, watched);
            let place = host.state_dir.zip(setup.marker.clone());
            place.map(|(dir, name)| Marker::create(dir, name, head)).transpose()
        };
        match mark(watched) {
            Ok(marker) => watch.marker = marker,
            // The run marker is optional while a monitor is running.
            Err(error) => complaint = Some(error),
        }
        match monitor.map(Monitor::await_ready).transpose() {
            Ok(ready) => watch.monitor = ready,
            Err(error) => {
                let watched = Watched::Nobody(error.to_string());
                match &mut watch.marker {
                    // Only `status` tells by it.
                    Some(marker) => drop(marker.set_watched(watched)),
                    // There are more descriptors now.
                    None => (watch.marker, complaint) = (mark(watched)?, None),
                }
                why_no_monitor = Some(error);
            }
        }
        if why_no_monitor.is_some()
            && let Some(error) = complaint
        {
            return Err(error);
        }
        // Without a file only children share it, whose records would not be read.
        let has_reader = file.is_some() || watch.monitor.is_none();
        drop(file);
        watch.page = page.filter(|_| has_reader);
        if flags & FLAG_CORE_DUMPS != 0 {
            allow_core_dumps(host.state_dir);
        }
        let signals: Vec<_> = if flags & FLAG_GO_HOST == 0 {
            CRASH_SIGNALS.to_vec()
        } else {
            CRASH_SIGNALS.into_iter().filter(|signal| !GO_SIGNALS.contains(signal)).collect()
        };
        let armed = handler::arm(&Armament {
            signals: &signals,
            socket: watch.monitor.as_ref().map(|monitor| &monitor.socket),
            marker: watch.marker.as_ref().map(Marker::place),
            page: watch.page.as_ref(),
            // An init that ends with its only child takes the monitor with it.
            awaits: if procfs::is_in_container() { Awaits::Storing } else { Awaits::Notice },
            sending_ms: wait_ms,
        });
        if let Err(error) = armed {
            if let Farewell::Left(Some(marker)) = watch.goodbye_unarmed() {
                let _ = marker.remove();
            }
            return Err(error);
        }
        Ok(Installed { watch, why_no_monitor, complaint, why_no_stack })
    }

    /// Takes the handler off and sends the monitor home, which clears up on disk: a host does not end with a thread of its own
    /// in a disk that hangs. What is left for the caller to remove, where there is no monitor to do so.
    pub fn goodbye(self) -> Farewell {
        handler::disarm();
        self.goodbye_unarmed()
    }

    fn goodbye_unarmed(mut self) -> Farewell {
        if let Some(monitor) = self.monitor.take() {
            let is_cleared = self.say_and_wait(&monitor, Kind::Goodbye);
            drop(monitor.socket);
            if let Some(parked) = monitor.parked {
                parked.reap();
            }
            if is_cleared {
                return Farewell::Cleared;
            }
        }
        Farewell::Left(self.marker.take())
    }

    /// A copy of the descriptor for a Go runtime's crash output.
    pub fn crash_output(&self) -> Result<OwnedFd, Error> {
        let output = self.monitor.as_ref().and_then(|monitor| monitor.crash_output.as_ref()).ok_or_else(|| {
            Error::Unsupported("no crash monitor was started for a Go host: nobody would read it".to_owned())
        })?;
        output.try_clone().map_err(|error| Error::Unsupported(format!("a descriptor for the crash output: {error}")))
    }

    /// Records the switch for crash reports for those that may deal with the end: the monitor, and the next start, because
    /// the monitor may be killed with this process.
    pub fn set_enabled(&self, is_on: bool) {
        if self.is_enabled.replace(is_on) == is_on {
            return;
        }
        let kind = if is_on { Kind::On } else { Kind::Off };
        if let Some(marker) = &self.marker {
            // Where it cannot be written, there is still the monitor.
            let _ = marker.append(Record::of(kind));
        }
        self.say(kind);
    }

    /// A monitor that is gone is found out by the handler, which has another place for its record.
    fn say(&self, kind: Kind) {
        if let Some(monitor) = &self.monitor {
            let _ = tell(monitor, kind, 0);
        }
    }

    /// Says it, and waits briefly until it is done on disk. False where there is no monitor that has taken it: one that hangs in
    /// the disk has the rest in its hands, and this process does not hang there with it.
    fn say_and_wait(&self, monitor: &Monitor, kind: Kind) -> bool {
        let Some(page) = &self.page else { return tell(monitor, kind, 0).is_some() };
        let ticket = page.ticket();
        let deadline = Instant::now() + FAREWELL;
        if tell(monitor, kind, ticket).is_none() {
            return false;
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if page.await_answer(ticket, Stage::Stored, left.min(Duration::from_millis(10))) {
                return true;
            }
            if left.is_zero()
                || (has_hung_up(&monitor.socket) && !page.await_answer(ticket, Stage::Received, Duration::ZERO))
            {
                return page.await_answer(ticket, Stage::Received, Duration::ZERO);
            }
        }
    }
}

fn tell(monitor: &Monitor, kind: Kind, ticket: u32) -> Option<()> {
    let socket = monitor.socket.get()?;
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    send(socket.as_raw_fd(), &Record::of(kind).to_message(ticket, pid), flags).ok().map(drop)
}

fn has_hung_up(socket: &Owned) -> bool {
    let Some(socket) = socket.get() else { return true };
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Whether the parent of this process is a supervisor on the same state directory.
fn is_supervised(dir: &StateDir) -> bool {
    let parent = getppid().as_raw().unsigned_abs();
    let run = marker::of_process(dir, parent, || procfs::stat(parent)).ok().flatten();
    run.is_some_and(|run| run.is_running && run.head.watched == Watched::Supervisor)
}

/// Starts it.
fn start_monitor(
    program: Option<&Path>,
    setup: &Setup,
    is_go_host: bool,
    page: Option<&OwnedFd>,
) -> Result<Monitor, Error> {
    let program = find_monitor(program)?;
    let failed = |what: &str, error: nix::Error| Error::Unsupported(format!("{what}: {error}"));
    let no_socket = |error| failed("no socket for the crash monitor", error);
    let (ours, theirs) =
        descriptor::make_pair(|| socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC))
            .map_err(no_socket)?;
    // The kernel adds its sender to each message: children of the host use the socket too.
    setsockopt(&theirs, PassCred, &true).map_err(no_socket)?;
    let setup = serde_json::to_vec(setup).map_err(|error| Error::Internal(format!("the monitor's setup: {error}")))?;
    if setup.len() > SETUP_BYTES {
        return Err(Error::InvalidConfig(format!(
            "the settings for the crash monitor are longer than {SETUP_BYTES} bytes"
        )));
    }
    send(ours.as_raw_fd(), &setup, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
        .map_err(|error| failed("the crash monitor's setup", error))?;
    // Opened here and inherited: no other process can come to bear this pid meanwhile. Before Linux 5.3 there is none.
    let process = descriptor::make(pidfd::open_self).ok();
    // Neither end waits: what says of which kind the death is comes first, and a stopped monitor must not hold it up.
    let output = is_go_host.then(|| descriptor::make_pair(|| pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK))).transpose();
    let output = output.map_err(|error| failed("no pipe for the crash monitor", error))?;
    let (reader, writer) = output.unzip();
    let path = CString::new(program.as_os_str().as_bytes())
        .map_err(|_| Error::InvalidConfig("monitor_path: it contains a zero byte".to_owned()))?;
    let given = [
        Some(theirs.as_fd()),
        process.as_ref().map(AsFd::as_fd),
        reader.as_ref().map(AsFd::as_fd),
        page.map(AsFd::as_fd),
    ];
    let parked = spawn::spawn_detached(&path, given)?;
    drop(theirs);
    let lost = |error: std::io::Error| {
        failed("a descriptor for the crash monitor", Errno::try_from(error).unwrap_or(Errno::EBADF))
    };
    let socket = Owned::new(ours).map_err(lost)?;
    let crash_output = writer.map(Owned::new).transpose().map_err(lost)?;
    Ok(Monitor { program, socket, crash_output, parked })
}

impl Monitor {
    /// Waits for its word that it watches.
    fn await_ready(self) -> Result<Self, Error> {
        let Err(why) = await_ready(&self.socket) else { return Ok(self) };
        drop(self.socket);
        if let Some(parked) = self.parked {
            parked.reap();
        }
        Err(Error::Unsupported(format!("the crash monitor {} {why}", self.program.display())))
    }
}

/// Waits for the monitor's word that it watches. Why there is none.
fn await_ready(socket: &Owned) -> Result<(), String> {
    let deadline = Instant::now() + READY;
    loop {
        let Some(borrowed) = socket.get() else { return Err("cannot be asked: its socket was closed".to_owned()) };
        let left =
            PollTimeout::try_from(deadline.saturating_duration_since(Instant::now())).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(borrowed, PollFlags::POLLIN)], left) {
            Ok(0) => return Err(format!("did not answer within {} s", READY.as_secs())),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
        let mut bytes = [0; RECORD_BYTES];
        let length = recv(borrowed.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).unwrap_or(0);
        return match Record::from_bytes(&bytes[..length]) {
            Some(record) if record.kind == Kind::Ready => Ok(()),
            _ => Err("ended before it answered: start it by hand to see why".to_owned()),
        };
    }
}

/// Beside the library, then in the usual places for helpers relative to it, then in the system's.
pub fn find_monitor(configured: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = configured {
        return std::path::absolute(path)
            .map_err(|error| Error::InvalidConfig(format!("monitor_path {}: {error}", path.display())));
    }
    let library = library::path();
    let beside = library.as_deref().and_then(Path::parent);
    let relative =
        ["", "../libexec", "../../libexec"].into_iter().filter_map(|place| Some(beside?.join(place).join(MONITOR)));
    let fixed = ["/usr/libexec", "/usr/local/libexec"].into_iter().map(|place| Path::new(place).join(MONITOR));
    relative.chain(fixed).find(|path| path.is_file()).ok_or_else(|| {
        let beside = beside.map(|folder| folder.display().to_string()).unwrap_or_default();
        Error::Unsupported(format!(
            "{MONITOR} was found neither beside the library ({beside}) nor in libexec; set monitor_path"
        ))
    })
}

/// Makes core files possible if only the soft limit prevents them. PR_SET_DUMPABLE stays as it is: a host that has cleared
/// it has secrets in memory.
pub fn allow_core_dumps(state_dir: Option<&StateDir>) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_CORE)
        && soft < hard
    {
        // Raising to the hard limit needs no privilege and cannot fail, setrlimit(2).
        let _ = setrlimit(Resource::RLIMIT_CORE, hard, hard);
    }
    if let Some(dir) = state_dir.filter(|_| cores::are_files())
        && cores::read(dir).is_none()
    {
        // From now on their number is known: none.
        let _ = cores::change(dir, |_| ());
    }
}
