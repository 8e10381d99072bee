//! `GET /v1/report/next` shows the next report. It asks the process that makes the report.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use flate2::read::GzDecoder;
use ondat_telemetry::error::Status;
use ondat_telemetry_service::refusal::Refusal;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::AbortHandle;
use tokio_util::io::ReaderStream;

use super::{App, blocking};
use crate::next::{self, Next, PIECE_BYTES, Unanswered};

/// How many clients may ask at a time. Each answer takes up to 64 MiB on a disk.
static PLACES: Semaphore = Semaphore::const_new(4);
/// How long a client may take to receive the report.
const TELLING_TIME: Duration = Duration::from_secs(600);

/// Answers with the report, which is complete before the answer begins.
pub(super) async fn report(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let place = PLACES.try_acquire().map_err(|_| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "others are asking for the next report: try again later").after(5)
    })?;
    // A client that gives up does not free its place, because the work goes on.
    let asked = blocking(move || next::ask(&app.dir).map(|next| (next, place)));
    let (next, place) = asked.await?.map_err(refusal)?;
    let head = [
        ("ondat-telemetry-report", format!("{}-{}", next.day, next.report_id)),
        ("ondat-telemetry-sealed-bytes", next.sealed_bytes.to_string()),
        ("ondat-telemetry-process", format!("{}-{}", next.process.component, next.process.pid)),
    ];
    let length = next.bytes;
    let mut response =
        Response::new(Body::from_stream(ReaderStream::with_capacity(Text::new(next, place), PIECE_BYTES)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    for (name, value) in head {
        headers.extend(HeaderValue::from_str(&value).map(|value| (HeaderName::from_static(name), value)));
    }
    Ok(response)
}

fn refusal(unanswered: Unanswered) -> Refusal {
    let error = match unanswered {
        Unanswered::Nobody(why) => return Refusal::new(StatusCode::NOT_FOUND, why),
        Unanswered::Failed(error) => error,
    };
    let status = match error.status() {
        Status::Disabled | Status::InvalidConfig => StatusCode::CONFLICT,
        Status::InvalidState => StatusCode::SERVICE_UNAVAILABLE,
        Status::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    Refusal::new(status, error.to_string())
}

/// A report on its way to a client. The thread that sends it unpacks it: a piece takes less than a millisecond, and a slow client
/// occupies no thread.
struct Text {
    /// None: the client's time is up.
    open: Arc<Mutex<Option<Open>>>,
    limit: AbortHandle,
}

type Open = (GzDecoder<File>, SemaphorePermit<'static>);

impl Text {
    fn new(next: Next, place: SemaphorePermit<'static>) -> Self {
        let open = Arc::new(Mutex::new(Some((next.into_text(), place))));
        let told = Arc::clone(&open);
        let limit = tokio::spawn(async move {
            tokio::time::sleep(TELLING_TIME).await;
            drop(lock(&told).take());
        });
        Self { open, limit: limit.abort_handle() }
    }
}

impl AsyncRead for Text {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = match &mut *lock(&self.open) {
            Some((text, _)) => text.read(buffer.initialize_unfilled()),
            None => Err(io::ErrorKind::TimedOut.into()),
        };
        Poll::Ready(read.map(|read| buffer.advance(read)))
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.limit.abort();
        drop(lock(&self.open).take());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
