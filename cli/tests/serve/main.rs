//! `serve`: the real program on a free port of this machine, asked as its clients ask.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail by panicking")]

mod bad_input;
mod browser;
mod logins;
mod metrics;
mod own;
mod product;
mod server;
mod starting;
