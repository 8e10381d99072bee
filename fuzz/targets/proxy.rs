//! Proxy settings: six lines are NO_PROXY, what stands before and after a password in HTTPS_PROXY, scheme, host, port.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::transport::https::{Endpoint, HttpsSettings};
use ondat_telemetry::transport::proxy::ProxySettings;

const PASSWORD: &str = "s3cret-canary";

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(6, '\n').chain(std::iter::repeat(""));
    let mut line = || lines.next().unwrap_or_default().to_owned();
    let (no_proxy, before, after, scheme, host, port) = (line(), line(), line(), line(), line(), line());
    let port: Option<u16> = port.parse().ok();
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    if !scheme.bytes().all(|b| b.is_ascii_alphabetic()) {
        return;
    }
    let Ok(endpoint) = Endpoint::parse(&format!("{scheme}://{host}{port}/")) else { return };
    let choose = |proxy: ProxySettings| HttpsSettings { proxy, ..HttpsSettings::default() }.proxy_of(&endpoint);
    let value = if after.is_empty() { before } else { format!("{before}:{PASSWORD}{after}") };
    let settings = ProxySettings { https: value.clone(), no_proxy, ..ProxySettings::default() };
    let chosen = choose(settings.clone());
    match &chosen {
        Ok(Some(proxy)) => {
            assert!(scheme.eq_ignore_ascii_case("https") && !value.is_empty());
            assert!(matches!(&*proxy.scheme, "http" | "https" | "socks5" | "socks5h") && proxy.port > 0, "{proxy:?}");
            assert!(!proxy.address().contains(PASSWORD) && !format!("{proxy:?}").contains(PASSWORD), "{proxy:?}");
            let address = format!("https://{}:{}", proxy.host, proxy.port);
            assert!(Endpoint::parse(&address).is_ok(), "no URL has this address: {address}");
        }
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().contains(PASSWORD), "{error}"),
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let is_local = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !scheme.eq_ignore_ascii_case("https")
        || value.is_empty()
        || is_local
        || settings.no_proxy.split(',').any(|item| item == "*")
    {
        assert_eq!(chosen, Ok(None));
    }
    // The host's explicit word overrides the rest; CGI concerns http alone.
    let direct = ProxySettings { explicit: Some(String::new()), ..settings.clone() };
    assert_eq!(choose(direct), Ok(None));
    if scheme == "https" {
        assert_eq!(choose(ProxySettings { cgi: true, ..settings.clone() }), chosen);
    }
    let explicit = ProxySettings { explicit: Some(value.clone()), ..ProxySettings::default() };
    if let Ok(Some(proxy)) = &chosen {
        assert_eq!(choose(explicit).as_ref(), Ok(&Some(proxy.clone())));
    }
});
