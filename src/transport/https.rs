//! One HTTPS request at a time. It takes the proxy that the rules choose and is verified against the system's roots. It
//! is bounded in size, and in time by one deadline from the first name that is looked up to the last byte of the
//! answer. It is interrupted when its permit is revoked. The connection is ours ([`wire`](super::wire)); the HTTP on it
//! is ureq's ([`exchange`](super::exchange)).

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use ureq::SendBody;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::deadline::Deadline;
use super::exchange::{Exchange, Made};
use super::proxy::{Proxy, ProxySettings};
use super::roots::Roots;
use super::wire::Wire;
use super::{dns, tcp, tls, tunnel};
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

    /// The host, and the port where there is one.
    pub fn host(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
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
    /// The fields of the answer that are wanted.
    pub wants: &'a [&'a str],
    /// For everything, from name lookup to the end of the answer.
    pub timeout: Duration,
}

/// What the server answered. Redirects are answers like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Those that were wanted; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The first bytes of the body of a refusal (4xx); of others it is not read.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_of(name).next()
    }

    /// Every header of this name.
    pub fn headers_of(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
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

    /// Connects to the server, through the proxy where there is one.
    fn reach(&self, target: &Target<'_>, proxy: Option<&Proxy>, deadline: &Deadline<'_>) -> Result<Wire, String> {
        let settings = &self.settings;
        let needs_tls = target.is_tls || proxy.is_some_and(|proxy| proxy.scheme == "https");
        let tls = if needs_tls { Some(self.tls(deadline)?) } else { None };
        let secure = |wire: Wire, host: &str, whose: &str| match &tls {
            Some((config, notes)) => wire.secure(config, host, deadline).map_err(|error| {
                let notes = notes.iter().map(|note| format!("; {note}"));
                format!("{whose}{}{}", tls::in_words(&error), notes.collect::<String>())
            }),
            None => Ok(wire),
        };
        let connect = |host: &str, port| tcp::connect(host, port, settings.nameservers.as_deref(), deadline);
        let mut wire = match proxy {
            Some(proxy) => Wire::new(connect(&proxy.host, proxy.port)?),
            None => Wire::new(connect(target.host, target.port)?),
        };
        if let Some(proxy) = proxy {
            if proxy.scheme == "https" {
                wire = secure(wire, &proxy.host, "the proxy: ")?;
            }
            tunnel::open(&mut wire, proxy, USER_AGENT, target.host, target.port, deadline)?;
        }
        if target.is_tls { secure(wire, target.host, "") } else { Ok(wire) }
    }

    fn tls(&self, deadline: &Deadline<'_>) -> Result<(Arc<ClientConfig>, Vec<String>), String> {
        let Roots { store, configured, notes } = Roots::read(&self.settings.ca_files, &self.settings.ca_dirs, deadline);
        Ok((tls::config(store, configured)?, notes))
    }
}

/// Where a request goes.
struct Target<'a> {
    is_tls: bool,
    host: &'a str,
    port: u16,
}

impl<'a> Target<'a> {
    fn of(uri: &'a Uri) -> Self {
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Self { is_tls, host: uri.host().unwrap_or_default(), port }
    }
}

impl Https for UreqHttps {
    fn send(&self, permit: Permit, request: &Request<'_>) -> Result<Response, Error> {
        let interrupt = Arc::new(dns::interrupt()?);
        let deadline = Deadline::after(&interrupt, request.timeout);
        let revoked = Arc::clone(&interrupt);
        permit.on_revoke(move || revoked.raise());
        let uri: Uri = request.url.parse().map_err(|_| Error::Internal(format!("not a URL: {}", request.url)))?;
        let target = Target::of(&uri);
        let proxy = self.settings.proxy.choose(&uri)?;
        let failed = |why: String| {
            let place = format!("{}://{}", uri.scheme_str().unwrap_or_default(), target.host);
            let place = match &proxy {
                Some(proxy) => format!("{place} through the proxy {}", proxy.address()),
                None => place,
            };
            if permit.is_revoked() {
                Error::Disabled("turned off while it was being sent".to_owned())
            } else if deadline.is_over() {
                Error::TimedOut(format!("no answer from {place} within {} ms", request.timeout.as_millis()))
            } else {
                Error::Network(format!("{place}: {why}"))
            }
        };
        let wire = self.reach(&target, proxy.as_ref(), &deadline).map_err(failed)?;
        let exchange = Exchange::new(wire, target.is_tls, request.wants, &interrupt, deadline.at);
        answer(exchange, request)?.map_err(|error| failed(in_words(&error)))
    }
}

/// Has ureq send the request on this connection and read the answer.
fn answer(exchange: Exchange, request: &Request<'_>) -> Result<Result<Response, ureq::Error>, Error> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(USER_AGENT)
        .accept("")
        .accept_encoding("")
        .max_idle_connections(0)
        .proxy(None);
    let agent = ureq::Agent::with_parts(config.build(), Made::new(exchange), NoNames);
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
    Ok(answer.map(|mut answer| {
        let headers = answer.headers().iter();
        let headers = headers.filter(|(name, _)| request.wants.iter().any(|wanted| *name == wanted));
        let headers = headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let mut response = Response { status: answer.status().as_u16(), headers: headers.collect(), body: Vec::new() };
        if (400..500).contains(&response.status) {
            // A body that breaks off does not change what the status says.
            let _ = answer.body_mut().as_reader().take(ANSWER_BYTES).read_to_end(&mut response.body);
        }
        response
    }))
}

/// What a person can do something about, of the ways in which a request fails.
fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => "no answer in time".to_owned(),
        // What goes wrong in TLS comes up as an input or output error.
        ureq::Error::Io(error) => tls::in_words(error),
        _ => "the answer is not HTTP".to_owned(),
    }
}

/// ureq looks no name up: its connection is made.
#[derive(Debug)]
struct NoNames;

impl Resolver for NoNames {
    fn resolve(&self, _: &Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}
