//! The Sentry event: exactly the listed keys, made from facts about the ending and nothing of the process's memory.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::ending::{CoreDump, Ending};
use crate::identity::is_hex_id;
use crate::limits::CRASH_TEXT_BYTES;
use crate::signals;
use crate::time::{self, rfc3339};

/// What is the same in every crash report of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The component's name.
    pub component: &'a str,
    /// The product's version.
    pub version: &'a str,
    /// The anonymised cluster id, 32 hex digits.
    pub cluster_id: &'a str,
    /// The anonymised node id, 32 hex digits.
    pub node_id: &'a str,
}

/// One crash.
#[derive(Clone, Debug)]
pub struct Crash<'a> {
    /// 32 lower-case hex digits, the same on every try.
    pub event_id: &'a str,
    /// When the process ended, Unix seconds.
    pub at: i64,
    /// How it ended.
    pub ending: Ending,
    /// Why, in words of this library (`address not mapped`).
    pub class: Option<&'a str>,
    /// A caller's words.
    pub text: Option<&'a str>,
    /// It was not the component's own process, but one that it had forked.
    pub is_child: bool,
}

/// The event's JSON.
pub fn event(subject: &Subject<'_>, crash: &Crash<'_>) -> Value {
    let mut mechanism = json!({ "type": "exit", "handled": false });
    let (kind, signal, exit_code, core_dump) = match crash.ending {
        Ending::Exited(code) => ("ExitCode".to_owned(), "none".to_owned(), code.to_string(), CoreDump::No),
        Ending::Killed { signal, core_dump } => {
            let name = signals::name(signal);
            mechanism["type"] = "signalhandler".into();
            mechanism["meta"] = json!({ "signal": { "number": signal, "name": name } });
            (name.clone(), name, "none".to_owned(), core_dump)
        }
        Ending::Unknown => ("UncleanExit".to_owned(), "unknown".to_owned(), "unknown".to_owned(), CoreDump::Unknown),
    };
    let class = crash.class.unwrap_or(match crash.ending {
        Ending::Exited(_) => "exited",
        Ending::Killed { .. } => "killed",
        Ending::Unknown => "unclean",
    });
    let cause =
        crash.text.map_or_else(|| class.to_owned(), |text| format!("{class}: {}", without_numbers(&plain(text))));
    json!({
        "event_id": crash.event_id,
        "timestamp": rfc3339(crash.at),
        "platform": "native",
        "level": "fatal",
        "release": format!("ondat@{}", subject.version),
        "exception": { "values": [{ "type": kind, "value": description(subject.component, crash), "mechanism": mechanism }] },
        "fingerprint": [subject.component, crash.ending.name(), cause],
        "tags": {
            "signal": signal,
            "exit_code": exit_code,
            "core_dump": core_dump.as_str(),
            "cluster_id": subject.cluster_id,
            "node_id": subject.node_id,
        },
    })
}

/// The one sentence of a report.
fn description(component: &str, crash: &Crash<'_>) -> String {
    let mut sentence = match crash.ending {
        Ending::Exited(code) => format!("{component} exited with code {code}"),
        Ending::Killed { signal, .. } => format!("{component} killed by {}", signals::name(signal)),
        Ending::Unknown => format!("{component}: previous run ended without a clean stop"),
    };
    if let Some(class) = crash.class {
        sentence.push_str(&format!(" ({class})"));
    }
    if crash.is_child {
        sentence.push_str(" (child)");
    }
    if let Some(text) = crash.text.map(plain).filter(|text| !text.is_empty()) {
        sentence.push_str(": ");
        sentence.push_str(&text);
    }
    sentence
}

/// A caller's text, held to an alphabet in which nothing but plain words can be said; others become `_`.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(CRASH_TEXT_BYTES);
    for c in text.chars().take(CRASH_TEXT_BYTES) {
        plain.push(if c.is_ascii_alphanumeric() || " .,:;_+()/-".contains(c) { c } else { '_' });
    }
    plain
}

/// Each run of digits becomes a 0: what differs in a number alone, such as that of a disk, is one kind of crash.
fn without_numbers(text: &str) -> String {
    let mut kind = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '0'..='9' if kind.ends_with('0') => {}
            '0'..='9' => kind.push('0'),
            _ => kind.push(c),
        }
    }
    kind
}

/// What an event says, read from one of ours or of another sender's. A value that is missing is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// When, RFC 3339.
    pub time: Value,
    /// The sentence.
    pub description: Value,
    /// The tag `signal`.
    pub signal: Value,
    /// The tag `exit_code`.
    pub exit_code: Value,
    /// The tag `core_dump`.
    pub core_dump: Value,
    /// The release.
    pub release: Value,
    /// The tag `cluster_id`.
    pub cluster: Value,
    /// The tag `node_id`.
    pub node: Value,
}

impl Summary {
    /// Reads an event.
    pub fn read(event: &Value) -> Self {
        let at = |pointer: &str| event.pointer(pointer).cloned().unwrap_or_default();
        Self {
            time: time_of(at("/timestamp")),
            description: sentence_of(event),
            signal: tag(event, "signal"),
            exit_code: tag(event, "exit_code"),
            core_dump: tag(event, "core_dump"),
            release: at("/release"),
            cluster: tag(event, "cluster_id"),
            node: tag(event, "node_id"),
        }
    }
}

/// The id of an event, in one form: 32 lower-case hex digits. Some senders write it as a UUID, with dashes.
pub fn event_id(text: &str) -> Option<String> {
    Some(text.replace('-', "").to_ascii_lowercase()).filter(|id| is_hex_id(id))
}

/// The exception's text. Its list may stand in `values` or alone.
fn sentence_of(event: &Value) -> Value {
    let text = event.pointer("/exception/values/0/value").or_else(|| event.pointer("/exception/0/value"));
    text.cloned().unwrap_or_default()
}

