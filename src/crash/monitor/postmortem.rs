//! Makes a report from an ending: decides whether there is one and what it says, stores it first and then sends it. The
//! monitor and the supervisor both use this.

use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ondat_telemetry_protocol::ending::{CoreDump, Ending};
use ondat_telemetry_protocol::event::{Crash, Subject, event};

use super::probe::Probe;
use crate::crash::cores::{self, Core};
use crate::crash::delivery::{self, SENT, Sent, new_event_id, send_event, store_event};
use crate::crash::limit::{self, CrashLimits, LastEnding};
use crate::crash::marker::{self, Head, Leftover, Marker, Watched};
use crate::crash::record::Record;
use crate::crash::sentry::Dsn;
use crate::crash::setup::Setup;
use crate::crash::witness::Witness;
use crate::error::Error;
use crate::follower::following;
use crate::spool::{self, Claim, Spool};
use crate::state::{StateDir, layout};
use crate::switch::Switch;
use crate::switches::{Permit, Switches};
use crate::sys::clock::{Clock, SystemClock, unix_now};
use crate::sys::procfs;
use crate::transport::https::UreqHttps;

/// Everything that is needed to report the ending of one process. The threads of a monitor share it.
pub struct Postmortem {
    setup: Setup,
    /// This process ends with the PID 1 of its namespace, which cannot end while anything in it hangs in a disk: the kernel
    /// waits (pid_namespaces(7)).
    ends_with_pid_1: bool,
    state_dir: Option<StateDir>,
    spool: Spool,
    /// The spool for a state directory that accepts nothing.
    memory: Spool,
    /// Where the process works, as was last seen.
    cwd: Mutex<Option<PathBuf>>,
    /// Off until the administrator's file was read.
    switches: Arc<Switches>,
    /// The limits when the process started, and the probe of the disk: for a PID 1, whose death must not wait for the disk.
    beforehand: OnceLock<(CrashLimits, Option<Probe>)>,
}

/// Everything that is known about how a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// How.
    pub ending: Ending,
    /// The evidence.
    pub witness: Witness,
    /// The record of the process itself, if there is one.
    pub record: Option<Record>,
    /// The cause, if it is known from elsewhere.
    pub class: Option<&'static str>,
    /// It was a child that the watched process had forked.
    pub is_child: bool,
}

impl Death {
    /// The death of the watched process itself.
    pub fn new(ending: Ending, witness: Witness, record: Option<Record>) -> Self {
        Self { ending, witness, record, class: witness.class(), is_child: false }
    }

    /// Whether the kernel says that it has dumped a core.
    pub fn may_have_core(&self) -> bool {
        matches!(self.ending, Ending::Killed { core_dump: CoreDump::Yes, .. })
    }
}

/// The result of dealing with an ending.
pub enum Report<'a> {
    /// No report: no crash, turned off, or held back and remembered.
    None,
    /// The event is stored and may be sent.
    Stored(Claim<'a>),
    /// The event is stored; the server wants nothing for now.
    Paused,
}

/// Treats a stored report as one that the server has.
pub fn keep_delivered(mut claim: Claim<'_>) -> Result<(), Error> {
    let bytes = claim.bytes()?;
    claim.remove_to(SENT, &bytes)
}

impl Postmortem {
    /// Reads nothing yet.
    pub fn new(setup: Setup) -> Self {
        let state_dir = setup.state_dir.as_deref().and_then(|dir| StateDir::open(dir).ok());
        Self::on(state_dir, setup)
    }

    fn on(state_dir: Option<StateDir>, setup: Setup) -> Self {
        let spool = Spool::new(state_dir.as_ref(), layout::CRASHES, spool::CRASHES);
        let memory = Spool::new(None, layout::CRASHES, spool::CRASHES);
        let switches = Switches::unread(setup.host_switches, setup.objections.clone(), state_dir.clone());
        let cwd = Mutex::new(setup.cwd.clone());
        let ends_with_pid_1 = setup.pid == 1 || std::process::id() == 1;
        Self {
            setup,
            ends_with_pid_1,
            state_dir,
            spool,
            memory,
            cwd,
            switches: Arc::new(switches),
            beforehand: OnceLock::new(),
        }
    }

