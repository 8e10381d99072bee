//! The command line: its subcommands, its exit statuses and its refusals.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use ondat_telemetry::error::Error;
use ondat_telemetry_command::{exit, manual, refusal};

use crate::fault::{self, complain};
use crate::serve::{self, ServeOptions};
use crate::{open, show, store};

/// The table at the end of `--help`: the exit statuses of `ondat-telemetry` that can occur here.
const EXIT_STATUSES: &str = "\
Exit status:
  0  it worked
  1  anything that is not listed here; open, show: something received cannot be read, and is named
  2  the command line, an address or a file it names is invalid
  8  the collector's folder cannot be read or written";

/// The receiving side of ondat-telemetry: version zone, sealed reports, crash reports.
#[derive(Parser)]
#[command(name = "ondat-telemetry-collector", version, after_help = EXIT_STATUSES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive. Prints one JSON line when everything listens; SIGTERM ends it.
    #[command(after_help = EXIT_STATUSES)]
    Serve(Box<ServeOptions>),
    /// Open and check the sealed reports, with the private key.
    #[command(after_help = EXIT_STATUSES)]
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
    #[command(after_help = EXIT_STATUSES)]
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
    /// Print the completions of this command line for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page of this command.
    Man {
        /// Write one for each subcommand into this folder instead.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refusal::answer(&error, complain),
    };
    match follow(arguments.command) {
        Ok(true) => ExitCode::SUCCESS,
        // Each failed part has been named.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(exit::of_error(&error))
        }
    }
}

fn follow(command: Command) -> Result<bool, Error> {
    match command {
        Command::Serve(options) => serve::run(*options).map(|()| true),
        Command::Open { keys, data, json } => open::run(&keys, data, json),
        Command::Show { data, zone_name, json } => show::run(data, zone_name.as_deref(), json),
        Command::Completions { shell } => print(manual::completions(Arguments::command(), shell).as_bytes()),
        Command::Man { out: None } => print(&manual::page(Arguments::command())?),
        Command::Man { out: Some(folder) } => manual::pages(Arguments::command(), &folder).map(|()| true),
    }
}

fn print(bytes: &[u8]) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    fault::printed(out.write_all(bytes).and_then(|()| out.flush())).map(|_| true)
}
