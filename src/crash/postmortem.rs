//! From an ending to a report: whether there is one, what it says, stored first and sent then. The monitor and the
//! supervisor do it alike.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::cores::{self, Core};
use super::delivery::{Sent, new_event_id, send_event, store_event};
use super::event::{Crash, Subject, event};
use super::exit::Ending;
use super::marker::{self, Head, Leftover, Marker, Watched};
use super::record::{Record, Setup};
use super::sentry::Dsn;
use crate::error::Error;
use crate::memory;
use crate::spool::{self, Claim, Spool};
use crate::state::StateDir;
use crate::switches::{Permit, Switch, Switches};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::procfs;
use crate::transport::https::UreqHttps;

const FOLDER: &str = "spool/crashes";

/// What is needed to report the ending of one process.
pub struct Postmortem {
    setup: Setup,
    state_dir: Option<StateDir>,
    spool: Spool,
    /// Where the state directory takes nothing.
    memory: Spool,
    /// How many processes of the cgroup the kernel had killed for memory when it began.
    oom_kills: Option<u64>,
}

/// What became of an ending.
pub enum Report<'a> {
    /// No report: no crash, turned off, or held back and remembered.
    None,
    /// The event is stored and may be sent.
    Stored(Claim<'a>),
    /// The event is stored; the server wants nothing for now.
    Paused,
}

impl Postmortem {
    /// Begins to watch for kills for the memory limit, from now on.
    pub fn new(setup: Setup) -> Self {
        let state_dir = setup.state_dir.as_deref().and_then(|dir| StateDir::open(dir).ok());
        let spool = Spool::new(state_dir.as_ref(), FOLDER, spool::CRASHES);
        let memory = Spool::new(None, FOLDER, spool::CRASHES);
        Self { setup, state_dir, spool, memory, oom_kills: procfs::oom_kills() }
    }

    /// What was said when the process started.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Marks the run of a supervisor, for the next start, which finds it where both are killed.
    pub fn mark_run(&mut self) -> Result<Option<Marker>, Error> {
        let Some(dir) = &self.state_dir else { return Ok(None) };
        let name = marker::name(&self.setup.component, std::process::id())?;
        let born = procfs::stat(std::process::id());
        let head = Head::new(&self.setup.component, &self.setup.version, born, Watched::Supervisor);
        let marker = Marker::create(dir, name.clone(), &head)?;
        self.setup.marker = Some(name);
        Ok(Some(marker))
    }

    /// What the process itself has left behind, where it uses the library below this supervisor.
    pub fn take_own_words(&mut self) -> Option<Leftover> {
        let dir = self.state_dir.as_ref()?;
        let run = marker::of_process(dir, self.setup.pid, || self.setup.born).ok().flatten()?;
        if run.head.watched != Watched::Supervised {
            return None;
        }
        let leftover = marker::take(dir, &run.name).ok().flatten()?;
        self.setup.component.clone_from(&leftover.component);
        self.setup.version.clone_from(&leftover.version);
        Some(leftover)
    }

    /// The process is this one.
    pub fn watch(&mut self, pid: u32) {
        self.setup.pid = pid;
        self.setup.born = procfs::stat(pid);
    }

    /// Where the process works now.
    pub fn set_cwd(&mut self, cwd: PathBuf) {
        self.setup.cwd = Some(cwd);
    }

    /// The state directory, while it can be used: one that cannot be any more takes nothing away from the upload.
    fn state_dir(&self) -> Option<&StateDir> {
        self.state_dir.as_ref().filter(|dir| StateDir::open(dir.path()).is_ok())
    }

    /// Stores the report of this ending, unless there is none. The run marker is gone then: the ending is dealt with.
    pub fn store(&self, ending: Ending, record: Option<Record>) -> Result<Report<'_>, Error> {
        if !ending.is_crash() || self.permit().is_none() {
            self.forget_run();
            return Ok(Report::None);
        }
        let of_run = self.setup.marker.as_deref().and_then(marker::event_id);
        let event_id = of_run.map_or_else(new_event_id, |id| Ok(id.to_owned()))?;
        let now = SystemClock::new().now();
        let event = self.event(&event_id, ending, record);
        let (event, is_paused) = match self.state_dir() {
            None => (Some(event), false),
            Some(dir) => {
                let change = |limits: &mut super::limit::CrashLimits| {
                    (limits.admit(event, &now), limits.paused_until(&now) > now.unix)
                };
                memory::change_crash_limits(dir, change).0
            }
        };
        let stored = event.as_ref().map(|event| {
            let stored = store_event(&self.spool, &event_id, event);
            stored.or_else(|_| store_event(&self.memory, &event_id, event))
        });
        let stored = stored.transpose()?;
        // Held back is remembered as well as stored.
        self.forget_run();
        Ok(match stored {
            None => Report::None,
            Some(_) if is_paused => Report::Paused,
            Some((claim, _)) => Report::Stored(claim),
        })
    }

    /// Sends what was stored. What cannot be delivered now stays for the next process on this state directory.
    pub fn send(&self, claim: Claim<'_>) -> Result<Option<Sent>, Error> {
        let Some(permit) = self.permit() else { return Ok(None) };
        let dsn = Dsn::parse(&self.setup.dsn).map_err(Error::InvalidConfig)?;
        let https = UreqHttps::new(self.setup.https.clone());
        let timeout = Duration::from_millis(self.setup.timeout_ms);
        let (sent, pause) = send_event(&https, permit, &dsn, claim, SystemTime::now(), timeout)?;
        if let (Some(dir), Some(pause)) = (self.state_dir(), pause) {
            let seconds = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX);
            memory::change_crash_limits(dir, |limits| limits.pause(&SystemClock::new().now(), seconds));
        }
        Ok(Some(sent))
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
        self.state_dir().is_some_and(|dir| memory::crash_limits(dir).paused_until(&now) > now.unix)
    }

    fn permit(&self) -> Option<Permit> {
        // Read anew each time: the administrator may have turned it off meanwhile.
        let switches =
            Switches::new(self.setup.host_switches, self.setup.objections.clone(), self.state_dir().cloned());
        switches.permit(Switch::CrashReports).ok()
    }

    fn event(&self, event_id: &str, ending: Ending, record: Option<Record>) -> serde_json::Value {
        let subject = Subject {
            component: &self.setup.component,
            version: &self.setup.version,
            cluster_id: &self.setup.cluster_id,
            node_id: &self.setup.node_id,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let crash = Crash {
            event_id,
            at: record.map_or(now, |record| record.at),
            ending,
            class: match ending {
                Ending::Killed { signal: libc::SIGKILL, .. } if self.has_met_memory_limit() => Some("memory limit"),
                _ => record.and_then(Record::cause),
            },
            text: None,
        };
        event(&subject, &crash)
    }

    /// Whether the kernel has killed for the memory limit of the cgroup, which the process and this one share, since
    /// it was first watched.
    fn has_met_memory_limit(&self) -> bool {
        matches!((self.oom_kills, procfs::oom_kills()), (Some(before), Some(now)) if now > before)
    }

    /// Notes down where the core of this ending is, and removes those that are too many.
    pub fn note_core(&self, ending: Ending) -> Option<Core> {
        let core = cores::find(&self.setup, ending)?;
        if let Some(dir) = self.state_dir() {
            // Where it cannot be remembered, it stays.
            let _ = memory::change_cores(dir, |known| known.add(core.clone(), self.setup.cores));
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
            // One that stays is found at the next start.
            let _ = marker::remove(dir, name);
        }
    }
}
