//! What TLS may use here, and whom it trusts.
//!
//! The list of algorithms is our own instead of ring's whole one: a client of two servers that shows no certificate
//! needs neither signing keys nor a cipher for machines without AES, and together they are a twentieth of the library.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
use rustls::sign::SigningKey;
use rustls::{Error, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use webpki::ring::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY, RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
};

use crate::sys::descriptor;

/// TLS that trusts these roots besides the system's. Verification cannot be switched off.
pub fn config(ca_files: &[PathBuf], ca_dirs: &[PathBuf]) -> Result<TlsConfig, String> {
    let roots = roots(ca_files, ca_dirs)?;
    Ok(TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(provider())).root_certs(roots).build())
}

/// The system's roots and the configured ones; Mozilla's list, compiled in, where there are neither.
fn roots(ca_files: &[PathBuf], ca_dirs: &[PathBuf]) -> Result<RootCerts, String> {
    let mut roots = Vec::new();
    for path in SYSTEM_ROOTS.map(Path::new) {
        if read_certificates(path, &mut roots).is_ok() {
            break;
        }
    }
    for path in ca_files {
        read_certificates(path, &mut roots).map_err(|why| format!("CA file {}: {why}", path.display()))?;
    }
    for folder in ca_dirs {
        let listed: Vec<PathBuf> = {
            let _gaps = descriptor::Gaps::fill();
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
        };
        for path in listed {
            // A folder of roots holds other files too; what is not PEM adds nothing.
            let _ = read_certificates(&path, &mut roots);
        }
    }
    Ok(if roots.is_empty() { RootCerts::WebPki } else { RootCerts::Specific(Arc::new(roots)) })
}

/// Where Linux distributions keep all roots in one file: Debian, Fedora, openSUSE, older Red Hat, Alpine.
const SYSTEM_ROOTS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Adds a PEM file's certificates. An error where there are none.
pub fn read_certificates(path: &Path, roots: &mut Vec<Certificate<'static>>) -> Result<(), String> {
    let before = roots.len();
    let pem = descriptor::read(path).map_err(|error| error.to_string())?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.push(Certificate::from_der(&certificate).to_owned());
    }
    if roots.len() == before { Err("it holds no certificate in PEM form".to_owned()) } else { Ok(()) }
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        // AES-128-GCM is what every TLS 1.3 server has (RFC 8446, 9.1).
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Kernel,
        key_provider: &NoKeys,
    }
}

/// As in rustls's ring provider: TLS 1.3 takes the first of each line, TLS 1.2 any.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        ECDSA_P256_SHA256,
        ECDSA_P256_SHA384,
        ECDSA_P384_SHA256,
        ECDSA_P384_SHA384,
        ED25519,
        RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[ECDSA_P384_SHA384, ECDSA_P256_SHA384]),
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[ECDSA_P256_SHA256, ECDSA_P384_SHA256]),
        (SignatureScheme::ED25519, &[ED25519]),
        (SignatureScheme::RSA_PSS_SHA512, &[RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA384, &[RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (SignatureScheme::RSA_PSS_SHA256, &[RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[RSA_PKCS1_2048_8192_SHA256]),
    ],
};

#[derive(Debug)]
struct Kernel;

impl SecureRandom for Kernel {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(bytes).map_err(|_| GetRandomFailed)
    }
}

/// This client shows no certificate.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("client certificates are not used here".to_owned()))
    }
}
