//! The name that is asked: `<blob>.<ver>.o1.<zone>.`

use data_encoding::BASE32_DNSSEC;
use semver::Version;
use sha2::{Digest, Sha256};

/// First byte of the blob: the unsealed format.
const FORMAT: u8 = 1;
/// The longest canonical version that fits one label: 39 bytes are 63 characters of base32hex.
const LABEL_BYTES: usize = 39;

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

impl Query {
    /// The absolute name to ask for in this zone (lower case, without its last dot).
    pub fn name(&self, zone: &str) -> String {
        let mut blob = self.head();
        let check = check_value(&blob, &self.version);
        blob.extend_from_slice(&check);
        format!("{}.{}.o1.{zone}.", BASE32_DNSSEC.encode(&blob), self.version)
    }

    /// Reads a name back. None for a name that no client of ours has asked: scanners, damage.
    pub fn decode(name: &str, zone: &str) -> Option<Self> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let labels = name.strip_suffix(zone)?.strip_suffix(".o1.")?;
        let (blob, version) = labels.split_once('.')?;
        let blob = BASE32_DNSSEC.decode(blob.as_bytes()).ok()?;
        if blob.len() != 39 || version.contains('.') || blob[0] != FORMAT {
            return None;
        }
        let (head, check) = blob.split_at(35);
        if check_value(head, version) != *check {
            return None;
        }
        Some(Self {
            cluster: head[1..17].try_into().ok()?,
            node: head[17..33].try_into().ok()?,
            day: u16::from_be_bytes([head[33], head[34]]),
            version: version.to_owned(),
        })
    }

    /// The version in readable form; none where only its hash was sent.
    pub fn version_text(&self) -> Option<String> {
        String::from_utf8(BASE32_DNSSEC.decode(self.version.as_bytes()).ok()?).ok()
    }

    fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(39);
        head.push(FORMAT);
        head.extend_from_slice(&self.cluster);
        head.extend_from_slice(&self.node);
        head.extend_from_slice(&self.day.to_be_bytes());
        head
    }
}

fn check_value(head: &[u8], version_label: &str) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(b"ondat-telemetry o1").chain_update(head).chain_update(version_label).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(version: &str) -> Query {
        Query { cluster: [1; 16], node: [0xfe; 16], day: 20_781, version: version_label(&version.parse().unwrap()) }
    }

    #[test]
    fn the_blob_is_one_full_label_and_reads_back() {
        let asked = query("2.8.2");
        let name = asked.name("latest.example.com");
        assert_eq!(name.split('.').next().map(str::len), Some(63));
        assert_eq!(Query::decode(&name.to_ascii_uppercase(), "latest.example.com"), Some(asked.clone()));
        assert_eq!(asked.version_text().as_deref(), Some("2.8.2"));
    }

    #[test]
    fn a_damaged_name_is_dropped() {
        let name = query("2.8.2").name("latest.example.com");
        let damaged = name.replacen('0', "1", 1);
        assert_ne!(damaged, name);
        assert_eq!(Query::decode(&damaged, "latest.example.com"), None);
        assert_eq!(Query::decode("www.latest.example.com", "latest.example.com"), None);
    }

    #[test]
    fn build_metadata_is_dropped_and_a_long_version_is_hashed() {
        assert_eq!(query("2.8.2+rke2r1").version, query("2.8.2").version);
        let long = query("2.8.2-rc.1.a-very-long-branch-name-of-somebody-else");
        assert!(long.version.starts_with('x') && long.version.len() == 33, "{}", long.version);
        assert_eq!(long.version_text(), None);
    }
}
