//! One client: it owns settings, switches, spools, memory and worker, and it is what the synchronous calls call.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value};

use crate::config::{self, Callbacks, Config};
use crate::crash::event::{Crash, Subject, event};
use crate::crash::exit::{CoreDump, Ending};
use crate::crash::watch::Watch;
use crate::crash::{marker, sentry, signals};
use crate::error::Error;
use crate::memory::{LastReport, ReportMemory, Told, VersionMemory};
use crate::report::delivery;
use crate::report::document::{Document, Envelope};
use crate::report::fields::Level;
use crate::report::input::{self, Records};
use crate::schedule;
use crate::seal::Sealer;
use crate::spool::{self, Claim, Draft, Spool};
use crate::state::{Folder, NewFile};
use crate::switches::{Switch, Switches};
use crate::transport::dns::{Dns, ResolverDns};
use crate::transport::https::{Https, Request, UreqHttps, rfc3339};
use crate::version::answer::{Answer, Judge};
use crate::version::query::Query;
use crate::version::verdict::Verdict;
use crate::worker::Worker;

/// Takes log lines: a syslog(3) priority and one line.
pub type LogFn = Arc<dyn Fn(i32, &str) + Send + Sync>;
/// Takes news about versions.
pub type VersionFn = Arc<dyn Fn(&VersionInfo) + Send + Sync>;
/// Fills the daily report.
pub type ReportFn = Arc<dyn Fn(&mut Report<'_>) + Send + Sync>;

/// syslog(3) priorities.
pub mod priority {
    /// Something does not work.
    pub const WARNING: i32 = 4;
    /// Somebody should know.
    pub const NOTICE: i32 = 5;
    /// What is going on.
    pub const INFO: i32 = 6;
    /// Details.
    pub const DEBUG: i32 = 7;
}

/// What is known about versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionInfo {
    /// The running version as it was given.
    pub running: String,
    /// The latest version, when known.
    pub latest: Option<String>,
    /// The advisory behind a recommendation.
    pub advisory: Option<String>,
    /// How the running version stands.
    pub verdict: Verdict,
    /// Whether a configured key signed the answer.
    pub authenticated: bool,
    /// Unix seconds of the answer this rests on, 0 when none.
    pub checked_at: i64,
}

/// What surrounds a client: names, servers, time and chance enter here, so that a test can put its own in.
pub struct Surroundings {
    /// DNS.
    pub dns: Box<dyn Dns>,
    /// HTTPS.
    pub https: Box<dyn Https>,
    /// The time.
    pub now: fn() -> SystemTime,
    /// 64 random bits.
    pub random: fn() -> u64,
}

