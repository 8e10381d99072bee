//! `PUT /v1/reports/{report_id}`: stores sealed reports unchanged. Nothing here can open one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry_protocol::frame::Frame;
use ondat_telemetry_protocol::header::{Damage, Header};
use ondat_telemetry_protocol::identity::is_hex_id;
use ondat_telemetry_protocol::limits::SEALED_REPORT_BYTES;
use ondat_telemetry_service::body::{self, BodyFault, Limits};
use ondat_telemetry_service::refusal::Refusal;

use crate::budget::{Body, Budget};
use crate::complaints::Complaints;
use crate::counters::{Count, Counters};
use crate::keeping::{Keeper, Kept};
use crate::key_rules::{KeyRules, KeyVerdict};
use crate::layout::ReportPlace;
use crate::limits;

/// The header of every answer. A sender believes a refusal only with it, because proxies answer 4xx as well.
const MARKER: &str = "ondat-telemetry";
const MEDIA_TYPE: &str = "application/vnd.ondat.telemetry-report";
const LIMITS: Limits = limits::body(SEALED_REPORT_BYTES);

/// The parts that receive reports.
pub(crate) struct ReportIntake {
    pub(crate) keeper: Keeper,
    pub(crate) keys: KeyRules,
    pub(crate) budget: Arc<Budget>,
    pub(crate) networks: limits::Networks,
    pub(crate) counters: Arc<Counters>,
    pub(crate) complaints: Complaints,
}

/// The routes below `/v1`.
pub(crate) fn routes(intake: Arc<ReportIntake>) -> Router {
    Router::new()
        .route(
            "/reports/{report_id}",
            put(put_report)
                .fallback(async || Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "a report is sent with PUT").line()),
        )
        .with_state(intake)
}

/// Adds the marker to an answer.
pub(crate) async fn mark(mut response: Response) -> Response {
    response.headers_mut().insert(MARKER, HeaderValue::from_static("1"));
    response
}

/// The counter and the answer of a refused report.
struct Refused(Count, Refusal);

async fn put_report(
    State(intake): State<Arc<ReportIntake>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let id = path.map(|Path(id)| id).unwrap_or_default();
    if let Err(why) = check_request(&id, &request) {
        body::discard(request, &LIMITS).await;
        intake.counters.add(Count::Malformed);
        return why.line();
    }
    let (count, response) = match intake.receive(&id, intake.networks.of(address.ip()), request).await {
        Ok(Kept::New) => (Count::Accepted, StatusCode::CREATED.into_response()),
        Ok(Kept::Beside) => (Count::Beside, StatusCode::CREATED.into_response()),
        Ok(Kept::AlreadyThere) => (Count::Duplicate, StatusCode::ALREADY_REPORTED.into_response()),
        // The day has its report, three times over. A refusal for good would look like a fault to a sender that makes its report
        // anew after each restart.
        Ok(Kept::OneTooMany) => (Count::OneTooMany, StatusCode::ALREADY_REPORTED.into_response()),
        Err(Refused(count, why)) => (count, why.line()),
    };
    intake.counters.add(count);
    response
}

fn check_request(id: &str, request: &Request) -> Result<(), Refusal> {
    if !is_hex_id(id) {
        return Err(Refusal::bad("a report id is 32 lower-case hex digits"));
    }
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Parameters after a semicolon are ignored.
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case(MEDIA_TYPE) {
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("a report is {MEDIA_TYPE}")));
    }
    Ok(())
}

impl ReportIntake {
    async fn receive(&self, id: &str, network: Option<IpAddr>, request: Request) -> Result<Kept, Refused> {
        let (header, mut body) = self.read(network, request).await?;
        let its_id = header.report_id_hex();
        if its_id != id {
            let why = format!("the report's id is {its_id}, not the path's");
            return Err(Refused(Count::Malformed, Refusal::bad(why)));
        }
        let now = unix_now();
        let verdict = self.keys.judge(header.key_id, body.length(), now);
        match verdict {
            KeyVerdict::Known | KeyVerdict::Unknown => {}
            KeyVerdict::OverQuota => {
                return Err(Refused(
                    Count::OverQuota,
                    limits::later("too many reports for keys that are unknown here"),
                ));
            }
            KeyVerdict::Destroyed => {
                let why = format!("key {} was destroyed: nobody can open this report", header.key_id_hex());
                return Err(Refused(Count::Destroyed, Refusal::new(StatusCode::MISDIRECTED_REQUEST, why)));
            }
        }
        let kept = self.keeper.keep_report(&ReportPlace::new(&header, now), &body.pieces()).await;
        let is_new = matches!(kept, Ok(Kept::New | Kept::Beside));
        if verdict == KeyVerdict::Unknown {
            match is_new {
                true => self.counters.add(Count::UnknownKey),
                false => self.keys.give_back(body.length(), now),
            }
        }
        kept.map_err(|why| {
            self.complaints.say(&format!("cannot store a report: {why}"));
            Refused(Count::ReportFailed, limits::later("the report could not be stored"))
        })
    }

    /// Reads a report. A body that is no report, or for which there is no room, is read to its end and dropped: a sender that
    /// is still writing would otherwise see only a broken connection.
    async fn read(&self, network: Option<IpAddr>, request: Request) -> Result<(Header, Body), Refused> {
        let mut body = self.budget.body(network);
        let mut frame = Ok(Frame::new());
        let mut has_room = true;
        let received = body::receive(request, &LIMITS, |piece| {
            if let Ok(followed) = &mut frame
                && let Err(damage) = followed.push(piece)
            {
                frame = Err(damage);
            }
            has_room = has_room && (frame.is_err() || body.push(piece).is_ok());
            if frame.is_err() || !has_room {
                body.clear();
            }
            Ok(())
        });
        received.await.map_err(|fault| match fault {
            BodyFault::TooBig => Refused(Count::TooBig, too_big()),
            fault => Refused(Count::Broken, broken(&fault)),
        })?;
        let header = frame.and_then(Frame::finish).map_err(|why| Refused(Count::Malformed, no_report(why)))?;
        if !has_room {
            return Err(Refused(Count::OverBudget, limits::later("too many reports at once")));
        }
        Ok((header, body))
    }
}

fn no_report(why: Damage) -> Refusal {
    Refusal::bad(format!("this is no whole sealed report: {why}"))
}

fn too_big() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a report is at most {SEALED_REPORT_BYTES} bytes"))
}

fn broken(fault: &BodyFault) -> Refusal {
    match fault {
        BodyFault::TooSlow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the report did not arrive in time"),
        // The sender has probably gone. 408 asks for another try.
        _ => Refusal::new(StatusCode::REQUEST_TIMEOUT, "the report did not arrive whole"),
    }
}
