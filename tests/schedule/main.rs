//! The schedule, with clocks and servers of the test's own: years pass in seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod machine;
mod report;
mod version;
