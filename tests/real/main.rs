//! The built artefacts against software that others have written. BIND, NSD, Knot, PowerDNS, Unbound and dnsmasq answer the
//! version check. Python opens the sealed reports and validates documents by their schema. Bugsink accepts the crash
//! reports, and Sentry's own code judges them. strace watches what is turned off. Go decides which proxy is used; the
//! proxies are Squid, Tinyproxy, MicroSocks and mitmproxy. Schemathesis tests the administrator's API, Chromium operates the
//! page. The built example also runs for days while it is turned off and on, on state directories such as Kubernetes, disks
//! and administrators make them.
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
