//! Report keys: the ids `serve` accepts, and the private keys `open` is given.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, Kem as _, Serializable};
use ondat_telemetry::error::Error;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::fault::unusable;
use crate::sealed::Kem;

/// The ids of the public keys senders may seal for.
pub(crate) struct KeyIds(HashSet<String>);

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<PublicKey>,
}

#[derive(Deserialize)]
struct PublicKey {
    id: String,
    public: String,
}

impl KeyIds {
    /// Reads the ids out of a key set.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let fault = |why: String| unusable("use the report keys in", path, why);
        let text = fs::read_to_string(path).map_err(|why| fault(why.to_string()))?;
        let set: KeySet = serde_json::from_str(&text).map_err(|why| fault(why.to_string()))?;
        if set.keys.is_empty() {
            return Err(fault("it holds no key".to_owned()));
        }
        for (at, key) in set.keys.iter().enumerate() {
            let public = BASE64.decode(key.public.as_bytes());
            let public = public.map_err(|_| fault(format!("keys[{at}]: `public` is not base64")))?;
            if key.id != key_id(&public) {
                return Err(fault(format!("keys[{at}]: `id` is not the start of the SHA-256 of `public` in hex")));
            }
        }
        Ok(Self(set.keys.into_iter().map(|key| key.id).collect()))
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.0.contains(id)
    }
}

/// A private key.
pub(crate) struct PrivateKey {
    /// The id of the public key that belongs to it.
    pub(crate) id: String,
    pub(crate) secret: Secret,
}

pub(crate) enum Secret {
    X25519(<X25519HkdfSha256 as hpke::Kem>::PrivateKey),
    XWing(Box<<XWing as hpke::Kem>::PrivateKey>),
}

#[derive(Deserialize)]
struct PrivateKeyDocument {
    id: String,
    kem: Kem,
    private: String,
}

impl PrivateKey {
    /// Reads a private key file. The error does not repeat the key.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|why| unusable("read the private key", path, why))?;
        Self::parse(&text).map_err(|why| unusable("use the private key", path, why))
    }

    fn parse(text: &str) -> Result<Self, String> {
        // serde_json quotes what it did not expect, which here may be the key: only the place is said.
        let document: PrivateKeyDocument = serde_json::from_str(text).map_err(|why| {
            format!("expected {{\"id\",\"kem\",\"private\"}} (line {}, column {})", why.line(), why.column())
        })?;
        let private = BASE64.decode(document.private.as_bytes()).map_err(|_| "`private` is not base64")?;
        let no_key = |_| format!("`private` is {} bytes, expected 32", private.len());
        let (secret, public) = match document.kem {
            Kem::X25519 => {
                let secret = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(&private).map_err(no_key)?;
                let public = X25519HkdfSha256::sk_to_pk(&secret).to_bytes().to_vec();
                (Secret::X25519(secret), public)
            }
            Kem::XWing => {
                let secret = <XWing as hpke::Kem>::PrivateKey::from_bytes(&private).map_err(no_key)?;
                let public = XWing::sk_to_pk(&secret).to_bytes().to_vec();
                (Secret::XWing(Box::new(secret)), public)
            }
        };
        if document.id != key_id(&public) {
            return Err(format!("`id` is not that of its public key, which is {}", key_id(&public)));
        }
        Ok(Self { id: document.id, secret })
    }
}

/// The id of a public key: the first 8 bytes of its SHA-256, in hex.
pub(crate) fn key_id(public: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(public)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_file_that_contradicts_itself_is_refused_without_showing_the_key() {
        let private = BASE64.encode(&[9; 32]);
        let file = |id: &str| format!(r#"{{"id":"{id}","kem":"X25519","private":"{private}"}}"#);
        let why = PrivateKey::parse(&file("0000000000000000")).err().unwrap();
        assert!(why.contains("`id`") && !why.contains(&private), "{why}");
        let id = why.rsplit(' ').next().unwrap();
        assert!(PrivateKey::parse(&file(id)).is_ok());
        let why = PrivateKey::parse(&format!(r#"{{"private":{{"secret":"{private}"}}}}"#)).err().unwrap();
        assert!(!why.contains(&private), "{why}");
    }
}
