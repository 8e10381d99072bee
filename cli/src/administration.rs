//! Changes what the administrator and the API client turn off: `switches.json` and the audit file beside it. Only this
//! module writes them, for the command, the API and the page.

use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use data_encoding::HEXLOWER;
use nix::unistd::{Uid, User, getuid};
use ondat_telemetry::error::Error;
use ondat_telemetry::purge;
use ondat_telemetry::state::lock::Lock;
use ondat_telemetry::state::{Folder, Look, StateDir, layout};
use ondat_telemetry::switch::{Objection, Switch};
use ondat_telemetry::switches::{self, FILE, WORD_OF_ADMINISTRATOR, WORD_OF_API_CLIENT, WORDS};
use ondat_telemetry::sys::clock::{Clock, SystemClock};
use ondat_telemetry_protocol::time::rfc3339;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// One line for each change.
const AUDIT_FILE: &str = layout::AUDIT;
/// A change is about 300 bytes: some 3000 changes.
const AUDIT_BYTES: u64 = 1 << 20;
/// The most changes that are in force and wait for room in the audit file.
const MOST_UNAUDITED: usize = 8;
/// What reading and writing a few kilobytes takes, fsync(2) on a busy disk included.
const PATIENCE: Duration = Duration::from_secs(2);
/// The API promises at most 30 characters for the version of the settings.
const VERSION_DIGITS: usize = 24;

const OBJECTIONS: &str = "objections";
/// Lines for the audit file, of changes that a full disk did not keep from being made.
const UNAUDITED: &str = "unaudited";
const LOG_LEVEL: &str = "log_level";
const LOG_FORMAT: &str = "log_format";
const REVISION: &str = "revision";
const CREATED_AT: &str = "created_at";
const UPDATED_AT: &str = "updated_at";

/// The values of `logLevel`, the default first.
pub(crate) const LOG_LEVELS: [&str; 4] = ["info", "debug", "warn", "error"];
/// The values of `logFormat`, the default first.
pub(crate) const LOG_FORMATS: [&str; 2] = ["default", "json"];

/// Whose word something is. Off wins, and neither of them takes back what the other one has said: an operator that writes the
/// cluster's resource over and over does not turn on what a person has turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// A person, by the command, the page or with an editor.
    Administrator,
    /// A client of the API, such as the product's operators.
    ApiClient,
}

impl Speaker {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Administrator, Self::ApiClient];

    /// The name in switches.json and in the audit file.
    fn name(self) -> &'static str {
        match self {
            Self::Administrator => WORD_OF_ADMINISTRATOR,
            Self::ApiClient => WORD_OF_API_CLIENT,
        }
    }

    /// For people.
    fn title(self) -> &'static str {
        match self {
            Self::Administrator => "the administrator",
            Self::ApiClient => "the API client",
        }
    }
}

/// What switches.json says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Also what is not known here: it is kept.
    map: Map<String, Value>,
    version: String,
}

