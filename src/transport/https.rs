//! One HTTPS request at a time, over ureq: through the proxy that the rules choose, verified against the system's
//! roots, bounded in time and size, interrupted when its permit is revoked.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use ureq::SendBody;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, NextTimeout, RustlsConnector, SocksConnector};

use super::dns;
use super::proxy::{Proxy, ProxySettings};
use super::tcp::{Tcp, WithoutGaps};
use super::tls;
use super::wait::Interrupt;
use crate::error::Error;
use crate::switches::Permit;
use crate::sys::descriptor::OwnedFile;

/// The most bytes of an answer's body that are read; the rest is not looked at.
const ANSWER_BYTES: u64 = 16 * 1024;
/// Constant, so that it identifies nobody.
const USER_AGENT: &str = "ondat-telemetry";

/// A server's address: https, or http to this machine only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
}

impl Endpoint {
    /// Reads a URL. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // `Uri` lets other characters through, into the request line.
        let uri: Option<Uri> = Some(text.trim()).filter(|text| text.is_ascii()).and_then(|text| text.parse().ok());
        let uri = uri.ok_or("not a URL such as https://host:port/path")?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("it carries credentials".to_owned());
        }
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')),
        };
        if !is_host {
            return Err("its host is not a name or an address".to_owned());
        }
        // `Uri` takes a port that is no number for none: the request would go to the scheme's own.
        let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0);
        let after_host = authority.strip_prefix(host).unwrap_or(authority);
        if !matches!(after_host, "" | ":") && !after_host.strip_prefix(':').is_some_and(is_port) {
            return Err("its port is not a number from 1 to 65535".to_owned());
        }
        // It drops a fragment without a word.
        if uri.query().is_some() || text.contains('#') {
            return Err("it has a query part or a fragment".to_owned());
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_this_machine(host) => {}
            _ => return Err("its scheme is not https (http is for addresses of this machine only)".to_owned()),
        }
        Ok(Self { uri })
    }

    /// The address with this path appended to its own.
    pub fn join(&self, path: &str) -> String {
        format!("{}/{path}", self.uri.to_string().trim_end_matches('/'))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.uri)
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A file from its current position to its end.
    File(&'a OwnedFile),
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `PUT` or `POST`.
    pub method: &'a str,
    /// The whole URL.
    pub url: &'a str,
    /// Headers besides `Host`, `User-Agent` and `Content-Length`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub content: Content<'a>,
    /// For everything, from name lookup to the end of the answer.
    pub timeout: Duration,
}

/// What the server answered. Redirects are answers like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The first bytes of the body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Sends requests. A trait, so that the client's owner decides what is behind it.
pub trait Https: Send + Sync {
    /// Sends one request and waits for its answer.
    fn send(&self, permit: Permit, request: &Request<'_>) -> Result<Response, Error>;
}

/// How this process reaches HTTPS servers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct HttpsSettings {
    /// Which proxy.
    pub proxy: ProxySettings,
    /// PEM files trusted besides the system's roots.
    pub ca_files: Vec<PathBuf>,
    /// Folders of PEM files trusted likewise.
    pub ca_dirs: Vec<PathBuf>,
    /// DNS servers for host names; none: the system's.
    pub nameservers: Option<Vec<SocketAddr>>,
}

impl HttpsSettings {
    /// The proxy through which an endpoint is reached; none: directly.
    pub fn proxy_of(&self, endpoint: &Endpoint) -> Result<Option<Proxy>, Error> {
        self.proxy.choose(&endpoint.uri)
    }
}

/// HTTPS by ureq and rustls.
pub struct UreqHttps {
    settings: HttpsSettings,
}

impl UreqHttps {
    /// With these settings. Files are read at each request: a CA file may be renewed under a running process.
    pub fn new(settings: HttpsSettings) -> Self {
        Self { settings }
    }

    fn agent(
        &self,
        proxy: Option<&Proxy>,
        is_tls: bool,
        interrupt: &Arc<Interrupt>,
        timeout: Duration,
    ) -> Result<ureq::Agent, Error> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .accept("")
            .accept_encoding("")
            .max_idle_connections(0)
            .timeout_global(Some(timeout))
            .proxy(proxy.map(ureq_proxy).transpose()?);
        if is_tls || proxy.is_some_and(|proxy| proxy.scheme == "https") {
            let tls = tls::config(&self.settings.ca_files, &self.settings.ca_dirs);
            let tls = tls.map_err(|why| Error::Network(format!("{why}; nothing was sent")))?;
            config = config.tls_config(tls);
        }
        let resolver =
            NameResolver { nameservers: self.settings.nameservers.clone(), interrupt: Arc::clone(interrupt) };
        // As ureq's own chain, with sockets of ours.
        let connector =
            ().chain(WithoutGaps(SocksConnector::default()))
                .chain(ConnectProxyConnector::default())
                .chain(Tcp::new(Arc::clone(interrupt)))
                .chain(RustlsConnector::default());
        Ok(ureq::Agent::with_parts(config.build(), connector, resolver))
    }
}

