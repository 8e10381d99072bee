//! The part of a sealed report that everybody can read: its header.

use std::fmt;

use data_encoding::HEXLOWER;

use crate::limits::CHUNK_BYTES;
use crate::suite::{AEAD_AES_256_GCM, KDF_HKDF_SHA256, Kem, TAG_BYTES};
use crate::time;

/// The bytes before the encapsulated key.
pub const HEADER_BYTES: usize = 37;

const MAGIC: &[u8; 4] = b"OTR1";
const FLAG_SINGLE: u8 = 1;

/// A sealed report's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The id of the key that it is sealed for.
    pub key_id: [u8; 8],
    /// What the key is for.
    pub kem: Kem,
    /// The report's id.
    pub report_id: [u8; 16],
    /// The UTC day, counted from 1970-01-01.
    pub day: u16,
    /// Whether all is in one chunk.
    pub is_single: bool,
}

/// Why bytes are no whole sealed report. The library asks only whether they are; the texts are the collector's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Shorter than a header.
    NoHeader,
    /// Other first bytes.
    Magic,
    /// A key encapsulation that is not known.
    Kem(u16),
    /// A key derivation or cipher that is not known.
    Suite(u16, u16),
    /// Flags that are not known.
    Flags(u8),
    /// A chunk of an impossible length.
    ChunkLength(u32),
    /// A chunk before the last that is not full.
    NotFull,
    /// It ends inside something.
    CutOff,
    /// There is no chunk.
    NoChunk,
    /// The header says several chunks, and there is one.
    OneChunk,
    /// The header says one chunk, and there are so many.
    ManyChunks(u64),
    /// A length that padding does not make.
    Padding(u64),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FULL: usize = CHUNK_BYTES + TAG_BYTES;
        match self {
            Self::NoHeader => f.write_str("it is shorter than a sealed report's header"),
            Self::Magic => f.write_str("it does not begin with OTR1"),
            Self::Kem(kem) => write!(f, "KEM 0x{kem:04x} is not known"),
            Self::Suite(kdf, aead) => write!(f, "KDF 0x{kdf:04x} with AEAD 0x{aead:04x} is not known"),
            Self::Flags(flags) => write!(f, "flags 0x{flags:02x} are not known"),
            Self::ChunkLength(length) => {
                write!(f, "a chunk is {length} bytes long, not {} to {FULL}", TAG_BYTES + 1)
            }
            Self::NotFull => f.write_str("a chunk before the last is not full"),
            Self::CutOff => f.write_str("it is cut off"),
            Self::NoChunk => f.write_str("it has no chunk"),
            Self::OneChunk => f.write_str("its header says several chunks, there is one"),
            Self::ManyChunks(chunks) => write!(f, "its header says one chunk, there are {chunks}"),
            Self::Padding(length) => write!(f, "{length} bytes are no padded length"),
        }
    }
}

impl Header {
    /// Reads the first [`HEADER_BYTES`] of a sealed report.
    pub fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Damage::NoHeader)?;
        let u16_at = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if header[..4] != *MAGIC {
            return Err(Damage::Magic);
        }
        let kem = Kem::from_id(u16_at(12)).ok_or(Damage::Kem(u16_at(12)))?;
        if (u16_at(14), u16_at(16)) != (KDF_HKDF_SHA256, AEAD_AES_256_GCM) {
            return Err(Damage::Suite(u16_at(14), u16_at(16)));
        }
        let flags = header[36];
        if flags & !FLAG_SINGLE != 0 {
            return Err(Damage::Flags(flags));
        }
        let (mut key_id, mut report_id) = ([0; 8], [0; 16]);
        key_id.copy_from_slice(&header[4..12]);
        report_id.copy_from_slice(&header[18..34]);
        Ok(Self { key_id, kem, report_id, day: u16_at(34), is_single: flags & FLAG_SINGLE != 0 })
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(MAGIC);
        header[4..12].copy_from_slice(&self.key_id);
        header[12..14].copy_from_slice(&self.kem.id().to_be_bytes());
        header[14..16].copy_from_slice(&KDF_HKDF_SHA256.to_be_bytes());
        header[16..18].copy_from_slice(&AEAD_AES_256_GCM.to_be_bytes());
        header[18..34].copy_from_slice(&self.report_id);
        header[34..36].copy_from_slice(&self.day.to_be_bytes());
        header[36] = if self.is_single { FLAG_SINGLE } else { 0 };
        header
    }

    /// The key's id as 16 hex digits.
    pub fn key_id_hex(&self) -> String {
        HEXLOWER.encode(&self.key_id)
    }

    /// The report's id as 32 hex digits.
    pub fn report_id_hex(&self) -> String {
        HEXLOWER.encode(&self.report_id)
    }

    /// The report's day, `YYYY-MM-DD`.
    pub fn date(&self) -> String {
        time::date_of_day(self.day)
    }
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
    fn a_header_is_read_and_written() {
        let bytes = header_bytes(0x0020, 1);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.key_id_hex(), header.report_id_hex()), ("01".repeat(8), "02".repeat(16)));
        assert_eq!((header.kem, header.is_single, header.date().as_str()), (Kem::X25519, true, "2026-11-24"));
        assert_eq!(header.to_bytes().to_vec(), bytes);
        assert_eq!(Header::parse(&header_bytes(0x647a, 0)).unwrap().kem, Kem::XWing);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let why = |bytes: &[u8]| Header::parse(bytes).unwrap_err().to_string();
        assert!(why(&header_bytes(0x0020, 1)[..36]).contains("shorter"));
        assert!(why(&header_bytes(0x0010, 0)).contains("KEM 0x0010"));
        assert!(why(&header_bytes(0x0020, 2)).contains("flags 0x02"));
        let mut other = header_bytes(0x0020, 0);
        other[3] = b'2';
        assert!(why(&other).contains("OTR1"));
        let mut other = header_bytes(0x0020, 0);
        other[17] = 1;
        assert!(why(&other).contains("AEAD 0x0001"));
    }
}
