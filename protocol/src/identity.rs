//! Anonymised ids: what stands for clusters, nodes, volumes and labels outside this process.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::limits::ID_BYTES;

/// What an anonymised id stands for. Ids of different purposes cannot be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A cluster id.
    Cluster,
    /// A node id.
    Node,
    /// A volume id.
    Volume,
    /// The key of a label that is not on the public list.
    LabelKey,
    /// The value of such a label.
    LabelValue,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Volume => "volume",
            Self::LabelKey => "label-key",
            Self::LabelValue => "label-value",
        }
    }
}

/// A raw id as it counts: without the white space around it, of which a Kubernetes Secret that was made with `echo` has
/// some. A control character inside is a mistake that would pass for another id.
pub fn raw_id(text: &str) -> Result<&str, &'static str> {
    let id = text.trim_matches(|c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r'));
    if !(1..=ID_BYTES).contains(&id.len()) {
        return Err("expected 1 to 256 bytes");
    }
    if id.contains(char::is_control) {
        return Err("expected no control character inside, such as a line break");
    }
    Ok(id)
}

/// A component's name: `[a-z0-9_.-]{1,64}`.
pub fn component(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 of a-z 0-9 _ . -".to_owned())
    }
}

/// Whether a text is 32 lower-case hex digits, as anonymised ids and the ids of reports and events are.
pub fn is_hex_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The identity key of a cluster, and everything derived from it.
#[derive(Clone)]
pub struct Identity {
    /// HMAC-SHA-256 with the key already in it: a copy of this is half the work of making one.
    keyed: Hmac<Sha256>,
}

impl Identity {
    /// The identity with this key, which all nodes of a cluster share.
    pub fn from_key(key: [u8; 32]) -> Self {
        // RFC 2104 pads a short key with zeros to the hash's block; doing it here needs no fallible call.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&key);
        Self { keyed: Hmac::new(&block.into()) }
    }

    /// The identity derived from the cluster id alone (HKDF-SHA-256, RFC 5869, empty salt): whoever knows the
    /// raw id can compute it.
    pub fn from_cluster_id(cluster_id: &str) -> Self {
        let mut key = [0; 32];
        // 32 bytes are one block: the only error of HKDF, an output of more than 255 blocks, cannot occur.
        let _ = Hkdf::<Sha256>::new(None, cluster_id.as_bytes()).expand(b"ondat-telemetry identity v1", &mut key);
        Self::from_key(key)
    }

    /// The anonymised form of a raw id.
    pub fn anonymise(&self, purpose: Purpose, raw: &str) -> [u8; 16] {
        first_16(&self.mac(&[purpose.as_str().as_bytes(), &[0], raw.as_bytes()]))
    }

    /// [`anonymise`](Self::anonymise) as 32 lower-case hex digits.
    pub fn anonymise_hex(&self, purpose: Purpose, raw: &str) -> String {
        HEXLOWER.encode(&self.anonymise(purpose, raw))
    }

    /// The id of the report of one UTC day (`YYYY-MM-DD`): the same on every node and on every try.
    pub fn report_id(&self, day: &str) -> [u8; 16] {
        first_16(&self.mac(&[b"report", day.as_bytes()]))
    }

    /// The node's own moment of the UTC day, in seconds from midnight: 0..86400.
    pub fn slot_seconds(&self, node_id: &str) -> u64 {
        let mac = self.mac(&[b"slot", node_id.as_bytes()]);
        let mut first_8 = [0; 8];
        first_8.copy_from_slice(&mac[..8]);
        u64::from_be_bytes(first_8) % 86_400
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.keyed.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(key withheld)")
    }
}

/// Anonymises the ids of one report. Its records have the same few label keys, so what those become is remembered.
pub struct Anonymiser {
    identity: Identity,
    label_keys: BTreeMap<String, String>,
}

/// The most label keys that are remembered.
const REMEMBERED: usize = 256;

impl Anonymiser {
    /// Anonymises as this identity does.
    pub fn new(identity: &Identity) -> Self {
        Self { identity: identity.clone(), label_keys: BTreeMap::new() }
    }

    /// [`Identity::anonymise_hex`].
    pub fn hex(&self, purpose: Purpose, raw: &str) -> String {
        self.identity.anonymise_hex(purpose, raw)
    }

    /// The same of a label's key.
    pub fn label_key(&mut self, raw: &str) -> String {
        if let Some(known) = self.label_keys.get(raw) {
            return known.clone();
        }
        let key = self.hex(Purpose::LabelKey, raw);
        if self.label_keys.len() < REMEMBERED {
            self.label_keys.insert(raw.to_owned(), key.clone());
        }
        key
    }
}

fn first_16(mac: &[u8; 32]) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&mac[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected values were computed with Python's hmac and cryptography packages.
    #[test]
    fn ids_equal_an_independent_computation() {
        let identity = Identity::from_key([7; 32]);
        assert_eq!(identity.anonymise_hex(Purpose::Cluster, "c-1"), "ddf5e2b42e2ea2c0778963fe43402ba1");
        assert_eq!(HEXLOWER.encode(&identity.report_id("2026-11-24")), "5b1f8a446fd26c33a81d640ff2b5ef67");
        assert_eq!(identity.slot_seconds("n-1"), 85_128);
        let derived = Identity::from_cluster_id("c-1");
        assert_eq!(derived.anonymise_hex(Purpose::Node, "n-1"), "8abde0e611f4da741a22b1c30822f062");
    }

    #[test]
    fn purposes_do_not_share_ids() {
        let identity = Identity::from_cluster_id("x");
        assert_ne!(identity.anonymise(Purpose::Cluster, "x"), identity.anonymise(Purpose::Node, "x"));
    }
}
