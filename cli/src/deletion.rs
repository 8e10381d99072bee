//! `deletion-list` prints the ids under which the receiving side knows this cluster. They are made with the identity key: a list
//! shows that its sender has the key, or knows the cluster id where the key is derived from that.

use clap::Args;
use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry_protocol::time::{DAY_SECONDS, date};
use serde_json::json;

use crate::Output;
use crate::settings::Settings;

/// The options of `deletion-list`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The reports of so many UTC days up to today; the vendor keeps them for 400
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..=4000))]
    days: u16,
}

/// Prints a line for each report that there may be, and one for the cluster.
pub(crate) fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<Output, Error> {
    settings.need_cluster_id()?;
    let config = &settings.config;
    let today = unix_now();
    let days = (0..arguments.days).rev().map(|back| date(today - i64::from(back) * DAY_SECONDS));
    let reports: Vec<String> = days.map(|day| HEXLOWER.encode(&config.identity.report_id(&day))).collect();
    let cluster = HEXLOWER.encode(&config.cluster);
    if json {
        return Ok(Output::json(&json!({ "cluster_id": cluster, "report_ids": reports })));
    }
    let reports: String = reports.iter().map(|id| format!("report {id}\n")).collect();
    Ok(Output::text(format!("cluster {cluster}\n{reports}")))
}
