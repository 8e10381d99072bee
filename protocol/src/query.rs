//! The name that is asked: `<blob>.<ver>.o1.<zone>.`, where the blob is readable by anybody or, with a key of the
//! vendor's, sealed.

use std::io;

use data_encoding::BASE32_DNSSEC;
use semver::Version;
use sha2::{Digest, Sha256};

use crate::limits::NAME_CHARS;
use crate::message::{MESSAGE_OVERHEAD, MessageKey, MessageSecret};

/// The protocol's generation: the label between version and zone.
const GENERATION: &str = "o1";
/// First byte of a readable blob.
const FORMAT: u8 = 1;
/// First byte of a sealed one.
const SEALED_FORMAT: u8 = 2;
/// The bytes of a readable blob: 63 characters of base32hex, one full label.
const BLOB_BYTES: usize = 39;
/// The bytes of a sealed one: format, encapsulated key, ciphertext and tag.
const SEALED_BYTES: usize = 1 + BLOB_BYTES + MESSAGE_OVERHEAD;
/// What the seal is bound to.
const SEAL_INFO: &[u8] = b"ondat-telemetry version query v1";
/// The longest canonical version that fits one label.
const LABEL_BYTES: usize = 39;
/// The longest label in characters (RFC 1035, 2.3.4).
const LABEL_CHARS: usize = 63;

/// What a query tells the vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The anonymised cluster id.
    pub cluster: [u8; 16],
    /// The anonymised node id.
    pub node: [u8; 16],
    /// Days since 1970-01-01 in UTC.
    pub day: u16,
    /// The version label, as [`version_label`] makes it.
    pub version: String,
}

/// A query whose ids and day only the vendor can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedQuery {
    /// The version label.
    pub version: String,
    sealed: Vec<u8>,
}

/// The canonical form of a version: no leading `v`, no build metadata.
pub fn canonical(version: &Version) -> String {
    let mut version = version.clone();
    version.build = semver::BuildMetadata::EMPTY;
    version.to_string()
}

/// The label that stands for a version: base32hex, which survives resolvers that change the case of letters.
pub fn version_label(version: &Version) -> String {
    let text = canonical(version);
    if text.len() <= LABEL_BYTES {
        return BASE32_DNSSEC.encode(text.as_bytes());
    }
    // `x` is no digit of base32hex, so the two forms cannot be confused.
    format!("x{}", BASE32_DNSSEC.encode(&Sha256::digest(text.as_bytes())[..20]))
}

/// The version that a label stands for; none where it is only a hash, or no label that [`version_label`] makes.
pub fn version_of(label: &str) -> Option<Version> {
    let text = String::from_utf8(BASE32_DNSSEC.decode(label.as_bytes()).ok()?).ok()?;
    Version::parse(&text).ok().filter(|version| version_label(version) == label)
}

/// Whether [`version_label`] makes this label, which is in lower case.
fn is_version_label(label: &str) -> bool {
    let (digits, is_hash) = label.strip_prefix('x').map_or((label, false), |digits| (digits, true));
    let Ok(bytes) = BASE32_DNSSEC.decode(digits.as_bytes()) else { return false };
    // Without build metadata, a version that can be read has one way of being written.
    let is_canonical = |text: &str| Version::parse(text).is_ok_and(|version| version.build.is_empty());
    if is_hash {
        bytes.len() == 20
    } else {
        bytes.len() <= LABEL_BYTES && str::from_utf8(&bytes).is_ok_and(is_canonical)
    }
}

/// Whether the name that is asked fits in DNS; the text says what is too long.
pub fn check_length(version_label: &str, zone: &str, is_sealed: bool) -> Result<(), String> {
    let blob = if is_sealed { 63 + 1 + 63 + 1 + 15 } else { 63 };
    let length = blob + 1 + version_label.len() + 1 + GENERATION.len() + 1 + zone.len();
    if length <= NAME_CHARS {
        return Ok(());
    }
    let sealed = if is_sealed { " sealed" } else { "" };
    Err(format!("the{sealed} query's name would have {length} characters, DNS allows {NAME_CHARS}: use a shorter zone"))
}

impl Query {
    /// The absolute name to ask for in this zone (lower case, without its last dot).
    pub fn name(&self, zone: &str) -> String {
        name(&self.blob(), &self.version, zone)
    }

