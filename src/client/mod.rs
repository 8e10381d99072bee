//! One client: it owns settings, switches, spools, memory and worker, and implements the synchronous calls.

mod crash;
mod delivery;
mod disk;
mod jobs;
mod next;
mod report;
mod switching;
mod version;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::callbacks::{Callbacks, VersionInfo, in_callback, is_in_callback, priority};
use crate::config::Config;
use crate::crash::delivery::new_event_id;
use crate::crash::host::watch::{Farewell, Host, Watch};
use crate::crash::limit::CrashLimits;
use crate::crash::marker::Marker;
use crate::crash::sentry;
use crate::crash::witness::Witness;
use crate::error::Error;
use crate::lane::Lane;
use crate::presence::{Presence, Process};
use crate::report::memory::{ReportMemory, Try};
use crate::schedule::{self, Pace, Timer};
use crate::spool::{self, Spool};
use crate::state::layout;
use crate::state::lock::until;
use crate::switch::Switch;
use crate::switches::Switches;
use crate::sys::clock::{Clock, Moment, SystemClock};
use crate::sys::fork::Birthplace;
use crate::sys::library::{self, Whose};
use crate::transport::dns::{Dns, ResolverDns};
use crate::transport::https::{Https, UreqHttps};
use crate::version::memory::VersionMemory;
use crate::worker::{Jobs, Worker};
use ondat_telemetry_protocol::document;
use ondat_telemetry_protocol::ending::Ending;
use ondat_telemetry_protocol::event::Crash;
use ondat_telemetry_protocol::query::canonical;

/// What surrounds a client: names, servers, time and chance enter here, so that a test can put its own in.
pub struct Surroundings {
    /// DNS.
    pub dns: Box<dyn Dns>,
    /// HTTPS.
    pub https: Box<dyn Https>,
    /// The time.
    pub clock: Box<dyn Clock>,
    /// 64 random bits.
    pub random: fn() -> u64,
}

impl Surroundings {
    /// The real ones.
    pub fn of(config: &Config) -> Self {
        Self {
            dns: Box::new(ResolverDns::new(config.given.https.nameservers.clone())),
            https: Box::new(UreqHttps::new(config.given.https.clone())),
            clock: Box::new(SystemClock::new()),
            random,
        }
    }
}

fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // Only jitter hangs on it: the clock's low digits do where the kernel has no randomness yet.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// How often `close` looks whether a callback of another thread has returned.
const CALLBACK_POLL: Duration = Duration::from_millis(1);

/// What `close` gives the worker to stop, and the crash handler and the disk to let go of this process, whatever its timeout:
/// all of it takes about a millisecond on a machine that is not busy.
const STOP_GRACE: Duration = Duration::from_millis(100);
/// How long after its deadline a delivery is waited for to say what is left.
const ANSWER_GRACE: Duration = Duration::from_millis(10);
/// Why every call of a client fails in a child of its process.
pub const IN_FORKED_CHILD: &str = "called in a forked child: a client belongs to the process that made it";

/// Whether a process has been announced before.
#[derive(Clone, Copy)]
enum Announcing {
    First,
    /// Where it has.
    Again,
}

/// A client. Calls may be made from any thread at any time.
pub struct Client {
    core: Arc<Core>,
}

