//! `open`: from what was received to the tables. A part is a pure function of the bodies of its day and shard, so that an
//! opener that was stopped, a second one beside it and one that begins anew all write the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::keys::PrivateKey;
use sha2::{Digest, Sha256};

use crate::aside::{Aside, Entry, OPENER};
use crate::checks;
use crate::crashes;
use crate::data::{Data, Day, Place, ReportId};
use crate::delete;
use crate::fault::unusable;
use crate::late::{self, LateOne};
use crate::parts::{Bodies, Fate, NewParts, OldParts, Order, Partition, Placed, shards_of};
use crate::progress::Progress;
use crate::rows::Receipt;
use crate::table::ReportTables;
use crate::unseal::{Failure, Opened};
use crate::workplace::Workplace;

/// A day is closed so many days after it: clients keep a report for 14 days, and clocks differ.
const OPEN_DAYS: Day = 16;
/// And a clock may be ahead by this.
const DAYS_AHEAD: Day = 1;

/// What `open` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenOptions {
    /// The folder with what was received, and with the tables.
    #[arg(long, value_name = "DIR", default_value = crate::DEFAULT_FOLDER)]
    data: PathBuf,
    /// A private key file: {"id":"<16 hex>","kem":"X25519"|"X-Wing","private":"<base64>"}. May be repeated.
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// Files of one table and day: 4 from 50,000 clusters on, 16 from 500,000. Days that have parts keep their number.
    #[arg(long, value_name = "1|4|16", default_value = "1", value_parser = ["1", "4", "16"])]
    shards: String,
}

/// A body that belongs to a day.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    partition: Partition,
    place: Place,
}

/// What was done.
#[derive(Debug, Default)]
struct Tally {
    opened: usize,
    set_aside: usize,
    late: usize,
    parts: usize,
    crashes: usize,
    /// Bodies and parts that could not be read, and are tried again.
    unread: usize,
}

struct Opener<'a> {
    data: &'a Data,
    keys: Vec<PrivateKey>,
    tables: ReportTables,
    workplace: Workplace,
    aside: Aside<'a>,
    progress: Progress,
    deleted: BTreeSet<ReportId>,
    tally: Tally,
}

