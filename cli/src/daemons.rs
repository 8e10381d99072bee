//! What the running processes say about their settings. `status` and the page show these. They show the settings of
//! this command only if no process runs, because the command has another environment than the daemons.

use std::fs;

use ondat_telemetry::crash::marker::{self, Run, Watched};
use ondat_telemetry::presence::{self, Life, Process};
use ondat_telemetry::state::{StateDir, layout};
use ondat_telemetry::switch::{Source, Switch};
use ondat_telemetry::switches::in_words;
use serde_json::{Map, Value, json};

use crate::settings::Settings;
use crate::sources::{Sources, named, sources_of};

/// What is said where nobody runs and this command was told nothing.
pub(crate) const NOT_KNOWN: &str = "not known to this command";

/// The members in which processes on one state directory may differ, and what they are called.
const MEMBERS: [(&str, &str); 10] = [
    ("cluster_id", "cluster id"),
    ("node_id", "node id"),
    ("version_zone", "version zone"),
    ("version_keys", "version keys"),
    ("seals_queries", "sealing of version queries"),
    ("report_host", "collector"),
    ("report_keys", "sealing keys"),
    ("sentry_host", "crash server"),
    ("monitor", "crash monitor"),
    ("state_dir", "state directory"),
];

/// What processes leave in a state directory, whatever they do there.
const TRACES: [&str; 11] = [
    layout::PROCESSES,
    layout::RUN,
    layout::VERSION,
    layout::REPORT,
    layout::CRASH,
    layout::CORES,
    layout::NOTICE,
    layout::FAILURES,
    layout::REPORTS,
    layout::CRASHES,
    layout::SENT,
];

/// Why a state directory is a folder in the one that was named.
const WHY_SUBFOLDER: &str = "others may write to the directory that was named, or it is another user's";

/// The running processes and their settings.
pub(crate) struct Daemons {
    daemons: Vec<Daemon>,
    /// What this command was told itself, in the same form; null where it was told nothing.
    own: Map<String, Value>,
    /// Of its keys for reports, from when and until when each is valid.
    own_times: Option<Vec<(i64, i64)>>,
}

/// One of them.
struct Daemon {
    name: String,
    /// None where it is of an older version.
    settings: Option<Map<String, Value>>,
    times: Option<Vec<(i64, i64)>>,
}

/// What is known of one member.
pub(crate) enum Known<'a> {
    /// All who run say this, or this command was told so and nobody runs.
    One(&'a Value),
    /// They say different things.
    Several(Vec<(&'a str, &'a Value)>),
    /// Nobody says; why.
    Nothing(String),
}

impl Daemons {
    /// Of these processes, whose crash handlers have marked these runs.
    pub(crate) fn read(settings: &Settings, processes: &[Process], runs: &[Run]) -> Self {
        let daemons = processes.iter().map(|process| Daemon {
            name: named(process),
            settings: process.settings.is_object().then(|| said(&process.settings, watched(process, runs))),
            times: times(&process.settings["report_keys"]),
        });
        let told = settings.config.shown();
        let mut own = said(&told, None);
        // That nothing was said of it does not tell what a daemon has.
        for name in ["version_keys", "report_keys", "seals_queries"] {
            let is_said = name == "version_keys" && own["version_zone"].is_string();
            if !is_said && (own[name] == json!([]) || own[name] == json!(false)) {
                own[name].take();
            }
        }
        let has_node = settings.has_cluster_id && settings.has_node_id;
        for (name, was_told) in [("cluster_id", settings.has_cluster_id), ("node_id", has_node)] {
            if !was_told {
                own[name].take();
            }
        }
        Self { daemons: daemons.collect(), own, own_times: times(&told["report_keys"]) }
    }

    /// Whether any process runs.
    pub(crate) fn is_any(&self) -> bool {
        !self.daemons.is_empty()
    }

