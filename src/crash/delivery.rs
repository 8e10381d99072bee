//! Stores and sends one crash event, for the monitor and the worker alike.

use std::io::Write;
use std::time::Duration;

use data_encoding::HEXLOWER;
use ondat_telemetry_protocol::envelope;
use ondat_telemetry_protocol::time::rfc3339;
use serde_json::Value;

use super::sentry::{self, Dsn};
use crate::crash::limit;
use crate::error::Error;
use crate::outcome;
use crate::spool::{self, Claim, Spool};
use crate::state::{StateDir, layout};
use crate::switch::Switch;
use crate::switches::Permit;
use crate::transport::https::{Content, Https, Request};

/// Where the administrator finds the last crash reports that were delivered.
pub const SENT: &str = layout::SENT_CRASHES;

/// What became of a crash report.
pub enum Sent {
    /// The server has it.
    Delivered,
    /// It will never be sent; why.
    Dropped(String),
    /// It stays stored.
    Later {
        /// What the server asked to wait.
        at_least: Duration,
        /// Why.
        why: String,
    },
}

impl Sent {
    /// Remembers for `status` what became of it; `next` is when it is tried again, where that is known.
    pub fn note(&self, dir: &StateDir, at: i64, next: Option<i64>) {
        match self {
            Self::Delivered => outcome::note_success(dir, Switch::CrashReports),
            Self::Dropped(why) | Self::Later { why, .. } => {
                outcome::note_failure(dir, Switch::CrashReports, at, why, next);
            }
        }
    }
}

/// A new random event id: a version 4 UUID without dashes.
pub fn new_event_id() -> Result<String, Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Error::Internal(format!("no randomness for an event id: {error}")))?;
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    Ok(HEXLOWER.encode(&id))
}

/// Stores a crash event and claims it; it becomes durable when the claim is given up unsent. Also how many older ones had
/// to go.
pub fn store_event<'a>(spool: &'a Spool, event_id: &str, event: &Value) -> Result<(Claim<'a>, usize), Error> {
    let mut draft = spool.create()?;
    draft
        .write_all(event.to_string().as_bytes())
        .map_err(|error| Error::Io(format!("storing a crash report: {error}")))?;
    draft.commit_unsynced(&file_of(event_id))
}

/// Keeps a crash event in memory: the disk does not take it. How many older ones had to go.
pub fn keep_in_memory(spool: &Spool, event_id: &str, event: &Value) -> Result<usize, Error> {
    let mut draft = spool.create_in_memory();
    let written = draft.write_all(event.to_string().as_bytes());
    written.map_err(|error| Error::Io(format!("storing a crash report: {error}")))?;
    Ok(draft.commit(&file_of(event_id))?.1)
}

/// The name under which an event is stored.
pub fn file_of(event_id: &str) -> String {
    format!("{event_id}.json")
}

/// Removes the stored events, and what is remembered of those that were sent.
pub fn purge(dir: &StateDir) -> Result<(), Error> {
    let waiting = Spool::new(Some(dir), layout::CRASHES, spool::CRASHES).purge();
    waiting.and(limit::forget(dir))
}

/// Posts a stored crash event; the monitor and the worker use it alike. It also returns how long the server asks us to
/// wait. `now` is in Unix seconds.
pub fn send_event(
    https: &dyn Https,
    permit: Permit,
    dsn: &Dsn,
    mut claim: Claim<'_>,
    now: i64,
    timeout: Duration,
) -> Result<(Sent, Option<Duration>), Error> {
    let event = claim.bytes()?;
    let Some(envelope) = envelope::write(&event, &rfc3339(now)) else {
        let why = format!("the stored crash report {} is damaged and set aside", claim.name());
        claim.set_aside()?;
        return Ok((Sent::Dropped(why), None));
    };
    let url = dsn.endpoint().to_string();
    let request = Request {
        method: "POST",
        url: &url,
        headers: &[("Content-Type", "application/x-sentry-envelope"), ("X-Sentry-Auth", &dsn.auth())],
        content: Content::Bytes(&envelope),
        wants: &sentry::WANTED,
        timeout,
    };
    let answer = match https.send(permit, &request) {
        Ok(answer) => answer,
        Err(error @ Error::Disabled(_)) => return Err(error),
        Err(error) => return Ok((Sent::Later { at_least: Duration::ZERO, why: error.to_string() }, None)),
    };
    let sent = match sentry::outcome(&answer, now) {
        sentry::Outcome::Delivered => {
            claim.remove_to(SENT, &event)?;
            Sent::Delivered
        }
        sentry::Outcome::Rejected => {
            claim.remove()?;
            Sent::Dropped(format!("{url} refused the crash report for good (HTTP {}); it is dropped", answer.status))
        }
        sentry::Outcome::Later(at_least) => {
            Sent::Later { at_least, why: format!("{url} answered HTTP {}", answer.status) }
        }
    };
    Ok((sent, sentry::rate_limit(&answer, now)))
}
