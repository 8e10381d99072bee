//! Telemetry and crash reports for storage and network daemons. It does three things and nothing else: it asks DNS
//! whether a newer version exists, it sends one sealed report a day, and it tells Sentry how a process died.
//!
//! ```text
//! config  ->  client  ->  worker  ->  switches (the gate)  ->  version | report | crash  ->  transport
//! said        owns        when        whether                  what (values <-> bytes)       how
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | [`config`], [`spec`] | what was said, and what is true: settings, environment, cluster spec |
//! | [`client`] | owns settings, switches, spools, worker; the calls |
//! | [`worker`], [`schedule`] | the one thread; when things are due |
//! | [`switches`] | the gate: who turned what off, and the permit to send |
//! | [`follower`] | ends what is turned off while it is sent, for who has no schedule |
//! | [`version`] | what a signed answer means for the running version |
//! | [`report`] | what an answer means for a report that was sent |
//! | [`crash`] | handler, monitor, Sentry's server |
//! | [`spool`], [`state`], [`memory`] | what is on disk |
//! | [`presence`] | what each running process says of the switches, for `status` and the page |
//! | [`ask`] | what an administrator asks a running process: the next report |
//! | [`transport`] | DNS, HTTPS, proxies |
//! | [`sys`] | system calls |
//! | [`ffi`] | the C interface, include/ondat_telemetry.h |
//!
//! What is sent is read and written by the crate `ondat_telemetry_protocol`.
//!
//! docs/architecture.md has the rules of the house and how each is checked.

pub mod ask;
pub mod client;
pub mod config;
pub mod crash;
pub mod error;
pub mod ffi;
pub mod follower;
pub mod memory;
pub mod presence;
pub mod report;
pub mod schedule;
pub mod spec;
pub mod spool;
pub mod state;
pub mod switches;
pub mod sys;
pub mod transport;
pub mod version;
pub mod worker;
