//! Ed25519: the vectors of its RFC, and a signer that is not ours.

use std::process::Command;

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signature, VerifyingKey};
use ondat_telemetry_protocol::answer::{Judge, VersionKey};

use crate::programs::{root, succeed};
use crate::vendor::{ZONE, now, statement};

/// The order of the curve's base point, little endian (RFC 8032, 5.1): added to S, it makes another signature that a
/// careless verifier takes for the same.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

struct Vector {
    name: String,
    public: VerifyingKey,
    message: Vec<u8>,
    signature: [u8; 64],
}

impl Vector {
    fn all() -> Vec<Self> {
        let blocks = include_str!("ed25519_vectors.txt").split("\n\n").skip(1);
        blocks.map(Self::read).collect()
    }

    fn read(block: &str) -> Self {
        let bytes = |word: &str| {
            let lines = block.lines().filter_map(|line| line.strip_prefix(word));
            HEXLOWER.decode(lines.map(str::trim).collect::<String>().as_bytes()).unwrap()
        };
        Self {
            name: block.lines().next().unwrap().to_owned(),
            public: VerifyingKey::from_bytes(&bytes("public").try_into().unwrap()).unwrap(),
            message: bytes("message"),
            signature: bytes("signature").try_into().unwrap(),
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.public.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

/// S plus the order.
fn malleated(signature: &[u8; 64]) -> [u8; 64] {
    let (mut sum, mut carry) = (*signature, 0);
    for (byte, order) in sum[32..].iter_mut().zip(ORDER) {
        carry += u16::from(*byte) + u16::from(order);
        *byte = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    assert_eq!(carry, 0);
    sum
}

#[test]
fn the_vectors_of_rfc_8032_verify_and_nothing_beside_them() {
    let vectors = Vector::all();
    let names: Vec<&str> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    assert_eq!(names, ["TEST 1", "TEST 2", "TEST 3", "TEST 1024", "TEST SHA(abc)"]);
    let lengths: Vec<usize> = vectors.iter().map(|vector| vector.message.len()).collect();
    assert_eq!(lengths, [0, 1, 2, 1023, 64]);
    for vector in &vectors {
        let Vector { name, message, signature, .. } = vector;
        assert!(vector.verifies(message, signature), "{name}");
        assert!(!vector.verifies(message, &malleated(signature)), "{name}: S is not reduced");
        assert!(!vector.verifies(&[message, &b"\0"[..]].concat(), signature), "{name}: a longer message");
        for bit in 0..8 * signature.len() {
            let mut changed = *signature;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!vector.verifies(message, &changed), "{name}: bit {bit} of the signature");
        }
    }
}

#[test]
fn a_key_with_which_anybody_can_sign_is_refused() {
    // The points of small order that have a canonical form (RFC 8032, 5.1.3), among them the neutral element.
    for key in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ] {
        let base64 = data_encoding::BASE64.encode(&HEXLOWER.decode(key.as_bytes()).unwrap());
        let why = VersionKey::parse(&base64).err().unwrap_or_else(|| panic!("{key} was accepted"));
        assert!(why.contains("weak"), "{key}: {why}");
    }
}

#[test]
fn an_answer_signed_by_python_is_accepted_and_no_change_of_it() {
    let python = root().join("target/venv/bin/python");
    assert!(python.exists(), "{} is missing\nrun tools/setup test first", python.display());
    let mut sign = Command::new(python);
    sign.arg("-B").arg(root().join("tests/version/sign_answer.py")).args([ZONE, &statement("2.9.0", now())]);
    let output = String::from_utf8(succeed(&mut sign).stdout).unwrap();
    let (public, text) = output.trim_end().split_once('\n').unwrap();

    let keys = [VersionKey::parse(public).unwrap()];
    let judge = Judge { zone: ZONE, version_label: "68n3gbhi", keys: &keys, now: now(), newest_issued: 0 };
    let accepts = |text: &[u8]| judge.first_acceptable(&[text.to_vec()]).is_ok_and(|(answer, _)| answer.authenticated);
    assert!(accepts(text.as_bytes()), "{text}");
    let elsewhere = Judge { zone: "latest.example.net", ..judge };
    assert!(elsewhere.first_acceptable(&[text.into()]).is_err(), "signed for another zone: {text}");

    let bytes = text.as_bytes();
    for at in 0..bytes.len() {
        let (before, after) = (&bytes[..at], &bytes[at + 1..]);
        assert!(!accepts(&[before, after].concat()), "without byte {at} of {text}");
        assert!(!accepts(&[before, &[bytes[at]], &bytes[at..]].concat()), "with byte {at} twice: {text}");
        for other in (0..=u8::MAX).filter(|other| *other != bytes[at]) {
            assert!(!accepts(&[before, &[other], after].concat()), "{other:#x} for byte {at} of {text}");
        }
    }
}
