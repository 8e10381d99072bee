//! The output forms of subcommands: text for people, JSON, YAML.

use clap::ValueEnum;
use ondat_telemetry_command::plain::{self, is_plain};
use serde_json::{Number, Value};

/// An output form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Text for people
    Text,
    /// A line of JSON
    Json,
    /// The same as YAML
    Yaml,
}

impl Form {
    /// Whether the form is for programs.
    pub(crate) fn is_for_programs(self) -> bool {
        self != Self::Text
    }

    /// Formats a single value.
    pub(crate) fn of(self, value: &Value) -> String {
        match self {
            // Formatting strings and numbers cannot fail.
            Self::Text | Self::Json => plain::json(value).unwrap_or_default() + "\n",
            Self::Yaml => yaml(value),
        }
    }

    /// Formats one value of a stream of unknown length.
    pub(crate) fn of_one_more(self, value: &Value) -> String {
        match self {
            Self::Text | Self::Json => self.of(value),
            Self::Yaml => format!("---\n{}", yaml(value)),
        }
    }
}

/// Words that YAML 1.1 or 1.2 does not read as text.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Formats a YAML document in block style, as `kubectl -o yaml` does. This is our own code because no crate that writes YAML quotes
/// everything that a YAML 1.1 parser reads as a date, a number in base 60 or the end of the document.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    put(value, 0, &mut out);
    out
}

/// Writes a value at the current position. The line is indented already.
fn put(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (at, (name, value)) in members.iter().enumerate() {
                if at > 0 {
                    begin_line(indent, out);
                }
                out.push_str(&text(name));
                out.push(':');
                put_member(value, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    begin_line(indent, out);
                }
                out.push_str("- ");
                put(item, indent + 2, out);
            }
        }
        scalar => {
            out.push_str(&match scalar {
                Value::String(string) => text(string),
                Value::Number(number) => digits(number),
                other => other.to_string(),
            });
            out.push('\n');
        }
    }
}

/// Writes the part after the name of a member.
fn put_member(value: &Value, indent: usize, out: &mut String) {
    let indent = match value {
        Value::Object(members) if !members.is_empty() => indent + 2,
        Value::Array(items) if !items.is_empty() => indent,
        _ => {
            out.push(' ');
            return put(value, indent, out);
        }
    };
    out.push('\n');
    begin_line(indent, out);
    put(value, indent, out);
}

fn begin_line(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Formats a string: plain if every parser reads it as this text, else in double quotes.
fn text(string: &str) -> String {
    let needs_no_quotes = |c: char| c.is_ascii_alphanumeric() || "_./- ".contains(c);
    let is_word = WORDS.iter().any(|word| string.eq_ignore_ascii_case(word));
    let begins_well = string.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins_well && !is_word && !string.ends_with(' ') && string.chars().all(needs_no_quotes) {
        return string.to_owned();
    }
    let quoted = Value::from(string).to_string();
    quoted.chars().fold(String::with_capacity(quoted.len()), |mut out, c| {
        match u32::from(c) {
            _ if is_plain(c) => out.push(c),
            code @ ..=0xffff => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
        out
    })
}

/// Formats a number. YAML 1.1 recognises a number with an exponent only with a point and a sign of the exponent.
fn digits(number: &Number) -> String {
    let text = number.to_string();
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['+', '-']) { "" } else { "+" };
    format!("{mantissa}{point}e{sign}{exponent}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_looks_as_that_of_kubectl() {
        let value = json!({
            "administrator": { "version": null, "daily_report": true },
            "empty": { "list": [], "object": {} },
            "processes": [{ "component": "dataplane", "pid": 7 }, [1, [2]], "text"],
        });
        let text = "administrator:\n  daily_report: true\n  version: null\nempty:\n  list: []\n  object: {}\nprocesses:\n\
                    - component: dataplane\n  pid: 7\n- - 1\n  - - 2\n- text\n";
        assert_eq!(Form::Yaml.of(&value), text);
    }

    #[test]
    fn what_may_be_taken_for_something_else_is_quoted() {
        for string in
            ["", "on", "No", "NULL", "~", "1", "1e3", "2026-11-30", "12:30:45", "0x1f", ".inf", "=", "a: b", "a ", "-"]
        {
            assert_eq!(text(string), format!("{string:?}"));
        }
        assert_eq!(text("one\u{85}two\u{202e}\u{feff}\u{1b}"), "\"one\\u0085two\\u202e\\ufeff\\u001b\"");
        assert_eq!(digits(&Number::from_f64(1e300).unwrap()), "1.0e+300");
    }
}
