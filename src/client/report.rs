//! The daily report of a client.

use std::io::{self, BufWriter, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use flate2::Compression;
use flate2::write::GzEncoder;
use ondat_telemetry_protocol::buffer::Buffer;
use ondat_telemetry_protocol::document::{self, Records};
use ondat_telemetry_protocol::fault::Fault;
use ondat_telemetry_protocol::fields::Level;
use ondat_telemetry_protocol::keys::SealKey;
use ondat_telemetry_protocol::plaintext::writer::{Heading, OwnNode, Writer};
use ondat_telemetry_protocol::seal::Sealer;
use ondat_telemetry_protocol::time::{date, rfc3339};
use serde_json::{Map, Value, json};

use super::{Core, IN_FORKED_CHILD, lock};
use crate::ask::Asker;
use crate::callbacks::{Filling, Report, in_callback, priority};
use crate::crash::cores;
use crate::error::Error;
use crate::report::memory::{MadeReport, ReportMemory};
use crate::schedule::{self, Pace};
use crate::spool::{self, Claim, Draft};
use crate::state::lock::Lock;
use crate::state::{Folder, NewFile, layout};
use crate::switch::Switch;
use crate::sys::clock::Moment;

/// How much of the administrator's copy of a report is written at once, in bytes.
const AUDIT_BYTES: usize = 64 * 1024;
/// The most bytes of these copies together.
const COPIES_BYTES: u64 = 64 << 20;

impl Core {
    /// An empty report of the UTC day of `now`.
    fn document<'a>(&'a self, out: Paper<'a>, now: i64) -> Writer<Paper<'a>> {
        let day = date(now);
        let heading = Heading { id: self.config.identity.report_id(&day), day };
        let mut defaults = Map::new();
        let is_off = |switch| Value::Bool(!self.switches.is_on(switch));
        defaults.insert("cluster_disable_crash_reporting".to_owned(), is_off(Switch::CrashReports));
        defaults.insert("cluster_disable_version_check".to_owned(), is_off(Switch::VersionCheck));
        if let Some(distribution) = &self.config.k8s_distribution {
            defaults.insert("k8s_distribution".to_owned(), distribution.as_str().into());
        }
        let cores = self.config.state_dir.as_ref().and_then(cores::read);
        let crash_files = cores.map(|cores| cores.present().count() as u64);
        let own_node = OwnNode { id: self.config.node, crash_files };
        Writer::new(out, &self.config.identity, heading, defaults, own_node)
    }

    /// Makes, stores and delivers the report of the day.
    pub(super) fn make_report(&self, fill: &Fill<'_>, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        let claim = self.store_report(fill).inspect_err(|error| {
            // A failure of a command says nothing about the daemons.
            if self.has_worker() {
                self.note_outcome(Switch::DailyReport, Some(error), None);
            }
        })?;
        let (name, day) = (claim.name().to_owned(), schedule::day(self.now()));
        let is_kept = self.config.state_dir.is_none() || claim.is_on_disk() || self.has_worker();
        match self.deliver_report(claim, deadline) {
            // It would be lost with this process, and nothing retries before.
            Err(Error::Queued(why)) if !is_kept => {
                self.reports.claim(&name)?.map_or(Ok(()), Claim::remove)?;
                self.change_reports(|memory| memory.forget(&self.cluster_id(), day));
                let disk = lock(&self.disk_problem).clone();
                let disk = disk.unwrap_or_else(|| "the state directory takes no report".to_owned());
                Err(Error::Io(format!("{disk}; the report is not kept, and not delivered: {why}")))
            }
            delivered => delivered,
        }
    }

    fn store_report(&self, fill: &Fill<'_>) -> Result<Claim<'_>, Error> {
        drop(self.permit(Switch::DailyReport)?);
        self.look_at_disk();
        self.has_collector()?;
        let _lock = self.report_lock()?;
        let made_at = self.moment();
        let now = made_at.unix;
        let day = schedule::day(now);
        self.refuse_second_report(&made_at)?;
        // Before anything is made on the disk.
        self.seal_key(now)?;
        let (audit, sealed) = self.seal_report(now, self.new_report(), self.new_copy(), None, fill)?;
        let id = self.config.identity.report_id(&date(now));
        let name = format!("{}-{}", date(now), HEXLOWER.encode(&id));
        // First the copy: whenever this process dies, what leaves the machine is in the administrator's hands.
        let copy = audit.map_or(Ok(None), |audit| audit.publish(&name, &HEXLOWER.encode(&id)));
        let kept = copy.as_ref().map_err(Error::clone).and_then(|_| self.keep_last_sent());
        let committed = sealed.commit(&format!("{name}.otr"));
        if committed.is_err()
            && let (Ok(Some(copy)), Some(folder)) = (&copy, self.sent_folder())
        {
            folder.remove(copy)?;
        }
        let (claim, dropped) = committed?;
        if dropped > 0 {
            self.log(priority::WARNING, &format!("{dropped} undelivered reports were dropped: the spool is full"));
        }
        let made = MadeReport { day, at: made_at, delivered_at: None };
        self.change_reports(|memory| memory.note_made(&self.cluster_id(), made));
        self.note_outcome(Switch::DailyReport, None, None);
        // The report itself is stored: it goes its way.
        if let Err(error) = kept {
            self.complain_of_disk(&format!("the administrator's copy of the report is not kept: {error}"));
        }
        Ok(claim)
    }

    pub(super) fn has_collector(&self) -> Result<(), Error> {
        let url = self.config.given.report_url.as_ref().map(drop);
        url.ok_or_else(|| Error::InvalidConfig("report_url is not set: there is nobody to report to".to_owned()))
    }

    fn seal_key(&self, now: i64) -> Result<&SealKey, Error> {
        let key = self.config.given.report_keys.as_ref().and_then(|keys| keys.current(now));
        key.ok_or_else(|| Error::InvalidConfig("report_keys: no key is valid now; nothing was sent".to_owned()))
    }

    /// Has a report of the UTC day of `now` filled, and seals it into `draft`.
    pub(super) fn seal_report<'a>(
        &'a self,
        now: i64,
        draft: Draft<'a>,
        audit: Option<AuditCopy>,
        asker: Option<&'a Asker>,
        fill: &Fill<'_>,
    ) -> Result<(Option<AuditCopy>, Draft<'a>), Error> {
        let id = self.config.identity.report_id(&date(now));
        let day = u16::try_from(schedule::day(now)).unwrap_or(0);
        let packed = Packed { asker, sealer: Sealer::new(draft, self.seal_key(now)?, id, day) };
        let sealing = Sealing { audit, gzip: GzEncoder::new(packed, Compression::new(4)) };
        let written = self.write_report(now, Paper::Sealed(Box::new(sealing)), asker.is_some(), fill)?;
        let Paper::Sealed(sealing) = written else { return Err(other_paper()) };
        let Sealing { audit, gzip } = *sealing;
        let sealed = gzip.finish().and_then(|packed| packed.sealer.finish());
        Ok((audit, sealed.map_err(|error| Error::Io(format!("storing the report: {error}")))?))
    }

    fn write_report<'a>(
        &'a self,
        now: i64,
        paper: Paper<'a>,
        is_preview: bool,
        fill: &Fill<'_>,
    ) -> Result<Paper<'a>, Error> {
        let document = Mutex::new(Some(self.document(paper, now)));
        let report = Filled { document, core: self, is_preview };
        let filled = fill(&report);
        if self.is_forked() {
            // A child that was forked in the callback: what is written here is the parent's, and so is removing it.
            std::mem::forget(report);
            return Err(Error::InvalidState(IN_FORKED_CHILD.to_owned()));
        }
        filled?;
        Ok(report.take()?.finish()?)
    }

    /// The plaintext of this document's report.
    pub(super) fn preview(&self, json: &[u8]) -> Result<Vec<u8>, Error> {
        let fill = |mut report: &Filled<'_>| Ok(document::read_document(json, &mut report)?);
        let written = self.write_report(self.now(), Paper::Plain(Buffer::default()), true, &fill)?;
        let Paper::Plain(mut text) = written else { return Err(other_paper()) };
        // For the NUL that C wants behind it.
        text.reserve_one().map_err(|_| Error::Internal("there is no memory for the report".to_owned()))?;
        Ok(text.into_bytes())
    }

    /// Where the sealed bytes go: into memory where the state directory takes nothing.
    fn new_report(&self) -> Draft<'_> {
        let on_disk = self.disk().map(|_| self.reports.create());
        match on_disk {
            Some(Ok(draft)) => return draft,
            Some(Err(error)) => self.complain_of_disk(&format!("{error}; the report is kept in memory")),
            None => {}
        }
        self.reports.create_in_memory()
    }

    fn new_copy(&self) -> Option<AuditCopy> {
        let folder = self.sent_folder().filter(|_| self.disk().is_some())?;
        let file = folder.create();
        // One record after the other would be many small writes.
        let file = file.map(|file| BufWriter::with_capacity(AUDIT_BYTES, file));
        Some(AuditCopy { file: file.map(Some), folder, bytes: 0 })
    }

    /// Held while a report is made: several processes on one state directory make one.
    fn report_lock(&self) -> Result<Option<Lock>, Error> {
        let Some(dir) = &self.config.state_dir else { return Ok(None) };
        match dir.root().lock(layout::REPORT_LOCK) {
            Ok(None) => Err(Error::InvalidState("another process is making the report of the day".to_owned())),
            // A disk that takes no lock takes no report either. Two of one day are one, by their id.
            locked => Ok(locked.unwrap_or_default()),
        }
    }

    fn refuse_second_report(&self, now: &Moment) -> Result<(), Error> {
        let memory = self.report_memory();
        let Err(from) = schedule::may_report(now, &memory.reported(&self.cluster_id())) else { return Ok(()) };
        let today = schedule::day(now.unix);
        let why = match memory.of(&self.cluster_id()).iter().rfind(|made| made.day == today) {
            Some(MadeReport { delivered_at: Some(at), .. }) => {
                format!("the report of this UTC day was delivered at {}", rfc3339(*at))
            }
            Some(_) => "the report of this UTC day is already stored for delivery".to_owned(),
            None => "the last report is less than 20 hours old, although the clock says that it is of another day"
                .to_owned(),
        };
        Err(Error::InvalidState(format!("{why}; the next may be made from {} on", rfc3339(from))))
    }

    /// What is remembered of reports, by all processes on the state directory.
    pub(super) fn report_memory(&self) -> ReportMemory {
        let mut known = lock(&self.reports_known);
        let damaged = self.read_report_memory(&mut known);
        let memory = known.memory.clone();
        drop(known);
        if let Some(damaged) = damaged {
            self.log(priority::WARNING, &damaged);
        }
        memory
    }

    /// Changes it, so that no process undoes what another one has written.
    pub(super) fn change_reports(&self, change: impl FnOnce(&mut ReportMemory)) {
        let mut change = Some(change);
        self.change_reports_once(&mut |memory| change.take().into_iter().for_each(|change| change(memory)));
    }

    /// In the library once.
    fn change_reports_once(&self, change: &mut dyn FnMut(&mut ReportMemory)) {
        let mut known = lock(&self.reports_known);
        let dir = self.config.state_dir.as_ref();
        let locked = dir.map(ReportMemory::lock);
        let damaged = self.read_report_memory(&mut known);
        change(&mut known.memory);
        let stored = dir.map_or(Ok(()), |dir| known.memory.store(dir));
        known.is_unsaved = stored.is_err();
        drop(locked);
        drop(known);
        let failed = stored.err().map(|error| format!("what became of reports is not remembered: {error}"));
        for complaint in damaged.into_iter().chain(failed) {
            self.complain_of_disk(&complaint);
        }
    }

    /// Takes what is on disk, unless it is known to be less than what is known here. Says where it was damaged.
    fn read_report_memory(&self, known: &mut ReportsKnown) -> Option<String> {
        let dir = self.config.state_dir.as_ref().filter(|_| !known.is_unsaved)?;
        let (memory, damaged) = ReportMemory::load(dir).ok()?;
        if damaged.is_none() {
            known.memory = memory;
        }
        damaged
    }

    pub(super) fn cluster_id(&self) -> String {
        HEXLOWER.encode(&self.config.cluster)
    }

    pub(super) fn sent_folder(&self) -> Option<Folder> {
        self.config.state_dir.as_ref().map(|dir| dir.folder(layout::SENT))
    }

    /// The administrator finds the last 7 plaintexts.
    fn keep_last_sent(&self) -> Result<(), Error> {
        self.sent_folder().map_or(Ok(()), |folder| folder.keep_last(spool::REPORTS.items, COPIES_BYTES))
    }

    /// Lets the host fill the report of the day and stores it. Its delivery has a pace of its own: a collector that is
    /// down costs no day.
    pub fn make_scheduled_report(&self) {
        match self.store_report(&|report| self.fill_by_callback(report)).map(drop) {
            Ok(()) => *lock(&self.making_pace) = Pace::default(),
            Err(Error::Disabled(_)) => {}
            Err(error) => {
                let (now, random) = (self.moment(), (self.surroundings.random)());
                let wait = lock(&self.making_pace).failed(&now, 0, random);
                self.note_outcome(Switch::DailyReport, Some(&error), Some(now.unix + wait));
                self.log(priority::INFO, &format!("daily report: {error}; tried again in {wait} s"));
            }
        }
    }

    pub(super) fn fill_by_callback(&self, report: &Filled<'_>) -> Result<(), Error> {
        // Taken only now: `close` waits for the holder of callbacks, which must not be waiting for a disk.
        let callbacks = self.callbacks();
        let on_report = callbacks.as_ref().and_then(|callbacks| callbacks.on_report.as_ref());
        let on_report = on_report.ok_or_else(|| Error::InvalidState("the client is closing".to_owned()))?;
        in_callback(|| on_report(&Report(report)));
        Ok(())
    }

    /// When the daily report is due; none without a callback to fill it or a collector to take it.
    pub fn report_due(&self) -> Option<i64> {
        let has_filler = self.callbacks().is_some_and(|callbacks| callbacks.on_report.is_some());
        let has_all = has_filler && self.config.given.report_url.is_some();
        if !has_all || !self.switches.is_on(Switch::DailyReport) {
            return None;
        }
        let now = self.moment();
        let reported = self.report_memory().reported(&self.cluster_id());
        let (due, _) = schedule::next_report(&now, &self.started, self.config.slot, &reported, self.chance);
        Some(due.max(lock(&self.making_pace).not_before(&now)))
    }
}

