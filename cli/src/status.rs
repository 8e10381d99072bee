//! `status`: what is on and who says otherwise, what is remembered, what waits to be sent. It reads and changes
//! nothing; a client would already remove what is stored for a switch that is off.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use ondat_telemetry::config::Config;
use ondat_telemetry::crash::cores::Core;
use ondat_telemetry::crash::limit::LastEnding;
use ondat_telemetry::crash::marker::{self, Run, Watched};
use ondat_telemetry::error::Error;
use ondat_telemetry::memory::{self, MadeReport, ReportMemory, Told, VersionMemory};
use ondat_telemetry::presence::{Life, Process};
use ondat_telemetry::schedule;
use ondat_telemetry::state::{Entry, StateDir, layout};
use ondat_telemetry::switches::Switch;
use ondat_telemetry::sys::clock::{Clock, Moment, SystemClock};
use ondat_telemetry::version::answer::{Answer, Judge};
use ondat_telemetry::version::query::version_of;
use ondat_telemetry::version::verdict::Verdict;
use semver::Version;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Output;
use crate::administration::{self, Word};
use crate::settings::Settings;
use crate::sources::{Sources, named};

/// The folders of what waits to be sent.
const REPORTS: &str = layout::REPORTS;
const SPOOLS: [&str; 2] = [REPORTS, layout::CRASHES];
const NOT_CONFIGURED: &str = "not configured";
/// The last second that RFC 3339 can write: a damaged memory may hold any number.
const END_OF_TIME: i64 = 253_402_300_799;

/// Says it all.
pub(crate) fn run(settings: &Settings, json: bool) -> Result<Output, Error> {
    let (value, text) = at(settings, SystemClock::new().now())?;
    Ok(if json { Output::json(&value) } else { Output::coloured(&text) })
}

/// The same at a moment, as JSON and as text.
pub(crate) fn at(settings: &Settings, now: Moment) -> Result<(Value, String), Error> {
    let status = Status::read(settings, now)?;
    let mut text = String::new();
    status.write_text(&mut text).map_err(|error| Error::Internal(error.to_string()))?;
    Ok((status.as_json(), text))
}

/// The same for the API.
pub(crate) fn json(settings: &Settings) -> Result<Value, Error> {
    Ok(Status::read(settings, SystemClock::new().now())?.as_json())
}

/// What there is to say.
struct Status<'a> {
    config: &'a Config,
    settings_file: Option<&'a Path>,
    /// Why the state directory cannot be used, or something in it.
    disk_problem: Option<String>,
    now: Moment,
    sources: Sources,
    /// The administrator's own word; none without a state directory.
    administrator: Option<Remembered<Word>>,
    cluster_id: Option<String>,
    node_id: Option<String>,
    told: Remembered<Vec<ToldVersion>>,
    /// The last report of each cluster.
    reports: Remembered<BTreeMap<String, MadeReport>>,
    /// When the next try to deliver a report may be, Unix seconds; none while none waits.
    next_try: Option<i64>,
    spools: Vec<(&'static str, Vec<Entry>)>,
    /// The processes that have installed the crash handler, and those whose end is not dealt with yet.
    runs: Vec<Run>,
    /// The last crash that was reported.
    last_ending: Option<LastEnding>,
    cores: Vec<Core>,
}

/// Something in the state directory, or why it cannot be read.
pub(crate) type Remembered<T> = Result<T, String>;

/// What one version was told, and what that means today.
struct ToldVersion {
    version: Option<Version>,
    told: Told,
    /// The accepted answer; the text says why there is none.
    answer: Result<(Answer, Verdict), String>,
}

