//! The sessions of users who are logged in.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ondat_telemetry::error::Error;
use sha2::{Digest, Sha256};

/// How long a token is valid, as in the product. Its clients refresh the token before that.
pub(crate) const TOKEN_TIME: Duration = Duration::from_secs(300);
/// The longest session of the page, even if the page is in use.
const PAGE_TIME: Duration = Duration::from_secs(12 * 3_600);
/// The most sessions of each kind. One more ends the session of its kind that would end first. A program that logs in for each call
/// thus never ends a person's session on the page.
const MOST_SESSIONS: usize = 256;

/// Where a client sends its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In a header. The session ends when its time is over.
    Header,
    /// In the page's cookie. The session is extended while the page is open.
    Cookie,
}

/// The sessions by the hashes of their tokens.
#[derive(Default)]
pub(crate) struct Sessions {
    sessions: Mutex<BTreeMap<[u8; 32], Session>>,
}

#[derive(Clone)]
struct Session {
    user: String,
    /// The hash of the password at the start of the session. A new password ends the sessions of the old one.
    password: String,
    kind: Kind,
    until: Instant,
    longest: Instant,
}

impl Sessions {
    /// Starts a session and returns its token.
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
        let of_kind = || sessions.iter().filter(|(_, session)| session.kind == kind);
        if of_kind().count() >= MOST_SESSIONS
            && let Some(first) = of_kind().min_by_key(|(_, session)| session.until).map(|(hash, _)| *hash)
        {
            sessions.remove(&first);
        }
        sessions.insert(hash(&token), session);
        Ok(token)
    }

    /// Returns the user of this token. None: the session has ended, or the user's password hash has changed.
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
        // `password_of` reads the disk, so the lock is not held.
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

/// Returns the hash that is kept instead of the token. A copy of this process's memory thus gives no access.
fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Returns the value that the page must send besides its cookie. Another site cannot read it.
pub(crate) fn csrf(token: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(format!("csrf {token}").as_bytes())[..16])
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
        let page = sessions.begin("admin", "hash", Kind::Cookie, now).unwrap();
        let later = now + Duration::from_secs(1);
        let last: Vec<_> =
            (0..MOST_SESSIONS).map(|_| sessions.begin("admin", "hash", Kind::Header, later).unwrap()).collect();
        assert_eq!(sessions.user(&first, Kind::Header, password, later), None);
        assert!(last.iter().all(|token| sessions.user(token, Kind::Header, password, later).is_some()));
        assert!(sessions.user(&page, Kind::Cookie, password, later).is_some(), "the page's is of another kind");
    }
}
