//! The output of `--help`. Every subcommand accepts all settings. Its help shows the settings that it uses.

use clap::CommandFactory;

use crate::{Command, exit};

/// The help topic that shows all settings.
const TOPIC: &str = "settings";
/// The end of the main help page.
const MORE: &str = "Settings, such as --state-dir and --cluster-id: `ondat-telemetry help settings`.";

const FORM: &[&str] = &["output", "json"];
/// The settings that tell where the state directory is.
const PLACE: &[&str] = &["state_dir", "env_file"];
const SPEC: &[&str] = &["cluster_spec"];
const WHO: &[&str] = &["product_version", "cluster_id", "node_id"];
const ZONE: &[&str] = &["version_zone", "version_key", "version_seal_key"];
const REPORTS: &[&str] = &["report_url", "report_keys"];
const CRASHES: &[&str] = &["sentry_dsn"];
/// The settings that tell how a server is reached.
const NETWORK: &[&str] = &["nameservers", "ca_file", "proxy", "timeout_ms"];

/// The settings that each subcommand uses. A subcommand that only groups others uses none.
const USED: [(&str, &[&[&str]]); 31] = [
    ("check-version", &[PLACE, SPEC, WHO, ZONE, &["nameservers", "timeout_ms"], FORM]),
    ("report", &[]),
    ("report preview", &[PLACE, SPEC, WHO]),
    ("report submit", &[PLACE, SPEC, WHO, REPORTS, NETWORK, FORM]),
    ("report history", &[PLACE, FORM]),
    ("report next", &[PLACE, FORM]),
    ("crashes", &[]),
    ("crashes list", &[PLACE, FORM]),
    ("crashes show", &[PLACE]),
    ("crashes send", &[PLACE, SPEC, WHO, CRASHES, NETWORK, FORM]),
    ("crashes purge", &[PLACE, FORM]),
    ("exec", &[PLACE, SPEC, &["component", "monitor_path"], WHO, CRASHES, NETWORK]),
    // These are used by --verify.
    ("zone", &[PLACE, &["product_version", "version_key", "nameservers", "timeout_ms"], FORM]),
    ("sign-keys", &[]),
    ("decode-query", &[&["version_zone"], FORM]),
    ("keygen", &[]),
    ("keygen version", &[FORM]),
    ("keygen version-seal", &[FORM]),
    ("keygen report", &[FORM]),
    ("status", &[PLACE, SPEC, WHO, ZONE, REPORTS, CRASHES, FORM]),
    ("enable", &[PLACE, SPEC, FORM]),
    ("disable", &[PLACE, SPEC, FORM]),
    ("apply", &[PLACE, SPEC, FORM]),
    ("repair", &[PLACE, FORM]),
    ("reset-identity", &[PLACE, &["cluster_id"], FORM]),
    ("deletion-list", &[PLACE, SPEC, &["cluster_id"], FORM]),
    ("password", &[PLACE]),
    ("serve", &[PLACE, SPEC, WHO, ZONE, REPORTS, CRASHES]),
    ("version", &[FORM]),
    ("completions", &[]),
    ("man", &[]),
];

/// Returns the command line for parsing, completion and the help.
pub(crate) fn command_line() -> clap::Command {
    shown(Command::command())
}

/// Returns the command line without the subcommand `help`, which has no manual page.
pub(crate) fn for_manual() -> clap::Command {
    shown(Command::command().disable_help_subcommand(true))
}

/// Returns the text of the help topic.
pub(crate) fn settings() -> String {
    let mut command = command_line();
    command.find_subcommand_mut(TOPIC).map(|topic| topic.render_long_help().to_string()).unwrap_or_default()
}

fn shown(command: clap::Command) -> clap::Command {
    let mut command = command.after_help(format!("{MORE}\n\n{}", exit::HELP));
    // Only `build` makes the settings arguments of every subcommand.
    command.build();
    with_used(command, "")
}

/// Hides the settings that this subcommand, and those in it, do not use.
fn with_used(command: clap::Command, path: &str) -> clap::Command {
    let used = USED.iter().find(|(name, _)| *name == path).map_or([].as_slice(), |(_, used)| used);
    let is_used = |id: &str| used.iter().any(|group| group.contains(&id));
    command
        .mut_args(|argument| {
            let hides = argument.is_global_set() && path != TOPIC && !is_used(argument.get_id().as_str());
            if hides { argument.hide(true) } else { argument }
        })
        .mut_subcommands(|inner| {
            let name = inner.get_name().to_owned();
            with_used(inner, format!("{path} {name}").trim_start())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the subcommands with their parents.
    fn paths(command: &clap::Command, path: &str) -> Vec<String> {
        let inner = command.get_subcommands().filter(|inner| inner.get_name() != "help");
        inner
            .flat_map(|inner| {
                let path = format!("{path} {}", inner.get_name()).trim_start().to_owned();
                [vec![path.clone()], paths(inner, &path)].concat()
            })
            .collect()
    }

    #[test]
    fn the_table_has_every_subcommand_and_nothing_else() {
        let command = command_line();
        let found = paths(&command, "");
        let known: Vec<_> = USED.iter().map(|(name, _)| *name).chain([TOPIC]).collect();
        found.iter().for_each(|path| assert!(known.contains(&path.as_str()), "{path} is not in the table"));
        known.iter().for_each(|name| assert!(found.iter().any(|path| path == name), "{name} is no subcommand"));
        let settings: Vec<_> = command.get_arguments().filter(|argument| argument.is_global_set()).collect();
        for id in USED.iter().flat_map(|(_, used)| used.iter().copied().flatten()) {
            assert!(settings.iter().any(|argument| argument.get_id() == id), "{id} is no setting");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Command::command().debug_assert();
    }
}