impl Surroundings {
    /// The real ones.
    pub fn of(config: &Config) -> Self {
        Self {
            dns: Box::new(ResolverDns::new(config.nameservers.clone())),
            https: Box::new(UreqHttps::new(config.https.clone())),
            now: SystemTime::now,
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

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// How often `close` looks whether a callback of another thread has returned.
const CALLBACK_POLL: Duration = Duration::from_millis(1);
/// What `close` gives the worker to stop, whatever its timeout: an idle one takes less than a millisecond.
const STOP_GRACE: Duration = Duration::from_millis(20);

/// Runs a host's callback: calls that wait are refused inside it.
pub fn in_callback<T>(callback: impl FnOnce() -> T) -> T {
    let _mark = CallbackMark::set();
    callback()
}

/// Marks the calling thread as inside a host's callback until dropped.
struct CallbackMark {
    before: bool,
}

impl CallbackMark {
    fn set() -> Self {
        Self { before: IN_CALLBACK.replace(true) }
    }
}

impl Drop for CallbackMark {
    fn drop(&mut self) {
        IN_CALLBACK.set(self.before);
    }
}

/// A client. Calls may be made from any thread at any time.
pub struct Client {
    core: Arc<Core>,
    worker: Mutex<Option<Worker>>,
}

/// What the worker's thread and the host's threads share.
pub struct Core {
    config: Config,
    switches: Switches,
    surroundings: Surroundings,
    reports: Spool,
    crashes: Spool,
    version: Mutex<VersionState>,
    report_memory: Mutex<ReportMemory>,
    pacing: Mutex<Pacing>,
    watch: Mutex<Option<Watch>>,
    callbacks: Mutex<Option<Arc<Callbacks>>>,
    is_closing: AtomicBool,
    pid: u32,
    started_at: i64,
}

#[derive(Default)]
struct VersionState {
    told: Told,
    answer: Option<Answer>,
    announced: Option<VersionInfo>,
}

/// When deliveries are tried again.
#[derive(Default)]
struct Pacing {
    reports: Pace,
    crashes: Pace,
}

#[derive(Clone, Copy, Default)]
struct Pace {
    failures: u32,
    not_before: i64,
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
        let switches = Switches::new(config.host_switches, config.objections.clone(), config.state_dir.clone());
        let mut complaints: Vec<String> =
            switches.complaint().into_iter().map(|why| format!("{why}: everything counts as off")).collect();
        let mut version = VersionState::default();
        let mut report_memory = ReportMemory::default();
        if let Some(dir) = state_dir {
            let (memory, damaged) = VersionMemory::load(dir)?;
            complaints.extend(damaged);
            version.told = memory.told.get(&config.version_label).cloned().unwrap_or_default();
            version.answer = remembered_answer(&config, &version.told);
            let damaged;
            (report_memory, damaged) = ReportMemory::load(dir)?;
            complaints.extend(damaged);
        }
        let now = unix_seconds((surroundings.now)());
        let core = Core {
            reports: Spool::new(state_dir, "spool/reports", spool::REPORTS),
            crashes: Spool::new(state_dir, "spool/crashes", spool::CRASHES),
            switches,
            surroundings,
            version: Mutex::new(version),
            report_memory: Mutex::new(report_memory),
            pacing: Mutex::default(),
            watch: Mutex::default(),
            callbacks: Mutex::new(Some(Arc::new(std::mem::take(&mut config.callbacks)))),
            is_closing: AtomicBool::new(false),
            pid: std::process::id(),
            started_at: now,
            config,
        };
        if core.config.state_dir.is_none() {
            core.log(priority::INFO, "no state_dir is set: nothing that is remembered or stored survives a restart");
        }
        for complaint in complaints {
            core.log(priority::WARNING, &complaint);
        }
        core.purge_what_is_off();
        let announced = core.version_info();
        lock(&core.version).announced = Some(announced);
        Ok(Self { core: Arc::new(core), worker: Mutex::default() })
    }

    /// Starts the schedule on a thread of its own.
    pub fn start(&self) -> Result<(), Error> {
        self.core.may_block()?;
        let mut worker = lock(&self.worker);
        if worker.is_some() {
            return Err(Error::InvalidState("already started".to_owned()));
        }
        *worker = Some(Worker::start(Arc::clone(&self.core))?);
        Ok(())
    }

    /// Delivers what is stored for at most this long, stops and lets go of everything. A worker that the network holds
    /// longer is left to end by itself; it calls nothing of the host's any more.
    pub fn close(self, timeout: Duration) {
        if self.core.is_forked() {
            // The worker's thread and the monitor belong to the parent.
            std::mem::forget(self);
            return;
        }
        let deadline = Instant::now() + timeout;
        self.core.is_closing.store(true, Ordering::Release);
        let worker = lock(&self.worker).take();
        if !timeout.is_zero() && !IN_CALLBACK.get() {
            let _ = self.core.deliver_stored(deadline);
        }
        self.core.switches.interrupt_all();
        if let Some(watch) = lock(&self.core.watch).take() {
            watch.goodbye();
        }
        if let Some(worker) = worker {
            worker.stop(deadline.saturating_duration_since(Instant::now()).max(STOP_GRACE));
        }
        if !IN_CALLBACK.get() {
            self.core.drop_callbacks();
        }
    }

    /// What is on, as a mask of bits.
    pub fn switches(&self) -> u32 {
        self.core.switches.on()
    }

    /// Changes the host's word on the switches.
    pub fn set_switches(&self, on: u32) -> Result<(), Error> {
        self.core.may_call()?;
        if on & !Switch::ALL_BITS != 0 {
            return Err(Error::InvalidArgument(format!("switches: {on:#x} has bits that are no switches")));
        }
        let gone_off = self.core.switches.set_host(on);
        self.core.after_switching(&gone_off);
        self.wake();
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
        let outcome = self.core.check_version(timeout);
        self.wake();
        outcome
    }

    /// What is known, without asking.
    pub fn latest_version(&self) -> VersionInfo {
        self.core.version_info()
    }

    /// Sends the report of the day.
    pub fn submit_report(&self, json: &[u8], timeout: Duration) -> Result<(), Error> {
        self.core.may_block()?;
        let outcome = self.core.make_report(|report| input::read_document(json, report), timeout);
        self.wake();
        outcome
    }

    /// The plaintext of that report, byte for byte what would be sealed.
    pub fn preview_report(&self, json: &[u8]) -> Result<Vec<u8>, Error> {
        self.core.may_call()?;
        let mut document = self.core.document(Vec::new());
        input::read_document(json, &mut document)?;
        document.finish()
    }

    /// Installs signal handlers and starts the monitor. `flags` as in the C interface.
    pub fn install_crash_handler(&self, flags: u32) -> Result<(), Error> {
        self.core.may_block()?;
        let mut watch = lock(&self.core.watch);
        if watch.is_some() {
            return Err(Error::InvalidState("the crash handler is already installed".to_owned()));
        }
        drop(self.core.switches.permit(Switch::CrashReports)?);
        self.core.dsn()?;
        self.core.report_leftovers()?;
        let dsn = self.core.dsn()?.to_string();
        let (installed, why_no_monitor) = Watch::install(&self.core.config, &self.core.switches, &dsn, flags)?;
        *watch = Some(installed);
        drop(watch);
        self.wake();
        match why_no_monitor {
            None => Ok(()),
            Some(error) => {
                let line = format!("{error}; crashes are stored and reported at the next start");
                self.core.log(priority::WARNING, &line);
                Err(Error::Unsupported(line))
            }
        }
    }

    /// Reports how a child ended. Stored at once; the network is the worker's business.
    pub fn report_exit(&self, component: &str, wait_status: i32, description: Option<&str>) -> Result<(), Error> {
        self.core.may_call()?;
        let component =
            config::component(component).map_err(|why| Error::InvalidArgument(format!("component: {why}")))?;
        let ending = Ending::from_wait_status(wait_status).ok_or_else(|| {
            Error::InvalidArgument(format!("wait_status {wait_status:#x} is not that of a process that has ended"))
        })?;
        if !ending.is_crash() {
            return Ok(());
        }
        drop(self.core.switches.permit(Switch::CrashReports)?);
        self.core.dsn()?;
        let version = crate::version::query::canonical(&self.core.config.version);
        let crash = Crash { event_id: &new_event_id()?, at: self.core.now(), ending, class: None, text: description };
        self.core.store_crash(&component, &version, &crash)?;
        self.wake();
        Ok(())
    }

    /// Delivers what is stored, now.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        self.core.may_block()?;
        self.core.deliver_stored(Instant::now() + timeout)
    }

    fn wake(&self) {
        if let Some(worker) = lock(&self.worker).as_ref() {
            worker.wake();
        }
    }
}

impl Core {
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

