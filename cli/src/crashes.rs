//! `crashes`: what is stored and not delivered yet.

use std::time::{Duration, Instant};

use clap::Subcommand;
use ondat_telemetry::client::Client;
use ondat_telemetry::error::Error;
use ondat_telemetry::memory;
use ondat_telemetry::state::{Folder, StateDir, layout};
use ondat_telemetry::switches::Switch;
use serde_json::{Value, json};

use crate::Output;
use crate::settings::Settings;

/// What is done with them.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// List them, the oldest first
    List,
    /// Print one byte for byte as it would be sent
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
        Action::Show { id } => show(&dir.folder(FOLDER), id),
        Action::Send => send(settings, json),
        Action::Purge { id: Some(id), .. } => {
            event(&dir.folder(FOLDER), id)?;
            dir.folder(FOLDER).remove(&file_name(id))?;
            Ok(Output::text("removed\n".to_owned()))
        }
        Action::Purge { id: None, .. } => {
            memory::purge(&dir, Switch::CrashReports)?;
            Ok(Output::text("removed\n".to_owned()))
        }
    }
}

fn file_name(id: &str) -> String {
    format!("{id}.json")
}

/// The stored event's bytes.
fn event(folder: &Folder, id: &str) -> Result<Vec<u8>, Error> {
    let is_id = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let bytes = if is_id { folder.read(&file_name(id))? } else { None };
    bytes.ok_or_else(|| Error::InvalidArgument(format!("no crash report {id:?} is stored; `crashes list` names them")))
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
        "held_back": memory::crash_limits(dir).held(),
    }))
}

fn list(dir: &StateDir, json: bool) -> Result<Output, Error> {
    let events = events(&dir.folder(FOLDER))?;
    let held = memory::crash_limits(dir).held();
    if json {
        return Ok(Output::json(&json!({ "crashes": events_json(&events), "held_back": held })));
    }
    let mut text = String::new();
    for (id, event) in &events {
        let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or("unreadable").to_owned();
        let (time, release) = (word("/timestamp"), word("/release"));
        text.push_str(&format!("{id}  {time}  {release}  {}\n", word("/exception/values/0/value")));
    }
    if events.is_empty() {
        text.push_str("no crash report is stored\n");
    }
    if held > 0 {
        text.push_str(&format!("{held} more are held back, as there were many of their kind within an hour\n"));
    }
    Ok(Output::text(text))
}

fn show(folder: &Folder, id: &str) -> Result<Output, Error> {
    let mut bytes = event(folder, id)?;
    bytes.push(b'\n');
    Ok(Output { bytes, code: 0 })
}

fn send(settings: Settings, json: bool) -> Result<Output, Error> {
    let timeout = settings.config.timeout;
    let client = Client::new(settings.complete()?)?;
    let sent = client.deliver(Switch::CrashReports, Instant::now() + timeout);
    client.close(Duration::ZERO);
    sent?;
    Ok(if json { Output::json(&json!({ "outcome": "delivered" })) } else { Output::text("delivered\n".to_owned()) })
}
