//! Reports and keys, made here from the written protocol and not with the library's code.

use std::io::Write;

use data_encoding::{BASE64, HEXLOWER};
use flate2::Compression;
use flate2::write::GzEncoder;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{OpModeS, Serializable};
use ondat_telemetry_protocol::fields::Level;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) const REPORT_ID: [u8; 16] = [0xab; 16];
pub(crate) const DAY: u16 = 20_781;

/// A key pair and the two files it is written to.
pub(crate) struct Keys<K: hpke::Kem> {
    kem: &'static str,
    private: K::PrivateKey,
    public: K::PublicKey,
}

pub(crate) fn x25519() -> Keys<X25519HkdfSha256> {
    let (private, public) = <X25519HkdfSha256 as hpke::Kem>::gen_keypair();
    Keys { kem: "X25519", private, public }
}

pub(crate) fn x_wing() -> Keys<XWing> {
    let (private, public) = <XWing as hpke::Kem>::gen_keypair();
    Keys { kem: "X-Wing", private, public }
}

impl<K: hpke::Kem> Keys<K> {
    fn id(&self) -> Vec<u8> {
        Sha256::digest(self.public.to_bytes())[..8].to_vec()
    }

    pub(crate) fn private_file(&self) -> String {
        let private = BASE64.encode(&self.private.to_bytes());
        json!({"id": HEXLOWER.encode(&self.id()), "kem": self.kem, "private": private}).to_string()
    }

    pub(crate) fn key_set(&self) -> String {
        let public = BASE64.encode(&self.public.to_bytes());
        let id = HEXLOWER.encode(&self.id());
        json!({"keys": [{"id": id, "kem": self.kem, "public": public, "not_before": 0, "not_after": 4_000_000_000_u64}]})
            .to_string()
    }

    /// Seals a plaintext: packed, padded with zeros, cut, sealed.
    pub(crate) fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut packed = gzip(plaintext);
        packed.resize(padded(packed.len()), 0);
        self.seal_packed(&packed)
    }

    /// The frame of a report of so many bytes before sealing, a padded length; nobody can open it.
    pub(crate) fn frame(&self, length: usize) -> Vec<u8> {
        let mut sealed = self.seal_packed(&vec![0; 65_537])[..37 + K::EncappedKey::size()].to_vec();
        sealed[36] = u8::from(length <= 65_536);
        for at in (0..length).step_by(65_536) {
            let chunk = 65_536.min(length - at) + 16;
            sealed.extend(u32::try_from(chunk).unwrap().to_be_bytes());
            sealed.resize(sealed.len() + chunk, 5);
        }
        sealed
    }

    pub(crate) fn seal_packed(&self, packed: &[u8]) -> Vec<u8> {
        let chunks: Vec<&[u8]> = packed.chunks(65_536).collect();
        let mut sealed = b"OTR1".to_vec();
        sealed.extend(self.id());
        sealed.extend(K::KEM_ID.to_be_bytes());
        sealed.extend([0, 1, 0, 2]);
        sealed.extend(REPORT_ID);
        sealed.extend(DAY.to_be_bytes());
        sealed.push(u8::from(chunks.len() == 1));
        let info = [b"ondat-telemetry report v1\0", sealed.as_slice()].concat();
        let (encapsulated, mut context) =
            hpke::setup_sender::<AesGcm256, HkdfSha256, K>(&OpModeS::Base, &self.public, &info).unwrap();
        sealed.extend(encapsulated.to_bytes());
        for (at, chunk) in chunks.iter().enumerate() {
            let is_final = chunks.len() > 1 && at + 1 == chunks.len();
            let ciphertext = context.seal(chunk, if is_final { b"final" } else { b"" }).unwrap();
            sealed.extend(u32::try_from(ciphertext.len()).unwrap().to_be_bytes());
            sealed.extend(ciphertext);
        }
        sealed
    }
}

/// The report id of this number.
pub(crate) fn id_of(number: u32) -> String {
    HEXLOWER.encode(&bytes_of_id(number))
}

fn bytes_of_id(number: u32) -> [u8; 16] {
    let mut id = [0xcd; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    id
}

/// The same report with the id of this number. Nobody can open it.
pub(crate) fn with_id(sealed: &[u8], number: u32) -> Vec<u8> {
    [&sealed[..18], &bytes_of_id(number), &sealed[34..]].concat()
}

/// Padmé: of a length with E + 1 bits the last E - (bits of E) become zero, upwards.
fn padded(length: usize) -> usize {
    let exponent = length.ilog2();
    let zeros = exponent.saturating_sub(exponent.ilog2() + 1);
    length.next_multiple_of(1 << zeros)
}

pub(crate) fn gzip(plaintext: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plaintext).unwrap();
    encoder.finish().unwrap()
}

/// A report with two nodes and so many volumes.
pub(crate) fn report(volumes: usize) -> String {
    let mut text = format!(
        "{{\"schema\":\"ondat-report/1\",\"report_id\":\"{}\",\"day\":\"2026-11-24\"",
        HEXLOWER.encode(&REPORT_ID)
    );
    for field in Level::Cluster.fields() {
        let value = match field.name {
            "k8s_version" => json!("v1.31.2"),
            "api_call_metrics" => json!({"ListVolumes": {"200": 12}}),
            _ => Value::Null,
        };
        text.push_str(&format!(",\"{}\":{value}", field.name));
    }
    text.push_str("}\n");
    text.push_str(&group("nodes", Level::Node, 0, 2));
    for first in (0..volumes).step_by(1024) {
        text.push_str(&group("volumes", Level::Volume, first, 1024.min(volumes - first)));
    }
    text.push_str(&format!("{{\"end\":{{\"nodes\":2,\"volumes\":{volumes}}}}}\n"));
    text
}

fn group(name: &str, level: Level, first: usize, records: usize) -> String {
    let columns: Vec<String> = level
        .fields()
        .map(|field| {
            let values: Vec<String> = (first..first + records).map(|record| value(field.name, record)).collect();
            format!("\"{}\":[{}]", field.name, values.join(","))
        })
        .collect();
    format!("{{\"{name}\":{{{}}}}}\n", columns.join(","))
}

fn value(field: &str, record: usize) -> String {
    match field {
        // Does not compress, as real ids do not.
        "node_id" | "volume_id" => format!("\"{}\"", HEXLOWER.encode(&Sha256::digest(record.to_string())[..16])),
        "node_capacity" => json!({"total": 107_374_182_400_u64, "free": 1, "available": null}).to_string(),
        "node_total_bytes" | "volume_size_bytes" => "1610612736".to_owned(),
        "volume_fs_type" => "\"ext4\"".to_owned(),
        _ => "null".to_owned(),
    }
}