/// Tags are an object or a list of pairs.
fn tag(event: &Value, name: &str) -> Value {
    let tags = event.get("tags").unwrap_or(&Value::Null);
    let in_list = || {
        let pairs = tags.as_array()?.iter().filter_map(Value::as_array);
        pairs.filter(|pair| pair.first().and_then(Value::as_str) == Some(name)).find_map(|pair| pair.get(1).cloned())
    };
    tags.get(name).cloned().or_else(in_list).unwrap_or_default()
}

/// A time is RFC 3339 or Unix seconds.
fn time_of(timestamp: Value) -> Value {
    let seconds = timestamp.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let seconds = seconds.and_then(|seconds| i64::try_from(seconds.as_secs()).ok());
    match seconds.filter(|seconds| *seconds <= time::LAST_SECOND) {
        Some(seconds) => rfc3339(seconds).into(),
        None => timestamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject<'_> = Subject {
        component: "dataplane",
        version: "2.8.2",
        cluster_id: "00112233445566778899aabbccddeeff",
        node_id: "ffeeddccbbaa99887766554433221100",
    };

    fn crash(ending: Ending) -> Crash<'static> {
        Crash {
            event_id: "0123456789abcdef0123456789abcdef",
            at: 1_790_000_000,
            ending,
            class: None,
            text: None,
            is_child: false,
        }
    }

    #[test]
    fn a_killed_process_has_exactly_these_keys() {
        let killed = Ending::Killed { signal: 11, core_dump: CoreDump::Yes };
        let made = event(&SUBJECT, &Crash { class: Some("address not mapped"), ..crash(killed) });
        assert_eq!(
            made,
            json!({
                "event_id": "0123456789abcdef0123456789abcdef",
                "timestamp": "2026-09-21T14:13:20Z",
                "platform": "native",
                "level": "fatal",
                "release": "ondat@2.8.2",
                "exception": {"values": [{
                    "type": "SIGSEGV",
                    "value": "dataplane killed by SIGSEGV (address not mapped)",
                    "mechanism": {"type": "signalhandler", "handled": false, "meta": {"signal": {"number": 11, "name": "SIGSEGV"}}},
                }]},
                "fingerprint": ["dataplane", "SIGSEGV", "address not mapped"],
                "tags": {"signal": "SIGSEGV", "exit_code": "none", "core_dump": "true",
                    "cluster_id": SUBJECT.cluster_id, "node_id": SUBJECT.node_id},
            })
        );
    }

    #[test]
    fn a_time_out_of_a_damaged_record_is_no_obstacle() {
        let at = |at| event(&SUBJECT, &Crash { at, ..crash(Ending::Exited(3)) })["timestamp"].clone();
        assert_eq!(at(i64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(at(i64::MIN), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_child_is_called_one() {
        let killed = Ending::Killed { signal: 11, core_dump: CoreDump::No };
        let child = Crash { class: Some("address not mapped"), is_child: true, ..crash(killed) };
        let value = event(&SUBJECT, &child)["exception"]["values"][0]["value"].clone();
        assert_eq!(value, "dataplane killed by SIGSEGV (address not mapped) (child)");
    }

    #[test]
    fn crashes_are_of_one_kind_whatever_numbers_the_caller_gives() {
        let kind =
            |text| event(&SUBJECT, &Crash { text: Some(text), ..crash(Ending::Exited(3)) })["fingerprint"].clone();
        assert_eq!(kind("disk 17 of 20 failed"), json!(["dataplane", "3", "exited: disk 0 of 0 failed"]));
        assert_eq!(kind("disk 17 of 20 failed"), kind("disk 400 of 5 failed"));
        assert_ne!(kind("disk 17 of 20 failed"), kind("out of memory"));
    }

    #[test]
    fn an_event_is_read_back_and_those_of_other_senders_are_read() {
        let killed = Ending::Killed { signal: 6, core_dump: CoreDump::Yes };
        let summary = Summary::read(&event(&SUBJECT, &crash(killed)));
        assert_eq!((summary.signal, summary.exit_code), (json!("SIGABRT"), json!("none")));
        assert_eq!((summary.core_dump, summary.cluster), (json!("true"), json!(SUBJECT.cluster_id)));
        assert_eq!(summary.time, "2026-09-21T14:13:20Z");
        assert_eq!(summary.description, "dataplane killed by SIGABRT");
        let other =
            json!({"timestamp": 1_790_000_000.5, "exception": [{"value": "x"}], "tags": [["signal", "SIGILL"]]});
        let summary = Summary::read(&other);
        assert_eq!((summary.time, summary.signal), (json!("2026-09-21T14:13:20Z"), json!("SIGILL")));
        assert_eq!((summary.description, summary.release), (json!("x"), Value::Null));
        assert_eq!(Summary::read(&json!({"timestamp": 1e300})).time, json!(1e300));
        assert_eq!(event_id("01234567-89AB-cdef-0123-456789abcdef").unwrap(), "0123456789abcdef0123456789abcdef");
        assert_eq!(event_id("0123"), None);
    }

    #[test]
    fn an_exit_code_and_a_callers_text() {
        let made = event(&SUBJECT, &Crash { text: Some("disk /dev/sd\u{e4}\n<script>"), ..crash(Ending::Exited(3)) });
        assert_eq!(made["exception"]["values"][0]["value"], "dataplane exited with code 3: disk /dev/sd___script_");
        assert_eq!(made["exception"]["values"][0]["mechanism"], json!({"type": "exit", "handled": false}));
        assert_eq!(made["tags"]["exit_code"], "3");
        assert_eq!(made["tags"]["signal"], "none");
    }
}
