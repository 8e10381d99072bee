//! The version zone and the lookup in it, exactly as RFC 4592 says.
//!
//! hickory-server's own in-memory handler (0.26.3) is not used, because it tries the wildcards of all ancestors in
//! turn and takes a wildcard without the type asked for as no wildcard. Measured: `<ver>.o1` above an override was
//! answered from `*.o1` instead of with no data, `A` for any version query was NXDOMAIN, which resolvers that ask
//! name by name take for the end (RFC 8020), and answers came in lower case, which resolvers that mix upper and
//! lower case (0x20) drop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::proto::serialize::txt::Parser;
use ondat_telemetry::error::Error;

use crate::fault::unusable;

/// A zone without delegations and aliases.
#[derive(Debug)]
pub(crate) struct Zone {
    origin: LowerName,
    records: BTreeMap<LowerName, BTreeMap<RecordType, Vec<Record>>>,
    /// Every name that exists: owners and the names between them and the origin.
    names: BTreeSet<LowerName>,
    /// What goes with an answer that has no data, with the time for which that may be remembered (RFC 2308, 5).
    negative: Record,
}

/// What the zone says to a question.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// These records.
    Records(Vec<Record>),
    /// The name exists, or a wildcard stands for it, but not with this type.
    NoData,
    /// There is no such name.
    NoName,
    /// The name is not in this zone.
    OtherZone,
}

impl Zone {
    /// Reads a BIND master file.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|why| unusable("read the zone file", path, why))?;
        Self::parse(&text).map_err(|why| unusable("serve the zone in", path, why))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (_, sets) = Parser::new(text, None, None).parse().map_err(|why| why.to_string())?;
        let mut records: BTreeMap<LowerName, BTreeMap<RecordType, Vec<Record>>> = BTreeMap::new();
        for (key, set) in &sets {
            let same_type = set.records_without_rrsigs().cloned().collect();
            records.entry(key.name.clone()).or_default().insert(key.record_type, same_type);
        }
        let origin = origin(&records)?;
        let negative = negative(&records, &origin)?;
        for (name, by_type) in &records {
            check_owner(&origin, name, by_type)?;
        }
        let names = existing_names(&origin, records.keys());
        Ok(Self { origin, records, names, negative })
    }

    /// The SOA record for negative answers.
    pub(crate) fn negative(&self) -> &Record {
        &self.negative
    }

    /// Whether a name is in the zone and not its apex.
    pub(crate) fn is_below(&self, name: &LowerName) -> bool {
        self.origin.zone_of(name) && *name != self.origin
    }

    /// Answers a question. The records' owner is the name as it was asked, upper and lower case included.
    pub(crate) fn answer(&self, name: &Name, record_type: RecordType) -> Answer {
        let asked = LowerName::from(name);
        if !self.origin.zone_of(&asked) {
            return Answer::OtherZone;
        }
        if self.names.contains(&asked) {
            return self.data_at(&asked, name, record_type);
        }
        let source_of_synthesis = self.closest_encloser(&asked).and_then(wildcard_below);
        match source_of_synthesis {
            Some(wildcard) if self.names.contains(&wildcard) => self.data_at(&wildcard, name, record_type),
            _ => Answer::NoName,
        }
    }

    fn data_at(&self, owner: &LowerName, name: &Name, record_type: RecordType) -> Answer {
        let Some(by_type) = self.records.get(owner) else { return Answer::NoData };
        let found = match record_type {
            // One set is enough for somebody who does not say what they want (RFC 8482, 4.1).
            RecordType::ANY => by_type.values().next(),
            record_type => by_type.get(&record_type),
        };
        let Some(found) = found else { return Answer::NoData };
        let owned = found.iter().map(|record| {
            let mut record = record.clone();
            record.name = name.clone();
            record
        });
        Answer::Records(owned.collect())
    }

    /// The longest existing name above one that does not exist.
    fn closest_encloser(&self, name: &LowerName) -> Option<LowerName> {
        let mut ancestor = name.base_name();
        while self.origin.zone_of(&ancestor) {
            if self.names.contains(&ancestor) {
                return Some(ancestor);
            }
            ancestor = ancestor.base_name();
        }
        None
    }
}

/// `*.<name>`, unless that is too long to be a name.
fn wildcard_below(name: LowerName) -> Option<LowerName> {
    Name::from(name).prepend_label("*").ok().map(LowerName::from)
}

fn origin(records: &BTreeMap<LowerName, BTreeMap<RecordType, Vec<Record>>>) -> Result<LowerName, String> {
    let mut apexes = records.iter().filter(|(_, by_type)| by_type.contains_key(&RecordType::SOA)).map(|(name, _)| name);
    match (apexes.next(), apexes.next()) {
        (Some(origin), None) => Ok(origin.clone()),
        (None, _) => Err("it has no SOA record".to_owned()),
        (Some(one), Some(other)) => Err(format!("it has two SOA records, at {one} and {other}")),
    }
}

