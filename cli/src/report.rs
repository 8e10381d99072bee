//! `report`: shows what would be sent, and sends it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use data_encoding::HEXLOWER;
use ondat_telemetry::client::Client;
use ondat_telemetry::error::Error;
use ondat_telemetry::report::memory::{ReportMemory, Try};
use ondat_telemetry::state::{Entry, StateDir, layout};
use ondat_telemetry::switches::Switches;
use ondat_telemetry::sys::clock::{Clock, SystemClock};
use ondat_telemetry::{presence, schedule};
use ondat_telemetry_protocol::time::rfc3339;
use serde_json::{Value, json};

use crate::settings::Settings;
use crate::{Output, days, exit, next, status};

/// What is done with a report document.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Print byte for byte what would be sealed; nothing is sent or stored
    Preview {
        /// The report document, JSON; - reads the standard input
        file: PathBuf,
    },
    /// Seal and send the report of the day
    Submit {
        /// The report document, JSON; - reads the standard input
        file: PathBuf,
    },
    /// Print byte for byte what a running daemon would send now; nothing is sent or stored
    ///
    /// The daemon's report callback is asked. Of several, the one that has run for longest is. With --json: the report's id, day
    /// and length, as it is and sealed, and who was asked.
    Next,
    /// Show the last tries to deliver reports: when, what, where to, through which proxy, and what came of it
    History,
}

/// Previews, submits or looks back.
pub(crate) fn run(action: &Action, settings: Settings, json: bool) -> Result<Output, Error> {
    match action {
        Action::Preview { file } => preview(file, settings),
        Action::Submit { file } => submit(file, settings, json),
        Action::Next => next::run(settings.state_dir("daemons are asked in the state directory")?, json),
        Action::History => history(&settings, json),
    }
}

fn preview(file: &Path, settings: Settings) -> Result<Output, Error> {
    let mut config = settings.complete()?;
    // The report says which switches are off. They are read here, and the client gets no directory: a client removes
    // what is stored for a switch that is off, and a preview changes nothing.
    let switches = Switches::new(config.host_switches, config.objections.clone(), config.state_dir.take());
    config.host_switches = switches.on();
    config.objections.clear();
    let bytes = Client::new(config)?.preview_report(&read_document(file)?)?;
    Ok(Output::bytes(bytes))
}

fn submit(file: &Path, settings: Settings, json: bool) -> Result<Output, Error> {
    let config = settings.complete()?;
    let document = read_document(file)?;
    let (timeout, has_state_dir) = (config.given.timeout, config.state_dir.is_some());
    let identity = config.identity.clone();
    let id_of_today =
        || HEXLOWER.encode(&identity.report_id(&status::date(schedule::day(SystemClock::new().now().unix))));
    let before = id_of_today();
    let client = Client::new(config)?;
    let outcome = client.submit_report(&document, timeout);
    // Daemons on the same state directory try too, and midnight may have passed.
    let ids = [before, id_of_today()];
    let made = client.tries().into_iter().rfind(|try_| ids.contains(&try_.report_id));
    client.close(Duration::ZERO);
    match outcome {
        Ok(()) => Ok(submitted("delivered", None, made.as_ref(), json)),
        // What is stored in the memory of this process is gone with it.
        Err(Error::Queued(why)) if !has_state_dir => {
            let reason = why.split_once(": ").map_or(why.as_str(), |(_, reason)| reason);
            Err(Error::Network(format!("not delivered, and not stored because no --state-dir is set: {reason}")))
        }
        Err(error @ Error::Queued(_)) => {
            let output = submitted("stored", Some(&error.to_string()), made.as_ref(), json);
            Ok(output.with_code(exit::of_error(&error)))
        }
        Err(error) => Err(error),
    }
}

