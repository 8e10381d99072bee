//! `keygen`: key pairs for the version zone and for reports. The private half never leaves its file.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::SigningKey;
use ondat_telemetry::error::Error;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry_protocol::answer;
use ondat_telemetry_protocol::keys::{self, Kem, KeySet};
use ondat_telemetry_protocol::message::MessageSecret;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Output;
use crate::settings::read_text;

/// The kinds of keys.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// The Ed25519 key that signs version answers: version.key and version.pub
    Version {
        /// Where the files go; made with mode 0700 if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// The X25519 key that version queries may be sealed for: version-seal.key and version-seal.pub
    VersionSeal {
        /// Where the files go; made with mode 0700 if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// The key that reports are sealed for: report.key and report-keys.json
    Report {
        /// Where the files go; made with mode 0700 if it is not there
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The key encapsulation; X-Wing also resists quantum computers
        #[arg(long, value_enum, default_value_t = KemName::X25519)]
        kem: KemName,
        /// For how many days from now reports are sealed for it
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
        valid_days: u16,
    },
}

/// A key encapsulation by its name in key files.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum KemName {
    /// DHKEM(X25519, HKDF-SHA256).
    #[value(name = "X25519")]
    X25519,
    /// X25519 and ML-KEM-768 together.
    #[value(name = "X-Wing")]
    XWing,
}

impl KemName {
    fn as_str(self) -> &'static str {
        match self {
            Self::X25519 => "X25519",
            Self::XWing => "X-Wing",
        }
    }

    fn kem(self) -> Kem {
        match self {
            Self::X25519 => Kem::X25519,
            Self::XWing => Kem::XWing,
        }
    }
}

/// The name of the signature algorithm in a version key file.
pub(crate) const ED25519: &str = "Ed25519";

/// `version.key`.
#[derive(Deserialize, Serialize)]
pub(crate) struct VersionKeyFile {
    /// [`ED25519`].
    pub(crate) algorithm: String,
    /// The id by which answers name the key. It is derived from the public half.
    pub(crate) id: String,
    /// The 32-byte seed in base64.
    pub(crate) private: String,
}

/// `version-seal.key`.
#[derive(Deserialize, Serialize)]
struct SealKeyFile {
    /// The id of the public half.
    id: String,
    /// `X25519`.
    kem: String,
    /// 32 bytes in base64.
    private: String,
}

const DAY: i64 = 86_400;

/// Makes a key pair, and prints where its public half is and what to do with it.
pub(crate) fn run(action: &Action, json: bool) -> Result<Output, Error> {
    match action {
        Action::Version { out } => version_key(out, json),
        Action::VersionSeal { out } => version_seal_key(out, json),
        Action::Report { out, kem, valid_days } => report_key(out, *kem, i64::from(*valid_days), json),
    }
}

fn version_key(out: &Path, json: bool) -> Result<Output, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Error::Internal(format!("no randomness for a key: {error}")))?;
    let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
    let (id, public) = (answer::key_id(&public), BASE64.encode(&public));
    let file = VersionKeyFile { algorithm: ED25519.to_owned(), id: id.clone(), private: BASE64.encode(&seed) };
    let file = serde_json::to_string(&file).map_err(|error| Error::Internal(format!("version.key: {error}")))?;
    let pair = Pair { private: out.join("version.key"), public: out.join("version.pub") };
    pair.write(&file, &public)?;
    if json {
        return Ok(pair.json(&id));
    }
    Ok(Output::text(format!(
        "public key   {} (id {id})\nprivate key  {} (mode 0600)\n\
         hosts        --version-key {public}, ONDAT_TELEMETRY_VERSION_KEY or ondat_telemetry_config_set_version_key\n\
         zone         ondat-telemetry zone RELEASE.toml --key {}\n",
        pair.public.display(),
        pair.private.display(),
        pair.private.display(),
    )))
}

