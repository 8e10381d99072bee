//! `sign-keys` prints the public report keys as the receiving side publishes them, if the library's own verification accepts them.

use std::path::{Path, PathBuf};

use clap::Args;
use ed25519_dalek::Signer;
use ondat_telemetry::error::Error;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry_protocol::keys::KeySet;
use ondat_telemetry_protocol::signed_keys::{SignedKeys, signature_line, signed_message};
use serde_json::{Value, json};

use crate::Output;
use crate::settings::read_text;
use crate::zone::Signing;

/// The options of `sign-keys`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The key set, as `keygen report` writes it
    #[arg(value_name = "REPORT_KEYS.json")]
    report_keys: PathBuf,
    /// A version.key of `keygen version`; several while one is replaced
    #[arg(long = "key", value_name = "VERSION_KEY_FILE", required = true)]
    keys: Vec<PathBuf>,
    /// The moment of issue in Unix seconds, for reproducible output
    #[arg(long, hide = true, value_name = "UNIX")]
    now: Option<u32>,
}

/// Prints the signed key set.
pub(crate) fn run(arguments: &Arguments) -> Result<Output, Error> {
    let path = &arguments.report_keys;
    let text = read_text(path, "report keys")?;
    KeySet::parse(&text).map_err(|why| invalid(path, &why))?;
    let document: Value = serde_json::from_str(&text).map_err(|why| invalid(path, &why.to_string()))?;
    let issued = arguments.now.map_or_else(unix_now, i64::from);
    // The line has the keys alone: other members of the file are for the receiving side.
    let line = json!({ "issued": issued, "keys": document.get("keys") }).to_string();
    let mut published = format!("{line}\n");
    for path in &arguments.keys {
        let key = Signing::parse(&read_text(path, "version key")?).map_err(|why| invalid(path, &why))?;
        let signed = signature_line(&key.id, &key.key.sign(&signed_message(&line)).to_bytes());
        SignedKeys::parse(&format!("{line}\n{signed}"), &[key.public]).map_err(|why| invalid(path, &why))?;
        published.push_str(&signed);
    }
    Ok(Output::text(published))
}

fn invalid(path: &Path, why: &str) -> Error {
    Error::InvalidArgument(format!("{}: {why}", path.display()))
}
