//! Reads a request's body: one JSON object, bounded in size and time.

use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use ondat_telemetry_protocol::json::read_object;
use ondat_telemetry_service::body::{BodyFault, Limits, receive};
use ondat_telemetry_service::refusal::Refusal;
use serde_json::{Map, Value};

/// The longest body of a client that is logged in, in bytes. Real clients send some hundred bytes.
const LONGEST: u64 = 64 << 10;
/// The longest body of a client that is not logged in, in bytes. Every connection may hold one of these at a time.
const LONGEST_OUTSIDE: u64 = 16 << 10;
/// How many bytes of a longer body are read and dropped, so that the client reads the refusal.
const DROPPED: u64 = 4 << 20;
/// How long a body may take to arrive.
const TIME: Duration = Duration::from_secs(10);

/// Reads the JSON object in the body. A browser sends JSON to another origin only with that origin's permission, so requiring
/// JSON keeps foreign pages out.
pub(crate) async fn object(request: Request) -> Result<Map<String, Value>, Refusal> {
    object_up_to(request, LONGEST).await
}

/// Does the same for a client that is not logged in, with the smaller limit.
pub(crate) async fn object_outside(request: Request) -> Result<Map<String, Value>, Refusal> {
    object_up_to(request, LONGEST_OUTSIDE).await
}

async fn object_up_to(request: Request, longest: u64) -> Result<Map<String, Value>, Refusal> {
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let bytes = bytes(request, longest).await?;
    if media_type != "application/json" {
        let why = "the body must be JSON, with Content-Type: application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    read_object(&bytes).map_err(|error| Refusal::bad(format!("the body is no JSON object: {error}")))
}

/// Reads a body and ignores its content.
pub(crate) async fn nothing(request: Request) -> Result<(), Refusal> {
    bytes(request, LONGEST).await.map(drop)
}

async fn bytes(request: Request, longest: u64) -> Result<Vec<u8>, Refusal> {
    let limits = Limits { longest, dropped: DROPPED, refuses_unread: false, time: TIME, piece_time: TIME, slowest: 0 };
    let mut bytes = Vec::new();
    let received = receive(request, &limits, |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    match received.await {
        Ok(()) => Ok(bytes),
        Err(BodyFault::TooBig) => {
            let why = format!("the body is longer than {longest} bytes");
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Err(BodyFault::TooSlow) => {
            let why = format!("the body took longer than {} s", TIME.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, why))
        }
        Err(BodyFault::Broken | BodyFault::Disk(_)) => Err(Refusal::bad("the body is cut short or malformed")),
    }
}

/// Returns a member that must be true or false. None: the member is absent or null.
pub(crate) fn boolean(object: &Map<String, Value>, name: &str) -> Result<Option<bool>, Refusal> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(Refusal::bad(format!("{name} is not true or false"))),
    }
}

/// Returns a member that must be a string. None: the member is absent or null.
pub(crate) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Refusal> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(_) => Err(Refusal::bad(format!("{name} is not a string"))),
    }
}

/// Returns a member that must be there and be a string.
pub(crate) fn required<'a>(object: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    text(object, name)?.ok_or_else(|| Refusal::bad(format!("{name} is required")))
}
