//! Key sets: the public keys that reports are sealed for, and the private ones that open them.

use data_encoding::{BASE64, HEXLOWER};
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Kem as _, Serializable};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::suite::{Recipient, Secret, Sender};

pub use crate::suite::Kem;

/// A public key of the vendor, valid from `not_before` to `not_after` (Unix seconds).
#[derive(Clone, Debug)]
pub struct SealKey {
    pub(crate) id: [u8; 8],
    pub(crate) recipient: Recipient,
    not_before: i64,
    not_after: i64,
}

/// The configured keys.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<SealKey>,
}

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<KeyDocument>,
}

#[derive(Deserialize)]
struct KeyDocument {
    id: String,
    kem: Kem,
    public: String,
    not_before: i64,
    not_after: i64,
}

impl KeySet {
    /// Reads a key set. The error names the key and what is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let document: KeySetDocument = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if document.keys.is_empty() {
            return Err("it holds no key".to_owned());
        }
        let keys = document.keys.iter().enumerate();
        let keys = keys.map(|(at, key)| key.parse().map_err(|why| format!("keys[{at}]: {why}")));
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// Of each key the id, from when and until when it is valid.
    pub fn to_json(&self) -> Value {
        self.keys.iter().map(|key| json!([HEXLOWER.encode(&key.id), key.not_before, key.not_after])).collect()
    }

    /// The ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = [u8; 8]> {
        self.keys.iter().map(|key| key.id)
    }

    /// The key to seal for now: of those valid, the one with the newest `not_before`.
    pub fn current(&self, now: i64) -> Option<&SealKey> {
        let valid = self.keys.iter().filter(|key| key.not_before <= now && now < key.not_after);
        valid.max_by_key(|key| key.not_before)
    }
}

impl KeyDocument {
    fn parse(&self) -> Result<SealKey, String> {
        let public = BASE64.decode(self.public.as_bytes()).map_err(|_| "`public` is not base64".to_owned())?;
        let expected = key_id(&public);
        if self.id != HEXLOWER.encode(&expected) {
            return Err("`id` is not the first 8 bytes of the SHA-256 of `public` in hex".to_owned());
        }
        if self.not_before >= self.not_after {
            return Err("`not_after` is not later than `not_before`".to_owned());
        }
        let recipient =
            Recipient::parse(self.kem, &public).map_err(|_| format!("`public` is not a key of {:?}", self.kem))?;
        // Points of low order encode well; using one shows what they are (RFC 9180, 7.1.4).
        Sender::new(&recipient, &[])
            .map_err(|_| "`public` is a weak key, which nothing can be sealed for".to_owned())?;
        Ok(SealKey { id: expected, recipient, not_before: self.not_before, not_after: self.not_after })
    }
}

/// The id of a public key: the first 8 bytes of its SHA-256.
pub fn key_id(public: &[u8]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&Sha256::digest(public)[..8]);
    id
}

/// A new key pair: the private and the public key's bytes.
pub fn generate_key(kem: Kem) -> (Vec<u8>, Vec<u8>) {
    match kem {
        Kem::X25519 => {
            let (private, public) = X25519HkdfSha256::gen_keypair();
            (private.to_bytes().to_vec(), public.to_bytes().to_vec())
        }
        Kem::XWing => {
            let (private, public) = XWing::gen_keypair();
            (private.to_bytes().to_vec(), public.to_bytes().to_vec())
        }
    }
}

/// A private key of the vendor's. No part of the shared library: who sends cannot open.
pub struct PrivateKey {
    /// The id of the public key that belongs to it.
    pub id: [u8; 8],
    pub(crate) secret: Secret,
}

#[derive(Deserialize)]
struct PrivateKeyDocument {
    id: String,
    kem: Kem,
    private: String,
}

impl PrivateKey {
    /// Reads a private key file, `{"id","kem","private"}`. The error does not repeat the key.
    pub fn parse(json: &str) -> Result<Self, String> {
        // serde_json quotes what it did not expect, which here may be the key: only the place is said.
        let document: PrivateKeyDocument = serde_json::from_str(json).map_err(|why| {
            format!("expected {{\"id\",\"kem\",\"private\"}} (line {}, column {})", why.line(), why.column())
        })?;
        let private = BASE64.decode(document.private.as_bytes()).map_err(|_| "`private` is not base64")?;
        let secret = Secret::parse(document.kem, &private)
            .map_err(|_| format!("`private` is {} bytes, expected 32", private.len()))?;
        let id = key_id(&secret.public());
        if document.id != HEXLOWER.encode(&id) {
            return Err(format!("`id` is not that of its public key, which is {}", HEXLOWER.encode(&id)));
        }
        Ok(Self { id, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new key's entry in a key set, and its id.
    fn key(kem: Kem, not_before: i64, not_after: i64) -> (String, [u8; 8]) {
        let (_, public) = generate_key(kem);
        let id = key_id(&public);
        let kem = if kem == Kem::X25519 { "X25519" } else { "X-Wing" };
        let (hex, base64) = (HEXLOWER.encode(&id), BASE64.encode(&public));
        let json = format!(
            r#"{{"id":"{hex}","kem":"{kem}","public":"{base64}","not_before":{not_before},"not_after":{not_after}}}"#
        );
        (json, id)
    }

    fn key_set(keys: &[&str]) -> KeySet {
        KeySet::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(","))).unwrap()
    }

    #[test]
    fn a_key_set_is_refused_with_the_reason() {
        assert!(KeySet::parse(r#"{"keys":[]}"#).unwrap_err().contains("no key"));
        let wrong_id =
            r#"{"keys":[{"id":"0011223344556677","kem":"X25519","public":"AA==","not_before":0,"not_after":1}]}"#;
        assert!(KeySet::parse(wrong_id).unwrap_err().contains("keys[0]: `id`"));
        let zeros = [0; 32];
        let (id, public) = (HEXLOWER.encode(&key_id(&zeros)), BASE64.encode(&zeros));
        let weak =
            format!(r#"{{"keys":[{{"id":"{id}","kem":"X25519","public":"{public}","not_before":0,"not_after":1}}]}}"#);
        assert!(KeySet::parse(&weak).unwrap_err().contains("keys[0]: `public` is a weak key"));
    }

    #[test]
    fn of_the_valid_keys_the_newest_seals() {
        let (old, old_id) = key(Kem::X25519, 100, 300);
        let (new, new_id) = key(Kem::XWing, 200, 400);
        for keys in [key_set(&[&old, &new]), key_set(&[&new, &old])] {
            let current = |now| keys.current(now).map(|key| key.id);
            let at = [99, 100, 199, 200, 299, 300, 399, 400].map(current);
            let (old, new) = (Some(old_id), Some(new_id));
            assert_eq!(at, [None, old, old, new, new, new, new, None]);
        }
    }

    #[test]
    fn a_key_that_begins_later_and_ends_earlier_leaves_the_rest_to_the_other() {
        let (long, long_id) = key(Kem::X25519, 100, 400);
        let (short, short_id) = key(Kem::X25519, 200, 300);
        let keys = key_set(&[&long, &short]);
        let at = [150, 250, 350].map(|now| keys.current(now).map(|key| key.id));
        assert_eq!(at, [Some(long_id), Some(short_id), Some(long_id)]);
    }

    #[test]
    fn keys_with_a_gap_between_them_leave_a_time_without_a_key() {
        let keys = key_set(&[&key(Kem::X25519, 100, 200).0, &key(Kem::X25519, 300, 400).0]);
        assert_eq!([150, 250, 350].map(|now| keys.current(now).is_some()), [true, false, true]);
    }

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
