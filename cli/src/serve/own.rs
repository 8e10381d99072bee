//! Our own calls: the content of `status`, `report history` and `crashes list`, the page's session, and the switches.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use ondat_telemetry::error::Error;
use ondat_telemetry::switch::Switch;
use ondat_telemetry_service::places::Place;
use ondat_telemetry_service::refusal::Refusal;
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::body::{boolean, object};
use super::gate::{Caller, set_cookie};
use super::product::{ForceQuery, credentials, expected_version};
use super::sessions::{Kind, TOKEN_TIME, csrf};
use super::{App, blocking};
use crate::administration::{self, Refused, Speaker, Word};
use crate::settings::Settings;
use crate::{crashes as stored, diagnostics as diagnosis, report, status as state};

/// `POST /v1/session`: the page logs in.
pub(super) async fn begin_session(
    State(app): State<Arc<App>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Result<Response, Refusal> {
    let headers = request.headers().clone();
    let (user, password) = credentials(request).await?;
    let hash = app.check(&user, password, from, &place).await?;
    let token = app.sessions.begin(&user, &hash, Kind::Cookie, Instant::now())?;
    let cookie = set_cookie(&headers, Some(&token), app.has_tls);
    Ok(([(SET_COOKIE, cookie)], Json(session_json(&app, &user, &token))).into_response())
}

/// `GET /v1/session`: the page after it was loaded again.
pub(super) async fn session(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Json<Value> {
    Json(session_json(&app, &caller.user, &caller.token))
}

fn session_json(app: &App, user: &str, token: &str) -> Value {
    json!({
        "username": user, "csrf": csrf(token), "expires_in_seconds": TOKEN_TIME.as_secs(), "plain_http": app.is_plain,
    })
}

/// `DELETE /v1/session`.
pub(super) async fn log_out(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> impl IntoResponse {
    app.sessions.end(&caller.token);
    (StatusCode::NO_CONTENT, [(SET_COOKIE, set_cookie(&headers, None, app.has_tls))])
}

/// `GET /v1/status`.
pub(super) async fn status(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    blocking(move || Ok(Json(state::json(&app.settings())?))).await?
}

/// `GET /v1/version`.
pub(super) async fn version(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    blocking(move || Ok(Json(state::json(&app.settings())?["version_check"].take()))).await?
}

/// `GET /v1/report/preview`: the last report that was made, byte for byte as it was sealed.
pub(super) async fn preview(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let last = blocking(move || report::last_made(&app.dir)).await??;
    let (name, file, length) =
        last.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "no report has been made yet"))?;
    let mut response = Response::new(Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert("ondat-telemetry-report", name);
    }
    Ok(response)
}

/// `GET /v1/reports`.
pub(super) async fn reports(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    blocking(move || Ok(Json(report::json(&app.dir)?))).await?
}

/// `GET /v1/crashes`.
pub(super) async fn crashes(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    blocking(move || Ok(Json(stored::json(&app.dir)?))).await?
}

/// `GET /v1/diagnostics`.
pub(super) async fn diagnostics(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    blocking(move || Ok(Json(diagnosis::json(&app.settings(), &app.dir)))).await?
}

/// `GET /v1/switches`.
pub(super) async fn switches(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        let word = administration::read(&app.dir).map_err(Refused::Unreadable)?;
        Ok(Json(switches_json(&app.settings(), &word, caller.actor().speaker())?))
    })
    .await?
}

/// `PUT /v1/switches`.
pub(super) async fn set_switches(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    force: ForceQuery,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let body = object(request).await?;
    let expected = expected_version(force, &body)?;
    let known = |name: &str| name == "version" || Switch::of_name(name).is_some();
    if let Some(name) = body.keys().find(|name| !known(name)) {
        let known = Switch::ALL.map(Switch::name).join(", ");
        return Err(Refusal::bad(format!("{name:.64} is none of {known}, version")));
    }
    let mut on = Vec::new();
    for switch in Switch::ALL {
        let is_on = boolean(&body, switch.name())?;
        on.push((switch, is_on.ok_or_else(|| Refusal::bad(format!("{} is required", switch.name())))?));
    }
    blocking(move || {
        let settings = app.settings();
        let actor = caller.actor();
        let speaker = actor.speaker();
        let changed = administration::change(&app.dir, &actor, expected.as_deref(), |word| {
            on.into_iter().for_each(|(switch, is_on)| word.set(speaker, switch, is_on));
        })?;
        app.follow(&caller, &changed);
        Ok(Json(switches_json(&settings, &changed.word, speaker)?))
    })
    .await?
}

/// The caller's own word, and what is true with all sources counted.
fn switches_json(settings: &Settings, word: &Word, speaker: Speaker) -> Result<Value, Error> {
    let mut json = word.to_json(speaker);
    json.insert("version".to_owned(), word.version().into());
    json.insert("updated_at".to_owned(), word.updated_at().into());
    json.insert("switches".to_owned(), settings.sources()?.explain());
    Ok(Value::Object(json))
}
