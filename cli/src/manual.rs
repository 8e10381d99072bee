//! `completions` and `man`.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use ondat_telemetry::error::Error;
use ondat_telemetry_command::manual;

use crate::{Command, Output};

/// The script that completes the command line in this shell.
pub(crate) fn completions(shell: Shell) -> Output {
    Output::text(manual::completions(Command::command(), shell))
}

/// The manual page of the whole command on the standard output, or a page for each subcommand in a folder.
pub(crate) fn man(out: Option<&PathBuf>) -> Result<Output, Error> {
    let command = Command::command().version(env!("CARGO_PKG_VERSION"));
    match out {
        None => Ok(Output { bytes: manual::page(command)?, code: 0 }),
        Some(folder) => manual::pages(command, folder).map(|()| Output::text(String::new())),
    }
}
