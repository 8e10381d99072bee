//! `POST /api/{project}/envelope/`: accepts crash reports as Sentry does.

use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use axum::response::Response;
use axum::routing::post;
use flate2::read::MultiGzDecoder;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry_protocol::dsn::Dsn;
use ondat_telemetry_protocol::envelope::{Envelope, Item};
use ondat_telemetry_protocol::event;
use ondat_telemetry_protocol::limits::ENVELOPE_BYTES;
use ondat_telemetry_protocol::time::parse_rfc3339;
use ondat_telemetry_service::answer;
use ondat_telemetry_service::body::{self, BodyFault, Limits};
use ondat_telemetry_service::refusal::Refusal;
use serde_json::{Map, Value, json};

use crate::complaints::Complaints;
use crate::counters::{Count, Counters};
use crate::forward::Forwarder;
use crate::keeping::Keeper;
use crate::layout;
use crate::limits;
use crate::storage::{Pieces, StorageFault};

/// The id of the only project.
pub(crate) const PROJECT: &str = "1";
const LIMITS: Limits = limits::body(ENVELOPE_BYTES);
/// The member in which Sentry's own server gives the reason.
const DETAIL: &str = "detail";

/// The parts that receive crash reports.
pub(crate) struct CrashIntake {
    pub(crate) keeper: Keeper,
    /// The public key of the DSN.
    pub(crate) public_key: String,
    /// The forwarder. None: crash reports are not forwarded.
    pub(crate) forwarder: Option<Arc<Forwarder>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) complaints: Complaints,
}

/// The routes below `/api`.
pub(crate) fn routes(intake: Arc<CrashIntake>) -> Router {
    // Sentry's own server accepts both spellings.
    Router::new()
        .route("/api/{project}/envelope/", post(post_envelope))
        .route("/api/{project}/envelope", post(post_envelope))
        .with_state(intake)
}

async fn post_envelope(
    State(intake): State<Arc<CrashIntake>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let project = path.map(|Path(project)| project).unwrap_or_default();
    let key = match check_request(&intake, &project, &request) {
        Ok(key) => key,
        Err(why) => {
            body::discard(request, &LIMITS).await;
            intake.counters.add(Count::CrashRefused);
            return why.line_of(DETAIL);
        }
    };
    match receive(&intake, key, request).await {
        Ok(Some(event_id)) => answer::line(StatusCode::OK, &json!({ "id": event_id })),
        Ok(None) => answer::line(StatusCode::OK, &json!({})),
        Err(why) => {
            let is_ours = why.status() == StatusCode::SERVICE_UNAVAILABLE;
            intake.counters.add(if is_ours { Count::CrashFailed } else { Count::CrashRefused });
            why.line_of(DETAIL)
        }
    }
}

/// How a request has shown that it knows the public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authentication {
    /// In the URL or a header.
    Done,
    /// Not yet. Only the envelope's header can still show it.
    InEnvelope,
}

fn check_request(intake: &CrashIntake, project: &str, request: &Request) -> Result<Authentication, Refusal> {
    if project != PROJECT {
        return Err(Refusal::new(StatusCode::FORBIDDEN, format!("the only project is {PROJECT}")));
    }
    let header = request.headers().get("x-sentry-auth").map(|value| value.to_str().unwrap_or_default());
    let key = match header {
        Some(header) => Some(key_in_header(header).unwrap_or_default()),
        None => request.uri().query().and_then(key_in_query),
    };
    match key {
        Some(key) if key == intake.public_key => Ok(Authentication::Done),
        Some(_) => Err(not_authenticated()),
        None => Ok(Authentication::InEnvelope),
    }
}

fn key_in_header(header: &str) -> Option<&str> {
    let fields = header.trim().strip_prefix("Sentry ").unwrap_or(header);
    fields.split(',').find_map(|field| field.trim().strip_prefix("sentry_key="))
}

fn key_in_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|field| field.strip_prefix("sentry_key="))
}

fn not_authenticated() -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "the public key (sentry_key) is missing or not the one of this collector")
}

async fn receive(
    intake: &CrashIntake,
    authentication: Authentication,
    request: Request,
) -> Result<Option<String>, Refusal> {
    let encoding = request.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").to_owned());
    let mut bytes = Vec::new();
    body::receive(request, &LIMITS, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })
    .await
    .map_err(body_refusal)?;
    let bytes = unpack(bytes, encoding.as_deref())?;
    let mut last_id = None;
    for (id, happened, event) in events(&intake.public_key, authentication, &bytes)? {
        intake.keep(&id, happened, event).await.map_err(|why| {
            intake.complaints.say(&format!("cannot store a crash report: {why}"));
            limits::later("the crash report could not be stored")
        })?;
        intake.counters.add(Count::Crash);
        last_id = Some(id);
    }
    Ok(last_id)
}

