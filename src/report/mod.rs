//! The daily report: what it may say, how it is read, and how it is written down.

pub mod buffer;
pub mod delivery;
pub mod document;
pub mod fields;
pub mod input;
mod row;
