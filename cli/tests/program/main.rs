//! Runs the real program, in an environment of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail by panicking")]

mod administration;
mod check;
mod crashes;
mod decode;
mod deletion;
mod environment;
mod form;
mod keygen;
mod manual;
mod program;
mod report;
mod servers;
mod sign_keys;
mod status;
mod switches;
mod version;
mod watch;
mod zone;
