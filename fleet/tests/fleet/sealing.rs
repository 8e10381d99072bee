//! Bodies as a test wants them, sealed with the real protocol.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use flate2::Compression;
use flate2::write::GzEncoder;
use ondat_telemetry_protocol::fields::Level;
use ondat_telemetry_protocol::keys::{Kem, KeySet, generate_key, key_id};
use ondat_telemetry_protocol::seal::Sealer;
use serde_json::json;

use crate::stage::Scratch;

const DAY: u16 = 20_781;
pub(crate) const DATE: &str = "2026-11-24";

/// A key that bodies are sealed for.
pub(crate) struct Key {
    public: KeySet,
    pub(crate) file: PathBuf,
}

impl Key {
    pub(crate) fn new(scratch: &Scratch, name: &str) -> Self {
        let (private, public) = generate_key(Kem::X25519);
        let (id, private, public) =
            (HEXLOWER.encode(&key_id(&public)), BASE64.encode(&private), BASE64.encode(&public));
        let file = scratch.0.join(name);
        fs::write(&file, json!({"id": id, "kem": "X25519", "private": private}).to_string()).unwrap();
        let key = json!({"id": id, "kem": "X25519", "public": public, "not_before": 0, "not_after": 9});
        Self { public: KeySet::parse(&json!({"keys": [key]}).to_string()).unwrap(), file }
    }

    /// Seals what is written.
    pub(crate) fn seal(&self, id: [u8; 16], write: impl FnOnce(&mut dyn Write)) -> Vec<u8> {
        let sealer = Sealer::new(Vec::new(), self.public.current(1).unwrap(), id, DAY);
        let mut packed = GzEncoder::new(sealer, Compression::new(4));
        write(&mut packed);
        packed.finish().unwrap().finish().unwrap()
    }

    pub(crate) fn seal_text(&self, id: u8, text: &str) -> Vec<u8> {
        self.seal([id; 16], |out| out.write_all(text.as_bytes()).unwrap())
    }
}

pub(crate) fn head(id: u8, cluster: &str) -> String {
    let id = HEXLOWER.encode(&[id; 16]);
    format!("{{\"schema\":\"ondat-report/1\",\"report_id\":\"{id}\",\"day\":\"{DATE}\"{cluster}}}\n")
}

/// A row group in which all is null but these columns.
pub(crate) fn group(level: Level, records: usize, columns: &[(&str, &str)]) -> String {
    let column = |name: &str| {
        let value = columns.iter().find(|(known, _)| *known == name).map_or("null", |(_, value)| value);
        format!("\"{name}\":[{}]", vec![value; records].join(","))
    };
    let name = if level == Level::Node { "nodes" } else { "volumes" };
    let columns: Vec<String> = level.fields().map(|field| column(field.name)).collect();
    format!("{{\"{name}\":{{{}}}}}\n", columns.join(","))
}

pub(crate) fn end(nodes: usize, volumes: usize) -> String {
    format!("{{\"end\":{{\"nodes\":{nodes},\"volumes\":{volumes}}}}}\n")
}

/// Stores a body under this name.
pub(crate) fn store(data: &Path, name: &str, sealed: &[u8]) {
    let folder = data.join("sealed/v1").join(DATE).join("12");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.otr")), sealed).unwrap();
}

pub(crate) fn name(id: u8) -> String {
    HEXLOWER.encode(&[id; 16])
}
