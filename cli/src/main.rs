//! `ondat-telemetry`, the operator's command: turns on and off, asks for the latest version, shows and sends reports, signs
//! the version zone and reads its queries, makes keys, runs a program and reports how it ends, says what is on, what is
//! remembered and what is stored, and serves a page and an API that do the same.

mod administration;
mod check;
mod crashes;
mod decode;
mod exec;
mod exit;
mod identity;
mod keygen;
mod manual;
mod next;
mod report;
mod serve;
mod settings;
mod sources;
mod status;
mod switches;
mod users;
mod zone;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use ondat_telemetry::error::Error;

use crate::settings::{Options, Settings, Warnings};

ondat_telemetry::remember_sigpipe!();

/// Version check, daily report and crash reports: the operator's command.
#[derive(Parser)]
#[command(name = "ondat-telemetry", version, after_help = exit::HELP)]
struct Command {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Ask the version zone now
    #[command(after_help = exit::HELP)]
    CheckVersion,
    /// Look at a report, or send it
    #[command(subcommand, after_help = exit::HELP)]
    Report(report::Action),
    /// Look at the crash reports that are not delivered yet, send or remove them
    #[command(subcommand, after_help = exit::HELP)]
    Crashes(crashes::Action),
    /// Run a program and report how it ends
    #[command(after_help = exec::HELP)]
    Exec(exec::Arguments),
    /// Print a signed BIND zone file for a release
    Zone(zone::Arguments),
    /// Say what the names of version queries tell: day, version and anonymised ids
    DecodeQuery(decode::Arguments),
    /// Make a key pair; existing files are never overwritten
    #[command(subcommand)]
    Keygen(keygen::Action),
    /// Say what is on, what is remembered and what is stored; no network, nothing is changed
    ///
    /// The environment is that of this command. A running daemon may have been started with another one.
    Status,
    /// Turn on what the administrator had turned off; running daemons follow within a second
    ///
    /// Off wins: what the environment, the cluster spec or the daemon itself turns off stays off, and is named.
    #[command(after_help = exit::HELP)]
    Enable {
        /// Which
        which: switches::Which,
    },
    /// Turn off; running daemons follow within a second, and what is stored for it is removed
    #[command(after_help = exit::HELP)]
    Disable {
        /// Which
        which: switches::Which,
    },
    /// Take over what the cluster spec turns off, for daemons that are running already
    ///
    /// What it no longer turns off is given up. Needs --cluster-spec.
    #[command(after_help = exit::HELP)]
    Apply,
    /// Put an unreadable switches.json aside; everything stays off until it is enabled
    #[command(after_help = exit::HELP)]
    Repair,
    /// Make new anonymised ids, in force from each daemon's next start on
    #[command(after_help = exit::HELP)]
    ResetIdentity(identity::Arguments),
    /// Set the password of a user of the page and the API, from the terminal or the standard input
    #[command(after_help = exit::HELP)]
    Password(users::Arguments),
    /// Serve the administrator's page and API
    #[command(after_help = serve::HELP)]
    Serve(serve::Arguments),
    /// Print the completions of this command line for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of this command
    Man {
        /// Write one for each subcommand into this folder instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// What a subcommand has to say, and the exit status that goes with it.
pub(crate) struct Output {
    /// For the standard output.
    pub(crate) bytes: Vec<u8>,
    /// The exit status.
    pub(crate) code: u8,
}

impl Output {
    /// Text, and success.
    pub(crate) fn text(text: String) -> Self {
        Self { bytes: text.into_bytes(), code: 0 }
    }

    /// Text with colours, which it loses where the standard output is no terminal or NO_COLOR is set.
    pub(crate) fn coloured(text: &str) -> Self {
        let has_colours = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self::text(if has_colours { text.to_owned() } else { strip_str(text).to_string() })
    }

    /// One line of JSON, and success.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::text(format!("{value}\n"))
    }

    /// The same with this exit status.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => return refuse(&error),
    };
    let warnings = Warnings::default();
    let outcome = run(&command, &warnings);
    let error_line = outcome.as_ref().err().map(Error::to_string);
    for warning in warnings.take() {
        // The library logs some failures that it also returns.
        if error_line.as_ref() != Some(&warning) {
            complain(&format!("warning: {warning}"));
        }
    }
    let outcome = outcome.and_then(|output| print(&output.bytes).map(|_| output.code));
    ExitCode::from(outcome.unwrap_or_else(|error| {
        complain(&error.to_string());
        exit::of_error(&error)
    }))
}

fn run(command: &Command, warnings: &Warnings) -> Result<Output, Error> {
    let json = command.options.json;
    let settings = || Settings::load(&command.options, warnings);
    match &command.action {
        Action::CheckVersion => check::run(settings()?.complete()?, json),
        Action::Report(action) => report::run(action, settings()?, json),
        Action::Crashes(action) => crashes::run(action, settings()?, json),
        Action::Exec(arguments) => exec::run(arguments, settings(), warnings),
        Action::Zone(arguments) => zone::run(arguments),
        Action::DecodeQuery(arguments) => decode::run(arguments, settings()?.config.version_zone.as_deref(), json),
        Action::Keygen(action) => keygen::run(action, json),
        Action::Status => status::run(&settings()?, json),
        Action::Enable { which } => switches::set(*which, true, &command.options, warnings),
        Action::Disable { which } => switches::set(*which, false, &command.options, warnings),
        Action::Apply => switches::apply(&settings()?, json),
        Action::Repair => switches::repair(&command.options),
        Action::ResetIdentity(arguments) => identity::run(arguments, &command.options, warnings, json),
        Action::Password(arguments) => users::run(arguments, &command.options),
        Action::Serve(arguments) => serve::run(arguments, &command.options, settings()?),
        Action::Completions { shell } => Ok(manual::completions(*shell)),
        Action::Man { out } => manual::man(out.as_ref()),
    }
}

/// Shows help where it was asked for, else the first paragraph of what clap says in one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
    } else {
        let text = error.to_string();
        let paragraph = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
        complain(&format!("{}; see --help", paragraph.trim_start_matches("error: ")));
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Prints. False where nobody reads any more.
pub(crate) fn print(bytes: &[u8]) -> Result<bool, Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        // A reader that has seen enough, such as `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Internal(format!("standard output: {error}"))),
    }
}

/// Says a line on the standard error.
pub(crate) fn complain(line: &str) {
    // Nobody is left to be told that the standard error is closed.
    let _ = writeln!(io::stderr(), "ondat-telemetry: {line}");
}
