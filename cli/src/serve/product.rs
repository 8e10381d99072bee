//! The product's calls, as its operators and its command line use them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use ondat_telemetry::error::Error;
use ondat_telemetry::switch::Switch;
use ondat_telemetry_protocol::time::rfc3339;
use ondat_telemetry_service::places::Place;
use ondat_telemetry_service::refusal::Refusal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::{boolean, nothing, object, object_outside, required, text};
use super::gate::Caller;
use super::log::Level;
use super::sessions::{Kind, TOKEN_TIME};
use super::{App, blocking, refusal};
use crate::administration::{self, Changed, LOG_FORMATS, LOG_LEVELS, Speaker, Word};
use crate::daemons::Daemons;
use crate::settings::Settings;
use crate::status::node_name;
use crate::users::{LONGEST_NAME, LONGEST_PASSWORD};

/// A user's name and password in a body.
pub(super) async fn credentials(request: Request) -> Result<(String, String), Refusal> {
    let body = object_outside(request).await?;
    let (user, password) = (required(&body, "username")?, required(&body, "password")?);
    if user.len() > LONGEST_NAME || password.len() > LONGEST_PASSWORD {
        return Err(Refusal::bad("the user's name or the password is too long"));
    }
    Ok((user.to_owned(), password.to_owned()))
}

/// `POST /v2/auth/login`.
pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
) -> Result<Response, Refusal> {
    let (user, password) = credentials(request).await?;
    let hash = app.check(&user, password, from, &place).await?;
    let token = app.sessions.begin(&user, &hash, Kind::Header, Instant::now())?;
    Ok(session(&user, &token, "Authorization-Expires-Seconds"))
}

/// `POST /v2/auth/refresh`: a new token; the one that is shown stays good for its time, as others may be using it.
pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Refusal> {
    nothing(request).await?;
    let user = caller.user.clone();
    let (hash, app) = blocking(move || (app.password_of(&user), app)).await?;
    let hash = hash.ok_or_else(refusal::login)?;
    let token = app.sessions.begin(&caller.user, &hash, Kind::Header, Instant::now())?;
    Ok(session(&caller.user, &token, "Authorization-Expires-In"))
}

/// The operators read the token in the header and take what follows the space; the command line reads it in the body.
fn session(user: &str, token: &str, expires: &'static str) -> Response {
    let seconds = TOKEN_TIME.as_secs();
    let headers = [(AUTHORIZATION.as_str(), format!("Bearer {token}")), (expires, seconds.to_string())];
    let body = json!({ "session": { "token": token, "expiresInSeconds": seconds }, "username": user });
    (headers, Json(body)).into_response()
}

/// `GET /v2/cluster`: the caller's own word, and beside it what is true with all sources counted.
pub(super) async fn cluster(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        let settings = app.settings();
        Ok(Json(as_json(&settings, &administration::read(&app.dir), caller.actor().speaker())?))
    })
    .await?
}

/// Whether the version of the settings is compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Force {
    #[serde(default, rename = "ignore-version")]
    ignore_version: bool,
}

/// The query of a change, understood or refused.
pub(super) type ForceQuery = Result<Query<Force>, axum::extract::rejection::QueryRejection>;

/// The version that must still be there, none where the caller does not mind.
pub(super) fn expected_version(force: ForceQuery, body: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let Query(force) = force.map_err(|_| Refusal::bad("the only parameter is ignore-version=true or false"))?;
    let version = text(body, "version")?;
    match (force.ignore_version, version) {
        (true, _) => Ok(None),
        (false, Some(version)) => Ok(Some(version.to_owned())),
        (false, None) => Err(Refusal::bad("version is required, as it was read, unless ignore-version=true")),
    }
}

/// `PUT /v2/cluster`: replaces all three switches of the caller's own word. The Go clients leave out what is false.
pub(super) async fn update_cluster(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    force: ForceQuery,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let body = object(request).await?;
    let expected = expected_version(force, &body)?;
    let mut off = Vec::new();
    for switch in Switch::ALL {
        let name = switch.row().product;
        off.push((switch, boolean(&body, name)?.unwrap_or(false)));
    }
    let level = choice(&body, "logLevel", &LOG_LEVELS)?;
    let format = choice(&body, "logFormat", &LOG_FORMATS)?;
    blocking(move || {
        let settings = app.settings();
        let actor = caller.actor();
        let speaker = actor.speaker();
        let changed = administration::change(&app.dir, &actor, expected.as_deref(), |word| {
            for (switch, is_off) in off {
                word.set(speaker, switch, !is_off);
            }
            // What their clients leave out stays as it is: all of them send both.
            level.into_iter().for_each(|level| word.set_log_level(level));
            format.into_iter().for_each(|format| word.set_log_format(format));
        })?;
        app.follow(&caller, &changed);
        Ok(Json(as_json(&settings, &Ok(changed.word), speaker)?))
    })
    .await?
}

fn choice(body: &Map<String, Value>, name: &str, known: &[&'static str]) -> Result<Option<&'static str>, Refusal> {
    let Some(value) = text(body, name)? else { return Ok(None) };
    let found = known.iter().find(|known| **known == value).copied();
    found.map(Some).ok_or_else(|| Refusal::bad(format!("{name} is not one of {}", known.join(", "))))
}

impl App {
    /// Somebody has changed the settings.
    pub(super) fn follow(&self, caller: &Caller, changed: &Changed) {
        self.log.follow(&changed.word);
        let from = caller.address.ip().to_canonical();
        self.log.say(Level::Info, &format!("{} from {from} has {}", caller.user, changed.what));
    }
}

/// A cluster in the product's terms, by the word of this one: an operator compares it with the cluster's resource, and writes as
/// long as the two differ. An unreadable switches.json is all off.
fn as_json(settings: &Settings, word: &Result<Word, String>, speaker: Speaker) -> Result<Value, Error> {
    let sources = settings.sources()?;
    let mut cluster = Map::new();
    let id = Daemons::read(settings, sources.processes(), &[]).value("cluster_id");
    if !id.is_null() {
        cluster.insert("id".to_owned(), id);
    }
    for switch in Switch::ALL {
        let name = switch.row().product;
        let is_off = !word.as_ref().is_ok_and(|word| word.is_on(speaker, switch));
        cluster.insert(name.to_owned(), is_off.into());
    }
    let word = word.as_ref().ok();
    cluster.insert("logLevel".to_owned(), word.map_or(LOG_LEVELS[0], Word::log_level).into());
    cluster.insert("logFormat".to_owned(), word.map_or(LOG_FORMATS[0], Word::log_format).into());
    for (name, at) in [("createdAt", word.and_then(Word::created_at)), ("updatedAt", word.and_then(Word::updated_at))] {
        if let Some(at) = at {
            cluster.insert(name.to_owned(), rfc3339(at).into());
        }
    }
    cluster.insert("version".to_owned(), word.map_or("unreadable", Word::version).into());
    cluster.insert("switches".to_owned(), sources.explain());
    Ok(Value::Object(cluster))
}

/// `GET /v2/nodes`: the node this runs on, which is the only one that is known here.
pub(super) async fn nodes(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    blocking(move || {
        let settings = app.settings();
        let id = Daemons::read(&settings, settings.sources()?.processes(), &[]).value("node_id");
        Ok(Json(if id.is_null() { json!([]) } else { json!([{ "id": id, "name": node_name(), "health": "online" }]) }))
    })
    .await?
}
