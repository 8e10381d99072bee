//! The server's certificate, read from files, and read anew while it runs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use ondat_telemetry::error::Error;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The longest file that is read.
const LONGEST_FILE: u64 = 1 << 20;
/// In the first line of a key that takes a passphrase (RFC 7468, 11; RFC 1421).
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// The certificate, those above it, and its key, in PEM.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    config: RustlsConfig,
}

impl Certificate {
    /// Reads both files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let config = RustlsConfig::from_config(config(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), config })
    }

    /// Reads them anew: new connections get what they hold now. Where they are of no use, everything stays as it is.
    pub fn renew(&self) -> Result<(), Error> {
        self.config.reload_from_config(config(&self.certificate, &self.key)?);
        Ok(())
    }

    pub(crate) fn config(&self) -> RustlsConfig {
        self.config.clone()
    }
}

fn config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
    let chain = chain.map_err(|error| unusable(certificate, pem_problem(&error, "certificate")))?;
    if chain.is_empty() {
        return Err(unusable(certificate, pem_problem(&pem::Error::NoItemsFound, "certificate")));
    }
    let bytes = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let is_encrypted = bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
        let why = if is_encrypted { "the key is encrypted".to_owned() } else { pem_problem(&error, "private key") };
        unusable(key, why)
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| unusable(key, key_problem(&error, certificate)))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path);
    file.and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error: io::Error| unusable(path, error.to_string()))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(unusable(path, format!("longer than {LONGEST_FILE} bytes")));
    }
    Ok(bytes)
}

fn unusable(path: &Path, why: String) -> Error {
    Error::InvalidConfig(format!("{}: {why}", path.display()))
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

/// Likewise.
fn key_problem(error: &rustls::Error, certificate: &Path) -> String {
    let certificate = certificate.display();
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("the key does not belong to the certificate {certificate}: give a certificate with its key")
        }
        rustls::Error::InvalidCertificate(_) => {
            format!("the key goes with a certificate that is damaged: {certificate}")
        }
        _ => format!("the key is damaged or of a kind that TLS does not use, and so cannot go with {certificate}"),
    }
}
