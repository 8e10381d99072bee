//! The version check against a DNS server that says whatever a test wants it to say, byte by byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod accepted;
mod cost;
mod forged;
mod malformed;
#[path = "../programs/support.rs"]
#[allow(dead_code, unsafe_code, reason = "made for tests/programs, which uses all of it and says why")]
mod programs;
mod refused;
mod resolv_conf;
mod scene;
mod server;
mod servers;
mod signature;
mod vendor;
mod wire;