impl<'a> Status<'a> {
    fn read(settings: &'a Settings, now: Moment) -> Result<Self, Error> {
        let config = &settings.config;
        let dir = config.state_dir.as_ref();
        let mut disk_problem = dir.and_then(StateDir::problem).map(|why| why.to_string());
        let told: Remembered<VersionMemory> = remembered(dir, layout::VERSION);
        let reports: Remembered<ReportMemory> = remembered(dir, layout::REPORT);
        let running = settings.has_version.then_some(&config.version);
        let told = told.map(|memory| {
            let told = memory.told.into_iter().map(|told| {
                let is_running = told.label == config.version_label;
                let version = running.filter(|_| is_running).cloned().or_else(|| version_of(&told.label));
                ToldVersion { answer: judged(config, now.unix, version.as_ref(), &told), version, told }
            });
            told.filter(|told| running.is_none() || told.told.label == config.version_label).collect()
        });
        let cluster_id = settings.has_cluster_id.then(|| HEXLOWER.encode(&config.cluster));
        let not_before = reports.as_ref().map_or(0, |memory| memory.pace.not_before(&now));
        let reports = reports.map(|memory| {
            let is_asked_for = |id: &String| cluster_id.as_ref().is_none_or(|cluster_id| cluster_id == id);
            let last = memory.made.into_iter().filter_map(|(id, mut made)| Some((id, made.pop()?)));
            last.filter(|(id, _)| is_asked_for(id)).collect()
        });
        let mut spools = Vec::new();
        for name in SPOOLS {
            let waiting = dir.map_or(Ok(Vec::new()), |dir| dir.folder(name).entries());
            spools.push((name, known(waiting, &mut disk_problem)));
        }
        let is_waiting = spools.iter().any(|(name, waiting)| *name == REPORTS && !waiting.is_empty());
        let next_try = is_waiting.then_some(not_before.max(now.unix));
        let runs = known(dir.map_or(Ok(Vec::new()), marker::runs), &mut disk_problem);
        Ok(Self {
            config,
            settings_file: settings.file.as_deref(),
            disk_problem,
            now,
            sources: settings.sources()?,
            administrator: dir.map(administration::read),
            cluster_id,
            node_id: (settings.has_cluster_id && settings.has_node_id).then(|| HEXLOWER.encode(&config.node)),
            told,
            reports,
            next_try,
            spools,
            runs,
            last_ending: dir.map(memory::crash_limits).and_then(|limits| limits.last().cloned()),
            cores: dir.and_then(memory::cores).map(|cores| cores.present().cloned().collect()).unwrap_or_default(),
        })
    }

    /// Whether reports could be sealed now; none where no key set is configured.
    fn has_valid_key(&self) -> Option<bool> {
        self.config.report_keys.as_ref().map(|keys| keys.current(self.now.unix).is_some())
    }