    /// The same with the blob sealed: another one each time, so that no resolver on the way can tell who asks again.
    pub fn sealed_name(&self, zone: &str, key: &MessageKey) -> io::Result<String> {
        let blob = [&[SEALED_FORMAT], key.seal(SEAL_INFO, &self.blob())?.as_slice()].concat();
        Ok(name(&blob, &self.version, zone))
    }

    /// Reads a name back, in this zone or in any. None for a name that no client of ours has asked (scanners, damage),
    /// and for a sealed one.
    pub fn decode(name: &str, zone: Option<&str>) -> Option<Self> {
        let (blob, version) = take_apart(name, zone)?;
        Self::from_blob(&blob, version)
    }

    /// The version in readable form; none where only its hash was sent.
    pub fn version_text(&self) -> Option<String> {
        version_of(&self.version).map(|version| version.to_string())
    }

    fn from_blob(blob: &[u8], version: String) -> Option<Self> {
        if blob.len() != BLOB_BYTES || blob[0] != FORMAT {
            return None;
        }
        let (head, check) = blob.split_at(BLOB_BYTES - 4);
        if check_value(head, &version) != *check {
            return None;
        }
        Some(Self {
            cluster: head[1..17].try_into().ok()?,
            node: head[17..33].try_into().ok()?,
            day: u16::from_be_bytes([head[33], head[34]]),
            version,
        })
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::with_capacity(BLOB_BYTES);
        blob.push(FORMAT);
        blob.extend_from_slice(&self.cluster);
        blob.extend_from_slice(&self.node);
        blob.extend_from_slice(&self.day.to_be_bytes());
        let check = check_value(&blob, &self.version);
        blob.extend_from_slice(&check);
        blob
    }
}

impl SealedQuery {
    /// Reads a sealed query's name, in this zone or in any.
    pub fn decode(name: &str, zone: Option<&str>) -> Option<Self> {
        let (blob, version) = take_apart(name, zone)?;
        let sealed = blob.strip_prefix(&[SEALED_FORMAT]).filter(|_| blob.len() == SEALED_BYTES)?;
        Some(Self { version, sealed: sealed.to_vec() })
    }

    /// What it says; none where it was sealed for another key, or is damaged.
    pub fn open(&self, secret: &MessageSecret) -> Option<Query> {
        Query::from_blob(&secret.open(SEAL_INFO, &self.sealed)?, self.version.clone())
    }
}

fn name(blob: &[u8], version: &str, zone: &str) -> String {
    let mut name = String::new();
    let blob = BASE32_DNSSEC.encode(blob);
    let mut rest = blob.as_str();
    while !rest.is_empty() {
        let (label, others) = rest.split_at(rest.len().min(LABEL_CHARS));
        name.push_str(label);
        name.push('.');
        rest = others;
    }
    format!("{name}{version}.{GENERATION}.{zone}.")
}

/// The blob's bytes and the version label.
fn take_apart(name: &str, zone: Option<&str>) -> Option<(Vec<u8>, String)> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > NAME_CHARS {
        return None;
    }
    let name = name.to_ascii_lowercase();
    // A blob is one label or three; elsewhere, `o1` is part of the zone's name.
    let (before, asked_zone) = [2, 4].into_iter().find_map(|labels| {
        let (at, _) = name.match_indices('.').nth(labels - 1)?;
        let (label, zone) = name[at + 1..].split_once('.')?;
        (label == GENERATION).then_some((&name[..at], zone))
    })?;
    let (blob, version) = before.rsplit_once('.')?;
    let is_split_right = blob.rsplit('.').skip(1).all(|label| label.len() == LABEL_CHARS);
    let is_in_zone = zone.map_or(!asked_zone.is_empty(), |zone| zone == asked_zone);
    if !is_split_right || !is_in_zone || !is_version_label(version) {
        return None;
    }
    let blob = if blob.contains('.') { &blob.replace('.', "") } else { blob };
    Some((BASE32_DNSSEC.decode(blob.as_bytes()).ok()?, version.to_owned()))
}

