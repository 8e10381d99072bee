//! An opened report as rows of the tables.

use std::io::Write;

use ondat_telemetry_protocol::fields::{Kind, Level};
use ondat_telemetry_protocol::plaintext::reader::{Record, Report};
use parquet::errors::Result;
use semver::Version;
use serde_json::Value;

use crate::cell::{Cell, ColumnKind};
use crate::part::PartWriter;
use crate::table;

/// Where the rows of reports go.
pub(crate) struct Parts<W: Write + Send> {
    pub(crate) volumes: PartWriter<W>,
    pub(crate) nodes: PartWriter<W>,
    pub(crate) api_calls: PartWriter<W>,
    pub(crate) reports: PartWriter<W>,
}

/// What the table of reports has that stands in no report.
pub(crate) struct Receipt<'a> {
    pub(crate) report_id: &'a str,
    pub(crate) day: i32,
    pub(crate) received: i32,
    pub(crate) key_id: &'a str,
    pub(crate) sealed_bytes: u64,
    pub(crate) opener: &'a str,
}

/// What is counted over the records of one report while their rows are written.
#[derive(Default)]
pub(crate) struct Totals {
    nodes: u64,
    volumes: u64,
    total: Option<u64>,
    free: Option<u64>,
    available: Option<u64>,
    volume_bytes: Option<u64>,
    version_min: Option<Version>,
    version_max: Option<Version>,
    /// The smallest node id.
    cluster_key: Option<String>,
}

/// Adds to a sum that is unknown as long as nothing of it is known. One who says 2^64 - 1 bytes does not make it small.
fn add(sum: &mut Option<u64>, value: Option<u64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or(0).saturating_add(value));
    }
}

impl Totals {
    fn count(&mut self, level: Level, record: &Record) {
        match level {
            Level::Node => {
                self.nodes += 1;
                for (sum, field, member) in [
                    (&mut self.total, "node_total_bytes", "total"),
                    (&mut self.free, "node_free_bytes", "free"),
                    (&mut self.available, "node_available_bytes", "available"),
                ] {
                    let in_capacity = || record.get("node_capacity").get(member).and_then(Value::as_u64);
                    add(sum, record.get(field).as_u64().or_else(in_capacity));
                }
                let version = record.get("node_storageos_version").as_str();
                if let Some(version) = version.and_then(|version| Version::parse(version).ok()) {
                    let is_less = |other: &Version| version.cmp_precedence(other).is_lt();
                    if self.version_min.as_ref().is_none_or(is_less) {
                        self.version_min = Some(version.clone());
                    }
                    let is_more = |other: &Version| version.cmp_precedence(other).is_gt();
                    if self.version_max.as_ref().is_none_or(is_more) {
                        self.version_max = Some(version);
                    }
                }
                if let Some(id) = record.get("node_id").as_str()
                    && self.cluster_key.as_deref().is_none_or(|key| id < key)
                {
                    self.cluster_key = Some(id.to_owned());
                }
            }
            Level::Volume => {
                self.volumes += 1;
                add(&mut self.volume_bytes, record.get("volume_size_bytes").as_u64());
            }
            Level::Cluster => {}
        }
    }
}

impl<W: Write + Send> Parts<W> {
    /// Writes the row of a node or volume.
    pub(crate) fn push_record(
        &mut self,
        receipt: &Receipt<'_>,
        totals: &mut Totals,
        level: Level,
        record: &Record,
    ) -> Result<()> {
        let number = if level == Level::Node { totals.nodes } else { totals.volumes };
        let mut row = vec![Cell::Text(receipt.report_id), Cell::Day(receipt.day), Cell::Count(number)];
        push_fields(&mut row, level, record);
        totals.count(level, record);
        let part = if level == Level::Node { &mut self.nodes } else { &mut self.volumes };
        part.push(&row)
    }

    /// Writes the rows of what a report has once, when all of its records are written.
    pub(crate) fn push_report(&mut self, receipt: &Receipt<'_>, totals: &Totals, report: &Report) -> Result<()> {
        for (operation, codes) in report.cluster.get("api_call_metrics").as_object().into_iter().flatten() {
            for (status, calls) in codes.as_object().into_iter().flatten() {
                self.api_calls.push(&[
                    Cell::Text(receipt.report_id),
                    Cell::Day(receipt.day),
                    Cell::Text(operation),
                    status.parse().map_or(Cell::Null, Cell::Status),
                    calls.as_u64().map_or(Cell::Null, Cell::Count),
                ])?;
            }
        }
        let mut row = vec![
            Cell::Text(receipt.report_id),
            Cell::Day(receipt.day),
            Cell::Day(receipt.received),
            Cell::Text(receipt.key_id),
            Cell::Count(receipt.sealed_bytes),
            Cell::Text(receipt.opener),
        ];
        push_fields(&mut row, Level::Cluster, &report.cluster);
        let version = |version: &Option<Version>| version.as_ref().map(Version::to_string);
        let (version_min, version_max) = (version(&totals.version_min), version(&totals.version_max));
        row.extend([Cell::Count(totals.nodes), Cell::Count(totals.volumes)]);
        let sums = [totals.total, totals.free, totals.available, totals.volume_bytes];
        row.extend(sums.map(|sum| sum.map_or(Cell::Null, Cell::Count)));
        row.extend([&version_min, &version_max, &totals.cluster_key].map(|text| match text {
            Some(text) => Cell::Text(text),
            None => Cell::Null,
        }));
        self.reports.push(&row)
    }
}

/// The cells of a record's fields. A record's known fields stand in the order of the list.
fn push_fields<'a>(row: &mut Vec<Cell<'a>>, level: Level, record: &'a Record) {
    for (field, (_, value)) in level.fields().zip(&record.0) {
        if let Some(kind) = table::scalar(field.kind) {
            row.push(cell(kind, value));
        }
        row.extend(table::members(field.kind).iter().map(|(member, kind)| match value.get(member) {
            Some(value) => cell(*kind, value),
            None => Cell::Null,
        }));
        debug_assert!(field.kind != Kind::ApiCalls || level == Level::Cluster, "API calls are a table of their own");
    }
}

/// A value that was checked against its field.
fn cell(kind: ColumnKind, value: &Value) -> Cell<'_> {
    let cell = match (kind, value) {
        (ColumnKind::Bool, value) => value.as_bool().map(Cell::Bool),
        (ColumnKind::Count, value) => value.as_u64().map(Cell::Count),
        (ColumnKind::Text, value) => value.as_str().map(Cell::Text),
        (ColumnKind::Labels, Value::Object(labels)) => {
            let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
            Some(Cell::Labels(labels.collect()))
        }
        (ColumnKind::Metrics, Value::Object(metrics)) => {
            let metrics = metrics.iter().map(|(name, value)| (name.as_str(), value.as_f64().unwrap_or_default()));
            Some(Cell::Metrics(metrics.collect()))
        }
        _ => None,
    };
    cell.unwrap_or_default()
}
