//! The refusals of `serve` and their statuses.

use axum::http::StatusCode;
use ondat_telemetry_service::refusal::Refusal;

use crate::administration::{Refused, unreadable};

/// The refusal of a request without a login.
pub(crate) fn login() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "not logged in, or the session has ended: log in again")
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
