//! Requests and names against servers and proxies that say whatever a test wants them to say, byte by byte, and as slowly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod certificates;
mod deadline;
mod names;
#[path = "../programs/support.rs"]
#[allow(dead_code, unsafe_code, reason = "made for tests/programs, which uses all of it and says why")]
mod programs;
mod proxies;
mod scene;
#[path = "../version/server.rs"]
#[allow(dead_code, reason = "made for tests/version, which uses all of it")]
mod server;
#[path = "../version/wire.rs"]
#[allow(dead_code, reason = "made for tests/version, which uses all of it")]
mod wire;