/// What became of a report: which one it is, how large, and for which collector.
fn submitted(outcome: &str, reason: Option<&str>, made: Option<&Try>, json: bool) -> Output {
    if json {
        let mut said = json!({
            "outcome": outcome,
            "report_id": made.map(|made| &made.report_id),
            "day": made.map(|made| status::date(made.day)),
            "bytes": made.map(|made| made.bytes),
            "host": made.map(|made| host(&made.url)),
        });
        if let Some(reason) = reason {
            said["reason"] = reason.into();
        }
        return Output::json(&said);
    }
    let which = made.map(|made| {
        let Try { report_id, day, bytes, url, .. } = made;
        format!("report {report_id} of {}, {bytes} bytes sealed, to {}", status::date(*day), host(url))
    });
    Output::text(match (reason, which) {
        (None, None) => format!("{outcome}\n"),
        (None, Some(which)) => format!("{outcome}: {which}\n"),
        (Some(reason), None) => format!("{outcome} for later: {reason}\n"),
        (Some(reason), Some(which)) => format!("{outcome} for later: {which}: {reason}\n"),
    })
}

/// Host and port of a URL.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

fn history(settings: &Settings, json: bool) -> Result<Output, Error> {
    let dir = settings.state_dir("what was tried is remembered in the state directory")?;
    let memory: ReportMemory = status::remembered(Some(dir), layout::REPORT).map_err(Error::Io)?;
    if json {
        return Ok(Output::json(&json!({ "tries": memory.tries.iter().map(try_json).collect::<Vec<_>>() })));
    }
    if memory.tries.is_empty() {
        return Ok(Output::text("no report was tried yet\n".to_owned()));
    }
    let lines = memory.tries.iter().map(|try_| {
        let proxy = try_.proxy.as_ref().map(|proxy| format!(" through {proxy}")).unwrap_or_default();
        format!(
            "{}  report of {}  {} bytes  to {}{proxy}: {}\n",
            rfc3339(try_.at),
            status::date(try_.day),
            try_.bytes,
            try_.url,
            try_.result
        )
    });
    Ok(Output::text(lines.collect()))
}

fn try_json(try_: &Try) -> Value {
    json!({
        "at": try_.at,
        "report_id": try_.report_id,
        "day": status::date(try_.day),
        "bytes": try_.bytes,
        "url": try_.url,
        "proxy": try_.proxy,
        "outcome": try_.outcome(),
        "result": try_.result,
    })
}

/// The folder of the copies of what was sent.
const SENT: &str = layout::SENT;

/// For the API: what was made, tried and kept, and what became of the last days.
pub(crate) fn json(dir: &StateDir) -> Result<Value, Error> {
    let memory: ReportMemory = status::remembered(Some(dir), layout::REPORT).map_err(Error::Io)?;
    let made = memory.made.iter().flat_map(|(cluster_id, made)| made.iter().map(move |made| (cluster_id, made)));
    let made = made.map(|(cluster_id, made)| {
        json!({ "cluster_id": cluster_id, "day": status::date(made.day), "delivered_at": made.delivered_at })
    });
    let kept = kept(dir)?
        .into_iter()
        .map(|entry| json!({ "day": entry.name.get(..10), "name": entry.name, "bytes": entry.bytes }));
    let made: Vec<_> = made.collect();
    let tries: Vec<_> = memory.tries.iter().map(try_json).collect();
    // Those that cannot be seen tell nothing.
    let processes = presence::processes(dir).unwrap_or_default();
    let days = days::json(dir, memory, processes, SystemClock::new().now().unix);
    Ok(json!({ "made": made, "tries": tries, "kept": kept.collect::<Vec<_>>(), "days": days }))
}

/// The copies of reports, by their days.
fn kept(dir: &StateDir) -> Result<Vec<Entry>, Error> {
    let mut kept = dir.folder(SENT).entries()?;
    kept.retain(|entry| entry.name.ends_with(".jsonl"));
    kept.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(kept)
}

/// Day and id, plaintext and its length in bytes, of the last report that was made.
pub(crate) fn last_made(dir: &StateDir) -> Result<Option<(String, File, u64)>, Error> {
    // One may be removed between listing and opening, when there are newer ones.
    for entry in kept(dir)?.into_iter().rev() {
        if let Some(file) = dir.folder(SENT).open_existing(&entry.name)? {
            return Ok(Some((entry.name.trim_end_matches(".jsonl").to_owned(), file, entry.bytes)));
        }
    }
    Ok(None)
}

fn read_document(file: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(file).map(|content| bytes = content)
    };
    read.map_err(|error| Error::InvalidArgument(format!("report document {}: {error}", file.display())))?;
    Ok(bytes)
}
