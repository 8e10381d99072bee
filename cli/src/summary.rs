//! `decode-query --summary`: how many clusters and nodes asked, by day and version. The counts are exact.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::query::{Query, version_of};
use semver::Version;
use serde_json::{Value, json};

use crate::status;

/// The most pairs of node and day, with 2 x 40 bytes each: ten million nodes for two days, or 600 000 for a month.
const MOST_SEEN: usize = 20_000_000;
/// The most versions. Forged names may contain any number of them.
const MOST_VERSIONS: usize = 65_536;

/// A node on a day. The fields are in sorting order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    key: Key,
    cluster: Id,
    node: Id,
}

/// A day and a version.
type Key = (u16, u16);
/// An id of 16 bytes.
type Id = (u64, u64);

/// The counts.
#[derive(Default)]
pub(crate) struct Summary {
    /// Each pair of node and day at least once. The front part is sorted.
    seen: Vec<Seen>,
    room: usize,
    versions: Vec<String>,
    numbers: HashMap<String, u16>,
    queries: HashMap<Key, u64>,
    /// For each version, the number of queries that no key has opened.
    sealed: BTreeMap<u16, u64>,
}

/// The counts of a group of queries.
struct Row {
    /// None: all days together.
    day: Option<u16>,
    /// None: all versions together.
    version: Option<u16>,
    clusters: usize,
    nodes: usize,
    queries: u64,
}

impl Summary {
    /// Counts a query.
    pub(crate) fn add(&mut self, query: &Query) -> Result<(), Error> {
        let version = self.number(&query.version)?;
        let key = (query.day, version);
        *self.queries.entry(key).or_default() += 1;
        if self.seen.len() == self.room {
            self.make_room()?;
        }
        self.seen.push(Seen { key, cluster: id(&query.cluster), node: id(&query.node) });
        Ok(())
    }

    /// Counts a query that stays sealed. Its sender and its day are unknown.
    pub(crate) fn add_sealed(&mut self, label: &str) -> Result<(), Error> {
        let version = self.number(label)?;
        *self.sealed.entry(version).or_default() += 1;
        Ok(())
    }

    fn number(&mut self, label: &str) -> Result<u16, Error> {
        if let Some(number) = self.numbers.get(label) {
            return Ok(*number);
        }
        let number = u16::try_from(self.versions.len()).map_err(|_| too_many(MOST_VERSIONS, "versions"))?;
        self.versions.push(label.to_owned());
        self.numbers.insert(label.to_owned(), number);
        Ok(number)
    }

    fn make_room(&mut self) -> Result<(), Error> {
        self.sort();
        if self.seen.len() > MOST_SEEN {
            return Err(too_many(MOST_SEEN, "nodes and days"));
        }
        // The room doubles, so that sorting takes no more time than the rest.
        self.room = (self.seen.len() * 2).max(1 << 16);
        self.seen.reserve_exact(self.room - self.seen.len());
        Ok(())
    }

    fn sort(&mut self) {
        self.seen.sort_unstable();
        self.seen.dedup();
    }

    /// Returns a row for each version of each day, for each day, and for all.
    fn rows(&mut self) -> Vec<Row> {
        self.sort();
        let mut rows = Vec::new();
        for day in self.seen.chunk_by(|a, b| a.key.0 == b.key.0) {
            let of_day = rows.len();
            for of_version in day.chunk_by(|a, b| a.key == b.key) {
                rows.extend(self.row(of_version));
            }
            rows[of_day..].sort_by_cached_key(|row| self.precedence(row.version));
            rows.push(total(day, &rows[of_day..], rows[of_day].day));
        }
        let days: Vec<&Row> = rows.iter().filter(|row| row.version.is_none()).collect();
        let queries = days.iter().map(|row| row.queries).sum();
        rows.push(Row { day: None, version: None, clusters: clusters(&self.seen), nodes: nodes(&self.seen), queries });
        rows
    }

