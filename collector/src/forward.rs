//! Forwards crash reports to Sentry's server. They were stored and acknowledged before: what that server does, and when this
//! process ends, changes nothing but when they arrive there.
//!
//! A note in `unsent/` says what is still to be forwarded. It is stored before the crash report, and removed when the server
//! has it. Notes of edges that are gone are followed by the others after an hour; the event's id is the same on every try.

use std::sync::Arc;
use std::time::Duration;

use ondat_telemetry::crash::sentry::{self, Dsn, Outcome};
use ondat_telemetry::error::Error;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry::transport::https::Response;
use ondat_telemetry_protocol::envelope;
use ondat_telemetry_protocol::time::rfc3339;
use reqwest::Client;
use reqwest::redirect::Policy;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::complaints::Complaints;
use crate::counters::{Count, Counters};
use crate::fault::internal;
use crate::layout::UNSENT;
use crate::storage::{Storage, StorageFault};

/// The longest time of one request.
const TIME: Duration = Duration::from_secs(30);
/// The pause after the first failure. It doubles with each failure up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// How often an edge looks for notes that others have left.
const LOOK: Duration = Duration::from_secs(900);
/// The age at which another edge's note counts as left, in seconds.
const LEFT_AFTER: i64 = 3600;
/// The age at which a note without a crash report is removed, in seconds: its sender has tried again by then, or given up.
const EMPTY_AFTER: i64 = 86_400;
/// The most notes that are listed at once.
const NOTES: usize = 1000;
/// How many bytes of a refusal are read.
const ANSWER_BYTES: usize = 16 << 10;
/// The members of an event that could identify its sender. The library sends none of them, but another sender might.
const NOT_FORWARDED: [&str; 3] = ["user", "request", "server_name"];

/// Forwards the crash reports for which there are notes.
pub(crate) struct Forwarder {
    storage: Arc<dyn Storage>,
    dsn: Dsn,
    client: Client,
    /// The id of this edge in the names of its notes.
    edge: String,
    wake: Notify,
    counters: Arc<Counters>,
    complaints: Complaints,
}

/// The result of following one note.
enum Done {
    /// The note was removed.
    Gone,
    /// The note stays, and is followed again later.
    Stays,
    /// Nothing is sent for this time. None: for the pause that doubles.
    Pause(Option<Duration>),
}

