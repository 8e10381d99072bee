//! Sealing a report so that only the holder of a private key can read it: HPKE (RFC 9180) base mode over padded
//! chunks. What the bytes are is written down in docs/protocols.md.

use std::io::{self, Read, Write};

use data_encoding::{BASE64, HEXLOWER};
use hpke::aead::{AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The plaintext bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 65_536;
/// The bytes before the encapsulated key.
pub const HEADER_BYTES: usize = 37;

const MAGIC: &[u8; 4] = b"OTR1";
const INFO: &[u8] = b"ondat-telemetry report v1\0";
const FLAG_SINGLE: u8 = 1;
const TAG_BYTES: usize = 16;
const KDF_HKDF_SHA256: u16 = 0x0001;
const AEAD_AES_256_GCM: u16 = 0x0002;

/// The key encapsulation a key is for; the key decides the suite.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Kem {
    /// DHKEM(X25519, HKDF-SHA256).
    X25519,
    /// X25519 and ML-KEM-768 together, against recording now and decrypting later.
    #[serde(rename = "X-Wing")]
    XWing,
}

impl Kem {
    fn id(self) -> u16 {
        match self {
            Self::X25519 => 0x0020,
            Self::XWing => 0x647a,
        }
    }

    /// The bytes of an encapsulated key.
    fn encapsulated_bytes(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::XWing => 1120,
        }
    }
}

/// A public key of the vendor, valid from `not_before` to `not_after` (Unix seconds).
#[derive(Clone, Debug)]
pub struct SealKey {
    id: [u8; 8],
    recipient: Recipient,
    not_before: i64,
    not_after: i64,
}

#[derive(Clone, Debug)]
enum Recipient {
    X25519(<X25519HkdfSha256 as hpke::Kem>::PublicKey),
    XWing(Box<<XWing as hpke::Kem>::PublicKey>),
}

/// The configured keys.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<SealKey>,
}

#[derive(Deserialize)]
struct KeySetDocument {
    keys: Vec<KeyDocument>,
}

#[derive(Deserialize)]
struct KeyDocument {
    id: String,
    kem: Kem,
    public: String,
    not_before: i64,
    not_after: i64,
}

impl KeySet {
    /// Reads a key set. The error names the key and what is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let document: KeySetDocument = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if document.keys.is_empty() {
            return Err("it holds no key".to_owned());
        }
        let keys = document.keys.iter().enumerate();
        let keys = keys.map(|(at, key)| key.parse().map_err(|why| format!("keys[{at}]: {why}")));
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// Of each key the id, from when and until when it is valid.
    pub fn to_json(&self) -> Value {
        self.keys.iter().map(|key| json!([HEXLOWER.encode(&key.id), key.not_before, key.not_after])).collect()
    }

    /// The key to seal for now: of those valid, the one with the newest `not_before`.
    pub fn current(&self, now: i64) -> Option<&SealKey> {
        let valid = self.keys.iter().filter(|key| key.not_before <= now && now < key.not_after);
        valid.max_by_key(|key| key.not_before)
    }
}

impl KeyDocument {
    fn parse(&self) -> Result<SealKey, String> {
        let public = BASE64.decode(self.public.as_bytes()).map_err(|_| "`public` is not base64".to_owned())?;
        let expected = key_id(&public);
        if self.id != HEXLOWER.encode(&expected) {
            return Err("`id` is not the first 8 bytes of the SHA-256 of `public` in hex".to_owned());
        }
        if self.not_before >= self.not_after {
            return Err("`not_after` is not later than `not_before`".to_owned());
        }
        let not_a_key = |_| format!("`public` is not a key of {:?}", self.kem);
        let recipient = match self.kem {
            Kem::X25519 => {
                Recipient::X25519(<X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&public).map_err(not_a_key)?)
            }
            Kem::XWing => {
                Recipient::XWing(Box::new(<XWing as hpke::Kem>::PublicKey::from_bytes(&public).map_err(not_a_key)?))
            }
        };
        // Points of low order encode well; using one shows what they are (RFC 9180, 7.1.4).
        Context::new(&recipient, &[])
            .map_err(|_| "`public` is a weak key, which nothing can be sealed for".to_owned())?;
        Ok(SealKey { id: expected, recipient, not_before: self.not_before, not_after: self.not_after })
    }
}

/// The id of a public key: the first 8 bytes of its SHA-256.
pub fn key_id(public: &[u8]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&Sha256::digest(public)[..8]);
    id
}