    fn as_json(&self) -> Value {
        let dir = self.config.state_dir.as_ref();
        let spools = self.spools.iter().map(|(name, entries)| {
            let items: Vec<_> = entries
                .iter()
                .map(|entry| {
                    json!({ "name": entry.name, "bytes": entry.bytes, "age_seconds": self.now.unix - entry.modified })
                })
                .collect();
            let path = dir.map(|dir| dir.folder(name).path().display().to_string());
            ((*name).to_owned(), json!({ "path": path, "items": items }))
        });
        let reports = self.reports.as_ref();
        let last = reports.ok().map(|reports| {
            let last = reports.iter().map(|(cluster_id, last)| {
                json!({ "cluster_id": cluster_id, "day": date(last.day), "delivered_at": last.delivered_at })
            });
            last.collect::<Vec<_>>()
        });
        json!({
            "state_dir": dir.map(|dir| dir.path().display().to_string()),
            "state_dir_problem": self.disk_problem,
            "settings_file": self.settings_file.map(|path| path.display().to_string()),
            "switches": self.sources.explain(),
            "processes": self.sources.processes_json(),
            "administrator": self.administrator.as_ref().map(administrator_json),
            "cluster_id": self.cluster_id,
            "node_id": self.node_id,
            "version_check": {
                "zone": self.config.version_zone,
                "keys": self.config.version_keys.len(),
                "told": self.told.as_ref().ok().map(|told| told.iter().map(|told| told.as_json(&self.now)).collect::<Vec<_>>()),
                "problem": self.told.as_ref().err(),
            },
            "daily_report": {
                "url": self.config.report_url.as_ref().map(ToString::to_string),
                "has_valid_key": self.has_valid_key(),
                "last": last,
                "next_try": self.next_try,
                "problem": reports.err(),
            },
            "crash_reports": {
                "server": self.config.sentry_dsn.as_ref().map(|dsn| dsn.endpoint().to_string()),
                "runs": self.runs.iter().map(|run| {
                    let Run { name, head, is_running, .. } = run;
                    json!({ "name": name, "version": head.version, "running": is_running, "watched": head.watched.to_json() })
                }).collect::<Vec<_>>(),
                "last_ending": self.last_ending,
                "core_files": self.cores.iter().map(|core| {
                    let Core { path, component, signal, at, bytes, .. } = core;
                    json!({ "path": path, "component": component, "signal": signal, "at": at, "bytes": bytes })
                }).collect::<Vec<_>>(),
            },
            "spool": spools.collect::<serde_json::Map<_, _>>(),
        })
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let dir = self.config.state_dir.as_ref();
        match dir {
            Some(dir) => writeln!(out, "state directory  {}", dir.path().display())?,
            None => writeln!(
                out,
                "state directory  {NOT_CONFIGURED} (--state-dir): what is remembered, stored or switched off there is \
                 not known"
            )?,
        }
        if let Some(why) = &self.disk_problem {
            writeln!(out, "                 cannot be used: {why}")?;
        }
        if let Some(path) = self.settings_file {
            writeln!(out, "settings file    {}", path.display())?;
        }
        let id =
            |id: &Option<String>, option: &str| id.clone().unwrap_or_else(|| format!("{NOT_CONFIGURED} ({option})"));
        writeln!(out, "cluster id       {}", id(&self.cluster_id, "--cluster-id"))?;
        writeln!(out, "node id          {}", id(&self.node_id, "--cluster-id and --node-id"))?;
        writeln!(out, "switches")?;
        for switch in Switch::ALL {
            writeln!(out, "  {}", self.sources.line(switch))?;
        }
        if let Some(Err(why)) = &self.administrator {
            writeln!(out, "  {}", administration::unreadable(why))?;
        }
        for process in self.sources.processes() {
            let Process { version, at, .. } = process;
            let unseen = if process.life() == Life::Unseen {
                ", in another container: whether it still runs cannot be seen"
            } else {
                ""
            };
            writeln!(out, "  running        {} of version {version} since {}{unseen}", named(process), moment(*at))?;
        }
        self.write_version_check(out)?;
        self.write_daily_report(out)?;
        writeln!(out, "crash reports")?;
        let dsn = self.config.sentry_dsn.as_ref();
        let server = dsn.map_or_else(|| NOT_CONFIGURED.to_owned(), |dsn| dsn.endpoint().to_string());
        writeln!(out, "  server         {server}")?;
        for run in &self.runs {
            let state = match (run.is_running, &run.head.watched) {
                (false, _) => "ended, and looked at when the next process starts".to_owned(),
                (true, Watched::Monitor) => "watched by a crash monitor".to_owned(),
                (true, Watched::Supervisor) => "started by exec, which watches it".to_owned(),
                (true, Watched::Supervised) => "watched by exec".to_owned(),
                (true, Watched::Nobody(why)) => {
                    format!("no crash monitor: {why}; reported when the next process starts")
                }
            };
            writeln!(out, "  run            {} of version {}, {state}", run.name, run.head.version)?;
        }
        if let Some(LastEnding { component, ending, told_by, at }) = &self.last_ending {
            writeln!(out, "  last ending    {component}: {ending}, {}, told by {}", moment(*at), witness(told_by))?;
        }
        for core in &self.cores {
            writeln!(out, "  {core}, {}", moment(core.at))?;
        }
        for (name, entries) in &self.spools {
            let Some(dir) = dir else { break };
            let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
            writeln!(out, "{name}\n  {}: {} items, {bytes} bytes", dir.folder(name).path().display(), entries.len())?;
            for entry in entries {
                writeln!(out, "  {}  {} bytes, {} old", entry.name, entry.bytes, age(self.now.unix - entry.modified))?;
            }
        }
        Ok(())
    }