fn negative(
    records: &BTreeMap<LowerName, BTreeMap<RecordType, Vec<Record>>>,
    origin: &LowerName,
) -> Result<Record, String> {
    let soa = records.get(origin).and_then(|by_type| by_type.get(&RecordType::SOA)).and_then(|set| set.first());
    let Some((soa, RData::SOA(terms))) = soa.map(|record| (record, &record.data)) else {
        return Err("its SOA record is damaged".to_owned());
    };
    let mut negative = soa.clone();
    negative.ttl = soa.ttl.min(terms.minimum);
    Ok(negative)
}

/// Refuses what the lookup above does not do, rather than doing it wrong.
fn check_owner(
    origin: &LowerName,
    name: &LowerName,
    by_type: &BTreeMap<RecordType, Vec<Record>>,
) -> Result<(), String> {
    if !origin.zone_of(name) {
        return Err(format!("{name} is not below {origin}"));
    }
    for record_type in by_type.keys() {
        match record_type {
            RecordType::SOA | RecordType::TXT | RecordType::A | RecordType::AAAA => {}
            RecordType::NS if name == origin => {}
            RecordType::NS => return Err(format!("{name} NS: delegations are not served here")),
            other => return Err(format!("{name} {other}: only SOA, NS, TXT, A and AAAA are served here")),
        }
    }
    Ok(())
}

fn existing_names<'a>(origin: &LowerName, owners: impl Iterator<Item = &'a LowerName>) -> BTreeSet<LowerName> {
    let mut names = BTreeSet::new();
    for owner in owners {
        let mut name = owner.clone();
        while origin.zone_of(&name) && names.insert(name.clone()) {
            name = name.base_name();
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZONE: &str = "\
$ORIGIN latest.example.
$TTL 3600
@ IN SOA ns.latest.example. hostmaster.latest.example. 1 3600 600 86400 300
@ IN NS ns.latest.example.
ns IN A 192.0.2.1
*.o1 IN TXT \"o1 v=* l=2.8.2\"
*.68p30.o1 IN TXT \"o1 v=68p30 s=3\"
";

    fn ask(name: &str, record_type: RecordType) -> Answer {
        Zone::parse(ZONE).unwrap().answer(&Name::from_ascii(name).unwrap(), record_type)
    }

    fn text(name: &str) -> String {
        match ask(name, RecordType::TXT) {
            Answer::Records(records) => records.iter().map(|record| record.data.to_string()).collect(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_wildcard_spans_several_labels() {
        assert!(text("a.o1.latest.example.").contains("v=*"));
        assert!(text(&format!("{}.abc.o1.latest.example.", "a".repeat(63))).contains("v=*"));
        assert!(text("a.b.c.d.o1.latest.example.").contains("v=*"));
    }

    #[test]
    fn an_override_comes_before_the_general_answer() {
        assert!(text("x.68p30.o1.latest.example.").contains("v=68p30"));
        assert!(text("x.y.68p30.o1.latest.example.").contains("v=68p30"));
    }

    #[test]
    fn below_an_override_nothing_falls_back_to_the_general_answer() {
        // The override has no A record, and `*.o1` does not stand in for it.
        assert_eq!(ask("x.68p30.o1.latest.example.", RecordType::A), Answer::NoData);
        // Below an existing wildcard name, the wildcard itself is the closest encloser (RFC 4592, 2.2.1).
        assert_eq!(ask("x.*.o1.latest.example.", RecordType::TXT), Answer::NoName);
    }

    #[test]
    fn names_between_exist_without_data() {
        assert_eq!(ask("o1.latest.example.", RecordType::TXT), Answer::NoData);
        assert_eq!(ask("68p30.o1.latest.example.", RecordType::TXT), Answer::NoData);
        assert_eq!(ask("latest.example.", RecordType::TXT), Answer::NoData);
    }

    #[test]
    fn other_names_do_not_exist_and_other_zones_are_not_ours() {
        assert_eq!(ask("o2.latest.example.", RecordType::TXT), Answer::NoName);
        assert_eq!(ask("x.ns.latest.example.", RecordType::TXT), Answer::NoName);
        assert_eq!(ask("example.", RecordType::TXT), Answer::OtherZone);
        assert_eq!(ask("notlatest.example.", RecordType::TXT), Answer::OtherZone);
    }

    #[test]
    fn the_owner_is_written_as_it_was_asked() {
        let Answer::Records(records) = ask("AbC.O1.LaTeSt.ExAmPlE.", RecordType::TXT) else { panic!("no records") };
        assert_eq!(records[0].name.to_ascii(), "AbC.O1.LaTeSt.ExAmPlE.");
    }

    #[test]
    fn what_cannot_be_served_right_is_refused() {
        let refused = |line: &str| Zone::parse(&format!("{ZONE}{line}\n")).unwrap_err();
        assert!(refused("sub IN NS ns.elsewhere.").contains("delegations"));
        assert!(refused("alias IN CNAME ns").contains("only SOA"));
        assert!(refused("elsewhere. IN A 192.0.2.1").contains("not below"));
        assert!(Zone::parse("$ORIGIN a.\n$TTL 1\n@ IN A 192.0.2.1\n").unwrap_err().contains("no SOA"));
    }

    #[test]
    fn negative_answers_are_remembered_for_the_minimum() {
        assert_eq!(Zone::parse(ZONE).unwrap().negative().ttl, 300);
    }
}
