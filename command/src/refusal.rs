//! A wrong command line, in the form of every other failure.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::plain;

/// Shows help or the version where it was asked for, else says what is wrong. The exit status that goes with it.
pub fn answer(error: &clap::Error, complain: impl FnOnce(&str)) -> ExitCode {
    match line(error) {
        Some(line) => complain(&line),
        None => {
            let _ = error.print();
        }
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// What is wrong, in one line: the first paragraph of what clap says, and what it takes to have been meant. None where help or the version was asked for.
fn line(error: &clap::Error) -> Option<String> {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
    }
    let text = error.to_string();
    let paragraph = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let said = [paragraph.trim_start_matches("error: ")].into_iter().chain(tips).collect::<Vec<_>>().join("; ");
    Some(plain::text(&format!("{said}; see --help")))
}
