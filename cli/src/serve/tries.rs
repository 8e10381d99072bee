//! Counts wrong passwords for each user and each network.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ondat_telemetry_service::places::network;

/// How many wrong passwords in a row are answered without a delay.
const TRIES: u32 = 10;
/// How long it takes until one of them is forgotten.
const TRY_TIME: Duration = Duration::from_secs(6);
/// The most sources whose wrong passwords are remembered.
const MOST_WRONG: usize = 1024;
const MOST_KNOWN: usize = 256;

/// A user's name as a client gives it, and the network that the client is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    user: String,
    network: IpAddr,
}

impl Source {
    /// Creates a source. All addresses of an IPv6 /64 are one network, because one client can have them all.
    pub(crate) fn new(user: &str, address: IpAddr) -> Self {
        Self { user: user.to_owned(), network: network(address, 32, 64) }
    }

    /// The user's name.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The client's network.
    pub(crate) fn network(&self) -> IpAddr {
        self.network
    }
}

/// The memory of sources. Both tables are bounded. A full table refuses nobody: it forgets its earliest entry.
#[derive(Default)]
pub(crate) struct Tries {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    /// The time until which the wrong passwords of a source count.
    wrong: BTreeMap<Source, Instant>,
    /// The time at which a source last had the right password.
    right: BTreeMap<Source, Instant>,
}

impl Tries {
    /// Returns how long it takes until a try of this source is answered without a delay. None: its next try is.
    pub(crate) fn over(&self, source: &Source, now: Instant) -> Option<Duration> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = tables.wrong.get(source)?.checked_duration_since(now)?;
        (owed + TRY_TIME).checked_sub(TRY_TIME * TRIES).filter(|wait| !wait.is_zero())
    }

    /// Counts a wrong password.
    pub(crate) fn wrong(&self, source: &Source, now: Instant) {
        let tables = &mut *self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.wrong.retain(|_, until| *until > now);
        make_room(&mut tables.wrong, source, MOST_WRONG);
        let until = tables.wrong.entry(source.clone()).or_insert(now);
        *until = (*until + TRY_TIME).min(now + TRY_TIME * TRIES);
    }

    /// Remembers that the password was right.
    pub(crate) fn right(&self, source: &Source, now: Instant) {
        let tables = &mut *self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut tables.right, source, MOST_KNOWN);
        tables.right.insert(source.clone(), now);
    }

    /// Whether this user had the right password from this network before.
    pub(crate) fn is_known(&self, source: &Source) -> bool {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).right.contains_key(source)
    }
}

/// Forgets the earliest entry if the table has no room for one more.
fn make_room(table: &mut BTreeMap<Source, Instant>, source: &Source, most: usize) {
    if table.len() >= most
        && !table.contains_key(source)
        && let Some(earliest) = table.iter().min_by_key(|(_, at)| **at).map(|(source, _)| source.clone())
    {
        table.remove(&earliest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(user: &str, address: &str) -> Source {
        Source::new(user, address.parse().unwrap())
    }

    #[test]
    fn wrong_passwords_count_for_one_user_and_one_network() {
        let (tries, now) = (Tries::default(), Instant::now());
        let guessed = source("admin", "2001:db8::1");
        for _ in 0..TRIES {
            assert_eq!(tries.over(&guessed, now), None);
            tries.wrong(&guessed, now);
        }
        assert_eq!(tries.over(&source("admin", "2001:db8::ffff"), now), Some(TRY_TIME), "the same network");
        for other in [source("admin", "2001:db8:0:1::1"), source("other", "2001:db8::1"), source("", "2001:db8::1")] {
            assert_eq!(tries.over(&other, now), None, "{other:?}");
        }
        assert_eq!(tries.over(&guessed, now + TRY_TIME), None);
        assert_eq!(source("admin", "::ffff:192.0.2.1"), source("admin", "192.0.2.1"));
    }

    #[test]
    fn a_flood_is_forgotten_as_soon_as_ten() {
        let (tries, now) = (Tries::default(), Instant::now());
        let flooded = source("admin", "127.0.0.1");
        (0..1000).for_each(|_| tries.wrong(&flooded, now));
        assert_eq!(tries.over(&flooded, now), Some(TRY_TIME));
        assert_eq!(tries.over(&flooded, now + TRY_TIME), None);
    }

    #[test]
    fn a_full_table_neither_keeps_out_nor_forgets_who_guesses() {
        let (tries, now) = (Tries::default(), Instant::now());
        let guessed = source("admin", "127.0.0.1");
        (0..TRIES).for_each(|_| tries.wrong(&guessed, now));
        for number in 0..MOST_WRONG * 2 {
            let made_up = source(&format!("user {number}"), "127.0.0.1");
            assert_eq!(tries.over(&made_up, now), None);
            tries.wrong(&made_up, now);
        }
        assert_eq!(tries.over(&guessed, now), Some(TRY_TIME));
        assert_eq!(tries.tables.lock().unwrap().wrong.len(), MOST_WRONG);
    }

    #[test]
    fn who_had_the_right_password_is_known_until_many_others_had() {
        let (tries, now) = (Tries::default(), Instant::now());
        let first = source("admin", "192.0.2.1");
        assert!(!tries.is_known(&first));
        tries.right(&first, now);
        tries.wrong(&source("admin", "192.0.2.2"), now);
        assert!(tries.is_known(&first) && !tries.is_known(&source("admin", "192.0.2.2")));
        for number in 0..MOST_KNOWN as u32 {
            tries.right(&Source::new("admin", IpAddr::V4(number.into())), now + Duration::from_secs(1));
        }
        assert!(!tries.is_known(&first));
        assert_eq!(tries.tables.lock().unwrap().right.len(), MOST_KNOWN);
    }
}
