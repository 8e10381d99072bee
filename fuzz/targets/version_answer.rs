//! TXT records before the judge. The first byte is a set of flags, 0xff separates the records.
#![no_main]

use std::sync::LazyLock;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signer, SigningKey};
use libfuzzer_sys::fuzz_target;
use ondat_telemetry::version::verdict::Verdict;
use ondat_telemetry_protocol::answer::{Answer, Judge, VersionKey, key_id, signed_message};
use ondat_telemetry_protocol::query::version_label;
use semver::Version;

const ZONE: &str = "latest.example.com";
const NOW: i64 = 1_800_000_000;
const SIGNED: u8 = 1;
const REPLAYED: u8 = 2;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[1; 32]));
static PUBLIC: LazyLock<VersionKey> =
    LazyLock::new(|| VersionKey::parse(&BASE64.encode(KEY.verifying_key().as_bytes())).unwrap());

/// Ed25519 makes one signature of one text: any other that were accepted would be forged.
fn signed(covered: &str) -> String {
    format!("{covered} g={}", BASE64URL_NOPAD.encode(&KEY.sign(&signed_message(ZONE, covered)).to_bytes()))
}

/// The answer written down anew, unsigned.
fn text(answer: &Answer) -> String {
    let mut text = format!("o1 v=* l={} t={} e={}", answer.latest, answer.issued, answer.expires);
    let version = |version: &Option<Version>| version.as_ref().map(Version::to_string);
    let status = answer.status.map(|status| status.to_string());
    let advisory = answer.advisory.clone();
    for (key, value) in
        [("r", version(&answer.recommended)), ("m", version(&answer.required)), ("s", status), ("a", advisory)]
    {
        text.extend(value.map(|value| format!(" {key}={value}")));
    }
    text
}

fuzz_target!(|bytes: &[u8]| {
    let Some((flags, texts)) = bytes.split_first() else { return };
    let mut texts: Vec<Vec<u8>> = texts.split(|byte| *byte == 0xff).map(<[u8]>::to_vec).collect();
    if flags & SIGNED != 0 {
        let own_id = key_id(KEY.verifying_key().as_bytes());
        let sign = |text: &Vec<u8>| signed(&String::from_utf8_lossy(text).replace("KEYID", &own_id)).into_bytes();
        texts = texts.iter().map(sign).collect();
    }
    let running = Version::new(2, 8, 2);
    let version_label = version_label(&running);
    let newest_issued = if flags & REPLAYED == 0 { 0 } else { NOW };
    let without_key = Judge { zone: ZONE, version_label: &version_label, keys: &[], now: NOW, newest_issued };
    let with_key = Judge { keys: std::slice::from_ref(&*PUBLIC), ..without_key };
    for judge in [without_key, with_key] {
        let Ok((answer, accepted)) = judge.first_acceptable(&texts) else { continue };
        assert!(texts.iter().any(|text| text == accepted.as_bytes()), "accepted what was not there: {accepted:?}");
        assert!(answer.issued <= NOW + 86_400 && answer.expires > NOW && answer.issued >= newest_issued, "{answer:?}");
        assert!(answer.advisory.as_ref().is_none_or(|id| id.is_ascii() && id.len() <= 64), "{answer:?}");
        assert_eq!(answer.authenticated, !judge.keys.is_empty());
        if answer.authenticated {
            let (covered, _) = accepted.rsplit_once(" g=").expect("authenticated without a signature");
            assert_eq!(signed(covered), accepted, "accepted a forged signature");
        }
        let again = without_key.first_acceptable(&[text(&answer).into_bytes()]).expect("its own answer is refused").0;
        assert_eq!(Answer { authenticated: answer.authenticated, ..again }, answer);
        assert_ne!(Verdict::at(0, &running, &answer), Verdict::Unknown, "{answer:?}");
    }
});
