//! `PUT /v1/reports/{report_id}`: stores sealed reports unchanged. Nothing here can open one.

use std::io::{self, Write};
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use ondat_telemetry_protocol::frame::Frame;
use ondat_telemetry_protocol::header::{Damage, Header};
use ondat_telemetry_protocol::identity::is_hex_id;
use ondat_telemetry_protocol::keys::KeySet;
use ondat_telemetry_protocol::limits::SEALED_REPORT_BYTES;
use ondat_telemetry_service::body::{self, BodyFault, Limits};
use ondat_telemetry_service::refusal::Refusal;

use crate::fault;
use crate::limits;
use crate::store::{Incoming, Kept, Shelf, Store};

/// On every answer: a sender believes a refusal only with it, because proxies answer 4xx as well.
const MARKER: &str = "ondat-telemetry";
const MEDIA_TYPE: &str = "application/vnd.ondat.telemetry-report";
const LIMITS: Limits = limits::body(SEALED_REPORT_BYTES);

/// What receiving reports takes.
pub(crate) struct ReportIntake {
    pub(crate) store: Arc<Store>,
    /// The keys senders may seal for; any, without it.
    pub(crate) keys: Option<KeySet>,
}

/// The routes below `/v1`.
pub(crate) fn routes(intake: Arc<ReportIntake>) -> Router {
    let v1 = Router::new()
        .route("/reports/{report_id}", put(put_report))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing here").line())
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "a report is sent with PUT").line()
        })
        .with_state(intake);
    Router::new().nest("/v1", v1)
}

/// Puts the marker on an answer, whatever it is about.
pub(crate) async fn mark(mut response: Response) -> Response {
    response.headers_mut().insert(MARKER, HeaderValue::from_static("1"));
    response
}

async fn put_report(
    State(intake): State<Arc<ReportIntake>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let id = path.map(|Path(id)| id).unwrap_or_default();
    if let Err(why) = check_request(&id, &request) {
        body::discard(request, &LIMITS).await;
        return why.line();
    }
    match receive(intake, id, request).await {
        Ok(Kept::New) => StatusCode::CREATED.into_response(),
        Ok(Kept::AlreadyThere) => StatusCode::ALREADY_REPORTED.into_response(),
        Err(why) => why.line(),
    }
}

fn check_request(id: &str, request: &Request) -> Result<(), Refusal> {
    if !is_hex_id(id) {
        return Err(Refusal::bad("a report id is 32 lower-case hex digits"));
    }
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Parameters after a semicolon mean nothing here.
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case(MEDIA_TYPE) {
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("a report is {MEDIA_TYPE}")));
    }
    Ok(())
}

async fn receive(intake: Arc<ReportIntake>, id: String, request: Request) -> Result<Kept, Refusal> {
    let mut incoming = intake.store.begin().map_err(cannot_store)?;
    let mut frame = Ok(Frame::new());
    body::receive(request, &LIMITS, |piece| {
        if let Ok(followed) = &mut frame
            && let Err(damage) = followed.push(piece)
        {
            frame = Err(damage);
        }
        // The rest of what is none is read and goes nowhere.
        if frame.is_ok() { incoming.write_all(piece) } else { Ok(()) }
    })
    .await
    .map_err(body_refusal)?;
    check_header(frame.and_then(Frame::finish), &id, intake.keys.as_ref())?;
    keep(intake, incoming, id).await.map_err(cannot_store)
}

fn check_header(header: Result<Header, Damage>, id: &str, keys: Option<&KeySet>) -> Result<(), Refusal> {
    let header = header.map_err(|why| Refusal::bad(format!("this is no whole sealed report: {why}")))?;
    let its_id = header.report_id_hex();
    if its_id != id {
        return Err(Refusal::bad(format!("the report's id is {its_id}, not the path's")));
    }
    if keys.is_some_and(|keys| keys.ids().all(|id| id != header.key_id)) {
        let why = format!("key {} is not one of ours", header.key_id_hex());
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, why));
    }
    Ok(())
}

async fn keep(intake: Arc<ReportIntake>, incoming: Incoming, id: String) -> io::Result<Kept> {
    // Waiting for the disk must not hold up other connections.
    let kept = tokio::task::spawn_blocking(move || intake.store.keep(incoming, Shelf::Reports, &id)).await;
    kept.unwrap_or_else(|why| Err(io::Error::other(why)))
}

fn body_refusal(fault: BodyFault) -> Refusal {
    match fault {
        BodyFault::TooBig => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a report is at most {SEALED_REPORT_BYTES} bytes"))
        }
        BodyFault::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the report did not arrive in time"),
        // Nobody is likely to read this one; 408 asks for another try.
        BodyFault::Broken => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the report did not arrive whole"),
        BodyFault::Disk(why) => cannot_store(why),
    }
}

fn cannot_store(why: io::Error) -> Refusal {
    fault::complain(&format!("cannot store a report: {why}"));
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the report could not be stored")
}