    /// The time in Unix seconds.
    pub fn now(&self) -> i64 {
        unix_seconds((self.surroundings.now)())
    }

    fn is_forked(&self) -> bool {
        std::process::id() != self.pid
    }

    fn may_call(&self) -> Result<(), Error> {
        if self.is_forked() {
            return Err(Error::InvalidState(
                "called in a forked child: a client belongs to the process that made it".to_owned(),
            ));
        }
        Ok(())
    }

    fn may_block(&self) -> Result<(), Error> {
        self.may_call()?;
        if IN_CALLBACK.get() {
            return Err(Error::InvalidState("called from a callback, which must return instead of waiting".to_owned()));
        }
        Ok(())
    }

    fn dsn(&self) -> Result<&sentry::Dsn, Error> {
        let dsn = self.config.sentry_dsn.as_ref();
        dsn.ok_or_else(|| {
            Error::InvalidConfig("sentry_dsn is not set: there is nobody to report crashes to".to_owned())
        })
    }

    /// Follows the administrator's file.
    pub fn refresh_switches(&self) {
        let (gone_off, complaint) = self.switches.refresh();
        if let Some(why) = complaint {
            self.log(priority::WARNING, &format!("{why}: everything counts as off"));
        }
        self.after_switching(&gone_off);
    }

    fn after_switching(&self, gone_off: &[Switch]) {
        for switch in gone_off {
            self.log(priority::NOTICE, &format!("{} is off; what was stored for it is removed", switch.name()));
        }
        self.purge_what_is_off();
        if let Some(watch) = lock(&self.watch).as_ref() {
            watch.set_enabled(self.switches.is_on(Switch::CrashReports));
        }
    }

    fn purge_what_is_off(&self) {
        for (switch, spool) in [(Switch::DailyReport, &self.reports), (Switch::CrashReports, &self.crashes)] {
            if !self.switches.is_on(switch)
                && let Err(error) = spool.purge()
            {
                self.log(priority::WARNING, &format!("{} is off, but {error}", switch.name()));
            }
        }
    }

    // ---- version check ----

    /// Asks the zone and remembers the answer.
    pub fn check_version(&self, timeout: Duration) -> Result<VersionInfo, Error> {
        let zone = self.config.version_zone.as_deref();
        let zone =
            zone.ok_or_else(|| Error::InvalidConfig("version_zone is not set: there is nobody to ask".to_owned()))?;
        let permit = self.switches.permit(Switch::VersionCheck)?;
        let now = self.now();
        self.note_version(now, |told| {
            // Noted before asking, so that a process that dies while asking does not ask again at once.
            told.failures += 1;
            told.next_due = Some(schedule::version_check_retry(now, told.failures, (self.surroundings.random)()));
        });
        let query = Query {
            cluster: self.config.cluster,
            node: self.config.node,
            day: u16::try_from(schedule::day(now)).unwrap_or(0),
            version: self.config.version_label.clone(),
        };
        let texts = self.surroundings.dns.txt(permit, &query.name(zone), timeout)?;
        let newest_issued = lock(&self.version).answer.as_ref().map_or(0, |answer| answer.issued);
        let judge = Judge { now: self.now(), newest_issued, ..self.judge(zone) };
        let (answer, text) = judge.first_acceptable(&texts)?;
        lock(&self.version).answer = Some(answer);
        self.note_version(now, |told| {
            *told = Told {
                zone: zone.to_owned(),
                answer: Some(text),
                checked_at: now,
                next_due: Some(schedule::next_version_check(now, self.config.slot)),
                failures: 0,
            };
        });
        self.announce_version();
        Ok(self.version_info())
    }

