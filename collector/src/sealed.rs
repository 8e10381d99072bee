//! The part of a sealed report that everybody can read: its header.

use data_encoding::HEXLOWER;

/// The header's length.
pub(crate) const HEADER_BYTES: usize = 37;
/// The largest sealed report.
pub(crate) const MOST_BYTES: u64 = 32 << 20;

const MAGIC: &[u8] = b"OTR1";
const FLAG_SINGLE: u8 = 1;
const KDF_HKDF_SHA256: u16 = 0x0001;
const AEAD_AES_256_GCM: u16 = 0x0002;

/// How the key of a report is encapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(crate) enum Kem {
    /// DHKEM(X25519, HKDF-SHA256).
    X25519,
    /// X25519 and ML-KEM-768 together.
    #[serde(rename = "X-Wing")]
    XWing,
}

impl Kem {
    fn from_id(id: u16) -> Option<Self> {
        match id {
            0x0020 => Some(Self::X25519),
            0x647a => Some(Self::XWing),
            _ => None,
        }
    }
}

/// A sealed report's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The first 8 bytes of the SHA-256 of the public key, in hex.
    pub(crate) key_id: String,
    /// What the key is for.
    pub(crate) kem: Kem,
    /// The report's id in hex.
    pub(crate) report_id: String,
    /// Days since 1970-01-01.
    pub(crate) day: u16,
    /// Whether all is in one chunk.
    pub(crate) is_single: bool,
}

impl Header {
    /// Reads the first [`HEADER_BYTES`] of a sealed report.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or("it is shorter than a sealed report's header")?;
        let u16_at = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if &header[..4] != MAGIC {
            return Err("it does not begin with OTR1".to_owned());
        }
        let kem = Kem::from_id(u16_at(12)).ok_or_else(|| format!("KEM 0x{:04x} is not known", u16_at(12)))?;
        if (u16_at(14), u16_at(16)) != (KDF_HKDF_SHA256, AEAD_AES_256_GCM) {
            return Err(format!("KDF 0x{:04x} with AEAD 0x{:04x} is not known", u16_at(14), u16_at(16)));
        }
        let flags = header[36];
        if flags & !FLAG_SINGLE != 0 {
            return Err(format!("flags 0x{flags:02x} are not known"));
        }
        Ok(Self {
            key_id: HEXLOWER.encode(&header[4..12]),
            kem,
            report_id: HEXLOWER.encode(&header[18..34]),
            day: u16_at(34),
            is_single: flags & FLAG_SINGLE != 0,
        })
    }

    /// The report's day, `YYYY-MM-DD`.
    pub(crate) fn date(&self) -> String {
        date(self.day)
    }
}

/// A day number as `YYYY-MM-DD`.
pub(crate) fn date(day: u16) -> String {
    let midnight = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(day) * 86_400);
    let mut text = humantime::format_rfc3339_seconds(midnight).to_string();
    text.truncate("YYYY-MM-DD".len());
    text
}

/// Whether a text is 32 lower-case hex digits, as report and event ids are.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A header with key id 01…, report id 02… and day 20781.
    pub(crate) fn header_bytes(kem: u16, flags: u8) -> Vec<u8> {
        let mut header = b"OTR1".to_vec();
        header.extend([1; 8]);
        header.extend(kem.to_be_bytes());
        header.extend([0, 1, 0, 2]);
        header.extend([2; 16]);
        header.extend(20_781_u16.to_be_bytes());
        header.push(flags);
        header
    }

    #[test]
    fn a_header_is_read() {
        let header = Header::parse(&header_bytes(0x0020, 1)).unwrap();
        assert_eq!(header.key_id, "01".repeat(8));
        assert_eq!(header.report_id, "02".repeat(16));
        assert_eq!((header.kem, header.is_single, header.date().as_str()), (Kem::X25519, true, "2026-11-24"));
        assert_eq!(Header::parse(&header_bytes(0x647a, 0)).unwrap().kem, Kem::XWing);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert!(Header::parse(&header_bytes(0x0020, 1)[..36]).is_err());
        assert!(Header::parse(&header_bytes(0x0010, 0)).unwrap_err().contains("KEM"));
        assert!(Header::parse(&header_bytes(0x0020, 2)).unwrap_err().contains("flags"));
        let mut other = header_bytes(0x0020, 0);
        other[3] = b'2';
        assert!(Header::parse(&other).unwrap_err().contains("OTR1"));
    }
}
