//! `ondat-telemetry`, the administrator's and the release manager's command. It turns the switches, shows the status,
//! asks for the latest version, shows and sends reports, runs a program and reports how it ends, and serves a page and
//! an API that do the same. It also makes keys, signs the version zone and reads its queries.

mod administration;
mod check;
mod crashes;
mod daemons;
mod days;
mod decode;
mod deletion;
mod diagnostics;
mod environment;
mod exec;
mod exit;
mod form;
mod help;
mod identity;
mod keygen;
mod manual;
mod next;
mod outcome;
mod published;
mod query_log;
mod report;
mod serve;
mod settings;
mod sign_keys;
mod sources;
mod status;
mod summary;
mod switches;
mod users;
mod version;
mod watch;
mod zone;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use clap::{FromArgMatches, Parser, Subcommand};
use ondat_telemetry::error::Error;
use ondat_telemetry_command::{plain, refusal};
use serde_json::Value;

use crate::form::Form;
use crate::settings::{Options, Settings, Warnings};

ondat_telemetry::remember_sigpipe!();

/// Version check, daily report and crash reports: the operator's command.
#[derive(Parser)]
#[command(name = "ondat-telemetry", version)]
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
    /// Look at the crash reports that wait and those that were sent, send or remove what waits
    #[command(subcommand, after_help = exit::HELP)]
    Crashes(crashes::Action),
    /// Run a program and report how it ends
    #[command(after_help = exec::HELP)]
    Exec(exec::Arguments),
    /// Print a signed BIND zone file for a release, or look at the published zone
    #[command(after_help = zone::HELP)]
    Zone(zone::Arguments),
    /// Print the public report keys signed, as the receiving side publishes them
    SignKeys(sign_keys::Arguments),
    /// Say what the names of version queries tell: day, version and anonymised ids
    DecodeQuery(decode::Arguments),
    /// Make a key pair; existing files are never overwritten
    #[command(subcommand)]
    Keygen(keygen::Action),
    /// Say what is on, what is remembered and what is stored; no network, nothing is changed
    ///
    /// It speaks of the running daemons, and of this command's own settings where none runs.
    Status {
        /// Say it again whenever something has changed, until it is interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Turn on what the administrator had turned off; running daemons follow within a second
    ///
    /// Off wins: what the environment, the cluster spec or the daemon itself turns off stays off, and is named.
    #[command(after_help = exit::HELP)]
    Enable {
        /// Which
        #[arg(value_parser = switches::WhichParser)]
        which: switches::Which,
        /// Take back the word of the API client as well, such as the product's operator
        #[arg(long)]
        also_api: bool,
    },
    /// Turn off; running daemons follow within a second, and what is stored for it is removed
    #[command(after_help = exit::HELP)]
    Disable {
        /// Which
        #[arg(value_parser = switches::WhichParser)]
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
    /// Print the ids under which the vendor knows this cluster, to ask that what they name be deleted
    ///
    /// Ids of before a `reset-identity` are made with the key of before: ONDAT_TELEMETRY_IDENTITY_KEY.
    #[command(after_help = exit::HELP)]
    DeletionList(deletion::Arguments),
    /// Set the password of a user of the page and the API, from the terminal or the standard input
    #[command(after_help = exit::HELP)]
    Password(users::Arguments),
    /// Serve the administrator's page and API
    #[command(after_help = serve::HELP)]
    Serve(serve::Arguments),
    /// Say which build this is: version, commit, target, compiler
    Version,
    /// Show the settings that the subcommands share, and where they come from
    #[command(long_about = settings::ORDER)]
    Settings,
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

/// The output of a subcommand and its exit status.
pub(crate) struct Output {
    said: Said,
    code: u8,
}

/// The part for standard output.
enum Said {
    Bytes(Vec<u8>),
    /// A value for programs, printed in the requested form.
    Value(Value),
}

impl Output {
    /// Creates an output of exactly these bytes, with exit status 0.
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self { said: Said::Bytes(bytes), code: 0 }
    }

    /// Creates an output of text, with exit status 0.
    pub(crate) fn text(text: String) -> Self {
        Self::bytes(text.into_bytes())
    }

    /// Creates an output of coloured text. The colours are removed if standard output is not a terminal, or NO_COLOR is set.
    pub(crate) fn coloured(text: &str) -> Self {
        let has_colours = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self::text(if has_colours { text.to_owned() } else { strip_str(text).to_string() })
    }

    /// Creates an output for programs, one line of JSON or the same as YAML, with exit status 0.
    pub(crate) fn json(value: &Value) -> Self {
        Self { said: Said::Value(value.clone()), code: 0 }
    }

    /// Returns the bytes to print.
    fn into_bytes(self, form: Form) -> Vec<u8> {
        match self.said {
            Said::Bytes(bytes) => bytes,
            Said::Value(value) => form.of(&value).into_bytes(),
        }
    }

    /// Sets the exit status.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

fn main() -> ExitCode {
    let matches = help::command_line().try_get_matches();
    let command = match matches.and_then(|matches| Command::from_arg_matches(&matches)) {
        Ok(command) => command,
        Err(error) => return refusal::answer(&error, complain),
    };
    let warnings = Warnings::default();
    let form = command.options.form();
    let unused = unused(&command);
    let outcome = form.clone().and_then(|form| run(&command, &warnings, form));
    if let Some(line) = unused.filter(|_| outcome.is_ok()) {
        complain(&line);
    }
    let error_line = outcome.as_ref().err().map(Error::to_string);
    for warning in warnings.take() {
        // The library logs some failures that it also returns.
        if error_line.as_ref() != Some(&warning) {
            complain(&format!("warning: {warning}"));
        }
    }
    let outcome = outcome.and_then(|output| {
        let code = output.code;
        print(&output.into_bytes(form.unwrap_or(Form::Text))).map(|_| code)
    });
    ExitCode::from(outcome.unwrap_or_else(|error| {
        complain(&error.to_string());
        exit::of_error(&error)
    }))
}

/// Returns a hint for somebody who reads or changes a state directory that no daemon has ever used. It is found before the command
/// creates the directory, and printed only if the command succeeds, because a failure prints one line.
fn unused(command: &Command) -> Option<String> {
    let is_about_daemons = matches!(
        command.action,
        Action::Enable { .. }
            | Action::Disable { .. }
            | Action::Apply
            | Action::Repair
            | Action::Crashes(_)
            | Action::Report(report::Action::History)
    );
    let dir = if is_about_daemons { command.options.state_dir("").ok() } else { None }?;
    daemons::unused(&dir).map(|unused| format!("warning: {}: {unused}", dir.path().display()))
}

fn run(command: &Command, warnings: &Warnings, form: Form) -> Result<Output, Error> {
    let json = form.is_for_programs();
    let settings = || Settings::load(&command.options, warnings);
    match &command.action {
        Action::CheckVersion => check::run(settings()?.complete()?, json),
        Action::Report(action) => report::run(action, settings()?, json),
        Action::Crashes(action) => crashes::run(action, settings()?, json),
        Action::Exec(arguments) => exec::run(arguments, settings(), warnings),
        Action::Zone(arguments) => match &arguments.verify {
            Some(zone) => published::run(zone, arguments.within_days, &settings()?, json),
            None => zone::run(arguments),
        },
        Action::DecodeQuery(arguments) => {
            decode::run(arguments, settings()?.config.given.version_zone.as_deref(), form)
        }
        Action::Keygen(action) => keygen::run(action, json),
        Action::SignKeys(arguments) => sign_keys::run(arguments),
        Action::Status { watch: true } => watch::run(settings, warnings, form),
        Action::Status { watch: false } => status::run(&settings()?, json),
        Action::Enable { which, also_api } => switches::enable(*which, *also_api, &command.options, warnings, json),
        Action::Disable { which } => switches::disable(*which, &command.options, warnings, json),
        Action::Apply => switches::apply(&settings()?, &command.options, json),
        Action::Repair => switches::repair(&command.options, json),
        Action::ResetIdentity(arguments) => identity::run(arguments, &command.options, warnings, json),
        Action::DeletionList(arguments) => deletion::run(arguments, &settings()?, json),
        Action::Password(arguments) => users::run(arguments, &command.options),
        Action::Serve(arguments) => serve::run(arguments, &command.options, settings()?),
        Action::Version => Ok(version::run(json)),
        Action::Settings => Ok(Output::text(help::settings())),
        Action::Completions { shell } => Ok(manual::completions(*shell)),
        Action::Man { out } => manual::man(out.as_ref()),
    }
}

/// Prints bytes on standard output. False: nobody reads it any more.
pub(crate) fn print(bytes: &[u8]) -> Result<bool, Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        // The reader has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::Internal(format!("standard output: {error}"))),
    }
}

/// Prints a line on standard error.
pub(crate) fn complain(line: &str) {
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(io::stderr(), "ondat-telemetry: {}", plain::text(line));
}