/// What is known of reports, and whether the state directory knows less.
#[derive(Default)]
pub(super) struct ReportsKnown {
    pub(super) memory: ReportMemory,
    pub(super) is_unsaved: bool,
}

/// The report in the making, inside the report callback.
pub(super) struct Filled<'a> {
    /// Locked: a host may fill it from several threads. None when it is finished.
    document: Mutex<Option<Writer<Paper<'a>>>>,
    core: &'a Core,
    is_preview: bool,
}

/// Says what is in a report.
type Fill<'f> = dyn Fn(&Filled<'_>) -> Result<(), Error> + 'f;

impl<'a> Filled<'a> {
    fn change(&self, change: impl FnOnce(&mut Writer<Paper<'a>>) -> Result<(), Fault>) -> Result<(), Fault> {
        change(self.locked()?.as_mut().ok_or_else(has_returned)?)
    }

    /// What was filled in. A thread of the host that goes on filling after the callback has returned comes too late.
    fn take(&self) -> Result<Writer<Paper<'a>>, Fault> {
        self.locked()?.take().ok_or_else(has_returned)
    }

    fn locked(&self) -> Result<MutexGuard<'_, Option<Writer<Paper<'a>>>>, Fault> {
        // What a panic has left half written must not be taken for a report.
        self.document.lock().map_err(|_| Fault::Internal("a part of the report was lost to a bug".to_owned()))
    }
}

