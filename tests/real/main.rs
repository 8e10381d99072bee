//! The built artefacts against software that others have written: BIND, NSD, Knot, PowerDNS, Unbound and dnsmasq answer
//! the version check, Python opens the sealed reports, Bugsink takes the crash reports, strace watches what is turned
//! off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod crash_bugsink;
mod dns_servers;
mod off_strace;
mod report_python;
mod support;
mod version_dns;