    /// What each process says for itself.
    pub(crate) fn processes_json(&self, sources: &Sources) -> Value {
        let processes = sources.processes().iter().enumerate().map(|(place, process)| {
            let of = |to_json: &dyn Fn(&[Source]) -> Value| {
                let each = Switch::ALL.map(|switch| (switch.name().to_owned(), to_json(&sources_of(process, switch))));
                Value::Object(each.into_iter().collect())
            };
            json!({
                "component": process.component,
                "version": process.version,
                "pid": process.pid,
                "at": process.at,
                "is_seen": process.life() == Life::Lives,
                "off_by": of(&|sources| in_words(sources).into()),
                "sources": of(&|sources| sources.iter().map(Source::to_json).collect()),
                "settings": self.json_of(place),
            })
        });
        processes.collect()
    }

    /// The settings of the process at this place; null where it is of an older version.
    fn json_of(&self, place: usize) -> Value {
        let settings = self.daemons.get(place).and_then(|daemon| daemon.settings.clone());
        settings.map_or(Value::Null, Value::Object)
    }

    /// The names of the members in which they differ.
    pub(crate) fn differing(&self) -> Vec<&'static str> {
        let differs = |name: &&str| matches!(self.of(name), Known::Several(_));
        MEMBERS.iter().map(|(name, _)| *name).filter(differs).collect()
    }

    /// The same for people, a sentence each.
    pub(crate) fn differences(&self) -> Vec<String> {
        let sentence = |(name, title): &(&str, &str)| match self.of(name) {
            Known::Several(said) => Some(format!("{title} differs: {}", each(&said))),
            _ => None,
        };
        MEMBERS.iter().filter_map(sentence).collect()
    }

    /// What is known of a member.
    pub(crate) fn of(&self, name: &str) -> Known<'_> {
        let mut said: Vec<(&str, &Value)> = Vec::new();
        for daemon in &self.daemons {
            if let Some(settings) = &daemon.settings {
                said.push((&daemon.name, settings.get(name).unwrap_or(&Value::Null)));
            }
        }
        match (said.first(), self.daemons.first()) {
            (Some((_, first)), _) if said.iter().all(|(_, value)| value == first) => Known::One(first),
            (Some(_), _) => Known::Several(said),
            (None, Some(daemon)) => Known::Nothing(format!("not known: {} is of an older version", daemon.name)),
            (None, None) => match self.own.get(name) {
                None | Some(Value::Null) => Known::Nothing(NOT_KNOWN.to_owned()),
                Some(value) => Known::One(value),
            },
        }
    }

    /// What all say, null where it is not known or differs.
    pub(crate) fn value(&self, name: &str) -> Value {
        match self.of(name) {
            Known::One(value) => value.clone(),
            Known::Several(_) | Known::Nothing(_) => Value::Null,
        }
    }

    /// The zones that are asked and the ids of the keys by which their answers are verified.
    pub(crate) fn zones(&self) -> Vec<(&str, Vec<&str>)> {
        let own = if self.is_any() { None } else { Some(&self.own) };
        let all = self.daemons.iter().filter_map(|daemon| daemon.settings.as_ref()).chain(own);
        let zones = all.filter_map(|settings| {
            let keys = settings["version_keys"].as_array().into_iter().flatten();
            Some((settings["version_zone"].as_str()?, keys.filter_map(Value::as_str).collect()))
        });
        zones.collect()
    }

    /// Whether reports could be sealed now, by everybody who has keys; none where nobody is known to have any.
    pub(crate) fn has_valid_key(&self, now: i64) -> Option<bool> {
        let own = if self.is_any() { None } else { self.own_times.as_ref() };
        let all: Vec<_> = self.daemons.iter().filter_map(|daemon| daemon.times.as_ref()).chain(own).collect();
        let is_valid = |keys: &&Vec<(i64, i64)>| keys.iter().any(|(from, until)| *from <= now && now < *until);
        (!all.is_empty()).then(|| all.iter().all(is_valid))
    }

    /// Of a process what it says besides its switches, for people.
    pub(crate) fn line_of(&self, place: usize) -> String {
        let Some(Some(settings)) = self.daemons.get(place).map(|daemon| &daemon.settings) else {
            return "settings not known: it is of an older version".to_owned();
        };
        let why = |name: &str| settings[name].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
        let monitor = settings["monitor"].as_str().unwrap_or("not known");
        let state_dir = match settings["state_dir"].as_str() {
            Some("own") => "as it was named",
            Some("subfolder") => "in a folder of its own",
            _ => "not known",
        };
        format!("crash monitor {monitor}{}, state directory {state_dir}{}", why("monitor_why"), why("state_dir_why"))
    }
}

