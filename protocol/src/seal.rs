//! Sealing a report so that only the holder of a private key can read it: HPKE (RFC 9180) base mode over padded
//! chunks. What the bytes are is written down in docs/protocols.md.

use std::io::{self, Write};

use crate::header::{HEADER_BYTES, Header};
use crate::keys::SealKey;
use crate::limits::CHUNK_BYTES;
use crate::suite::Sender;

/// Seals what is written to it, in chunks, into `out`. Holds at most two chunks.
pub struct Sealer<W: Write> {
    out: W,
    key: SealKey,
    report_id: [u8; 16],
    day: u16,
    /// Made with the first chunk: only then is it known whether there will be another, which the header says.
    context: Option<Sender>,
    buffer: Vec<u8>,
    taken: u64,
}

impl<W: Write> Sealer<W> {
    /// A sealed report for this key, report id and UTC day (days since 1970-01-01).
    pub fn new(out: W, key: &SealKey, report_id: [u8; 16], day: u16) -> Self {
        Self { out, key: key.clone(), report_id, day, context: None, buffer: Vec::new(), taken: 0 }
    }

    /// Pads, seals what is left and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        let mut padding = padme(self.taken) - self.taken;
        while padding > 0 {
            let zeros = [0; 4096];
            let some = padding.min(zeros.len() as u64);
            self.write_all(&zeros[..usize::try_from(some).unwrap_or(zeros.len())])?;
            padding -= some;
        }
        let is_single = self.context.is_none();
        let rest = std::mem::take(&mut self.buffer);
        self.write_chunk(&rest, if is_single { b"" } else { b"final" }, is_single)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn write_chunk(&mut self, plaintext: &[u8], aad: &[u8], is_single: bool) -> io::Result<()> {
        if self.context.is_none() {
            let header = self.header(is_single);
            let (context, enc) = Sender::new(&self.key.recipient, &header)?;
            self.out.write_all(&header)?;
            self.out.write_all(&enc)?;
            self.context = Some(context);
        }
        let Some(context) = &mut self.context else { return Ok(()) };
        let ciphertext = context.seal(plaintext, aad)?;
        let length = u32::try_from(ciphertext.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&ciphertext)
    }

    fn header(&self, is_single: bool) -> [u8; HEADER_BYTES] {
        let header = Header {
            key_id: self.key.id,
            kem: self.key.recipient.kem(),
            report_id: self.report_id,
            day: self.day,
            is_single,
        };
        header.to_bytes()
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        self.taken += bytes.len() as u64;
        // The last chunk is sealed differently, so a full one waits until something follows it.
        while self.buffer.len() > CHUNK_BYTES {
            let rest = self.buffer.split_off(CHUNK_BYTES);
            let chunk = std::mem::replace(&mut self.buffer, rest);
            self.write_chunk(&chunk, b"", false)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The padded length: Padmé (Nikitin and others, "Reducing Metadata Leakage from Encrypted Files", 2019, 4.2)
/// leaks O(log log n) bits of a length at a cost of at most 12 %.
pub fn padme(length: u64) -> u64 {
    let Some(exponent) = length.checked_ilog2().filter(|exponent| *exponent > 0) else { return length };
    let kept_bits = exponent.ilog2() + 1;
    let mask = (1 << (exponent - kept_bits.min(exponent))) - 1;
    (length + mask) & !mask
}

#[cfg(test)]
pub(crate) mod tests {
    use data_encoding::{BASE64, HEXLOWER};

    use super::*;
    use crate::keys::{Kem, KeySet, generate_key, key_id};

    #[test]
    fn padding_keeps_few_bits_of_the_length() {
        // By the paper's definition.
        for (length, padded) in [(0, 0), (1, 1), (2, 2), (9, 10), (1000, 1024), (1025, 1088), (100_000, 100_352)] {
            assert_eq!(padme(length), padded, "{length}");
        }
    }

    /// A report with so many bytes in it, sealed for a new key, with the id 03….
    pub(crate) fn sealed(length: usize) -> Vec<u8> {
        let (_, public) = generate_key(Kem::X25519);
        let (id, public) = (HEXLOWER.encode(&key_id(&public)), BASE64.encode(&public));
        let keys =
            format!(r#"{{"keys":[{{"id":"{id}","kem":"X25519","public":"{public}","not_before":1,"not_after":9}}]}}"#);
        let keys = KeySet::parse(&keys).unwrap();
        let mut sealer = Sealer::new(Vec::new(), keys.current(5).unwrap(), [3; 16], 7);
        sealer.write_all(&vec![1; length]).unwrap();
        sealer.finish().unwrap()
    }

    #[test]
    fn one_chunk_is_flagged_and_two_are_not() {
        let overhead = HEADER_BYTES + 32;
        let one = sealed(CHUNK_BYTES);
        assert_eq!((one[36], one.len()), (1, overhead + 4 + CHUNK_BYTES + 16));
        let two = sealed(CHUNK_BYTES + 1);
        let padded = usize::try_from(padme(CHUNK_BYTES as u64 + 1)).unwrap();
        assert_eq!((two[36], two.len()), (0, overhead + 2 * (4 + 16) + padded));
    }
}