impl Forwarder {
    /// Creates a forwarder to this DSN.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        dsn: &str,
        edge: String,
        counters: Arc<Counters>,
    ) -> Result<Arc<Self>, Error> {
        let dsn = Dsn::parse(dsn).map_err(|why| Error::InvalidArgument(format!("--forward-crashes: {why}")))?;
        let client = Client::builder().redirect(Policy::none()).timeout(TIME).user_agent("ondat-telemetry").build();
        let client = client.map_err(|why| internal("--forward-crashes", why))?;
        let (wake, complaints) = (Notify::new(), Complaints::default());
        Ok(Arc::new(Self { storage, dsn, client, edge, wake, counters, complaints }))
    }

    /// Returns the name of the note about an event that arrives now. Names sort by time.
    pub(crate) fn note(&self, event_id: &str, now: i64) -> String {
        format!("{UNSENT}/{now:010}-{}-{event_id}", self.edge)
    }

    /// Tells the forwarder that there is a new note.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Forwards for as long as the process lives.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.follow_notes().await {
                Ok(None) => {
                    pause = FIRST_PAUSE;
                    // New notes wake it. Notes that others have left do not.
                    let _ = timeout(LOOK, self.wake.notified()).await;
                }
                Ok(Some(Some(asked))) => sleep(asked).await,
                Ok(Some(None)) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(why) => {
                    self.complaints.say(&format!("cannot read what crash reports are to be forwarded: {why}"));
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Follows all notes until none is left, or a pause is requested. The inner value is the length of the pause, if the server
    /// named one.
    async fn follow_notes(&self) -> Result<Option<Option<Duration>>, StorageFault> {
        loop {
            let (mut gone, notes) = (0, self.storage.beginning(UNSENT, "", NOTES).await?);
            for note in &notes {
                let Some((at, event_id)) = self.is_due(note, unix_now()) else { continue };
                match self.follow(note, at, event_id).await? {
                    Done::Gone => gone += 1,
                    Done::Stays => {}
                    Done::Pause(time) => return Ok(Some(time)),
                }
            }
            if gone == 0 || notes.len() < NOTES {
                return Ok(None);
            }
        }
    }

    /// Returns the time and the event id of a note. None: another edge is to follow it.
    fn is_due<'a>(&self, note: &'a str, now: i64) -> Option<(i64, &'a str)> {
        let mut parts = note.split('-');
        let (at, edge, event_id) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        (edge == self.edge || now - LEFT_AFTER >= at).then_some((at, event_id))
    }

    async fn follow(&self, note: &str, at: i64, event_id: &str) -> Result<Done, StorageFault> {
        let note = format!("{UNSENT}/{note}");
        let Some(name) = self.storage.read(&note).await? else { return Ok(Done::Gone) };
        let Some(event) = self.storage.read(&String::from_utf8_lossy(&name)).await? else {
            if unix_now() - EMPTY_AFTER < at {
                return Ok(Done::Stays);
            }
            self.storage.remove(&note).await?;
            return Ok(Done::Gone);
        };
        let Some(envelope) = envelope_of(&event, event_id) else {
            // The event was an object when it was stored.
            self.complaints.say(&format!("cannot forward crash report {event_id}: it is damaged"));
            return Ok(Done::Stays);
        };
        let answer = match self.post(envelope).await {
            Ok(answer) => answer,
            Err(why) => {
                self.counters.add(Count::ForwardFailed);
                self.complaints.say(&format!("cannot forward crash reports to {}: {why}", self.dsn.endpoint()));
                return Ok(Done::Pause(None));
            }
        };
        let now = unix_now();
        match sentry::outcome(&answer, now) {
            Outcome::Delivered => self.counters.add(Count::Forwarded),
            Outcome::Rejected => {
                self.counters.add(Count::ForwardRejected);
                let why = format!("{} refuses crash report {event_id} (HTTP {})", self.dsn.endpoint(), answer.status);
                self.complaints.say(&format!("{why}: it stays stored here"));
            }
            Outcome::Later(time) => {
                self.counters.add(Count::ForwardFailed);
                let why = format!("{} takes no crash reports now (HTTP {})", self.dsn.endpoint(), answer.status);
                self.complaints.say(&why);
                return Ok(Done::Pause(Some(time).filter(|time| !time.is_zero())));
            }
        }
        self.storage.remove(&note).await?;
        Ok(match sentry::rate_limit(&answer, now) {
            Some(time) => Done::Pause(Some(time)),
            None => Done::Gone,
        })
    }

    /// Posts an envelope. The request contains nothing of its original sender.
    async fn post(&self, envelope: Vec<u8>) -> reqwest::Result<Response> {
        let request = self.client.post(self.dsn.endpoint().to_string()).body(envelope);
        let request = request.header("Content-Type", "application/x-sentry-envelope");
        let mut answer = request.header("X-Sentry-Auth", self.dsn.auth()).send().await?;
        let headers = answer.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let (status, headers, mut body) = (answer.status().as_u16(), headers.collect(), Vec::new());
        if (400..500).contains(&status) {
            while let Some(piece) = answer.chunk().await?.filter(|_| body.len() < ANSWER_BYTES) {
                body.extend_from_slice(&piece);
            }
        }
        Ok(Response { status, headers, body })
    }
}

/// Returns an event as it is forwarded: with its id, and without the members that could identify its sender.
fn envelope_of(event: &[u8], event_id: &str) -> Option<Vec<u8>> {
    let mut event: Map<String, Value> = serde_json::from_slice(event).ok()?;
    event.retain(|name, _| !NOT_FORWARDED.contains(&name.as_str()));
    event.insert("event_id".to_owned(), event_id.into());
    envelope::write(&serde_json::to_vec(&event).ok()?, &rfc3339(unix_now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_say_who_sent_it_is_not_forwarded() {
        let event = br#"{"release":"a","user":{"ip_address":"{{auto}}"},"request":{},"server_name":"x"}"#;
        let envelope = String::from_utf8(envelope_of(event, "ab").unwrap()).unwrap();
        assert_eq!(envelope.lines().nth(2), Some(r#"{"event_id":"ab","release":"a"}"#));
        assert!(envelope_of(b"[]", "ab").is_none());
    }
}