/// What each says, for people.
pub(crate) fn each(said: &[(&str, &Value)]) -> String {
    let one = |(name, value): &(&str, &Value)| format!("{name} has {}", shown(value));
    said.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A member for people.
pub(crate) fn shown(value: &Value) -> String {
    let item = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join(", "),
        Value::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
        value => item(value),
    }
}

/// The settings in the form of the API. What is not what belongs there is not known.
fn said(settings: &Value, watched: Option<&Watched>) -> Map<String, Value> {
    let mut said = Map::new();
    for name in ["cluster_id", "node_id", "version_zone", "report_host", "sentry_host"] {
        said.insert(name.to_owned(), settings[name].as_str().into());
    }
    let texts = |items: &Value, of: fn(&Value) -> Option<&str>| -> Option<Vec<Value>> {
        items.as_array()?.iter().map(|item| of(item).map(Value::from)).collect()
    };
    let version_keys = texts(&settings["version_keys"], Value::as_str).unwrap_or_default();
    said.insert("verifies_answers".to_owned(), (!version_keys.is_empty()).into());
    said.insert("version_keys".to_owned(), version_keys.into());
    said.insert("seals_queries".to_owned(), (settings["seals_queries"] == Value::Bool(true)).into());
    let report_keys = texts(&settings["report_keys"], |key| key[0].as_str()).unwrap_or_default();
    said.insert("report_keys".to_owned(), report_keys.into());
    let (monitor, monitor_why) = match watched {
        Some(Watched::Monitor) => ("running", None),
        Some(Watched::Supervised | Watched::Supervisor) => ("supervisor", None),
        Some(Watched::Nobody(why)) => ("none", Some(why.as_str())),
        None => ("not installed", None),
    };
    let state_dir = settings["state_dir"].as_str().filter(|word| ["own", "subfolder"].contains(word)).unwrap_or("none");
    let why_state_dir = match state_dir {
        "subfolder" => Some(WHY_SUBFOLDER),
        "none" => Some("no state directory is set"),
        _ => None,
    };
    for (name, value) in [
        ("monitor", json!(monitor)),
        ("monitor_why", json!(monitor_why)),
        ("state_dir", json!(state_dir)),
        ("state_dir_why", json!(why_state_dir)),
    ] {
        said.insert(name.to_owned(), value);
    }
    said
}

/// From when and until when each key is valid; none where there is no list of keys.
fn times(keys: &Value) -> Option<Vec<(i64, i64)>> {
    let keys = keys.as_array()?.iter();
    Some(keys.filter_map(|key| key[1].as_i64().zip(key[2].as_i64())).collect())
}

/// Who deals with the end of this process; none where it has not installed the crash handler.
fn watched<'a>(process: &Process, runs: &'a [Run]) -> Option<&'a Watched> {
    let name = presence::name(&process.component, process.pid);
    let is_its = |run: &&Run| {
        run.is_running
            && marker::event_id(&run.name).is_some()
            && run.name.rsplit_once('-').is_some_and(|(of, _)| of == name)
    };
    runs.iter().rfind(is_its).map(|run| &run.head.watched)
}

/// What is to be said of a state directory that no process has used so far; none where one has, or where that cannot be seen.
/// Whoever changes something there may have meant another one.
pub(crate) fn unused(dir: &StateDir) -> Option<String> {
    let path = dir.path();
    let is_there = |name: &str| {
        let found = fs::symlink_metadata(path.join(name));
        // What cannot be looked at may be there.
        !matches!(found, Err(error) if error.kind() == std::io::ErrorKind::NotFound)
    };
    if TRACES.into_iter().any(is_there) {
        return None;
    }
    let others = folders_of_others(dir);
    let hint = if others.is_empty() {
        "is it the one that the daemons have?".to_owned()
    } else {
        format!("processes of other users have {} in it: run this as one of them", others.join(", "))
    };
    Some(format!("no process has used this directory: {hint}"))
}

