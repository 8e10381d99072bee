//! The daily report once it is sealed: what the collector's answer means for it.

pub mod delivery;
pub mod memory;