    /// The descriptor of what asks the disk, for a child that closes others.
    pub fn probe(&self) -> Option<RawFd> {
        self.beforehand.get().and_then(|(_, probe)| probe.as_ref()).map(AsRawFd::as_raw_fd)
    }

    /// Whether this process ends with the PID 1 of its namespace.
    pub fn ends_with_pid_1(&self) -> bool {
        self.ends_with_pid_1
    }

    /// Whether the disk may be used for what can be done without it.
    pub fn may_use_disk(&self) -> bool {
        !self.ends_with_pid_1 || self.disk_answers()
    }

    /// The setup that was given when the process started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Marks the run of a supervisor, for the next start, which finds it where both are killed.
    pub fn mark_run(&mut self) -> Result<Option<Marker>, Error> {
        let Some(dir) = &self.state_dir else { return Ok(None) };
        let name = marker::name(&self.setup.component, std::process::id())?;
        let born = procfs::stat(std::process::id());
        let head = Head::new(&self.setup.component, &self.setup.version, born, Watched::Supervisor);
        let marker = Marker::create(dir, name.clone(), head)?;
        self.setup.marker = Some(name);
        Ok(Some(marker))
    }

    /// The record and marker that the process itself has left, if it uses the library below this supervisor.
    pub fn take_own_words(&self) -> Option<Leftover> {
        let dir = self.state_dir.as_ref()?;
        let run = marker::of_process(dir, self.setup.pid, || self.setup.born).ok().flatten()?;
        if run.head.watched != Watched::Supervised {
            return None;
        }
        let leftover = marker::read(dir, &run.name).ok().flatten()?;
        if self.may_use_disk() {
            // A marker that stays is harmless: it is that of the supervised run, which this report covers.
            let _ = marker::remove(dir, &run.name);
        }
        Some(leftover)
    }

    /// Reports under the name that it gave itself.
    pub fn adopt(&mut self, words: &Leftover) {
        self.setup.component.clone_from(&words.component);
        self.setup.version.clone_from(&words.version);
    }

    /// The same for another process of the supervisor's: with its name, where that is known, and nothing of the run.
    pub fn of_another(&self, pid: u32, component: Option<String>) -> Self {
        let is_the_watched = pid == self.setup.pid;
        let component = component.unwrap_or_else(|| self.setup.component.clone());
        let marker = self.setup.marker.clone().filter(|_| is_the_watched);
        let mut other = Self::on(self.state_dir.clone(), Setup { pid, component, marker, ..self.setup.clone() });
        // Asked in a child, which has another pid.
        other.ends_with_pid_1 = self.ends_with_pid_1;
        if let Some(beforehand) = self.beforehand.get() {
            let _ = other.beforehand.set(beforehand.clone());
        }
        other.switches = Arc::clone(&self.switches);
        other
    }

    /// The process is this one.
    pub fn watch(&mut self, pid: u32) {
        self.setup.pid = pid;
        self.setup.born = procfs::stat(pid);
    }

    /// Where the process works now.
    pub fn set_cwd(&self, cwd: PathBuf) {
        *self.cwd.lock().unwrap_or_else(PoisonError::into_inner) = Some(cwd);
    }

    /// The state directory, while it can be used: one that cannot be any more takes nothing away from the upload.
    fn state_dir(&self) -> Option<&StateDir> {
        self.state_dir.as_ref().filter(|dir| dir.problem().is_none())
    }

    /// The event id of the watched process's own report.
    pub fn event_id(&self) -> Result<String, Error> {
        let of_run = self.setup.marker.as_deref().and_then(marker::event_id);
        of_run.map_or_else(new_event_id, |id| Ok(id.to_owned()))
    }

