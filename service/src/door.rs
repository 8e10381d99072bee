//! Where connections come in: who gets no place, or speaks HTTP where TLS is spoken, is told so.

use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use nix::sys::socket::{Shutdown, shutdown};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_layer::Layer;

use crate::places::Place;
use crate::stream::Stream;
use crate::terms::Terms;

/// What one too many is told where there is no TLS; with TLS it is closed, as a handshake costs more than the answer.
const BUSY: &str = "503 Service Unavailable\r\nRetry-After: 5";
const BUSY_WHY: &str = "too many connections: try again later";
/// What somebody is told who does not speak TLS where that is spoken.
const NO_TLS: &str = "400 Bad Request";
const NO_TLS_WHY: &str = "this port speaks TLS: ask it with https://, not with http://";
/// The first byte of TLS: a record of its handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// What is read of somebody who has more to say than is answered, and for how long: where a connection is closed with
/// something unread, he often sees only that it is broken.
const DROPPED: usize = 64 << 10;
const DROPPING_TIME: Duration = Duration::from_secs(1);

/// A connection that was accepted.
pub(crate) enum Arrival {
    /// It has a place.
    Placed(Arc<Place>),
    /// There is none for it.
    OneTooMany(TcpStream),
}

/// Lets in who has a place.
#[derive(Clone, Copy)]
pub(crate) struct Door {
    pub(crate) terms: Terms,
    pub(crate) has_tls: bool,
}

/// The service of a connection, with its place.
type Placed<S> = AddExtension<S, Arc<Place>>;

impl<S: Send + 'static> Accept<Arrival, S> for Door {
    type Stream = Stream;
    type Service = Placed<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Stream, Placed<S>)>> + Send>>;

    fn accept(&self, arrival: Arrival, service: S) -> Self::Future {
        let Self { terms, has_tls } = *self;
        Box::pin(async move {
            let place = match arrival {
                Arrival::Placed(place) => place,
                Arrival::OneTooMany(stream) => {
                    if !has_tls {
                        tell(&stream, BUSY, BUSY_WHY).await;
                    }
                    return Err(io::Error::other("too many connections"));
                }
            };
            let stream = Stream::new(Arc::clone(place.stream()), terms.connection_time);
            if has_tls && terms.says_tls && !speaks_tls(place.stream(), terms.handshake_time).await? {
                tell(place.stream(), NO_TLS, NO_TLS_WHY).await;
                drop_rest(place.stream()).await;
                return Err(io::Error::other("no TLS"));
            }
            Ok((stream, Extension(place).layer(service)))
        })
    }
}

async fn speaks_tls(stream: &TcpStream, time: Duration) -> io::Result<bool> {
    let mut first = [0];
    timeout(time, stream.peek(&mut first)).await??;
    Ok(first == [HANDSHAKE])
}

/// Says this, as one packet into an empty buffer: where it does not fit, the connection just closes.
async fn tell(stream: &TcpStream, status: &str, why: &str) {
    let body = format!("{}\n", json!({ "error": why }));
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    // A new one counts as writable only once the system has said so.
    let _ = timeout(DROPPING_TIME, stream.writable()).await;
    let _ = stream.try_write(format!("{head}Connection: close\r\n\r\n{body}").as_bytes());
    let _ = shutdown(stream.as_raw_fd(), Shutdown::Write);
}

async fn drop_rest(stream: &TcpStream) {
    let reading = async {
        let mut bytes = [0; 4096];
        let mut dropped = 0;
        while dropped < DROPPED && stream.readable().await.is_ok() {
            match stream.try_read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => dropped += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    let _ = timeout(DROPPING_TIME, reading).await;
}
