//! The version check: what the signed answer means for the running version.

pub mod verdict;
