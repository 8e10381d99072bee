//! Starts the real program on free ports and talks to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail by panicking")]

mod crashes;
mod dns;
mod manual;
mod opening;
mod program;
mod reports;
mod seal;
mod starting;
