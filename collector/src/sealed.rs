//! The parts of a sealed report that anybody can read: its header, and the frame of its chunks.

use data_encoding::HEXLOWER;

/// The header's length.
pub(crate) const HEADER_BYTES: usize = 37;
/// The largest sealed report, on both sides (docs/protocols.md).
pub(crate) const MOST_BYTES: u64 = 64 << 20;
/// What is sealed in one chunk.
pub(crate) const CHUNK_BYTES: usize = 65_536;
/// What sealing adds to a chunk.
pub(crate) const TAG_BYTES: usize = 16;

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

    /// The length of the encapsulated key behind it.
    fn key_bytes(&self) -> u64 {
        match self.kem {
            Kem::X25519 => 32,
            Kem::XWing => 1120,
        }
    }

    /// The report's day, `YYYY-MM-DD`.
    pub(crate) fn date(&self) -> String {
        date(self.day)
    }
}

/// Follows the frame of a sealed report as it comes: whether it is whole shows without opening it.
#[derive(Debug)]
pub(crate) struct Frame {
    header: Option<Header>,
    place: Place,
    chunks: u64,
    /// Bytes inside the chunks before they were sealed.
    sealed: u64,
    is_last_full: bool,
}

#[derive(Debug)]
enum Place {
    Header(Vec<u8>),
    /// So many bytes of the encapsulated key are missing.
    Key(u64),
    /// A chunk's length, as far as it has come.
    Length(Vec<u8>),
    /// So many bytes of a chunk are missing.
    Chunk(u64),
}

impl Frame {
    pub(crate) fn new() -> Self {
        Self { header: None, place: Place::Header(Vec::new()), chunks: 0, sealed: 0, is_last_full: true }
    }

    /// Takes the next piece. The error says why it belongs to no report.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            bytes = match &mut self.place {
                Place::Header(so_far) => {
                    let rest = fill(so_far, HEADER_BYTES, bytes);
                    if so_far.len() == HEADER_BYTES {
                        let header = Header::parse(so_far)?;
                        self.place = Place::Key(header.key_bytes());
                        self.header = Some(header);
                    }
                    rest
                }
                Place::Length(so_far) => {
                    let rest = fill(so_far, 4, bytes);
                    if let Some(length) = so_far.first_chunk() {
                        let length = u32::from_be_bytes(*length);
                        self.begin_chunk(u64::from(length))?;
                    }
                    rest
                }
                Place::Key(missing) | Place::Chunk(missing) => {
                    let taken = bytes.len().min(usize::try_from(*missing).unwrap_or(usize::MAX));
                    *missing -= taken as u64;
                    if *missing == 0 {
                        self.place = Place::Length(Vec::new());
                    }
                    &bytes[taken..]
                }
            };
        }
        Ok(())
    }

    fn begin_chunk(&mut self, length: u64) -> Result<(), String> {
        const FULL: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;
        const TAG: u64 = TAG_BYTES as u64;
        if !(TAG + 1..=FULL).contains(&length) {
            return Err(format!("a chunk is {length} bytes long, not {} to {FULL}", TAG + 1));
        }
        if !self.is_last_full {
            return Err("a chunk before the last is not full".to_owned());
        }
        self.chunks += 1;
        self.sealed += length - TAG;
        self.is_last_full = length == FULL;
        self.place = Place::Chunk(length);
        Ok(())
    }

    /// The header, when all has come. The error says what is missing.
    pub(crate) fn finish(self) -> Result<Header, String> {
        let is_between_chunks = matches!(&self.place, Place::Length(so_far) if so_far.is_empty());
        let Some(header) = self.header else {
            return Err("it is shorter than a sealed report's header".to_owned());
        };
        if !is_between_chunks {
            return Err("it is cut off".to_owned());
        }
        match self.chunks {
            0 => return Err("it has no chunk".to_owned()),
            1 if !header.is_single => return Err("its header says several chunks, there is one".to_owned()),
            chunks if chunks > 1 && header.is_single => {
                return Err(format!("its header says one chunk, there are {chunks}"));
            }
            _ => {}
        }
        if ondat_telemetry::seal::padme(self.sealed) != self.sealed {
            return Err(format!("{} bytes are no padded length", self.sealed));
        }
        Ok(header)
    }
}

/// Takes what is missing to so many bytes. Returns what is left over.
fn fill<'a>(so_far: &mut Vec<u8>, whole: usize, bytes: &'a [u8]) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(bytes.len().min(whole - so_far.len()));
    so_far.extend_from_slice(taken);
    rest
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

    /// A report with chunks of these lengths, before they were sealed.
    fn framed(kem: u16, flags: u8, chunks: &[usize]) -> Vec<u8> {
        let mut report = header_bytes(kem, flags);
        report.extend(vec![3; if kem == 0x0020 { 32 } else { 1120 }]);
        for length in chunks {
            report.extend(u32::try_from(length + TAG_BYTES).unwrap().to_be_bytes());
            report.extend(vec![4; length + TAG_BYTES]);
        }
        report
    }

    fn followed(report: &[u8], piece: usize) -> Result<Header, String> {
        let mut frame = Frame::new();
        report.chunks(piece).try_for_each(|piece| frame.push(piece))?;
        frame.finish()
    }

    #[test]
    fn a_frame_is_whole_or_is_not() {
        const FULL: usize = CHUNK_BYTES;
        for (kem, flags, chunks, wrong) in [
            (0x0020, 1, &[1024][..], None),
            (0x647a, 1, &[FULL], None),
            (0x0020, 0, &[FULL, FULL], None),
            (0x647a, 0, &[FULL, 32_768], None),
            (0x0020, 1, &[], Some("no chunk")),
            (0x0020, 1, &[1025], Some("padded")),
            (0x0020, 0, &[1024], Some("several")),
            (0x0020, 1, &[FULL, FULL], Some("there are 2")),
            (0x0020, 0, &[32_768, FULL], Some("not full")),
            (0x0020, 1, &[0], Some("16 bytes long")),
            (0x0020, 1, &[FULL + 1], Some("long")),
        ] {
            let report = framed(kem, flags, chunks);
            let outcome = followed(&report, report.len());
            assert_eq!(followed(&report, 1), outcome);
            assert_eq!(followed(&report, 1000), outcome);
            match wrong {
                None => assert!(outcome.is_ok(), "{chunks:?}: {outcome:?}"),
                Some(why) => assert!(outcome.as_ref().unwrap_err().contains(why), "{chunks:?}: {outcome:?}"),
            }
        }
        let whole = framed(0x0020, 0, &[FULL, FULL]);
        for cut in [0, 36, 37, 50, 69, 71, 73, 100, whole.len() / 2, whole.len() - 1] {
            assert!(followed(&whole[..cut], 1 << 20).is_err(), "{cut}");
        }
        assert!(followed(&[&whole[..], b"x"].concat(), 1 << 20).is_err());
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