impl CrashIntake {
    /// Stores an event. An event that is sent again is stored once.
    async fn keep(&self, id: &str, happened: Option<i64>, event: Pieces) -> Result<(), StorageFault> {
        let now = unix_now();
        let name = layout::crash(id, happened, now);
        let Some(forwarder) = &self.forwarder else { return self.keeper.keep_crash(&name, &event, None).await };
        // The note comes first, so that a stored event is forwarded whenever this process ends.
        let note = (forwarder.note(id, now), Pieces::from(name.clone()));
        self.keeper.keep_crash(&name, &event, Some((&note.0, &note.1))).await?;
        forwarder.wake();
        Ok(())
    }
}

fn unpack(bytes: Vec<u8>, encoding: Option<&str>) -> Result<Vec<u8>, Refusal> {
    match encoding {
        None | Some("" | "identity") => Ok(bytes),
        Some("gzip") => {
            let mut unpacked = Vec::new();
            let read = MultiGzDecoder::new(bytes.as_slice()).take(ENVELOPE_BYTES + 1).read_to_end(&mut unpacked);
            match read {
                Ok(_) if unpacked.len() as u64 > ENVELOPE_BYTES => Err(body_refusal(BodyFault::TooBig)),
                Ok(_) => Ok(unpacked),
                Err(why) => Err(Refusal::bad(format!("the body is no gzip: {why}"))),
            }
        }
        Some(_) => Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the only content encoding is gzip")),
    }
}

/// An event's id, its time in Unix seconds, and its bytes.
type Event = (String, Option<i64>, Pieces);

fn events(public_key: &str, authentication: Authentication, bytes: &[u8]) -> Result<Vec<Event>, Refusal> {
    let malformed = |why: String| Refusal::bad(format!("malformed envelope: {why}"));
    let envelope = match Envelope::parse(bytes) {
        Ok(envelope) => envelope,
        // A sender without the key learns only that the key is missing, not what is wrong with its envelope.
        Err(_) if authentication == Authentication::InEnvelope => return Err(not_authenticated()),
        Err(why) => return Err(malformed(why)),
    };
    check_dsn(public_key, authentication, &envelope.header)?;
    let items = envelope.items.iter().filter(|item| item.kind() == "event");
    items.map(|item| event(item, &envelope.header).map_err(malformed)).collect()
}

fn check_dsn(public_key: &str, authentication: Authentication, header: &Map<String, Value>) -> Result<(), Refusal> {
    let dsn = header.get("dsn").and_then(Value::as_str);
    let is_ours = |dsn: &Dsn| dsn.public_key == public_key && dsn.project == PROJECT;
    match (dsn, authentication) {
        (None, Authentication::Done) => Ok(()),
        (Some(dsn), _) if Dsn::parse(dsn).as_ref().is_ok_and(is_ours) => Ok(()),
        _ => Err(not_authenticated()),
    }
}

/// Returns an event under its own id, or else the envelope's.
fn event(item: &Item<'_>, header: &Map<String, Value>) -> Result<Event, String> {
    let event: Map<String, Value> =
        serde_json::from_slice(item.payload).map_err(|why| format!("an event is no JSON object ({why})"))?;
    let id = event.get("event_id").or_else(|| header.get("event_id")).and_then(Value::as_str);
    let id = id.ok_or("an event has no event_id")?;
    let id = event::event_id(id).ok_or("an event_id is 32 hex digits")?;
    let happened = event.get("timestamp").and_then(|time| match time {
        Value::String(text) => parse_rfc3339(text),
        time => time.as_i64(),
    });
    Ok((id, happened, item.payload.to_vec().into()))
}

fn body_refusal(fault: BodyFault) -> Refusal {
    match fault {
        BodyFault::TooBig => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("an envelope is at most {ENVELOPE_BYTES} bytes"))
        }
        BodyFault::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the envelope did not arrive in time"),
        BodyFault::Broken | BodyFault::Disk(_) => {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "the envelope did not arrive whole")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_key_is_found_where_senders_put_it() {
        assert_eq!(key_in_header("Sentry sentry_version=7, sentry_key=abc, sentry_client=x/1"), Some("abc"));
        assert_eq!(key_in_header("sentry_key=abc"), Some("abc"));
        assert_eq!(key_in_header("Sentry sentry_key=abc,sentry_version=7"), Some("abc"));
        assert_eq!(key_in_header("Sentry sentry_version=7"), None);
        assert_eq!(key_in_query("a=b&sentry_key=abc"), Some("abc"));
    }

    #[test]
    fn a_packed_bomb_is_too_big() {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(&vec![0; 8 << 20]).unwrap();
        assert_eq!(unpack(packer.finish().unwrap(), Some("gzip")).unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
