//! Which keys reports may be sealed for. A key set reaches many edges one after the other, so a key that is unknown here may
//! be the newest one: its reports are kept, within a quota. Only what nobody can open any more is refused.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use data_encoding::HEXLOWER;
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::keys::KeySet;
use serde::Deserialize;

use crate::fault::unusable;

const DAY: i64 = 86_400;

/// The member of a key set's file that clients pass over.
#[derive(Deserialize)]
struct DestroyedDocument {
    /// Ids of keys whose private key was destroyed.
    #[serde(default)]
    destroyed: Vec<String>,
}

/// What is to be done with a report by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyVerdict {
    /// Its key is one of ours, or all are taken.
    Known,
    /// Its key is not known here, and there is room for it.
    Unknown,
    /// Its key is not known here, and there is no room left today.
    OverQuota,
    /// Its key was destroyed.
    Destroyed,
}

/// The keys, and what was taken of the quota.
pub(crate) struct KeyRules {
    known: Option<HashSet<[u8; 8]>>,
    destroyed: HashSet<[u8; 8]>,
    /// Bytes a day.
    quota: u64,
    /// The day, and the bytes of it.
    used: Mutex<(i64, u64)>,
}

impl KeyRules {
    /// Every key is taken.
    pub(crate) fn any() -> Self {
        Self { known: None, destroyed: HashSet::new(), quota: 0, used: Mutex::default() }
    }

    /// The keys in this file, and of others so many bytes a day.
    pub(crate) fn read(path: &Path, quota: u64) -> Result<Self, Error> {
        let refused = |why: String| unusable("use the report keys in", path, why);
        let text = std::fs::read_to_string(path).map_err(|why| refused(why.to_string()))?;
        let known: HashSet<_> = KeySet::parse(&text).map_err(refused)?.ids().collect();
        let document: DestroyedDocument = serde_json::from_str(&text).map_err(|why| refused(why.to_string()))?;
        let destroyed = document.destroyed.iter().map(|id| {
            let bytes = HEXLOWER.decode(id.as_bytes()).ok().and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            bytes.ok_or_else(|| refused(format!("destroyed: {id:?} is not 16 lower-case hex digits")))
        });
        let destroyed = destroyed.collect::<Result<HashSet<_>, _>>()?;
        if let Some(both) = known.intersection(&destroyed).next() {
            return Err(refused(format!("key {} is listed as destroyed and as usable", HEXLOWER.encode(both))));
        }
        Ok(Self { known: Some(known), destroyed, quota, used: Mutex::default() })
    }

    /// Judges a report of so many bytes, and takes them from the day's quota where its key is unknown.
    pub(crate) fn judge(&self, key_id: [u8; 8], bytes: u64, now: i64) -> KeyVerdict {
        if self.destroyed.contains(&key_id) {
            return KeyVerdict::Destroyed;
        }
        if self.known.as_ref().is_none_or(|known| known.contains(&key_id)) {
            return KeyVerdict::Known;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let today = now.div_euclid(DAY);
        if used.0 != today {
            *used = (today, 0);
        }
        if used.1 + bytes > self.quota {
            return KeyVerdict::OverQuota;
        }
        used.1 += bytes;
        KeyVerdict::Unknown
    }

    /// Gives back what was not kept after all, or not for the first time.
    pub(crate) fn give_back(&self, bytes: u64, now: i64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.0 == now.div_euclid(DAY) {
            used.1 = used.1.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_have_a_quota_a_day_and_known_ones_have_none() {
        let known = HashSet::from([[1; 8]]);
        let rules =
            KeyRules { known: Some(known), destroyed: HashSet::from([[2; 8]]), quota: 10, used: Mutex::default() };
        assert_eq!(rules.judge([1; 8], 100, 0), KeyVerdict::Known);
        assert_eq!(rules.judge([2; 8], 1, 0), KeyVerdict::Destroyed);
        assert_eq!(rules.judge([3; 8], 6, 0), KeyVerdict::Unknown);
        assert_eq!(rules.judge([4; 8], 5, 0), KeyVerdict::OverQuota);
        rules.give_back(6, 1);
        assert_eq!(rules.judge([4; 8], 10, 2), KeyVerdict::Unknown);
        assert_eq!(
            (rules.judge([4; 8], 1, 2), rules.judge([4; 8], 1, DAY)),
            (KeyVerdict::OverQuota, KeyVerdict::Unknown)
        );
        rules.give_back(10, 2);
        assert_eq!(rules.judge([4; 8], 10, DAY), KeyVerdict::OverQuota, "yesterday's is not today's");
    }

    #[test]
    fn without_a_list_every_key_is_taken() {
        assert_eq!(KeyRules::any().judge([3; 8], u64::MAX, 0), KeyVerdict::Known);
    }
}
