use std::fs;
use std::process::Command;

use crate::program::{Scratch, command};

const SUBCOMMANDS: [&str; 5] = ["serve", "open", "show", "completions", "man"];

fn said(arguments: &[&str]) -> String {
    let output = command().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn completions_know_every_subcommand() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&["completions", shell]);
        assert!(SUBCOMMANDS.iter().all(|subcommand| script.contains(subcommand)), "{shell}");
    }
    // A real shell completes with it.
    let script = scratch.file("completions.bash", said(&["completions", "bash"]));
    let ask = "source \"$0\"; function=$(complete -p ondat-telemetry-collector | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
               COMP_WORDS=(ondat-telemetry-collector serve --tls-c); COMP_CWORD=2; \
               $function ondat-telemetry-collector --tls-c serve; echo \"${COMPREPLY[*]}\"";
    let completed = Command::new("bash").args(["--norc", "-c", ask]).arg(&script).output().unwrap();
    assert_eq!(String::from_utf8(completed.stdout).unwrap(), "--tls-certificate\n");
    scratch.refused(2, &["completions", "csh"]);
}

#[test]
fn there_is_a_manual_page_for_every_subcommand() {
    let scratch = Scratch::new();
    let page = said(&["man"]);
    assert!(page.contains(".TH ondat-telemetry-collector 1") && page.contains("Exit status"), "{page}");
    let folder = scratch.0.join("man1");
    said(&["man", "--out", folder.to_str().unwrap()]);
    for subcommand in SUBCOMMANDS {
        let page = fs::read_to_string(folder.join(format!("ondat-telemetry-collector-{subcommand}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    let file = scratch.file("file", "");
    let output = command().args(["man", "--out"]).arg(file.join("man1")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
