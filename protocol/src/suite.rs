//! The suites of RFC 9180 that reports are sealed with, and their keys: base mode, HKDF-SHA256, AES-256-GCM, and one of two
//! key encapsulations.

use std::io;

use hpke::aead::{AeadCtxR, AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, HpkeError, Kem as _, OpModeR, OpModeS, Serializable};
use serde::Deserialize;

const INFO: &[u8] = b"ondat-telemetry report v1\0";
/// What sealing adds to a chunk.
pub(crate) const TAG_BYTES: usize = 16;
/// The numbers of the registries of RFC 9180, 7.2 and 7.3.
pub(crate) const KDF_HKDF_SHA256: u16 = 0x0001;
pub(crate) const AEAD_AES_256_GCM: u16 = 0x0002;

/// The key encapsulation a key is for; the key decides the suite.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Kem {
    /// DHKEM(X25519, HKDF-SHA256).
    X25519,
    /// X25519 and ML-KEM-768 together, against recording now and decrypting later.
    #[serde(rename = "X-Wing")]
    XWing,
}

impl Kem {
    /// Its number in the registry of RFC 9180, 7.1.
    pub fn id(self) -> u16 {
        match self {
            Self::X25519 => 0x0020,
            Self::XWing => 0x647a,
        }
    }

    /// The one with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        [Self::X25519, Self::XWing].into_iter().find(|kem| kem.id() == id)
    }

    /// The bytes of an encapsulated key.
    pub fn encapsulated_bytes(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::XWing => 1120,
        }
    }
}

/// Whom a report is sealed for.
#[derive(Clone, Debug)]
pub(crate) enum Recipient {
    X25519(<X25519HkdfSha256 as hpke::Kem>::PublicKey),
    XWing(Box<<XWing as hpke::Kem>::PublicKey>),
}

impl Recipient {
    /// Reads a public key.
    pub(crate) fn parse(kem: Kem, public: &[u8]) -> Result<Self, HpkeError> {
        match kem {
            Kem::X25519 => <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(public).map(Self::X25519),
            Kem::XWing => <XWing as hpke::Kem>::PublicKey::from_bytes(public).map(|key| Self::XWing(Box::new(key))),
        }
    }

    pub(crate) fn kem(&self) -> Kem {
        match self {
            Self::X25519(_) => Kem::X25519,
            Self::XWing(_) => Kem::XWing,
        }
    }
}

/// The private half.
pub(crate) enum Secret {
    X25519(<X25519HkdfSha256 as hpke::Kem>::PrivateKey),
    XWing(Box<<XWing as hpke::Kem>::PrivateKey>),
}

impl Secret {
    /// Reads a private key.
    pub(crate) fn parse(kem: Kem, private: &[u8]) -> Result<Self, HpkeError> {
        match kem {
            Kem::X25519 => <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(private).map(Self::X25519),
            Kem::XWing => <XWing as hpke::Kem>::PrivateKey::from_bytes(private).map(|key| Self::XWing(Box::new(key))),
        }
    }

    pub(crate) fn kem(&self) -> Kem {
        match self {
            Self::X25519(_) => Kem::X25519,
            Self::XWing(_) => Kem::XWing,
        }
    }

    /// The public key's bytes.
    pub(crate) fn public(&self) -> Vec<u8> {
        match self {
            Self::X25519(secret) => X25519HkdfSha256::sk_to_pk(secret).to_bytes().to_vec(),
            Self::XWing(secret) => XWing::sk_to_pk(secret).to_bytes().to_vec(),
        }
    }
}

/// Seals one chunk after the other.
pub(crate) enum Sender {
    X25519(Box<AeadCtxS<AesGcm256, HkdfSha256, X25519HkdfSha256>>),
    XWing(Box<AeadCtxS<AesGcm256, HkdfSha256, XWing>>),
}

impl Sender {
    /// The sender's context and the encapsulated key that goes with it.
    pub(crate) fn new(recipient: &Recipient, header: &[u8]) -> io::Result<(Self, Vec<u8>)> {
        let info = [INFO, header].concat();
        match recipient {
            Recipient::X25519(key) => {
                let (enc, context) = hpke::setup_sender(&OpModeS::Base, key, &info).map_err(sealing_failed)?;
                Ok((Self::X25519(Box::new(context)), enc.to_bytes().to_vec()))
            }
            Recipient::XWing(key) => {
                let (enc, context) = hpke::setup_sender(&OpModeS::Base, &**key, &info).map_err(sealing_failed)?;
                Ok((Self::XWing(Box::new(context)), enc.to_bytes().to_vec()))
            }
        }
    }

