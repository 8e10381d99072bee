//! URLs of servers.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::transport::https::Endpoint;

fuzz_target!(|text: &str| {
    let Ok(endpoint) = Endpoint::parse(text) else { return };
    let shown = endpoint.to_string();
    assert_eq!(Endpoint::parse(&shown).as_ref(), Ok(&endpoint));
    assert!(!shown.contains(|c: char| c.is_control() || c.is_whitespace() || "?#".contains(c)), "{shown:?}");

    let (scheme, rest) = shown.split_once("://").expect("no scheme");
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0);
    assert!(port.is_none_or(is_port), "accepted: port {port:?}");
    assert!(
        !host.is_empty() && !host.contains('@') && host.starts_with('[') == host.ends_with(']'),
        "accepted: host {host:?}"
    );
    if scheme != "https" {
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        assert!(scheme == "http" && (host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())), "{shown:?}");
    }
    // What was in the text is what is asked: nothing was dropped from its end.
    let asked = endpoint.join("v1/reports/0");
    assert!(asked.ends_with("/v1/reports/0"), "{asked}");
    assert!(text.trim().trim_end_matches('/').ends_with(rest.trim_end_matches('/')), "{text:?} became {shown:?}");
    assert!(Endpoint::parse(&asked).is_ok(), "{asked}");
});
