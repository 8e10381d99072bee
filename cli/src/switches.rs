//! `enable`, `disable`, `repair`, `apply`: the administrator's word on the three switches, from the command line.

use clap::ValueEnum;
use ondat_telemetry::error::Error;
use ondat_telemetry::switches::{Switch, Switches};
use serde_json::json;

use crate::administration::{self, Actor, Changed, Speaker};
use crate::settings::{CLUSTER_SPEC, Options, Settings, Warnings};
use crate::sources::Sources;
use crate::{Output, complain};

/// Why there must be a state directory.
const WHERE: &str = "the switches are in the state directory";

/// What is turned on or off.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Which {
    /// The DNS query for the latest version
    VersionCheck,
    /// The sealed daily report
    DailyReport,
    /// Crash reports to Sentry
    CrashReports,
    /// All three
    All,
}

impl Which {
    fn switches(self) -> &'static [Switch] {
        match self {
            Self::VersionCheck => &[Switch::VersionCheck],
            Self::DailyReport => &[Switch::DailyReport],
            Self::CrashReports => &[Switch::CrashReports],
            Self::All => &Switch::ALL,
        }
    }
}

/// Turns these on, by the administrator's word, and with `also_api` by the API client's.
pub(crate) fn enable(which: Which, also_api: bool, options: &Options, warnings: &Warnings) -> Result<Output, Error> {
    let speakers: &[_] = if also_api { &Speaker::ALL } else { &[Speaker::Administrator] };
    set(which.switches(), speakers, true, options, warnings)
}

/// Turns these off.
pub(crate) fn disable(which: Which, options: &Options, warnings: &Warnings) -> Result<Output, Error> {
    set(which.switches(), &[Speaker::Administrator], false, options, warnings)
}

/// It needs the state directory and nothing else: whatever is wrong with the settings, telemetry can be turned off.
fn set(
    switches: &[Switch],
    speakers: &[Speaker],
    on: bool,
    options: &Options,
    warnings: &Warnings,
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
    Ok(said(&now, switches, &changed, &held, options.json))
}

/// Puts an unreadable switches.json aside.
pub(crate) fn repair(options: &Options) -> Result<Output, Error> {
    let is_repaired = administration::repair(&options.state_dir(WHERE)?, &Actor::command())?;
    if options.json {
        return Ok(Output::json(&json!({ "repaired": is_repaired })));
    }
    Ok(Output::text(if is_repaired {
        "what could not be read is now switches.json.damaged; all three are off until they are enabled\n".to_owned()
    } else {
        "switches.json can be read: nothing was changed\n".to_owned()
    }))
}

/// Takes over what the cluster spec turns off, for all running processes, and gives up what it no longer turns off.
pub(crate) fn apply(settings: &Settings, json: bool) -> Result<Output, Error> {
    if !settings.has_cluster_spec {
        return Err(Error::InvalidArgument("apply takes over a cluster spec: name it with --cluster-spec".to_owned()));
    }
    let objections: Vec<_> = settings
        .config
        .objections
        .iter()
        .filter(|objection| objection.source.starts_with(CLUSTER_SPEC))
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
        let (name, word) = (switch.name(), switch.name().replace('_', "-"));
        text.push_str(&format!(
            "{name} is still off by the API client's word: have it turned on there, in the cluster's resource if that is the \
             product's operator, or take that word back with `ondat-telemetry enable {word} --also-api`\n"
        ));
    }
    Output::coloured(&text)
}
