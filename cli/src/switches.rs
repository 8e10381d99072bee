//! `enable`, `disable`, `repair`, `apply`: the administrator's word on the three switches, from the command line.

use clap::ValueEnum;
use ondat_telemetry::error::Error;
use ondat_telemetry::state::StateDir;
use ondat_telemetry::switches::{Switch, Switches};
use serde_json::json;

use crate::Output;
use crate::administration::{self, Actor};
use crate::settings::{CLUSTER_SPEC, Settings};
use crate::status::switch_line;

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

/// Says whether these are on.
pub(crate) fn set(which: Which, on: bool, settings: &Settings, json: bool) -> Result<Output, Error> {
    let dir = state_dir(settings)?;
    administration::change(dir, &Actor::command(), None, |word| {
        for switch in which.switches() {
            word.set(*switch, on);
        }
    })?;
    said(settings, which.switches(), json)
}

/// Puts an unreadable switches.json aside.
pub(crate) fn repair(settings: &Settings, json: bool) -> Result<Output, Error> {
    let dir = state_dir(settings)?;
    let is_repaired = administration::repair(dir, &Actor::command())?;
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
    administration::change(state_dir(settings)?, &Actor::command(), None, |word| word.set_objections(&objections))?;
    said(settings, &Switch::ALL, json)
}

fn state_dir(settings: &Settings) -> Result<&StateDir, Error> {
    settings.state_dir("the switches are in the state directory")
}

/// What is on now, as far as this command can know it, and who says otherwise.
fn said(settings: &Settings, switches: &[Switch], json: bool) -> Result<Output, Error> {
    let config = &settings.config;
    let now = Switches::new(config.host_switches, config.objections.clone(), config.state_dir.clone());
    if json {
        return Ok(Output::json(&json!({ "switches": now.explain() })));
    }
    let lines = switches.iter().map(|switch| switch_line(&now, *switch) + "\n");
    Ok(Output::coloured(&lines.collect::<String>()))
}
