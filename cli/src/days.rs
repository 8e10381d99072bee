//! The last days of the daily report, as far as the state directory knows them: what was delivered, and what was not.

use std::collections::BTreeMap;

use ondat_telemetry::presence::{Life, Process};
use ondat_telemetry::report::memory::{MadeReport, Outcome, ReportMemory};
use ondat_telemetry::schedule::{DAY, day};
use ondat_telemetry::state::{StateDir, layout};
use ondat_telemetry::switch::Switch;
use ondat_telemetry_protocol::time::{parse_date, parse_rfc3339};
use serde_json::{Value, json};

use crate::administration;
use crate::status::date;

/// How many days are told of, today among them.
const DAYS: i64 = 30;

/// What became of the report of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was delivered on its day.
    Delivered,
    /// It was delivered on a later day.
    Late,
    /// It is stored for delivery.
    Waiting,
    /// It was due, and is neither delivered nor stored.
    Missing,
    /// The switch was off all that day.
    Off,
    /// The day is before the state directory was first used.
    Before,
    /// Today's is not made yet.
    Due,
    /// No report of the day is known, nor whether one was due.
    Unknown,
}

impl State {
    /// Of a report of this day that was delivered then.
    fn of_delivery(of: i64, at: i64) -> Self {
        if day(at) > of { Self::Late } else { Self::Delivered }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Late => "late",
            Self::Waiting => "waiting",
            Self::Missing => "missing",
            Self::Off => "off",
            Self::Before => "before",
            Self::Due => "due",
            Self::Unknown => "unknown",
        }
    }
}

/// What there is to go by.
struct Known {
    now: i64,
    memory: ReportMemory,
    /// The days of the reports that are stored for delivery.
    waiting: Vec<i64>,
    /// When the administrator was told what is sent: when the first process has started.
    notice: Option<i64>,
    processes: Vec<Process>,
    /// When the administrator held the daily report off.
    off: Spans,
}

/// The last days, the oldest first.
pub(crate) fn json(dir: &StateDir, memory: ReportMemory, processes: Vec<Process>, now: i64) -> Vec<Value> {
    let stored = dir.folder(layout::REPORTS).entries().unwrap_or_default();
    let known = Known {
        now,
        memory,
        waiting: stored.iter().filter_map(|entry| day_of(entry.name.get(..10)?)).collect(),
        notice: notice(dir),
        processes,
        off: Spans::read(dir, now),
    };
    let today = day(now);
    let days = (today - DAYS + 1)..=today;
    days.map(|day| json!({ "day": date(day), "state": known.state_of(day).name() })).collect()
}

/// The day of a date, in days since 1970-01-01.
fn day_of(date: &str) -> Option<i64> {
    Some(day(parse_date(date)?))
}

fn notice(dir: &StateDir) -> Option<i64> {
    let bytes = dir.root().read(layout::NOTICE).ok()??;
    serde_json::from_slice::<Value>(&bytes).ok()?["given_at"].as_i64()
}

impl Known {
    fn state_of(&self, day: i64) -> State {
        let today = self::day(self.now);
        if let Some(made) = self.made(day) {
            return self.state_of_made(made);
        }
        if let Some(state) = self.state_by_tries(day) {
            return state;
        }
        // Of today counts what is now.
        let (from, to) = if day == today { (self.now, self.now + 1) } else { (day * DAY, (day + 1) * DAY) };
        match () {
            () if self.first_use().is_none_or(|first| day < self::day(first)) => State::Before,
            () if self.off.cover(from, to) || self.processes_hold_off(from) => State::Off,
            () if day == today => State::Due,
            () if self.was_due(from) => State::Missing,
            () => State::Unknown,
        }
    }

    /// The report of this day; where two clusters share the directory, the one that is not delivered.
    fn made(&self, day: i64) -> Option<&MadeReport> {
        let made = self.memory.made.values().flatten().filter(|made| made.day == day);
        made.max_by_key(|made| made.delivered_at.map_or(i64::MAX, |at| at))
    }

    fn state_of_made(&self, made: &MadeReport) -> State {
        match made.delivered_at {
            Some(at) => State::of_delivery(made.day, at),
            None if self.waiting.contains(&made.day) => State::Waiting,
            // What is stored is removed by turning off.
            None if self.off.touch(made.at.unix, self.now + 1) => State::Off,
            // The oldest is dropped where there are too many.
            None if self.state_by_tries(made.day) == Some(State::Missing) => State::Missing,
            None if self.waiting.iter().any(|day| *day > made.day) => State::Missing,
            None => State::Unknown,
        }
    }

