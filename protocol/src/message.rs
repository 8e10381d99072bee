//! One short message, sealed for a key of the vendor's: the ids in a version query.

use std::io;

use data_encoding::BASE64;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable};

use crate::suite::sealing_failed;

/// A public key to seal one short message for: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
#[derive(Clone, Debug)]
pub struct MessageKey(<X25519HkdfSha256 as hpke::Kem>::PublicKey);

/// Its private half. No part of the shared library: who sends cannot open.
pub struct MessageSecret(<X25519HkdfSha256 as hpke::Kem>::PrivateKey);

/// What sealing a short message adds to it: the encapsulated key and the tag.
pub const MESSAGE_OVERHEAD: usize = 32 + 16;

impl MessageKey {
    /// Reads a public key: 32 bytes in base64.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| "not base64".to_owned())?;
        let key = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&bytes)
            .map_err(|_| format!("{} bytes instead of 32", bytes.len()))?;
        // Points of low order encode well; using one shows what they are (RFC 9180, 7.1.4).
        let key = Self(key);
        key.seal(b"", b"").map_err(|_| "a weak key: what is sealed for it can be opened by anybody".to_owned())?;
        Ok(key)
    }

    /// The encapsulated key, then the ciphertext with its tag (RFC 9180, 6.1, base mode, empty aad).
    pub fn seal(&self, info: &[u8], plaintext: &[u8]) -> io::Result<Vec<u8>> {
        let sealed = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &self.0,
            info,
            plaintext,
            b"",
        );
        let (enc, ciphertext) = sealed.map_err(sealing_failed)?;
        Ok([enc.to_bytes().as_slice(), &ciphertext].concat())
    }
}

impl MessageSecret {
    /// Reads a private key: 32 bytes in base64.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| "not base64".to_owned())?;
        let secret = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(&bytes);
        secret.map(Self).map_err(|_| format!("{} bytes instead of 32", bytes.len()))
    }

    /// The public half's bytes.
    pub fn public(&self) -> Vec<u8> {
        X25519HkdfSha256::sk_to_pk(&self.0).to_bytes().to_vec()
    }

    /// The plaintext; none where it was sealed for another key, or changed.
    pub fn open(&self, info: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (enc, ciphertext) = sealed.split_at_checked(32)?;
        let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(enc).ok()?;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.0,
            &enc,
            info,
            ciphertext,
            b"",
        )
        .ok()
    }
}
