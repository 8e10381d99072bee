//! What is answered where a request is not granted: a status, and an object with one text.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ondat_telemetry::error::{Error, Status};
use serde_json::json;

use crate::answer;

/// The member that holds the text, in our own calls.
const ERROR: &str = "error";

/// A request that is not granted. As a response it is `{"error": …}`.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    why: String,
    retry_after: Option<u64>,
}

impl Refusal {
    /// With this status and text.
    pub fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), retry_after: None }
    }

    /// The request is malformed.
    pub fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// The same may be granted after so many seconds.
    pub fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A line of JSON, `{"error": …}`.
    pub fn line(self) -> Response {
        self.line_of(ERROR)
    }

    /// A line of JSON in which the text is the member of this name.
    pub fn line_of(self, member: &str) -> Response {
        self.response(member, "\n")
    }

    fn response(self, member: &str, end: &str) -> Response {
        let text = format!("{}{end}", json!({ member: self.why }));
        let mut response = answer::json(self.status, text);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.response(ERROR, "")
    }
}

/// The server itself could not do it.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.status() {
            Status::InvalidState => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn parts(response: Response) -> (u16, Option<String>, String) {
        let after = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, after, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_text_stands_where_the_caller_looks_for_it() {
        let refusal = || Refusal::bad("say \"what\"");
        assert_eq!(parts(refusal().into_response()).await, (400, None, r#"{"error":"say \"what\""}"#.to_owned()));
        assert_eq!(parts(refusal().line()).await, (400, None, "{\"error\":\"say \\\"what\\\"\"}\n".to_owned()));
        let (status, after, body) = parts(refusal().after(7).line_of("detail")).await;
        assert_eq!((status, after.as_deref(), body.as_str()), (400, Some("7"), "{\"detail\":\"say \\\"what\\\"\"}\n"));
    }

    #[test]
    fn what_may_work_later_is_said_to() {
        assert_eq!(Refusal::from(Error::InvalidState("x".to_owned())).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(Refusal::from(Error::Io("x".to_owned())).status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
