//! The Sentry event: exactly the listed keys, made from facts about the ending and nothing of the process's memory.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::exit::{CoreDump, Ending};
use super::signals;
use crate::transport::https::rfc3339;

/// The longest text of a caller in a description, in bytes.
const TEXT_BYTES: usize = 200;

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
    json!({
        "event_id": crash.event_id,
        "timestamp": timestamp(crash.at),
        "platform": "native",
        "level": "fatal",
        "release": format!("ondat@{}", subject.version),
        "exception": { "values": [{ "type": kind, "value": description(subject.component, crash), "mechanism": mechanism }] },
        "fingerprint": [subject.component, crash.ending.name(), class],
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
    let allowed = |c: char| c.is_ascii_alphanumeric() || " .,:;_+()/-".contains(c);
    text.chars().take(TEXT_BYTES).map(|c| if allowed(c) { c } else { '_' }).collect()
}

fn timestamp(unix_seconds: i64) -> String {
    let since_epoch = Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0));
    rfc3339(UNIX_EPOCH + since_epoch)
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
    fn an_exit_code_and_a_callers_text() {
        let made = event(&SUBJECT, &Crash { text: Some("disk /dev/sd\u{e4}\n<script>"), ..crash(Ending::Exited(3)) });
        assert_eq!(made["exception"]["values"][0]["value"], "dataplane exited with code 3: disk /dev/sd___script_");
        assert_eq!(made["exception"]["values"][0]["mechanism"], json!({"type": "exit", "handled": false}));
        assert_eq!(made["tags"]["exit_code"], "3");
        assert_eq!(made["tags"]["signal"], "none");
    }
}