/// The folders of other users, where the directory is one that they share.
fn folders_of_others(dir: &StateDir) -> Vec<String> {
    let (given, own) = (dir.given(), dir.path());
    let entries = fs::read_dir(given).into_iter().flatten().flatten();
    let names = entries.filter(|entry| entry.path() != own).filter_map(|entry| entry.file_name().into_string().ok());
    let is_theirs = |name: &String| {
        let number = name.strip_prefix(layout::OWN_FOLDER);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut names: Vec<_> = names.filter(is_theirs).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon(name: &str, settings: Option<Value>) -> Daemon {
        let times = settings.as_ref().and_then(|settings| times(&settings["report_keys"]));
        Daemon { name: name.to_owned(), settings: settings.map(|settings| said(&settings, None)), times }
    }

    fn daemons(daemons: Vec<Daemon>) -> Daemons {
        Daemons { daemons, own: said(&json!({ "version_zone": "own.test" }), None), own_times: None }
    }

    #[test]
    fn the_daemons_go_before_what_the_command_was_told() {
        let asks = |zone: &str| Some(json!({ "version_zone": zone, "version_keys": ["0a1b2c3d"] }));
        let none = daemons(Vec::new());
        assert_eq!(none.value("version_zone"), "own.test");
        assert!(matches!(none.of("sentry_host"), Known::Nothing(why) if why == NOT_KNOWN));
        let one = daemons(vec![daemon("a", asks("zone.test")), daemon("old", None)]);
        assert_eq!((one.value("version_zone"), one.value("verifies_answers")), (json!("zone.test"), json!(true)));
        assert_eq!(one.zones(), [("zone.test", vec!["0a1b2c3d"])]);
        // That a daemon has none is known.
        assert!(matches!(one.of("sentry_host"), Known::One(Value::Null)));
        assert!(one.differing().is_empty());
        let old = daemons(vec![daemon("old", None)]);
        assert!(
            matches!(old.of("version_zone"), Known::Nothing(why) if why == "not known: old is of an older version")
        );
        let two = daemons(vec![daemon("a", asks("zone.test")), daemon("b", asks("other.test"))]);
        assert_eq!(two.value("version_zone"), Value::Null);
        assert_eq!(two.differing(), ["version_zone"]);
        assert_eq!(two.differences(), ["version zone differs: a has zone.test, b has other.test"]);
    }

    #[test]
    fn damaged_settings_are_not_known_and_nothing_worse() {
        for settings in [
            json!({}),
            json!({ "cluster_id": 5, "version_zone": [], "version_keys": "k", "report_keys": 7, "state_dir": {} }),
            json!({ "version_keys": [1], "report_keys": [[], 5, [1, 2, 3]], "report_host": null }),
        ] {
            let one = daemons(vec![daemon("a", Some(settings.clone()))]);
            for name in ["cluster_id", "version_zone", "report_host"] {
                assert_eq!(one.value(name), Value::Null, "{settings}");
            }
            assert_eq!(one.value("version_keys"), json!([]), "{settings}");
            assert!(one.line_of(0).starts_with("crash monitor not installed"), "{}", one.line_of(0));
        }
    }

    #[test]
    fn keys_for_reports_are_valid_for_a_time() {
        let keys = json!({ "report_keys": [["00112233445566aa", 10, 20], ["00112233445566bb", 30, 40]] });
        let one = daemons(vec![daemon("a", Some(keys.clone())), daemon("b", Some(json!({})))]);
        for (now, is_valid) in [(9, false), (10, true), (20, false), (39, true), (40, false)] {
            assert_eq!(one.has_valid_key(now), Some(is_valid), "{now}");
        }
        assert_eq!(daemons(vec![daemon("b", Some(json!({})))]).has_valid_key(15), None);
        assert_eq!(said(&keys, None)["report_keys"], json!(["00112233445566aa", "00112233445566bb"]));
    }
}
