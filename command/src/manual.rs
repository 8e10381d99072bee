//! Completions and manual pages, which clap's own crates generate from a command line.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use ondat_telemetry::error::Error;

/// The script that completes the command line in this shell.
pub fn completions(mut command: Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, &name, &mut script);
    // For a program with a hyphen in its name, bash's part looks for subcommands under another name than it gives them
    // (clap-rs/clap#6421, clap_complete 4.6.11).
    String::from_utf8_lossy(&script).replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"))
}

/// The manual page of the whole command.
pub fn page(command: Command) -> Result<Vec<u8>, Error> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command).render(&mut page);
    rendered.map_err(|error| Error::Internal(format!("manual page: {error}")))?;
    Ok(page)
}

/// Writes a page for the command and for each subcommand into a folder.
pub fn pages(command: Command, folder: &Path) -> Result<(), Error> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| Error::InvalidArgument(format!("{}: {error}", folder.display())))
}
