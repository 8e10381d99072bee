//! The host's side of crash reporting: handler, monitor and run marker of one client.

use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::unistd::{getppid, pipe2};

use super::cores;
use super::handler::{self, CRASH_SIGNALS, GO_SIGNALS};
use super::marker::{self, Head, Marker, Watched};
use super::record::{Kind, Record, SETUP_BYTES, Setup};
use crate::config::Config;
use crate::error::Error;
use crate::memory;
use crate::state::StateDir;
use crate::switches::Switches;
use crate::sys::{altstack, library, pidfd, procfs, spawn};
use crate::version::query::canonical;

/// The host contains a Go runtime.
pub const FLAG_GO_HOST: u32 = 1;
/// Raise the soft limit of core files to the hard one.
pub const FLAG_CORE_DUMPS: u32 = 2;

/// How long PID 1 waits for its report to be sent, in milliseconds, unless the host says otherwise.
pub const PID_1_WAIT_MS: u32 = 2_000;

/// The monitor's program.
const MONITOR: &str = "ondat-telemetry-monitor";

/// The installed crash handler.
pub struct Watch {
    socket: Option<OwnedFd>,
    marker: Option<Marker>,
    /// Where a Go runtime writes when it dies.
    crash_output: Option<OwnedFd>,
    /// The last word on the switch.
    is_enabled: Cell<bool>,
}

/// What came of an installation.
pub struct Installed {
    /// The handler.
    pub watch: Watch,
    /// Why there is no monitor: the handler writes into the run marker then.
    pub why_no_monitor: Option<Error>,
    /// Why there is no run marker: what the monitor does not see is lost then.
    pub complaint: Option<Error>,
}

impl Watch {
    /// Starts the monitor and installs the handler, also where there is only one of monitor and run marker.
    pub fn install(config: &Config, switches: &Switches, dsn: &str, flags: u32) -> Result<Installed, Error> {
        if flags & !(FLAG_GO_HOST | FLAG_CORE_DUMPS) != 0 {
            return Err(Error::InvalidArgument(format!("flags: {flags:#x} has bits that mean nothing")));
        }
        // What may fail comes before there is a monitor to be sent home again.
        altstack::ensure()?;
        let pid = std::process::id();
        let marker = config.state_dir.as_ref().map(|_| marker::name(&config.component, pid)).transpose()?;
        let setup = Setup { marker, ..setup(config, switches, dsn, pid) };
        let mut watch = Self { socket: None, marker: None, crash_output: None, is_enabled: Cell::new(true) };
        let (mut why_no_monitor, mut complaint) = (None, None);
        let watched = if config.state_dir.as_ref().is_some_and(is_supervised) {
            Watched::Supervised
        } else {
            match start_monitor(config, &setup, flags & FLAG_GO_HOST != 0) {
                Ok((socket, crash_output)) => {
                    watch.socket = Some(socket);
                    watch.crash_output = crash_output;
                    Watched::Monitor
                }
                Err(error) => Watched::Nobody(why_no_monitor.insert(error).to_string()),
            }
        };
        if let (Some(dir), Some(name)) = (&config.state_dir, setup.marker) {
            match Marker::create(dir, name, &Head::new(&setup.component, &setup.version, setup.born, watched)) {
                Ok(marker) => watch.marker = Some(marker),
                // Who has a monitor can do without.
                Err(error) if why_no_monitor.is_none() => complaint = Some(error),
                Err(error) => return Err(error),
            }
        }
        if flags & FLAG_CORE_DUMPS != 0 {
            allow_core_dumps(config);
        }
        let signals: Vec<_> = if flags & FLAG_GO_HOST == 0 {
            CRASH_SIGNALS.to_vec()
        } else {
            CRASH_SIGNALS.into_iter().filter(|signal| !GO_SIGNALS.contains(signal)).collect()
        };
        let socket_number = watch.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let marker_number = watch.marker.as_ref().map_or(-1, Marker::descriptor);
        // The kernel kills everything in the namespace of a PID 1 that dies, the monitor too (pid_namespaces(7)).
        let sending_ms = config.crash_wait_ms.unwrap_or(if pid == 1 { PID_1_WAIT_MS } else { 0 });
        if let Err(error) = handler::arm(&signals, socket_number, marker_number, sending_ms) {
            watch.say(Kind::Goodbye);
            watch.remove_marker();
            return Err(error);
        }
        Ok(Installed { watch, why_no_monitor, complaint })
    }

    /// Takes the handler off and sends the monitor home.
    pub fn goodbye(self) {
        handler::disarm();
        self.say(Kind::Goodbye);
        self.remove_marker();
    }

