//! Starts the real program on free ports and talks to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail by panicking")]

mod crashes;
mod dns;
mod faults;
mod forwarding;
mod manual;
mod opening;
mod program;
mod reports;
mod s3;
mod seal;
mod starting;
