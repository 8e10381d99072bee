//! Which algorithms TLS may use, and whom it trusts.
//!
//! The list of algorithms is our own instead of ring's complete one. A client of two servers that shows no certificate
//! needs neither signing keys nor a cipher for machines without AES, and together they are a twentieth of the library.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::SigningKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use webpki::ring::{
    ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA384_LEGACY_KEY, RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
};

use super::certificate::{Certificate, algorithm, moment};

/// What can be verified here, for a sentence.
const VERIFIABLE: &str = "what can be verified is RSA of 2048 bits and more with SHA-256 to SHA-512, ECDSA on P-256 and P-384 \
                          with SHA-256 and SHA-384, and Ed25519";

/// TLS that trusts these roots, and the configured certificates also as a server's own. Verification cannot be switched off.
pub fn config(roots: RootCertStore, configured: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(provider());
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let judge = judge.map_err(|_| "no certificate is trusted: neither the system nor a ca_file has any".to_owned())?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    // Not dangerous: it is rustls's own judge, whose words are replaced.
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Judge { judge, configured }));
    let mut config = config.with_no_client_auth();
    // Each request is a session of its own.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// rustls's judge, and for each of its refusals a sentence.
#[derive(Debug)]
struct Judge {
    judge: Arc<WebPkiServerVerifier>,
    configured: Vec<CertificateDer<'static>>,
}

impl Judge {
    /// Whether a server shows a certificate that stands in a CA file itself, for its own name and in its time. One that says
    /// CA:TRUE, as `openssl req -x509` makes them, is no server's to rustls; OpenSSL and Go take it.
    fn is_configured(&self, own: &CertificateDer<'_>, host: &ServerName<'_>, now: UnixTime) -> bool {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.configured.iter().any(|configured| configured == own)
            && Certificate::read(own).is_some_and(|own| (own.not_before..=own.not_after).contains(&now))
            && webpki::EndEntityCert::try_from(own).is_ok_and(|own| own.verify_is_valid_for_subject_name(host).is_ok())
    }
}

fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = error else { return false };
    matches!(other.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if verdict.as_ref().is_err_and(is_authority) && self.is_configured(end_entity, server_name, now) {
            return Ok(ServerCertVerified::assertion());
        }
        verdict.map_err(|error| {
            let chain: Vec<Certificate> = std::iter::once(end_entity)
                .chain(intermediates)
                .map(|der| Certificate::read(der).unwrap_or_else(nameless))
                .collect();
            refusal(&error, &chain, &server_name.to_str(), now)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, cert, dss).map_err(|error| not_its_own(&error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, cert, dss).map_err(|error| not_its_own(&error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

fn nameless() -> Certificate {
    let name = || "somebody who cannot be read".to_owned();
    Certificate { subject: name(), issuer: name(), ..Certificate::default() }
}

/// A refusal in our words.
#[derive(Debug)]
struct Refusal(String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn said(words: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refusal(words)))))
}

/// Which certificate, why, and what to do. `chain` begins with the server's own.
fn refusal(error: &Error, chain: &[Certificate], host: &str, now: UnixTime) -> Error {
    let Error::InvalidCertificate(error) = error else {
        return said("the server's certificate cannot be verified".to_owned());
    };
    let own = chain.first().map_or("the server", |own| own.subject.as_str());
    let clock = || moment(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let unix = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    said(match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            match chain.iter().find(|one| one.not_after < unix) {
                Some(one) => format!(
                    "the certificate of {} has expired on {}; it has to be renewed (this machine's clock says {})",
                    one.subject,
                    moment(one.not_after),
                    clock()
                ),
                None => {
                    format!("a certificate that {own} rests on has expired (this machine's clock says {})", clock())
                }
            }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            match chain.iter().find(|one| one.not_before > unix) {
                Some(one) => format!(
                    "the certificate of {} is valid from {} on, and this machine's clock says {}: is it right?",
                    one.subject,
                    moment(one.not_before),
                    clock()
                ),
                None => {
                    format!("a certificate that {own} rests on is not valid yet; this machine's clock says {}", clock())
                }
            }
        }
        CertificateError::UnknownIssuer => {
            let last = chain.last().map_or("somebody", |last| last.issuer.as_str());
            format!(
                "the certificate of {own} leads to {last}, who is not trusted here; a ca_file with the certificate of {last} \
                 says that it is, if the server sends all between the two"
            )
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented: Vec<String> = presented.iter().take(8).map(|name| readable_name(name)).collect();
            if presented.is_empty() {
                format!(
                    "the certificate of {own} names no host in its subjectAltName; one that names {host} there is needed (a \
                     common name does not count)"
                )
            } else {
                format!("the certificate of {own} is for {}, not for {host}", presented.join(", "))
            }
        }
        CertificateError::NotValidForName => format!("the certificate of {own} is not for {host}"),
        CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => format!(
            "a certificate that {own} rests on is signed by {}, which cannot be verified here; {VERIFIABLE}",
            algorithm(signature_algorithm_id)
        ),
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id,
            public_key_algorithm_id,
        } => format!(
            "a certificate that {own} rests on is signed by {} with a key of {}, which cannot be verified here; {VERIFIABLE}",
            algorithm(signature_algorithm_id),
            algorithm(public_key_algorithm_id)
        ),
        CertificateError::BadSignature => format!("a signature on the way from {own} to its authority is wrong"),
        CertificateError::BadEncoding => format!("a certificate that {own} rests on is damaged"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!(
                "a certificate that {own} rests on is not for servers (extendedKeyUsage); one with serverAuth is needed"
            )
        }
        CertificateError::UnhandledCriticalExtension => {
            format!("a certificate that {own} rests on has a critical extension that is not known here")
        }
        CertificateError::Other(OtherError(other)) => match other.downcast_ref() {
            Some(webpki::Error::CaUsedAsEndEntity) => format!(
                "the certificate of {own} is an authority's (CA:TRUE, as `openssl req -x509` makes them); it is a server's \
                 too only where it stands itself in a ca_file and is for {host} and today; else make one with CA:FALSE"
            ),
            Some(webpki::Error::EndEntityUsedAsCa) => {
                format!("a certificate that {own} rests on is not an authority's (CA:FALSE) and may sign none")
            }
            Some(webpki::Error::NameConstraintViolation) => {
                format!("an authority that {own} rests on may not vouch for {host} (nameConstraints)")
            }
            Some(webpki::Error::PathLenConstraintViolated) => {
                format!("there are more authorities between {own} and its root than one of them allows (pathlen)")
            }
            Some(webpki::Error::UnsupportedCertVersion) => {
                format!("a certificate that {own} rests on is of X.509 version 1 or 2; version 3 is needed")
            }
            _ => format!("the certificate of {own} cannot be verified"),
        },
        _ => format!("the certificate of {own} cannot be verified"),
    })
}