impl Word {
    /// Reads the file's bytes; no bytes are no file.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let map = if bytes.is_empty() {
            Map::new()
        } else {
            switches::parse(bytes)?;
            serde_json::from_slice(bytes).map_err(|error| format!("{FILE} is not JSON: {error}"))?
        };
        let mut version = HEXLOWER.encode(&Sha256::digest(bytes));
        version.truncate(VERSION_DIGITS);
        Ok(Self { map, version })
    }

    /// Identifies these exact bytes: a change states the version that its author has read.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Whether this one leaves the switch on.
    pub(crate) fn is_on(&self, speaker: Speaker, switch: Switch) -> bool {
        let is_off = |word: &Value| word[switch.name()] == Value::Bool(false);
        let words = self.map.get(WORDS).and_then(Value::as_object);
        let is_off_by_itself = words.and_then(|words| words.get(speaker.name())).is_some_and(is_off);
        // What none of the words turns off, an older version or a hand has turned off.
        let is_off_by_hand = || self.is_off_by_any(switch) && !words.into_iter().flat_map(Map::values).any(is_off);
        !(is_off_by_itself || speaker == Speaker::Administrator && is_off_by_hand())
    }

    /// What this one leaves on, each switch by its name.
    pub(crate) fn to_json(&self, speaker: Speaker) -> Map<String, Value> {
        let said = |switch: Switch| (switch.name().to_owned(), self.is_on(speaker, switch).into());
        Switch::ALL.into_iter().map(said).collect()
    }

    /// What older versions read.
    fn is_off_by_any(&self, switch: Switch) -> bool {
        self.map.get(switch.name()) == Some(&Value::Bool(false))
    }

    /// Says that a switch is on or off, for one of them.
    pub(crate) fn set(&mut self, speaker: Speaker, switch: Switch, on: bool) {
        let mut said = Vec::new();
        for one in Speaker::ALL {
            for which in Switch::ALL {
                let is_on = if (one, which) == (speaker, switch) { on } else { self.is_on(one, which) };
                said.push((one, which, is_on));
            }
        }
        let words = self.map.entry(WORDS).or_insert_with(|| json!({}));
        for (one, which, is_on) in said {
            words[one.name()][which.name()] = is_on.into();
        }
        let words: Vec<_> = words.as_object().into_iter().flat_map(Map::values).cloned().collect();
        for which in Switch::ALL {
            // An older version reads nothing but this.
            let is_on = words.iter().all(|word| word[which.name()] != Value::Bool(false));
            self.map.insert(which.name().to_owned(), is_on.into());
        }
    }

    /// What was taken over from other sources.
    pub(crate) fn objections(&self) -> Vec<Objection> {
        let objections = self.map.get(OBJECTIONS).cloned().unwrap_or_default();
        serde_json::from_value(objections).unwrap_or_default()
    }

    /// Replaces what was taken over from other sources.
    pub(crate) fn set_objections(&mut self, objections: &[Objection]) {
        if objections.is_empty() {
            self.map.remove(OBJECTIONS);
        } else {
            self.map.insert(OBJECTIONS.to_owned(), json!(objections));
        }
    }

    /// One of [`LOG_LEVELS`].
    pub(crate) fn log_level(&self) -> &'static str {
        one_of(&LOG_LEVELS, self.map.get(LOG_LEVEL))
    }

    /// Sets it.
    pub(crate) fn set_log_level(&mut self, level: &'static str) {
        self.map.insert(LOG_LEVEL.to_owned(), level.into());
    }

    /// One of [`LOG_FORMATS`].
    pub(crate) fn log_format(&self) -> &'static str {
        one_of(&LOG_FORMATS, self.map.get(LOG_FORMAT))
    }

    /// Sets it.
    pub(crate) fn set_log_format(&mut self, format: &'static str) {
        self.map.insert(LOG_FORMAT.to_owned(), format.into());
    }

    /// When the first word was said, Unix seconds.
    pub(crate) fn created_at(&self) -> Option<i64> {
        self.map.get(CREATED_AT).and_then(Value::as_i64)
    }

    /// When the last word was said, Unix seconds.
    pub(crate) fn updated_at(&self) -> Option<i64> {
        self.map.get(UPDATED_AT).and_then(Value::as_i64)
    }

    /// Whether this switch is off by what is written here.
    pub(crate) fn is_off(&self, switch: Switch) -> bool {
        let is_said_off = Speaker::ALL.into_iter().any(|speaker| !self.is_on(speaker, switch));
        self.is_off_by_any(switch)
            || is_said_off
            || self.objections().iter().any(|objection| objection.switch == switch)
    }

    /// Whether nothing is turned on by it that was off.
    fn only_turns_off(&self, before: &Self) -> bool {
        Switch::ALL.into_iter().all(|switch| self.is_off(switch) || !before.is_off(switch))
    }

    fn unaudited(&self) -> Vec<Value> {
        self.map.get(UNAUDITED).and_then(Value::as_array).cloned().unwrap_or_default()
    }

    fn set_unaudited(&mut self, mut lines: Vec<Value>) {
        lines.drain(..lines.len().saturating_sub(MOST_UNAUDITED));
        if lines.is_empty() {
            self.map.remove(UNAUDITED);
        } else {
            self.map.insert(UNAUDITED.to_owned(), lines.into());
        }
    }

    /// The switches about which this one has said something else than before.
    fn turned_from<'a>(&'a self, before: &'a Self, speaker: Speaker) -> impl Iterator<Item = Switch> + 'a {
        let is_turned = move |switch: &Switch| self.is_on(speaker, *switch) != before.is_on(speaker, *switch);
        Switch::ALL.into_iter().filter(is_turned)
    }

    /// From, to, for what this one says of the switches.
    fn changes_from(&self, before: &Self, speaker: Speaker) -> Map<String, Value> {
        let changes = self.turned_from(before, speaker).map(|switch| {
            let (from, to) = (before.is_on(speaker, switch), self.is_on(speaker, switch));
            (switch.name().to_owned(), json!({ "from": from, "to": to }))
        });
        changes.collect()
    }

    /// The same for everything else that differs but for the bookkeeping.
    fn other_changes_from(&self, before: &Self) -> Map<String, Value> {
        let mut changes = Map::new();
        let mut note = |name: &str, from: Value, to: Value| {
            if from != to {
                changes.insert(name.to_owned(), json!({ "from": from, "to": to }));
            }
        };
        note(LOG_LEVEL, before.log_level().into(), self.log_level().into());
        note(LOG_FORMAT, before.log_format().into(), self.log_format().into());
        note(OBJECTIONS, json!(before.objections()), json!(self.objections()));
        changes
    }

    /// What an actor has changed, for the audit file: a line for each word.
    fn lines(&self, before: &Self, actor: &Actor) -> Vec<Value> {
        let mut lines = Vec::new();
        for speaker in Speaker::ALL {
            let mut changes = self.changes_from(before, speaker);
            if speaker == actor.speaker() {
                changes.extend(self.other_changes_from(before));
            }
            if !changes.is_empty() {
                let entry = json!({ "action": "switches", "word": speaker.name(), "changes": changes });
                lines.push(line_of(actor, &entry));
            }
        }
        lines
    }

    /// What was changed, in words.
    fn changed_in_words(&self, before: &Self) -> String {
        let mut said = Vec::new();
        for speaker in Speaker::ALL {
            for switch in self.turned_from(before, speaker) {
                let turned = if self.is_on(speaker, switch) { "on" } else { "off" };
                said.push(format!("turned {turned} {} as {}", switch.name(), speaker.title()));
            }
        }
        if self.objections() != before.objections() {
            let off = self.objections().iter().map(|objection| objection.switch.name()).collect::<Vec<_>>().join(", ");
            let off = if off.is_empty() { "nothing" } else { &off };
            said.push(format!("taken over that the cluster spec turns off {off}"));
        }
        if self.log_level() != before.log_level() {
            said.push(format!("set the log's level to {}", self.log_level()));
        }
        if self.log_format() != before.log_format() {
            said.push(format!("set the log's format to {}", self.log_format()));
        }
        if said.is_empty() { "changed nothing".to_owned() } else { said.join(", ") }
    }

    /// The bytes to be written: never the same twice, so that a version names one state and not also a later one.
    fn renewed(mut self, now: i64) -> Vec<u8> {
        let revision = self.map.get(REVISION).and_then(Value::as_u64).unwrap_or(0);
        self.map.insert(REVISION.to_owned(), revision.wrapping_add(1).into());
        self.map.entry(CREATED_AT).or_insert_with(|| now.into());
        self.map.insert(UPDATED_AT.to_owned(), now.into());
        let mut bytes = Value::Object(self.map).to_string().into_bytes();
        bytes.push(b'\n');
        bytes
    }
}

