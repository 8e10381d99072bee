//! The TXT answer: `o1 ` and space-separated `key=value`, signed inside the text so that any resolver may carry it.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{Signature, VerifyingKey};
use semver::Version;
use sha2::{Digest, Sha256};

/// How far ahead of this clock an answer may have been issued, in seconds: one day, for clocks that are wrong.
const CLOCK_TOLERANCE: i64 = 86_400;

/// A key that signs answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionKey {
    id: String,
    key: VerifyingKey,
}

impl VersionKey {
    /// Reads a public key: 32 bytes in base64.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| "not base64".to_owned())?;
        let bytes: [u8; 32] =
            bytes.try_into().map_err(|bytes: Vec<u8>| format!("{} bytes instead of 32", bytes.len()))?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| "not a point of the curve".to_owned())?;
        if key.is_weak() {
            return Err("a weak key that verifies signatures of anybody".to_owned());
        }
        Ok(Self { id: key_id(&bytes), key })
    }

    /// The id under which answers name it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether this is its signature of a message, in base64url.
    pub fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        let bytes = BASE64URL_NOPAD.decode(signature.as_bytes()).ok();
        let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

/// The id under which answers name their signing key: the first 8 hex digits of its SHA-256.
pub fn key_id(public: &[u8; 32]) -> String {
    HEXLOWER.encode(&Sha256::digest(public)[..4])
}

/// The bytes that a signature covers.
pub fn signed_message(zone: &str, text: &str) -> Vec<u8> {
    let zone = zone.strip_suffix('.').unwrap_or(zone).to_ascii_lowercase();
    [b"ondat-telemetry version answer v1".as_slice(), &[0], zone.as_bytes(), &[0], text.as_bytes()].concat()
}

/// An answer that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `l`: the latest stable version.
    pub latest: Version,
    /// `r`: the lowest version without a recommended upgrade.
    pub recommended: Option<Version>,
    /// `m`: the lowest version without a required upgrade.
    pub required: Option<Version>,
    /// `s`: explicit status in an override: 1 fine, 2 recommended, 3 required.
    pub status: Option<u8>,
    /// `a`: advisory id.
    pub advisory: Option<String>,
    /// `t`: issued, Unix seconds.
    pub issued: i64,
    /// `e`: expires, Unix seconds.
    pub expires: i64,
    /// Whether a configured key verified the signature.
    pub authenticated: bool,
}

/// Who is asking, and when: what an answer is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The zone that was asked, lower case, without its last dot.
    pub zone: &'a str,
    /// The asking version's label.
    pub version_label: &'a str,
    /// Configured keys; without any, unsigned answers are accepted as not authenticated.
    pub keys: &'a [VersionKey],
    /// Unix seconds.
    pub now: i64,
    /// The `t` of the newest answer accepted so far; an older one is a replay.
    pub newest_issued: i64,
}

impl Judge<'_> {
    /// The first acceptable one of the TXT records' texts. The error says why the last was not accepted.
    pub fn first_acceptable(&self, texts: &[Vec<u8>]) -> Result<(Answer, String), String> {
        let mut reason = "the zone has no answer for this name".to_owned();
        for text in texts {
            let Ok(text) = std::str::from_utf8(text) else {
                reason = "the TXT record is not text".to_owned();
                continue;
            };
            match self.accept(text) {
                Ok(answer) => return Ok((answer, text.to_owned())),
                Err(why) => reason = why,
            }
        }
        Err(format!("version answer from zone {} not accepted: {reason}", self.zone))
    }

    fn accept(&self, text: &str) -> Result<Answer, String> {
        let fields = text.strip_prefix("o1 ").ok_or("the TXT record is not a version answer (no `o1` prefix)")?;
        let value = |key: &str| {
            fields
                .split(' ')
                .find_map(|field| field.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value))
        };
        let scope = value("v").ok_or("it has no scope `v`")?;
        if scope != "*" && scope != self.version_label {
            return Err("it is meant for another version (`v`)".to_owned());
        }
        let authenticated = self.verify(text, value("k"))?;
        let answer = Answer {
            latest: version(value("l").ok_or("it has no latest version `l`")?, "l")?,
            recommended: value("r").map(|text| version(text, "r")).transpose()?,
            required: value("m").map(|text| version(text, "m")).transpose()?,
            status: value("s").map(status).transpose()?,
            advisory: value("a").map(advisory).transpose()?,
            issued: seconds(value("t"), "t")?,
            expires: seconds(value("e"), "e")?,
            authenticated,
        };
        if answer.issued > self.now.saturating_add(CLOCK_TOLERANCE) {
            return Err("it was issued in the future (`t`); is this clock right?".to_owned());
        }
        if answer.expires <= self.now {
            return Err("it has expired (`e`); is this clock right?".to_owned());
        }
        if answer.issued < self.newest_issued {
            return Err("it is older than one already accepted (`t`): a replay".to_owned());
        }
        Ok(answer)
    }

    /// Whether the text is signed by a configured key; an error where it had to be and is not.
    fn verify(&self, text: &str, key_id: Option<&str>) -> Result<bool, String> {
        if self.keys.is_empty() {
            return Ok(false);
        }
        let (covered, signature) = text.rsplit_once(" g=").ok_or("it is not signed (no `g`)")?;
        let signature = BASE64URL_NOPAD
            .decode(signature.as_bytes())
            .ok()
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .ok_or("its signature `g` is not 64 bytes of base64url, or not the last field")?;
        let message = signed_message(self.zone, covered);
        let mut candidates = self.keys.iter().filter(|key| key_id.is_none_or(|id| id == key.id)).peekable();
        if candidates.peek().is_none() {
            return Err("it is signed by a key that is not configured (`k`)".to_owned());
        }
        if candidates.any(|key| key.key.verify_strict(&message, &signature).is_ok()) {
            Ok(true)
        } else {
            Err("its signature does not verify".to_owned())
        }
    }
}

fn version(text: &str, key: &str) -> Result<Version, String> {
    let version = text.strip_prefix('v').unwrap_or(text);
    Version::parse(version).map_err(|_| format!("`{key}` is not a SemVer version"))
}

fn seconds(text: Option<&str>, key: &str) -> Result<i64, String> {
    let text = text.ok_or_else(|| format!("it has no `{key}`"))?;
    text.parse().map_err(|_| format!("`{key}` is not Unix seconds"))
}

fn status(text: &str) -> Result<u8, String> {
    match text {
        "1" => Ok(1),
        "2" => Ok(2),
        "3" => Ok(3),
        _ => Err("`s` is not 1, 2 or 3".to_owned()),
    }
}

/// An advisory id goes into logs and pages, so it is held to a plain alphabet.
fn advisory(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err("`a` is not an advisory id".to_owned());
    }
    Ok(text.to_owned())
}
