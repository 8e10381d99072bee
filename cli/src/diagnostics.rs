//! One document for troubleshooting: status, versions, histories and the last errors. It contains no raw id, no user
//! name and no client address.

use ondat_telemetry::error::Error;
use ondat_telemetry::report::memory::Outcome;
use ondat_telemetry::state::StateDir;
use ondat_telemetry::switch::Switch;
use ondat_telemetry::sys::clock::{Clock, SystemClock};
use ondat_telemetry_protocol::time::rfc3339;
use serde_json::{Map, Value, json};

use crate::settings::Settings;
use crate::{administration, crashes, report, status};

/// The most crash reports, and the most changes.
const LAST: usize = 100;

/// The document. What cannot be read is said in its place: something is wrong where it is asked for.
pub(crate) fn json(settings: &Settings, dir: &StateDir) -> Value {
    let status = or_problem(status::json(settings));
    let reports = or_problem(report::json(dir));
    let crashes = or_problem(crashes::json(dir).map(|crashes| endings(&crashes)));
    let changes = administration::audit(dir);
    json!({
        "made_at": rfc3339(SystemClock::new().now().unix),
        "versions": versions(&status),
        "errors": errors(&status, &reports, &changes),
        "status": status,
        "reports": reports,
        "crashes": crashes,
        "changes": last(changes.iter().map(change).collect()),
    })
}

fn or_problem(part: Result<Value, Error>) -> Value {
    part.unwrap_or_else(|why| json!({ "problem": why.to_string() }))
}

fn last(mut values: Vec<Value>) -> Vec<Value> {
    values.split_off(values.len().saturating_sub(LAST))
}

fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn versions(status: &Value) -> Value {
    let processes = items(status, "processes")
        .map(|process| json!({ "component": process["component"], "version": process["version"] }));
    json!({ "ondat_telemetry": env!("CARGO_PKG_VERSION"), "processes": processes.collect::<Vec<_>>() })
}

/// How each process ended, without the ids of cluster and node.
fn endings(crashes: &Value) -> Value {
    let endings = |name: &str| {
        let endings = items(crashes, name).map(|crash| {
            let event = &crash["event"];
            json!({
                "id": crash["id"],
                "at": event["timestamp"],
                "release": event["release"],
                "ending": event["exception"]["values"][0]["value"],
                "signal": event["tags"]["signal"],
                "exit_code": event["tags"]["exit_code"],
                "core_dump": event["tags"]["core_dump"],
            })
        });
        last(endings.collect())
    };
    json!({ "waiting": endings("waiting"), "sent": endings("sent"), "held_back": crashes["held_back"] })
}

/// A line of the audit file, without who it was and from where.
fn change(line: &Value) -> Value {
    let mut change: Map<String, Value> = line.as_object().cloned().unwrap_or_default();
    for name in ["user", "address", "of"] {
        change.remove(name);
    }
    Value::Object(change)
}

/// What went wrong, the oldest first; what is wrong now comes last and has no time.
fn errors(status: &Value, reports: &Value, changes: &[Value]) -> Vec<Value> {
    let time = |at: &Value| at.as_i64().map(rfc3339).into();
    let is_delivered = |try_: &&Value| try_["outcome"] == json!(Outcome::Delivered);
    let failed = items(reports, "tries").filter(|try_| !is_delivered(try_));
    let mut errors: Vec<_> = failed.map(|try_| error("daily_report", time(&try_["at"]), &try_["result"])).collect();
    let failed = changes.iter().filter(|line| line["action"] == "failed");
    errors.extend(failed.map(|line| error("settings", line["at"].clone(), &line["why"])));
    for part in Switch::ALL.map(Switch::name) {
        let last = &status[part]["last_error"];
        if last.is_object() {
            errors.push(error(part, time(&last["at"]), &last["text"]));
        }
    }
    errors.sort_by(|a, b| a["at"].as_str().cmp(&b["at"].as_str()));
    let mut errors = last(errors);
    errors.extend(wrong_now(status, reports));
    errors
}

fn error(what: &str, at: Value, text: &Value) -> Value {
    json!({ "what": what, "at": at, "text": text.as_str().unwrap_or("not known why") })
}

fn wrong_now<'a>(status: &'a Value, reports: &'a Value) -> impl Iterator<Item = Value> + 'a {
    let problems = [
        ("settings", &status["problem"]),
        ("settings", &status["administrator"]["problem"]),
        ("state_dir", &status["state_dir_problem"]),
        ("version_check", &status["version_check"]["problem"]),
        ("daily_report", &status["daily_report"]["problem"]),
        ("daily_report", &reports["problem"]),
    ];
    let told = items(&status["version_check"], "told").map(|told| ("version_check", &told["problem"]));
    let problems = problems.into_iter().chain(told).filter(|(_, text)| text.is_string());
    problems.map(|(what, text)| error(what, Value::Null, text))
}
