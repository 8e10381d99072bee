//! Statuses, switches and settings each have one table. What else lists them, in C, in Go, on the page and in the documents, agrees
//! with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::read_to_string;
use std::path::Path;

use ondat_telemetry::config::setting::{Number, Setting, variable};
use ondat_telemetry::error::Status;
use ondat_telemetry::switch::{DO_NOT_TRACK, Switch};

fn file(name: &str) -> String {
    read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// `InvalidState` as `INVALID_STATE`.
fn shouted(name: &str) -> String {
    let mut shouted = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !shouted.is_empty() {
            shouted.push('_');
        }
        shouted.push(letter.to_ascii_uppercase());
    }
    shouted
}

/// A name as Go and Rust may both write it: `SENTRY_DSN`, `sentry_dsn` and `SentryDSN` are one.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "")
}

/// The words of a text, without what surrounds them.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).any(|found| found == word)
}

#[test]
fn each_status_is_in_the_header_and_in_go() {
    let (header, go) = (file("include/ondat_telemetry.h"), file("bindings/go/errors.go"));
    for status in Status::ALL {
        let (name, number) = (format!("{status:?}"), *status as i32);
        let line = format!("ONDAT_TELEMETRY_{} = {number},", shouted(&name));
        assert!(header.contains(&line), "include/ondat_telemetry.h lacks {line}");
        if *status != Status::Ok {
            let is_it = |line: &str| {
                let words: Vec<_> = line.split_whitespace().collect();
                matches!(words[..], [code, "Code", "=", value, ..]
                    if plain(code) == plain(&format!("Err{name}")) && value.parse() == Ok(number))
            };
            assert!(go.lines().any(is_it), "bindings/go/errors.go lacks Err{name} = {number}");
        }
    }
    let in_header =
        header.lines().filter(|line| line.trim_start().starts_with("ONDAT_TELEMETRY_") && line.contains(" = ")).count();
    assert_eq!(in_header, Status::ALL.len(), "the header has a status that the table lacks");
    let in_go =
        go.lines().filter(|line| line.starts_with("\tErr") && line.contains(" Code = ") && !line.contains("= -"));
    assert_eq!(in_go.count(), Status::ALL.len() - 1, "errors.go has a status that the table lacks");
}

#[test]
fn each_switch_is_in_the_header_in_go_on_the_page_and_in_the_documents() {
    let (header, go, explained) =
        (file("include/ondat_telemetry.h"), file("bindings/go/config.go"), file("bindings/go/client.go"));
    let page = file("cli/src/serve/page/index.html");
    let (administration, settings) = (file("docs/administration.md"), file("docs/settings.md"));
    for (place, switch) in Switch::ALL.into_iter().enumerate() {
        let row = switch.row();
        let line = format!("#define ONDAT_TELEMETRY_{} {}\n", row.name.to_ascii_uppercase(), row.bit);
        assert!(header.contains(&line), "include/ondat_telemetry.h lacks {line}");

        let constants = go.split("const (").nth(1).unwrap().lines().filter(|line| !line.trim().is_empty());
        let name = constants.take_while(|line| *line != ")").nth(place).unwrap();
        assert!(name.trim_start().starts_with(&format!("{switch:?} ")), "bindings/go/config.go: {name}");
        assert!(
            explained.contains(&format!("`json:\"{}\"`", row.name)),
            "bindings/go/client.go: Explanation lacks {}",
            row.name
        );

        let on_page = page.split(&format!("data-switch=\"{}\"", row.name)).nth(1);
        let on_page = on_page.unwrap_or_else(|| panic!("index.html lacks {}", row.name)).split("</li>").next().unwrap();
        assert!(
            on_page.contains(&format!(">{}</label>", row.label)),
            "index.html: {} is not called {}",
            row.name,
            row.label
        );

        let line = administration.lines().find(|line| line.starts_with(&format!("| `{}`", row.name))).unwrap();
        let names = [row.word, row.product].into_iter().chain(row.variables.iter().copied());
        for name in names.chain(row.label.split(' ')) {
            assert!(has_word(line, name), "docs/administration.md: {} lacks {name}", row.name);
        }
    }
    assert_eq!(page.matches("data-switch=").count(), Switch::ALL.len());
    for variable in Switch::variables().chain([DO_NOT_TRACK]) {
        assert!(has_word(&settings, variable), "docs/settings.md lacks {variable}");
    }
}

#[test]
fn each_setting_is_in_the_header_in_go_in_the_command_and_in_the_documents() {
    let (header, go) = (file("include/ondat_telemetry.h"), file("bindings/go/config.go"));
    let (command, document) = (file("cli/src/settings.rs"), file("docs/settings.md"));
    let fields =
        go.split("type Config struct").nth(1).unwrap().lines().filter(|line| !line.trim_start().starts_with("//"));
    let fields: Vec<_> = fields.flat_map(|line| line.split([' ', ',', '\t'])).map(plain).collect();
    let texts = Setting::ALL.iter().map(|setting| setting.name());
    for name in texts.chain(Number::ALL.iter().map(|number| number.name())) {
        assert!(header.contains(&format!("void ondat_telemetry_config_set_{name}(")), "the header lacks {name}");
        let in_go = plain(name.strip_suffix("_ms").unwrap_or(name));
        assert!(
            fields.iter().any(|field| field.trim_end_matches('s') == in_go.trim_end_matches('s')),
            "config.go lacks {name}"
        );
        assert!(
            document.lines().any(|line| line.starts_with("| `") && has_word(line, name)),
            "docs/settings.md lacks {name}"
        );
    }
    for setting in Setting::ALL {
        assert!(command.contains(&format!("Setting::{setting:?}")), "cli/src/settings.rs lacks {setting:?}");
        assert!(command.contains(&format!("[env: {}", variable(setting.name()))), "its help lacks {setting:?}");
    }
}
