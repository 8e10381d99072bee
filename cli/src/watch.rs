//! `status --watch` prints the status again when something has changed.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ondat_telemetry::error::Error;
use ondat_telemetry::sys::clock::{Clock, Moment, SystemClock};
use serde_json::Value;

use crate::form::Form;
use crate::settings::{Settings, Warnings};
use crate::{Output, complain, print, status};

/// How often the status is read, in milliseconds. It is polled because inotify(7) reports neither the death of a process nor a
/// change on a file server. Daemons follow the switches within a second, too.
const PERIOD_MS: u16 = 1000;
/// The members of a status that change with time alone, besides ages and waits, which change all the time.
const JUDGEMENTS: [&str; 3] = ["verdict", "has_valid_key", "problem"];

/// Watches until nobody reads the output any more, or a signal ends the process.
pub(crate) fn run(
    load: impl Fn() -> Result<Settings, Error>,
    warnings: &Warnings,
    form: Form,
) -> Result<Output, Error> {
    let clock = SystemClock::new();
    let see = |now: &Moment| load().and_then(|settings| status::at(&settings, now.clone()));
    let mut said_at = clock.now();
    // If the first status cannot be read, the error is that of `status`.
    let mut said = Ok(see(&said_at)?);
    let mut screen = Screen::new(form);
    let mut warned = Vec::new();
    loop {
        if !screen.show(&said)? {
            return Ok(Output::text(String::new()));
        }
        loop {
            let more = warnings.take();
            more.iter().filter(|line| !warned.contains(*line)).for_each(|line| complain(&format!("warning: {line}")));
            warned = more;
            if !wait() {
                return Ok(Output::text(String::new()));
            }
            // The new status is read with the old time, so that time alone changes nothing.
            if is_other(&said, &see(&said_at)) || judgements(&said) != judgements(&see(&clock.now())) {
                break;
            }
        }
        said_at = clock.now();
        said = see(&said_at);
    }
}

/// The status as JSON and text, or why it cannot be read.
type Seen = Result<(Value, String), Error>;

fn is_other(before: &Seen, now: &Seen) -> bool {
    match (before, now) {
        (Ok((before, _)), Ok((now, _))) => before != now,
        (Err(before), Err(now)) => before.to_string() != now.to_string(),
        _ => true,
    }
}

fn judgements(seen: &Seen) -> Vec<Value> {
    let mut found = Vec::new();
    let mut left: Vec<&Value> = seen.iter().map(|(json, _)| json).collect();
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => {
                let judgement = |name: &&String| JUDGEMENTS.contains(&name.as_str());
                found.extend(members.keys().filter(judgement).filter_map(|name| members.get(name)).cloned());
                left.extend(members.values());
            }
            _ => {}
        }
    }
    found
}

/// Waits for a period. False: nobody reads standard output any more.
fn wait() -> bool {
    let out = io::stdout();
    let mut watched = [PollFd::new(out.as_fd(), PollFlags::empty())];
    matches!(poll(&mut watched, PollTimeout::from(PERIOD_MS)), Ok(0) | Err(Errno::EINTR))
}

/// The output.
struct Screen {
    form: Form,
    /// Whether a new text overwrites the last one, on a terminal that supports it.
    redraws: bool,
    is_first: bool,
}

impl Screen {
    fn new(form: Form) -> Self {
        let can_redraw = io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self { form, redraws: can_redraw && form == Form::Text, is_first: true }
    }

    /// Shows a status. False: nobody reads any more.
    fn show(&mut self, seen: &Seen) -> Result<bool, Error> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let (json, text) = match seen {
            Ok(said) => said,
            Err(error) => {
                complain(&error.to_string());
                return Ok(true);
            }
        };
        let bytes = match (self.form, self.redraws) {
            (Form::Text, true) => redrawn(&Output::coloured(text).into_bytes(self.form)),
            (Form::Text, false) => {
                let gap = if is_first { "" } else { "\n" };
                [gap.as_bytes(), &Output::coloured(text).into_bytes(self.form)].concat()
            }
            (form, _) => form.of_one_more(json).into_bytes(),
        };
        print(&bytes)
    }
}

/// Returns the text with the control sequences that draw it from the top left corner, each line over the old one, and clear the
/// rest. Clearing everything first would flicker.
fn redrawn(text: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x1b[H".to_vec();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        bytes.extend(line.strip_suffix(b"\n").unwrap_or(line));
        bytes.extend(b"\x1b[K\n");
    }
    bytes.extend(b"\x1b[J");
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn judgements_are_found_wherever_they_stand() {
        let seen = |verdict: &str, age: i64| {
            let json = json!({ "told": [{ "verdict": verdict, "age_seconds": age }], "has_valid_key": true });
            Ok((json, String::new()))
        };
        assert_eq!(judgements(&seen("current", 1)), judgements(&seen("current", 2)));
        assert_ne!(judgements(&seen("current", 1)), judgements(&seen("unknown", 1)));
        assert_eq!(judgements(&Err(Error::Io(String::new()))), Vec::<Value>::new());
    }
}