impl Https for UreqHttps {
    fn send(&self, permit: Permit, request: &Request<'_>) -> Result<Response, Error> {
        let uri: Uri = request.url.parse().map_err(|_| Error::Internal(format!("not a URL: {}", request.url)))?;
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
        let proxy = self.settings.proxy.choose(&uri)?;
        let interrupt = Arc::new(dns::interrupt()?);
        let agent = self.agent(proxy.as_ref(), scheme == "https", &interrupt, request.timeout)?;
        let interrupted = agent.clone();
        permit.on_revoke(move || {
            interrupt.raise();
            interrupted.shutdown();
        });

        let mut builder = ureq::http::Request::builder().method(request.method).uri(request.url);
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        let unusable = |error: ureq::http::Error| Error::Internal(format!("request to {}: {error}", request.url));
        let answer = match request.content {
            Content::Bytes(bytes) => agent.run(builder.body(bytes).map_err(unusable)?),
            Content::File(file) => {
                let failed = |error: io::Error| Error::Io(format!("reading what is to be sent: {error}"));
                let length = file.left().map_err(failed)?;
                let mut file = file;
                let body = SendBody::from_reader(&mut file);
                agent.run(builder.header("Content-Length", length).body(body).map_err(unusable)?)
            }
        };
        let place = || match &proxy {
            Some(proxy) => format!("{scheme}://{host} through the proxy {}", proxy.address()),
            None => format!("{scheme}://{host}"),
        };
        let failed = |error: ureq::Error| match error {
            _ if permit.is_revoked() => Error::Disabled("turned off while it was being sent".to_owned()),
            ureq::Error::Timeout(_) => {
                Error::TimedOut(format!("no answer from {} within {} ms", place(), request.timeout.as_millis()))
            }
            error => Error::Network(format!("{}: {}", place(), in_words(&error))),
        };
        let mut answer = answer.map_err(failed)?;
        let headers = answer.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        Ok(Response {
            status: answer.status().as_u16(),
            headers: headers.collect(),
            // A body that breaks off does not change what the status says.
            body: answer.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec().unwrap_or_default(),
        })
    }
}

/// What a person can do something about, of the ways in which a request fails.
fn in_words(error: &ureq::Error) -> String {
    match error {
        // What goes wrong in TLS comes up as an input or output error.
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(error) => tls_in_words(error),
            None => error.to_string(),
        },
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Rustls(error) => tls_in_words(error),
        ureq::Error::Tls(why) => format!("TLS: {why}"),
        ureq::Error::ConnectProxyFailed(why) => {
            // Its text ends with the status, twice.
            match why.rsplit_once('/').and_then(|(_, status)| status.parse::<u16>().ok()) {
                Some(status @ (401 | 407)) => {
                    format!("the proxy wants a user name and a password that it knows (HTTP {status})")
                }
                Some(status) => format!("the proxy refused (HTTP {status})"),
                None => format!("the proxy refused: {why}"),
            }
        }
        _ => "the answer is not HTTP".to_owned(),
    }
}

fn tls_in_words(error: &rustls::Error) -> String {
    let is_unknown = matches!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
    format!("TLS: {error}{}", if is_unknown { "; a ca_file can say that its issuer is trusted" } else { "" })
}

fn ureq_proxy(proxy: &Proxy) -> Result<ureq::Proxy, Error> {
    use ureq::ProxyProtocol;
    let protocol = match proxy.scheme.as_str() {
        "https" => ProxyProtocol::Https,
        // Go lets the proxy resolve the name with both.
        "socks5" | "socks5h" => ProxyProtocol::Socks5h,
        _ => ProxyProtocol::Http,
    };
    let mut builder = ureq::Proxy::builder(protocol).host(&proxy.host).port(proxy.port).resolve_target(false);
    if let Some((user, password)) = &proxy.credentials {
        builder = builder.username(user).password(password);
    }
    builder.build().map_err(|_| Error::Network(format!("proxy {} cannot be used", proxy.address())))
}

/// Name lookup without the thread that ureq's own resolver starts for the sake of its timeout.
#[derive(Debug)]
struct NameResolver {
    nameservers: Option<Vec<SocketAddr>>,
    interrupt: Arc<Interrupt>,
}

impl Resolver for NameResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let default_port = match uri.scheme_str() {
            Some("https") => 443,
            Some("socks5" | "socks5h") => 1080,
            _ => 80,
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let addresses = match host.parse() {
            Ok(ip) => vec![ip],
            Err(_) => dns::addresses(host, self.nameservers.as_deref(), &self.interrupt, *timeout.after)
                .map_err(|error| ureq::Error::Io(io::Error::other(error.to_string())))?,
        };
        let mut resolved = self.empty();
        for ip in addresses.into_iter().take(8) {
            resolved.push(SocketAddr::new(ip, port));
        }
        if resolved.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(resolved) }
    }
}

/// `time` in RFC 3339, whole seconds. A clock or a stored number may say anything: what lies outside the years that can
/// be written down, 1970 to 9999, becomes the nearest second within.
pub fn rfc3339(time: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(time.clamp(UNIX_EPOCH, last)).to_string()
}