    fn row(&self, of_version: &[Seen]) -> Option<Row> {
        let key = of_version.first()?.key;
        Some(Row {
            day: Some(key.0),
            version: Some(key.1),
            clusters: clusters(of_version),
            nodes: nodes(of_version),
            queries: self.queries.get(&key).copied().unwrap_or(0),
        })
    }

    /// Returns the sort key of a version: SemVer precedence. Versions of which only the hash is known come last.
    fn precedence(&self, version: Option<u16>) -> (bool, Option<Version>, String) {
        let label = version.map(|version| self.label(version)).unwrap_or_default();
        let version = version_of(label);
        (version.is_none(), version, label.to_owned())
    }

    fn label(&self, version: u16) -> &str {
        self.versions.get(usize::from(version)).map_or("", String::as_str)
    }

    fn version_name(&self, version: u16) -> String {
        let label = self.label(version);
        version_of(label).map_or_else(|| format!("label {label}"), |version| version.to_string())
    }

    /// Formats the counts for people.
    pub(crate) fn as_text(&mut self) -> Result<String, Error> {
        let rows = self.rows();
        let mut text = String::new();
        self.write_text(&rows, &mut text).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(text)
    }

    fn write_text(&self, rows: &[Row], out: &mut String) -> std::fmt::Result {
        writeln!(out, "day         version                   clusters       nodes     queries")?;
        let mut days = 0;
        for row in rows {
            let day = row.day.map_or_else(|| "all days".to_owned(), |day| status::date(day.into()));
            let version = row.version.map_or_else(|| "all versions".to_owned(), |version| self.version_name(version));
            days += u64::from(row.day.is_some() && row.version.is_none());
            writeln!(out, "{day:<10}  {version:<22}  {:>10}  {:>10}  {:>10}", row.clusters, row.nodes, row.queries)?;
        }
        for (version, queries) in &self.sealed {
            writeln!(out, "sealed      {:<22}  {:>10}  {:>10}  {queries:>10}", self.version_name(*version), "–", "–")?;
        }
        let versions = self.versions.len();
        writeln!(out, "days: {days}, versions: {versions}; clusters and nodes are counted once in each line")
    }

    /// Formats the counts for programs.
    pub(crate) fn as_json(&mut self) -> Value {
        let rows = self.rows();
        let counts = |row: &Row| json!({ "clusters": row.clusters, "nodes": row.nodes, "queries": row.queries });
        let (mut days, mut versions, mut all) = (Vec::new(), Vec::new(), Value::Null);
        for row in &rows {
            let mut value = counts(row);
            match (row.day, row.version) {
                (_, Some(version)) => {
                    value["version"] = version_of(self.label(version)).map(|version| version.to_string()).into();
                    value["version_label"] = self.label(version).into();
                    versions.push(value);
                }
                (Some(day), None) => {
                    value["day"] = status::date(day.into()).into();
                    value["versions"] = std::mem::take(&mut versions).into();
                    days.push(value);
                }
                (None, None) => all = value,
            }
        }
        let sealed = self.sealed.iter().map(|(version, queries)| {
            let label = self.label(*version);
            let version = version_of(label).map(|version| version.to_string());
            json!({ "version": version, "version_label": label, "queries": queries })
        });
        all["sealed"] = sealed.collect();
        all["days"] = days.into();
        all
    }
}

/// Sums all versions of a day.
fn total(seen: &[Seen], versions: &[Row], day: Option<u16>) -> Row {
    let queries = versions.iter().map(|row| row.queries).sum();
    match versions {
        [only] => Row { day, version: None, clusters: only.clusters, nodes: only.nodes, queries },
        _ => Row { day, version: None, clusters: clusters(seen), nodes: nodes(seen), queries },
    }
}

fn clusters(seen: &[Seen]) -> usize {
    // The nodes of one cluster are adjacent, so most of them are skipped at once.
    let runs = seen.chunk_by(|a, b| a.cluster == b.cluster);
    different(runs.filter_map(|run| Some(run.first()?.cluster)).collect())
}

fn nodes(seen: &[Seen]) -> usize {
    different(seen.iter().map(|seen| seen.node).collect())
}