impl Filling for Filled<'_> {
    fn is_forked(&self) -> bool {
        self.core.is_forked()
    }

    fn is_preview(&self) -> bool {
        self.is_preview
    }

    fn set_cluster_json(&self, json: &[u8]) -> Result<(), Error> {
        let fields = document::read_cluster(json)?;
        Ok(self.change(|document| document.set_cluster(fields))?)
    }

    fn add_json(&self, level: Level, json: &[u8]) -> Result<(), Error> {
        Ok(self.change(|document| document.add_json(level, json))?)
    }
}

fn other_paper() -> Error {
    Error::Internal("a report was written on something else".to_owned())
}

fn has_returned() -> Fault {
    Fault::State("the report callback has returned: its report is finished".to_owned())
}

impl Records for &Filled<'_> {
    fn set_cluster(&mut self, fields: Map<String, Value>) -> Result<(), Fault> {
        self.change(|document| document.set_cluster(fields))
    }

    fn add(&mut self, level: Level, record: Map<String, Value>) -> Result<(), Fault> {
        self.change(|document| document.add(level, record))
    }
}

/// What a report is written on. One type for all reports: what writes them is in the library once.
enum Paper<'a> {
    Sealed(Box<Sealing<'a>>),
    Plain(Buffer),
}

impl Write for Paper<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Sealed(sealing) => sealing.write(bytes),
            Self::Plain(text) => text.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where a report's plaintext goes: into the administrator's copy and, compressed and sealed, into the spool.
