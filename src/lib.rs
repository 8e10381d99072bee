//! Telemetry and crash reports for storage daemons. The library does three things: it asks DNS whether a newer version
//! exists, it sends one sealed report a day, and it tells Sentry how a process died.
//!
//! ```text
//! config  ->  client  ->  worker  ->  switches (the gate)  ->  version | report | crash  ->  transport
//! said        owns        when        whether                  what (values <-> bytes)       how
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`config`], [`spec`] | the settings as given and as they apply: settings, environment, cluster spec |
//! | [`callbacks`] | what the host gives: its functions, and what it is given in them |
//! | [`client`] | owns settings, switches, spools and worker; implements the calls |
//! | [`worker`], [`lane`], [`schedule`] | the one thread, and when things are due |
//! | [`switch`] | the three that can be turned off, a row each, and who turns one off |
//! | [`switches`] | the gate: which source turned what off, and the permit to send |
//! | [`follower`] | interrupts what is turned off while it is sent, without a schedule |
//! | [`version`] | what a signed answer means for the running version |
//! | [`report`] | what the collector's answer means for a report |
//! | [`crash`] | handler, monitor, Sentry's server |
//! | [`spool`], [`state`] | what is on disk |
//! | [`outcome`], [`purge`] | what became of the last try of each; what goes when it is turned off |
//! | [`presence`] | what each running process says about its switches, for `status` and the page |
//! | [`ask`] | how an administrator asks a running process for the next report |
//! | [`transport`] | DNS, HTTPS, proxies |
//! | [`sys`] | system calls |
//! | [`ffi`] | the C interface, include/ondat_telemetry.h |
//!
//! The crate `ondat_telemetry_protocol` reads and writes what is sent.
//!
//! docs/architecture.md has the rules of the architecture and how each is checked.

pub mod ask;
pub mod callbacks;
pub mod client;
pub mod config;
pub mod crash;
pub mod error;
pub mod ffi;
pub mod follower;
pub mod lane;
pub mod outcome;
pub mod presence;
pub mod purge;
pub mod report;
pub mod schedule;
pub mod spec;
pub mod spool;
pub mod state;
pub mod switch;
pub mod switches;
pub mod sys;
pub mod transport;
pub mod version;
pub mod worker;