/// A new key pair: the private and the public key's bytes.
pub fn generate_key(kem: Kem) -> (Vec<u8>, Vec<u8>) {
    match kem {
        Kem::X25519 => {
            let (private, public) = X25519HkdfSha256::gen_keypair();
            (private.to_bytes().to_vec(), public.to_bytes().to_vec())
        }
        Kem::XWing => {
            let (private, public) = XWing::gen_keypair();
            (private.to_bytes().to_vec(), public.to_bytes().to_vec())
        }
    }
}

/// A public key to seal one short message for: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
#[derive(Clone, Debug)]
pub struct MessageKey(<X25519HkdfSha256 as hpke::Kem>::PublicKey);

/// Its private half. No part of the shared library: who sends cannot open.
pub struct MessageSecret(<X25519HkdfSha256 as hpke::Kem>::PrivateKey);

/// What sealing a short message adds to it: the encapsulated key and the tag.
pub const MESSAGE_OVERHEAD: usize = 32 + 16;

impl MessageKey {
    /// Reads a public key: 32 bytes in base64.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| "not base64".to_owned())?;
        let key = <X25519HkdfSha256 as hpke::Kem>::PublicKey::from_bytes(&bytes)
            .map_err(|_| format!("{} bytes instead of 32", bytes.len()))?;
        // Points of low order encode well; using one shows what they are (RFC 9180, 7.1.4).
        let key = Self(key);
        key.seal(b"", b"").map_err(|_| "a weak key: what is sealed for it can be opened by anybody".to_owned())?;
        Ok(key)
    }

    /// The encapsulated key, then the ciphertext with its tag (RFC 9180, 6.1, base mode, empty aad).
    pub fn seal(&self, info: &[u8], plaintext: &[u8]) -> io::Result<Vec<u8>> {
        let sealed = hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &self.0,
            info,
            plaintext,
            b"",
        );
        let (enc, ciphertext) = sealed.map_err(sealing_failed)?;
        Ok([enc.to_bytes().as_slice(), &ciphertext].concat())
    }
}

impl MessageSecret {
    /// Reads a private key: 32 bytes in base64.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| "not base64".to_owned())?;
        let secret = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(&bytes);
        secret.map(Self).map_err(|_| format!("{} bytes instead of 32", bytes.len()))
    }

    /// The public half's bytes.
    pub fn public(&self) -> Vec<u8> {
        X25519HkdfSha256::sk_to_pk(&self.0).to_bytes().to_vec()
    }

    /// The plaintext; none where it was sealed for another key, or changed.
    pub fn open(&self, info: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (enc, ciphertext) = sealed.split_at_checked(32)?;
        let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(enc).ok()?;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.0,
            &enc,
            info,
            ciphertext,
            b"",
        )
        .ok()
    }
}

/// Whether these bytes have the form of a whole sealed report with this id. Without the private key no more can be
/// known; what was cut short, overwritten or never was a report is.
pub fn is_whole(mut sealed: impl Read, report_id: &str) -> io::Result<bool> {
    let header = read_up_to(&mut sealed, HEADER_BYTES)?;
    let Some(header) = header.first_chunk::<HEADER_BYTES>() else { return Ok(false) };
    let kem = [Kem::X25519, Kem::XWing].into_iter().find(|kem| header[12..14] == kem.id().to_be_bytes());
    let Some(kem) = kem.filter(|_| header.starts_with(MAGIC) && HEXLOWER.encode(&header[18..34]) == report_id) else {
        return Ok(false);
    };
    let encapsulated = kem.encapsulated_bytes();
    if read_up_to(&mut sealed, encapsulated)?.len() != encapsulated {
        return Ok(false);
    }
    const FULL: usize = CHUNK_BYTES + TAG_BYTES;
    let (mut chunks, mut previous) = (0_u64, FULL);
    loop {
        let length = read_up_to(&mut sealed, 4)?;
        if length.is_empty() {
            return Ok(chunks > 0 && (header[HEADER_BYTES - 1] == FLAG_SINGLE) == (chunks == 1));
        }
        let length = length.first_chunk().and_then(|length| usize::try_from(u32::from_be_bytes(*length)).ok());
        // None but the last is not full.
        let length = length.filter(|length| previous == FULL && (TAG_BYTES..=FULL).contains(length));
        match length {
            Some(length) if read_up_to(&mut sealed, length)?.len() == length => previous = length,
            _ => return Ok(false),
        }
        chunks += 1;
    }
}