fn version_seal_key(out: &Path, json: bool) -> Result<Output, Error> {
    let (private, public) = keys::generate_key(Kem::X25519);
    let (id, public) = (HEXLOWER.encode(&keys::key_id(&public)), BASE64.encode(&public));
    let file =
        SealKeyFile { id: id.clone(), kem: KemName::X25519.as_str().to_owned(), private: BASE64.encode(&private) };
    let file = serde_json::to_string(&file).map_err(|error| Error::Internal(format!("version-seal.key: {error}")))?;
    let pair = Pair { private: out.join("version-seal.key"), public: out.join("version-seal.pub") };
    pair.write(&file, &public)?;
    if json {
        return Ok(pair.json(&id));
    }
    Ok(Output::text(format!(
        "public key   {} (id {id})\nprivate key  {} (mode 0600)\n\
         hosts        --version-seal-key {public}, ONDAT_TELEMETRY_VERSION_SEAL_KEY or \
         ondat_telemetry_config_set_version_seal_key\n\
         query logs   ondat-telemetry decode-query --from-log FILE --key {}\n",
        pair.public.display(),
        pair.private.display(),
        pair.private.display(),
    )))
}

/// Reads a `version-seal.key`. The error does not repeat the key.
pub(crate) fn read_seal_key(path: &Path) -> Result<MessageSecret, Error> {
    let refused = |why: &str| Error::InvalidArgument(format!("{}: {why}", path.display()));
    let file: SealKeyFile = serde_json::from_str(&read_text(path, "version seal key")?)
        .map_err(|_| refused("not a version-seal.key of keygen"))?;
    if file.kem != KemName::X25519.as_str() {
        return Err(refused("`kem` is not X25519"));
    }
    let secret = MessageSecret::parse(&file.private).map_err(|why| refused(&format!("`private`: {why}")))?;
    if file.id != HEXLOWER.encode(&keys::key_id(&secret.public())) {
        return Err(refused("`id` does not belong to `private`: the file is damaged"));
    }
    Ok(secret)
}

fn report_key(out: &Path, kem: KemName, valid_days: i64, json: bool) -> Result<Output, Error> {
    let (private, public) = keys::generate_key(kem.kem());
    let id = HEXLOWER.encode(&keys::key_id(&public));
    let now = unix_now();
    // The validity begins a day earlier, so that a host whose clock is slow can seal at once.
    let (not_before, not_after) = (now - DAY, now + valid_days * DAY);
    let private = json!({ "id": id, "kem": kem.as_str(), "private": BASE64.encode(&private) }).to_string();
    let public = json!({ "keys": [{
        "id": id, "kem": kem.as_str(), "public": BASE64.encode(&public), "not_before": not_before, "not_after": not_after,
    }] })
    .to_string();
    KeySet::parse(&public).map_err(|why| Error::Internal(format!("report-keys.json: {why}")))?;
    let pair = Pair { private: out.join("report.key"), public: out.join("report-keys.json") };
    pair.write(&private, &public)?;
    if json {
        return Ok(pair.json(&id));
    }
    Ok(Output::text(format!(
        "public keys  {} (id {id}, {}, valid for {valid_days} days)\nprivate key  {} (mode 0600)\n\
         hosts        --report-keys {}, or its text in ONDAT_TELEMETRY_REPORT_KEYS or \
         ondat_telemetry_config_set_report_keys\ncollector    opens reports with the private key\n",
        pair.public.display(),
        kem.as_str(),
        pair.private.display(),
        pair.public.display(),
    )))
}

/// The files of the two halves.
struct Pair {
    private: PathBuf,
    public: PathBuf,
}

impl Pair {
    fn write(&self, private: &str, public: &str) -> Result<(), Error> {
        if let Some(dir) = self.private.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|error| Error::InvalidArgument(format!("--out {}: {error}", dir.display())))?;
        }
        // Both files are checked before anything is written, so that a refusal leaves no half of a pair behind.
        for path in [&self.private, &self.public] {
            if path.symlink_metadata().is_ok() {
                return Err(already_there(path));
            }
        }
        write_new(&self.private, private, 0o600)?;
        write_new(&self.public, public, 0o644)
    }

    fn json(&self, id: &str) -> Output {
        Output::json(&json!({
            "id": id,
            "public_file": self.public.display().to_string(),
            "private_file": self.private.display().to_string(),
        }))
    }
}

fn already_there(path: &Path) -> Error {
    Error::InvalidArgument(format!(
        "{} exists and is not overwritten: name another directory with --out",
        path.display()
    ))
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| {
        writeln!(file, "{text}")?;
        file.sync_all()
    })
    .map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => already_there(path),
        _ => Error::InvalidArgument(format!("{}: {error}", path.display())),
    })
}
