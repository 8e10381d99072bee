//! Who signs version answers.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signer, SigningKey};
use ondat_telemetry_protocol::answer::{key_id, signed_message};

pub(crate) const ZONE: &str = "latest.example.com";
pub(crate) const DAY: i64 = 86_400;

pub(crate) struct Vendor {
    key: SigningKey,
}

impl Vendor {
    /// Another one for every seed.
    pub(crate) fn new(seed: u8) -> Self {
        Self { key: SigningKey::from_bytes(&[seed; 32]) }
    }

    /// The key that clients are given.
    pub(crate) fn public(&self) -> String {
        BASE64.encode(self.key.verifying_key().as_bytes())
    }

    /// The text with key id and signature.
    pub(crate) fn sign(&self, text: &str) -> String {
        self.sign_for(ZONE, text)
    }

    /// The text with key id and signature, for another zone.
    pub(crate) fn sign_for(&self, zone: &str, text: &str) -> String {
        let covered = format!("{text} k={}", key_id(self.key.verifying_key().as_bytes()));
        let signature = self.key.sign(&signed_message(zone, &covered));
        format!("{covered} g={}", BASE64URL_NOPAD.encode(&signature.to_bytes()))
    }

    /// A good answer: an upgrade of 2.8.2 is recommended, to this version.
    pub(crate) fn recommends(&self, latest: &str) -> String {
        self.sign(&statement(latest, now()))
    }
}

/// What everybody would believe who got it as an answer, also after a good one: a version that there is not, issued
/// within the hour by which clocks may be wrong.
pub(crate) fn news() -> String {
    let vendor = Vendor::new(1);
    vendor.sign(&statement("6.6.6", now() + 3600))
}

/// What a good answer says when it is issued at this moment; it holds for 30 days.
pub(crate) fn statement(latest: &str, issued: i64) -> String {
    format!("o1 v=* l={latest} r=2.8.3 m=2.7.0 a=ODT-2026-014 t={issued} e={}", issued + 30 * DAY)
}

pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