    /// What the last try says: what was refused for good is not remembered as made.
    fn state_by_tries(&self, day: i64) -> Option<State> {
        let last = self.memory.tries.iter().rfind(|try_| try_.day == day)?;
        match last.outcome() {
            Outcome::Delivered => Some(State::of_delivery(day, last.at)),
            Outcome::Refused => Some(State::Missing),
            Outcome::Stored => None,
        }
    }

    /// When a process has first used the directory, as far as one has left word.
    fn first_use(&self) -> Option<i64> {
        let made = self.memory.made.values().flatten().map(|made| made.at.unix);
        let tries = self.memory.tries.iter().map(|try_| try_.at);
        let processes = self.processes.iter().map(|process| process.at);
        made.chain(tries).chain(processes).chain(self.notice).filter(|at| *at > 0).min()
    }

    /// The processes that have been there since before then, and what they say has not changed since.
    fn processes_since(&self, from: i64) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(move |process| process.at <= from)
    }

    fn processes_hold_off(&self, from: i64) -> bool {
        self.processes_since(from).next().is_some() && self.processes.iter().all(holds_off)
    }

    /// Whether a report was due at all: a process that lives was there all day and did not hold it off, and reports are made
    /// in this directory. Whether others were there that day, nobody has written down.
    fn was_due(&self, from: i64) -> bool {
        let to = from + DAY;
        let is_made_here = self.memory.made.values().any(|made| !made.is_empty());
        let mut witnesses = self.processes_since(from).filter(|process| !holds_off(process));
        is_made_here && !self.off.touch(from, to) && witnesses.any(|process| process.life() == Life::Lives)
    }
}

fn holds_off(process: &Process) -> bool {
    process.off.iter().any(|off| off.switch == Switch::DailyReport)
}

/// Times that are covered, from and to in Unix seconds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Spans(Vec<(i64, i64)>);

impl Spans {
    /// When the administrator held the daily report off, by what is written down of it.
    fn read(dir: &StateDir, now: i64) -> Self {
        let mut spans = Self::of(&administration::audit(dir));
        let word = administration::read(dir);
        let is_off = word.as_ref().map_or(true, |word| word.is_off(Switch::DailyReport));
        if is_off && !spans.cover(now, now + 1) {
            // Not written down: by hand, or unreadable.
            let since = word.ok().and_then(|word| word.updated_at()).unwrap_or(now);
            spans.0.push((since.min(now), i64::MAX));
        }
        spans
    }

    fn of(lines: &[Value]) -> Self {
        // For each source since when it holds it off.
        let mut held = BTreeMap::new();
        let mut spans = Vec::new();
        for line in lines {
            let Some(at) = line["at"].as_str().and_then(parse_rfc3339) else { continue };
            for (source, was_off, is_off) in changes(line) {
                // What it was before the first line that is there, it was for as long as is known.
                let since = held.entry(source).or_insert(was_off.then_some(i64::MIN));
                match (*since, is_off) {
                    (None, true) => *since = Some(at),
                    (Some(from), false) => {
                        spans.push((from, at));
                        *since = None;
                    }
                    _ => {}
                }
            }
        }
        spans.extend(held.into_values().flatten().map(|from| (from, i64::MAX)));
        Self(spans)
    }

    /// Whether all of this time is covered.
    fn cover(&self, from: i64, to: i64) -> bool {
        let mut reached = from;
        while reached < to {
            let next = self.0.iter().filter(|(start, end)| *start <= reached && *end > reached).map(|(_, end)| *end);
            let Some(end) = next.max() else { return false };
            reached = end;
        }
        true
    }

    /// Whether any of this time is covered.
    fn touch(&self, from: i64, to: i64) -> bool {
        self.0.iter().any(|(start, end)| *start < to && *end > from)
    }
}

