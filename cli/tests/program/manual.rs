//! Completions, manual pages, help and colours.

use std::fs;
use std::process::Command;

use crate::program::{Place, command, finish, run};

/// Every subcommand of the help.
fn subcommands() -> Vec<String> {
    let help = run(&["--help"]).with(0).stdout;
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn completions_know_every_subcommand() {
    let place = Place::new("completions");
    let subcommands = subcommands();
    assert!(subcommands.len() >= 15, "{subcommands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).with(0).stdout;
        for subcommand in &subcommands {
            assert!(script.contains(subcommand), "{shell}: {subcommand}");
        }
        // The other two are generated as well, and complete subcommands and options alone.
        let is_installed = ["bash", "zsh", "fish"].contains(&shell);
        for name in ["telemetry", "error-reporting", "DISABLE_TELEMETRY", "--watch", "--env-file", "yaml"] {
            // Of options, fish's script has the name alone.
            let name = if shell == "fish" { name.trim_start_matches("--") } else { name };
            assert!(!is_installed || script.contains(name), "{shell}: {name}");
        }
    }
    // A real shell completes with it.
    let script = place.with("completions.bash", &run(&["completions", "bash"]).with(0).stdout);
    let ask = "source \"$0\"; function=$(complete -p ondat-telemetry | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
               COMP_WORDS=(ondat-telemetry disable t); COMP_CWORD=2; \
               $function ondat-telemetry t disable; echo \"${COMPREPLY[*]}\"";
    let completed = Command::new("bash").args(["--norc", "-c", ask, &script]).output().unwrap();
    assert_eq!(String::from_utf8(completed.stdout).unwrap(), "telemetry\n");
}

#[test]
fn there_is_a_manual_page_for_every_subcommand() {
    let place = Place::new("man");
    let page = run(&["man"]).with(0).stdout;
    assert!(page.contains(".TH ondat-telemetry 1") && page.contains("Exit status"), "{page}");
    run(&["man", "--out", &place.at("man1")]).with(0);
    let page = |name: &str| fs::read_to_string(place.path().join(format!("man1/ondat-telemetry-{name}.1"))).unwrap();
    for subcommand in subcommands() {
        let page = page(&subcommand);
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    for name in ["telemetry", "crash\\-reporting", "error\\-reporting", "DISABLE_TELEMETRY"] {
        assert!(page("disable").contains(name), "{name}: {}", page("disable"));
    }
    assert!(page("settings").contains("sentry\\-dsn") && !page("disable").contains("sentry\\-dsn"));
    assert!(page("status").contains("\\-\\-watch"));
    let why = run(&["man", "--out", &place.with("file", "")]).with(2).stderr;
    assert!(why.lines().count() == 1 && why.contains("/file: "), "{why}");
    assert!(run(&["completions", "cmd"]).with(2).stderr.contains("invalid value 'cmd' for '<SHELL>'"));
}

/// The settings that a page of help shows.
fn settings_of(words: &[&str]) -> Vec<String> {
    let help = run(words).with(0).stdout;
    let settings = help.split("Settings (more").nth(1).unwrap_or_default();
    let options =
        settings.lines().filter_map(|line| line.split_once("--")).filter(|(before, _)| before.trim().len() < 4);
    options.map(|(_, option)| option.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn help_shows_the_settings_that_are_used_and_all_of_them_are_taken() {
    assert_eq!(settings_of(&["repair", "--help"]), ["state-dir", "env-file", "output", "json"]);
    assert_eq!(settings_of(&["help", "crashes", "show"]), ["state-dir", "env-file"]);
    assert_eq!(settings_of(&["man", "--help"]), [""; 0]);
    assert_eq!(settings_of(&["--help"]), [""; 0]);
    let all = settings_of(&["help", "settings"]);
    assert_eq!(all.len(), 20, "{all:?}");
    assert_eq!(run(&["settings"]).with(0).stdout, run(&["help", "settings"]).with(0).stdout);
    // Before and after the subcommand, whether it uses them or not.
    for option in all.iter().filter(|option| !["env-file", "output", "json"].contains(&option.as_str())) {
        let option = format!("--{option}=1");
        assert!(run(&[&option, "version"]).with(0).stdout.starts_with("ondat-telemetry"), "{option}");
        run(&["version", &option]).with(0);
    }
    let why = run(&["help", "setings"]).with(2).stderr;
    assert!(why.lines().count() == 1 && why.contains("'setings'"), "{why}");
}

#[test]
fn colours_are_for_terminals() {
    let place = Place::new("colours");
    run(&["disable", "daily-report", "--state-dir", &place.at("")]).with(0);
    let status = ["status", "--state-dir", &place.at("")];
    assert!(!run(&status).with(0).stdout.contains('\u{1b}'));
    let forced = finish(command(&status).env("CLICOLOR_FORCE", "1")).with(0).stdout;
    assert!(forced.contains("\u{1b}[33moff\u{1b}[0m by the administrator"), "{forced:?}");
}
