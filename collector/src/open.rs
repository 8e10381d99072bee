//! `open`: unseals, unpacks and checks the received reports. It runs with the private key, away from `serve`.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use hpke::aead::{AeadCtxR, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, OpModeR, Serializable};
use ondat_telemetry::error::Error;
use ondat_telemetry::report::fields::Level;
use ondat_telemetry_command::plain;

use crate::fault::printed;
use crate::keys::{PrivateKey, Secret};
use crate::plaintext::{self, Record, Report};
use crate::sealed::{CHUNK_BYTES, HEADER_BYTES, Header, Kem, MOST_BYTES, TAG_BYTES};
use crate::store::{Shelf, Store};
use crate::table;

const INFO: &[u8] = b"ondat-telemetry report v1\0";
/// The most a report may unpack to.
const PLAINTEXT_BYTES: u64 = 1 << 30;

/// The sizes of an opened report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) sealed: usize,
    pub(crate) plaintext: u64,
}

/// Opens every report in the folder with the keys in these files and prints it. False where one could not be opened.
pub(crate) fn run(key_files: &[PathBuf], data: PathBuf, json: bool) -> Result<bool, Error> {
    let keys: Vec<PrivateKey> = key_files.iter().map(|path| PrivateKey::read(path)).collect::<Result<_, _>>()?;
    let paths = Store::open(data)?.list(Shelf::Reports)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if paths.is_empty() && !json {
        printed(writeln!(out, "No reports yet."))?;
    }
    let mut is_whole = true;
    for path in &paths {
        match open_file(path, &keys) {
            Ok(opened) => {
                if !printed(print(&mut out, &opened, json))? {
                    break;
                }
            }
            Err(why) => {
                is_whole = false;
                // In order with the reports when both go to one terminal.
                printed(out.flush())?;
                crate::complain(&format!("cannot open {}: {why}", path.display()));
            }
        }
    }
    printed(out.flush()).map(|_| is_whole)
}

fn print(out: &mut impl Write, opened: &Opened, json: bool) -> io::Result<()> {
    if json { opened.write_json(out) } else { table::write_report(out, &opened.report, opened.sizes) }
}

/// A report that was opened and found right.
struct Opened {
    report: Report,
    sizes: Sizes,
    header: Header,
    /// The gzip member, from which it can be read once more.
    packed: Vec<u8>,
}

impl Opened {
    /// One object on a line. Records that are not in memory are read again: nothing is printed of a report before all of it
    /// is known to be right.
    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let Report { report_id, day, fields, cluster, .. } = &self.report;
        write!(out, "{{\"report_id\":\"{report_id}\",\"day\":\"{day}\",\"fields\":{fields},\"cluster\":")?;
        plain::write_json(out, cluster)?;
        for (name, level, records) in
            [("nodes", Level::Node, &self.report.nodes), ("volumes", Level::Volume, &self.report.volumes)]
        {
            write!(out, ",\"{name}\":[")?;
            let mut before = "";
            let mut write = |record: &Record| -> io::Result<()> {
                out.write_all(std::mem::replace(&mut before, ",").as_bytes())?;
                Ok(plain::write_json(out, record)?)
            };
            if records.are_all_here() {
                records.first.iter().try_for_each(write)?;
            } else {
                let mut outcome = Ok(());
                unpack(&self.packed, &self.header, |of, record| {
                    if of == level && outcome.is_ok() {
                        outcome = write(record);
                    }
                })
                .map_err(io::Error::other)?;
                outcome?;
            }
            write!(out, "]")?;
        }
        writeln!(out, "}}")
    }
}

fn open_file(path: &Path, keys: &[PrivateKey]) -> Result<Opened, String> {
    let file = fs::File::open(path).map_err(|why| why.to_string())?;
    let mut sealed = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut sealed).map_err(|why| why.to_string())?;
    if sealed.len() as u64 > MOST_BYTES {
        return Err(format!("it is larger than {MOST_BYTES} bytes"));
    }
    let header = Header::parse(&sealed)?;
    if path.file_stem().is_none_or(|stem| *stem != *header.report_id) {
        return Err(format!("its name is not the report id in its header, {}", header.report_id));
    }
    let packed = unseal(&sealed, &header, keys)?;
    let (report, plaintext) = unpack(&packed, &header, |_, _| {})?;
    Ok(Opened { report, sizes: Sizes { sealed: sealed.len(), plaintext }, header, packed })
}

enum Context {
    X25519(Box<AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256>>),
    XWing(Box<AeadCtxR<AesGcm256, HkdfSha256, XWing>>),
}

