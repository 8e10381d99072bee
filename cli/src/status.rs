//! `status`: what is on and which sources turn the rest off, what is remembered, and what waits to be sent. It only
//! reads; a client would already remove what is stored for a switch that is off.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use nix::unistd::gethostname;
use ondat_telemetry::config::Config;
use ondat_telemetry::crash::cores::{self, Core};
use ondat_telemetry::crash::limit::{self, LastEnding};
use ondat_telemetry::crash::marker::{self, Run, Watched};
use ondat_telemetry::error::Error;
use ondat_telemetry::presence::{Life, Process};
use ondat_telemetry::report::memory::{MadeReport, ReportMemory};
use ondat_telemetry::schedule;
use ondat_telemetry::state::{Entry, StateDir, layout};
use ondat_telemetry::switch::Switch;
use ondat_telemetry::sys::clock::{Clock, Moment, SystemClock};
use ondat_telemetry::version::memory::{Told, VersionMemory};
use ondat_telemetry::version::verdict::Verdict;
use ondat_telemetry_protocol::answer::{Answer, Judge};
use ondat_telemetry_protocol::query::{version_label, version_of};
use ondat_telemetry_protocol::time::{self, rfc3339};
use semver::Version;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Output;
use crate::administration::{self, Speaker, Word};
use crate::daemons::{Daemons, Known, each, shown, unused};
use crate::outcome::{Failure, Outcome};
use crate::settings::Settings;
use crate::sources::{Sources, named};

/// The folders of what waits to be sent.
const REPORTS: &str = layout::REPORTS;
const SPOOLS: [&str; 2] = [REPORTS, layout::CRASHES];
const NOT_CONFIGURED: &str = "not configured";

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
    /// What is said of a state directory that nobody has used.
    unused: Option<String>,
    now: Moment,
    sources: Sources,
    daemons: Daemons,
    /// The administrator's own word; none without a state directory.
    administrator: Option<Remembered<Word>>,
    told: Remembered<Vec<ToldVersion>>,
    version_checks: Outcome,
    /// The last report of each cluster.
    reports: Remembered<BTreeMap<String, MadeReport>>,
    daily_reports: Outcome,
    crash_reports: Outcome,
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
    /// Whether a key of the daemon that has accepted it signed it, where that is known.
    authenticated: Option<bool>,
}