fn check_value(head: &[u8], version_label: &str) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(b"ondat-telemetry o1").chain_update(head).chain_update(version_label).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Kem, generate_key};
    use data_encoding::BASE64;

    const ZONE: Option<&str> = Some("latest.example.com");

    fn query(version: &str) -> Query {
        Query { cluster: [1; 16], node: [0xfe; 16], day: 20_781, version: version_label(&version.parse().unwrap()) }
    }

    #[test]
    fn the_blob_is_one_full_label_and_reads_back() {
        let asked = query("2.8.2");
        let name = asked.name("latest.example.com");
        assert_eq!(name.split('.').next().map(str::len), Some(63));
        assert_eq!(Query::decode(&name.to_ascii_uppercase(), ZONE), Some(asked.clone()));
        assert_eq!(Query::decode(&name, None), Some(asked.clone()));
        assert_eq!(Query::decode(&name, Some("example.com")), None);
        assert_eq!(asked.version_text().as_deref(), Some("2.8.2"));
    }

    #[test]
    fn a_zone_may_be_called_like_the_generation() {
        for zone in ["o1.example.com", "a.o1.example.com", "o1.o1.o1"] {
            let asked = query("2.8.2");
            assert_eq!(Query::decode(&asked.name(zone), Some(zone)), Some(asked.clone()), "{zone}");
            assert_eq!(Query::decode(&asked.name(zone), None), Some(asked), "{zone}");
        }
    }

    #[test]
    fn a_sealed_query_is_88_bytes_in_three_labels_and_another_one_each_time() {
        let (private, public) = generate_key(Kem::X25519);
        let key = MessageKey::parse(&BASE64.encode(&public)).unwrap();
        let secret = MessageSecret::parse(&BASE64.encode(&private)).unwrap();
        let asked = query("2.8.2");
        let names = [0; 2].map(|_| asked.sealed_name("latest.example.com", &key).unwrap());
        assert_ne!(names[0], names[1]);
        for name in &names {
            let labels: Vec<usize> = name.split('.').map(str::len).collect();
            assert_eq!(labels[..3], [63, 63, 15], "{name}");
            assert_eq!(Query::decode(name, ZONE), None);
            let sealed = SealedQuery::decode(&name.to_ascii_uppercase(), ZONE).unwrap();
            assert_eq!(sealed.open(&secret), Some(asked.clone()));
            let other = MessageSecret::parse(&BASE64.encode(&generate_key(Kem::X25519).0)).unwrap();
            assert_eq!(sealed.open(&other), None);
            let for_other_version = SealedQuery { version: query("2.8.3").version, ..sealed };
            assert_eq!(for_other_version.open(&secret), None, "the check value holds blob and version together");
        }
    }

    #[test]
    fn a_key_that_hides_nothing_is_refused() {
        let refused = |bytes: &[u8]| MessageKey::parse(&BASE64.encode(bytes)).err().unwrap();
        assert!(refused(&[0; 32]).contains("weak"));
        assert!(refused(&[7; 31]).contains("31 bytes"));
        assert!(MessageKey::parse("?").err().unwrap().contains("base64"));
    }

    #[test]
    fn a_damaged_name_is_dropped() {
        let name = query("2.8.2").name("latest.example.com");
        let damaged = name.replacen('0', "1", 1);
        assert_ne!(damaged, name);
        assert_eq!(Query::decode(&damaged, ZONE), None);
        assert_eq!(Query::decode("www.latest.example.com", ZONE), None);
    }

    #[test]
    fn a_version_that_no_client_has_is_dropped() {
        for text in ["2.8", "2.8.2+build", "v2.8.2", "<script>"] {
            let made_up = Query { version: BASE32_DNSSEC.encode(text.as_bytes()), ..query("2.8.2") };
            assert_eq!(Query::decode(&made_up.name("latest.example.com"), ZONE), None, "{text}");
        }
    }

    #[test]
    fn build_metadata_is_dropped_and_a_long_version_is_hashed() {
        assert_eq!(query("2.8.2+rke2r1").version, query("2.8.2").version);
        let long = query("2.8.2-rc.1.a-very-long-branch-name-of-somebody-else");
        assert!(long.version.starts_with('x') && long.version.len() == 33, "{}", long.version);
        assert_eq!(long.version_text(), None);
        assert_eq!(Query::decode(&long.name("latest.example.com"), ZONE), Some(long));
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused_before_it_is_asked() {
        let label = query("2.8.2").version;
        assert!(check_length(&label, &"z".repeat(120), false).is_ok());
        assert!(check_length(&label, &"z".repeat(96), true).is_ok());
        let (_, public) = generate_key(Kem::X25519);
        let key = MessageKey::parse(&BASE64.encode(&public)).unwrap();
        for zone in ["z.example", "latest.example.com"] {
            let name = query("2.8.2").sealed_name(zone, &key).unwrap();
            let most = NAME_CHARS - (name.len() - 1 - zone.len());
            assert!(check_length(&label, &"z".repeat(most), true).is_ok());
            assert!(check_length(&label, &"z".repeat(most + 1), true).unwrap_err().contains("254 characters"));
        }
    }
}
