//! What cannot be opened: set aside with the reason, so that the rest goes on, and tried again when that may help.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::keys::PrivateKey;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::data::{Data, Place, ReportId, names};
use crate::fault::disk;
use crate::workplace::{Workplace, put};

const FOLDER: &str = "aside";
/// The version of this opener, which opens what older ones could not.
pub(crate) const OPENER: &str = env!("CARGO_PKG_VERSION");
/// As often may an opener end early over a body before it is set aside unopened.
const CRASHES: u32 = 2;

/// Why a body is not in the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Entry {
    /// What is wrong with it.
    pub(crate) reason: String,
    /// The version of the opener that says so.
    pub(crate) opener: String,
    /// The id of the key that it is sealed for, where that was not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing_key: Option<String>,
    /// How many openers ended while they opened it.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) crashes: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Entry {
    pub(crate) fn new(reason: String) -> Self {
        Self { reason, opener: OPENER.to_owned(), ..Self::default() }
    }

    /// Whether an opener of this version, with these keys, tries again.
    fn is_tried_again(&self, keys: &[PrivateKey]) -> bool {
        let version = |text: &str| Version::parse(text).ok();
        let is_older = match (version(&self.opener), version(OPENER)) {
            (Some(theirs), Some(ours)) => theirs < ours,
            // Written by hand, or damaged.
            _ => true,
        };
        let has_key = |id: &String| keys.iter().any(|key| data_encoding::HEXLOWER.encode(&key.id) == *id);
        is_older || (1..CRASHES).contains(&self.crashes) || self.missing_key.as_ref().is_some_and(has_key)
    }
}

/// Everything that is set aside.
pub(crate) struct Aside<'a> {
    data: &'a Data,
    entries: BTreeMap<Place, Entry>,
}

impl<'a> Aside<'a> {
    pub(crate) fn read(data: &'a Data) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        let folder = data.path(FOLDER);
        for day in names(&folder)? {
            for name in names(&folder.join(&day))? {
                let path = folder.join(&day).join(&name);
                // `<hh>-<name>.json`
                let place = name.strip_suffix(".json").and_then(|name| name.split_once('-'));
                let place = place.and_then(|(hour, name)| Place::parse(&format!("{day}/{hour}/{name}.otr")));
                let Some(place) = place else { continue };
                let text = fs::read(&path).map_err(|why| disk("read", &path, why))?;
                // One that cannot be read is an old opener's: it is tried again.
                entries.insert(place, serde_json::from_slice(&text).unwrap_or_default());
            }
        }
        Ok(Self { data, entries })
    }

    /// Whether this body is left where it is.
    pub(crate) fn holds(&self, place: &Place, keys: &[PrivateKey]) -> bool {
        self.entries.get(place).is_some_and(|entry| !entry.is_tried_again(keys))
    }

    pub(crate) fn has(&self, place: &Place) -> bool {
        self.entries.contains_key(place)
    }

    /// Sets a body aside. False where it was already, for this reason.
    pub(crate) fn set(&mut self, workplace: &Workplace, place: &Place, entry: Entry) -> Result<bool, Error> {
        if self.entries.get(place) == Some(&entry) {
            return Ok(false);
        }
        let (from, mut file) = workplace.create("aside.json")?;
        let to = self.path(place);
        let written = serde_json::to_vec(&entry).map_err(io::Error::other);
        let written = written.and_then(|text| file.write_all(&[&*text, b"\n"].concat()));
        written.map_err(|why| disk("write", &from, why))?;
        put(&file, &from, &to)?;
        self.entries.insert(*place, entry);
        Ok(true)
    }

    /// Counts an opener that ended over a body. What is to be said where that was one too many.
    pub(crate) fn count_crash(&mut self, workplace: &Workplace, place: &Place) -> Result<Option<String>, Error> {
        // Crashes of an older opener are not this one's.
        let before = self.entries.get(place).filter(|entry| entry.opener == OPENER).map_or(0, |entry| entry.crashes);
        let crashes = before + 1;
        let reason = match crashes {
            1 => "an opener ended while it opened this".to_owned(),
            crashes => format!("{crashes} openers ended while they opened this"),
        };
        self.set(workplace, place, Entry { crashes, ..Entry::new(reason.clone()) })?;
        Ok((crashes == CRASHES).then_some(reason))
    }

    /// It is in the tables now, or gone.
    pub(crate) fn clear(&mut self, place: &Place) -> Result<(), Error> {
        if self.entries.remove(place).is_none() {
            return Ok(());
        }
        let path = self.path(place);
        match fs::remove_file(&path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(disk("remove", &path, why)),
            _ => Ok(()),
        }
    }

    /// What was set aside of deleted reports goes too.
    pub(crate) fn clear_all(&mut self, deleted: &BTreeSet<ReportId>) -> Result<(), Error> {
        let places: Vec<Place> = self.entries.keys().filter(|place| deleted.contains(&place.id)).copied().collect();
        places.iter().try_for_each(|place| self.clear(place))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    fn path(&self, place: &Place) -> PathBuf {
        let path = place.path();
        let (day, rest) = path.split_once('/').unwrap_or_default();
        let name = rest.replace('/', "-").replace(".otr", ".json");
        self.data.path(FOLDER).join(day).join(name)
    }
}
