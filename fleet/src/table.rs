//! The tables and their columns. Those of the report's fields come from the list of fields: a field that is added there is
//! a column here. docs/fleet.md has the same tables; a test compares.

use ondat_telemetry_protocol::fields::{Kind, Level};

use crate::cell::ColumnKind;

/// A table: where its parts are, and its columns.
#[derive(Debug)]
pub(crate) struct Table {
    /// The name of its folder.
    pub(crate) name: &'static str,
    pub(crate) columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: ColumnKind,
}

/// The tables of the daily reports. A reader starts from `reports`, which is why it is written last.
#[derive(Debug)]
pub(crate) struct ReportTables {
    pub(crate) volumes: Table,
    pub(crate) nodes: Table,
    pub(crate) api_calls: Table,
    pub(crate) reports: Table,
}

impl ReportTables {
    pub(crate) fn new() -> Self {
        use ColumnKind::{Count, Day, Status, Text};
        let record = |name, level| {
            let mut columns = vec![column("report_id", Text), column("day", Day), column("row", Count)];
            columns.extend(fields(level));
            Table { name, columns }
        };
        let calls = [("report_id", Text), ("day", Day), ("operation", Text), ("status", Status), ("calls", Count)];
        let mut reports: Vec<Column> = [
            ("report_id", Text),
            ("day", Day),
            ("received", Day),
            ("key_id", Text),
            ("sealed_bytes", Count),
            ("opener", Text),
        ]
        .map(|(name, kind)| column(name, kind))
        .into();
        reports.extend(fields(Level::Cluster));
        reports.extend(
            [
                ("n_nodes", Count),
                ("n_volumes", Count),
                ("sum_total", Count),
                ("sum_free", Count),
                ("sum_available", Count),
                ("sum_volume_bytes", Count),
                ("version_min", Text),
                ("version_max", Text),
                ("cluster_key", Text),
            ]
            .map(|(name, kind)| column(name, kind)),
        );
        Self {
            volumes: record("volumes", Level::Volume),
            nodes: record("nodes", Level::Node),
            api_calls: Table { name: "api_calls", columns: calls.map(|(name, kind)| column(name, kind)).into() },
            reports: Table { name: "reports", columns: reports },
        }
    }

    /// Of `reports` the ids alone.
    pub(crate) fn ids(&self) -> Table {
        Table { name: self.reports.name, columns: vec![column("report_id", ColumnKind::Text)] }
    }

    /// In the order in which their parts are put in place.
    pub(crate) fn in_order(&self) -> [&Table; 4] {
        [&self.volumes, &self.nodes, &self.api_calls, &self.reports]
    }
}

/// Crash reports, by the day on which they were received.
pub(crate) fn crashes() -> Table {
    use ColumnKind::{Day, Text};
    let texts = ["time", "release", "component", "signal", "exit_code", "core_dump", "class", "cluster_id", "node_id"];
    let mut columns = vec![column("event_id", Text), column("day", Day)];
    columns.extend(texts.map(|name| column(name, Text)));
    Table { name: "crashes", columns }
}

/// Version queries, by the day on which they were asked.
pub(crate) fn checks() -> Table {
    use ColumnKind::{Count, Day, Text};
    let columns = [("day", Day), ("cluster_id", Text), ("node_id", Text), ("version", Text), ("n", Count)];
    Table { name: "checks", columns: columns.map(|(name, kind)| column(name, kind)).into() }
}

/// What came when its day was closed, or before it began.
pub(crate) fn late() -> Table {
    use ColumnKind::{Day, Text};
    let columns = [("place", Text), ("day", Day), ("received", Day), ("why", Text)];
    Table { name: "late", columns: columns.map(|(name, kind)| column(name, kind)).into() }
}

fn column(name: &str, kind: ColumnKind) -> Column {
    Column { name: name.to_owned(), kind }
}

/// The members of a field that is an object of a fixed form.
pub(crate) fn members(kind: Kind) -> &'static [(&'static str, ColumnKind)] {
    use ColumnKind::{Bool, Count};
    match kind {
        Kind::Capacity => &[("total", Count), ("free", Count), ("available", Count)],
        Kind::EtcdConfig => &[("endpoints", Count), ("namespaced", Bool), ("tls", Bool)],
        _ => &[],
    }
}

/// The columns of a level's fields. An object of a fixed form has one for each member; API calls are a table.
fn fields(level: Level) -> impl Iterator<Item = Column> {
    level.fields().flat_map(|field| {
        let members = members(field.kind);
        let own = scalar(field.kind).map(|kind| column(field.name, kind));
        let of_members = members.iter().map(|(member, kind)| column(&format!("{}_{member}", field.name), *kind));
        own.into_iter().chain(of_members).collect::<Vec<_>>()
    })
}

/// What a field that is one column holds.
pub(crate) fn scalar(kind: Kind) -> Option<ColumnKind> {
    match kind {
        Kind::Bool => Some(ColumnKind::Bool),
        Kind::Count | Kind::CountUpTo(_) => Some(ColumnKind::Count),
        Kind::OneOf(_)
        | Kind::Text(_)
        | Kind::Distribution
        | Kind::Version
        | Kind::Timestamp
        | Kind::Id(_)
        | Kind::UserAgent => Some(ColumnKind::Text),
        Kind::Labels => Some(ColumnKind::Labels),
        Kind::Metrics => Some(ColumnKind::Metrics),
        Kind::ApiCalls | Kind::Capacity | Kind::EtcdConfig => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fleet.md");
    const BEGIN: &str = "<!-- written by UPDATE_FLEET=1 cargo test --release in fleet/ -->\n";
    const END: &str = "\n<!-- end -->";

    #[test]
    fn the_document_has_the_tables() {
        let kind = |kind| match kind {
            ColumnKind::Bool => "bool",
            ColumnKind::Count => "integer",
            ColumnKind::Status => "integer (UINT16)",
            ColumnKind::Text => "text",
            ColumnKind::Day => "day",
            ColumnKind::Labels => "labels",
            ColumnKind::Metrics => "metrics",
        };
        let tables = ReportTables::new();
        let mut text = "\n| table | columns |\n|---|---|\n".to_owned();
        for table in tables.in_order().into_iter().rev().chain([&checks(), &crashes(), &late()]) {
            let columns: Vec<String> =
                table.columns.iter().map(|column| format!("`{}` {}", column.name, kind(column.kind))).collect();
            text += &format!("| `{}` | {} |\n", table.name, columns.join(", "));
        }
        let document = std::fs::read_to_string(PATH).unwrap();
        let (before, rest) = document.split_once(BEGIN).unwrap();
        let (found, after) = rest.split_once(END).unwrap();
        if std::env::var_os("UPDATE_FLEET").is_some() {
            std::fs::write(PATH, format!("{before}{BEGIN}{text}{END}{after}")).unwrap();
            return;
        }
        assert_eq!(found, text, "run UPDATE_FLEET=1 cargo test --release in fleet/");
    }
}