/// The state that the worker's thread and the host's threads share.
pub struct Core {
    config: Config,
    switches: Arc<Switches>,
    /// The switches that were on when the log last mentioned them, as a mask of bits.
    said_on: AtomicU32,
    surroundings: Surroundings,
    reports: Spool,
    crashes: Spool,
    version: Mutex<version::Known>,
    /// Held while what is known about versions is read from disk, changed and written.
    version_turn: Mutex<()>,
    reports_known: Mutex<report::ReportsKnown>,
    /// The pace of delivering crash reports; that of daily reports is remembered with them.
    crash_pace: Mutex<Pace>,
    /// Whether the worker is delivering, and when that changes.
    delivering: (Mutex<bool>, Condvar),
    /// What is remembered of crash reports without a state directory.
    crash_limits: Mutex<CrashLimits>,
    /// The pace of making daily reports.
    making_pace: Mutex<Pace>,
    watch: Mutex<Option<Watch>>,
    /// The file about this process that other programs read, from `start` on.
    presence: Mutex<Option<Presence>>,
    /// The socket at which it is asked for its next report.
    door: Mutex<next::Door>,
    callbacks: Mutex<Option<Arc<Callbacks>>>,
    is_closing: AtomicBool,
    is_notice_given: AtomicBool,
    /// Why the state directory cannot be used, as was last said.
    disk_problem: Mutex<Option<String>>,
    worker: Mutex<Option<Worker>>,
    /// For what has to do with the disk in calls that must not wait for it.
    lane: Lane,
    birthplace: Birthplace,
    started: Moment,
    /// 64 random bits, one draw of this process: what hangs on chance must not move while it is waited for.
    chance: u64,
}

impl Client {
    /// A client with these settings. No thread, no network.
    pub fn new(config: Config) -> Result<Self, Error> {
        let surroundings = Surroundings::of(&config);
        Self::with_surroundings(config, surroundings)
    }

    /// A client in these surroundings.
    pub fn with_surroundings(mut config: Config, surroundings: Surroundings) -> Result<Self, Error> {
        let state_dir = config.state_dir.clone();
        let state_dir = state_dir.as_ref();
        // Without it everything works but memory: a daemon does not stay down for the sake of its telemetry.
        let disk_problem = state_dir.and_then(|dir| dir.make().err()).map(|why| why.to_string());
        let switches =
            Arc::new(Switches::new(config.host_switches, config.objections.clone(), config.state_dir.clone()));
        let mut complaints: Vec<String> = disk_problem.as_deref().map(Core::without_disk).into_iter().collect();
        complaints.extend(switches.complaint().map(|why| format!("{why}: everything counts as off")));
        complaints.extend(std::mem::take(&mut config.given.notes));
        let mut version_memory = VersionMemory::default();
        let mut report_memory = ReportMemory::default();
        if let Some(dir) = state_dir {
            let mut remember = |damaged: Result<Option<String>, Error>| match damaged {
                Ok(damaged) => complaints.extend(damaged),
                Err(error) if disk_problem.is_none() => {
                    complaints.push(format!("what is remembered is not known: {error}"))
                }
                Err(_) => {}
            };
            remember(VersionMemory::load(dir).map(|(memory, damaged)| {
                version_memory = memory;
                damaged
            }));
            remember(ReportMemory::load(dir).map(|(memory, damaged)| {
                report_memory = memory;
                damaged
            }));
        }
        let started = surroundings.clock.now();
        let chance = (surroundings.random)();
        let at_start =
            Timer { since: started.clone(), wait: schedule::version_check_at_start((surroundings.random)()) };
        let (known, disbelieved) = version::Known::recall(&config, &version_memory, at_start);
        complaints.extend(disbelieved);
        let core = Core {
            reports: Spool::new(state_dir, layout::REPORTS, spool::REPORTS),
            crashes: Spool::new(state_dir, layout::CRASHES, spool::CRASHES),
            said_on: AtomicU32::new(switches.on()),
            switches,
            surroundings,
            version: Mutex::new(known),
            version_turn: Mutex::default(),
            reports_known: Mutex::new(report::ReportsKnown { memory: report_memory, is_unsaved: false }),
            crash_pace: Mutex::default(),
            delivering: Default::default(),
            crash_limits: Mutex::default(),
            making_pace: Mutex::default(),
            watch: Mutex::default(),
            presence: Mutex::default(),
            door: Mutex::default(),
            callbacks: Mutex::new(Some(Arc::new(std::mem::take(&mut config.callbacks)))),
            is_closing: AtomicBool::new(false),
            is_notice_given: AtomicBool::new(false),
            disk_problem: Mutex::new(disk_problem),
            worker: Mutex::default(),
            lane: Lane::default(),
            birthplace: Birthplace::new(),
            started,
            chance,
            config,
        };
        if core.config.state_dir.is_none() {
            core.log(priority::INFO, "no state_dir is set: nothing that is remembered or stored survives a restart");
        }
        for complaint in complaints {
            core.log(priority::WARNING, &complaint);
        }
        core.say_what_disk_lacks();
        core.purge_what_is_off();
        core.hold_announced();
        Ok(Self { core: Arc::new(core) })
    }

