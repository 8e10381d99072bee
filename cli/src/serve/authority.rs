//! Parses the host and port of a Host header, a request target or an origin, and compares them: one authority has many
//! spellings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// The host.
    pub(crate) host: Host,
    port: Option<u16>,
}

/// A host, as clients write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An IP address.
    Address(IpAddr),
    /// A DNS name in lower case, without the trailing dot.
    Name(String),
}

impl Host {
    /// Parses a DNS name or an IPv4 address. None: the text is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Some(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let is_name = is_name && name.split('.').all(|label| !label.is_empty());
        is_name.then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

impl Authority {
    /// Parses `host`, `host:port`, `[address]` or `[address]:port`. None: the text has another form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                let address = IpAddr::V6(address.parse::<Ipv6Addr>().ok()?);
                (Host::Address(address.to_canonical()), port)
            }
            None => {
                let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                (Host::parse(name)?, port)
            }
        };
        let digits = if port.is_empty() { port } else { port.strip_prefix(':')? };
        let port = match digits {
            // An empty port is the default port (RFC 3986, 3.2.3).
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both are the same authority in this scheme, with its default port filled in.
    pub(crate) fn is(&self, other: &Self, scheme: Scheme) -> bool {
        self.host == other.host
            && self.port.unwrap_or(scheme.default_port()) == other.port.unwrap_or(scheme.default_port())
    }
}

/// The scheme of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// HTTP without TLS.
    Http,
    /// HTTP with TLS.
    Https,
}

impl Scheme {
    /// Parses the scheme's name, in any case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Http, Self::Https].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme.name()))
    }

    /// The scheme's name in lower case.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Parses an origin, `scheme://host` or `scheme://host:port`.
pub(crate) fn origin(text: &str) -> Option<(Scheme, Authority)> {
    let (scheme, authority) = text.split_once("://")?;
    Some((Scheme::parse(scheme)?, Authority::parse(authority)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_authority_are_the_same() {
        let is = |one: &str, other: &str, scheme| {
            Authority::parse(one).unwrap().is(&Authority::parse(other).unwrap(), scheme)
        };
        for (one, other, scheme) in [
            ("storageos", "storageos:443", Scheme::Https),
            ("storageos:", "STORAGEOS.:443", Scheme::Https),
            ("storageos", "storageos:80", Scheme::Http),
            ("storageos:0080", "storageos", Scheme::Http),
            ("[::1]:443", "[0:0::0001]", Scheme::Https),
            ("[::ffff:127.0.0.1]", "127.0.0.1:80", Scheme::Http),
        ] {
            assert!(is(one, other, scheme), "{one} {other}");
        }
        for (one, other, scheme) in [
            ("storageos:443", "storageos", Scheme::Http),
            ("storageos:80", "storageos", Scheme::Https),
            ("storageos:8443", "storageos", Scheme::Https),
            ("storageos", "storageos.example", Scheme::Http),
            ("[::1]", "127.0.0.1", Scheme::Http),
        ] {
            assert!(!is(one, other, scheme), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_authority_is_none() {
        for text in [
            "",
            ".",
            "..",
            ":80",
            "a..b",
            "a b",
            "a,b",
            "a/b",
            "user@a",
            "a:b",
            "a:80:80",
            "a:99999",
            "a:-1",
            "a:+1",
            "::1",
            "[::1",
            "[::1].evil",
            "[::1]80",
            "[::1%25lo]",
            "[127.0.0.1]",
            "größe",
            "a\u{0}",
        ] {
            assert_eq!(Authority::parse(text), None, "{text:?}");
        }
        for text in
            ["null", "storageos", "://storageos", "ftp://storageos", "http://a http://b", "https://a/", "https://"]
        {
            assert_eq!(origin(text), None, "{text:?}");
        }
    }
}
