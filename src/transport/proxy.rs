//! Which proxy a request takes: the rules of Go's `http.ProxyFromEnvironment`, as golang.org/x/net/http/httpproxy
//! defines them. Pure: values in, decision out.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use data_encoding::HEXLOWER_PERMISSIVE;
use idna::punycode;
use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use crate::error::Error;

/// The proxy settings of one process, as they were given.
#[derive(Clone, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProxySettings {
    /// The host's explicit choice for every request; an empty string means direct. Overrides all the rest.
    pub explicit: Option<String>,
    /// `HTTP_PROXY`, else `http_proxy`.
    pub http: String,
    /// `HTTPS_PROXY`, else `https_proxy`.
    pub https: String,
    /// `NO_PROXY`, else `no_proxy`.
    pub no_proxy: String,
    /// `REQUEST_METHOD` is set: a CGI program, where `HTTP_PROXY` may come from a request header.
    pub cgi: bool,
}

/// A proxy to go through.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `http`, `https`, `socks5` or `socks5h`.
    pub scheme: String,
    /// Host name or address, brackets around IPv6.
    pub host: String,
    /// Port, the scheme's default where none was given.
    pub port: u16,
    /// User name and password, decoded.
    pub credentials: Option<(String, String)>,
}

impl Proxy {
    /// The proxy's address without credentials, for logs.
    pub fn address(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.address())
    }
}

/// Without the values, which may carry passwords.
impl std::fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxySettings").finish_non_exhaustive()
    }
}

impl ProxySettings {
    /// The proxy for a request, or none for a direct connection. A value that selects but cannot be used is an
    /// error, never a direct connection past a proxy that somebody put there.
    pub fn choose(&self, url: &Uri) -> Result<Option<Proxy>, Error> {
        if let Some(explicit) = &self.explicit {
            return if explicit.is_empty() { Ok(None) } else { usable(explicit, "the configured proxy").map(Some) };
        }
        let scheme = url.scheme_str().unwrap_or_default();
        let (value, name, default_port) = match scheme {
            "https" => (&self.https, "HTTPS_PROXY", "443"),
            "http" => (&self.http, "HTTP_PROXY", "80"),
            _ => return Ok(None),
        };
        if value.is_empty() {
            return Ok(None);
        }
        if scheme == "http" && self.cgi {
            return Err(Error::Network(
                "HTTP_PROXY is refused because REQUEST_METHOD is set (a CGI program): unset one of them".to_owned(),
            ));
        }
        let port = url.port();
        let port = port.as_ref().map_or(default_port, |port| port.as_str());
        if !self.applies_to(url.host().unwrap_or_default(), port) {
            return Ok(None);
        }
        usable(value, name).map(Some)
    }

    fn applies_to(&self, host: &str, port: &str) -> bool {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host == "localhost" {
            return false;
        }
        let ip = parse_ip(host);
        if ip.is_some_and(is_loopback) {
            return false;
        }
        let host = host.trim().to_ascii_lowercase();
        for item in self.no_proxy.split(',') {
            let item = lowercase(item.trim());
            if item.is_empty() {
                continue;
            }
            if item == "*" {
                return false;
            }
            if exempts(&item, &host, ip, port) {
                return false;
            }
        }
        true
    }
}

/// Whether one item of `NO_PROXY` covers the host: network, address or domain, tried in this order.
fn exempts(item: &str, host: &str, ip: Option<IpAddr>, port: &str) -> bool {
    if let Some((network, bits)) = parse_cidr(item) {
        return ip.is_some_and(|ip| in_network(ip, network, bits));
    }
    let (name, item_port) = match split_port(item) {
        Some(("", _)) => return false,
        Some((name, item_port)) => (name, item_port),
        None => (item, ""),
    };
    // As they are written: 0443 is another port than 443 to Go.
    if !item_port.is_empty() && item_port != port {
        return false;
    }
    // With a zone it is no address here, unlike a host.
    if let Ok(address) = name.parse::<IpAddr>() {
        return ip == Some(address.to_canonical());
    }
    if name.is_empty() || ip.is_some() {
        return false;
    }
    let name = to_ascii(name);
    let domain = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(&name);
    if let Some(parent) = domain.strip_prefix('.') {
        return host.strip_suffix(parent).is_some_and(|sub| sub.ends_with('.'));
    }
    host == domain || host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.'))
}

/// Character by character, as in Go: a sigma at the end of a word is none, and a dotted capital I is an i.
fn lowercase(text: &str) -> String {
    text.chars().filter_map(|c| c.to_lowercase().next()).collect()
}

/// A domain in lower case as it stands in URLs (RFC 3492). IDNA's tables, which are a thirtieth of the library, are
/// left out: a letter is found as it is composed and not in other spellings.
fn to_ascii(domain: &str) -> Cow<'_, str> {
    let may_be_in_a_name = |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if domain.is_ascii() || !domain.strip_prefix("*.").unwrap_or(domain).chars().all(may_be_in_a_name) {
        return Cow::Borrowed(domain);
    }
    let labels = domain.split('.').map(|label| {
        if label.is_ascii() { Some(label.to_owned()) } else { Some(format!("xn--{}", punycode::encode_str(label)?)) }
    });
    labels.collect::<Option<Vec<_>>>().map_or(Cow::Borrowed(domain), |labels| Cow::Owned(labels.join(".")))
}

