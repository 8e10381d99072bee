//! What ondat-telemetry sends, and how it is read: values to bytes and back. The library, the commands, the collector
//! and the fuzz targets share it, so that no program decodes a thing in its own way. docs/protocols.md describes the
//! bytes.
//!
//! Nothing here does I/O, reads a clock or calls the C library; readers and writers are given. What is read is bounded
//! by [`limits`] before memory is taken for it.
//!
//! | module | what is in it |
//! |---|---|
//! | [`query`], [`answer`] | the version check: the name that is asked, the signed answer |
//! | [`fields`] | the list of the report's fields: name, level, type, form |
//! | [`document`], [`json`] | the JSON that a host gives, read strictly |
//! | [`plaintext`] | the report as JSON lines, written and read |
//! | [`keys`], [`seal`], [`open`], [`message`] | key sets; sealing and opening reports and short messages (RFC 9180) |
//! | [`event`], [`envelope`], [`dsn`] | the crash report in Sentry's form, written and read |
//! | [`ending`], [`signals`] | a wait status, and the names of signals |
//! | [`identity`] | anonymised ids |
//! | [`time`] | days and moments as text |
//! | [`limits`] | every limit of what is sent |

pub mod answer;
pub mod buffer;
pub mod document;
pub mod dsn;
pub mod ending;
pub mod envelope;
pub mod event;
pub mod fault;
pub mod fields;
pub mod frame;
pub mod header;
pub mod identity;
pub mod json;
pub mod keys;
pub mod limits;
pub mod message;
pub mod open;
pub mod plaintext;
pub mod query;
pub mod seal;
pub mod signals;
pub mod signed_keys;
mod suite;
pub mod time;