/// What a line of the audit file says of the daily report: by which source, whether it was off, and whether it is.
fn changes(line: &Value) -> Vec<(String, bool, bool)> {
    // The administrator's word and the API client's are two; an older line is the administrator's.
    let source = |name: &str| format!("{} {name}", line["word"].as_str().unwrap_or("administrator"));
    if line["action"] == "repair" {
        return vec![(source(Switch::DailyReport.name()), false, true)];
    }
    let changes = line["changes"].as_object().into_iter().flatten();
    let known = changes.filter_map(|(name, change)| {
        Some((source(name), is_off(name, &change["from"])?, is_off(name, &change["to"])?))
    });
    known.collect()
}

/// Whether the value of this name turns the daily report off; none where it is about something else.
fn is_off(name: &str, value: &Value) -> Option<bool> {
    let switch = Switch::DailyReport.name();
    match value {
        Value::Bool(is_on) => (name == switch).then_some(!is_on),
        // What was taken over from other sources.
        Value::Array(objections) => Some(objections.iter().any(|objection| objection["switch"] == switch)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ondat_telemetry::report::memory::Try;
    use ondat_telemetry::switch::{Kind, Objection, Source};
    use ondat_telemetry::sys::clock::Moment;

    use ondat_telemetry_protocol::time::rfc3339;

    use super::*;

    const TODAY: i64 = 20_786;
    const NOON: i64 = TODAY * DAY + DAY / 2;

    fn at(day: i64) -> Moment {
        serde_json::from_value(json!({ "unix": day * DAY + 3_600, "boot": null })).unwrap()
    }

    /// A report of this day, delivered so many days later or not at all.
    fn made(day: i64, delivered: Option<i64>) -> MadeReport {
        MadeReport { day, at: at(day), delivered_at: delivered.map(|later| (day + later) * DAY + 7_200) }
    }

    fn known(reports: Vec<MadeReport>) -> Known {
        let memory = ReportMemory { made: BTreeMap::from([("c".to_owned(), reports)]), ..ReportMemory::default() };
        let (notice, off) = (Some((TODAY - 10) * DAY), Spans::default());
        Known { now: NOON, memory, waiting: Vec::new(), notice, processes: Vec::new(), off }
    }

    fn process(at: i64, off: &[Switch]) -> Process {
        let off = off.iter().map(|switch| Objection { switch: *switch, source: Source::new(Kind::Environment, "") });
        Process::new("dataplane", "2.8.1", at, off.collect())
    }

    fn audit(days_ago: i64, changes: Value) -> Value {
        json!({ "at": rfc3339((TODAY - days_ago) * DAY + 60), "action": "switches", "changes": changes })
    }

    fn turned(on: bool) -> Value {
        json!({ "daily_report": { "from": !on, "to": on } })
    }

    #[test]
    fn a_report_is_delivered_in_time_or_late_or_waits_or_is_lost() {
        let reports = [
            (5, Some(0), State::Delivered),
            (4, Some(1), State::Late),
            (3, None, State::Missing),
            (2, None, State::Waiting),
            (1, None, State::Unknown),
        ];
        let made = reports.map(|(ago, delivered, _)| made(TODAY - ago, delivered));
        let known = Known { waiting: vec![TODAY - 2], ..known(made.to_vec()) };
        for (ago, _, state) in reports {
            assert_eq!(known.state_of(TODAY - ago), state, "{ago} days ago");
        }
        assert_eq!(known.state_of(TODAY), State::Due);
        assert_eq!(known.state_of(TODAY - 11), State::Before);
        assert_eq!(known.state_of(TODAY - 10), State::Unknown, "nobody knows whether a process was there");
    }

    #[test]
    fn missing_is_only_what_was_due() {
        let witness = |off: &[Switch]| process((TODAY - 6) * DAY, off);
        let of = |processes: Vec<Process>, reports: Vec<MadeReport>| {
            Known { processes, ..known(reports) }.state_of(TODAY - 3)
        };
        let one = || vec![made(TODAY - 8, Some(0))];
        assert_eq!(of(vec![witness(&[])], one()), State::Missing);
        assert_eq!(of(vec![witness(&[Switch::CrashReports])], one()), State::Missing);
        assert_eq!(of(vec![witness(&[])], Vec::new()), State::Unknown, "no report was ever made here");
        assert_eq!(of(vec![process((TODAY - 2) * DAY, &[])], one()), State::Unknown, "it came later");
        assert_eq!(of(vec![witness(&[Switch::DailyReport])], one()), State::Off);
        assert_eq!(of(vec![witness(&[Switch::DailyReport]), process(NOON, &[])], one()), State::Unknown);
        assert_eq!(of(Vec::new(), one()), State::Unknown);
        let mut elsewhere = Process::parse(
            &serde_json::to_vec(&json!({
                "component": "dataplane", "version": "2.8.1", "pid": 1, "at": (TODAY - 6) * DAY, "objections": [],
                "boot": ondat_telemetry::sys::clock::boot_id(), "pid_namespace": "pid:[1]", "born": [1, 1],
            }))
            .unwrap(),
        );
        assert_eq!(of(elsewhere.take().into_iter().collect(), one()), State::Unknown, "nobody sees whether it lives");
    }

    #[test]
    fn what_was_refused_is_missing_and_what_was_turned_off_is_off() {
        let mut refused = known(Vec::new());
        let of = |ago, result: &str| {
            let day = TODAY - ago;
            Try { at: (day + 1) * DAY, day, result: result.to_owned(), ..Try::default() }
        };
        refused.memory.tries = vec![
            of(6, "delivered (HTTP 200)"),
            of(4, "refused for good (HTTP 400)"),
            of(3, "refused for good (HTTP 400)"),
            of(3, "stored: connection refused"),
        ];
        assert_eq!(refused.state_of(TODAY - 6), State::Late);
        assert_eq!(refused.state_of(TODAY - 4), State::Missing);
        assert_eq!(refused.state_of(TODAY - 3), State::Unknown);

        let lines = [audit(5, turned(false)), audit(2, turned(true))];
        let off = Known { off: Spans::of(&lines), ..known(vec![made(TODAY - 6, None)]) };
        assert_eq!(off.state_of(TODAY - 6), State::Off, "it was removed when it was turned off");
        assert_eq!(off.state_of(TODAY - 5), State::Unknown, "a minute of it was on");
        assert_eq!(off.state_of(TODAY - 4), State::Off);
        assert_eq!(off.state_of(TODAY - 2), State::Unknown);
        let still = Known { off: Spans::of(&lines[..1]), ..known(Vec::new()) };
        assert_eq!((still.state_of(TODAY), still.state_of(TODAY - 11)), (State::Off, State::Before));
    }

    #[test]
    fn off_is_what_any_source_holds_off() {
        let spec = json!([{ "switch": "daily_report", "source": "cluster spec disableTelemetry" }]);
        let applied = |from: Value, to: Value| json!({ "objections": { "from": from, "to": to } });
        let lines = [
            audit(
                9,
                json!({ "crash_reports": { "from": true, "to": false }, "log_level": { "from": "info", "to": "warn" } }),
            ),
            audit(8, applied(spec.clone(), json!([]))),
            audit(7, turned(false)),
            audit(6, applied(json!([]), spec)),
            audit(5, turned(true)),
            json!("damaged"),
            json!({ "at": "yesterday", "changes": turned(true) }),
        ];
        let spans = Spans::of(&lines);
        let start = |ago: i64| (TODAY - ago) * DAY + 60;
        assert!(spans.cover(i64::MIN, start(8)) && !spans.touch(start(8), start(7)), "{spans:?}");
        assert!(spans.cover(start(7), i64::MAX), "one takes over from the other: {spans:?}");
        assert!(Spans::of(&[]).0.is_empty());
        let repaired =
            [json!({ "at": "2026-11-28T00:00:00Z", "action": "repair", "why": "damaged" }), audit(0, turned(true))];
        assert!(
            Spans::of(&repaired).cover(TODAY * DAY - DAY, TODAY * DAY) && !Spans::of(&repaired).touch(NOON, NOON + 1)
        );
        let words = [("administrator", 5, false), ("api", 4, false), ("administrator", 3, true), ("api", 2, true)];
        let words = words.map(|(word, ago, on)| {
            let mut line = audit(ago, turned(on));
            line["word"] = word.into();
            line
        });
        assert_eq!(Spans::of(&words), Spans(vec![(start(5), start(3)), (start(4), start(2))]));
    }

    #[test]
    fn any_numbers_in_a_damaged_memory_are_days() {
        for day in [i64::MIN, -1, 0, i64::MAX] {
            let report = MadeReport { day, at: at(0), delivered_at: Some(day) };
            let known = Known { notice: Some(i64::MIN), ..known(vec![report]) };
            (TODAY - DAYS + 1..=TODAY).for_each(|day| assert_ne!(known.state_of(day), State::Off));
        }
    }
}