    /// A copy of the descriptor for a Go runtime's crash output.
    pub fn crash_output(&self) -> Result<OwnedFd, Error> {
        let output = self.crash_output.as_ref().ok_or_else(|| {
            Error::Unsupported("no crash monitor was started for a Go host: nobody would read it".to_owned())
        })?;
        output.try_clone().map_err(|error| Error::Unsupported(format!("a descriptor for the crash output: {error}")))
    }

    /// Tells whoever deals with the end what the switch for crash reports has come to: the monitor, and the next start,
    /// for the monitor may be killed with this process.
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

    fn say(&self, kind: Kind) {
        if let Some(socket) = &self.socket {
            // A monitor that is gone is found out by the handler, which has another place for its record.
            let _ =
                send(socket.as_raw_fd(), &Record::of(kind).to_bytes(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        }
    }

    fn remove_marker(self) {
        if let Some(marker) = self.marker {
            // One that cannot be removed is reported once as an unclean ending at the next start.
            let _ = marker.remove();
        }
    }
}

/// Whether the parent of this process is a supervisor on the same state directory.
fn is_supervised(dir: &StateDir) -> bool {
    let parent = getppid().as_raw().unsigned_abs();
    let run = marker::of_process(dir, parent, || procfs::stat(parent)).ok().flatten();
    run.is_some_and(|run| run.is_running && run.head.watched == Watched::Supervisor)
}

/// The socket to it and, for a Go host, where its runtime writes when it dies.
fn start_monitor(config: &Config, setup: &Setup, is_go_host: bool) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
    let program = find_monitor(config.monitor_path.as_deref())?;
    let failed = |what: &str, error: nix::Error| Error::Unsupported(format!("{what}: {error}"));
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|error| failed("no socket for the crash monitor", error))?;
    let setup = serde_json::to_vec(setup).map_err(|error| Error::Internal(format!("the monitor's setup: {error}")))?;
    if setup.len() > SETUP_BYTES {
        return Err(Error::InvalidConfig(format!(
            "the settings for the crash monitor are longer than {SETUP_BYTES} bytes"
        )));
    }
    send(ours.as_raw_fd(), &setup, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
        .map_err(|error| failed("the crash monitor's setup", error))?;
    // Opened here and inherited: no other process can come to bear this pid meanwhile. Before Linux 5.3 there is none.
    let process = pidfd::open_self().ok();
    // Neither end waits: what says of which kind the death is comes first, and a stopped monitor must not hold it up.
    let output = is_go_host.then(|| pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)).transpose();
    let output = output.map_err(|error| failed("no pipe for the crash monitor", error))?;
    let (reader, writer) = output.unzip();
    let path = CString::new(program.as_os_str().as_bytes())
        .map_err(|_| Error::InvalidConfig("monitor_path: it contains a zero byte".to_owned()))?;
    let given = [Some(theirs.as_fd()), process.as_ref().map(AsFd::as_fd), reader.as_ref().map(AsFd::as_fd)];
    spawn::spawn_detached(&path, given)?;
    Ok((ours, writer))
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

/// Makes core files possible where only the soft limit is in the way. PR_SET_DUMPABLE stays what it is: who cleared it
/// has secrets in memory.
pub fn allow_core_dumps(config: &Config) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_CORE)
        && soft < hard
    {
        // Raising to the hard limit needs no privilege and cannot fail, setrlimit(2).
        let _ = setrlimit(Resource::RLIMIT_CORE, hard, hard);
    }
    if let Some(dir) = config.state_dir.as_ref().filter(|_| cores::are_files())
        && memory::cores(dir).is_none()
    {
        // From now on their number is known: none.
        let _ = memory::change_cores(dir, |_| ());
    }
}

/// What the monitor of this process, or its supervisor, is told when it starts.
pub fn setup(config: &Config, switches: &Switches, dsn: &str, pid: u32) -> Setup {
    Setup {
        pid,
        born: procfs::stat(pid),
        component: config.component.clone(),
        version: canonical(&config.version),
        cluster_id: HEXLOWER.encode(&config.cluster),
        node_id: HEXLOWER.encode(&config.node),
        dsn: dsn.to_owned(),
        state_dir: config.state_dir.as_ref().map(|dir| dir.path().to_owned()),
        marker: None,
        https: config.https.clone(),
        timeout_ms: u64::try_from(config.timeout.as_millis()).unwrap_or(u64::MAX),
        host_switches: switches.host(),
        objections: switches.objections().to_vec(),
        cwd: std::env::current_dir().ok(),
        cores: config.cores,
    }
}