    fn judge<'a>(&'a self, zone: &'a str) -> Judge<'a> {
        judge(&self.config, zone)
    }

    /// Changes what is remembered, in memory and on disk, where other versions' entries stay.
    fn note_version(&self, now: i64, change: impl FnOnce(&mut Told)) {
        let mut version = lock(&self.version);
        change(&mut version.told);
        let Some(dir) = &self.config.state_dir else { return };
        let stored = VersionMemory::load(dir).and_then(|(mut memory, _)| {
            memory.told.insert(self.config.version_label.clone(), version.told.clone());
            memory.store(dir)
        });
        drop(version);
        if let Err(error) = stored {
            self.log(priority::WARNING, &format!("the version check of {now} is not remembered: {error}"));
        }
    }

    fn version_info(&self) -> VersionInfo {
        let version = lock(&self.version);
        let running = self.config.version_text.clone();
        let Some(answer) = &version.answer else { return VersionInfo { running, ..VersionInfo::default() } };
        let mut verdict = Verdict::of(&self.config.version, answer);
        if verdict == Verdict::Current && answer.expires <= self.now() {
            verdict = Verdict::Unknown;
        }
        VersionInfo {
            running,
            latest: Some(answer.latest.to_string()),
            advisory: answer.advisory.clone(),
            verdict,
            authenticated: answer.authenticated,
            checked_at: version.told.checked_at,
        }
    }

    fn announce_version(&self) {
        let info = self.version_info();
        let before = lock(&self.version).announced.replace(info.clone());
        let is_news = before.is_none_or(|before| (before.verdict, &before.latest) != (info.verdict, &info.latest));
        if !is_news {
            self.log(priority::DEBUG, "version check: nothing new");
            return;
        }
        let advisory = info.advisory.as_deref().map(|advisory| format!(", advisory {advisory}")).unwrap_or_default();
        let latest = info.latest.as_deref().unwrap_or("unknown");
        let line = match info.verdict {
            Verdict::Unknown | Verdict::Current => {
                format!("version {} is running, the latest is {latest}: {}", info.running, info.verdict.as_str())
            }
            _ => format!(
                "a newer version is available: {latest}, running {}: {}{advisory}",
                info.running,
                info.verdict.as_str()
            ),
        };
        self.log(priority::NOTICE, &line);
        let callbacks = self.callbacks();
        if let Some(on_version) = callbacks.as_ref().and_then(|callbacks| callbacks.on_version.as_ref()) {
            in_callback(|| on_version(&info));
        }
    }

    /// When the version check is due; none while nobody can be asked.
    pub fn version_check_due(&self) -> Option<i64> {
        if self.config.version_zone.is_none() || !self.switches.is_on(Switch::VersionCheck) {
            return None;
        }
        let mut version = lock(&self.version);
        let due = version.told.next_due;
        // The first one of this process is drawn once and kept in memory.
        let drawn = schedule::first_version_check(self.now(), due, (self.surroundings.random)());
        let due = due.filter(|due| *due <= drawn).unwrap_or(drawn);
        version.told.next_due = Some(due);
        Some(due)
    }

    // ---- daily report ----

    fn document<W: Write>(&self, out: W) -> Document<W> {
        let day = self.today();
        let envelope = Envelope { id: self.config.identity.report_id(&day), day };
        let mut defaults = Map::new();
        let is_off = |switch| Value::Bool(!self.switches.is_on(switch));
        defaults.insert("cluster_disable_crash_reporting".to_owned(), is_off(Switch::CrashReports));
        defaults.insert("cluster_disable_version_check".to_owned(), is_off(Switch::VersionCheck));
        if let Some(distribution) = &self.config.k8s_distribution {
            defaults.insert("k8s_distribution".to_owned(), distribution.as_str().into());
        }
        Document::new(out, &self.config.identity, envelope, defaults)
    }

    fn today(&self) -> String {
        rfc3339((self.surroundings.now)())[..10].to_owned()
    }

