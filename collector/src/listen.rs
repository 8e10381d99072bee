//! Connections: accepted up to a number, each with a limit on every wait.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::places::Places;

const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// For a request's header, and for an idle connection.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// For everything on one connection; longer than the largest body may take.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// For requests in progress when the program ends.
const GOODBYE_TIME: Duration = Duration::from_secs(5);
/// After a failed accept, which is usually a lack of descriptors that passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1 on a listener until told to stop, over TLS if there is an acceptor; the newest one.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<watch::Receiver<TlsAcceptor>>,
    routes: Router,
    places: Arc<Places>,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    loop {
        // While there is no place, connections wait in the kernel's queue.
        let next = async { (places.one().await, listener.accept().await) };
        let (one, accepted) = tokio::select! {
            accepted = next => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, address)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // One too many of a network is closed: its senders try again.
        let Some(place) = one.and_then(|one| places.give(one, address.ip())) else { continue };
        let tls = tls.as_ref().map(|newest| newest.borrow().clone());
        let connection = connection(stream, tls, routes.clone(), graceful.watcher());
        tokio::spawn(async move {
            // Whatever becomes of the connection, its place is free afterwards.
            let _ = timeout(CONNECTION_TIME, connection).await;
            drop(place);
        });
    }
    drop(listener);
    // Those not done by then are cut off; their senders try again.
    let _ = timeout(GOODBYE_TIME, graceful.shutdown()).await;
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, routes: Router, watcher: Watcher) {
    match tls {
        None => requests(stream, routes, watcher).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(HANDSHAKE_TIME, tls.accept(stream)).await {
                requests(stream, routes, watcher).await;
            }
        }
    }
}

async fn requests(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, routes: Router, watcher: Watcher) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(64)
        // For people who read along.
        .title_case_headers(true)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // A broken connection concerns its sender alone.
    let _ = watcher.watch(connection).await;
}

/// A JSON answer of one line.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