fn one_of(values: &[&'static str], value: Option<&Value>) -> &'static str {
    let known = values.iter().find(|known| value.and_then(Value::as_str) == Some(known));
    known.or(values.first()).copied().unwrap_or_default()
}

/// Who changes something, for the audit file.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    /// `command`, `api` or `page`.
    pub(crate) via: &'static str,
    /// The user of this machine, or the one who logged in.
    pub(crate) user: String,
    /// The address it came from.
    pub(crate) address: Option<String>,
}

impl Actor {
    /// Whoever runs this command.
    pub(crate) fn command() -> Self {
        let name = |uid: Uid| User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        Self { via: "command", user: name(getuid()), address: None }
    }

    /// Whose word it is.
    pub(crate) fn speaker(&self) -> Speaker {
        if self.via == "api" { Speaker::ApiClient } else { Speaker::Administrator }
    }
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Somebody else has changed it since this one has read it.
    Stale,
    /// What is there cannot be read; why.
    Unreadable(String),
    /// The disk.
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stale => {
                Self::InvalidState("the settings have changed meanwhile: read them and try again".to_owned())
            }
            Refused::Unreadable(why) => Self::InvalidState(unreadable(&why)),
            Refused::Failed(error) => error,
        }
    }
}

/// What is said of an unreadable file: what, and what to do.
pub(crate) fn unreadable(why: &str) -> String {
    format!("{why}: everything counts as off until `ondat-telemetry repair` has put the file aside")
}