/// `host:port` with the brackets of an IPv6 host removed; none where there is no port.
fn split_port(item: &str) -> Option<(&str, &str)> {
    let (host, port) = item.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').map(|inner| (inner, port));
    }
    if host.contains([':', ']']) { None } else { Some((host, port)) }
}

/// An address by value: an IPv4-mapped IPv6 address is the IPv4 address, a zone is dropped.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = match text.split_once('%') {
        Some((address, zone)) if address.contains(':') && !zone.is_empty() => address,
        _ => text,
    };
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST,
    }
}

fn parse_cidr(item: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = item.split_once('/')?;
    let network: IpAddr = address.parse().ok()?;
    let most = if network.is_ipv4() { 32 } else { 128 };
    let bits: u8 = digits(bits)?.parse().ok().filter(|bits| *bits <= most)?;
    match (network.to_canonical(), bits.checked_sub(96)) {
        // Of IPv4-mapped addresses: a network of IPv4.
        (mapped @ IpAddr::V4(_), Some(bits)) if network.is_ipv6() => Some((mapped, bits)),
        _ => Some((network, bits)),
    }
}

/// Digits and nothing else: `parse` would take a sign too.
fn digits(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
}

fn in_network(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            ip.to_bits() & mask == Ipv4Addr::to_bits(network) & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            ip.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// Reads a proxy's value as Go's `url.Parse` does, with `http://` put before one that is no URL.
fn usable(value: &str, name: &str) -> Result<Proxy, Error> {
    read(value).map_err(|why| {
        // The value may carry a password: it is never repeated.
        Error::Network(format!(
            "{name} is not a usable proxy address ({why}); expected http://host:port, nothing was sent"
        ))
    })
}

fn read(value: &str) -> Result<Proxy, &'static str> {
    let of_url = value.split_once(":/").filter(|(scheme, _)| !scheme.contains(['/', '?', '#', '@']));
    let (scheme, rest) = match of_url {
        // A URL that cannot be read is read once more by Go behind `http://`. That would take its scheme for a host.
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.strip_prefix('/').ok_or("it has no host")?),
        None => ("http".to_owned(), value),
    };
    let default_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        "socks5" | "socks5h" => 1080,
        _ => return Err("its scheme is not http, https, socks5 or socks5h"),
    };
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    if rest.bytes().any(|b| b.is_ascii_control()) {
        return Err("it has a control character");
    }
    let (rest, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if percent_decode(path).is_none() || percent_decode(fragment).is_none() {
        return Err("what follows its host is wrongly escaped");
    }
    let (credentials, address) = match authority.rsplit_once('@') {
        Some((credentials, address)) => (Some(read_credentials(credentials)?), address),
        None => (None, authority),
    };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, "")) => (host, default_port),
        Some((host, port)) if !port.contains(']') => {
            let number = digits(port).and_then(|port| port.parse().ok()).filter(|port| *port > 0);
            (host, number.ok_or("its port is not a number from 1 to 65535")?)
        }
        _ => (address, default_port),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
    };
    if !is_host {
        return Err("its host is not a name or an address");
    }
    Ok(Proxy { scheme, host: host.to_owned(), port, credentials })
}