    fn write_version_check(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "version check")?;
        writeln!(out, "  zone           {}", self.config.version_zone.as_deref().unwrap_or(NOT_CONFIGURED))?;
        match self.config.version_keys.len() {
            0 => writeln!(out, "  keys           {NOT_CONFIGURED}: unsigned answers are accepted")?,
            keys => writeln!(out, "  keys           {keys}")?,
        }
        match &self.told {
            Err(why) => writeln!(out, "  last check     {why}"),
            Ok(told) if told.is_empty() && self.config.state_dir.is_none() => {
                writeln!(out, "  last check     not known without a state directory")
            }
            Ok(told) if told.is_empty() => writeln!(out, "  last check     none"),
            Ok(told) => told.iter().try_for_each(|told| told.write_text(&self.now, out)),
        }
    }

    fn write_daily_report(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "daily report")?;
        let url = self.config.report_url.as_ref().map(ToString::to_string);
        writeln!(out, "  collector      {}", url.as_deref().unwrap_or(NOT_CONFIGURED))?;
        let key = match self.has_valid_key() {
            None => NOT_CONFIGURED,
            Some(true) => "one is valid now",
            Some(false) => "none is valid now: nothing is sent",
        };
        writeln!(out, "  sealing key    {key}")?;
        if let Some(at) = self.next_try {
            writeln!(out, "  next try       {}", moment(at))?;
        }
        match &self.reports {
            Err(why) => writeln!(out, "  last report    {why}"),
            Ok(reports) if reports.is_empty() && self.config.state_dir.is_none() => {
                writeln!(out, "  last report    not known without a state directory")
            }
            Ok(reports) if reports.is_empty() => writeln!(out, "  last report    none"),
            Ok(reports) => reports.iter().try_for_each(|(cluster_id, last)| {
                let delivered = last.delivered_at.map(|at| format!("delivered at {}", moment(at)));
                let delivered = delivered.as_deref().unwrap_or("not delivered yet");
                writeln!(out, "  last report    of {}, {delivered} (cluster {cluster_id})", date(last.day))
            }),
        }
    }
}

/// Everything is off while the word cannot be read.
fn administrator_json(word: &Remembered<Word>) -> Value {
    let said = word.as_ref().ok();
    let is_on = |switch| said.is_some_and(|word| word.is_on(switch));
    let mut json: serde_json::Map<_, _> =
        Switch::ALL.iter().map(|switch| (switch.name().to_owned(), Value::from(is_on(*switch)))).collect();
    json.insert("version".to_owned(), said.map(Word::version).into());
    json.insert("updated_at".to_owned(), said.and_then(Word::updated_at).into());
    json.insert("problem".to_owned(), word.as_ref().err().map(|why| administration::unreadable(why)).into());
    Value::Object(json)
}

impl ToldVersion {
    fn name(&self) -> String {
        self.version.as_ref().map_or_else(|| format!("with label {}", self.told.label), Version::to_string)
    }

    fn as_json(&self, now: &Moment) -> Value {
        let answer = self.answer.as_ref().ok();
        json!({
            "version": self.version.as_ref().map(Version::to_string),
            "label": self.told.label,
            "zone": self.told.zone,
            "checked_at": (self.told.checked_at > 0).then_some(self.told.checked_at),
            "next_due": self.told.next.as_ref().map(|next| next.due(now)),
            "failures": self.told.failures,
            "latest": answer.map(|(answer, _)| answer.latest.to_string()),
            "verdict": answer.map_or(Verdict::Unknown, |(_, verdict)| *verdict),
            "advisory": answer.and_then(|(answer, verdict)| verdict.advisory(answer)),
            "authenticated": answer.is_some_and(|(answer, _)| answer.authenticated),
            "problem": self.answer.as_ref().err(),
        })
    }

