//! The daily report: what it may contain, how it is read, and how it is written.

pub mod buffer;
pub mod delivery;
pub mod document;
pub mod fields;
pub mod input;
mod row;
