//! `GET /metrics`: figures for Prometheus, in its text format. No id is among them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use ondat_telemetry::switches::Switch;
use serde_json::Value;

use super::refusal::Refusal;
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
        let sources = switch["off_by"].as_array().into_iter().flatten().filter_map(Value::as_str);
        off_by.extend(sources.map(|source| (vec![label.clone(), ("source", without_process(source).to_owned())], 1)));
    }
    (on, off_by)
}

/// The source without the process that names it, whose number is another one after each start.
fn without_process(source: &str) -> &str {
    let process = source.rsplit_once(" of ").filter(|(_, process)| process.ends_with(')') && process.contains(" (pid "));
    process.map_or(source, |(source, _)| source)
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
