//! Connections: so many at once, each bounded in time, over TLS where there is a certificate.

use std::future::{Ready, ready};
use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use ondat_telemetry::error::Error;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_layer::Layer;

/// The most connections at once: a quarter of the 1024 descriptors that a process usually has.
const MOST_CONNECTIONS: usize = 256;

/// What one too many is told where there is no TLS; with TLS it is closed, as a handshake costs more than the answer.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\
    Retry-After: 5\r\nConnection: close\r\n\r\n{\"error\":\"too many connections: try again later\"}\n";

/// Lets so many connections in.
#[derive(Clone)]
pub(crate) struct Door {
    places: Arc<Semaphore>,
    has_tls: bool,
}

impl Door {
    /// Open.
    pub(crate) fn new(has_tls: bool) -> Self {
        Self { places: Arc::new(Semaphore::new(MOST_CONNECTIONS)), has_tls }
    }
}

/// A connection's place is free when its service goes.
type Placed<S> = AddExtension<S, Arc<OwnedSemaphorePermit>>;

impl<S> Accept<TcpStream, S> for Door {
    type Stream = TcpStream;
    type Service = Placed<S>;
    type Future = Ready<io::Result<(TcpStream, Placed<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok((stream, Extension(Arc::new(place)).layer(service))),
            Err(_) => {
                if !self.has_tls {
                    // One packet into an empty buffer; where it does not fit, the connection just closes.
                    let _ = stream.try_write(BUSY);
                }
                Err(io::Error::other("too many connections"))
            }
        })
    }
}

/// The certificate and its key, in PEM.
pub(crate) fn tls(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let unusable = |path: &Path, why: String| Error::InvalidConfig(format!("{}: {why}", path.display()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| unusable(certificate, format!("no certificate in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(unusable(certificate, "no certificate in PEM".to_owned()));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, format!("no key in PEM: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| unusable(certificate, format!("cannot be used with its key: {error}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