/// What the file says now; the text says why it cannot be read.
pub(crate) fn read(dir: &StateDir) -> Result<Word, String> {
    match dir.root().look(FILE) {
        Look::Bytes(bytes) if bytes.is_empty() => Err(format!("{FILE} is empty")),
        Look::Bytes(bytes) => Word::parse(&bytes),
        Look::NoFile | Look::NoFolder => Word::parse(b""),
        Look::Unreadable(why) | Look::Denied(why) | Look::Unknown(why) => Err(why),
    }
}

/// A change that was made.
pub(crate) struct Changed {
    /// What the file says now.
    pub(crate) word: Word,
    /// What was changed, in words.
    pub(crate) what: String,
}

/// Changes it, in the audit file first: what is in force was written down. Where the disk is full, what turns off goes first
/// all the same, and the line follows when it can. What was stored for what is off is removed. With `expected`, only what has
/// been read is changed.
pub(crate) fn change(
    dir: &StateDir,
    actor: &Actor,
    expected: Option<&str>,
    edit: impl FnOnce(&mut Word),
) -> Result<Changed, Refused> {
    let _lock = lock_if_possible(dir)?;
    let before = read(dir).map_err(Refused::Unreadable)?;
    if expected.is_some_and(|expected| expected != before.version) {
        return Err(Refused::Stale);
    }
    let mut after = before.clone();
    after.set_unaudited(append_unaudited(dir, before.unaudited()));
    edit(&mut after);
    let what = after.changed_in_words(&before);
    let lines = after.lines(&before, actor);
    if let Err(error) = append_lines(dir, &lines) {
        if !after.only_turns_off(&before) {
            return Err(Refused::Failed(error));
        }
        after.set_unaudited([after.unaudited(), lines].concat());
    }
    let is_all_off = Switch::ALL.into_iter().all(|switch| after.is_off(switch));
    let mut bytes = after.renewed(now());
    if let Err(error) = dir.root().write_on_full_disk(FILE, layout::SWITCHES_RESERVE, &bytes) {
        // A file without a byte takes no room, and turns everything off.
        if !is_all_off || dir.root().write(FILE, b"").is_err() {
            // The disk that takes no file may take no line either; the error itself says it all.
            let entry = json!({ "action": "failed", "file": FILE, "why": error.to_string() });
            let _ = append_line(dir, &line_of(actor, &entry));
            return Err(Refused::Failed(error));
        }
    }
    let parse = |bytes: &[u8]| Word::parse(bytes).map_err(|why| Refused::Failed(Error::Internal(why)));
    let mut word = parse(&bytes)?;
    purge(dir, &word)?;
    // What was removed has made room.
    let left = append_unaudited(dir, word.unaudited());
    if left.len() < word.unaudited().len() {
        word.set_unaudited(left);
        let settled = word.renewed(now());
        if dir.root().write(FILE, &settled).is_ok() {
            bytes = settled;
        }
    }
    dir.root().keep_reserve(layout::SWITCHES_RESERVE);
    Ok(Changed { word: parse(&bytes)?, what })
}