impl<'a> Status<'a> {
    fn read(settings: &'a Settings, now: Moment) -> Result<Self, Error> {
        let config = &settings.config;
        let dir = config.state_dir.as_ref();
        let mut disk_problem = dir.and_then(StateDir::problem).map(|why| why.to_string());
        let sources = settings.sources()?;
        let runs = known(dir.map_or(Ok(Vec::new()), marker::runs), &mut disk_problem);
        let daemons = Daemons::read(settings, sources.processes(), &runs);
        let mut spools = Vec::new();
        for name in SPOOLS {
            let waiting = dir.map_or(Ok(Vec::new()), |dir| dir.folder(name).entries());
            spools.push((name, known(waiting, &mut disk_problem)));
        }
        let waiting = |which| spools.iter().find(|(name, _)| *name == which).map_or(0, |(_, waiting)| waiting.len());

        let failure = |switch| Failure::of(dir, switch);
        let told: Remembered<VersionMemory> = remembered(dir, layout::VERSION);
        let labels: Vec<_> = sources.processes().iter().filter_map(|process| label_of(&process.version)).collect();
        let is_on = sources.is_on(Switch::VersionCheck);
        let version_checks = told.as_ref().map_or_else(
            |_| Outcome::default(),
            |memory| Outcome::of_version_checks(failure(Switch::VersionCheck), &memory.told, &labels, is_on, &now),
        );
        let reports: Remembered<ReportMemory> = remembered(dir, layout::REPORT);
        let daily_reports = reports.as_ref().map_or_else(
            |_| Outcome::default(),
            |memory| {
                let next_try = (waiting(REPORTS) > 0).then(|| memory.pace.not_before(&now).max(now.unix));
                Outcome::of_reports(failure(Switch::DailyReport), memory, waiting(REPORTS), next_try)
            },
        );
        let limits = dir.map(limit::read).unwrap_or_default();
        let sent = dir.map_or(Ok(Vec::new()), |dir| dir.folder(layout::SENT_CRASHES).entries());
        let sent = known(sent, &mut disk_problem);
        let failed = failure(Switch::CrashReports);
        let crash_reports = Outcome::of_crash_reports(failed, &limits, waiting(layout::CRASHES), &sent, &now);
        Ok(Self {
            config,
            settings_file: settings.file.as_deref(),
            disk_problem,
            unused: dir.and_then(unused),
            told: told.map(|memory| told_versions(settings, &daemons, memory, now.unix)),
            reports: reports.map(|memory| last_reports(settings, &daemons, memory)),
            now,
            sources,
            daemons,
            administrator: dir.map(administration::read),
            version_checks,
            daily_reports,
            crash_reports,
            spools,
            runs,
            last_ending: limits.last().cloned(),
            cores: dir.and_then(cores::read).map(|cores| cores.present().cloned().collect()).unwrap_or_default(),
        })
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
        let word = self.administrator.as_ref().and_then(|word| word.as_ref().ok());
        let hosts =
            |name: &str, own: Option<String>| if self.daemons.is_any() { self.daemons.value(name) } else { own.into() };
        json!({
            "node": { "name": node_name() },
            "state_dir": dir.map(|dir| dir.path().display().to_string()),
            "state_dir_problem": self.disk_problem,
            "settings_file": self.settings_file.map(|path| path.display().to_string()),
            "used": dir.map(|_| self.unused.is_none()),
            "created_at": word.and_then(Word::created_at),
            "log": { "level": word.map(Word::log_level), "format": word.map(Word::log_format) },
            "switches": self.sources.explain(),
            "processes": self.daemons.processes_json(&self.sources),
            "settings_differ": self.daemons.differing(),
            "administrator": self.administrator.as_ref().map(administrator_json),
            "cluster_id": self.daemons.value("cluster_id"),
            "node_id": self.daemons.value("node_id"),
            "version_check": self.version_checks.add_to(json!({
                "zone": self.daemons.value("version_zone"),
                "keys": self.daemons.value("version_keys").as_array().map(Vec::len),
                "told": self.told.as_ref().ok().map(|told| told.iter().map(|told| told.as_json(&self.now)).collect::<Vec<_>>()),
                "problem": self.told.as_ref().err(),
            })),
            "daily_report": self.daily_reports.add_to(json!({
                "url": hosts("report_host", self.config.given.report_url.as_ref().map(ToString::to_string)),
                "has_valid_key": self.daemons.has_valid_key(self.now.unix),
                "last": last,
                "problem": reports.err(),
            })),
            "crash_reports": self.crash_reports.add_to(json!({
                "server": hosts("sentry_host", self.config.given.sentry_dsn.as_ref().map(|dsn| dsn.endpoint().to_string())),
                "runs": self.runs.iter().map(|run| {
                    let Run { name, head, is_running, .. } = run;
                    json!({ "name": name, "version": head.version, "running": is_running, "watched": head.watched.to_json() })
                }).collect::<Vec<_>>(),
                "last_ending": self.last_ending,
                "core_files": self.cores.iter().map(|core| {
                    let Core { path, component, signal, at, bytes, .. } = core;
                    json!({ "path": path, "component": component, "signal": signal, "at": at, "bytes": bytes })
                }).collect::<Vec<_>>(),
            })),
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
        if let Some(unused) = &self.unused {
            writeln!(out, "                 {unused}")?;
        }
        if let Some(path) = self.settings_file {
            writeln!(out, "settings file    {}", path.display())?;
        }
        writeln!(out, "node             {}", node_name())?;
        writeln!(out, "cluster id       {}", self.setting("cluster_id", shown))?;
        writeln!(out, "node id          {}", self.setting("node_id", shown))?;
        writeln!(out, "switches")?;
        for switch in Switch::ALL {
            writeln!(out, "  {}", self.sources.line(switch))?;
        }
        if let Some(Err(why)) = &self.administrator {
            writeln!(out, "  {}", administration::unreadable(why))?;
        }
        for (place, process) in self.sources.processes().iter().enumerate() {
            let Process { version, at, .. } = process;
            let unseen = if process.life() == Life::Unseen {
                ", in another container: whether it still runs cannot be seen"
            } else {
                ""
            };
            writeln!(out, "  running        {} of version {version} since {}{unseen}", named(process), rfc3339(*at))?;
            writeln!(out, "                 {}", self.daemons.line_of(place))?;
        }
        for difference in self.daemons.differences() {
            writeln!(out, "  {difference}")?;
        }
        self.write_version_check(out)?;
        self.write_daily_report(out)?;
        writeln!(out, "crash reports")?;
        writeln!(out, "  server         {}", self.setting("sentry_host", shown))?;
        self.crash_reports.write_text(out)?;
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
            writeln!(out, "  last ending    {component}: {ending}, {}, told by {}", rfc3339(*at), witness(told_by))?;
        }
        for core in &self.cores {
            writeln!(out, "  {core}, {}", rfc3339(core.at))?;
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

    /// A member of the settings for people: what all have, who has what, or why nobody knows.
    fn setting(&self, name: &str, show: impl Fn(&Value) -> String) -> String {
        match self.daemons.of(name) {
            Known::One(Value::Null) => NOT_CONFIGURED.to_owned(),
            Known::One(value) => show(value),
            Known::Several(said) => format!("differs: {}", each(&said)),
            Known::Nothing(why) => why,
        }
    }

    fn write_version_check(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "version check")?;
        writeln!(out, "  zone           {}", self.setting("version_zone", shown))?;
        let has_zone = matches!(self.daemons.of("version_zone"), Known::One(zone) if !zone.is_null());
        let keys = |keys: &Value| match keys.as_array().map_or(0, Vec::len) {
            0 if has_zone => format!("{NOT_CONFIGURED}: unsigned answers are accepted"),
            0 => NOT_CONFIGURED.to_owned(),
            number => format!("{number} ({})", shown(keys)),
        };
        writeln!(out, "  keys           {}", self.setting("version_keys", keys))?;
        self.version_checks.write_text(out)?;
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
        writeln!(out, "  collector      {}", self.setting("report_host", shown))?;
        let is_valid = match self.daemons.has_valid_key(self.now.unix) {
            None => NOT_CONFIGURED,
            Some(true) => "one is valid now",
            Some(false) => "none is valid now: nothing is sent",
        };
        let keys = |keys: &Value| match keys.as_array().map_or(0, Vec::len) {
            0 => NOT_CONFIGURED.to_owned(),
            _ => format!("{is_valid} ({})", shown(keys)),
        };
        writeln!(out, "  sealing key    {}", self.setting("report_keys", keys))?;
        self.daily_reports.write_text(out)?;
        match &self.reports {
            Err(why) => writeln!(out, "  last report    {why}"),
            Ok(reports) if reports.is_empty() && self.config.state_dir.is_none() => {
                writeln!(out, "  last report    not known without a state directory")
            }
            Ok(reports) if reports.is_empty() => writeln!(out, "  last report    none"),
            Ok(reports) => reports.iter().try_for_each(|(cluster_id, last)| {
                let delivered = last.delivered_at.map(|at| format!("delivered at {}", rfc3339(at)));
                let delivered = delivered.as_deref().unwrap_or("not delivered yet");
                writeln!(out, "  last report    of {}, {delivered} (cluster {cluster_id})", date(last.day))
            }),
        }
    }
}

/// Everything is off while the word cannot be read.
fn administrator_json(word: &Remembered<Word>) -> Value {
    let said = word.as_ref().ok();
    let all_off = || Switch::ALL.into_iter().map(|switch| (switch.name().to_owned(), false.into())).collect();
    let by = |speaker| said.map_or_else(all_off, |word| word.to_json(speaker));
    let mut json = by(Speaker::Administrator);
    json.insert("api".to_owned(), by(Speaker::ApiClient).into());
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
            "authenticated": answer.map_or(Some(false), |_| self.authenticated),
            "problem": self.answer.as_ref().err(),
        })
    }

    fn write_text(&self, now: &Moment, out: &mut String) -> std::fmt::Result {
        writeln!(out, "  version {}", self.name())?;
        match &self.answer {
            Ok((answer, verdict)) => {
                let advisory = verdict.advisory(answer).map(|id| format!(", advisory {id}")).unwrap_or_default();
                let signed = match self.authenticated {
                    Some(true) => "signature verified",
                    Some(false) => "signature not verified",
                    None => "whether its signature was verified is not known",
                };
                writeln!(
                    out,
                    "    verdict      {}, the latest is {}{advisory}, {signed}",
                    verdict.as_str(),
                    answer.latest
                )?;
                writeln!(
                    out,
                    "    last answer  {}, good until {}",
                    rfc3339(self.told.checked_at),
                    rfc3339(answer.expires)
                )?;
            }
            Err(why) => writeln!(out, "    verdict      unknown: {why}")?,
        }
        if self.told.failures > 0 {
            writeln!(out, "    failures     {} since the last accepted answer", self.told.failures)?;
        }
        match &self.told.next {
            Some(next) => writeln!(out, "    next check   {}", rfc3339(next.due(now))),
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

/// The name of the machine that this runs on.
pub(crate) fn node_name() -> String {
    gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// The last report of each cluster that is asked for.
fn last_reports(settings: &Settings, daemons: &Daemons, memory: ReportMemory) -> BTreeMap<String, MadeReport> {
    let own = HEXLOWER.encode(&settings.config.cluster);
    let is_asked_for = |id: &String| daemons.is_any() || !settings.has_cluster_id || *id == own;
    let last = memory.made.into_iter().filter_map(|(id, mut made)| Some((id, made.pop()?)));
    last.filter(|(id, _)| is_asked_for(id)).collect()
}

/// What each version was told; where nobody runs, and a version was named, what that one was.
fn told_versions(settings: &Settings, daemons: &Daemons, memory: VersionMemory, now: i64) -> Vec<ToldVersion> {
    let config = &settings.config;
    let running = (settings.has_version && !daemons.is_any()).then_some(&config.version);
    let told = memory.told.into_iter().filter(|told| running.is_none() || told.label == config.version_label);
    let told = told.map(|told| {
        let version = running.cloned().or_else(|| version_of(&told.label));
        let judged = judged(config, daemons, &told);
        let (answer, authenticated) = match judged {
            Ok((answer, authenticated)) => (Ok(answer), authenticated),
            Err(why) => (Err(why), None),
        };
        let answer = answer.map(|answer| {
            let verdict = version.as_ref().map_or(Verdict::Unknown, |version| Verdict::at(now, version, &answer));
            (answer, verdict)
        });
        ToldVersion { version, told, answer, authenticated }
    });
    told.collect()
}

/// The remembered answer as those judge it who ask: by the keys of the daemons, and by this command's own where nobody runs. And
/// whether its signature was verified, where that is known.
fn judged(config: &Config, daemons: &Daemons, told: &Told) -> Result<(Answer, Option<bool>), String> {
    let text = told.answer.as_ref().ok_or("no answer was accepted yet")?;
    let zones = daemons.zones();
    let of_zone: Vec<_> = zones.iter().filter(|(zone, _)| *zone == told.zone).map(|(_, keys)| keys).collect();
    if let (Some((zone, _)), true) = (zones.first(), of_zone.is_empty()) {
        return Err(format!("the last answer came from the zone {}, now {zone} is configured", told.zone));
    }
    let keys: &[_] = if daemons.is_any() { &[] } else { &config.given.version_keys };
    let judge = Judge { zone: &told.zone, version_label: &told.label, keys, now: told.checked_at, newest_issued: 0 };
    let accepted = judge.first_acceptable(&[text.clone().into_bytes()]).map_err(|error| error.to_string());
    let (answer, _) = accepted?;
    if !keys.is_empty() {
        return Ok((answer, Some(true)));
    }
    // The daemons keep no answer that their keys have not signed: which key it was tells who believes it.
    let signer = text.split(' ').find_map(|field| field.strip_prefix("k=")).unwrap_or("none");
    let is_signed = told.authenticated != Some(false);
    let believes = |keys: &&&Vec<&str>| keys.is_empty() || (is_signed && keys.contains(&signer));
    if !of_zone.is_empty() && !of_zone.iter().any(|keys| believes(&keys)) {
        return Err(format!("the key that signed the last answer ({signer}) is none of those that are configured now"));
    }
    if of_zone.is_empty() || !daemons.is_any() {
        return Ok((answer, told.authenticated));
    }
    Ok((answer, Some(is_signed && of_zone.iter().any(|keys| keys.contains(&signer)))))
}

/// The label of a version as a process has said it.
fn label_of(version: &str) -> Option<String> {
    Version::parse(version).ok().map(|version| version_label(&version))
}

/// The date of a UTC day, in days since 1970-01-01.
pub(crate) fn date(day: i64) -> String {
    time::date(day.saturating_mul(schedule::DAY))
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
