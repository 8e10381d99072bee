//! `report`: what would be sent, and sending it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use ondat_telemetry::client::Client;
use ondat_telemetry::error::Error;
use ondat_telemetry::switches::Switches;
use serde_json::json;

use crate::settings::Settings;
use crate::{Output, exit};

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
}

/// Previews or submits.
pub(crate) fn run(action: &Action, settings: Settings, json: bool) -> Result<Output, Error> {
    match action {
        Action::Preview { file } => preview(file, settings),
        Action::Submit { file } => submit(file, settings, json),
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
    Ok(Output { bytes, code: 0 })
}

fn submit(file: &Path, settings: Settings, json: bool) -> Result<Output, Error> {
    let config = settings.complete()?;
    let document = read_document(file)?;
    let (timeout, has_state_dir) = (config.timeout, config.state_dir.is_some());
    let client = Client::new(config)?;
    let outcome = client.submit_report(&document, timeout);
    client.close(Duration::ZERO);
    match outcome {
        Ok(()) if json => Ok(Output::json(&json!({ "outcome": "delivered" }))),
        Ok(()) => Ok(Output::text("delivered\n".to_owned())),
        // What is stored in the memory of this process is gone with it.
        Err(Error::Queued(why)) if !has_state_dir => {
            let reason = why.split_once(": ").map_or(why.as_str(), |(_, reason)| reason);
            Err(Error::Network(format!("not delivered, and not stored because no --state-dir is set: {reason}")))
        }
        Err(error @ Error::Queued(_)) => {
            let (code, reason) = (exit::of_error(&error), error.to_string());
            let output = if json {
                Output::json(&json!({ "outcome": "stored", "reason": reason }))
            } else {
                Output::text(format!("stored for later: {reason}\n"))
            };
            Ok(output.with_code(code))
        }
        Err(error) => Err(error),
    }
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
