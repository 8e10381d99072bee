//! The three switches, a row each, and who turns one off.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One of the three things that can leave the machine.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// The DNS query for the latest version.
    VersionCheck,
    /// The sealed daily report.
    DailyReport,
    /// Crash reports to Sentry.
    CrashReports,
}

/// All that is known of a switch. Whatever lists the switches takes it from here, or is compared with it by `tests/facts.rs`.
pub struct Row {
    /// Which one.
    pub switch: Switch,
    /// The bit in the C interface's mask.
    pub bit: u32,
    /// The name in files, JSON and texts.
    pub name: &'static str,
    /// The name on the command line.
    pub word: &'static str,
    /// The name on the page.
    pub label: &'static str,
    /// The name in the product's API, which says what is off.
    pub product: &'static str,
    /// What it lets out, for help texts.
    pub about: &'static str,
    /// The variables that turn it off, the first of them that of the documents.
    pub variables: &'static [&'static str],
    /// Other names that people type.
    pub aliases: &'static [&'static str],
}

const TABLE: [Row; 3] = [
    Row {
        switch: Switch::VersionCheck,
        bit: 1,
        name: "version_check",
        word: "version-check",
        label: "Version check",
        product: "disableVersionCheck",
        about: "The DNS query for the latest version",
        variables: &["DISABLE_VERSION_CHECK"],
        aliases: &[],
    },
    Row {
        switch: Switch::DailyReport,
        bit: 2,
        name: "daily_report",
        word: "daily-report",
        label: "Telemetry",
        product: "disableTelemetry",
        about: "The sealed daily report",
        variables: &["DISABLE_TELEMETRY"],
        aliases: &["telemetry"],
    },
    Row {
        switch: Switch::CrashReports,
        bit: 4,
        name: "crash_reports",
        word: "crash-reports",
        label: "Crash reporting",
        product: "disableCrashReporting",
        about: "Crash reports to Sentry",
        variables: &["DISABLE_ERROR_REPORTING", "DISABLE_CRASH_REPORTING"],
        aliases: &["crash-reporting", "error-reporting"],
    },
];

/// The variable that turns all of them off (consoledonottrack.com).
pub const DO_NOT_TRACK: &str = "DO_NOT_TRACK";

impl Switch {
    /// All of them, in the order of their bits.
    pub const ALL: [Self; TABLE.len()] = {
        let mut all = [Self::VersionCheck; TABLE.len()];
        let mut at = 0;
        while at < TABLE.len() {
            all[at] = TABLE[at].switch;
            at += 1;
        }
        all
    };
    /// All bits of the C interface's mask.
    pub const ALL_BITS: u32 = (1 << TABLE.len()) - 1;

    /// What is known of it.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The bit in the C interface's mask.
    pub fn bit(self) -> u32 {
        self.row().bit
    }

    /// The name in files and texts.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The switch of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|switch| switch.name() == name)
    }

    /// A list of it alone.
    pub fn alone(self) -> &'static [Self] {
        static EACH: [Switch; TABLE.len()] = Switch::ALL;
        std::slice::from_ref(&EACH[self as usize])
    }

    /// The switches that a variable turns off; none where it is another variable.
    pub fn of_variable(variable: &str) -> &'static [Self] {
        if variable == DO_NOT_TRACK {
            return &Self::ALL;
        }
        let found = Self::ALL.into_iter().find(|switch| switch.row().variables.contains(&variable));
        found.map_or(&[], Self::alone)
    }

    /// Every variable that turns something off.
    pub fn variables() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().flat_map(|switch| switch.row().variables.iter().copied()).chain([DO_NOT_TRACK])
    }
}

/// Whether a value of one of [`Switch::variables`] objects. A privacy switch fails closed: whatever is not a known word for
/// "no" objects.
pub fn objects(value: &str) -> bool {
    !matches!(value, "" | "0" | "f" | "F" | "false" | "FALSE" | "False")
}

/// Of which kind one is who turns a switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The program that the library is in.
    Host,
    /// A variable of the environment.
    Environment,
    /// A variable of the settings file of the commands.
    SettingsFile,
    /// The cluster spec: a field, or a variable in it.
    ClusterSpec,
    /// A person, by the command, the page or by hand.
    Administrator,
    /// A client of the API, such as the product's operator.
    ApiClient,
    /// The administrator's file, which cannot be read.
    Unreadable,
    /// Somebody whom a newer version knows.
    Other,
}

/// The name of each kind in files and JSON, and how a sentence about it begins and ends.
const KINDS: [(Kind, &str, &str, &str); 8] = [
    (Kind::Host, "host", "the host program", ""),
    (Kind::Environment, "environment", "environment ", ""),
    (Kind::SettingsFile, "settings_file", "settings file ", ""),
    (Kind::ClusterSpec, "cluster_spec", "cluster spec ", ""),
    (Kind::Administrator, "administrator", "the administrator (switches.json)", ""),
    (Kind::ApiClient, "api_client", "the API client (switches.json)", ""),
    (Kind::Unreadable, "unreadable", "an unreadable switches.json (", ")"),
    (Kind::Other, "other", "", ""),
];

impl Kind {
    /// The name in files and JSON.
    pub fn name(self) -> &'static str {
        KINDS[self as usize].1
    }
}

/// Who turns a switch off. Its text is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Of which kind.
    pub kind: Kind,
    /// Which one of that kind: the variable, the field, the path and the variable, or why something is unreadable.
    pub name: String,
}

