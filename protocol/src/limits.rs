//! Every limit of what is sent: the writer keeps to it and the reader refuses what is beyond. docs/protocols.md has the
//! same list ("Limits"); a test compares the two.

/// The longest report before it is packed and sealed. Columns for what a host left out make a report many times longer
/// than its document.
pub const REPORT_BYTES: u64 = 1 << 30;
/// The largest sealed report.
pub const SEALED_REPORT_BYTES: u64 = 64 << 20;
/// The plaintext of every sealed chunk but the last.
pub const CHUNK_BYTES: usize = 65_536;
/// The most records of one row group.
pub const GROUP_RECORDS: usize = 1024;
/// The longest line of a report. A row group of the largest records stays below.
pub const LINE_BYTES: u64 = 64 << 20;
/// The most commas and brackets of one line outside its strings, an opening brace counted eight times: as many values take a few
/// times the memory of the line, and braces more. A row group of records with all labels and metrics has a fifth of it.
pub const LINE_VALUES: u64 = 1 << 20;
/// The most fields that a reader takes at one level: several times as many as there are, for newer writers.
pub const LEVEL_FIELDS: usize = 256;
/// The largest record, or all cluster fields together, as a host gives them: the bytes of keys and strings, and 64 for
/// each key and each value.
pub const RECORD_BYTES: usize = 4 << 20;
/// The longest string in a report, label keys and values included.
pub const STRING_BYTES: usize = 256;
/// The most labels or metrics of one record.
pub const ENTRIES: usize = 64;
/// The longest version of the product.
pub const VERSION_BYTES: usize = 64;
/// The longest raw id.
pub const ID_BYTES: usize = 256;
/// The largest envelope with a crash report, packed and unpacked.
pub const ENVELOPE_BYTES: u64 = 1 << 20;
/// The most items of an envelope, as with Sentry's own server.
pub const ENVELOPE_ITEMS: usize = 100;
/// The longest text of a caller in a crash report's sentence.
pub const CRASH_TEXT_BYTES: usize = 200;
/// The longest name in DNS without its last dot (RFC 1035, 2.3.4).
pub const NAME_CHARS: usize = 253;
