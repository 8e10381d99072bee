//! `reset-identity`: new anonymised ids, which each daemon uses from its next start on.

use std::path::PathBuf;

use clap::Args;
use data_encoding::{BASE64, HEXLOWER};
use ondat_telemetry::error::Error;
use serde_json::json;

use crate::Output;
use crate::administration::{self, Actor};
use ondat_telemetry::state::layout::IDENTITY_KEY;

use crate::environment::IDENTITY_KEY as VARIABLE;
use crate::settings::{Options, Settings, Warnings, read_text};

/// How the new identity is made.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Use the key of another node of the cluster, a copy of its identity.key, instead of a new one
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Writes the key.
pub(crate) fn run(arguments: &Arguments, options: &Options, warnings: &Warnings, json: bool) -> Result<Output, Error> {
    let goes_before = |place: String| {
        Err(Error::InvalidConfig(format!(
            "{VARIABLE} is set{place} and goes before {IDENTITY_KEY}: change or unset it"
        )))
    };
    if std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) {
        return goes_before(String::new());
    }
    let dir = options.state_dir("the identity is kept in the state directory")?;
    if let Some(path) = options.file_with(VARIABLE, &dir)? {
        return goes_before(format!(" in {}", path.display()));
    }
    // Not known where the key that is there is damaged, which this command is the way out of.
    let before = cluster_id(options, warnings).ok().flatten();
    let key = match &arguments.key_file {
        None => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| Error::Internal(format!("no randomness for a key: {error}")))?;
            key
        }
        Some(path) => {
            let text = read_text(path, "identity key")?;
            let key = BASE64.decode(text.trim().as_bytes()).ok().and_then(|key| key.try_into().ok());
            key.ok_or_else(|| {
                Error::InvalidArgument(format!("identity key {}: not 32 bytes in base64", path.display()))
            })?
        }
    };
    let text = format!("{}\n", BASE64.encode(&key));
    let entry = json!({ "action": "reset-identity" });
    administration::write(&dir, &Actor::command(), IDENTITY_KEY, || Ok((entry, text.into_bytes())))?;
    let after = cluster_id(options, warnings)?;
    let path = dir.path().join(IDENTITY_KEY);
    if json {
        return Ok(Output::json(&json!({ "key_file": path, "cluster_id": { "before": before, "after": after } })));
    }
    let ids = match (before, after) {
        (Some(before), Some(after)) => format!("cluster id  {after}, before {before}\n"),
        (None, Some(after)) => format!("cluster id  {after}\n"),
        _ => String::new(),
    };
    Ok(Output::text(format!(
        "{ids}key         {}\nDaemons use it from their next start on. All nodes of a cluster need the same key: run\n\
         `ondat-telemetry reset-identity --key-file COPY` with a copy of it on the others. What is stored for delivery\n\
         still has the ids of before.\n",
        path.display()
    )))
}

fn cluster_id(options: &Options, warnings: &Warnings) -> Result<Option<String>, Error> {
    let settings = Settings::load(options, warnings)?;
    Ok(settings.has_cluster_id.then(|| HEXLOWER.encode(&settings.config.cluster)))
}