impl Source {
    /// One of several of its kind.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// Whose text this is.
    fn of_text(text: &str) -> Self {
        let name = |before: &str, after: &str| text.strip_prefix(before)?.strip_suffix(after);
        let mut kinds = KINDS.iter();
        let found = kinds.find_map(|(kind, _, before, after)| Some(Self::new(*kind, name(before, after)?)));
        found.unwrap_or_else(|| Self::new(Kind::Other, text))
    }

    /// Adds its members to an object. `text` is for people, and for older versions, which know nothing else.
    pub fn write(&self, object: &mut Map<String, Value>, text: &str) {
        object.insert(text.to_owned(), self.to_string().into());
        object.insert("kind".to_owned(), self.kind.name().into());
        object.insert("name".to_owned(), self.name.as_str().into());
    }

    /// As programs and people read it.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        self.write(&mut object, "text");
        Value::Object(object)
    }
}

impl From<Kind> for Source {
    fn from(kind: Kind) -> Self {
        Self::new(kind, "")
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (.., before, after) = KINDS[self.kind as usize];
        for part in [before, &self.name, after] {
            f.write_str(part)?;
        }
        Ok(())
    }
}

/// Somebody's word that a switch is off.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Objection {
    /// The switch that is off.
    pub switch: Switch,
    /// Who says so.
    pub source: Source,
}

impl From<Objection> for Value {
    fn from(objection: Objection) -> Self {
        let mut object = Map::new();
        object.insert("switch".to_owned(), objection.switch.name().into());
        objection.source.write(&mut object, "source");
        Self::Object(object)
    }
}

impl TryFrom<Value> for Objection {
    type Error = &'static str;

    /// By hand: with derived code the library is 4.7 KB larger.
    fn try_from(json: Value) -> Result<Self, Self::Error> {
        objection(&json).ok_or("no objection")
    }
}

/// Where an older version has written the text alone, or a newer one a kind that is not known here, the text says it.
fn objection(json: &Value) -> Option<Objection> {
    let switch = Switch::of_name(json["switch"].as_str()?)?;
    let text = json["source"].as_str()?;
    let kind = KINDS.iter().find(|(_, name, ..)| json["kind"] == *name).map(|(kind, ..)| *kind);
    let named = kind.zip(json["name"].as_str()).map(|(kind, name)| Source::new(kind, name));
    Some(Objection { switch, source: named.unwrap_or_else(|| Source::of_text(text)) })
}

/// A list of objections in JSON; none where it is something else.
pub fn objections(json: &Value) -> Option<Vec<Objection>> {
    json.as_array()?.iter().map(objection).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_row_stands_at_its_place() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!((row.switch as usize, row.bit), (at, 1 << at), "{}", row.name);
            assert_eq!(json!(row.switch), row.name);
        }
        for (at, (kind, ..)) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, at);
        }
    }

    #[test]
    fn a_privacy_switch_fails_closed() {
        for value in ["", "0", "f", "F", "FALSE", "false", "False"] {
            assert!(!objects(value), "{value:?}");
        }
        for value in ["1", "true", "TRUE", "yes", "off", "no", " ", "fALSE"] {
            assert!(objects(value), "{value:?}");
        }
    }

    #[test]
    fn a_variable_turns_off_what_it_names() {
        for variable in Switch::variables() {
            let all = variable == DO_NOT_TRACK;
            assert_eq!(Switch::of_variable(variable).len(), if all { Switch::ALL.len() } else { 1 }, "{variable}");
        }
        assert_eq!(Switch::of_variable("DISABLE_CRASH_REPORTING"), [Switch::CrashReports]);
        assert_eq!(Switch::of_variable("DISABLE_EVERYTHING"), []);
    }

    #[test]
    fn an_objection_is_read_as_it_was_written() {
        for (kind, ..) in KINDS {
            let objection = Objection { switch: Switch::DailyReport, source: Source::new(kind, "DO_NOT_TRACK") };
            assert_eq!(serde_json::from_value::<Objection>(json!(objection)).unwrap(), objection);
        }
        for (kind, ..) in KINDS {
            let source = Source::new(
                kind,
                if matches!(kind, Kind::Host | Kind::Administrator | Kind::ApiClient) { "" } else { "x" },
            );
            assert_eq!(Source::of_text(&source.to_string()), source);
        }
        let written = Objection { switch: Switch::DailyReport, source: Source::new(Kind::Environment, "DO_NOT_TRACK") };
        let file = json!({
            "switch": "daily_report", "source": "environment DO_NOT_TRACK", "kind": "environment", "name": "DO_NOT_TRACK"
        });
        assert_eq!(json!(written), file);
    }

    #[test]
    fn the_text_of_another_version_is_kept() {
        for (kind, name) in [(Value::Null, Value::Null), (json!("fleet"), json!("x")), (json!("host"), json!(7))] {
            let file = json!({ "switch": "daily_report", "source": "cluster spec disableTelemetry", "kind": kind, "name": name });
            let read = objections(&json!([file])).unwrap();
            assert_eq!(read[0].source, Source::new(Kind::ClusterSpec, "disableTelemetry"));
        }
        for file in [
            json!({}),
            json!([7]),
            json!([{ "switch": "telemetry", "source": "x" }]),
            json!([{ "switch": "daily_report" }]),
        ] {
            assert_eq!(objections(&file), None, "{file}");
        }
    }
}
