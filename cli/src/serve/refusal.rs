//! Answers to requests that are not granted: a status and one line, as `{"error": …}`.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ondat_telemetry::error::{Error, Status};
use serde_json::json;

use crate::administration::{Refused, unreadable};

/// A request that is not granted.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    why: String,
    retry_after: Option<u64>,
}

impl Refusal {
    /// With this status and line.
    pub(crate) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), retry_after: None }
    }

    /// The request is malformed.
    pub(crate) fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// Nobody is logged in.
    pub(crate) fn login() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not logged in, or the session has ended: log in again")
    }

    /// The same may be granted after so many seconds.
    pub(crate) fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.status() {
            Status::InvalidState => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stale => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "attempting to write stale object: somebody else has changed the settings meanwhile, read them again",
            ),
            Refused::Unreadable(why) => Self::new(StatusCode::CONFLICT, unreadable(&why)),
            Refused::Failed(error) => error.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.why }))).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