struct Sealing<'a> {
    audit: Option<AuditCopy>,
    gzip: GzEncoder<Packed<'a>>,
}

/// Where a compressed report goes: to the asker, if one asks what would be sent, and sealed into the spool or the measure.
struct Packed<'a> {
    asker: Option<&'a Asker>,
    sealer: Sealer<Draft<'a>>,
}

impl Write for Packed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(asker) = self.asker {
            asker.give(bytes)?;
        }
        self.sealer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sealing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(audit) = &mut self.audit {
            audit.add(bytes);
        }
        self.gzip.write_all(bytes)?;
        Ok(bytes.len())
    }
}

/// The administrator's copy of a report in the making. Where it cannot be written, the report goes its way without.
pub(super) struct AuditCopy {
    folder: Folder,
    /// None where it has become too large to be kept.
    file: Result<Option<BufWriter<NewFile>>, Error>,
    bytes: u64,
}

impl AuditCopy {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let Ok(Some(file)) = &mut self.file else { return };
        if self.bytes > COPIES_BYTES {
            self.file = Ok(None);
        } else if let Err(error) = file.write_all(bytes) {
            self.file = Err(Error::Io(format!("writing it: {error}")));
        }
    }

    /// Under which name it is found. Of one that is too large only id and size are.
    fn publish(self, name: &str, id: &str) -> Result<Option<String>, Error> {
        let Some(file) = self.file? else {
            let (name, note) = (format!("{name}.json"), json!({ "report_id": id, "bytes": self.bytes }));
            self.folder.write(&name, format!("{note}\n").as_bytes())?;
            return Ok(Some(name));
        };
        let name = format!("{name}.jsonl");
        let file = file.into_inner().map_err(|error| Error::Io(format!("writing it: {}", error.error())))?;
        file.publish(&name)?;
        Ok(Some(name))
    }
}
