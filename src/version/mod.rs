//! The version check: what a signed answer means for the running version.

pub mod memory;
pub mod verdict;
