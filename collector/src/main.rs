//! The receiving side of ondat-telemetry.
//!
//! `serve` takes in version queries (DNS), sealed daily reports (HTTPS) and crash reports (Sentry's protocol over
//! HTTPS), and never holds a private key. `open` is run elsewhere, with the private key, and reads the reports.
//! `show` lists what was received.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::fault::Fault;
use crate::serve::ServeOptions;

mod body;
mod dns;
mod envelope;
mod fault;
mod keys;
mod listen;
mod open;
mod plaintext;
mod query;
mod reports;
mod sealed;
mod sentry;
mod serve;
mod show;
mod store;
mod table;
mod tls;
mod zone;

/// The receiving side of ondat-telemetry: version zone, sealed reports, crash reports.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive. Prints one JSON line when everything listens; SIGTERM ends it.
    Serve(ServeOptions),
    /// Open and check the sealed reports, with the private key.
    Open {
        /// A private key file: {"id":"<16 hex>","kem":"X25519"|"X-Wing","private":"<base64>"}. May be repeated.
        #[arg(long = "key", value_name = "FILE", required = true)]
        keys: Vec<PathBuf>,
        /// The folder `serve` writes to.
        #[arg(long, value_name = "DIR", default_value = store::DEFAULT_FOLDER)]
        data: PathBuf,
        /// One JSON object per report instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// List what was received: version queries, sealed reports, crash reports.
    Show {
        /// The folder `serve` writes to.
        #[arg(long, value_name = "DIR", default_value = store::DEFAULT_FOLDER)]
        data: PathBuf,
        /// The version zone; without it any name with the label o1 in the right place counts as a version query.
        #[arg(long, value_name = "ZONE")]
        zone_name: Option<String>,
        /// One JSON object per item instead of tables.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(fault) => {
            complain(&fault);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Fault> {
    match command {
        Command::Serve(options) => serve::run(options),
        Command::Open { keys, data, json } => open::run(&keys, data, json),
        Command::Show { data, zone_name, json } => show::run(data, zone_name.as_deref(), json),
    }
}

/// Says on stderr what went wrong. There is nobody left to tell when that fails.
fn complain(fault: &Fault) {
    let _ = writeln!(std::io::stderr(), "ondat-telemetry-collector: {fault}");
}
