//! The facts of a certificate that an error message needs: X.509 (RFC 5280) in DER. Nothing is decided by them.

use ondat_telemetry_protocol::time::{parse_rfc3339, rfc3339};

/// The longest name that is repeated in a sentence, in characters.
const NAME_CHARACTERS: usize = 64;

/// A certificate's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is: a common name, else an organisation.
    pub subject: String,
    /// The issuer that has signed it, likewise.
    pub issuer: String,
    /// From when it is valid, in Unix seconds.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl Certificate {
    /// Reads it; none where it cannot be read so far.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, der)?;
        let (body, _) = expect(SEQUENCE, certificate)?;
        // [0] EXPLICIT version, serial number, signature algorithm.
        let body = expect(0xa0, body).map_or(body, |(_, rest)| rest);
        let (_, body) = expect(0x02, body)?;
        let (_, body) = expect(SEQUENCE, body)?;
        let (issuer, body) = expect(SEQUENCE, body)?;
        let (validity, body) = expect(SEQUENCE, body)?;
        let (subject, _) = expect(SEQUENCE, body)?;
        let (before_tag, before, rest) = element(validity)?;
        let (after_tag, after, _) = element(rest)?;
        Some(Self {
            subject: name(subject),
            issuer: name(issuer),
            not_before: time(before_tag, before)?,
            not_after: time(after_tag, after)?,
        })
    }
}

/// What an algorithm's identifier means, in words; its number where it is not known here.
pub fn algorithm(identifier: &[u8]) -> String {
    // Some come with their parameters, some without the sequence around them.
    let inner = expect(SEQUENCE, identifier).map_or(identifier, |(inner, _)| inner);
    let Some((oid, parameters)) = expect(OID, inner) else { return "an algorithm that is not known".to_owned() };
    let words = match dotted(oid).as_str() {
        "1.2.840.10045.2.1" => match expect(OID, parameters).map(|(curve, _)| dotted(curve)).as_deref() {
            Some("1.2.840.10045.3.1.7") => "ECDSA P-256",
            Some("1.3.132.0.34") => "ECDSA P-384",
            Some("1.3.132.0.35") => "ECDSA P-521",
            Some("1.3.132.0.10") => "ECDSA secp256k1",
            _ => "ECDSA on another curve",
        },
        "1.2.840.10045.4.1" => "ECDSA with SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA with SHA-224",
        "1.2.840.10045.4.3.2" => "ECDSA with SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA with SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA with SHA-512",
        "1.2.840.10040.4.1" | "1.2.840.10040.4.3" | "2.16.840.1.101.3.4.3.2" => "DSA",
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.2" | "1.2.840.113549.1.1.4" => "RSA with MD5 or older",
        "1.2.840.113549.1.1.5" => "RSA with SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS with parameters of its own",
        "1.2.840.113549.1.1.11" => "RSA with SHA-256",
        "1.2.840.113549.1.1.12" => "RSA with SHA-384",
        "1.2.840.113549.1.1.13" => "RSA with SHA-512",
        "1.2.840.113549.1.1.14" => "RSA with SHA-224",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        number => return format!("algorithm {number}"),
    };
    words.to_owned()
}