    /// Makes, stores and delivers the report of the day.
    fn make_report(
        &self,
        fill: impl FnOnce(&mut Report<'_>) -> Result<(), Error>,
        timeout: Duration,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let claim = self.store_report(fill)?;
        self.deliver_report(claim, deadline)
    }

    fn store_report(&self, fill: impl FnOnce(&mut Report<'_>) -> Result<(), Error>) -> Result<Claim<'_>, Error> {
        drop(self.switches.permit(Switch::DailyReport)?);
        if self.config.report_url.is_none() {
            return Err(Error::InvalidConfig("report_url is not set: there is nobody to report to".to_owned()));
        }
        let _lock = self.report_lock()?;
        let now = self.now();
        let day = schedule::day(now);
        self.refuse_second_report(day)?;
        let keys = self.config.report_keys.as_ref().and_then(|keys| keys.current(now));
        let key =
            keys.ok_or_else(|| Error::InvalidConfig("report_keys: no key is valid now; nothing was sent".to_owned()))?;
        let id = self.config.identity.report_id(&self.today());
        let day_number = u16::try_from(day).unwrap_or(0);
        let sealer = Sealer::new(self.reports.create()?, key, id, day_number);
        let audit = self.sent_folder().map(|folder| folder.create()).transpose()?;
        let sealing = Sealing { audit, gzip: GzEncoder::new(sealer, Compression::default()) };
        let mut report = Report { document: self.document(sealing) };
        fill(&mut report)?;
        let Sealing { audit, gzip } = report.document.finish()?;
        let sealed = gzip
            .finish()
            .and_then(Sealer::finish)
            .map_err(|error| Error::Io(format!("storing the report: {error}")))?;
        let name = format!("{}-{}", self.today(), HEXLOWER.encode(&id));
        let (claim, dropped) = sealed.commit(&format!("{name}.otr"))?;
        if dropped > 0 {
            self.log(priority::WARNING, &format!("{dropped} undelivered reports were dropped: the spool is full"));
        }
        self.note_report(LastReport { day, delivered_at: None });
        if let Some(audit) = audit {
            audit.commit(&format!("{name}.jsonl"))?;
            self.keep_last_sent()?;
        }
        Ok(claim)
    }

    /// Held while a report is made: several processes on one state directory make one.
    fn report_lock(&self) -> Result<Option<impl Drop + use<>>, Error> {
        let Some(dir) = &self.config.state_dir else { return Ok(None) };
        let lock = dir.root().lock("report.lock")?;
        let lock =
            lock.ok_or_else(|| Error::InvalidState("another process is making the report of the day".to_owned()))?;
        Ok(Some(lock))
    }

    fn refuse_second_report(&self, day: i64) -> Result<(), Error> {
        let Some(last) = self.last_report()? else { return Ok(()) };
        if last.day < day || last.day > day + 2 {
            return Ok(());
        }
        let midnight = UNIX_EPOCH + Duration::from_secs(u64::try_from((last.day + 1) * schedule::DAY).unwrap_or(0));
        let what = match last.delivered_at {
            Some(at) => format!(
                "was delivered at {}",
                rfc3339(UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0)))
            ),
            None => "is already stored for delivery".to_owned(),
        };
        Err(Error::InvalidState(format!(
            "the report of this UTC day {what}; the next is due after {}",
            rfc3339(midnight)
        )))
    }

    /// The last report of this cluster, by any process on the state directory.
    fn last_report(&self) -> Result<Option<LastReport>, Error> {
        let mut memory = lock(&self.report_memory);
        if let Some(dir) = &self.config.state_dir {
            *memory = ReportMemory::load(dir)?.0;
        }
        Ok(memory.last.get(&HEXLOWER.encode(&self.config.cluster)).cloned())
    }

    fn note_report(&self, last: LastReport) {
        let mut memory = lock(&self.report_memory);
        memory.last.insert(HEXLOWER.encode(&self.config.cluster), last);
        let stored = self.config.state_dir.as_ref().map_or(Ok(()), |dir| memory.store(dir));
        drop(memory);
        if let Err(error) = stored {
            self.log(priority::WARNING, &format!("the day of the report is not remembered: {error}"));
        }
    }

    /// The report of the day was refused: another may be sent.
    fn forget_report(&self) {
        self.note_report(LastReport { day: schedule::day(self.now()) - 1, delivered_at: None });
    }

    fn sent_folder(&self) -> Option<Folder> {
        self.config.state_dir.as_ref().map(|dir| dir.folder("sent"))
    }

    /// The administrator finds the last 7 plaintexts.
    fn keep_last_sent(&self) -> Result<(), Error> {
        let Some(folder) = self.sent_folder() else { return Ok(()) };
        let entries = folder.entries()?;
        for entry in entries.iter().take(entries.len().saturating_sub(spool::REPORTS.items)) {
            folder.remove(&entry.name)?;
        }
        Ok(())
    }

    fn deliver_report(&self, mut claim: Claim<'_>, deadline: Instant) -> Result<(), Error> {
        let Some(url) = &self.config.report_url else { return Ok(()) };
        let id = claim.name().rsplit_once('-').map_or("", |(_, id)| id).trim_end_matches(".otr").to_owned();
        let permit = self.switches.permit(Switch::DailyReport)?;
        let request = Request {
            method: "PUT",
            url: &url.join(&format!("v1/reports/{id}")),
            headers: &[("Content-Type", "application/vnd.ondat.telemetry-report")],
            content: claim.content()?,
            timeout: self.time_left(deadline)?,
        };
        let answer = match self.surroundings.https.send(permit, &request) {
            Ok(answer) => answer,
            Err(error @ Error::Disabled(_)) => {
                self.purge_what_is_off();
                return Err(error);
            }
            Err(error) => return Err(self.queue_report(0, &error.to_string())),
        };
        match delivery::outcome(&answer) {
            delivery::Outcome::Delivered => {
                claim.remove()?;
                lock(&self.pacing).reports = Pace::default();
                let now = self.now();
                self.note_report(LastReport { day: schedule::day(now), delivered_at: Some(now) });
                self.log(priority::INFO, &format!("daily report {id} delivered to {url}"));
                Ok(())
            }
            delivery::Outcome::Rejected => {
                claim.remove()?;
                self.forget_report();
                self.slow_down(|pacing| &mut pacing.reports, 0);
                let error = Error::Refused(format!(
                    "{url} refused the report for good (HTTP {}); it is dropped",
                    answer.status
                ));
                self.log(priority::WARNING, &error.to_string());
                Err(error)
            }
            delivery::Outcome::Later(wait) => Err(self.queue_report(
                i64::try_from(wait.as_secs()).unwrap_or(0),
                &format!("{url} answered HTTP {}", answer.status),
            )),
            delivery::Outcome::Middlebox => {
                let why = format!("HTTP {} that is not from the collector, for {url}", answer.status);
                Err(self.queue_report(6 * 3600, &why))
            }
        }
    }

    fn queue_report(&self, at_least: i64, why: &str) -> Error {
        let wait = self.slow_down(|pacing| &mut pacing.reports, at_least);
        Error::Queued(format!("the report is stored and tried again in {wait} s: {why}"))
    }

    fn slow_down(&self, pace: impl FnOnce(&mut Pacing) -> &mut Pace, at_least: i64) -> i64 {
        let mut pacing = lock(&self.pacing);
        let pace = pace(&mut pacing);
        pace.failures = pace.failures.saturating_add(1);
        let wait = schedule::delivery_retry(pace.failures, (self.surroundings.random)()).max(at_least);
        pace.not_before = self.now() + wait;
        wait
    }

    fn time_left(&self, deadline: Instant) -> Result<Duration, Error> {
        let left = deadline.saturating_duration_since(Instant::now()).min(self.config.timeout);
        if left.is_zero() {
            Err(Error::TimedOut("no time was left to deliver it; it stays stored".to_owned()))
        } else {
            Ok(left)
        }
    }

    /// Lets the host fill the report of the day and delivers it.
    pub fn make_scheduled_report(&self) {
        let Some(callbacks) = self.callbacks() else { return };
        let Some(on_report) = &callbacks.on_report else { return };
        let outcome = self.make_report(
            |report| {
                in_callback(|| on_report(report));
                Ok(())
            },
            self.config.timeout,
        );
        match outcome {
            Ok(()) | Err(Error::Disabled(_)) => {}
            Err(error) => {
                self.slow_down(|pacing| &mut pacing.reports, 0);
                self.log(priority::INFO, &format!("daily report: {error}"));
            }
        }
    }

    /// When the daily report is due; none while there is nobody to fill it or to take it.
    pub fn report_due(&self) -> Option<i64> {
        let has_filler = self.callbacks().is_some_and(|callbacks| callbacks.on_report.is_some());
        let has_all = has_filler && self.config.report_url.is_some();
        if !has_all || !self.switches.is_on(Switch::DailyReport) {
            return None;
        }
        let last = self.last_report().ok().flatten().map(|last| last.day);
        // One draw a process and a day: the due time must not move while it is waited for.
        let random = u64::from(self.pid).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
        let due = schedule::next_report(self.now(), self.started_at, self.config.slot, last, random);
        Some(due.max(lock(&self.pacing).reports.not_before))
    }

    // ---- crashes ----

    /// Stores what earlier runs on this state directory left behind.
    fn report_leftovers(&self) -> Result<(), Error> {
        let Some(dir) = &self.config.state_dir else { return Ok(()) };
        for leftover in marker::take_leftovers(dir)? {
            let record = leftover.record;
            let ending = record.map_or(Ending::Unknown, |record| Ending::Killed {
                signal: record.signal,
                core_dump: CoreDump::Unknown,
            });
            let class = record.and_then(|record| signals::cause(record.signal, record.code));
            let at = record.map_or_else(|| self.now(), |record| record.at);
            self.store_crash(
                &leftover.component,
                &leftover.version,
                &Crash { event_id: &new_event_id()?, at, ending, class, text: None },
            )?;
        }
        Ok(())
    }

    fn store_crash(&self, component: &str, version: &str, crash: &Crash<'_>) -> Result<(), Error> {
        let cluster_id = HEXLOWER.encode(&self.config.cluster);
        let node_id = HEXLOWER.encode(&self.config.node);
        let subject = Subject { component, version, cluster_id: &cluster_id, node_id: &node_id };
        let dropped = store_event(&self.crashes, crash.event_id, &event(&subject, crash))?.1;
        if dropped > 0 {
            self.log(
                priority::WARNING,
                &format!("{dropped} undelivered crash reports were dropped: the spool is full"),
            );
        }
        Ok(())
    }

    fn deliver_crash(&self, claim: Claim<'_>, deadline: Instant) -> Result<(), Error> {
        let permit = self.switches.permit(Switch::CrashReports)?;
        let timeout = self.time_left(deadline)?;
        let now = (self.surroundings.now)();
        match send_event(&*self.surroundings.https, permit, self.dsn()?, claim, now, timeout) {
            Ok(Sent::Delivered) => {
                lock(&self.pacing).crashes = Pace::default();
                self.log(priority::INFO, "crash report delivered");
                Ok(())
            }
            Ok(Sent::Dropped(why)) => {
                self.log(priority::WARNING, &why);
                Ok(())
            }
            Ok(Sent::Later { at_least, why }) => {
                let wait = self.slow_down(|pacing| &mut pacing.crashes, i64::try_from(at_least.as_secs()).unwrap_or(0));
                Err(Error::Queued(format!("the crash report is stored and tried again in {wait} s: {why}")))
            }
            Err(error @ Error::Disabled(_)) => {
                self.purge_what_is_off();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    // ---- everything stored ----

    /// Delivers what is stored, oldest first, until the deadline. [`Error::Queued`] when something is left.
    fn deliver_stored(&self, deadline: Instant) -> Result<(), Error> {
        self.deliver(deadline, true, true)
    }

    fn deliver(&self, deadline: Instant, crashes: bool, reports: bool) -> Result<(), Error> {
        let mut failure = None;
        for entry in self.stored(&self.crashes, crashes && self.config.sentry_dsn.is_some())? {
            if let Some(claim) = self.crashes.claim(&entry)?
                && let Err(error) = self.deliver_crash(claim, deadline)
            {
                failure = Some(error);
                break;
            }
        }
        for entry in self.stored(&self.reports, reports && self.config.report_url.is_some())? {
            if let Some(claim) = self.reports.claim(&entry)?
                && let Err(error) = self.deliver_report(claim, deadline)
                && !matches!(error, Error::Refused(_))
            {
                failure = Some(error);
                break;
            }
        }
        match failure {
            None => Ok(()),
            Some(error @ (Error::Disabled(_) | Error::Queued(_))) => Err(error),
            Some(error) => Err(Error::Queued(format!("something is still stored: {error}"))),
        }
    }

    fn stored(&self, spool: &Spool, has_receiver: bool) -> Result<Vec<String>, Error> {
        if !has_receiver {
            return Ok(Vec::new());
        }
        Ok(spool.entries()?.into_iter().map(|entry| entry.name).collect())
    }

    /// When something stored is to be tried; none when nothing is stored.
    pub fn delivery_due(&self) -> Option<i64> {
        let pacing = lock(&self.pacing);
        let due = |spool: &Spool, has_receiver: bool, switch: Switch, pace: Pace| {
            let is_waiting =
                self.switches.is_on(switch) && self.stored(spool, has_receiver).is_ok_and(|names| !names.is_empty());
            is_waiting.then_some(pace.not_before)
        };
        let reports = due(&self.reports, self.config.report_url.is_some(), Switch::DailyReport, pacing.reports);
        let crashes = due(&self.crashes, self.config.sentry_dsn.is_some(), Switch::CrashReports, pacing.crashes);
        reports.into_iter().chain(crashes).min()
    }

    /// Tries everything stored once, but for what has to wait.
    pub fn deliver_due(&self) {
        let deadline = Instant::now() + self.config.timeout.saturating_mul(4);
        let now = self.now();
        let (crashes, reports) = {
            let pacing = lock(&self.pacing);
            (pacing.crashes.not_before <= now, pacing.reports.not_before <= now)
        };
        if let Err(error) = self.deliver(deadline, crashes, reports) {
            // Also when the failure came before a server was asked: nothing is retried without a pause.
            let mut pacing = lock(&self.pacing);
            let soonest = self.now() + 60;
            pacing.reports.not_before = pacing.reports.not_before.max(soonest);
            pacing.crashes.not_before = pacing.crashes.not_before.max(soonest);
            drop(pacing);
            self.log(priority::DEBUG, &error.to_string());
        }
    }

    /// Whether `close` has begun.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}

/// The report in the making, inside the report callback.
pub struct Report<'a> {
    document: Document<Sealing<'a>>,
}

impl Report<'_> {
    /// Sets the cluster fields from one JSON object.
    pub fn set_cluster_json(&mut self, json: &[u8]) -> Result<(), Error> {
        self.document.set_cluster(input::read_object(json)?)
    }

    /// Adds one node or volume from one JSON object.
    pub fn add_json(&mut self, level: Level, json: &[u8]) -> Result<(), Error> {
        self.document.add(level, input::read_object(json)?)
    }
}

impl Records for Report<'_> {
    fn set_cluster(&mut self, fields: Map<String, Value>) -> Result<(), Error> {
        self.document.set_cluster(fields)
    }

    fn add(&mut self, level: Level, record: Map<String, Value>) -> Result<(), Error> {
        self.document.add(level, record)
    }
}

/// Where a report's plaintext goes: into the administrator's copy and, compressed and sealed, into the spool.
struct Sealing<'a> {
    audit: Option<NewFile>,
    gzip: GzEncoder<Sealer<Draft<'a>>>,
}

impl Write for Sealing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(audit) = &mut self.audit {
            audit.write_all(bytes)?;
        }
        self.gzip.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What became of a crash report.
pub enum Sent {
    /// The server has it.
    Delivered,
    /// It will never be sent; why.
    Dropped(String),
    /// It stays stored.
    Later {
        /// What the server asked to wait.
        at_least: Duration,
        /// Why.
        why: String,
    },
}

/// A new random event id: a version 4 UUID without dashes.
pub fn new_event_id() -> Result<String, Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Error::Internal(format!("no randomness for an event id: {error}")))?;
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    Ok(HEXLOWER.encode(&id))
}