/// Writes down what was changed on a full disk, and keeps room for the next time. What cannot be done yet is done later.
pub(crate) fn settle(dir: &StateDir) {
    let Ok(_lock) = lock(dir) else { return };
    if let Ok(mut word) = read(dir) {
        let left = append_unaudited(dir, word.unaudited());
        if left.len() < word.unaudited().len() {
            word.set_unaudited(left);
            let _ = dir.root().write(FILE, &word.renewed(now()));
        }
    }
    dir.root().keep_reserve(layout::SWITCHES_RESERVE);
}

/// Removes what is stored for what is off, whether or not a daemon runs that would.
fn purge(dir: &StateDir, word: &Word) -> Result<(), Error> {
    for switch in Switch::ALL.into_iter().filter(|switch| word.is_off(*switch)) {
        purge::purge(dir, switch).map_err(|error| {
            Error::Io(format!("{} is off, but what was stored for it is not removed: {error}", switch.name()))
        })?;
    }
    Ok(())
}

/// Puts an unreadable file aside. Everything stays off, by the administrator's own word now. False where it can be read.
pub(crate) fn repair(dir: &StateDir, actor: &Actor) -> Result<bool, Error> {
    let _lock = lock(dir)?;
    let Err(why) = read(dir) else { return Ok(false) };
    audit_locked(dir, actor, &json!({ "action": "repair", "why": why }))?;
    // Copied, not renamed: without the file, everything would be on for a moment. What cannot be read at all, such as a
    // symlink, is only replaced.
    let damaged = dir.root().read(FILE).ok().flatten();
    if let Some(bytes) = &damaged {
        dir.root().write(layout::SWITCHES_DAMAGED, bytes)?;
    }
    let mut word = Word::parse(b"").map_err(Error::Internal)?;
    let damaged: Value = damaged.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    for switch in Switch::ALL {
        word.set(Speaker::Administrator, switch, false);
        // As far as it can be read, the API client's word is kept: the administrator does not take it back by repairing.
        if damaged[WORDS][WORD_OF_API_CLIENT][switch.name()] == Value::Bool(false) {
            word.set(Speaker::ApiClient, switch, false);
        }
    }
    write_audited(dir, actor, FILE, &word.renewed(now()))?;
    Ok(true)
}

/// Writes a file of the administrator's after an entry in the audit file. `make` may read what is there: nobody else changes it
/// meanwhile.
pub(crate) fn write(
    dir: &StateDir,
    actor: &Actor,
    name: &str,
    make: impl FnOnce() -> Result<(Value, Vec<u8>), Error>,
) -> Result<(), Error> {
    let _lock = lock(dir)?;
    let (entry, bytes) = make()?;
    audit_locked(dir, actor, &entry)?;
    write_audited(dir, actor, name, &bytes)
}

/// Where it fails, the audit file says that, too.
fn write_audited(dir: &StateDir, actor: &Actor, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let written = dir.root().write(name, bytes);
    if let Err(error) = &written {
        // The disk that takes no file may take no line either; the error itself says it all.
        let _ = audit_locked(dir, actor, &json!({ "action": "failed", "file": name, "why": error.to_string() }));
    }
    written
}

fn lock(dir: &StateDir) -> Result<Lock, Error> {
    let lock = dir.root().lock_within(layout::SWITCHES_LOCK, PATIENCE)?;
    lock.ok_or_else(|| Error::InvalidState(format!("another process holds {}: try again", layout::SWITCHES_LOCK)))
}

/// On a full disk there may be no room for it. Turning off must not depend on that.
fn lock_if_possible(dir: &StateDir) -> Result<Option<Lock>, Error> {
    match lock(dir) {
        Err(Error::Io(_)) => Ok(None),
        locked => locked.map(Some),
    }
}

