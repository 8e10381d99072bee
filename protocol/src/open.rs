//! Opening a sealed report, chunk by chunk, with the vendor's private key.

use std::io::{self, Read};

use data_encoding::HEXLOWER;

use crate::header::{Damage, HEADER_BYTES, Header};
use crate::keys::PrivateKey;
use crate::limits::CHUNK_BYTES;
use crate::suite::{Receiver, TAG_BYTES};

/// What is inside the seal: a gzip member and its padding. Reads the sealed report as it is read itself, and holds two
/// chunks. Every byte that it gives was in the report that was sealed; whether the report is whole is known at its end.
pub struct Opener<R> {
    sealed: R,
    header: Header,
    receiver: Receiver,
    /// The chunk that is opened next; none behind the last.
    next: Option<Vec<u8>>,
    /// The opened one, and how much of it was given.
    opened: Vec<u8>,
    given: usize,
}

impl<R: Read> Opener<R> {
    /// Reads the header and the encapsulated key. The error says why none of these keys opens it.
    pub fn new(mut sealed: R, keys: &[PrivateKey]) -> io::Result<Self> {
        let bytes = read_up_to(&mut sealed, HEADER_BYTES)?;
        let header = Header::parse(&bytes).map_err(damaged)?;
        let key = keys.iter().find(|key| key.id == header.key_id);
        let key =
            key.ok_or_else(|| other(&format!("it is sealed for key {}, which was not given", header.key_id_hex())))?;
        if key.secret.kem() != header.kem {
            let (says, id) = (header.kem, HEXLOWER.encode(&key.id));
            return Err(other(&format!("its header says {says:?}, which is not what key {id} is for")));
        }
        let length = header.kem.encapsulated_bytes();
        let encapsulated = read_up_to(&mut sealed, length)?;
        if encapsulated.len() < length {
            return Err(damaged(Damage::CutOff));
        }
        let receiver =
            Receiver::new(&key.secret, &bytes, &encapsulated).map_err(|_| other("its encapsulated key is damaged"))?;
        let next = next_chunk(&mut sealed)?;
        if next.is_none() {
            return Err(damaged(Damage::CutOff));
        }
        Ok(Self { sealed, header, receiver, next, opened: Vec::new(), given: 0 })
    }

    /// What everybody can read of it.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Opens the next chunk; false behind the last.
    fn open_next(&mut self) -> io::Result<bool> {
        let Some(ciphertext) = self.next.take() else { return Ok(false) };
        self.next = next_chunk(&mut self.sealed)?;
        // What says where the end is stands in the header for one chunk, and in the last chunk's seal for several.
        let is_last = self.next.is_none();
        let aad: &[u8] = if is_last && !self.header.is_single { b"final" } else { b"" };
        let opened = self.receiver.open(&ciphertext, aad);
        let opened = opened.map_err(|_| other("it was changed after it was sealed, or sealed for another key"))?;
        if !is_last && self.header.is_single {
            return Err(other("its header says one chunk, there are more"));
        }
        if !is_last && ciphertext.len() != CHUNK_BYTES + TAG_BYTES {
            return Err(damaged(Damage::NotFull));
        }
        self.opened = opened;
        self.given = 0;
        Ok(true)
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.opened.len() && self.open_next()? {}
        let rest = &self.opened[self.given..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.given += length;
        Ok(length)
    }
}

/// The next chunk as it was sealed; none at the end.
fn next_chunk(sealed: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let length = read_up_to(sealed, 4)?;
    if length.is_empty() {
        return Ok(None);
    }
    let length = length.first_chunk().map(|length| u32::from_be_bytes(*length));
    let length = length.ok_or_else(|| damaged(Damage::CutOff))?;
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if !(TAG_BYTES + 1..=CHUNK_BYTES + TAG_BYTES).contains(&bytes) {
        return Err(damaged(Damage::ChunkLength(length)));
    }
    let chunk = read_up_to(sealed, bytes)?;
    if chunk.len() < bytes { Err(damaged(Damage::CutOff)) } else { Ok(Some(chunk)) }
}

fn read_up_to(sealed: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(bytes);
    sealed.take(bytes as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

fn damaged(damage: Damage) -> io::Error {
    other(&damage.to_string())
}

fn other(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use data_encoding::BASE64;

    use super::*;
    use crate::keys::{Kem, KeySet, generate_key, key_id};
    use crate::seal::Sealer;

    struct Pair {
        public: KeySet,
        private: [PrivateKey; 1],
    }

    fn pair(kem: Kem) -> Pair {
        let (private, public) = generate_key(kem);
        let id = HEXLOWER.encode(&key_id(&public));
        let kem = if kem == Kem::X25519 { "X25519" } else { "X-Wing" };
        let (private, public) = (BASE64.encode(&private), BASE64.encode(&public));
        let set =
            format!(r#"{{"keys":[{{"id":"{id}","kem":"{kem}","public":"{public}","not_before":0,"not_after":9}}]}}"#);
        let private = format!(r#"{{"id":"{id}","kem":"{kem}","private":"{private}"}}"#);
        Pair { public: KeySet::parse(&set).unwrap(), private: [PrivateKey::parse(&private).unwrap()] }
    }

    fn sealed(pair: &Pair, text: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), pair.public.current(1).unwrap(), [2; 16], 20_781);
        sealer.write_all(text).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(sealed: &[u8], pair: &Pair) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        Opener::new(sealed, &pair.private)?.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_is_sealed_is_opened() {
        for kem in [Kem::X25519, Kem::XWing] {
            let pair = pair(kem);
            for length in [1, 1000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_000] {
                let text: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
                let sealed = sealed(&pair, &text);
                let opener = Opener::new(&*sealed, &pair.private).unwrap();
                assert_eq!((opener.header().kem, opener.header().day), (kem, 20_781));
                let opened = opened(&sealed, &pair).unwrap();
                assert!(
                    opened.starts_with(&text) && opened[length..].iter().all(|byte| *byte == 0),
                    "{kem:?} {length}"
                );
            }
        }
    }

    #[test]
    fn what_is_changed_or_cut_is_not() {
        let pair = pair(Kem::X25519);
        let whole = sealed(&pair, &vec![7; CHUNK_BYTES + 1000]);
        for at in (0..whole.len()).step_by(997).chain([0, 4, 12, 36, 40, 69, whole.len() - 1]) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, &pair).is_err(), "byte {at}");
            assert!(opened(&whole[..at], &pair).is_err(), "cut at {at}");
        }
        assert!(opened(&[&*whole, b"x"].concat(), &pair).is_err());
        // The last chunk left out: what is left ends with a full one that is not sealed as the last.
        let one = HEADER_BYTES + 32 + 4 + CHUNK_BYTES + TAG_BYTES;
        assert!(opened(&whole[..one], &pair).unwrap_err().to_string().contains("changed"));
    }

    #[test]
    fn another_key_is_named() {
        let (ours, other) = (pair(Kem::X25519), pair(Kem::X25519));
        let why = opened(&sealed(&ours, b"text"), &other).unwrap_err().to_string();
        assert!(why.contains("which was not given"), "{why}");
    }
}
