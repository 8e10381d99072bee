//! The name of a version query taken apart: `<blob>.<ver>.o1.<zone>`.

use data_encoding::{BASE32_DNSSEC, HEXLOWER};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::sealed;

const GENERATION: &str = "o1";
const BLOB_BYTES: usize = 39;
const BLOB_FORMAT: u8 = 1;
/// Format, encapsulated key, ciphertext and tag.
const SEALED_BYTES: usize = 88;
const SEALED_FORMAT: u8 = 2;
/// The bytes the check value covers.
const CHECKED_BYTES: usize = 35;
const CHECK_INFO: &[u8] = b"ondat-telemetry o1";
/// A version too long for a label is sent as the start of its SHA-256.
const VERSION_HASH_MARK: char = 'x';

/// What a version query says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct VersionQuery {
    /// SemVer, or `sha256:` and the first 20 bytes of the hash of one that was too long.
    pub(crate) version: String,
    /// What else it says; none where that is sealed, which this process has no key for.
    #[serde(flatten)]
    pub(crate) asker: Option<Asker>,
}

/// Who asked, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Asker {
    /// The anonymised cluster id.
    pub(crate) cluster: String,
    /// The anonymised node id.
    pub(crate) node: String,
    /// The UTC day on which it was asked, `YYYY-MM-DD`.
    pub(crate) day: String,
}

/// Reads a query's name. The error says why it is none of ours: a scanner, a resolver's probe, damage.
pub(crate) fn decode(name: &str, zone: Option<&str>) -> Result<VersionQuery, String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = name.split('.').collect();
    let place = [2, 4].into_iter().find(|at| labels.get(*at) == Some(&GENERATION));
    let place = place.ok_or("it is not of the form <blob>.<ver>.o1.<zone>")?;
    let rest = labels[place + 1..].join(".");
    if let Some(zone) = zone.filter(|zone| !zone.trim_end_matches('.').eq_ignore_ascii_case(&rest)) {
        return Err(format!("it is not in the zone {}", zone.trim_end_matches('.')));
    }
    let (blob, version) = (labels[..place - 1].concat(), labels[place - 1]);
    let blob = BASE32_DNSSEC.decode(blob.as_bytes()).map_err(|_| "its blob is not base32hex")?;
    let asker = match (blob.first().copied().unwrap_or_default(), blob.len()) {
        (BLOB_FORMAT, BLOB_BYTES) => Some(asker(&blob, version)?),
        (SEALED_FORMAT, SEALED_BYTES) => None,
        (format @ (BLOB_FORMAT | SEALED_FORMAT), length) => {
            return Err(format!("its blob of format {format} has {length} bytes"));
        }
        (format, _) => return Err(format!("its format {format} is not known")),
    };
    Ok(VersionQuery { version: decode_version(version)?, asker })
}

fn asker(blob: &[u8], version: &str) -> Result<Asker, String> {
    let check = Sha256::new().chain_update(CHECK_INFO).chain_update(&blob[..CHECKED_BYTES]).chain_update(version);
    if check.finalize()[..4] != blob[CHECKED_BYTES..] {
        return Err("its check value is wrong".to_owned());
    }
    Ok(Asker {
        cluster: HEXLOWER.encode(&blob[1..17]),
        node: HEXLOWER.encode(&blob[17..33]),
        day: sealed::date(u16::from_be_bytes([blob[33], blob[34]])),
    })
}

fn decode_version(label: &str) -> Result<String, String> {
    let (digits, is_hash) = match label.strip_prefix(VERSION_HASH_MARK) {
        Some(digits) => (digits, true),
        None => (label, false),
    };
    let bytes = BASE32_DNSSEC.decode(digits.as_bytes()).map_err(|_| "its version is not base32hex")?;
    if is_hash {
        return Ok(format!("sha256:{}", HEXLOWER.encode(&bytes)));
    }
    String::from_utf8(bytes).map_err(|_| "its version is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Computed with Python: hashlib, and base64.b32hexencode in lower case without padding.
    const NAME: &str = "048h248h248h248h248h248h248i48h248h248h248h248h248h24k9d3q68kf8.68n3gbhi.o1";

    #[test]
    fn a_name_is_read_whatever_its_case() {
        let query = decode(&format!("{NAME}.latest.example."), Some("latest.example")).unwrap();
        assert_eq!(query.version, "2.8.2");
        let asker = query.asker.clone().unwrap();
        assert_eq!((asker.cluster, asker.node), ("11".repeat(16), "22".repeat(16)));
        assert_eq!(asker.day, "2026-11-24");
        assert_eq!(decode(&format!("{}.Latest.EXAMPLE", NAME.to_uppercase()), Some("latest.example.")), Ok(query));
    }

    #[test]
    fn what_is_none_of_ours_is_named() {
        let changed = format!("{NAME}.latest.example").replacen("048h24", "048h20", 1);
        assert!(decode(&changed, None).unwrap_err().contains("check value"));
        assert!(decode(&format!("{NAME}.latest.example"), Some("other.example")).unwrap_err().contains("zone"));
        assert!(decode("o1.latest.example", None).unwrap_err().contains("form"));
        assert!(decode("a.b.o1.latest.example", None).is_err());
        let other_version = NAME.replace(".68n3gbhi.", ".68n3gbhj.");
        assert!(decode(&format!("{other_version}.latest.example"), None).unwrap_err().contains("check value"));
    }

    #[test]
    fn of_a_sealed_query_only_the_version_is_seen() {
        let blob = BASE32_DNSSEC.encode(&[&[2][..], &[7; 87]].concat());
        let name = format!("{}.{}.{}.68n3gbhi.o1.latest.example", &blob[..63], &blob[63..126], &blob[126..]);
        let query = decode(&name, Some("latest.example")).unwrap();
        assert_eq!((query.version.as_str(), query.asker), ("2.8.2", None));
        let short = BASE32_DNSSEC.encode(&[&[2][..], &[7; 38]].concat());
        assert!(decode(&format!("{short}.68n3gbhi.o1.latest.example"), None).unwrap_err().contains("39 bytes"));
    }

    #[test]
    fn a_long_version_is_a_hash() {
        assert!(decode_version("x0").is_err());
        assert_eq!(decode_version("x00000000").unwrap(), "sha256:0000000000");
    }
}
