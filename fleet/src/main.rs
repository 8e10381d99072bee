//! The opener: sealed reports, crash reports and version queries into tables that any engine reads, and what is counted
//! over them.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ondat_telemetry::error::Error;
use ondat_telemetry_command::{exit, plain, refusal};

mod aside;
mod cell;
mod checks;
mod crashes;
mod data;
mod delete;
mod fault;
mod r#gen;
mod late;
mod open;
mod part;
mod parts;
mod progress;
mod rows;
mod single;
mod table;
mod unseal;
mod workplace;

/// Where the collector writes, unless it is told otherwise.
const DEFAULT_FOLDER: &str = "ondat-collector";

const EXIT_STATUSES: &str = "\
Exit status:
  0  it worked; what was set aside is named
  1  something could not be read, is named, and is tried again the next time
  2  the command line, or a file that it names, is invalid
  8  the data folder cannot be read or written";

/// Opens received reports into tables that any engine reads.
#[derive(Parser)]
#[command(name = "ondat-telemetry-fleet", version, after_help = EXIT_STATUSES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the tables up to what was received.
    #[command(after_help = EXIT_STATUSES)]
    Open(open::OpenOptions),
    /// Take out of the tables what a cluster has asked to be forgotten, and open nothing of it any more.
    #[command(after_help = EXIT_STATUSES)]
    Delete(delete::DeleteOptions),
    /// Make up a fleet, for tests and to look at: sealed reports, crash reports, version queries.
    #[command(after_help = EXIT_STATUSES)]
    Gen(r#gen::GenOptions),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refusal::answer(&error, complain),
    };
    let outcome = match &arguments.command {
        Command::Open(options) => open::run(options),
        Command::Delete(options) => delete::run(options),
        Command::Gen(options) => r#gen::run(options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        // Each part that failed was named.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(exit::of_error(&error))
        }
    }
}

/// Prints a text. Nobody may read any more, such as `head`, which has seen enough.
fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Internal(format!("standard output: {why}")))
        }
        _ => Ok(()),
    }
}

/// Says a line on the standard error. There is nobody left to tell when that fails.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "ondat-telemetry-fleet: {}", plain::text(line));
}