/// A moment as it stands in sentences, `2026-11-30 05:59:00 UTC`.
pub fn moment(unix: i64) -> String {
    rfc3339(unix).replace('T', " ").replace('Z', " UTC")
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const BMP_STRING: u8 = 0x1e;
const UTC_TIME: u8 = 0x17;

/// Tag, content and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The common name, else the unit's or the organisation's, in quotation marks and without what does not belong in a line.
fn name(mut der: &[u8]) -> String {
    const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    const ORGANISATION: &[u8] = &[0x55, 4, 10];
    const UNIT: &[u8] = &[0x55, 4, 11];
    let mut found: Vec<(&[u8], String)> = Vec::new();
    while let Some((mut set, rest)) = expect(SET, der) {
        while let Some((pair, after)) = expect(SEQUENCE, set) {
            if let Some((oid, value)) = expect(OID, pair)
                && let Some((tag, bytes, _)) = element(value)
            {
                found.push((oid, text(tag, bytes)));
            }
            set = after;
        }
        der = rest;
    }
    let of = |oid: &[u8]| found.iter().find(|(other, text)| *other == oid && !text.is_empty());
    let best = of(COMMON_NAME).or_else(|| of(ORGANISATION)).or_else(|| of(UNIT));
    best.map_or_else(|| "somebody without a name".to_owned(), |(_, text)| format!("\"{text}\""))
}

fn text(tag: u8, bytes: &[u8]) -> String {
    let whole = if tag == BMP_STRING {
        let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    } else {
        String::from_utf8_lossy(bytes).into_owned()
    };
    whole.chars().map(|c| if c.is_control() || c == '"' { ' ' } else { c }).take(NAME_CHARACTERS).collect()
}

/// UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ` (RFC 5280, 4.1.2.5).
fn time(tag: u8, bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
    let whole = match (tag, text.len()) {
        (UTC_TIME, 13) => format!("{}{text}", if text < "50" { "20" } else { "19" }),
        (0x18, 15) => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| &whole[from..to];
    let (date, clock) = ([part(0, 4), part(4, 6), part(6, 8)], [part(8, 10), part(10, 12), part(12, 14)]);
    // What was before 1970 is as long ago as 1970, for a sentence.
    if part(0, 4) < "1970" { Some(0) } else { parse_rfc3339(&format!("{}T{}Z", date.join("-"), clock.join(":"))) }
}

fn dotted(oid: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0_u64;
    for byte in oid {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut all = vec![tag, 0x82];
        all.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
        all.extend_from_slice(content);
        all
    }

    fn named(oid: u8, tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(SET, &tlv(SEQUENCE, &[tlv(OID, &[0x55, 4, oid]), tlv(tag, value)].concat()))
    }

    #[test]
    fn a_certificate_says_whose_it_is_and_until_when() {
        let issuer =
            tlv(SEQUENCE, &[named(6, 0x13, b"DE"), named(10, 0x0c, "Z\u{fc}rich \"AG\"\n".as_bytes())].concat());
        let subject = tlv(SEQUENCE, &[named(10, 0x0c, b"Org"), named(3, BMP_STRING, b"\0a\0b")].concat());
        let validity = tlv(SEQUENCE, &[tlv(UTC_TIME, b"250102030405Z"), tlv(0x18, b"20500102030405Z")].concat());
        let body = [tlv(0xa0, &tlv(2, &[2])), tlv(2, &[1]), tlv(SEQUENCE, &[]), issuer, validity, subject].concat();
        let der = tlv(SEQUENCE, &tlv(SEQUENCE, &body));
        let read = Certificate::read(&der).unwrap();
        assert_eq!((read.subject.as_str(), read.issuer.as_str()), ("\"ab\"", "\"Z\u{fc}rich  AG  \""));
        assert_eq!(moment(read.not_before), "2025-01-02 03:04:05 UTC");
        assert_eq!(moment(read.not_after), "2050-01-02 03:04:05 UTC");
        for length in 0..der.len() - 1 {
            assert_eq!(Certificate::read(&der[..length]), None);
        }
    }

    #[test]
    fn algorithms_have_names() {
        let ecdsa_sha512 = [OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
        assert_eq!(algorithm(&ecdsa_sha512), "ECDSA with SHA-512");
        assert_eq!(algorithm(&tlv(SEQUENCE, &ecdsa_sha512)), "ECDSA with SHA-512");
        let p521 = [OID, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, OID, 5, 0x2b, 0x81, 4, 0, 35];
        assert_eq!(algorithm(&p521), "ECDSA P-521");
        assert_eq!(algorithm(&[OID, 3, 0x2b, 0x65, 0x71]), "Ed448");
        assert_eq!(algorithm(&[OID, 2, 0x2b, 1]), "algorithm 1.3.1");
        assert_eq!(algorithm(&[]), "an algorithm that is not known");
    }
}
