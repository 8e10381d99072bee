//! C programs compiled against the header and the built libraries: what a user of the C interface sees.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]
#![allow(unsafe_code, reason = "the tests wait for processes that are not their children")]

mod abi;
mod abi_baseline;
mod bad_input;
mod compile;
mod descriptors;
mod exit_status;
mod install;
mod interrupt;
mod large_documents;
mod manners;
mod out_of_memory;
mod support;
mod systemd;
mod valgrind;
