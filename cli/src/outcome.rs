//! The state of each of the three functions: the last success, the last failure in words, what waits, and when it is
//! tried next.

use std::fmt::Write;

use ondat_telemetry::crash::limit::CrashLimits;
use ondat_telemetry::outcome;
use ondat_telemetry::report::memory::{self, ReportMemory, Try};
use ondat_telemetry::state::{Entry, StateDir};
use ondat_telemetry::switch::Switch;
use ondat_telemetry::sys::clock::Moment;
use ondat_telemetry::version::memory::Told;
use ondat_telemetry_protocol::time::rfc3339;
use serde_json::{Value, json};

/// The state of one of the three functions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// When the last query was answered, or the last report delivered, Unix seconds.
    last_success: Option<i64>,
    /// The last failure since then.
    last_error: Option<Failure>,
    /// When it is tried next, Unix seconds. None: that is not known.
    next_try: Option<i64>,
    /// How many items wait.
    waiting: usize,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    at: i64,
    text: String,
    /// When it is tried again, Unix seconds. None: that is not known.
    next: Option<i64>,
}

impl Failure {
    /// Reads the failure that the library remembers in this state directory.
    pub(crate) fn of(dir: Option<&StateDir>, switch: Switch) -> Option<Self> {
        Self::read(&outcome::failure(dir?, switch))
    }

    /// Parses a remembered failure. None: it is null or malformed.
    fn read(json: &Value) -> Option<Self> {
        let (at, text) = (json["at"].as_i64()?, json["text"].as_str()?.to_owned());
        Some(Self { at, text, next: json["next"].as_i64() })
    }

    /// Drops a failure that a later success has ended. An older version does not remove it itself.
    fn unless_over(failure: Option<Self>, last_success: Option<i64>) -> Option<Self> {
        failure.filter(|failure| last_success.is_none_or(|success| success <= failure.at))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", rfc3339(self.at), self.text)
    }
}

impl Outcome {
    /// The state of version checks, by the answers to the versions with these labels. If there is none, the last answer to any
    /// version counts.
    pub(crate) fn of_version_checks(
        failure: Option<Failure>,
        told: &[Told],
        labels: &[String],
        is_on: bool,
        now: &Moment,
    ) -> Self {
        let mut counted: Vec<_> = told.iter().filter(|told| labels.contains(&told.label)).collect();
        if counted.is_empty() {
            counted.extend(told.last());
        }
        let last_success = counted.iter().map(|told| told.checked_at).filter(|at| *at > 0).max();
        let last_error = Failure::unless_over(failure, last_success);
        let next_try = counted.iter().filter_map(|told| told.next.as_ref()).map(|next| next.due(now)).min();
        Self { last_success, last_error, next_try: next_try.filter(|_| is_on), waiting: 0 }
    }

    /// The state of daily reports. `not_made` says why none could be made. `next_try` is when the waiting reports are tried.
    pub(crate) fn of_reports(
        not_made: Option<Failure>,
        memory: &ReportMemory,
        waiting: usize,
        next_try: Option<i64>,
    ) -> Self {
        let is_delivered = |tried: &Try| tried.outcome() == memory::Outcome::Delivered;
        let delivered = memory.made.values().flatten().filter_map(|made| made.delivered_at);
        let tried = memory.tries.iter().filter(|tried| is_delivered(tried)).map(|tried| tried.at);
        let last_success = delivered.chain(tried).max();
        let last_try = memory.tries.last().filter(|tried| !is_delivered(tried));
        let not_delivered = last_try.map(|tried| Failure { at: tried.at, text: tried.why().to_owned(), next: None });
        let failure = [not_delivered, not_made].into_iter().flatten().max_by_key(|failure| failure.at);
        let last_error = Failure::unless_over(failure, last_success);
        let next_try = next_try.or_else(|| last_error.as_ref().and_then(|failure| failure.next));
        Self { last_success, last_error, next_try, waiting }
    }

    /// The state of crash reports, by those that wait and the copies of the last that were delivered.
    pub(crate) fn of_crash_reports(
        failure: Option<Failure>,
        limits: &CrashLimits,
        waiting: usize,
        sent: &[Entry],
        now: &Moment,
    ) -> Self {
        let last_success = sent.iter().map(|entry| entry.modified).max();
        let last_error = Failure::unless_over(failure, last_success);
        let retry = last_error.as_ref().and_then(|failure| failure.next);
        let pause = Some(limits.paused_until(now)).filter(|until| *until > now.unix);
        // A report that is held back is stored when it may be sent.
        let next_try = if waiting > 0 { retry.max(pause) } else { limits.next_release(now) };
        Self { last_success, last_error, next_try: next_try.map(|at| at.max(now.unix)), waiting }
    }

