//! The administrator's word: `switches.json` and the audit file beside it. The command and the API write them, nobody else.

use std::io::{Read, Seek, SeekFrom, Write};
use std::time::Duration;

use data_encoding::HEXLOWER;
use nix::unistd::{Uid, User, getuid};
use ondat_telemetry::error::Error;
use ondat_telemetry::state::{Folder, StateDir};
use ondat_telemetry::switches::{self, FILE, Objection, Switch};
use ondat_telemetry::sys::clock::{Clock, SystemClock};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::status::moment;

/// One line for each change.
pub(crate) const AUDIT_FILE: &str = "audit.jsonl";
/// Where the audit file goes when it is full; what was there goes.
const AUDIT_FILE_BEFORE: &str = "audit.jsonl.1";
/// A change is about 300 bytes: some 3000 changes.
const AUDIT_BYTES: u64 = 1 << 20;
/// Where a copy of an unreadable switches.json goes.
const DAMAGED_FILE: &str = "switches.json.damaged";
/// Held from reading to writing.
const LOCK: &str = "switches.lock";
/// What reading and writing a few kilobytes takes, fsync(2) on a busy disk included.
const PATIENCE: Duration = Duration::from_secs(2);
/// The API promises at most 30 characters for the version of the settings.
const VERSION_DIGITS: usize = 24;

const OBJECTIONS: &str = "objections";
const LOG_LEVEL: &str = "log_level";
const LOG_FORMAT: &str = "log_format";
const REVISION: &str = "revision";
const CREATED_AT: &str = "created_at";
const UPDATED_AT: &str = "updated_at";

/// The values of `logLevel`, the default first.
pub(crate) const LOG_LEVELS: [&str; 4] = ["info", "debug", "warn", "error"];
/// The values of `logFormat`, the default first.
pub(crate) const LOG_FORMATS: [&str; 2] = ["default", "json"];

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

    /// Names these very bytes: who changes them says what he has read.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Whether the administrator leaves this switch on.
    pub(crate) fn is_on(&self, switch: Switch) -> bool {
        self.map.get(switch.name()) != Some(&Value::Bool(false))
    }

    /// Turns a switch on or off.
    pub(crate) fn set(&mut self, switch: Switch, on: bool) {
        self.map.insert(switch.name().to_owned(), on.into());
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

    /// From, to, for everything that differs but for the bookkeeping.
    fn changes_from(&self, before: &Self) -> Value {
        let mut changes = Map::new();
        let mut note = |name: &str, from: Value, to: Value| {
            if from != to {
                changes.insert(name.to_owned(), json!({ "from": from, "to": to }));
            }
        };
        for switch in Switch::ALL {
            note(switch.name(), before.is_on(switch).into(), self.is_on(switch).into());
        }
        note(LOG_LEVEL, before.log_level().into(), self.log_level().into());
        note(LOG_FORMAT, before.log_format().into(), self.log_format().into());
        note(OBJECTIONS, json!(before.objections()), json!(self.objections()));
        Value::Object(changes)
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
    let bytes = dir.root().read(FILE).map_err(|error| error.to_string())?;
    match bytes {
        None => Word::parse(b""),
        Some(bytes) if bytes.is_empty() => Err(format!("{FILE} is empty")),
        Some(bytes) => Word::parse(&bytes),
    }
}

/// Changes it, in the audit file first: what is in force was written down. With `expected`, only what has been read is
/// changed.
pub(crate) fn change(
    dir: &StateDir,
    actor: &Actor,
    expected: Option<&str>,
    edit: impl FnOnce(&mut Word),
) -> Result<Word, Refused> {
    let _lock = lock(dir)?;
    let before = read(dir).map_err(Refused::Unreadable)?;
    if expected.is_some_and(|expected| expected != before.version) {
        return Err(Refused::Stale);
    }
    let mut after = before.clone();
    edit(&mut after);
    let changes = after.changes_from(&before);
    let entry = json!({ "action": "switches", "changes": changes });
    if changes.as_object().is_some_and(|changes| !changes.is_empty()) {
        audit_locked(dir, actor, &entry)?;
    }
    let bytes = after.renewed(now());
    write_audited(dir, actor, FILE, &bytes)?;
    Word::parse(&bytes).map_err(|why| Refused::Failed(Error::Internal(why)))
}

/// Puts an unreadable file aside. Everything stays off, by the administrator's own word now. False where it can be read.
pub(crate) fn repair(dir: &StateDir, actor: &Actor) -> Result<bool, Error> {
    let _lock = lock(dir)?;
    let Err(why) = read(dir) else { return Ok(false) };
    audit_locked(dir, actor, &json!({ "action": "repair", "why": why }))?;
    // Copied, not renamed: without the file, everything would be on for a moment. What cannot be read at all, such as a
    // symlink, is only replaced.
    if let Ok(Some(bytes)) = dir.root().read(FILE) {
        dir.root().write(DAMAGED_FILE, &bytes)?;
    }
    let mut word = Word::parse(b"").map_err(Error::Internal)?;
    for switch in Switch::ALL {
        word.set(switch, false);
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

fn lock(dir: &StateDir) -> Result<impl Drop + use<>, Error> {
    let lock = dir.root().lock_within(LOCK, PATIENCE)?;
    lock.ok_or_else(|| Error::InvalidState(format!("another process holds {LOCK}: try again")))
}

fn audit_locked(dir: &StateDir, actor: &Actor, entry: &Value) -> Result<(), Error> {
    let Actor { via, user, address } = actor;
    let mut line = json!({ "at": moment(now()), "via": via, "user": user, "address": address });
    if let (Some(line), Some(entry)) = (line.as_object_mut(), entry.as_object()) {
        line.extend(entry.clone());
    }
    append(&dir.root(), &format!("{line}\n"))
        .map_err(|error| Error::Io(format!("nothing was changed, as {AUDIT_FILE} cannot be written: {error}")))
}

/// Adds a line, durably. One that a power cut has cut short stays alone on its line.
fn append(root: &Folder, line: &str) -> Result<(), Error> {
    if root.entry(AUDIT_FILE)?.is_some_and(|entry| entry.bytes + line.len() as u64 > AUDIT_BYTES) {
        root.rename(AUDIT_FILE, AUDIT_FILE_BEFORE)?;
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
        file.write_all(line.as_bytes())?;
        file.sync_data()
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
        assert!(!word.is_on(Switch::DailyReport) && word.is_on(Switch::CrashReports));
        let again = Word::parse(&word.clone().renewed(1)).unwrap();
        assert_ne!(again.version(), word.version());
        assert_eq!((again.created_at(), again.updated_at()), (Some(1), Some(1)));
        assert_eq!(again.map["note"], "kept");
        assert_eq!(again.changes_from(&word), json!({}));
        let third = Word::parse(&again.clone().renewed(2)).unwrap();
        assert_ne!(third.version(), again.version());
        assert_eq!((third.created_at(), third.updated_at()), (Some(1), Some(2)));
    }

    #[test]
    fn what_is_no_log_level_counts_as_the_default() {
        let word = Word::parse(br#"{"log_level":5,"log_format":"xml"}"#).unwrap();
        assert_eq!((word.log_level(), word.log_format()), ("info", "default"));
    }
}
