//! `POST /api/{project}/envelope/`: accepts crash reports as Sentry does.

use std::io::{self, Read, Write};
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_ENCODING;
use axum::response::Response;
use axum::routing::post;
use flate2::read::MultiGzDecoder;
use ondat_telemetry_protocol::dsn::Dsn;
use ondat_telemetry_protocol::envelope::{Envelope, Item};
use ondat_telemetry_protocol::event;
use ondat_telemetry_protocol::limits::ENVELOPE_BYTES;
use ondat_telemetry_service::answer;
use ondat_telemetry_service::body::{self, BodyFault, Limits};
use ondat_telemetry_service::refusal::Refusal;
use serde_json::{Map, Value, json};

use crate::fault;
use crate::limits;
use crate::store::{Shelf, Store};

/// The only project.
pub(crate) const PROJECT: &str = "1";
const LIMITS: Limits = limits::body(ENVELOPE_BYTES);
/// Where Sentry's own server says why.
const DETAIL: &str = "detail";

/// What receiving crash reports takes.
pub(crate) struct CrashIntake {
    pub(crate) store: Arc<Store>,
    /// The public key of the DSN.
    pub(crate) public_key: String,
}

/// The routes below `/api`.
pub(crate) fn routes(intake: Arc<CrashIntake>) -> Router {
    // Sentry's own server takes both spellings.
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
            return why.line_of(DETAIL);
        }
    };
    match receive(intake, key, request).await {
        Ok(Some(event_id)) => answer::line(StatusCode::OK, &json!({ "id": event_id })),
        Ok(None) => answer::line(StatusCode::OK, &json!({})),
        Err(why) => why.line_of(DETAIL),
    }
}

/// Where a request may say that it knows the public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authentication {
    /// It did so outside the body.
    Done,
    /// Only the envelope's header is left.
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
    intake: Arc<CrashIntake>,
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
    // Parsing and waiting for the disk must not hold up other connections.
    let stored = tokio::task::spawn_blocking(move || store_envelope(&intake, authentication, &bytes)).await;
    stored.unwrap_or_else(|why| Err(cannot_store(io::Error::other(why))))
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

fn store_envelope(
    intake: &CrashIntake,
    authentication: Authentication,
    bytes: &[u8],
) -> Result<Option<String>, Refusal> {
    let malformed = |why: String| Refusal::bad(format!("malformed envelope: {why}"));
    let envelope = match Envelope::parse(bytes) {
        Ok(envelope) => envelope,
        // A stranger is told that they are one, and not what is wrong with their envelope.
        Err(_) if authentication == Authentication::InEnvelope => return Err(not_authenticated()),
        Err(why) => return Err(malformed(why)),
    };
    check_dsn(intake, authentication, &envelope.header)?;
    let mut last_id = None;
    for item in envelope.items.iter().filter(|item| item.kind() == "event") {
        let id = event_id(item, &envelope.header).map_err(malformed)?;
        store_event(&intake.store, &id, item.payload).map_err(cannot_store)?;
        last_id = Some(id);
    }
    Ok(last_id)
}

fn check_dsn(intake: &CrashIntake, authentication: Authentication, header: &Map<String, Value>) -> Result<(), Refusal> {
    let dsn = header.get("dsn").and_then(Value::as_str);
    let is_ours = |dsn: &Dsn| dsn.public_key == intake.public_key && dsn.project == PROJECT;
    match (dsn, authentication) {
        (None, Authentication::Done) => Ok(()),
        (Some(dsn), _) if Dsn::parse(dsn).as_ref().is_ok_and(is_ours) => Ok(()),
        _ => Err(not_authenticated()),
    }
}

/// The id of an event: its own, else the envelope's.
fn event_id(item: &Item<'_>, header: &Map<String, Value>) -> Result<String, String> {
    let event: Map<String, Value> =
        serde_json::from_slice(item.payload).map_err(|why| format!("an event is no JSON object ({why})"))?;
    let id = event.get("event_id").or_else(|| header.get("event_id")).and_then(Value::as_str);
    let id = id.ok_or("an event has no event_id")?;
    event::event_id(id).ok_or_else(|| "an event_id is 32 hex digits".to_owned())
}

fn store_event(store: &Store, id: &str, event: &[u8]) -> io::Result<()> {
    let mut incoming = store.begin()?;
    incoming.write_all(event)?;
    // The same event sent again is one event.
    store.keep(incoming, Shelf::Crashes, id).map(|_| ())
}

fn body_refusal(fault: BodyFault) -> Refusal {
    match fault {
        BodyFault::TooBig => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("an envelope is at most {ENVELOPE_BYTES} bytes"))
        }
        BodyFault::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the envelope did not arrive in time"),
        BodyFault::Broken => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the envelope did not arrive whole"),
        BodyFault::Disk(why) => cannot_store(why),
    }
}

fn cannot_store(why: io::Error) -> Refusal {
    fault::complain(&format!("cannot store a crash report: {why}"));
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the crash report could not be stored")
}

#[cfg(test)]
mod tests {
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