    /// The client of this core: the C interface has nothing but the core in its hands.
    pub fn of(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// What it is made of.
    pub fn into_core(self) -> Arc<Core> {
        self.core
    }

    /// Starts the schedule on a thread of its own.
    pub fn start(&self) -> Result<(), Error> {
        self.core.may_block()?;
        let mut worker = lock(&self.core.worker);
        if self.core.is_closing() {
            return Err(Error::InvalidState("already closed".to_owned()));
        }
        if worker.is_some() {
            return Err(Error::InvalidState("already started".to_owned()));
        }
        self.core.announce_newer_again();
        *worker = Some(Worker::start(self.core.jobs())?);
        drop(worker);
        let core = Arc::clone(&self.core);
        self.core.without_waiting_for_the_disk(move || {
            core.announce(Announcing::First);
            core.keep_door(false);
            core.wake();
            core.keep_reserve();
            Ok(())
        });
        Ok(())
    }

    /// Does what is due, as the schedule's thread does it, and says when the next thing will be, in Unix seconds: for
    /// callers that schedule the work themselves instead of [`start`](Self::start).
    pub fn work(&self) -> Result<Option<i64>, Error> {
        self.core.may_block()?;
        Ok(self.core.work())
    }

    /// Delivers what is stored for at most this long, stops and lets go of everything. A worker that the network or the disk
    /// holds longer is left to end by itself; it calls nothing of the host's any more. In a callback it only marks the
    /// client: the thread that runs the callback goes on to its end, and frees what is left then.
    pub fn close(self, timeout: Duration) {
        if self.core.is_forked() {
            // The worker's thread and the monitor belong to the parent.
            std::mem::forget(self);
            return;
        }
        let deadline = Instant::now() + timeout;
        self.core.begin_closing();
        if is_in_callback() {
            if let Some(worker) = lock(&self.core.worker).take() {
                worker.leave();
            }
            let callbacks = lock(&self.core.callbacks).take();
            // Freed by the last thread that runs one.
            drop(callbacks);
            return;
        }
        if !timeout.is_zero() {
            let _ = self.core.deliver_within(timeout);
        }
        self.core.switches.interrupt_all();
        let deadline = deadline.max(Instant::now() + STOP_GRACE);
        let left = || deadline.saturating_duration_since(Instant::now());
        // A thread that holds them may be waiting for the disk. Start a thread only if something on the disk is to be removed.
        let is_held = self.core.watch.try_lock().is_err() || self.core.presence.try_lock().is_err();
        let left_behind = if is_held { None } else { self.core.take_off_watch() };
        let is_on_disk = is_held || left_behind.is_some() || lock(&self.core.presence).is_some();
        if self.core.config.state_dir.is_none() {
            self.core.let_go(left_behind);
        } else if is_on_disk {
            let core = Arc::clone(&self.core);
            let _ = Lane::default().run(left(), move || {
                core.let_go(left_behind);
                Ok(())
            });
        }
        let worker = lock(&self.core.worker).take();
        if let Some(worker) = worker {
            worker.stop(left());
        }
        self.core.drop_callbacks();
    }

    /// What is on, as a mask of bits.
    pub fn switches(&self) -> u32 {
        self.core.switches_here()
    }

    /// Changes the host's word on the switches.
    pub fn set_switches(&self, on: u32) -> Result<(), Error> {
        self.core.may_call()?;
        if on & !Switch::ALL_BITS != 0 {
            return Err(Error::InvalidArgument(format!("switches: {on:#x} has bits that are no switches")));
        }
        self.core.switches.set_host(on);
        let core = Arc::clone(&self.core);
        let done = self.core.without_waiting_for_the_disk(move || {
            core.after_switching();
            core.announce(Announcing::Again);
            core.keep_reserve();
            Ok(())
        });
        self.wake();
        if let Some(done) = done {
            return done;
        }
        // They are switched all the same: what is off is neither sent nor stored.
        self.core.log(priority::WARNING, "the state directory does not answer: what is stored is removed when it does");
        Ok(())
    }

    /// Each switch, on or off, and by which sources.
    pub fn explain_switches(&self) -> Value {
        self.core.refresh_switches();
        self.core.switches.explain()
    }

    /// Asks now.
    pub fn check_version(&self, timeout: Duration) -> Result<VersionInfo, Error> {
        self.core.may_block()?;
        let outcome = until(Instant::now() + timeout, || self.core.check_version(timeout));
        self.wake();
        outcome
    }

    /// What is known, without asking.
    pub fn latest_version(&self) -> VersionInfo {
        self.core.version_info()
    }

    /// Runs a callback that a call was given, unless another one has closed the client meanwhile.
    pub fn call_back(&self, callback: impl FnOnce()) {
        if !self.core.is_closing() {
            in_callback(callback);
        }
    }

    /// Sends the report of the day.
    pub fn submit_report(&self, json: &[u8], timeout: Duration) -> Result<(), Error> {
        self.core.may_block()?;
        let make = || self.core.make_report(&|mut report| Ok(document::read_document(json, &mut report)?), timeout);
        let outcome = until(Instant::now() + timeout, make);
        self.wake();
        outcome
    }

    /// The last tries to deliver reports, by all processes on the state directory.
    pub fn tries(&self) -> Vec<Try> {
        self.core.report_memory().tries
    }

    /// The plaintext of that report, byte for byte what would be sealed.
    pub fn preview_report(&self, json: &[u8]) -> Result<Vec<u8>, Error> {
        self.core.may_call()?;
        self.core.preview(json)
    }

    /// Installs signal handlers and starts the monitor. `flags` as in the C interface.
    pub fn install_crash_handler(&self, flags: u32) -> Result<(), Error> {
        self.core.may_block()?;
        drop(self.core.permit(Switch::CrashReports)?);
        let dsn = self.core.dsn()?.to_string();
        // Old markers that cannot be read are no reason to leave this run unwatched.
        if let Err(error) = self.core.report_leftovers() {
            self.core.complain_of_disk(&format!("earlier runs are not looked at: {error}"));
        }
        let mut watch = lock(&self.core.watch);
        if watch.is_some() {
            return Err(Error::InvalidState("the crash handler is already installed".to_owned()));
        }
        let config = &self.core.config;
        let host = Host {
            setup: config.crash_setup(&self.core.switches, &dsn, std::process::id()),
            state_dir: config.state_dir.as_ref(),
            monitor_path: config.given.monitor_path.as_deref(),
            wait_ms: config.given.crash_wait_ms,
        };
        let installed = Watch::install(host, flags)?;
        *watch = Some(installed.watch);
        drop(watch);
        if let Some(error) = installed.complaint {
            let line = format!("{error}: a crash is lost where the crash monitor is killed too");
            self.core.log(priority::WARNING, &line);
        }
        if let Some(error) = installed.why_no_stack {
            let line = format!("{error}: of a stack that is used up, crash reports do not tell the cause");
            self.core.log(priority::WARNING, &line);
        }
        library::give_back(Whose::Library);
        self.wake();
        match installed.why_no_monitor {
            None => Ok(()),
            Some(error) => {
                let line = format!("{error}; crashes are stored and reported at the next start");
                self.core.log(priority::WARNING, &line);
                Err(Error::Unsupported(line))
            }
        }
    }

    /// A descriptor for what a Go runtime writes when it dies.
    pub fn crash_output(&self) -> Result<OwnedFd, Error> {
        self.core.may_call()?;
        let watch = lock(&self.core.watch);
        let watch =
            watch.as_ref().ok_or_else(|| Error::InvalidState("the crash handler is not installed".to_owned()))?;
        watch.crash_output()
    }

    /// Stores what earlier runs on this state directory have left behind, as installing the crash handler does.
    pub fn report_leftovers(&self) -> Result<(), Error> {
        self.core.may_call()?;
        drop(self.core.permit(Switch::CrashReports)?);
        self.core.report_leftovers()
    }

    /// Reports how a child ended. Stored at once; the network is the worker's business. Where the disk does not answer, it is
    /// kept in memory until that does: [`Error::Io`] where no worker runs, which would deliver it then.
    pub fn report_exit(&self, component: &str, wait_status: i32, description: Option<&str>) -> Result<(), Error> {
        self.core.may_call()?;
        let component = ondat_telemetry_protocol::identity::component(component)
            .map_err(|why| Error::InvalidArgument(format!("component: {why}")))?;
        let ending = Ending::from_wait_status(wait_status).ok_or_else(|| {
            Error::InvalidArgument(format!("wait_status {wait_status:#x} is not that of a process that has ended"))
        })?;
        if !ending.is_crash() {
            return Ok(());
        }
        let core = Arc::clone(&self.core);
        let text = description.map(str::to_owned);
        let stored = self.core.without_waiting_for_the_disk(move || {
            drop(core.permit(Switch::CrashReports)?);
            core.dsn()?;
            let version = canonical(&core.config.version);
            let (event_id, at, text) = (&new_event_id()?, core.now(), text.as_deref());
            let crash = Crash { event_id, at, ending, class: None, text, is_child: false };
            core.store_crash(&component, &version, Witness::Parent, &crash)?;
            core.wake();
            Ok(())
        });
        if let Some(stored) = stored {
            return stored;
        }
        let dir = self.core.config.state_dir.as_ref().map(|dir| dir.given().display().to_string()).unwrap_or_default();
        let line = format!(
            "state_dir {dir} does not answer: the crash report is kept in memory until it does; look at the disk"
        );
        if !self.core.has_worker() {
            return Err(Error::Io(line));
        }
        self.core.log(priority::WARNING, &line);
        Ok(())
    }

    /// Delivers what is stored, now.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        self.core.may_block()?;
        self.core.deliver_within(timeout)
    }

