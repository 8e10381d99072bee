//! The version check: the name that is asked, the signed answer, and what the answer means for the running version.

pub mod answer;
pub mod query;
pub mod verdict;
