//! `completions` and `man`.

use std::path::PathBuf;

use clap_complete::Shell;
use ondat_telemetry::error::Error;
use ondat_telemetry_command::manual;

use crate::{Output, help};

/// Returns the script that completes the command line in this shell.
pub(crate) fn completions(shell: Shell) -> Output {
    let script = manual::completions(help::command_line(), shell);
    Output::text(if shell == Shell::Fish { script + &values_for_fish() } else { script })
}

/// Returns the completions of positional values for fish. clap_complete 4.6.11 writes them for every shell but fish.
fn values_for_fish() -> String {
    let command = help::command_line();
    let lines = command.get_subcommands().flat_map(|inner| {
        inner.get_positionals().filter_map(|argument| {
            let values = argument.get_possible_values();
            let values: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
            let name = inner.get_name();
            let condition = format!("__fish_ondat_telemetry_using_subcommand {name}");
            let line = format!("complete -c ondat-telemetry -n \"{condition}\" -f -a \"{}\"\n", values.join(" "));
            (!values.is_empty()).then_some(line)
        })
    });
    lines.collect()
}

/// Prints the manual page of the whole command, or writes a page for each subcommand into a folder.
pub(crate) fn man(out: Option<&PathBuf>) -> Result<Output, Error> {
    let command = help::for_manual();
    match out {
        None => manual::page(command).map(Output::bytes),
        Some(folder) => manual::pages(command, folder).map(|()| Output::text(String::new())),
    }
}
