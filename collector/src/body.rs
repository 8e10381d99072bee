//! Receiving a request's body: bounded in size, and in time for every piece and for the whole.

use std::io;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

/// The longest wait for the next piece.
const PIECE_TIME: Duration = Duration::from_secs(10);
/// The longest time for a whole body.
const BODY_TIME: Duration = Duration::from_secs(240);
/// How slow a body may be on the whole, in bytes a second, once some time has gone.
const SLOWEST: u64 = 512;
const SLOW_START: Duration = Duration::from_secs(10);

/// Why a body was not received.
#[derive(Debug)]
pub(crate) enum BodyFault {
    /// It is larger than allowed.
    TooBig,
    /// It did not come fast enough.
    TooSlow,
    /// The connection broke, or the body is malformed.
    Broken,
    /// It could not be stored.
    Disk(io::Error),
}

/// Passes a body of at most `most_bytes` to `sink`, piece by piece.
///
/// A body somewhat too big is read to its end and dropped: a sender that is still writing when the answer
/// comes and the connection closes often sees only the broken connection, and tries again.
pub(crate) async fn receive(
    request: Request,
    most_bytes: u64,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), BodyFault> {
    let waits_for_permission = request.headers().contains_key(EXPECT);
    let body = request.into_body();
    let announced = body.size_hint().lower();
    if announced > most_bytes.saturating_mul(2) || (announced > most_bytes && waits_for_permission) {
        return Err(BodyFault::TooBig);
    }
    let mut received: u64 = 0;
    pieces(body, |piece| {
        received += piece.len() as u64;
        match received {
            _ if received <= most_bytes => sink(piece).map_err(BodyFault::Disk),
            _ if received <= most_bytes.saturating_mul(2) => Ok(()),
            _ => Err(BodyFault::TooBig),
        }
    })
    .await?;
    if received > most_bytes { Err(BodyFault::TooBig) } else { Ok(()) }
}

/// Reads and drops the body of a request that is refused whatever it holds, for the reason given at [`receive`].
pub(crate) async fn discard(request: Request, most_bytes: u64) {
    // What is wrong with this body no longer matters.
    let _ = receive(request, most_bytes, |_| Ok(())).await;
}

async fn pieces(mut body: Body, mut take: impl FnMut(&[u8]) -> Result<(), BodyFault>) -> Result<(), BodyFault> {
    let start = Instant::now();
    let (deadline, mut received) = (start + BODY_TIME, 0);
    loop {
        let frame = timeout_at(deadline, timeout(PIECE_TIME, body.frame())).await;
        let Ok(Ok(frame)) = frame else { return Err(BodyFault::TooSlow) };
        match frame {
            None => return Ok(()),
            Some(Err(_)) => return Err(BodyFault::Broken),
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    received += piece.len() as u64;
                    take(piece)?;
                }
                // A byte now and then would hold a place for minutes.
                if received < start.elapsed().saturating_sub(SLOW_START).as_secs() * SLOWEST {
                    return Err(BodyFault::TooSlow);
                }
            }
        }
    }
}
