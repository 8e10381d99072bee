//! `crashes`: crash reports that are stored and not delivered yet, and those that were sent.

use std::time::{Duration, Instant};

use clap::Subcommand;
use ondat_telemetry::client::Client;
use ondat_telemetry::crash::limit;
use ondat_telemetry::error::Error;
use ondat_telemetry::purge;
use ondat_telemetry::state::{Folder, StateDir, layout};
use ondat_telemetry::switch::Switch;
use ondat_telemetry_command::plain;
use serde_json::{Value, json};

use crate::Output;
use crate::settings::Settings;

/// What is done with them.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// List those that wait and the last that were sent, the oldest first
    List,
    /// Print one byte for byte as it would be sent, or was
    Show {
        /// The event's id
        id: String,
    },
    /// Try to deliver all of them now
    Send,
    /// Remove one, or all of them; they are never sent then
    Purge {
        /// The event's id
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// Remove all, also what is held back because there are many of its kind
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
}

const FOLDER: &str = layout::CRASHES;
const SENT: &str = layout::SENT_CRASHES;

/// Lists, shows, sends or removes.
pub(crate) fn run(action: &Action, settings: Settings, json: bool) -> Result<Output, Error> {
    let dir = settings.state_dir("crash reports are stored in the state directory")?.clone();
    match action {
        Action::List => list(&dir, json),
        Action::Show { id } => show(&dir, id),
        Action::Send => send(settings, json),
        Action::Purge { id: Some(id), .. } => {
            let waiting = dir.folder(FOLDER);
            event(&waiting, id)?.ok_or_else(|| unknown(&dir, id))?;
            waiting.remove(&file_name(id))?;
            Ok(outcome("removed", json))
        }
        Action::Purge { id: None, .. } => {
            purge::purge(&dir, Switch::CrashReports)?;
            Ok(outcome("removed", json))
        }
    }
}

fn outcome(word: &str, json: bool) -> Output {
    if json { Output::json(&json!({ "outcome": word })) } else { Output::text(format!("{word}\n")) }
}

fn file_name(id: &str) -> String {
    format!("{id}.json")
}

/// The bytes of an event in this folder; none where it is not there.
fn event(folder: &Folder, id: &str) -> Result<Option<Vec<u8>>, Error> {
    let is_id = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_id { folder.read(&file_name(id)) } else { Ok(None) }
}

/// Why there is nothing to remove.
fn unknown(dir: &StateDir, id: &str) -> Error {
    let is_sent = event(&dir.folder(SENT), id).is_ok_and(|sent| sent.is_some());
    let what = if is_sent { "waits: it was sent" } else { "is stored" };
    Error::InvalidArgument(format!("no crash report {id:?} {what}; `crashes list` names them"))
}

/// The events in a folder, the oldest first.
fn events(folder: &Folder) -> Result<Vec<(String, Value)>, Error> {
    let mut events = Vec::new();
    for entry in folder.entries()? {
        // One that cannot be read, or is too large to be one, is for the library to set aside; here it is shown for what it is.
        let bytes = folder.read(&entry.name).ok().flatten().unwrap_or_default();
        let event: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        events.push((entry.name.trim_end_matches(".json").to_owned(), event));
    }
    Ok(events)
}

fn events_json(events: &[(String, Value)]) -> Vec<Value> {
    events.iter().map(|(id, event)| json!({ "id": id, "event": event })).collect()
}

/// For the API: what waits, and the last that were sent.
pub(crate) fn json(dir: &StateDir) -> Result<Value, Error> {
    Ok(json!({
        "waiting": events_json(&events(&dir.folder(FOLDER))?),
        "sent": events_json(&events(&dir.folder(SENT))?),
        "held_back": limit::read(dir).held(),
    }))
}

fn list(dir: &StateDir, json: bool) -> Result<Output, Error> {
    let (waiting, sent) = (events(&dir.folder(FOLDER))?, events(&dir.folder(SENT))?);
    let held = limit::read(dir).held();
    if json {
        let said = json!({ "crashes": events_json(&waiting), "sent": events_json(&sent), "held_back": held });
        return Ok(Output::json(&said));
    }
    let mut text: String = waiting.iter().map(line).collect();
    if waiting.is_empty() {
        text.push_str(if sent.is_empty() { "no crash report is stored\n" } else { "no crash report waits\n" });
    }
    if held > 0 {
        text.push_str(&format!("{held} more are held back, as there were many of their kind within an hour\n"));
    }
    if !sent.is_empty() {
        text.push_str("\nsent (the last 100 are kept)\n");
        text.extend(sent.iter().map(line));
    }
    Ok(Output::text(text))
}

/// An event in a line. Whatever stands in the file, the terminal gets plain characters.
fn line((id, event): &(String, Value)) -> String {
    let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or("unreadable");
    let (time, release, value) = (word("/timestamp"), word("/release"), word("/exception/values/0/value"));
    let line = format!("{id}  {time}  {release}  {value}");
    plain::text(&line) + "\n"
}

fn show(dir: &StateDir, id: &str) -> Result<Output, Error> {
    let found = match event(&dir.folder(FOLDER), id)? {
        None => event(&dir.folder(SENT), id)?,
        waiting => waiting,
    };
    let mut bytes = found.ok_or_else(|| unknown(dir, id))?;
    bytes.push(b'\n');
    Ok(Output::bytes(bytes))
}

fn send(settings: Settings, json: bool) -> Result<Output, Error> {
    let timeout = settings.config.given.timeout;
    let client = Client::new(settings.complete()?)?;
    let sent = client.deliver(Switch::CrashReports, Instant::now() + timeout);
    client.close(Duration::ZERO);
    sent?;
    Ok(outcome("delivered", json))
}
