//! `enable`, `disable`, `repair`, `apply`: the administrator's changes to the three switches on the command line.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use ondat_telemetry::error::Error;
use ondat_telemetry::spec::{self, ClusterSpec};
use ondat_telemetry::switch::{Kind, Switch};
use ondat_telemetry::switches::Switches;
use serde_json::json;

use crate::administration::{self, Actor, Changed, Speaker};
use crate::settings::{Options, Settings, Warnings};
use crate::sources::Sources;
use crate::{Output, complain};

/// The kind of resource that a cluster spec is.
const RESOURCE: &str = "StorageOSCluster";
/// Why there must be a state directory.
const WHERE: &str = "the switches are in the state directory";

/// The names under which people know the switches. The variables that turn something off are names too: of the switch.
const ALL: &str = "all";

/// Every name of a switch, and of all of them: first what they are called here, then what else people know.
fn names() -> impl Iterator<Item = (&'static str, &'static [Switch])> {
    let each = || Switch::ALL.into_iter();
    let own = each().map(|switch| (switch.row().word, switch.alone())).chain([(ALL, Switch::ALL.as_slice())]);
    let aliases = each().flat_map(|switch| switch.row().aliases.iter().map(move |name| (*name, switch.alone())));
    own.chain(aliases).chain(Switch::variables().map(|name| (name, Switch::of_variable(name))))
}

/// A name as it is compared: whatever the case, and with _ or - between the words.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// What these are called here: the first name of theirs.
fn own_name(switches: &[Switch]) -> &'static str {
    names().find(|(_, named)| *named == switches).map(|(name, _)| name).unwrap_or_default()
}

/// What is turned on or off, under the name that was typed.
#[derive(Clone, Copy)]
pub(crate) struct Which {
    name: &'static str,
    switches: &'static [Switch],
}

impl Which {
    fn of(typed: &str) -> Option<Self> {
        let found = names().find(|(name, _)| plain(name) == plain(typed));
        found.map(|(name, switches)| Self { name, switches })
    }
}

/// Reads a name of a switch; clap's own parser is asked which name was meant.
#[derive(Clone)]
pub(crate) struct WhichParser;

impl TypedValueParser for WhichParser {
    type Value = Which;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<Which, clap::Error> {
        if let Some(which) = value.to_str().and_then(Which::of) {
            return Ok(which);
        }
        let every = PossibleValuesParser::new(names().map(|(name, _)| name));
        let mut error = match every.parse_ref(command, argument, value) {
            Err(error) => error,
            Ok(_) => clap::Error::new(ErrorKind::InvalidValue).with_cmd(command),
        };
        let own =
            names().filter(|(name, switches)| own_name(switches) == *name).map(|(name, _)| name.to_owned()).collect();
        error.insert(ContextKind::ValidValue, ContextValue::Strings(own));
        Err(error)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let help = |name: &str, switches: &[Switch]| match (own_name(switches), switches) {
            (own, _) if own != name => format!("The same as {own}"),
            (_, [switch]) => switch.row().about.to_owned(),
            _ => "All three".to_owned(),
        };
        Some(Box::new(names().map(move |(name, switches)| PossibleValue::new(name).help(help(name, switches)))))
    }
}

/// Turns these on, by the administrator's word, and with `also_api` by the API client's.
pub(crate) fn enable(
    which: Which,
    also_api: bool,
    options: &Options,
    warnings: &Warnings,
    json: bool,
) -> Result<Output, Error> {
    let speakers: &[_] = if also_api { &Speaker::ALL } else { &[Speaker::Administrator] };
    if Switch::variables().any(|name| name == which.name) {
        let own = own_name(which.switches);
        complain(&format!("{} is the variable that turns {own} off; this turns it on", which.name));
    }
    set(which.switches, speakers, true, options, warnings, json)
}

/// Turns these off.
pub(crate) fn disable(which: Which, options: &Options, warnings: &Warnings, json: bool) -> Result<Output, Error> {
    set(which.switches, &[Speaker::Administrator], false, options, warnings, json)
}

/// It needs the state directory and nothing else: whatever is wrong with the settings, telemetry can be turned off.
fn set(
    switches: &[Switch],
    speakers: &[Speaker],
    on: bool,
    options: &Options,
    warnings: &Warnings,
    json: bool,
) -> Result<Output, Error> {
    let dir = options.state_dir(WHERE)?;
    let changed = administration::change(&dir, &Actor::command(), None, |word| {
        for switch in switches {
            speakers.iter().for_each(|speaker| word.set(*speaker, *switch, on));
        }
    })?;
    let now = match Settings::load(options, warnings) {
        Ok(settings) => settings.sources()?,
        Err(error) => {
            complain(&format!("warning: whether the environment turns it off is not known: {error}"));
            Sources::read(Switches::new(Switch::ALL_BITS, Vec::new(), Some(dir.clone())), Some(&dir))?
        }
    };
    let is_held = |switch: &Switch| on && !changed.word.is_on(Speaker::ApiClient, *switch);
    let held: Vec<_> = switches.iter().copied().filter(is_held).collect();
    Ok(said(&now, switches, &changed, &held, json))
}

/// Puts an unreadable switches.json aside.
pub(crate) fn repair(options: &Options, json: bool) -> Result<Output, Error> {
    let is_repaired = administration::repair(&options.state_dir(WHERE)?, &Actor::command())?;
    if json {
        return Ok(Output::json(&json!({ "repaired": is_repaired })));
    }
    Ok(Output::text(if is_repaired {
        "what could not be read is now switches.json.damaged; all three are off until they are enabled\n".to_owned()
    } else {
        "switches.json can be read: nothing was changed\n".to_owned()
    }))
}

/// Takes over what the cluster spec turns off, for all running processes, and gives up what it no longer turns off.
pub(crate) fn apply(settings: &Settings, options: &Options, json: bool) -> Result<Output, Error> {
    let refused = |why: &str| Err(Error::InvalidArgument(why.to_owned()));
    let Some(text) = options.cluster_spec_text()? else {
        return refused("apply takes over a cluster spec: name it with --cluster-spec");
    };
    // A file that was cut short, or the list of a cluster without one, is nobody's word that something may be on again.
    if !text.contains(RESOURCE) && spec::parse(&text) == Ok(ClusterSpec::default()) {
        return refused("cluster spec: no StorageOSCluster in it; nothing was changed");
    }
    let objections: Vec<_> = settings
        .config
        .objections
        .iter()
        .filter(|objection| objection.source.kind == Kind::ClusterSpec)
        .cloned()
        .collect();
    let dir = settings.state_dir(WHERE)?;
    let changed = administration::change(dir, &Actor::command(), None, |word| word.set_objections(&objections))?;
    Ok(said(&settings.sources()?, &Switch::ALL, &changed, &[], json))
}

/// These switches, and who turns them off; what was changed, and which of them the API client still holds off.
fn said(now: &Sources, switches: &[Switch], changed: &Changed, held: &[Switch], json: bool) -> Output {
    if json {
        return Output::json(&json!({ "switches": now.explain(), "changed": changed.what }));
    }
    let lines = switches.iter().map(|switch| now.line(*switch) + "\n");
    let mut text = lines.collect::<String>();
    for switch in held {
        let (name, word) = (switch.name(), switch.row().word);
        text.push_str(&format!(
            "{name} is still off by the API client's word: have it turned on there, in the cluster's resource if that is the \
             product's operator, or take that word back with `ondat-telemetry enable {word} --also-api`\n"
        ));
    }
    Output::coloured(&text)
}
