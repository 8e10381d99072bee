//! `GET /metrics`: metrics for Prometheus, in its text format. They contain no ids.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use ondat_telemetry::switch::Switch;
use ondat_telemetry_service::refusal::Refusal;
use serde_json::Value;

use super::{App, blocking};
use crate::status;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The longest value of a label in characters.
const LONGEST: usize = 128;
/// What the version check may have said.
const VERDICTS: [&str; 5] = ["unknown", "current", "outdated", "upgrade_recommended", "upgrade_required"];

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let text = blocking(move || Ok::<_, Refusal>(text(&status::json(&app.settings())?))).await??;
    Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
}

/// The values of one name, by their labels: a set of labels is there once.
type Samples = BTreeMap<Vec<(&'static str, String)>, i64>;

fn text(status: &Value) -> String {
    let mut out = String::new();
    let mut family = |name: &str, help: &str, samples: Samples| {
        if samples.is_empty() {
            return;
        }
        let name = format!("ondat_telemetry_{name}");
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let labels: Vec<_> = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let build = Samples::from([(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1)]);
    family("build_info", "The version of this server.", build);
    let (products, processes) = processes(status);
    family("product_info", "What runs on the state directory.", products);
    family("processes", "How many processes run on the state directory.", processes);
    let usable = i64::from(status["state_dir_problem"].is_null());
    family("state_directory_usable", "Whether the state directory can be used.", Samples::from([(vec![], usable)]));
    let (on, off_by) = switches(status);
    family("switch_on", "Whether a switch is on, all who may turn it off counted.", on);
    family("switch_off_by", "Who turns a switch off.", off_by);
    let last = "Unix time when it last";
    family("last_success_timestamp_seconds", &format!("{last} worked."), of_kinds(status, "/last_success"));
    family(
        "last_failure_timestamp_seconds",
        &format!("{last} failed; absent once it works again."),
        of_kinds(status, "/last_error/at"),
    );
    family("next_try_timestamp_seconds", "Unix time of the next try.", of_kinds(status, "/next_try"));
    family("waiting_items", "How many items wait to be sent.", of_kinds(status, "/waiting"));
    family("version_verdict", "What the version check has said of a version; 1 for what holds.", verdicts(status));
    out
}

fn processes(status: &Value) -> (Samples, Samples) {
    let all = status["processes"].as_array();
    let products = all.into_iter().flatten().filter_map(|process| {
        let [component, version] = [&process["component"], &process["version"]].map(Value::as_str);
        Some((vec![("component", component?.to_owned()), ("version", version?.to_owned())], 1))
    });
    let count = all.map(|all| i64::try_from(all.len()).unwrap_or(i64::MAX));
    (products.collect(), count.map(|count| (vec![], count)).into_iter().collect())
}

fn switches(status: &Value) -> (Samples, Samples) {
    let (mut on, mut off_by) = (Samples::new(), Samples::new());
    for name in Switch::ALL.map(Switch::name) {
        let switch = &status["switches"][name];
        let label = ("switch", name.to_owned());
        on.extend(switch["on"].as_bool().map(|is_on| (vec![label.clone()], i64::from(is_on))));
        // Without the process, whose number is another one after each start.
        let sources = switch["sources"].as_array().into_iter().flatten();
        let texts = sources.filter_map(|source| source["text"].as_str());
        off_by.extend(texts.map(|text| (vec![label.clone(), ("source", text.to_owned())], 1)));
    }
    (on, off_by)
}

/// A number that is said of each kind; left out where it is not known.
fn of_kinds(status: &Value, pointer: &str) -> Samples {
    let kinds = Switch::ALL.map(Switch::name).into_iter();
    kinds.filter_map(|kind| Some((vec![("kind", kind.to_owned())], status[kind].pointer(pointer)?.as_i64()?))).collect()
}

fn verdicts(status: &Value) -> Samples {
    let told = status["version_check"]["told"].as_array().into_iter().flatten();
    let told = told.flat_map(|told| {
        let version = told["version"].as_str().or(told["label"].as_str()).unwrap_or_default();
        VERDICTS.map(|verdict| {
            let labels = vec![("version", version.to_owned()), ("verdict", verdict.to_owned())];
            (labels, i64::from(told["verdict"] == verdict))
        })
    });
    told.collect()
}

/// A value of a label as the format writes it.
fn escaped(text: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
    let text: String = text.chars().take(LONGEST).map(plain).collect();
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use ondat_telemetry::version::verdict::Verdict;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_known_is_told_and_what_is_not_is_left_out() {
        let process = |pid: u32, version: &str| json!({ "component": "dataplane", "version": version, "pid": pid });
        let told = text(&json!({
            "state_dir_problem": null,
            "processes": [process(7, "2.8.1"), process(8, "2.8.1"), process(9, "2.9.0")],
            "switches": { "daily_report": { "on": false, "sources": [
                { "text": "environment DISABLE_TELEMETRY", "process": process(7, "2.8.1") },
                { "text": "environment DISABLE_TELEMETRY", "process": process(8, "2.8.1") },
                { "text": "the host \"a\\b\" says\nof course\r" }, { "text": "x".repeat(500) },
            ] } },
            "version_check": {
                "told": [{ "version": "2.8.1", "verdict": "upgrade_recommended" }, { "version": null, "label": "l", "verdict": "unknown" }],
                "last_success": 1_796_000_000, "last_error": null, "next_try": null, "waiting": 0,
            },
            "daily_report": {
                "last_success": null, "last_error": { "at": 1_796_000_001, "text": "refused" },
                "next_try": 1_796_000_002, "waiting": 3,
            },
        }));
        let lines: Vec<_> = told.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            format!("build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
            "product_info{component=\"dataplane\",version=\"2.8.1\"} 1".to_owned(),
            "product_info{component=\"dataplane\",version=\"2.9.0\"} 1".to_owned(),
            "processes 3".to_owned(),
            "state_directory_usable 1".to_owned(),
            "switch_on{switch=\"daily_report\"} 0".to_owned(),
            "switch_off_by{switch=\"daily_report\",source=\"environment DISABLE_TELEMETRY\"} 1".to_owned(),
            "switch_off_by{switch=\"daily_report\",source=\"the host \\\"a\\\\b\\\" says\\nof course?\"} 1".to_owned(),
            format!("switch_off_by{{switch=\"daily_report\",source=\"{}\"}} 1", "x".repeat(LONGEST)),
            "last_success_timestamp_seconds{kind=\"version_check\"} 1796000000".to_owned(),
            "last_failure_timestamp_seconds{kind=\"daily_report\"} 1796000001".to_owned(),
            "next_try_timestamp_seconds{kind=\"daily_report\"} 1796000002".to_owned(),
            "waiting_items{kind=\"daily_report\"} 3".to_owned(),
            "waiting_items{kind=\"version_check\"} 0".to_owned(),
        ];
        let expected = expected.map(|line| format!("ondat_telemetry_{line}"));
        let (verdicts, others): (Vec<&str>, Vec<_>) = lines.iter().partition(|line| line.contains("version_verdict"));
        assert_eq!(others, expected);
        let held: Vec<_> = verdicts.iter().filter(|line| line.ends_with(" 1")).collect();
        assert_eq!(
            held,
            [
                "ondat_telemetry_version_verdict{version=\"2.8.1\",verdict=\"upgrade_recommended\"} 1",
                "ondat_telemetry_version_verdict{version=\"l\",verdict=\"unknown\"} 1",
            ]
            .iter()
            .collect::<Vec<_>>()
        );
        assert_eq!(verdicts.len(), 2 * VERDICTS.len());
        assert_eq!(told.matches("# TYPE ondat_telemetry_product_info gauge\n").count(), 1);
    }

    #[test]
    fn every_verdict_has_its_name() {
        let all = [
            Verdict::Unknown,
            Verdict::Current,
            Verdict::Outdated,
            Verdict::UpgradeRecommended,
            Verdict::UpgradeRequired,
        ];
        assert_eq!(json!(all), json!(VERDICTS));
    }
}
