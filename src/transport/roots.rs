//! Whom TLS trusts: the system's roots, the configured ones, and Mozilla's list, compiled in, if the system has none.
//! Entries that cannot be used are skipped and reported; the rest counts.

use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::deadline::Deadline;
use crate::sys::descriptor;

/// Where Linux distributions keep all roots in one file: Debian, Fedora, openSUSE, older Red Hat, OpenELEC, Alpine.
const SYSTEM_ROOTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
/// And where each has a file of its own.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
/// The most that is read of one file: fifty times what Mozilla's list takes.
const MOST_BYTES: usize = 16 << 20;
/// The most files of one folder that are read.
const MOST_FILES: usize = 4096;
/// The longest PEM section, as it is written.
const MOST_SECTION_BYTES: usize = 256 * 1024;
/// How many things are said of one file.
const MOST_NOTES: usize = 3;

/// Certificates that are trusted.
#[derive(Debug)]
pub struct Roots {
    /// For rustls.
    pub store: RootCertStore,
    /// Those of the CA files alone.
    pub configured: Vec<CertificateDer<'static>>,
    /// What was configured and could not be used, a sentence each.
    pub notes: Vec<String>,
}

impl Roots {
    /// Reads everything anew: a CA file may be renewed under a running process.
    pub fn read(ca_files: &[PathBuf], ca_dirs: &[PathBuf], deadline: &Deadline<'_>) -> Self {
        let mut store = RootCertStore::empty();
        let is_over = || deadline.is_over();
        for path in SYSTEM_ROOTS.map(Path::new) {
            if let Ok(file) = CaFile::read(path) {
                file.add_to(&mut store);
                break;
            }
        }
        if store.is_empty() {
            SYSTEM_FOLDERS.map(Path::new).iter().for_each(|folder| add_folder(folder, &mut store, is_over));
        }
        if store.is_empty() {
            store.roots.extend_from_slice(webpki_roots::TLS_SERVER_ROOTS);
        }
        let (mut configured, mut notes) = (Vec::new(), Vec::new());
        for path in ca_files {
            match CaFile::read(path) {
                Ok(file) => {
                    file.add_to(&mut store);
                    configured.extend(file.certificates);
                    notes.extend(file.notes);
                }
                Err(why) => notes.push(format!("CA file {} is passed over: {why}", path.display())),
            }
        }
        for folder in ca_dirs {
            add_folder(folder, &mut store, is_over);
        }
        Self { store, configured, notes }
    }
}

/// A folder of roots holds other files too, and the same ones under several names: what is no certificate adds nothing.
fn add_folder(folder: &Path, store: &mut RootCertStore, is_over: impl Fn() -> bool) {
    let listed: Vec<PathBuf> = {
        let _gaps = descriptor::Gaps::fill();
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        // A listing that fails ends.
        entries.map_while(Result::ok).take(MOST_FILES).map(|entry| entry.path()).collect()
    };
    for path in listed {
        if is_over() {
            return;
        }
        if let Ok(file) = CaFile::read(&path) {
            file.add_to(store);
        }
    }
}

/// A file of certificates in PEM form (RFC 7468), of which at least one can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFile {
    certificates: Vec<CertificateDer<'static>>,
    /// What is passed over, a sentence each.
    pub notes: Vec<String>,
}

impl CaFile {
    /// Reads one. The error says why it is of no use.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = descriptor::read_at_most(path, MOST_BYTES).map_err(|error| error.to_string())?;
        if bytes.len() > MOST_BYTES {
            return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
        }
        let (certificates, faults) = sections(&bytes);
        if certificates.is_empty() {
            return Err(match faults.first() {
                Some((line, why)) => format!("it holds no certificate that can be used: line {line}: {why}"),
                None => "it holds no certificate in PEM form (`-----BEGIN CERTIFICATE-----`)".to_owned(),
            });
        }
        let more = faults.len().saturating_sub(MOST_NOTES);
        let mut notes: Vec<String> = faults
            .iter()
            .take(MOST_NOTES)
            .map(|(line, why)| format!("CA file {}, line {line}: {why}; it is passed over", path.display()))
            .collect();
        if more > 0 {
            notes.push(format!("CA file {}: {more} more certificates are passed over", path.display()));
        }
        Ok(Self { certificates, notes })
    }

    fn add_to(&self, store: &mut RootCertStore) {
        for certificate in &self.certificates {
            // Each has been seen to be one.
            let _ = store.add(certificate.clone());
        }
    }
}

/// The certificates that can be used, and of those that cannot the line and why.
fn sections(pem: &[u8]) -> (Vec<CertificateDer<'static>>, Vec<(usize, &'static str)>) {
    let (mut certificates, mut faults) = (Vec::new(), Vec::new());
    // The line where a section began, and what has been read of it.
    let mut section: Option<(usize, Vec<u8>)> = None;
    for (number, line) in pem.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if let Some(label) = line.strip_prefix(b"-----BEGIN ").and_then(|rest| rest.strip_suffix(b"-----")) {
            if let Some((began, _)) = section.take() {
                faults.push((began, "a certificate without an end"));
            }
            // The second is what X.509 tools of old wrote.
            if matches!(label, b"CERTIFICATE" | b"X509 CERTIFICATE") {
                section = Some((number + 1, Vec::new()));
            } else if label == b"TRUSTED CERTIFICATE" {
                faults.push((
                    number + 1,
                    "a certificate with trust settings of OpenSSL's own (`openssl x509` removes them)",
                ));
            }
        } else if line.starts_with(b"-----END ") {
            if let Some((began, text)) = section.take() {
                match certificate(&text) {
                    Ok(certificate) => certificates.push(certificate),
                    Err(why) => faults.push((began, why)),
                }
            }
        } else if let Some((_, text)) = &mut section
            && text.len() < MOST_SECTION_BYTES
        {
            text.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
    }
    if let Some((began, _)) = section {
        faults.push((began, "a certificate without an end"));
    }
    (certificates, faults)
}

fn certificate(text: &[u8]) -> Result<CertificateDer<'static>, &'static str> {
    let der = BASE64.decode(text).map_err(|_| "what is there is not base64")?;
    let der = CertificateDer::from(der);
    match webpki::anchor_from_trusted_cert(&der) {
        Ok(_) => Ok(der.clone()),
        Err(_) => Err("what is there is not a certificate that can be read"),
    }
}
