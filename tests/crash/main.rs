//! Deaths of every kind (docs/crash-scenarios.md numbers them): the process must end as it ends without the library, and
//! exactly one report, or exactly none, must arrive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "the tests confine, signal and await processes, which has no safe form")]

mod cgroup;
mod chance;
mod core;
mod delivery;
mod endings;
mod exhaustion;
mod faults;
mod heap;
mod host;
mod lives;
mod monitor;
mod mounts;
mod process;
mod sandbox;
mod service;
mod sink;
mod stack;
#[path = "../programs/support.rs"]
mod support;
mod threads;
mod tls;
mod victim;