/// Makes a crash event durable and claims it. Also how many older ones had to go.
pub fn store_event<'a>(spool: &'a Spool, event_id: &str, event: &Value) -> Result<(Claim<'a>, usize), Error> {
    let mut draft = spool.create()?;
    draft
        .write_all(event.to_string().as_bytes())
        .map_err(|error| Error::Io(format!("storing a crash report: {error}")))?;
    draft.commit(&format!("{event_id}.json"))
}

/// Posts a stored crash event; the monitor and the worker do it alike.
pub fn send_event(
    https: &dyn Https,
    permit: crate::switches::Permit,
    dsn: &sentry::Dsn,
    mut claim: Claim<'_>,
    now: SystemTime,
    timeout: Duration,
) -> Result<Sent, Error> {
    let Ok(envelope) = sentry::envelope(&claim.bytes()?, &rfc3339(now)) else {
        let why = format!("the stored crash report {} is damaged and set aside", claim.name());
        claim.set_aside()?;
        return Ok(Sent::Dropped(why));
    };
    let url = dsn.endpoint().to_string();
    let request = Request {
        method: "POST",
        url: &url,
        headers: &[("Content-Type", "application/x-sentry-envelope"), ("X-Sentry-Auth", &dsn.auth())],
        content: crate::transport::https::Content::Bytes(&envelope),
        timeout,
    };
    let answer = match https.send(permit, &request) {
        Ok(answer) => answer,
        Err(error @ Error::Disabled(_)) => return Err(error),
        Err(error) => return Ok(Sent::Later { at_least: Duration::ZERO, why: error.to_string() }),
    };
    match sentry::outcome(&answer) {
        sentry::Outcome::Delivered => {
            claim.remove()?;
            Ok(Sent::Delivered)
        }
        sentry::Outcome::Rejected => {
            claim.remove()?;
            Ok(Sent::Dropped(format!(
                "{url} refused the crash report for good (HTTP {}); it is dropped",
                answer.status
            )))
        }
        sentry::Outcome::Later(at_least) => {
            Ok(Sent::Later { at_least, why: format!("{url} answered HTTP {}", answer.status) })
        }
    }
}

fn judge<'a>(config: &'a Config, zone: &'a str) -> Judge<'a> {
    Judge { zone, version_label: &config.version_label, keys: &config.version_keys, now: 0, newest_issued: 0 }
}

/// The answer of an earlier run, judged anew by the keys of today at the time when it came.
fn remembered_answer(config: &Config, told: &Told) -> Option<Answer> {
    let zone = config.version_zone.as_deref().filter(|zone| *zone == told.zone)?;
    let text = told.answer.as_ref()?.clone().into_bytes();
    let judge = Judge { now: told.checked_at, ..judge(config, zone) };
    judge.first_acceptable(&[text]).ok().map(|(answer, _)| answer)
}

fn unix_seconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held is reported as INTERNAL where it happened; what it guards is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