fn read_credentials(text: &str) -> Result<(String, String), &'static str> {
    // RFC 3986, 3.2.1, and the `@` that Go takes too.
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%@".contains(&b)) {
        return Err("its user name or password has a character that must be escaped");
    }
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |text| percent_decode(text).and_then(|bytes| String::from_utf8(bytes).ok());
    Ok((
        decoded(user).ok_or("its user name is wrongly escaped")?,
        decoded(password).ok_or("its password is wrongly escaped")?,
    ))
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let escaped = HEXLOWER_PERMISSIVE.decode(after.get(..2)?).ok()?;
        bytes.extend_from_slice(&escaped);
        rest = &after[2..];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Uri {
        text.parse().unwrap()
    }

    fn proxied_by(https: &str) -> ProxySettings {
        ProxySettings { https: https.to_owned(), ..Default::default() }
    }

    fn proxied(no_proxy: &str, host: &str, port: u16) -> bool {
        let settings = ProxySettings { no_proxy: no_proxy.to_owned(), ..proxied_by("proxy.example:3128") };
        settings.choose(&url(&format!("https://{host}:{port}"))).unwrap().is_some()
    }

    #[test]
    fn no_proxy_items_match_as_in_go() {
        assert!(!proxied("", "localhost", 443));
        assert!(!proxied("", "127.9.9.9", 443));
        assert!(!proxied("", "[::1]", 443));
        assert!(!proxied("", "[::ffff:127.0.0.1]", 443));
        assert!(proxied("", "sub.localhost", 443));
        assert!(!proxied("*", "example.com", 443));
        assert!(!proxied("example.com", "a.example.com", 443));
        assert!(proxied(".example.com", "example.com", 443));
        assert!(!proxied(" *.example.com , x", "a.example.com", 443));
        assert!(proxied("*ample.com", "example.com", 443));
        assert!(!proxied("example.com:443", "example.com", 443));
        assert!(proxied("example.com:444", "example.com", 443));
        assert!(!proxied("10.0.0.0/8", "10.1.2.3", 443));
        assert!(proxied("10.0.0.0/8:443", "10.1.2.3", 443));
        assert!(!proxied("2001:db8::1", "[2001:DB8:0::1]", 443));
        assert!(!proxied("[2001:db8::1]:443", "[2001:db8::1]", 443));
        assert!(proxied("10.", "10.1.2.3", 443));
        assert!(!proxied("example.com:", "example.com", 8443));
        assert!(!proxied("10.1.2.3:", "10.1.2.3", 8443));
        assert!(!proxied("10.0.0.0/08", "10.1.2.3", 443));
        assert!(proxied("10.0.0.0/+8", "10.1.2.3", 443));
        assert!(!proxied("::ffff:10.0.0.0/104", "10.1.2.3", 443));
        assert!(proxied("::ffff:10.0.0.0/104", "11.1.2.3", 443));
        assert!(proxied("::/0", "10.1.2.3", 443));
        assert!(!proxied("fe80::1", "[fe80::1%eth0]", 443));
        assert!(proxied("fe80::1%eth0", "[fe80::1%eth0]", 443));
    }

    #[test]
    fn a_port_is_compared_as_it_is_written() {
        let settings = ProxySettings { no_proxy: "example.com:0443".to_owned(), ..proxied_by("proxy") };
        assert_eq!(settings.choose(&url("https://example.com:0443")), Ok(None));
        assert!(settings.choose(&url("https://example.com:443")).unwrap().is_some());
    }

    #[test]
    fn names_beyond_ascii_match_their_form_in_urls() {
        assert!(!proxied("b\u{fc}cher.example", "www.xn--bcher-kva.example", 443));
        assert!(!proxied("*.B\u{dc}CHER.example:443", "www.XN--bcher-kva.example", 443));
        assert!(!proxied("\u{130}ntranet", "intranet", 443));
        assert!(proxied(".b\u{fc}cher.example", "xn--bcher-kva.example", 443));
        assert!(proxied("b\u{fc}_cher.example", "xn--b_cher-kva.example", 443));
    }

    #[test]
    fn each_scheme_has_its_own_variable() {
        let settings = ProxySettings { http: "http://p:1".to_owned(), ..Default::default() };
        assert_eq!(settings.choose(&url("https://example.com")), Ok(None));
        assert!(settings.choose(&url("http://example.com")).unwrap().is_some());
    }

    #[test]
    fn an_unusable_value_is_an_error_without_the_password() {
        let settings = proxied_by("ftp://u:s3cret@p:1");
        assert!(!format!("{settings:?}").contains("s3cret"));
        let error = settings.choose(&url("https://example.com")).unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for value in [
            "http://proxy:+80",
            "http://us%+fer@proxy:80",
            "http://us%4@proxy:80",
            "http://[proxy]:80",
            "http://[fe80::1%25eth0]:80",
            "http://us er@proxy:80",
            "http://user:p\u{e4}ss@proxy:80",
            "http://proxy:80/%zz",
            "http://proxy:80#%zz",
            "http://proxy:80\n",
            "http://proxy :80",
            "http:/proxy:80",
            "http:///proxy:80",
            "//proxy:80",
        ] {
            assert!(usable(value, "x").is_err(), "{value}");
        }
    }

    #[test]
    fn what_is_no_url_is_read_behind_http() {
        for (value, address) in [
            ("proxy", "http://proxy:80"),
            ("proxy:3128/x://y", "http://proxy:3128"),
            ("http:3128", "http://http:3128"),
            ("user:pass@proxy:3128", "http://proxy:3128"),
        ] {
            assert_eq!(usable(value, "x").unwrap().address(), address);
        }
    }

    #[test]
    fn credentials_are_decoded_and_kept_out_of_the_address() {
        let proxy = usable("http://us%40er:p%3Aw@host:8080/", "x").unwrap();
        assert_eq!(proxy.credentials, Some(("us@er".to_owned(), "p:w".to_owned())));
        assert_eq!(format!("{proxy:?}"), "http://host:8080");
    }

    #[test]
    fn a_cgi_program_gets_an_error_for_http() {
        let settings =
            ProxySettings { http: "p:1".to_owned(), https: "p:1".to_owned(), cgi: true, ..Default::default() };
        assert!(settings.choose(&url("http://example.com")).is_err());
        assert!(settings.choose(&url("https://example.com")).unwrap().is_some());
    }
}
