//! Connections: so many at once, each bounded in time, over TLS where there is a certificate.

use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use ondat_telemetry::error::Error;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_layer::Layer;

/// The most connections at once: a quarter of the 1024 descriptors that a process usually has.
pub(crate) const MOST_CONNECTIONS: usize = 256;
/// The longest certificate file that is read.
const LONGEST_FILE: u64 = 1 << 20;

/// What one too many is told where there is no TLS; with TLS it is closed, as a handshake costs more than the answer.
const BUSY: &str = "503 Service Unavailable\r\nRetry-After: 5";
const BUSY_WHY: &str = "too many connections: try again later";
/// What somebody is told who does not speak TLS where that is spoken.
const NO_TLS: &str = "400 Bad Request";
const NO_TLS_WHY: &str = "this port speaks TLS: ask it with https://, not with http://";
/// The first byte of TLS: a record of its handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// For that first byte to come.
const FIRST_TIME: Duration = Duration::from_secs(10);
/// What is read of somebody who has more to say than is answered, and for how long: where a connection is closed with
/// something unread, he often sees only that it is broken.
const DROPPED: usize = 64 << 10;
const DROPPING_TIME: Duration = Duration::from_secs(1);

/// Lets so many connections in. One more closes the one that has asked nothing for longest.
#[derive(Clone)]
pub(crate) struct Door {
    places: Arc<Mutex<Vec<Weak<Place>>>>,
    /// Counts requests, so that places have an order.
    requests: Arc<AtomicU64>,
    has_tls: bool,
}

impl Door {
    /// Open.
    pub(crate) fn new(has_tls: bool) -> Self {
        Self { places: Arc::default(), requests: Arc::default(), has_tls }
    }

    fn enter(&self, stream: TcpStream) -> Result<(Stream, Arc<Place>), TcpStream> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|place| place.strong_count() > 0);
        if places.len() >= MOST_CONNECTIONS {
            let taken = places.iter().enumerate().filter_map(|(at, place)| Some((at, place.upgrade()?)));
            let mut idle: Vec<_> = taken.filter(|(_, place)| place.busy.load(Ordering::Relaxed) == 0).collect();
            idle.sort_by_key(|(_, place)| place.asked.load(Ordering::Relaxed));
            let Some((at, place)) = idle.into_iter().find(|(_, place)| !place.has_input()) else {
                return Err(stream);
            };
            places.swap_remove(at);
            place.close();
        }
        let place = Place::new(stream, Arc::clone(&self.requests));
        places.push(Arc::downgrade(&place));
        Ok((Stream(Arc::clone(&place.stream)), place))
    }
}

/// A connection's place, which is free when its service goes.
pub(crate) struct Place {
    stream: Arc<TcpStream>,
    /// The number of its last request.
    asked: AtomicU64,
    requests: Arc<AtomicU64>,
    /// What goes on that a new connection does not end.
    busy: AtomicUsize,
}

impl Place {
    fn new(stream: TcpStream, requests: Arc<AtomicU64>) -> Arc<Self> {
        let place = Self { stream: Arc::new(stream), asked: AtomicU64::new(0), requests, busy: AtomicUsize::new(0) };
        place.ask();
        Arc::new(place)
    }

    /// Alone.
    #[cfg(test)]
    pub(crate) fn of(stream: TcpStream) -> Arc<Self> {
        Self::new(stream, Arc::default())
    }

    /// Asks something.
    pub(crate) fn ask(&self) {
        self.asked.store(self.requests.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// It is not closed for another one as long as this lasts.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Whether the other side has given up. HTTP's own code does not look while it has something left to read.
    pub(crate) fn is_gone(&self) -> bool {
        let state = pin!(self.stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(state, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Whether something has come that nobody has read yet.
    fn has_input(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        recv(self.stream.as_raw_fd(), &mut [0], flags).is_ok_and(|length| length > 0)
    }

    fn close(&self) {
        // It may be closed already.
        let _ = shutdown(self.stream.as_raw_fd(), Shutdown::Both);
    }
}

/// See [`Place::busy`].
pub(crate) struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The service of a connection, with its place.
type Placed<S> = AddExtension<S, Arc<Place>>;

impl<S: Send + 'static> Accept<TcpStream, S> for Door {
    type Stream = Stream;
    type Service = Placed<S>;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Stream, Placed<S>)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let entered = self.enter(stream);
        let has_tls = self.has_tls;
        Box::pin(async move {
            let (stream, place) = match entered {
                Ok(entered) => entered,
                Err(refused) => {
                    if !has_tls {
                        tell(&refused, BUSY, BUSY_WHY).await;
                    }
                    return Err(io::Error::other("too many connections"));
                }
            };
            if has_tls && !speaks_tls(&stream.0).await? {
                tell(&stream.0, NO_TLS, NO_TLS_WHY).await;
                drop_rest(&stream.0).await;
                return Err(io::Error::other("no TLS"));
            }
            Ok((stream, Extension(place).layer(service)))
        })
    }
}

async fn speaks_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    timeout(FIRST_TIME, stream.peek(&mut first)).await??;
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

/// A connection that its place can see.
pub(crate) struct Stream(Arc<TcpStream>);

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|length| buffer.advance(length))),
            }
        }
    }
}

impl Stream {
    fn poll(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(context, |stream| stream.try_write_vectored(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.0.as_raw_fd(), Shutdown::Write).map_err(io::Error::from))
    }
}

/// The certificate and its key, in PEM.
pub(crate) fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let unusable = |path: &Path, why: &str| Error::InvalidConfig(format!("{}: {why}", path.display()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let chain = chain.map_err(|error| unusable(certificate, &pem_problem(&error, "certificate")))?;
    if chain.is_empty() {
        return Err(unusable(certificate, &pem_problem(&pem::Error::NoItemsFound, "certificate")));
    }
    let bytes = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let is_encrypted = bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
        let why = if is_encrypted { "the key is encrypted".to_owned() } else { pem_problem(&error, "private key") };
        unusable(key, &why)
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| unusable(key, &format!("{} {}", key_problem(&error), certificate.display())))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// In the first line of a key that takes a passphrase (RFC 7468, 11; RFC 1421).
const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::InvalidConfig(format!("{}: {why}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    io::Read::read_to_end(&mut io::Read::take(file, LONGEST_FILE + 1), &mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(failed(format!("longer than {LONGEST_FILE} bytes")));
    }
    Ok(bytes)
}

/// The library's own words show bytes as numbers.
fn pem_problem(error: &pem::Error, what: &str) -> String {
    let why = match error {
        pem::Error::NoItemsFound => "",
        pem::Error::MissingSectionEnd { .. } => ": it is cut short",
        pem::Error::IllegalSectionStart { .. } => ": a -----BEGIN line is malformed",
        pem::Error::Base64Decode(_) => ": its base64 is damaged",
        _ => ": it cannot be read",
    };
    format!("no {what} in PEM{why}")
}

/// Likewise. What is said ends with the certificate's name.
fn key_problem(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate",
        rustls::Error::InvalidCertificate(_) => "the key goes with a certificate that is damaged:",
        _ => "the key is damaged or of a kind that TLS does not use, and so cannot go with",
    }
}
