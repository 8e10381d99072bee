//! The sources that turn a switch off: the administrator, this command's own environment and cluster spec, and each
//! running process for itself.

use std::fmt;

use anstyle::{AnsiColor, Style};
use ondat_telemetry::error::Error;
use ondat_telemetry::presence::{self, Process};
use ondat_telemetry::state::StateDir;
use ondat_telemetry::switch::{Source, Switch};
use ondat_telemetry::switches::{Switches, in_words};
use serde_json::{Value, json};

const ON: Style = AnsiColor::Green.on_default();
const OFF: Style = AnsiColor::Yellow.on_default();

/// What all of them say.
pub(crate) struct Sources {
    switches: Switches,
    processes: Vec<Process>,
}

impl Sources {
    /// What this command knows itself, and what the processes on the state directory say.
    pub(crate) fn read(switches: Switches, dir: Option<&StateDir>) -> Result<Self, Error> {
        // Those that cannot be seen are not told of; whoever asks is told of the disk otherwise.
        let processes = dir.and_then(|dir| presence::processes(dir).ok()).unwrap_or_default();
        Ok(Self { switches, processes })
    }

    /// The running processes.
    pub(crate) fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Whether this one is on for anybody.
    pub(crate) fn is_on(&self, switch: Switch) -> bool {
        self.against(switch).is_empty()
    }

    /// Each switch, on or off, and by which sources. A switch that every running process holds off for itself is off.
    pub(crate) fn explain(&self) -> Value {
        let explained = Switch::ALL.map(|switch| {
            let sources = self.against(switch);
            let off_by: Vec<_> = sources.iter().map(Against::to_string).collect();
            let sources: Vec<_> = sources.iter().map(Against::to_json).collect();
            let is_on = sources.is_empty();
            (switch.name().to_owned(), json!({ "on": is_on, "off_by": off_by, "sources": sources }))
        });
        Value::Object(explained.into_iter().collect())
    }

    /// One switch for people, with colours: [`Output::coloured`](crate::Output::coloured).
    pub(crate) fn line(&self, switch: Switch) -> String {
        let (name, sources) = (switch.name(), self.against(switch));
        if !sources.is_empty() {
            let sources: Vec<_> = sources.iter().map(Against::to_string).collect();
            return format!("{name:<15}{OFF}off{OFF:#} by {}", sources.join(", "));
        }
        let but: Vec<String> = self
            .processes
            .iter()
            .filter_map(|process| match sources_of(process, switch) {
                sources if sources.is_empty() => None,
                sources => Some(format!(", but off in {} by {}", named(process), in_words(&sources).join(", "))),
            })
            .collect();
        format!("{name:<15}{ON}on{ON:#}{}", but.concat())
    }

    fn against(&self, switch: Switch) -> Vec<Against<'_>> {
        let own = self.switches.sources_against(switch).into_iter();
        let mut against: Vec<_> = own.map(|source| Against { source, process: None }).collect();
        let held: Vec<_> = self.processes.iter().map(|process| (process, sources_of(process, switch))).collect();
        if held.iter().all(|(_, sources)| !sources.is_empty()) {
            for (process, held) in held {
                against.extend(held.into_iter().map(|source| Against { source, process: Some(process) }));
            }
        }
        against
    }
}

/// Who turns a switch off, and for which process, where it is off in that one alone.
struct Against<'a> {
    source: Source,
    process: Option<&'a Process>,
}

impl Against<'_> {
    fn to_json(&self) -> Value {
        let mut json = self.source.to_json();
        json["process"] =
            self.process.map(|process| json!({ "component": process.component, "pid": process.pid })).into();
        json
    }
}

impl fmt::Display for Against<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "{} of {}", self.source, named(process)),
            None => self.source.fmt(f),
        }
    }
}

/// A process as people know it.
pub(crate) fn named(process: &Process) -> String {
    format!("{} (pid {})", process.component, process.pid)
}

/// By what a process holds a switch off.
pub(crate) fn sources_of(process: &Process, switch: Switch) -> Vec<Source> {
    process.off.iter().filter(|off| off.switch == switch).map(|off| off.source.clone()).collect()
}
