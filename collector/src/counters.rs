//! Counts, for Prometheus, what was received and refused since the start.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter: its name, its label with the value, and its help text.
struct Counted(&'static str, &'static str, &'static str);

macro_rules! counters {
    ($($(#[doc = $meaning:literal])+ $name:ident: $metric:literal, $label:literal;)+) => {
        /// The counters.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Count { $($(#[doc = $meaning])+ $name,)+ }

        const COUNTED: &[Counted] = &[$(Counted($metric, $label, concat!($($meaning),+)),)+];
    };
}

counters! {
    /// Reports that were stored.
    Accepted: "reports_total", "outcome=\"stored\"";
    /// Reports that were stored beside another body of their id.
    Beside: "reports_total", "outcome=\"stored_beside\"";
    /// Reports that had been stored before.
    Duplicate: "reports_total", "outcome=\"duplicate\"";
    /// Reports that are not in the form of one.
    Malformed: "reports_total", "outcome=\"malformed\"";
    /// Reports larger than any may be.
    TooBig: "reports_total", "outcome=\"too_big\"";
    /// Reports that did not come whole, or too slowly.
    Broken: "reports_total", "outcome=\"broken\"";
    /// Reports for which there was no memory.
    OverBudget: "reports_total", "outcome=\"over_budget\"";
    /// Reports of unknown keys beyond the day's quota.
    OverQuota: "reports_total", "outcome=\"over_quota\"";
    /// Reports of keys that were destroyed.
    Destroyed: "reports_total", "outcome=\"destroyed_key\"";
    /// Reports of which three other bodies were there.
    OneTooMany: "reports_total", "outcome=\"one_body_too_many\"";
    /// Reports that could not be stored.
    ReportFailed: "reports_total", "outcome=\"store_failed\"";
    /// Reports that were stored although their key is unknown here.
    UnknownKey: "unknown_key_reports_total", "";
    /// Crash reports that were stored, or had been before.
    Crash: "crashes_total", "outcome=\"stored\"";
    /// Crash reports that were refused.
    CrashRefused: "crashes_total", "outcome=\"refused\"";
    /// Crash reports that could not be stored.
    CrashFailed: "crashes_total", "outcome=\"store_failed\"";
    /// Crash reports that were forwarded.
    Forwarded: "crashes_forwarded_total", "outcome=\"delivered\"";
    /// Crash reports that the next server refused for good.
    ForwardRejected: "crashes_forwarded_total", "outcome=\"rejected\"";
    /// Tries to forward a crash report that are to be repeated.
    ForwardFailed: "crashes_forwarded_total", "outcome=\"later\"";
    /// Version queries that were answered.
    Query: "dns_questions_total", "outcome=\"answered\"";
    /// Version queries that were left without an answer, as their network asks too often.
    QueryDropped: "dns_questions_total", "outcome=\"dropped\"";
    /// Version queries that were answered with an invitation to ask over TCP.
    QuerySlipped: "dns_questions_total", "outcome=\"truncated\"";
}

/// The counters of a process.
pub(crate) struct Counters(Vec<AtomicU64>);

impl Default for Counters {
    fn default() -> Self {
        Self(COUNTED.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Counters {
    /// Adds one.
    pub(crate) fn add(&self, count: Count) {
        if let Some(counter) = self.0.get(count as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Formats all counters and these gauges in Prometheus' text format.
    pub(crate) fn text(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut text = String::new();
        let mut before = "";
        for (Counted(name, label, meaning), counter) in COUNTED.iter().zip(&self.0) {
            if *name != before {
                head(&mut text, name, meaning.trim(), "counter");
                before = name;
            }
            let label = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{PREFIX}{name}{label} {}", counter.load(Ordering::Relaxed));
        }
        for (name, meaning, value) in gauges {
            head(&mut text, name, meaning, "gauge");
            let _ = writeln!(text, "{PREFIX}{name} {value}");
        }
        text
    }
}

const PREFIX: &str = "ondat_collector_";

fn head(text: &mut String, name: &str, meaning: &str, kind: &str) {
    // Counters that differ in their outcome only share a help text.
    let meaning = match name {
        "reports_total" => "Sealed reports by outcome.",
        "crashes_total" => "Crash reports by outcome.",
        "crashes_forwarded_total" => "Tries to forward a crash report by outcome.",
        "dns_questions_total" => "DNS questions by outcome.",
        _ => meaning,
    };
    let _ = writeln!(text, "# HELP {PREFIX}{name} {meaning}\n# TYPE {PREFIX}{name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_head_and_each_series_one_line() {
        let counters = Counters::default();
        counters.add(Count::Duplicate);
        counters.add(Count::QuerySlipped);
        let text = counters.text(&[("bytes_in_flight", "Bytes.", 7)]);
        let names: std::collections::BTreeSet<_> = COUNTED.iter().map(|counted| counted.0).collect();
        assert_eq!(text.matches("# TYPE").count(), names.len() + 1);
        assert!(text.contains("\nondat_collector_reports_total{outcome=\"duplicate\"} 1\n"), "{text}");
        assert!(text.contains("\nondat_collector_dns_questions_total{outcome=\"truncated\"} 1\n"), "{text}");
        assert!(text.ends_with("ondat_collector_bytes_in_flight 7\n"), "{text}");
        let series: std::collections::BTreeSet<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(series.len(), COUNTED.len() + 1);
    }
}
