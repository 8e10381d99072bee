//! The program as it is run, over fleets that it makes up itself and over bodies that nobody should send.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod crashes;
mod deletion;
mod document;
mod faults;
mod ledger;
mod openers;
mod poison;
mod sealing;
mod stage;
mod tables;
