//! A sealed report as it comes from the network: followed as it arrives, in pieces of any size, and opened.
#![no_main]

use std::io::Read;
use std::sync::LazyLock;

use data_encoding::{BASE64, HEXLOWER};
use libfuzzer_sys::fuzz_target;
use ondat_telemetry_protocol::frame::{Frame, is_whole};
use ondat_telemetry_protocol::header::{Damage, Header};
use ondat_telemetry_protocol::keys::{Kem, PrivateKey, key_id};
use ondat_telemetry_protocol::message::MessageSecret;
use ondat_telemetry_protocol::open::Opener;

/// The key that the corpus is sealed for.
static KEYS: LazyLock<[PrivateKey; 1]> = LazyLock::new(|| {
    let private = BASE64.encode(&[7; 32]);
    let public = MessageSecret::parse(&private).expect("no key").public();
    let id = HEXLOWER.encode(&key_id(&public));
    let file = format!(r#"{{"id":"{id}","kem":"X25519","private":"{private}"}}"#);
    [PrivateKey::parse(&file).expect("no key file")]
});

fn followed(sealed: &[u8], piece: usize) -> Result<Header, Damage> {
    let mut frame = Frame::new();
    sealed.chunks(piece).try_for_each(|piece| frame.push(piece))?;
    frame.finish()
}

fuzz_target!(|sealed: &[u8]| {
    let header = followed(sealed, sealed.len().max(1));
    assert_eq!(followed(sealed, 1), header);
    assert_eq!(followed(sealed, 1 + sealed.len() / 3), header);
    if let Ok(header) = header {
        assert_eq!(sealed[..header.to_bytes().len()], header.to_bytes());
        assert!(is_whole(sealed, &header.report_id_hex()).expect("memory cannot be read"));
    }
    let mut inside = Vec::new();
    let Ok(mut opener) = Opener::new(sealed, &*KEYS) else { return };
    assert_eq!(opener.header().kem, Kem::X25519);
    if opener.read_to_end(&mut inside).is_ok() {
        // What the holder of the public key has sealed, but for its padding.
        assert!(matches!(header, Ok(_) | Err(Damage::Padding(_))), "{header:?}");
    }
    assert!(inside.len() < sealed.len());
});
