//! A wrong command line, in the form of every other failure.

use clap::error::ErrorKind;

use crate::plain;

/// What is wrong, in one line: the first paragraph of what clap says, and what it takes to have been meant. None where help or the version was asked for.
pub fn line(error: &clap::Error) -> Option<String> {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return None;
    }
    let text = error.to_string();
    let paragraph = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let said = [paragraph.trim_start_matches("error: ")].into_iter().chain(tips).collect::<Vec<_>>().join("; ");
    Some(plain::text(&format!("{said}; see --help")))
}