fn audit_locked(dir: &StateDir, actor: &Actor, entry: &Value) -> Result<(), Error> {
    append_line(dir, &line_of(actor, entry))
}

fn line_of(actor: &Actor, entry: &Value) -> Value {
    let Actor { via, user, address } = actor;
    let mut line = json!({ "at": rfc3339(now()), "via": via, "user": user, "address": address });
    if let (Some(line), Some(entry)) = (line.as_object_mut(), entry.as_object()) {
        line.extend(entry.clone());
    }
    line
}

fn append_line(dir: &StateDir, line: &Value) -> Result<(), Error> {
    append_lines(dir, std::slice::from_ref(line))
}

/// All of them or none.
fn append_lines(dir: &StateDir, lines: &[Value]) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    append(&dir.root(), &lines.iter().map(|line| format!("{line}\n")).collect::<String>())
        .map_err(|error| Error::Io(format!("nothing was changed, as {AUDIT_FILE} cannot be written: {error}")))
}

/// Writes down what was changed on a full disk. What still is not.
fn append_unaudited(dir: &StateDir, mut lines: Vec<Value>) -> Vec<Value> {
    while lines.first().is_some_and(|line| append_line(dir, line).is_ok()) {
        lines.remove(0);
    }
    lines
}

/// The lines of the audit file, the oldest first; a damaged one is passed over, and so is a file that cannot be read.
pub(crate) fn audit(dir: &StateDir) -> Vec<Value> {
    let files = [layout::AUDIT_BEFORE, AUDIT_FILE].map(|name| dir.root().read(name).ok().flatten().unwrap_or_default());
    let lines = files.iter().flat_map(|bytes| bytes.split(|byte| *byte == b'\n'));
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Adds a line, durably. One that a power cut has cut short stays alone on its line.
fn append(root: &Folder, line: &str) -> Result<(), Error> {
    if root.entry(AUDIT_FILE)?.is_some_and(|entry| entry.bytes + line.len() as u64 > AUDIT_BYTES) {
        root.rename(AUDIT_FILE, layout::AUDIT_BEFORE)?;
    }
    let Some(mut file) = root.open_existing(AUDIT_FILE)? else {
        return root.write(AUDIT_FILE, line.as_bytes());
    };
    let mut last = [b'\n'];
    let written = file.seek(SeekFrom::End(0)).and_then(|length| {
        if length > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        let line = if last == *b"\n" { line.to_owned() } else { format!("\n{line}") };
        if let Err(error) = file.write_all(line.as_bytes()).and_then(|()| file.sync_data()) {
            // Half a line is none; it is written again when there is room.
            let _ = file.set_len(length);
            return Err(error);
        }
        Ok(())
    });
    written.map_err(|error| Error::Io(error.to_string()))
}

fn now() -> i64 {
    SystemClock::new().now().unix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_names_one_state() {
        let word = Word::parse(br#"{"daily_report":false,"note":"kept"}"#).unwrap();
        let by = Speaker::Administrator;
        assert!(!word.is_on(by, Switch::DailyReport) && word.is_on(by, Switch::CrashReports));
        let again = Word::parse(&word.clone().renewed(1)).unwrap();
        assert_ne!(again.version(), word.version());
        assert_eq!((again.created_at(), again.updated_at()), (Some(1), Some(1)));
        assert_eq!(again.map["note"], "kept");
        assert!(again.lines(&word, &Actor::command()).is_empty());
        let third = Word::parse(&again.clone().renewed(2)).unwrap();
        assert_ne!(third.version(), again.version());
        assert_eq!((third.created_at(), third.updated_at()), (Some(1), Some(2)));
    }

    fn word(text: &str) -> Word {
        Word::parse(text.as_bytes()).unwrap()
    }

    /// What each says of the daily report, and what an older version reads.
    fn daily_report(word: &Word) -> (bool, bool, bool) {
        let by = |speaker| word.is_on(speaker, Switch::DailyReport);
        (by(Speaker::Administrator), by(Speaker::ApiClient), !word.is_off_by_any(Switch::DailyReport))
    }

    #[test]
    fn neither_takes_back_what_the_other_one_has_said() {
        let report = Switch::DailyReport;
        let (person, api) = (Speaker::Administrator, Speaker::ApiClient);
        for text in ["{}", r#"{"version_check":false}"#, r#"{"words":{}}"#, r#"{"words":{"api":{}}}"#] {
            let mut said = word(text);
            assert_eq!(daily_report(&said), (true, true, true), "{text}");
            said.set(api, report, false);
            assert_eq!(daily_report(&said), (true, false, false), "{text}");
            said.set(person, report, true);
            assert_eq!(daily_report(&said), (true, false, false), "{text}");
            said.set(person, report, false);
            said.set(api, report, true);
            assert_eq!(daily_report(&said), (false, true, false), "{text}");
            said.set(person, report, true);
            assert_eq!(daily_report(&said), (true, true, true), "{text}");
            assert_eq!(said.is_on(person, Switch::VersionCheck), !text.contains("version_check"), "{text}");
        }
    }

    #[test]
    fn what_an_older_version_or_a_hand_has_written_is_the_administrators() {
        let old = r#"{"daily_report":false}"#;
        assert_eq!(daily_report(&word(old)), (false, true, false));
        let mut said = word(old);
        said.set(Speaker::ApiClient, Switch::DailyReport, true);
        assert_eq!(daily_report(&said), (false, true, false), "an operator that says on turns nothing on");
        // Turned off by an older command since.
        let by_neither =
            r#"{"daily_report":false,"words":{"administrator":{"daily_report":true},"api":{"daily_report":true}}}"#;
        assert_eq!(daily_report(&word(by_neither)), (false, true, false));
        // Turned on by an older command since: off wins.
        let by_api = r#"{"daily_report":true,"words":{"api":{"daily_report":false}}}"#;
        assert_eq!(daily_report(&word(by_api)), (true, false, true));
        assert!(word(by_api).is_off(Switch::DailyReport));
        // Of somebody whom only a newer version knows.
        let mut newer = word(r#"{"daily_report":false,"words":{"fleet":{"daily_report":false,"by":"x"}}}"#);
        assert_eq!(daily_report(&newer), (true, true, false));
        newer.set(Speaker::Administrator, Switch::DailyReport, true);
        assert_eq!((daily_report(&newer), newer.is_off(Switch::DailyReport)), ((true, true, false), true));
        assert_eq!(newer.map[WORDS]["fleet"], json!({ "daily_report": false, "by": "x" }));
    }

    #[test]
    fn what_was_changed_is_said_and_not_what_is() {
        let before = word(r#"{"version_check":false}"#);
        let mut after = before.clone();
        after.set(Speaker::Administrator, Switch::VersionCheck, true);
        after.set(Speaker::ApiClient, Switch::DailyReport, false);
        after.set_log_level("debug");
        assert_eq!(
            after.changed_in_words(&before),
            "turned on version_check as the administrator, turned off daily_report as the API client, \
             set the log's level to debug"
        );
        assert_eq!(before.changed_in_words(&before), "changed nothing");
        let lines = after.lines(&before, &Actor::command());
        let words: Vec<_> = lines.iter().map(|line| (&line["word"], &line["changes"])).collect();
        let turned = |from: bool| json!({ "from": from, "to": !from });
        let level = json!({ "from": "info", "to": "debug" });
        assert_eq!(words[0], (&json!("administrator"), &json!({ "version_check": turned(false), "log_level": level })));
        assert_eq!(words[1], (&json!("api"), &json!({ "daily_report": turned(true) })));
    }

    #[test]
    fn what_is_no_log_level_counts_as_the_default() {
        let word = Word::parse(br#"{"log_level":5,"log_format":"xml"}"#).unwrap();
        assert_eq!((word.log_level(), word.log_format()), ("info", "default"));
    }
}