    /// Adds this state to the JSON object of the function.
    pub(crate) fn add_to(&self, mut json: Value) -> Value {
        let error = self.last_error.as_ref().map(|failure| json!({ "at": failure.at, "text": failure.text }));
        json["last_success"] = self.last_success.into();
        json["last_error"] = error.into();
        json["next_try"] = self.next_try.into();
        json["waiting"] = self.waiting.into();
        json
    }

    /// Writes this state for people.
    pub(crate) fn write_text(&self, out: &mut String) -> std::fmt::Result {
        if let Some(at) = self.last_success {
            writeln!(out, "  last success   {}", rfc3339(at))?;
        }
        if self.waiting > 0 {
            writeln!(out, "  waiting        {}", self.waiting)?;
        }
        if let Some(failure) = &self.last_error {
            writeln!(out, "  last error     {failure}")?;
        }
        self.next_try.map_or(Ok(()), |at| writeln!(out, "  next try       {}", rfc3339(at)))
    }
}

#[cfg(test)]
mod tests {
    use ondat_telemetry::schedule::Timer;

    use super::*;

    fn now() -> Moment {
        Moment { unix: 1_000, boot: None }
    }

    fn said(outcome: &Outcome) -> (Option<i64>, Option<&str>, Option<i64>) {
        let error = outcome.last_error.as_ref().map(|failure| failure.text.as_str());
        (outcome.last_success, error, outcome.next_try)
    }

    fn failure(at: i64, text: &str, next: Option<i64>) -> Option<Failure> {
        Failure::read(&json!({ "at": at, "text": text, "next": next }))
    }

    #[test]
    fn a_failure_counts_until_a_success() {
        let of = |failure, checked_at| {
            let told = Told { checked_at, ..Told::default() };
            Outcome::of_version_checks(failure, &[told], &[], true, &now())
        };
        assert_eq!(said(&of(failure(5, "why", None), 0)), (None, Some("why"), None));
        assert_eq!(said(&of(failure(6, "why", None), 5)), (Some(5), Some("why"), None));
        // An older version has asked since, and does not know about the failure.
        assert_eq!(said(&of(failure(6, "why", None), 7)), (Some(7), None, None));
        for damaged in [json!(5), json!({ "at": "5", "text": "x" }), json!({ "at": 5 }), json!([])] {
            assert_eq!(Failure::read(&damaged), None);
        }
    }

    #[test]
    fn of_several_versions_those_count_that_run() {
        let told = |label: &str, checked_at, wait| Told {
            label: label.to_owned(),
            checked_at,
            next: Some(Timer { since: now(), wait }),
            ..Told::default()
        };
        let all = [told("new", 500, 50), told("gone", 900, -50)];
        let labels = ["new".to_owned()];
        let outcome = Outcome::of_version_checks(None, &all, &labels, true, &now());
        assert_eq!(outcome.last_success, Some(500));
        let none_runs = Outcome::of_version_checks(None, &all, &[], true, &now());
        assert_eq!(none_runs.last_success, Some(900));
        assert_eq!(Outcome::of_version_checks(None, &all, &labels, false, &now()).next_try, None, "it is off");
    }

    #[test]
    fn the_tries_of_an_older_version_say_the_same() {
        for (result, expected) in [
            ("stored: HTTP 503", (None, Some("HTTP 503"), None)),
            ("refused for good (HTTP 422)", (None, Some("refused for good (HTTP 422)"), None)),
            ("delivered (HTTP 201)", (Some(10), None, None)),
        ] {
            let older = json!({ "tries": [{ "at": 10, "day": 0, "result": result }] });
            let memory: ReportMemory = serde_json::from_value(older).unwrap();
            assert_eq!(said(&Outcome::of_reports(None, &memory, 0, None)), expected);
        }
    }

    #[test]
    fn of_reports_the_last_try_counts_and_why_none_was_made() {
        use memory::Outcome::{Delivered, Refused, Stored};
        let try_ = |at, how, detail: &str| {
            let mut tried = Try { at, ..Try::default() };
            tried.end(how, detail);
            tried
        };
        let mut memory = ReportMemory { tries: vec![try_(10, Stored, "HTTP 503")], ..ReportMemory::default() };
        let of = |memory: &ReportMemory| Outcome::of_reports(None, memory, 1, Some(2_000));
        assert_eq!(said(&of(&memory)), (None, Some("HTTP 503"), Some(2_000)));
        memory.tries.push(try_(20, Refused, "HTTP 422"));
        assert_eq!(said(&of(&memory)), (None, Some("refused for good (HTTP 422)"), Some(2_000)));
        let not_made = || failure(30, "no key is valid now", Some(3_000));
        let none_waits = |memory: &ReportMemory| Outcome::of_reports(not_made(), memory, 0, None);
        assert_eq!(said(&none_waits(&memory)), (None, Some("no key is valid now"), Some(3_000)));
        memory.tries.push(try_(40, Delivered, "HTTP 201"));
        assert_eq!(said(&none_waits(&memory)), (Some(40), None, None));
    }
}
