//! The daily report: what it may say, and how it is written down.

pub mod fields;