impl Context {
    /// The receiver's context, and what follows the encapsulated key.
    fn new<'a>(sealed: &'a [u8], header: &Header, keys: &[PrivateKey]) -> Result<(Self, &'a [u8]), String> {
        let key = keys.iter().find(|key| key.id == header.key_id);
        let key = key.ok_or_else(|| format!("it is sealed for key {}, which was not given", header.key_id))?;
        let (header_bytes, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or("it is cut off")?;
        let info = [INFO, header_bytes].concat();
        match (&key.secret, header.kem) {
            (Secret::X25519(secret), Kem::X25519) => {
                let (context, rest) = receiver::<X25519HkdfSha256>(secret, &info, rest)?;
                Ok((Self::X25519(Box::new(context)), rest))
            }
            (Secret::XWing(secret), Kem::XWing) => {
                let (context, rest) = receiver::<XWing>(secret, &info, rest)?;
                Ok((Self::XWing(Box::new(context)), rest))
            }
            _ => Err(format!("its header says {:?}, which is not what key {} is for", header.kem, key.id)),
        }
    }

    fn open(&mut self, ciphertext: &[u8], aad: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::X25519(context) => context.open(ciphertext, aad),
            Self::XWing(context) => context.open(ciphertext, aad),
        }
        .map_err(|_| "it was changed after it was sealed, or sealed for another key".to_owned())
    }
}

type Receiver<K> = AeadCtxR<AesGcm256, HkdfSha256, K>;

fn receiver<'a, K: hpke::Kem>(
    secret: &K::PrivateKey,
    info: &[u8],
    rest: &'a [u8],
) -> Result<(Receiver<K>, &'a [u8]), String> {
    let (encapsulated, rest) = rest.split_at_checked(K::EncappedKey::size()).ok_or("it is cut off")?;
    let no_key = |_| "its encapsulated key is damaged".to_owned();
    let encapsulated = K::EncappedKey::from_bytes(encapsulated).map_err(no_key)?;
    let context = hpke::setup_receiver(&OpModeR::Base, secret, &encapsulated, info).map_err(no_key)?;
    Ok((context, rest))
}

/// The packed and padded bytes inside the seal.
fn unseal(sealed: &[u8], header: &Header, keys: &[PrivateKey]) -> Result<Vec<u8>, String> {
    let (mut context, mut rest) = Context::new(sealed, header, keys)?;
    let mut packed = Vec::with_capacity(rest.len());
    loop {
        let (ciphertext, after) = next_chunk(rest)?;
        let is_last = after.is_empty();
        // What says where the end is stands in the header for one chunk, and in the last chunk's seal for several.
        let aad: &[u8] = if is_last && !header.is_single { b"final" } else { b"" };
        packed.extend_from_slice(&context.open(ciphertext, aad)?);
        if is_last {
            return Ok(packed);
        }
        if header.is_single {
            return Err("its header says one chunk, there are more".to_owned());
        }
        if ciphertext.len() != CHUNK_BYTES + TAG_BYTES {
            return Err(format!("a chunk before the last is {} bytes long", ciphertext.len()));
        }
        rest = after;
    }
}

fn next_chunk(bytes: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let (length, rest) = bytes.split_first_chunk().ok_or("it is cut off")?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|why| why.to_string())?;
    if length > CHUNK_BYTES + TAG_BYTES {
        return Err(format!("a chunk is {length} bytes long, more than {}", CHUNK_BYTES + TAG_BYTES));
    }
    rest.split_at_checked(length).ok_or_else(|| "it is cut off".to_owned())
}

/// The report inside the gzip member, and its length. After the member there is padding and nothing else.
fn unpack(packed: &[u8], header: &Header, each: impl FnMut(Level, &Record)) -> Result<(Report, u64), String> {
    let mut unpacked = Counted { inner: GzDecoder::new(packed), bytes: 0 };
    let report = plaintext::read(BufReader::new(&mut unpacked), header, each)?;
    let bytes = unpacked.bytes;
    let padding = unpacked.inner.into_inner();
    if padding.iter().any(|byte| *byte != 0) {
        return Err("its padding holds something".to_owned());
    }
    Ok((report, bytes))
}

/// Counts what is read, and reads no more than a report may have.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        if self.bytes > PLAINTEXT_BYTES {
            return Err(io::Error::other(format!("it unpacks to more than {PLAINTEXT_BYTES} bytes")));
        }
        Ok(read)
    }
}
