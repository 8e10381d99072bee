//! `/ready`, and `/metrics` on a listener of its own, for operators.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use ondat_telemetry_service::answer;
use ondat_telemetry_service::places::Places;
use ondat_telemetry_service::refusal::Refusal;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::budget::Budget;
use crate::complaints::Complaints;
use crate::counters::Counters;
use crate::storage::Storage;

/// How long an answer of the store is reused, so that nobody can make the edge ask it often.
const FRESH: Duration = Duration::from_secs(10);
/// How long the store may take to answer.
const TIME: Duration = Duration::from_secs(10);

/// The state that both show.
pub(crate) struct Operations {
    storage: Arc<dyn Storage>,
    counters: Arc<Counters>,
    budget: Arc<Budget>,
    places: Arc<Places>,
    /// When the store was last asked, and whether it was ready.
    last: Mutex<Option<(Instant, bool)>>,
    complaints: Complaints,
}

/// The route `/ready` alone, for load balancers. Counts are not shown outside.
pub(crate) fn ready_route(operations: Arc<Operations>) -> Router {
    Router::new().route("/ready", get(ready)).with_state(operations)
}

/// Both routes.
pub(crate) fn routes(operations: Arc<Operations>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(Arc::clone(&operations))
        .merge(ready_route(operations))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is nothing here").line())
}

impl Operations {
    /// Creates it. The store has not been asked yet.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        counters: &Arc<Counters>,
        budget: &Arc<Budget>,
        places: &Arc<Places>,
    ) -> Self {
        let (counters, budget, places) = (Arc::clone(counters), Arc::clone(budget), Arc::clone(places));
        Self { storage, counters, budget, places, last: Mutex::default(), complaints: Complaints::default() }
    }

    /// Whether the store is ready, or was at most [`FRESH`] ago.
    async fn is_ready(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((_, is_ready)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return is_ready;
        }
        let checked = timeout(TIME, self.storage.check()).await;
        let why = match checked {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why.to_string()),
            Err(_) => Some(format!("the store did not answer within {} s", TIME.as_secs())),
        };
        if let Some(why) = &why {
            self.complaints.say(&format!("not ready: {why}"));
        }
        *last = Some((Instant::now(), why.is_none()));
        why.is_none()
    }
}

async fn ready(State(operations): State<Arc<Operations>>) -> Response {
    match operations.is_ready().await {
        true => answer::line(StatusCode::OK, &json!({ "ready": true })),
        false => answer::line(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false })),
    }
}

async fn metrics(State(operations): State<Arc<Operations>>) -> Response {
    let is_ready = operations.is_ready().await;
    let text = operations.counters.text(&[
        ("ready", "Whether the store would take something now.", u64::from(is_ready)),
        ("bytes_in_flight", "Bytes of reports that are received and not yet stored.", operations.budget.held()),
        ("connections", "HTTP connections that are open now.", operations.places.taken() as u64),
    ]);
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}