    /// Stores the report of this death, unless there is none. Where it is the watched process's, the run marker is gone
    /// then: the ending is dealt with.
    pub fn store(&self, event_id: &str, death: &Death) -> Result<Report<'_>, Error> {
        if !death.ending.is_crash() || self.permit().is_none() {
            if !death.is_child {
                self.forget_run();
            }
            return Ok(Report::None);
        }
        let now = SystemClock::new().now();
        let crash = self.crash(event_id, death);
        let event = event(&self.subject(), &crash);
        let (event, is_paused) = match self.state_dir() {
            None => (Some(event), false),
            Some(dir) => {
                let last = LastEnding::new(&self.setup.component, &crash, death.witness);
                let change = |limits: &mut CrashLimits| {
                    limits.set_last(last);
                    (limits.admit(event, &now), limits.paused_until(&now) > now.unix)
                };
                limit::change(dir, change).0
            }
        };
        let stored = event.as_ref().map(|event| {
            let stored = store_event(&self.spool, event_id, event);
            stored.or_else(|_| store_event(&self.memory, event_id, event))
        });
        let stored = stored.transpose()?;
        // Held back is remembered as well as stored.
        if !death.is_child {
            self.forget_run();
        }
        Ok(match stored {
            None => Report::None,
            Some(_) if is_paused => Report::Paused,
            Some((claim, _)) => Report::Stored(claim),
        })
    }

    /// Sends the report of this death without touching a disk, within this time: for one that must not be waited for. None
    /// where it may not be sent, by the last word that was read of the administrator.
    pub fn send_from_memory(&self, event_id: &str, death: &Death, timeout: Duration) -> Result<Option<Sent>, Error> {
        if !death.ending.is_crash() {
            return Ok(None);
        }
        let Ok(permit) = self.switches.permit_by_last_word(Switch::CrashReports) else { return Ok(None) };
        let event = event(&self.subject(), &self.crash(event_id, death));
        let (claim, _) = store_event(&self.memory, event_id, &event)?;
        let timeout = timeout.min(Duration::from_millis(self.setup.timeout_ms));
        let post = || self.post(permit, claim, timeout).map(|(sent, _)| Some(sent));
        // Do not look at a disk that does not answer.
        if self.disk_answers() { following(&self.switches, post) } else { post() }
    }

    /// Reads what must be known when the disk does not answer: the administrator's word and, where this process ends with the
    /// one it watches, what was sent of late.
    pub fn read_beforehand(&self) {
        self.permit();
        if let Some(dir) = self.state_dir().filter(|_| self.ends_with_pid_1) {
            let _ = self.beforehand.set((limit::read(dir), Probe::new(dir)));
        }
    }

    /// Reads the administrator's word anew: it may have changed since the process started.
    pub fn read_word(&self) {
        self.permit();
    }

    /// Whether a report may be sent that nothing of is stored yet, as far as was known when the process started.
    pub fn may_send_at_once(&self, event_id: &str, death: &Death) -> bool {
        if self.state_dir.is_none() {
            return true;
        }
        let Some((limits, _)) = self.beforehand.get() else { return false };
        let now = SystemClock::new().now();
        let event = event(&self.subject(), &self.crash(event_id, death));
        limits.paused_until(&now) <= now.unix && limits.clone().admit(event, &now).is_some()
    }

    /// Whether the disk takes changes at the moment; no where it is not known.
    fn disk_answers(&self) -> bool {
        self.beforehand.get().and_then(|(_, probe)| probe.as_ref()).is_some_and(Probe::answers)
    }

    /// Remembers a report that was sent from memory, as if it had been stored before.
    pub fn note_delivered(&self, event_id: &str, death: &Death) {
        if let Ok(Report::Stored(claim)) = self.store(event_id, death) {
            let _ = keep_delivered(claim);
        }
    }

    /// Sends what was stored. What cannot be delivered now stays for the next process on this state directory.
    pub fn send(&self, claim: Claim<'_>) -> Result<Option<Sent>, Error> {
        let Some(permit) = self.permit() else { return Ok(None) };
        let timeout = Duration::from_millis(self.setup.timeout_ms);
        let posted = following(&self.switches, || self.post(permit, claim, timeout));
        if matches!(posted, Err(Error::Disabled(_))) {
            self.purge_what_is_off();
        }
        let (sent, pause) = posted?;
        if self.may_use_disk()
            && let Some(dir) = self.state_dir()
        {
            let now = SystemClock::new().now();
            sent.note(dir, now.unix, None);
            if let Some(pause) = pause {
                let seconds = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
                limit::change(dir, |limits| limits.pause(&now, seconds));
            }
        }
        Ok(Some(sent))
    }

    fn post(&self, permit: Permit, claim: Claim<'_>, timeout: Duration) -> Result<(Sent, Option<Duration>), Error> {
        let dsn = Dsn::parse(&self.setup.dsn).map_err(Error::InvalidConfig)?;
        let https = UreqHttps::new(self.setup.https.clone());
        send_event(&https, permit, &dsn, claim, unix_now(), timeout)
    }

    /// Sends everything that is stored, the oldest first, until something cannot be delivered.
    pub fn send_all(&self) -> Result<(), Error> {
        for spool in [&self.spool, &self.memory] {
            for entry in spool.entries()? {
                let Some(claim) = spool.claim(&entry.name)? else { continue };
                if self.is_paused() || matches!(self.send(claim)?, Some(Sent::Later { .. })) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether anything waits to be sent.
    pub fn has_stored(&self) -> bool {
        self.spool.entries().is_ok_and(|entries| !entries.is_empty())
    }

    fn is_paused(&self) -> bool {
        let now = SystemClock::new().now();
        self.state_dir().is_some_and(|dir| limit::read(dir).paused_until(&now) > now.unix)
    }

    fn permit(&self) -> Option<Permit> {
        // Read anew each time: the administrator may have turned it off meanwhile.
        let permit = self.switches.permit(Switch::CrashReports).ok();
        if permit.is_none() {
            self.purge_what_is_off();
        }
        permit
    }

    /// Removes what is stored if a source says that crash reports are off.
    fn purge_what_is_off(&self) {
        if self.switches.is_said_off(Switch::CrashReports) {
            let _ = self.memory.purge();
            let _ = self.state_dir.as_ref().map(delivery::purge);
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            component: &self.setup.component,
            version: &self.setup.version,
            cluster_id: &self.setup.cluster_id,
            node_id: &self.setup.node_id,
        }
    }

    fn crash<'a>(&self, event_id: &'a str, death: &Death) -> Crash<'a> {
        Crash {
            event_id,
            at: death.record.map_or_else(unix_now, |record| record.at),
            ending: death.ending,
            class: death.class.or_else(|| death.record.and_then(Record::cause)),
            text: None,
            is_child: death.is_child,
        }
    }

    /// Notes down where the core of this ending is, and removes those that are too many.
    pub fn note_core(&self, pid: u32, ending: Ending) -> Option<Core> {
        let cwd = self.cwd.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let core = cores::find(&Setup { pid, cwd, ..self.setup.clone() }, ending)?;
        if let Some(dir) = self.state_dir() {
            // Where it cannot be remembered, it stays.
            let _ = cores::change(dir, |known| known.add(core.clone(), self.setup.cores));
        }
        Some(core)
    }

    /// Writes a record into the run marker, for the next start: this process may end with the one it watches.
    pub fn note(&self, record: Record) {
        if let (Some(dir), Some(name)) = (&self.state_dir, &self.setup.marker) {
            // Where it cannot be written, there is the host's own memory of it, and the report itself.
            let _ = marker::append(dir, name, record);
        }
    }

    /// The run's ending is dealt with: its marker must not be taken for one that is not.
    pub fn forget_run(&self) {
        if let (Some(dir), Some(name)) = (&self.state_dir, &self.setup.marker) {
            // A marker that stays is found at the next start.
            let _ = marker::remove(dir, name);
        }
    }
}
