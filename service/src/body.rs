//! Receiving a request's body: bounded in size, and in time for every piece and for the whole.

use std::io;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a body may be slower than [`Limits::slowest`].
const SLOW_START: Duration = Duration::from_secs(10);

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long it may be, in bytes.
    pub longest: u64,
    /// How much is read of one that is too long, and dropped: a sender that is still writing when the answer comes and the
    /// connection closes often sees only the broken connection, and tries again.
    pub dropped: u64,
    /// Whether one that is announced as longer than what is read is refused unread, and one that is announced as too long
    /// where its sender waits for leave (`Expect: 100-continue`).
    pub refuses_unread: bool,
    /// How long the whole may take.
    pub time: Duration,
    /// How long each piece may take.
    pub piece_time: Duration,
    /// How slow it may be on the whole, in bytes a second, once ten seconds have gone: a byte now and then would hold a place
    /// for all the time there is.
    pub slowest: u64,
}

/// Why a body was not received.
#[derive(Debug)]
pub enum BodyFault {
    /// It is larger than allowed.
    TooBig,
    /// It did not come fast enough.
    TooSlow,
    /// The connection broke, or the body is malformed.
    Broken,
    /// It could not be stored.
    Disk(io::Error),
}

/// Passes a body to `sink`, piece by piece.
pub async fn receive(
    request: Request,
    limits: &Limits,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), BodyFault> {
    let waits_for_leave = request.headers().contains_key(EXPECT);
    let body = request.into_body();
    let announced = body.size_hint().lower();
    let is_hopeless = announced > limits.dropped || (announced > limits.longest && waits_for_leave);
    if limits.refuses_unread && is_hopeless {
        return Err(BodyFault::TooBig);
    }
    let mut received: u64 = 0;
    pieces(body, limits, |piece| {
        received += piece.len() as u64;
        match received {
            _ if received <= limits.longest => sink(piece).map_err(BodyFault::Disk),
            _ if received <= limits.dropped => Ok(()),
            _ => Err(BodyFault::TooBig),
        }
    })
    .await?;
    if received > limits.longest { Err(BodyFault::TooBig) } else { Ok(()) }
}

/// Reads and drops the body of a request that is refused whatever it holds, for the reason given at [`Limits::dropped`].
pub async fn discard(request: Request, limits: &Limits) {
    // What is wrong with this body no longer matters.
    let _ = receive(request, limits, |_| Ok(())).await;
}

async fn pieces(
    mut body: Body,
    limits: &Limits,
    mut take: impl FnMut(&[u8]) -> Result<(), BodyFault>,
) -> Result<(), BodyFault> {
    let start = Instant::now();
    let (deadline, mut received) = (start + limits.time, 0);
    loop {
        let frame = timeout_at(deadline, timeout(limits.piece_time, body.frame())).await;
        let Ok(Ok(frame)) = frame else { return Err(BodyFault::TooSlow) };
        match frame {
            None => return Ok(()),
            Some(Err(_)) => return Err(BodyFault::Broken),
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    received += piece.len() as u64;
                    take(piece)?;
                }
                if received < start.elapsed().saturating_sub(SLOW_START).as_secs() * limits.slowest {
                    return Err(BodyFault::TooSlow);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::body::Bytes;
    use http_body_util::{Channel, Full};
    use tokio::time::sleep;

    use super::*;

    const LIMITS: Limits = Limits {
        longest: 4,
        dropped: 8,
        refuses_unread: true,
        time: Duration::from_secs(240),
        piece_time: Duration::from_secs(10),
        slowest: 512,
    };

    /// A request whose body is announced, and whether that was read.
    fn announced(body: &'static str) -> (Request, Arc<AtomicBool>) {
        let is_read = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_read);
        let body = Full::new(Bytes::from(body)).inspect_frame(move |_| seen.store(true, Ordering::Relaxed));
        (Request::new(Body::new(body)), is_read)
    }

    async fn text(request: Request, limits: &Limits) -> Result<Vec<u8>, BodyFault> {
        let mut bytes = Vec::new();
        let received = receive(request, limits, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        received.await.map(|()| bytes)
    }

    #[tokio::test]
    async fn one_that_is_too_long_is_refused_read_or_unread() {
        let (right, _) = announced("1234");
        assert_eq!(text(right, &LIMITS).await.unwrap(), b"1234");
        let reads_all = Limits { refuses_unread: false, ..LIMITS };
        for (limits, body, waits_for_leave, is_read) in [
            (LIMITS, "12345", false, true),
            (LIMITS, "12345", true, false),
            (LIMITS, "123456789", false, false),
            (reads_all, "12345", true, true),
            (reads_all, "123456789", false, true),
        ] {
            let (mut request, seen) = announced(body);
            if waits_for_leave {
                request.headers_mut().insert(EXPECT, "100-continue".parse().unwrap());
            }
            let outcome = text(request, &limits).await;
            assert!(matches!(outcome, Err(BodyFault::TooBig)), "{body} {outcome:?}");
            assert_eq!(seen.load(Ordering::Relaxed), is_read, "{body} {waits_for_leave} {limits:?}");
        }
    }

    #[tokio::test]
    async fn what_is_dropped_ends_somewhere() {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while sender.send_data(Bytes::from_static(b"123")).await.is_ok() {
                sent += 1;
            }
            sent
        });
        let mut kept = Vec::new();
        let received = receive(Request::new(Body::new(body)), &LIMITS, |piece| {
            kept.extend_from_slice(piece);
            Ok(())
        });
        assert!(matches!(received.await, Err(BodyFault::TooBig)));
        assert_eq!(kept, b"123");
        assert!(sending.await.unwrap() < 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_too_slow_and_so_is_none() {
        let limits = Limits { longest: 1000, dropped: 1000, time: Duration::from_secs(86_400), ..LIMITS };
        let (by_rate, by_piece) = (Limits { piece_time: limits.time, ..limits }, Limits { slowest: 0, ..limits });
        let whole = Limits { time: Duration::from_secs(240), ..Limits { piece_time: limits.time, ..by_piece } };
        for (limits, pause) in [(by_rate, 1), (by_piece, 11), (whole, 1)] {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                while sender.send_data(Bytes::from_static(b"1")).await.is_ok() {
                    sleep(Duration::from_secs(pause)).await;
                }
            });
            let outcome = text(Request::new(Body::new(body)), &limits).await;
            assert!(matches!(outcome, Err(BodyFault::TooSlow)), "{limits:?} {outcome:?}");
        }
    }

    #[tokio::test]
    async fn a_broken_one_and_a_full_disk_are_told_apart() {
        let (sender, body) = Channel::<Bytes, io::Error>::new(1);
        sender.abort(io::Error::other("gone"));
        assert!(matches!(text(Request::new(Body::new(body)), &LIMITS).await, Err(BodyFault::Broken)));
        let (request, _) = announced("1");
        let full = receive(request, &LIMITS, |_| Err(io::ErrorKind::StorageFull.into())).await;
        assert!(matches!(full, Err(BodyFault::Disk(_))), "{full:?}");
    }
}