    fn write_text(&self, now: &Moment, out: &mut String) -> std::fmt::Result {
        writeln!(out, "  version {}", self.name())?;
        match &self.answer {
            Ok((answer, verdict)) => {
                let advisory = verdict.advisory(answer).map(|id| format!(", advisory {id}")).unwrap_or_default();
                let signed = if answer.authenticated { "signature verified" } else { "signature not verified" };
                writeln!(
                    out,
                    "    verdict      {}, the latest is {}{advisory}, {signed}",
                    verdict.as_str(),
                    answer.latest
                )?;
                writeln!(
                    out,
                    "    last answer  {}, good until {}",
                    moment(self.told.checked_at),
                    moment(answer.expires)
                )?;
            }
            Err(why) => writeln!(out, "    verdict      unknown: {why}")?,
        }
        if self.told.failures > 0 {
            writeln!(out, "    failures     {} since the last accepted answer", self.told.failures)?;
        }
        match &self.told.next {
            Some(next) => writeln!(out, "    next check   {}", moment(next.due(now))),
            None => writeln!(out, "    next check   when a daemon starts"),
        }
    }
}

/// A state file. A damaged one stays where it is: moving it aside is for those who will write it anew.
pub(crate) fn remembered<T: DeserializeOwned + Default>(dir: Option<&StateDir>, name: &str) -> Remembered<T> {
    let bytes = dir.map_or(Ok(None), |dir| dir.root().read(name)).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(T::default()) };
    serde_json::from_slice(&bytes).map_err(|error| format!("{name} is damaged and counts as empty: {error}"))
}

/// What is known of a list; nothing, and why, where it cannot be read.
fn known<T>(list: Result<Vec<T>, Error>, problem: &mut Option<String>) -> Vec<T> {
    list.unwrap_or_else(|error| {
        problem.get_or_insert(error.to_string());
        Vec::new()
    })
}

/// The remembered answer by the keys of today, as the library judges it when it starts.
fn judged(config: &Config, now: i64, version: Option<&Version>, told: &Told) -> Result<(Answer, Verdict), String> {
    if let Some(zone) = config.version_zone.as_ref().filter(|zone| **zone != told.zone && told.answer.is_some()) {
        return Err(format!("the last answer came from the zone {}, now {zone} is configured", told.zone));
    }
    let text = told.answer.as_ref().ok_or("no answer was accepted yet")?;
    let keys = &config.version_keys;
    let judge = Judge { zone: &told.zone, version_label: &told.label, keys, now: told.checked_at, newest_issued: 0 };
    let accepted = judge.first_acceptable(&[text.clone().into_bytes()]).map_err(|error| error.to_string());
    let (answer, _) = accepted?;
    let verdict = version.map_or(Verdict::Unknown, |version| Verdict::at(now, version, &answer));
    Ok((answer, verdict))
}

pub(crate) fn moment(unix: i64) -> String {
    let seconds = u64::try_from(unix.clamp(0, END_OF_TIME)).unwrap_or(0);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// The date of a UTC day, in days since 1970-01-01.
pub(crate) fn date(day: i64) -> String {
    moment(day.saturating_mul(schedule::DAY)).split('T').next().unwrap_or_default().to_owned()
}

/// What a word of `told_by` means.
fn witness(told_by: &str) -> &str {
    match told_by {
        "parent" => "the parent that reaped it",
        "kernel" => "the kernel after it was reaped",
        "zombie" => "the kernel before it was reaped",
        "leaving" => "the kernel on its way out",
        "handler" => "its signal handler",
        "exit" => "its call of exit(3)",
        "go_runtime" => "its Go runtime",
        "memory_limit" => "the count of kills for the memory limit",
        other => other,
    }
}

fn age(seconds: i64) -> String {
    humantime::format_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_is_a_moment() {
        assert_eq!(moment(i64::MIN), "1970-01-01T00:00:00Z");
        assert_eq!(moment(i64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(date(20_781), "2026-11-24");
        assert_eq!(date(i64::MAX), "9999-12-31");
        assert_eq!(age(-5), "0s");
    }
}
