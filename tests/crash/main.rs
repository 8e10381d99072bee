//! Deaths of every kind (docs/crash-scenarios.md numbers them): the process must end as it ends without the library, and
//! exactly one report, or exactly none, must arrive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "the tests confine, signal and await processes, which has no safe form")]

mod attribution;
mod cgroup;
mod chance;
mod children;
mod company;
mod core;
mod delivery;
mod endings;
mod evidence;
mod exec;
mod exhaustion;
mod faults;
mod frozen;
mod handler;
mod heap;
mod host;
mod kinds;
mod languages;
mod lives;
mod locks;
mod monitor;
mod mounts;
mod orphans;
mod pid1;
mod process;
mod sandbox;
mod sentry;
mod service;
mod sink;
mod stack;
#[path = "../programs/support.rs"]
mod support;
mod surroundings;
mod threads;
mod tls;
mod two_copies;
mod victim;
