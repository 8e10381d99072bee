//! The key set as the receiving side publishes it: its JSON on one line, then a line with a signature for each version key.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use crate::answer::VersionKey;
use crate::keys::KeySet;

/// The longest text. It is read before its signature is known to be right.
pub const LONGEST: usize = 64 << 10;

/// A published key set that was accepted.
#[derive(Clone, Debug)]
pub struct SignedKeys {
    /// When it was issued, Unix seconds. Whoever has accepted one accepts no older one.
    pub issued: i64,
    /// The keys.
    pub keys: KeySet,
}

#[derive(Deserialize)]
struct Document {
    issued: i64,
}

/// The bytes that a signature covers: those of the first line, without its end.
pub fn signed_message(line: &str) -> Vec<u8> {
    [b"ondat-telemetry key set v1".as_slice(), &[0], line.as_bytes()].concat()
}

/// A line with a signature by the key with this id.
pub fn signature_line(key_id: &str, signature: &[u8]) -> String {
    format!("k={key_id} g={}\n", BASE64URL_NOPAD.encode(signature))
}

impl SignedKeys {
    /// Reads a published key set that one of these keys has signed. Signatures by other keys are passed over: a set is signed
    /// by the old and the new key while one replaces the other.
    pub fn parse(text: &str, signers: &[VersionKey]) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let (line, signatures) = text.split_once('\n').ok_or("it has no line with a signature")?;
        let message = signed_message(line);
        let (mut is_by_known, mut is_signed) = (false, false);
        for signature in signatures.lines() {
            let (key_id, signature) = signature
                .strip_prefix("k=")
                .and_then(|rest| rest.split_once(" g="))
                .ok_or("a line after the first is no signature, `k=… g=…`")?;
            for key in signers.iter().filter(|key| key.id() == key_id) {
                is_by_known = true;
                is_signed |= key.has_signed(&message, signature);
            }
        }
        match (is_by_known, is_signed) {
            (_, true) => {}
            (true, false) => return Err("its signature does not verify".to_owned()),
            (false, false) => return Err("it is not signed by a configured key".to_owned()),
        }
        let document: Document = serde_json::from_str(line).map_err(|why| why.to_string())?;
        Ok(Self { issued: document.issued, keys: KeySet::parse(line)? })
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::answer::key_id;
    use crate::keys::{self, Kem};

    fn signer(seed: u8) -> (SigningKey, VersionKey, String) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = key.verifying_key().to_bytes();
        (key, VersionKey::parse(&BASE64.encode(&public)).unwrap(), key_id(&public))
    }

    fn line(issued: i64) -> String {
        let (_, public) = keys::generate_key(Kem::X25519);
        let id = data_encoding::HEXLOWER.encode(&keys::key_id(&public));
        let public = BASE64.encode(&public);
        format!(
            "{{\"issued\":{issued},\"keys\":[{{\"id\":\"{id}\",\"kem\":\"X25519\",\"public\":\"{public}\",\
             \"not_before\":0,\"not_after\":9}}]}}"
        )
    }

    fn signed(line: &str, by: &[&(SigningKey, VersionKey, String)]) -> String {
        let signatures = by.iter().map(|(key, _, id)| signature_line(id, &key.sign(&signed_message(line)).to_bytes()));
        format!("{line}\n{}", signatures.collect::<String>())
    }

    #[test]
    fn one_signature_by_a_known_key_is_enough_and_none_is_not() {
        let (old, new, line) = (signer(1), signer(2), line(7));
        let known = [new.1.clone()];
        for by in [&[&new][..], &[&old, &new], &[&new, &old]] {
            let read = SignedKeys::parse(&signed(&line, by), &known).unwrap();
            assert_eq!((read.issued, read.keys.ids().count()), (7, 1));
        }
        let refused = |text: &str| SignedKeys::parse(text, &known).unwrap_err();
        assert!(refused(&signed(&line, &[&old])).contains("not signed by a configured key"));
        assert!(refused(&format!("{line}\n")).contains("not signed"));
        assert!(refused(&line).contains("no line with a signature"));
        assert!(refused(&signed(&line, &[&new]).replace("\"issued\":7", "\"issued\":8")).contains("does not verify"));
        assert!(refused(&format!("{}x\n", signed(&line, &[&new]))).contains("no signature"));
        assert!(refused(&signed(&" ".repeat(LONGEST), &[&new])).contains("longer"));
        assert!(refused(&signed("{\"keys\":[]}", &[&new])).contains("issued"));
    }
}