fn read_up_to(sealed: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    sealed.take(bytes as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

enum Context {
    X25519(Box<AeadCtxS<AesGcm256, HkdfSha256, X25519HkdfSha256>>),
    XWing(Box<AeadCtxS<AesGcm256, HkdfSha256, XWing>>),
}

impl Context {
    /// The sender's context and the encapsulated key that goes with it.
    fn new(recipient: &Recipient, header: &[u8]) -> io::Result<(Self, Vec<u8>)> {
        let info = [INFO, header].concat();
        match recipient {
            Recipient::X25519(key) => {
                let (enc, context) = hpke::setup_sender(&OpModeS::Base, key, &info).map_err(sealing_failed)?;
                Ok((Self::X25519(Box::new(context)), enc.to_bytes().to_vec()))
            }
            Recipient::XWing(key) => {
                let (enc, context) = hpke::setup_sender(&OpModeS::Base, &**key, &info).map_err(sealing_failed)?;
                Ok((Self::XWing(Box::new(context)), enc.to_bytes().to_vec()))
            }
        }
    }

    fn seal(&mut self, plaintext: &[u8], aad: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::X25519(context) => context.seal(plaintext, aad),
            Self::XWing(context) => context.seal(plaintext, aad),
        }
        .map_err(sealing_failed)
    }
}

fn sealing_failed(error: hpke::HpkeError) -> io::Error {
    io::Error::other(format!("sealing failed: {error}"))
}

/// Seals what is written to it, in chunks, into `out`. Holds at most two chunks.
pub struct Sealer<W: Write> {
    out: W,
    key: SealKey,
    report_id: [u8; 16],
    day: u16,
    /// Made with the first chunk: only then is it known whether there will be another, which the header says.
    context: Option<Context>,
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
            let (context, enc) = Context::new(&self.key.recipient, &header)?;
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

    fn header(&self, is_single: bool) -> Vec<u8> {
        let kem = match self.key.recipient {
            Recipient::X25519(_) => Kem::X25519,
            Recipient::XWing(_) => Kem::XWing,
        };
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&self.key.id);
        header.extend_from_slice(&kem.id().to_be_bytes());
        header.extend_from_slice(&KDF_HKDF_SHA256.to_be_bytes());
        header.extend_from_slice(&AEAD_AES_256_GCM.to_be_bytes());
        header.extend_from_slice(&self.report_id);
        header.extend_from_slice(&self.day.to_be_bytes());
        header.push(if is_single { FLAG_SINGLE } else { 0 });
        header
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
mod tests {
    use super::*;

    #[test]
    fn padding_keeps_few_bits_of_the_length() {
        // By the paper's definition.
        for (length, padded) in [(0, 0), (1, 1), (2, 2), (9, 10), (1000, 1024), (1025, 1088), (100_000, 100_352)] {
            assert_eq!(padme(length), padded, "{length}");
        }
    }

    /// A new key's entry in a key set, and its id.
    fn key(kem: Kem, not_before: i64, not_after: i64) -> (String, [u8; 8]) {
        let (_, public) = generate_key(kem);
        let id = key_id(&public);
        let kem = if kem == Kem::X25519 { "X25519" } else { "X-Wing" };
        let (hex, base64) = (HEXLOWER.encode(&id), BASE64.encode(&public));
        let json = format!(
            r#"{{"id":"{hex}","kem":"{kem}","public":"{base64}","not_before":{not_before},"not_after":{not_after}}}"#
        );
        (json, id)
    }

    fn key_set(keys: &[&str]) -> KeySet {
        KeySet::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(","))).unwrap()
    }

    fn sealed(length: usize) -> Vec<u8> {
        let keys = key_set(&[&key(Kem::X25519, 1, 9).0]);
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

    #[test]
    fn a_key_set_is_refused_with_the_reason() {
        assert!(KeySet::parse(r#"{"keys":[]}"#).unwrap_err().contains("no key"));
        let wrong_id =
            r#"{"keys":[{"id":"0011223344556677","kem":"X25519","public":"AA==","not_before":0,"not_after":1}]}"#;
        assert!(KeySet::parse(wrong_id).unwrap_err().contains("keys[0]: `id`"));
        let zeros = [0; 32];
        let (id, public) = (HEXLOWER.encode(&key_id(&zeros)), BASE64.encode(&zeros));
        let weak =
            format!(r#"{{"keys":[{{"id":"{id}","kem":"X25519","public":"{public}","not_before":0,"not_after":1}}]}}"#);
        assert!(KeySet::parse(&weak).unwrap_err().contains("keys[0]: `public` is a weak key"));
    }

    #[test]
    fn of_the_valid_keys_the_newest_seals() {
        let (old, old_id) = key(Kem::X25519, 100, 300);
        let (new, new_id) = key(Kem::XWing, 200, 400);
        for keys in [key_set(&[&old, &new]), key_set(&[&new, &old])] {
            let current = |now| keys.current(now).map(|key| key.id);
            let at = [99, 100, 199, 200, 299, 300, 399, 400].map(current);
            let (old, new) = (Some(old_id), Some(new_id));
            assert_eq!(at, [None, old, old, new, new, new, new, None]);
        }
    }

    #[test]
    fn a_key_that_begins_later_and_ends_earlier_leaves_the_rest_to_the_other() {
        let (long, long_id) = key(Kem::X25519, 100, 400);
        let (short, short_id) = key(Kem::X25519, 200, 300);
        let keys = key_set(&[&long, &short]);
        let at = [150, 250, 350].map(|now| keys.current(now).map(|key| key.id));
        assert_eq!(at, [Some(long_id), Some(short_id), Some(long_id)]);
    }

    #[test]
    fn keys_with_a_gap_between_them_leave_a_time_without_a_key() {
        let keys = key_set(&[&key(Kem::X25519, 100, 200).0, &key(Kem::X25519, 300, 400).0]);
        assert_eq!([150, 250, 350].map(|now| keys.current(now).is_some()), [true, false, true]);
    }

    fn from_hex(hex: &Value) -> Vec<u8> {
        HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap()
    }

    /// Published vectors: `x25519` is the base mode vector of RFC 9180 (test-vectors.json, to which its appendix A
    /// points) for the suite that is sealed with here; `x_wing` is the key encapsulation 0x647a out of two revisions of
    /// draft-ietf-hpke-pq, which has no vector with AES-256-GCM: key schedule and AEAD are those of the first.
    fn vectors() -> Value {
        serde_json::from_str(include_str!("../tests/vectors/hpke.json")).unwrap()
    }

    #[test]
    fn every_ciphertext_of_the_vectors_of_rfc_9180_opens() {
        let vector = &vectors()["x25519"];
        for (name, id) in [("kem_id", Kem::X25519.id()), ("kdf_id", KDF_HKDF_SHA256), ("aead_id", AEAD_AES_256_GCM)] {
            assert_eq!(vector[name], id, "{name}");
        }
        let bytes = |name: &str| from_hex(&vector[name]);
        let secret = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(&bytes("skRm")).unwrap();
        assert_eq!(X25519HkdfSha256::sk_to_pk(&secret).to_bytes().to_vec(), bytes("pkRm"));
        let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&bytes("enc")).unwrap();
        let mut context = hpke::setup_receiver::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &secret,
            &enc,
            &bytes("info"),
        )
        .unwrap();
        let encryptions = vector["encryptions"].as_array().unwrap();
        assert_eq!(encryptions.len(), 257);
        for (number, encryption) in encryptions.iter().enumerate() {
            let opened = context.open(&from_hex(&encryption["ct"]), &from_hex(&encryption["aad"]));
            assert_eq!(opened.unwrap(), bytes("pt"), "ciphertext {number}");
        }
    }

    #[test]
    fn the_shared_secrets_of_the_vectors_of_x_wing_come_out() {
        let vectors = vectors();
        let vectors = vectors["x_wing"].as_array().unwrap();
        assert_eq!(vectors.len(), 2);
        for vector in vectors {
            let bytes = |name: &str| from_hex(&vector[name]);
            assert_eq!(vector["kem_id"], Kem::XWing.id());
            let secret = <XWing as hpke::Kem>::PrivateKey::from_bytes(&bytes("skRm")).unwrap();
            assert_eq!(XWing::sk_to_pk(&secret).to_bytes().to_vec(), bytes("pkRm"));
            let enc = <XWing as hpke::Kem>::EncappedKey::from_bytes(&bytes("enc")).unwrap();
            let shared = XWing::decap(&secret, None, &enc).unwrap();
            assert_eq!(shared.0.to_vec(), bytes("shared_secret"));
        }
    }
}
