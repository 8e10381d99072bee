//! The frame of a sealed report: its header and its chunks, followed as they come. Whether a report is whole shows without
//! opening it; what was cut short, overwritten or never was a report is told.

use std::io::{self, Read};

use crate::header::{Damage, HEADER_BYTES, Header};
use crate::limits::CHUNK_BYTES;
use crate::seal::padme;
use crate::suite::TAG_BYTES;

/// Whether these bytes have the form of a whole sealed report with this id, 32 hex digits.
pub fn is_whole(mut sealed: impl Read, report_id: &str) -> io::Result<bool> {
    let mut frame = Frame::new();
    let mut piece = [0; 4096];
    loop {
        let read = match sealed.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if frame.push(&piece[..read]).is_err() {
            return Ok(false);
        }
    }
    Ok(frame.finish().is_ok_and(|header| header.report_id_hex() == report_id))
}

/// Follows the frame of a sealed report as it comes: whether it is whole shows without opening it.
#[derive(Debug)]
pub struct Frame {
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

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

impl Frame {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self { header: None, place: Place::Header(Vec::new()), chunks: 0, sealed: 0, is_last_full: true }
    }

    /// Takes the next piece. The error says why it belongs to no report.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Damage> {
        while !bytes.is_empty() {
            bytes = match &mut self.place {
                Place::Header(so_far) => {
                    let rest = fill(so_far, HEADER_BYTES, bytes);
                    if so_far.len() == HEADER_BYTES {
                        let header = Header::parse(so_far)?;
                        self.place = Place::Key(header.kem.encapsulated_bytes() as u64);
                        self.header = Some(header);
                    }
                    rest
                }
                Place::Length(so_far) => {
                    let rest = fill(so_far, 4, bytes);
                    if let Some(length) = so_far.first_chunk() {
                        let length = u32::from_be_bytes(*length);
                        self.begin_chunk(length)?;
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

    fn begin_chunk(&mut self, length: u32) -> Result<(), Damage> {
        const FULL: u64 = (CHUNK_BYTES + TAG_BYTES) as u64;
        const TAG: u64 = TAG_BYTES as u64;
        let bytes = u64::from(length);
        if !(TAG + 1..=FULL).contains(&bytes) {
            return Err(Damage::ChunkLength(length));
        }
        if !self.is_last_full {
            return Err(Damage::NotFull);
        }
        self.chunks += 1;
        self.sealed += bytes - TAG;
        self.is_last_full = bytes == FULL;
        self.place = Place::Chunk(bytes);
        Ok(())
    }

    /// The header, when all has come. The error says what is missing.
    pub fn finish(self) -> Result<Header, Damage> {
        let is_between_chunks = matches!(&self.place, Place::Length(so_far) if so_far.is_empty());
        let header = self.header.ok_or(Damage::NoHeader)?;
        if !is_between_chunks {
            return Err(Damage::CutOff);
        }
        match self.chunks {
            0 => return Err(Damage::NoChunk),
            1 if !header.is_single => return Err(Damage::OneChunk),
            chunks if chunks > 1 && header.is_single => return Err(Damage::ManyChunks(chunks)),
            _ => {}
        }
        if padme(self.sealed) != self.sealed {
            return Err(Damage::Padding(self.sealed));
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

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::header::tests::header_bytes;
    use crate::seal::tests::sealed;

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

    fn followed(report: &[u8], piece: usize) -> Result<Header, Damage> {
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
                Some(why) => assert!(outcome.unwrap_err().to_string().contains(why), "{chunks:?}: {outcome:?}"),
            }
        }
        let whole = framed(0x0020, 0, &[FULL, FULL]);
        for cut in [0, 36, 37, 50, 69, 71, 73, 100, whole.len() / 2, whole.len() - 1] {
            assert!(followed(&whole[..cut], 1 << 20).is_err(), "{cut}");
        }
        assert!(followed(&[&whole[..], b"x"].concat(), 1 << 20).is_err());
    }

    #[test]
    fn a_report_that_is_not_whole_is_told_without_the_key() {
        let id = HEXLOWER.encode(&[3; 16]);
        let is_whole = |sealed: &[u8]| is_whole(sealed, &id).unwrap();
        for length in [10, CHUNK_BYTES, 3 * CHUNK_BYTES] {
            let sealed = sealed(length);
            assert!(is_whole(&sealed));
            assert!(!super::is_whole(&*sealed, &HEXLOWER.encode(&[4; 16])).unwrap());
            for end in (0..sealed.len()).step_by(977).chain([36, 37, 69, 73, sealed.len() - 1]) {
                assert!(!is_whole(&sealed[..end]), "{end} of {}", sealed.len());
            }
            assert!(!is_whole(&[&*sealed, b"\0"].concat()));
            let mut other_flag = sealed.clone();
            other_flag[36] ^= 1;
            assert!(
                !is_whole(&other_flag) && !is_whole(&vec![0; sealed.len()]) && !is_whole(&vec![0xff; sealed.len()])
            );
        }
    }
}
