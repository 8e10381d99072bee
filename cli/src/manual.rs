//! `completions` and `man`: what clap's own crates make of the command line.

use std::path::{Path, PathBuf};

use clap_complete::Shell;
use ondat_telemetry::error::Error;

use crate::{Output, help};

/// The script that completes the command line in this shell.
pub(crate) fn completions(shell: Shell) -> Output {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut help::command_line(), "ondat-telemetry", &mut bytes);
    let script = String::from_utf8_lossy(&bytes);
    // For a program with a hyphen in its name, bash's part looks for subcommands under another name than it gives them
    // (clap-rs/clap#6421, clap_complete 4.6.11).
    let script = script.replace("ondat__subcmd__telemetry", "ondat__telemetry");
    Output::text(if shell == Shell::Fish { script + &values_for_fish() } else { script })
}

/// The values of arguments without a name, of which clap_complete 4.6.11 tells every shell but fish.
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

/// The manual page of the whole command on the standard output, or a page for each subcommand in a folder.
pub(crate) fn man(out: Option<&PathBuf>) -> Result<Output, Error> {
    let command = help::for_manual();
    let Some(folder) = out else {
        let mut bytes = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut bytes);
        rendered.map_err(|error| Error::Internal(format!("manual page: {error}")))?;
        return Ok(Output::bytes(bytes));
    };
    let failed = |path: &Path, error: std::io::Error| Error::InvalidArgument(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    clap_mangen::generate_to(command, folder).map_err(|error| failed(folder, error))?;
    Ok(Output::text(String::new()))
}