/// rustls gives names of a certificate as `DnsName("a.example")` and `IpAddress(...)`.
fn readable_name(name: &str) -> String {
    let quoted = name.split('"').nth(1).filter(|_| name.starts_with("DnsName"));
    quoted.map_or_else(|| "an address".to_owned(), |name| name.chars().filter(|c| !c.is_control()).take(64).collect())
}

/// The handshake is not signed with the certificate's key.
fn not_its_own(error: &Error, certificate: &CertificateDer<'_>) -> Error {
    let own = Certificate::read(certificate).unwrap_or_else(nameless).subject;
    said(match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            format!("the server does not show that it has the key of the certificate of {own}")
        }
        _ => format!("the key of the certificate of {own} cannot be used here; {VERIFIABLE}"),
    })
}

/// What has gone wrong on a connection, in words: of TLS, or as the system says it.
pub fn in_words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => format!("TLS: {}", tls_in_words(error)),
        None => error.to_string(),
    }
}

fn tls_in_words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(words))) => words.to_string(),
        Error::InvalidCertificate(_) => "the server's certificate cannot be verified".to_owned(),
        Error::AlertReceived(alert) => alert_in_words(*alert),
        Error::PeerIncompatible(_) => {
            "the server and this program have no way in common; TLS 1.2 or 1.3 with AES-GCM is needed".to_owned()
        }
        Error::InvalidMessage(_) => "what answers does not speak TLS (a port for http?)".to_owned(),
        Error::NoCertificatesPresented => "the server shows no certificate".to_owned(),
        Error::DecryptError => "what came was changed on the way".to_owned(),
        Error::FailedToGetRandomBytes => "no randomness".to_owned(),
        _ => "the server does not keep to the protocol".to_owned(),
    }
}

fn alert_in_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => format!(
            "the server has no way in common with this program; TLS 1.2 or 1.3 with AES-GCM is needed, and a certificate that \
             can be verified: {VERIFIABLE}"
        ),
        AlertDescription::ProtocolVersion => "the server does not take TLS 1.2 or 1.3".to_owned(),
        AlertDescription::UnrecognisedName => "the server does not know this host name".to_owned(),
        AlertDescription::CertificateRequired | AlertDescription::BadCertificate => {
            "the server wants a client certificate; none is ever shown".to_owned()
        }
        AlertDescription::AccessDenied => "the server does not let this machine in".to_owned(),
        AlertDescription::InternalError => "the server says that something failed on its side".to_owned(),
        AlertDescription::CloseNotify => "the server closed the connection".to_owned(),
        other => format!("the server ended it (alert {})", u8::from(other)),
    }
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
