//! Who is logged in, and how often somebody may try to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ondat_telemetry::error::Error;
use sha2::{Digest, Sha256};

/// How long a token is good for, as the product's: its clients refresh it before that.
pub(crate) const TOKEN_TIME: Duration = Duration::from_secs(300);
/// The longest session of the page, however busy it is.
const PAGE_TIME: Duration = Duration::from_secs(12 * 3_600);
/// The most sessions. One more ends the one that would end first.
const MOST_SESSIONS: usize = 256;

/// What the holder of a token uses it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A header: it ends at its time.
    Header,
    /// The page's cookie: it goes on while the page is open.
    Cookie,
}

/// The sessions, by the hashes of their tokens.
#[derive(Default)]
pub(crate) struct Sessions {
    sessions: Mutex<BTreeMap<[u8; 32], Session>>,
}

#[derive(Clone)]
struct Session {
    user: String,
    /// The password's hash when it began: a new password ends the sessions of the old one.
    password: String,
    kind: Kind,
    until: Instant,
    longest: Instant,
}

impl Sessions {
    /// Begins a session and returns its token.
    pub(crate) fn begin(&self, user: &str, password: &str, kind: Kind, now: Instant) -> Result<String, Error> {
        let mut token = [0; 32];
        getrandom::fill(&mut token).map_err(|error| Error::Internal(format!("no randomness for a token: {error}")))?;
        let token = BASE64URL_NOPAD.encode(&token);
        let session = Session {
            user: user.to_owned(),
            password: password.to_owned(),
            kind,
            until: now + TOKEN_TIME,
            longest: now + PAGE_TIME,
        };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= MOST_SESSIONS
            && let Some(first) = sessions.iter().min_by_key(|(_, session)| session.until).map(|(hash, _)| *hash)
        {
            sessions.remove(&first);
        }
        sessions.insert(hash(&token), session);
        Ok(token)
    }

    /// The user of this token, unless it has ended or `password_of` no longer says what it said.
    pub(crate) fn user(
        &self,
        token: &str,
        kind: Kind,
        password_of: impl FnOnce(&str) -> Option<String>,
        now: Instant,
    ) -> Option<String> {
        let hash = hash(token);
        let session = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()?;
        if session.kind != kind || session.until <= now {
            return None;
        }
        // Read from the disk, and so without the lock.
        if password_of(&session.user) != Some(session.password) {
            self.end(token);
            return None;
        }
        if kind == Kind::Cookie
            && let Some(session) = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&hash)
        {
            session.until = session.longest.min(now + TOKEN_TIME);
        }
        Some(session.user)
    }

    /// Ends a session.
    pub(crate) fn end(&self, token: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(token));
    }
}

/// Kept in the place of the token: what is read out of this process's memory opens nothing.
fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// What a page has to say besides its cookie, and what another site cannot read.
pub(crate) fn csrf(token: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(format!("csrf {token}").as_bytes())[..16])
}

/// How many wrong passwords in a row.
const TRIES: u32 = 10;
/// After how long one of them is forgotten.
const TRY_TIME: Duration = Duration::from_secs(6);
/// The most addresses that are remembered.
const MOST_ADDRESSES: usize = 1024;

/// How often each address has tried a wrong password.
#[derive(Default)]
pub(crate) struct Tries {
    /// Until when an address's tries count.
    busy_until: Mutex<BTreeMap<IpAddr, Instant>>,
}

impl Tries {
    /// Counts a try, or says how long to wait for the next.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut busy = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, until| *until > now);
        let address = network(address);
        if busy.len() >= MOST_ADDRESSES && !busy.contains_key(&address) {
            return Err(TRY_TIME);
        }
        let until = busy.entry(address).or_insert(now);
        let after = *until + TRY_TIME;
        let room = now + TRY_TIME * TRIES;
        if after > room {
            return Err(after - room);
        }
        *until = after;
        Ok(())
    }

    /// The password was right.
    pub(crate) fn give_back(&self, address: IpAddr) {
        let mut busy = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = busy.get_mut(&network(address))
            && let Some(before) = until.checked_sub(TRY_TIME)
        {
            *until = before;
        }
    }
}

/// Whoever has one address of an IPv6 /64 has them all.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(of: &str) -> Option<String> {
        (of == "admin").then(|| "hash".to_owned())
    }

    #[test]
    fn a_token_ends_at_its_time_and_a_busy_page_later() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let token = sessions.begin("admin", "hash", Kind::Header, now).unwrap();
        let almost = now + TOKEN_TIME - Duration::from_secs(1);
        assert_eq!(sessions.user(&token, Kind::Header, password, almost).as_deref(), Some("admin"));
        assert_eq!(sessions.user(&token, Kind::Cookie, password, almost), None, "a header's token is no cookie");
        assert_eq!(sessions.user(&token, Kind::Header, password, now + TOKEN_TIME), None);
        let page = sessions.begin("admin", "hash", Kind::Cookie, now).unwrap();
        let mut at = now;
        while at < now + PAGE_TIME - TOKEN_TIME {
            at += TOKEN_TIME / 2;
            assert!(sessions.user(&page, Kind::Cookie, password, at).is_some());
        }
        assert_eq!(sessions.user(&page, Kind::Cookie, password, now + PAGE_TIME), None);
    }

    #[test]
    fn a_new_password_ends_the_sessions_of_the_old_one() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let token = sessions.begin("admin", "hash", Kind::Header, now).unwrap();
        assert_eq!(sessions.user(&token, Kind::Header, |_| Some("another".to_owned()), now), None);
        assert_eq!(sessions.user(&token, Kind::Header, password, now), None, "it does not come back");
    }

    #[test]
    fn sessions_are_bounded() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let first = sessions.begin("admin", "hash", Kind::Header, now).unwrap();
        let later = now + Duration::from_secs(1);
        let last: Vec<_> =
            (0..MOST_SESSIONS).map(|_| sessions.begin("admin", "hash", Kind::Header, later).unwrap()).collect();
        assert_eq!(sessions.user(&first, Kind::Header, password, later), None);
        assert!(last.iter().all(|token| sessions.user(token, Kind::Header, password, later).is_some()));
    }

    #[test]
    fn wrong_passwords_take_longer_and_longer() {
        let (tries, now) = (Tries::default(), Instant::now());
        let address = |text: &str| text.parse().unwrap();
        for _ in 0..TRIES {
            assert_eq!(tries.take(address("2001:db8::1"), now), Ok(()));
        }
        assert_eq!(tries.take(address("2001:db8::ffff"), now), Err(TRY_TIME), "the same network");
        assert_eq!(tries.take(address("2001:db8:0:1::1"), now), Ok(()));
        assert_eq!(tries.take(address("2001:db8::1"), now + TRY_TIME), Ok(()));
        for _ in 0..100 {
            assert_eq!(tries.take(address("192.0.2.1"), now), Ok(()));
            tries.give_back(address("::ffff:192.0.2.1"));
        }
    }

    #[test]
    fn addresses_are_bounded() {
        let (tries, now) = (Tries::default(), Instant::now());
        for number in 0..MOST_ADDRESSES as u32 {
            assert_eq!(tries.take(IpAddr::V4(number.into()), now), Ok(()));
        }
        assert!(tries.take(address_of(MOST_ADDRESSES as u32), now).is_err());
        assert_eq!(tries.take(address_of(MOST_ADDRESSES as u32), now + TRY_TIME), Ok(()));
    }

    fn address_of(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }
}
