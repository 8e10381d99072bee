//! The collector's own certificate authority and server certificate, made on the first start and kept.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ondat_telemetry::error::Error;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::fault::{disk, internal};
use crate::store::Store;

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const SERVER_CERTIFICATE: &str = "server.pem";
const SERVER_KEY: &str = "server.key";
const SERVER_TERMS: &str = "server.json";

const DAY: Duration = Duration::from_secs(86_400);
const CA_DAYS: u32 = 3650;
const SERVER_DAYS: u32 = 730;
/// A server certificate is renewed at the start after this many days, so that one start a year is enough.
const SERVER_RENEWED_AFTER_DAYS: u32 = 365;

/// What the server certificate was made for.
#[derive(Deserialize, PartialEq, Serialize)]
struct Terms {
    names: Vec<String>,
    renew_after: u64,
}

/// The collector's side of TLS: where its certificate and the key are, in PEM.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// What clients have to trust, where the certificate is one of ours.
    pub(crate) ca_file: Option<PathBuf>,
}

/// The identity kept in the folder, made or renewed if need be, for these names besides the local ones.
pub(crate) fn identity(store: &Store, address: IpAddr, names: &[String]) -> Result<Identity, Error> {
    let authority = authority(store)?;
    let names = certificate_names(address, names);
    if !is_server_certificate_current(store, &names)? {
        make_server_certificate(store, &authority, names)?;
    }
    Ok(Identity {
        certificate: store.path(SERVER_CERTIFICATE),
        key: store.path(SERVER_KEY),
        ca_file: Some(store.path(CA_CERTIFICATE)),
    })
}

fn certificate_names(address: IpAddr, names: &[String]) -> Vec<String> {
    let mut all = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !address.is_unspecified() {
        all.push(address.to_string());
    }
    all.extend_from_slice(names);
    all.sort();
    all.dedup();
    all
}

fn authority(store: &Store) -> Result<Issuer<'static, KeyPair>, Error> {
    let cannot = |why: rcgen::Error| disk("use the certificate authority's key", &store.path(CA_KEY), why);
    let has_certificate = store.read(CA_CERTIFICATE)?.is_some();
    let key = match store.read(CA_KEY)? {
        Some(key) => KeyPair::from_pem(&key).map_err(cannot)?,
        None if has_certificate => {
            let path = store.path(CA_KEY);
            return Err(Error::Io(format!(
                "{} is missing: restore it, or delete {CA_CERTIFICATE} as well to get a new authority",
                path.display()
            )));
        }
        None => {
            let key = KeyPair::generate().map_err(cannot)?;
            store.write(CA_KEY, key.serialize_pem().as_bytes())?;
            key
        }
    };
    if !has_certificate {
        let certificate = authority_terms().self_signed(&key).map_err(cannot)?;
        store.write(CA_CERTIFICATE, certificate.pem().as_bytes())?;
    }
    Ok(Issuer::new(authority_terms(), key))
}

/// The authority's terms. Its name must never change: certificates name their issuer.
fn authority_terms() -> CertificateParams {
    let mut terms = CertificateParams::default();
    terms.distinguished_name.push(DnType::CommonName, "ondat-telemetry-collector CA");
    terms.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    terms.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut terms, CA_DAYS);
    terms
}

fn is_server_certificate_current(store: &Store, names: &[String]) -> Result<bool, Error> {
    let (Some(_), Some(_)) = (store.read(SERVER_CERTIFICATE)?, store.read(SERVER_KEY)?) else { return Ok(false) };
    let terms = store.read(SERVER_TERMS)?.and_then(|text| serde_json::from_str::<Terms>(&text).ok());
    Ok(terms.is_some_and(|terms| terms.names == names && unix_now() < terms.renew_after))
}

fn make_server_certificate(store: &Store, authority: &Issuer<'_, KeyPair>, names: Vec<String>) -> Result<(), Error> {
    let cannot = |why: rcgen::Error| {
        Error::InvalidArgument(format!(
            "cannot make a server certificate for {}: {why}; check option --name",
            names.join(", ")
        ))
    };
    let mut terms = CertificateParams::new(names.clone()).map_err(cannot)?;
    terms.distinguished_name.push(DnType::CommonName, "ondat-telemetry-collector");
    terms.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    terms.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    terms.use_authority_key_identifier_extension = true;
    set_validity(&mut terms, SERVER_DAYS);
    let key = KeyPair::generate().map_err(cannot)?;
    let certificate = terms.signed_by(&key, authority).map_err(cannot)?;
    let renew_after = unix_now() + (DAY * SERVER_RENEWED_AFTER_DAYS).as_secs();
    let terms = serde_json::to_vec(&Terms { names, renew_after }).map_err(|why| internal(SERVER_TERMS, why))?;
    store.write(SERVER_KEY, key.serialize_pem().as_bytes())?;
    store.write(SERVER_CERTIFICATE, certificate.pem().as_bytes())?;
    // Last: without it a half-written pair is made anew at the next start.
    store.write(SERVER_TERMS, &terms)
}

fn set_validity(terms: &mut CertificateParams, days: u32) {
    let now = OffsetDateTime::from(SystemTime::now());
    // Senders' clocks may be a little behind.
    terms.not_before = now - DAY;
    terms.not_after = now + DAY * days;
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Scratch;

    fn bytes(store: &Store, name: &str) -> String {
        store.read(name).unwrap().unwrap()
    }

    #[test]
    fn the_authority_stays_and_the_server_certificate_follows_its_names() {
        let scratch = Scratch::new("tls");
        let store = Store::create(scratch.0.clone()).unwrap();
        let local = IpAddr::from([127, 0, 0, 1]);
        identity(&store, local, &[]).unwrap();
        let (ca, server) = (bytes(&store, CA_CERTIFICATE), bytes(&store, SERVER_CERTIFICATE));
        identity(&store, local, &[]).unwrap();
        assert_eq!((bytes(&store, CA_CERTIFICATE), bytes(&store, SERVER_CERTIFICATE)), (ca.clone(), server.clone()));
        identity(&store, local, &["collector.example".to_owned()]).unwrap();
        assert_eq!(bytes(&store, CA_CERTIFICATE), ca);
        assert_ne!(bytes(&store, SERVER_CERTIFICATE), server);
    }

    #[test]
    fn an_authority_without_its_key_is_not_replaced_silently() {
        let scratch = Scratch::new("half");
        let store = Store::create(scratch.0.clone()).unwrap();
        store.write(CA_CERTIFICATE, b"x").unwrap();
        assert!(identity(&store, IpAddr::from([127, 0, 0, 1]), &[]).err().unwrap().to_string().contains("restore it"));
    }
}