    /// Delivers what is stored for one switch, now. [`Error::Queued`] when something is left.
    pub fn deliver(&self, switch: Switch, deadline: Instant) -> Result<(), Error> {
        self.core.may_block()?;
        until(deadline, || self.core.deliver(switch, deadline))
    }

    fn wake(&self) {
        self.core.wake();
    }
}

impl Core {
    fn jobs(self: &Arc<Self>) -> Arc<dyn Jobs> {
        Arc::<Self>::clone(self)
    }

    fn wake(self: &Arc<Self>) {
        if let Some(worker) = lock(&self.worker).as_mut() {
            worker.wake(&self.jobs());
        }
    }

    /// Delivers what is stored, and returns when time is up, also where the disk does not answer.
    fn deliver_within(self: &Arc<Self>, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        if self.config.state_dir.is_none() {
            return until(deadline, || self.deliver_stored(deadline));
        }
        let no_answer =
            || Error::Queued("the state directory does not answer: what waits for it is not delivered".to_owned());
        // What an earlier call could not wait for counts as stored.
        if !self.lane.wait_until_idle(timeout) {
            return Err(no_answer());
        }
        let core = Arc::clone(self);
        // Its own word on what is left comes just after the deadline.
        let left = deadline.saturating_duration_since(Instant::now()) + ANSWER_GRACE;
        let delivered = Lane::default().run(left, move || until(deadline, || core.deliver_stored(deadline)));
        delivered.unwrap_or_else(|| Err(no_answer()))
    }