/// Opens what has come. False where something could not be read and was left for the next time.
pub(crate) fn run(options: &OpenOptions) -> Result<bool, Error> {
    let keys = options.keys.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?;
    let data = Data::open(&options.data)?;
    let (workplace, left) = Workplace::new(&data)?;
    let mut aside = Aside::read(&data)?;
    for place in left {
        if let Some(why) = aside.count_crash(&workplace, &place)? {
            crate::complain(&format!("set aside {}: {why}", data.sealed(&place).display()));
        }
    }
    let shards = options.shards.parse().unwrap_or(1);
    let tables = ReportTables::new();
    let progress = Progress::new();
    let deleted = data.tombstones()?;
    let mut opener = Opener { data: &data, keys, tables, workplace, aside, progress, deleted, tally: Tally::default() };
    opener.open(shards)?;
    let Opener { tally, aside, .. } = opener;
    let line = format!(
        "{} opened, {} set aside ({} in all), {} late, {} new, {} written",
        counted(tally.opened, "report"),
        tally.set_aside,
        aside.count(),
        tally.late,
        if tally.crashes == 1 { "1 crash".to_owned() } else { format!("{} crashes", tally.crashes) },
        counted(tally.parts, "part")
    );
    crate::print(&format!("{line}\n"))?;
    Ok(tally.unread == 0)
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn read_key(path: &Path) -> Result<PrivateKey, Error> {
    let text = std::fs::read_to_string(path).map_err(|why| unusable("read the private key", path, why))?;
    PrivateKey::parse(&text).map_err(|why| unusable("use the private key", path, why))
}

impl Opener<'_> {
    fn open(&mut self, shards: u8) -> Result<(), Error> {
        let mut candidates = self.sort_out(shards)?;
        candidates.sort_unstable_by_key(|candidate| (candidate.partition, candidate.place.id, candidate.place));
        self.progress.expect(candidates.len());
        let parts = candidates.chunk_by(|one, other| one.partition == other.partition);
        for part in parts {
            let places: Vec<Place> = part.iter().map(|candidate| candidate.place).collect();
            self.open_part(part[0].partition, &places)?;
        }
        let (data, workplace, progress) = (self.data, &self.workplace, &mut self.progress);
        self.tally.crashes = crashes::write(data, workplace, |line| progress.complain(line))?;
        self.tally.parts += checks::write(data, workplace, |line| progress.complain(line))?;
        self.progress.end();
        Ok(())
    }

    /// Every body that belongs to a part. Those that are late are counted, those that have no header set aside.
    fn sort_out(&mut self, shards: u8) -> Result<Vec<Candidate>, Error> {
        let mut shards_of_day: BTreeMap<Day, u8> = BTreeMap::new();
        let mut candidates = Vec::new();
        for received in self.data.received_days()? {
            let mut late = Vec::new();
            for place in self.data.received_on(received)? {
                if self.deleted.contains(&place.id) {
                    continue;
                }
                let header = match self.data.header(&place) {
                    Ok(Ok(header)) => header,
                    Ok(Err(why)) => {
                        self.set_aside(&place, Entry::new(why))?;
                        continue;
                    }
                    // What expires while it is listed was received weeks ago.
                    Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
                    Err(why) => {
                        self.leave(&format!("cannot read {}: {why}", self.data.sealed(&place).display()));
                        continue;
                    }
                };
                if let Some(why) = lateness(header.day, received) {
                    late.push(LateOne { place, header, why });
                    continue;
                }
                let of = match shards_of_day.get(&header.day) {
                    Some(of) => *of,
                    None => {
                        let of = shards_of(self.data, &self.tables.volumes, header.day)?.unwrap_or(shards);
                        shards_of_day.insert(header.day, of);
                        of
                    }
                };
                candidates.push(Candidate { partition: Partition::of_report(header.day, of, &place.id), place });
            }
            self.tally.late += late::write(self.data, &self.workplace, received, &late)?;
        }
        Ok(candidates)
    }

    /// Sets a body aside and says so, unless that was said before.
    fn set_aside(&mut self, place: &Place, entry: Entry) -> Result<(), Error> {
        let why = entry.reason.clone();
        if self.aside.set(&self.workplace, place, entry)? {
            self.tally.set_aside += 1;
            self.progress.complain(&format!("set aside {}: {why}", self.data.sealed(place).display()));
        }
        Ok(())
    }

    /// Says what is left for the next time.
    fn leave(&mut self, line: &str) {
        self.tally.unread += 1;
        self.progress.complain(line);
    }

    /// Brings one part up to the bodies at these places, which are sorted by report id.
    fn open_part(&mut self, partition: Partition, places: &[Place]) -> Result<(), Error> {
        loop {
            // Somebody may have deleted meanwhile, or may not have come to an end.
            self.deleted = self.data.tombstones()?;
            let deleted = &self.deleted;
            let removed = delete::from_part(self.data, &self.tables, &self.workplace, partition, deleted);
            if let Ok(Some((_, Placed::Outdated))) = removed {
                continue;
            }
            let places: Vec<Place> = places.iter().filter(|place| !deleted.contains(&place.id)).copied().collect();
            let old = match removed.and_then(|_| OldParts::read(self.data, &self.tables, partition)) {
                Ok(old) => old,
                // Its rows may be all that is left of what was sealed: it is not written over.
                Err(why) => {
                    self.leave(&why.to_string());
                    return Ok(());
                }
            };
            if self.write_part(&old, &places)? == Placed::Done {
                return Ok(());
            }
        }
    }

    fn write_part(&mut self, old: &OldParts, places: &[Place]) -> Result<Placed, Error> {
        let (data, partition) = (self.data, old.partition);
        let groups: Vec<&[Place]> = places.chunk_by(|one, other| one.id == other.id).collect();
        let is_new: Vec<bool> = groups.iter().map(|bodies| self.is_new(old, bodies)).collect();
        self.progress.pass(is_new.iter().zip(&groups).filter(|(is_new, _)| !**is_new).map(|(_, g)| g.len()).sum());
        if !is_new.contains(&true) {
            return Ok(Placed::Done);
        }
        let mut new = NewParts::begin(&self.workplace, &self.tables)?;
        let mut rows = old.rows(data, &self.tables)?;
        let (mut ids, mut bodies): (Vec<ReportId>, Bodies) = (Vec::new(), Bodies::new());
        let mut old_ids = old.ids.iter().peekable();
        let mut opened = 0;
        for (group, is_new) in groups.iter().zip(is_new) {
            let id = group[0].id;
            while let Some(before) = old_ids.next_if(|old| **old < id) {
                rows.pass(before, Fate::Copy, &mut new.parts)?;
                ids.push(*before);
                bodies.extend(old.bodies.get(before).map(|places| (*before, places.clone())));
            }
            let is_old = old_ids.next_if(|old| **old == id).is_some();
            let is_copied = is_old && !is_new;
            let best = if is_copied { None } else { self.best(group)? };
            // A body that is no longer there may have been the better one.
            let known = old.bodies.get(&id);
            let has_gone =
                |known: &Vec<String>| known.iter().any(|known| !group.iter().any(|place| place.path() == *known));
            let is_copied = is_copied
                || is_old
                    && best.as_ref().is_none_or(|best| {
                        let is_older_known = !old.is_torn && known.is_some_and(has_gone);
                        is_older_known && rows.nodes_of_next(&self.tables) >= best.nodes()
                    });
            rows.pass(&id, if is_copied { Fate::Copy } else { Fate::LeaveOut }, &mut new.parts)?;
            if let Some(best) = best.filter(|_| !is_copied) {
                if !self.write_report(best, partition, &mut new)? {
                    continue;
                }
                opened += 1;
            } else if !is_copied {
                continue;
            }
            ids.push(id);
            let mut of_id: Vec<String> = known.cloned().unwrap_or_default();
            if group.len() > 1 || !of_id.is_empty() {
                of_id.extend(group.iter().map(Place::path));
                of_id.sort();
                of_id.dedup();
                bodies.insert(id, of_id);
            }
        }
        for rest in old_ids {
            rows.pass(rest, Fate::Copy, &mut new.parts)?;
            ids.push(*rest);
            bodies.extend(old.bodies.get(rest).map(|places| (*rest, places.clone())));
        }
        if ids == old.ids && bodies == old.bodies && !old.is_torn && opened == 0 {
            return Ok(Placed::Done);
        }
        let set = (&*ids, &bodies);
        let placed = new.place(data, &self.tables, &self.workplace, old, set, Order::ReportsLast)?;
        if placed == Placed::Done {
            self.tally.opened += opened;
            self.tally.parts += 1;
        }
        Ok(placed)
    }

    /// Whether something is to be opened of this report.
    fn is_new(&self, old: &OldParts, bodies: &[Place]) -> bool {
        let is_held = |place: &Place| self.aside.holds(place, &self.keys);
        if bodies.iter().all(is_held) {
            return false;
        }
        let Some(id) = bodies.first().map(|place| place.id) else { return false };
        if old.is_torn || old.ids.binary_search(&id).is_err() {
            return true;
        }
        let is_retried = |place: &Place| self.aside.has(place) && !is_held(place);
        let is_known = |place: &Place| match old.bodies.get(&id) {
            Some(known) => known.contains(&place.path()),
            None => bodies.len() == 1,
        };
        bodies.iter().any(|place| is_retried(place) || !is_known(place))
    }

    /// Of the bodies of one report the one that opens, of several the one with most nodes, of equal ones the first.
    fn best(&mut self, bodies: &[Place]) -> Result<Option<Opened>, Error> {
        let mut best: Option<Opened> = None;
        let mut digests = Vec::new();
        for place in bodies {
            self.progress.pass(1);
            if self.aside.holds(place, &self.keys) {
                continue;
            }
            if bodies.len() > 1 {
                // Sent twice and stored in two hours: the same.
                let digest = std::fs::read(self.data.sealed(place)).ok().map(Sha256::digest);
                if digest.is_some() && digests.contains(&digest) {
                    continue;
                }
                digests.push(digest);
            }
            self.workplace.mark(Some(place))?;
            match Opened::read(self.data, place, &self.keys) {
                Ok(opened) => {
                    if best.as_ref().is_none_or(|best| opened.nodes() > best.nodes()) {
                        best = Some(opened);
                    }
                    self.aside.clear(place)?;
                }
                Err(Failure::Poison(why)) => self.poison(place, why)?,
                Err(Failure::Disk(why)) => {
                    self.leave(&format!("cannot read {}: {why}", self.data.sealed(place).display()));
                }
                Err(Failure::Part(why)) => return Err(crate::fault::disk("write", &self.data.path("lake"), why)),
            }
        }
        self.workplace.mark(None)?;
        if let Some(best) = best.as_ref().filter(|_| digests.len() > 1) {
            let (id, count, nodes) = (best.header.report_id_hex(), digests.len(), best.nodes());
            self.progress
                .complain(&format!("report {id} came as {count} different bodies; the one with {nodes} nodes counts"));
        }
        Ok(best)
    }

    fn poison(&mut self, place: &Place, why: String) -> Result<(), Error> {
        let mut entry = Entry::new(why);
        if let Ok(Ok(header)) = self.data.header(place)
            && !self.keys.iter().any(|key| key.id == header.key_id)
        {
            entry.missing_key = Some(header.key_id_hex());
        }
        self.set_aside(place, entry)
    }

    /// Writes the rows of a report. False where it can no longer be read: it is left for the next time.
    fn write_report(&mut self, report: Opened, partition: Partition, new: &mut NewParts) -> Result<bool, Error> {
        let place = report.place;
        let (id, key_id) = (report.header.report_id_hex(), report.header.key_id_hex());
        let receipt = Receipt {
            report_id: &id,
            day: i32::from(partition.day),
            received: i32::from(place.received),
            key_id: &key_id,
            sealed_bytes: report.sealed_bytes,
            opener: OPENER,
        };
        self.workplace.mark(Some(&place))?;
        let written = report.write(self.data, &self.keys, &receipt, &mut new.parts);
        self.workplace.mark(None)?;
        match written {
            Ok(()) => Ok(true),
            Err(Failure::Part(why)) => Err(new.unwritten(&why)),
            // It was right a moment ago, and some of its rows are written: the part cannot be.
            Err(Failure::Disk(why)) => Err(crate::fault::disk("read", &self.data.sealed(&place), why)),
            Err(Failure::Poison(why)) => Err(crate::fault::disk("read", &self.data.sealed(&place), why)),
        }
    }
}

/// Why what was received on this day is not counted for the day that it is about.
fn lateness(day: Day, received: Day) -> Option<&'static str> {
    if received > day.saturating_add(OPEN_DAYS) {
        Some("late")
    } else if day > received.saturating_add(DAYS_AHEAD) {
        Some("ahead")
    } else {
        None
    }
}
