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
    }
    // A real shell completes with it.
    let script = place.with("completions.bash", &run(&["completions", "bash"]).with(0).stdout);
    let ask = "source \"$0\"; function=$(complete -p ondat-telemetry | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
               COMP_WORDS=(ondat-telemetry disable c); COMP_CWORD=2; \
               $function ondat-telemetry c disable; echo \"${COMPREPLY[*]}\"";
    let completed = Command::new("bash").args(["--norc", "-c", ask, &script]).output().unwrap();
    assert_eq!(String::from_utf8(completed.stdout).unwrap(), "crash-reports\n");
}

#[test]
fn there_is_a_manual_page_for_every_subcommand() {
    let place = Place::new("man");
    let page = run(&["man"]).with(0).stdout;
    assert!(page.contains(".TH ondat-telemetry 1") && page.contains("Exit status"), "{page}");
    run(&["man", "--out", &place.at("man1")]).with(0);
    for subcommand in subcommands() {
        let page = fs::read_to_string(place.path().join(format!("man1/ondat-telemetry-{subcommand}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
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