    /// Takes the crash handler off, without touching a disk. What is left there to be removed.
    fn take_off_watch(&self) -> Option<Marker> {
        let watch = lock(&self.watch).take()?;
        match watch.goodbye() {
            Farewell::Left(marker) => marker,
            Farewell::Cleared => {
                if let Some(presence) = lock(&self.presence).take() {
                    presence.leave();
                }
                None
            }
        }
    }

    /// Removes what the next start and other programs would read of this process.
    fn let_go(&self, left_behind: Option<Marker>) {
        for marker in left_behind.into_iter().chain(self.take_off_watch()) {
            let _ = marker.remove();
        }
        let presence = lock(&self.presence).take();
        self.shut_door();
        drop(presence);
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Hands a line to the host's log.
    pub fn log(&self, priority: i32, line: &str) {
        let callbacks = self.callbacks();
        if let Some((most_verbose, log)) = callbacks.as_ref().and_then(|callbacks| callbacks.log.as_ref())
            && priority <= *most_verbose
        {
            in_callback(|| log(priority, line));
        }
    }

    fn callbacks(&self) -> Option<Arc<Callbacks>> {
        lock(&self.callbacks).clone()
    }

    /// Lets no callback begin any more, waits for those that run, and frees their userdata.
    fn drop_callbacks(&self) {
        let Some(mut callbacks) = lock(&self.callbacks).take() else { return };
        // A thread that runs one holds a copy until it returns, which it must.
        while let Err(shared) = Arc::try_unwrap(callbacks) {
            callbacks = shared;
            std::thread::sleep(CALLBACK_POLL);
        }
    }

    /// Says to `status` and the page that this process lives, and what it says of the switches.
    fn announce(&self, when: Announcing) {
        let Some(dir) = &self.config.state_dir else { return };
        let mut presence = lock(&self.presence);
        let mut process = self.process();
        process.settings = self.config.shown();
        let announced = match (presence.as_ref(), when) {
            (Some(presence), _) => presence.say(&process),
            (None, Announcing::First) => Presence::announce(dir, &process).map(|new| *presence = Some(new)),
            (None, Announcing::Again) => Ok(()),
        };
        // Not held while the host's code runs, which may change the switches.
        drop(presence);
        if let Err(error) = announced {
            self.log(priority::INFO, &format!("`ondat-telemetry status` does not show this process: {error}"));
        }
    }

    fn process(&self) -> Process {
        let off = self.switches.own_objections();
        Process::new(&self.config.component, &canonical(&self.config.version), self.now(), off)
    }

    /// The time in Unix seconds.
    pub fn now(&self) -> i64 {
        self.moment().unix
    }

    /// Marks the client as closing. False where it was.
    pub fn begin_closing(&self) -> bool {
        !self.is_closing.swap(true, Ordering::AcqRel)
    }

    /// Whether `close` has begun.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Whether this is a child of the process that made the client. No system call, no lock.
    pub fn is_forked(&self) -> bool {
        self.birthplace.is_elsewhere()
    }

    fn may_call(&self) -> Result<(), Error> {
        if self.is_forked() {
            return Err(Error::InvalidState(IN_FORKED_CHILD.to_owned()));
        }
        Ok(())
    }

    fn may_block(&self) -> Result<(), Error> {
        self.may_call()?;
        if is_in_callback() {
            return Err(Error::InvalidState("called from a callback, which must return instead of waiting".to_owned()));
        }
        Ok(())
    }

    fn dsn(&self) -> Result<&sentry::Dsn, Error> {
        let dsn = self.config.given.sentry_dsn.as_ref();
        dsn.ok_or_else(|| {
            Error::InvalidConfig("sentry_dsn is not set: there is nobody to report crashes to".to_owned())
        })
    }

    /// Whether something retries later what could not be delivered.
    fn has_worker(&self) -> bool {
        lock(&self.worker).is_some()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // After a close in a callback, the thread that ran the callback comes here at its end.
        if self.is_closing() && !self.is_forked() {
            self.let_go(None);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held is reported as INTERNAL where it happened; what it guards is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
