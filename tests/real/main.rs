//! The built artefacts against software that others have written: BIND, NSD, Knot, PowerDNS, Unbound and dnsmasq answer
//! the version check, Python opens the sealed reports and judges documents by their schema, Bugsink takes the crash
//! reports, Sentry's own code judges them, strace watches what is turned off, Go says which proxy is taken, Squid,
//! Tinyproxy, MicroSocks and mitmproxy are what is taken. And the built example, for days, while it is turned off and on.
//! State directories are what Kubernetes, disks and administrators make of them. Schemathesis judges the administrator's API, Chromium operates his page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod api;
mod api_schema;
mod cluster;
mod crash_bugsink;
#[path = "../crash/kinds.rs"]
mod crash_kinds;
mod crash_sentry;
mod dns_servers;
mod names_glibc;
mod next;
mod off_strace;
mod proxy_delivery;
mod proxy_go;
mod proxy_servers;
mod relay;
mod report_callback;
mod report_kill;
mod report_python;
mod report_schema;
mod report_seal;
mod report_spool;
mod report_taint;
mod running;
#[path = "../sweep/servers.rs"]
mod servers;
#[allow(dead_code, reason = "the tests of crashes use more of it")]
#[path = "../crash/sink.rs"]
mod sink;
mod state_dir;
mod support;
mod switches;
mod version_dns;
mod what_leaves;