fn different(mut ids: Vec<Id>) -> usize {
    ids.sort_unstable();
    ids.dedup();
    ids.len()
}

/// Splits an id into two numbers, which compare faster than bytes.
fn id(bytes: &[u8; 16]) -> Id {
    let [high, low] = [0, 8].map(|at| bytes[at..].first_chunk().map_or(0, |half| u64::from_be_bytes(*half)));
    (high, low)
}

fn too_many(most: usize, what: &str) -> Error {
    Error::InvalidArgument(format!("--summary: the logs have more than {most} different {what}: read fewer at a time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondat_telemetry_protocol::query::version_label;

    fn query(day: u16, version: &str, cluster: u8, node: u8) -> Query {
        let version = version_label(&version.parse().unwrap());
        Query { cluster: [cluster; 16], node: [node; 16], day, version }
    }

    fn summary(queries: &[Query]) -> Value {
        let mut summary = Summary::default();
        queries.iter().for_each(|query| summary.add(query).unwrap());
        summary.as_json()
    }

    #[test]
    fn everything_is_counted_once_in_each_line() {
        // Node 1 is upgraded on the first day; node 9 is seen in two clusters; day 2 has one version.
        let queries = [
            query(1, "2.8.1", 1, 1),
            query(1, "2.8.1", 1, 1),
            query(1, "2.10.0", 1, 1),
            query(1, "2.8.1", 1, 2),
            query(1, "2.10.0", 2, 9),
            query(1, "2.10.0", 3, 9),
            query(2, "2.10.0", 1, 1),
        ];
        let expected = json!({
            "clusters": 3, "nodes": 3, "queries": 7, "sealed": [],
            "days": [
                { "day": "1970-01-02", "clusters": 3, "nodes": 3, "queries": 6, "versions": [
                    { "version": "2.8.1", "version_label": "68n3gbhh", "clusters": 1, "nodes": 2, "queries": 3 },
                    { "version": "2.10.0", "version_label": "68n32c1e60", "clusters": 3, "nodes": 2, "queries": 3 },
                ] },
                { "day": "1970-01-03", "clusters": 1, "nodes": 1, "queries": 1, "versions": [
                    { "version": "2.10.0", "version_label": "68n32c1e60", "clusters": 1, "nodes": 1, "queries": 1 },
                ] },
            ],
        });
        let mut said = summary(&queries);
        assert_eq!(said["days"][0]["versions"][1]["version_label"], version_label(&"2.10.0".parse().unwrap()));
        said["days"][0]["versions"][1]["version_label"] = "68n32c1e60".into();
        said["days"][1]["versions"][0]["version_label"] = "68n32c1e60".into();
        said["days"][0]["versions"][0]["version_label"] = "68n3gbhh".into();
        assert_eq!(said, expected);
    }

    #[test]
    fn more_than_there_is_room_for_at_first_is_counted_exactly() {
        let mut summary = Summary::default();
        for round in 0..3 {
            for number in 0..40_000_u128 {
                let node = (number * 7 + round % 2).to_be_bytes();
                let version = version_label(&Version::new(2, 8, u64::try_from(number % 3).unwrap()));
                summary.add(&Query { cluster: (number / 10).to_be_bytes(), node, day: 7, version }).unwrap();
            }
        }
        let said = summary.as_json();
        assert_eq!(
            (&said["clusters"], &said["nodes"], &said["queries"]),
            (&json!(4_000), &json!(80_000), &json!(120_000))
        );
        assert!(summary.seen.capacity() <= 1 << 19, "{}", summary.seen.capacity());
    }

    #[test]
    fn forged_versions_have_an_end() {
        let mut summary = Summary::default();
        let one = |number: usize| version_label(&Version::new(number as u64, 0, 0));
        (0..MOST_VERSIONS).for_each(|number| summary.add_sealed(&one(number)).unwrap());
        let why = summary.add_sealed(&one(MOST_VERSIONS)).unwrap_err().to_string();
        assert!(why.contains("more than 65536 different versions"), "{why}");
        assert_eq!(summary.sealed.len(), MOST_VERSIONS);
    }
}