    pub(crate) fn seal(&mut self, plaintext: &[u8], aad: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::X25519(context) => context.seal(plaintext, aad),
            Self::XWing(context) => context.seal(plaintext, aad),
        }
        .map_err(sealing_failed)
    }
}

/// Opens one chunk after the other.
pub(crate) enum Receiver {
    X25519(Box<AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256>>),
    XWing(Box<AeadCtxR<AesGcm256, HkdfSha256, XWing>>),
}

impl Receiver {
    /// The receiver's context for this encapsulated key.
    pub(crate) fn new(secret: &Secret, header: &[u8], encapsulated: &[u8]) -> Result<Self, HpkeError> {
        let info = [INFO, header].concat();
        Ok(match secret {
            Secret::X25519(secret) => {
                Self::X25519(Box::new(receiver::<X25519HkdfSha256>(secret, &info, encapsulated)?))
            }
            Secret::XWing(secret) => Self::XWing(Box::new(receiver::<XWing>(secret, &info, encapsulated)?)),
        })
    }

    pub(crate) fn open(&mut self, ciphertext: &[u8], aad: &[u8]) -> Result<Vec<u8>, HpkeError> {
        match self {
            Self::X25519(context) => context.open(ciphertext, aad),
            Self::XWing(context) => context.open(ciphertext, aad),
        }
    }
}

fn receiver<K: hpke::Kem>(
    secret: &K::PrivateKey,
    info: &[u8],
    encapsulated: &[u8],
) -> Result<AeadCtxR<AesGcm256, HkdfSha256, K>, HpkeError> {
    hpke::setup_receiver(&OpModeR::Base, secret, &K::EncappedKey::from_bytes(encapsulated)?, info)
}

pub(crate) fn sealing_failed(error: HpkeError) -> io::Error {
    io::Error::other(format!("sealing failed: {error}"))
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use serde_json::Value;

    use super::*;

    fn from_hex(hex: &Value) -> Vec<u8> {
        HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap()
    }

    /// Published vectors: `x25519` is the base mode vector of RFC 9180 (test-vectors.json, to which its appendix A
    /// points) for the suite that is sealed with here; `x_wing` is the key encapsulation 0x647a out of two revisions of
    /// draft-ietf-hpke-pq, which has no vector with AES-256-GCM: key schedule and AEAD are those of the first.
    fn vectors() -> Value {
        serde_json::from_str(include_str!("../tests/vectors/hpke.json")).unwrap()
    }

    #[test]
    fn every_ciphertext_of_the_vectors_of_rfc_9180_opens() {
        let vector = &vectors()["x25519"];
        for (name, id) in [("kem_id", Kem::X25519.id()), ("kdf_id", KDF_HKDF_SHA256), ("aead_id", AEAD_AES_256_GCM)] {
            assert_eq!(vector[name], id, "{name}");
        }
        let bytes = |name: &str| from_hex(&vector[name]);
        let secret = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(&bytes("skRm")).unwrap();
        assert_eq!(X25519HkdfSha256::sk_to_pk(&secret).to_bytes().to_vec(), bytes("pkRm"));
        let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&bytes("enc")).unwrap();
        let mut context = hpke::setup_receiver::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &secret,
            &enc,
            &bytes("info"),
        )
        .unwrap();
        let encryptions = vector["encryptions"].as_array().unwrap();
        assert_eq!(encryptions.len(), 257);
        for (number, encryption) in encryptions.iter().enumerate() {
            let opened = context.open(&from_hex(&encryption["ct"]), &from_hex(&encryption["aad"]));
            assert_eq!(opened.unwrap(), bytes("pt"), "ciphertext {number}");
        }
    }

    #[test]
    fn the_shared_secrets_of_the_vectors_of_x_wing_come_out() {
        let vectors = vectors();
        let vectors = vectors["x_wing"].as_array().unwrap();
        assert_eq!(vectors.len(), 2);
        for vector in vectors {
            let bytes = |name: &str| from_hex(&vector[name]);
            assert_eq!(vector["kem_id"], Kem::XWing.id());
            let secret = <XWing as hpke::Kem>::PrivateKey::from_bytes(&bytes("skRm")).unwrap();
            assert_eq!(XWing::sk_to_pk(&secret).to_bytes().to_vec(), bytes("pkRm"));
            let enc = <XWing as hpke::Kem>::EncappedKey::from_bytes(&bytes("enc")).unwrap();
            let shared = XWing::decap(&secret, None, &enc).unwrap();
            assert_eq!(shared.0.to_vec(), bytes("shared_secret"));
        }
    }
}
