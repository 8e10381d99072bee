//! The checks that every request passes: the right host, the right origin, and a login if one is needed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ondat_telemetry_service::places::Place;
use ondat_telemetry_service::refusal::Refusal;

use super::authority::{Authority, Host, Scheme, origin};
use super::log::Level;
use super::refusal;
use super::sessions::{Kind, csrf};
use super::{App, blocking};
use crate::administration::Actor;

/// The page runs its own script and nothing else, and no other page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The headers of every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The path that tells whether `serve` runs.
pub(crate) const HEALTH: &str = "/healthz";

/// The path of the metrics. Prometheus cannot log in.
pub(crate) const METRICS: &str = "/metrics";

/// The header that a page sends with its cookie.
const CSRF: &str = "x-csrf-token";

/// The user who makes a request.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The user's name.
    pub(crate) user: String,
    /// The session's token.
    pub(crate) token: String,
    /// Where the request had the token.
    pub(crate) kind: Kind,
    /// The client's address.
    pub(crate) address: SocketAddr,
}

impl Caller {
    /// The user as the audit file records it.
    pub(crate) fn actor(&self) -> Actor {
        let via = match self.kind {
            Kind::Header => "api",
            Kind::Cookie => "page",
        };
        Actor { via, user: self.user.clone(), address: Some(self.address.ip().to_canonical().to_string()) }
    }
}

/// Checks that a request is for this server, and adds the headers to its answer.
pub(crate) async fn enter(
    State(app): State<Arc<App>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Extension(place): Extension<Arc<Place>>,
    request: Request,
    next: Next,
) -> Response {
    place.ask();
    let what = format!("{} {}", request.method(), request.uri().path());
    let mut response = match app.is_for_us(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    app.log.say(Level::Debug, &format!("{} {what}: {}", address.ip().to_canonical(), response.status().as_u16()));
    response
}

impl App {
    fn is_for_us(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = host(uri, headers)?;
        // This answer reveals nothing, so any Host will do: probes ask under many names, or without one.
        if uri.path() == HEALTH {
            return Ok(());
        }
        let host = host.ok_or_else(|| Refusal::bad("the request has no Host header"))?;
        // A foreign name may point here (DNS rebinding). An address cannot be rebound.
        let is_ours = match &host.host {
            Host::Address(_) => true,
            Host::Name(name) => name == "localhost" || self.host_names.contains(name),
        };
        if !is_ours {
            let why = "this server does not answer to the host name in the request: start it with --host-name NAME";
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, why));
        }
        if !is_own_origin(headers, &host, self.has_tls) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "a page of another origin may not ask this"));
        }
        Ok(())
    }
}

/// Returns the authority that the request names. A request that names two is refused (RFC 9112, 3.2).
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, Refusal> {
    let mut all = headers.get_all(header::HOST).into_iter();
    let (first, more) = (all.next(), all.next());
    if more.is_some() {
        return Err(Refusal::bad("the request has more than one Host header"));
    }
    let host = first.map(|value| value.to_str().ok().and_then(Authority::parse));
    let host = host.map(|host| host.ok_or_else(|| Refusal::bad("the Host header is no host name or address")));
    let host = host.transpose()?;
    if let Some(target) = uri.authority() {
        let target = Authority::parse(target.as_str());
        let scheme = Scheme::parse(uri.scheme_str().unwrap_or("http"));
        let is_same =
            target.zip(host.as_ref()).zip(scheme).is_some_and(|((target, host), scheme)| target.is(host, scheme));
        if !is_same {
            return Err(Refusal::bad("the request's target names another host than its Host header"));
        }
    }
    Ok(host)
}

/// Whether the request comes from this server's own page, or from no page. With TLS the page's scheme is https. Without TLS it
/// may be http or https, because a proxy that ends TLS in front of this server leaves the https in the Origin.
fn is_own_origin(headers: &HeaderMap, host: &Authority, has_tls: bool) -> bool {
    let mut all = headers.get_all(header::ORIGIN).into_iter();
    match (all.next(), all.next()) {
        // Only pages send an Origin.
        (None, _) => true,
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(origin)
            .is_some_and(|(scheme, authority)| (scheme == Scheme::Https || !has_tls) && authority.is(host, scheme)),
        (Some(_), Some(_)) => false,
    }
}

/// Finds the user of a request that needs a login, or refuses it.
pub(crate) async fn log_in(
    State(app): State<Arc<App>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    Extension(place): Extension<Arc<Place>>,
    mut request: Request,
    next: Next,
) -> Response {
    // The lookup reads the disk, so it must not run on the thread that answers others.
    let headers = request.headers().clone();
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_metrics = request.uri().path() == METRICS;
    match blocking(move || caller(&app, &headers, is_reading, address)).await.and_then(|caller| caller) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            let _busy = place.busy();
            next.run(request).await
        }
        Err(_) if is_metrics && !has_login(request.headers()) => {
            let why = "beyond this machine figures take a login, or `ondat-telemetry serve --metrics`";
            Refusal::new(StatusCode::UNAUTHORIZED, why).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn has_login(headers: &HeaderMap) -> bool {
    token(headers).or(cookie(headers)).is_some()
}

fn caller(app: &App, headers: &HeaderMap, is_reading: bool, address: SocketAddr) -> Result<Caller, Refusal> {
    let (token, kind) = match (token(headers), cookie(headers)) {
        (Some(token), _) => (token, Kind::Header),
        (None, Some(token)) => (token, Kind::Cookie),
        (None, None) => return Err(refusal::login()),
    };
    let user =
        app.sessions.user(token, kind, |user| app.password_of(user), Instant::now()).ok_or_else(refusal::login)?;
    if kind == Kind::Cookie && !is_reading {
        let said = headers.get(CSRF).and_then(|value| value.to_str().ok());
        if said != Some(csrf(token).as_str()) {
            let why =
                "with the page's cookie, a change needs the header X-CSRF-Token with the value of GET /v1/session";
            return Err(Refusal::new(StatusCode::FORBIDDEN, why));
        }
    }
    Ok(Caller { user, token: token.to_owned(), kind, address })
}

/// Returns the token of the Authorization header. The operators send it after "Bearer", the product's command line without that
/// word.
fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ').unwrap_or(("Bearer", value));
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

/// Returns the name of the page's cookie. All ports of a host share cookies, so the name contains the port: a person may look
/// at several clusters through one machine that forwards ports.
fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    format!("ondat-telemetry-{}", port.unwrap_or("0"))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let name = cookie_name(headers);
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// Returns the header that sets the page's cookie, or deletes it without a token.
pub(crate) fn set_cookie(headers: &HeaderMap, token: Option<&str>, has_tls: bool) -> String {
    let name = cookie_name(headers);
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()).and_then(origin);
    let is_https = has_tls || origin.is_some_and(|(scheme, _)| scheme == Scheme::Https);
    let secure = if is_https { "; Secure" } else { "" };
    match token {
        Some(token) => format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict{secure}"),
        None => format!("{name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{secure}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn named(pairs: &[(HeaderName, &str)]) -> Result<Option<Authority>, Refusal> {
        host(&Uri::from_static("/"), &headers(pairs))
    }

    #[test]
    fn a_request_says_once_whom_it_is_for() {
        assert_eq!(named(&[]).unwrap(), None);
        assert_eq!(named(&[(header::HOST, "a:80")]).unwrap(), Authority::parse("a:80"));
        assert!(named(&[(header::HOST, "")]).is_err());
        let mut two = headers(&[(header::HOST, "localhost")]);
        two.append(header::HOST, HeaderValue::from_static("localhost"));
        assert!(host(&Uri::from_static("/"), &two).is_err());
        let of = |target: &'static str, name: &str| {
            host(&Uri::from_static(target), &headers(&[(header::HOST, name)])).is_ok()
        };
        for (target, name) in [
            ("/v1/status", "localhost"),
            ("http://localhost/", "localhost:80"),
            ("HTTP://LOCALHOST.:5705/", "localhost:5705"),
            ("https://[::1]/", "[::1]:443"),
        ] {
            assert!(of(target, name), "{target} {name}");
        }
        for (target, name) in [
            ("http://evil.example/", "localhost"),
            ("http://localhost:5706/", "localhost:5705"),
            ("https://localhost/", "localhost:80"),
            ("http://admin@localhost/", "localhost"),
            ("ftp://localhost/", "localhost"),
            ("evil.example:80", "localhost"),
        ] {
            assert!(!of(target, name), "{target} {name}");
        }
        assert!(host(&Uri::from_static("http://localhost/"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_page_of_another_origin_asks_in_vain() {
        let is_own = |host: &str, origin: &str, has_tls| {
            is_own_origin(&headers(&[(header::ORIGIN, origin)]), &Authority::parse(host).unwrap(), has_tls)
        };
        for (host, origin) in [
            ("storageos:443", "https://storageos"),
            ("storageos", "https://storageos:443"),
            ("STORAGEOS.", "https://storageos"),
            ("[::1]:5705", "https://[::1]:5705"),
        ] {
            // These hold with TLS here, and with TLS that ends in front of this server.
            assert!(is_own(host, origin, true) && is_own(host, origin, false), "{host} {origin}");
        }
        for (host, origin) in [
            ("localhost:5705", "http://localhost:5705"),
            ("localhost:80", "http://localhost"),
            ("localhost", "http://localhost:80"),
        ] {
            assert!(is_own(host, origin, false) && !is_own(host, origin, true), "{host} {origin}");
        }
        for (host, origin) in [
            ("localhost:5705", "http://localhost:8080"),
            ("localhost:5705", "http://evil.example"),
            ("localhost:5705", "http://evil.example:5705"),
            ("localhost:5705", "null"),
            ("localhost:5705", ""),
            ("localhost:80", "https://localhost"),
            ("storageos", "https://storageos:8443"),
            ("storageos", "http://storageos.evil.example"),
        ] {
            assert!(!is_own(host, origin, false) && !is_own(host, origin, true), "{host} {origin}");
        }
        let mut two = headers(&[(header::ORIGIN, "http://localhost")]);
        two.append(header::ORIGIN, HeaderValue::from_static("http://localhost"));
        assert!(!is_own_origin(&two, &Authority::parse("localhost").unwrap(), false));
        assert!(is_own_origin(&HeaderMap::new(), &Authority::parse("localhost").unwrap(), true));
    }

    #[test]
    fn both_ways_of_saying_a_token() {
        let of = |value: &str| token(&headers(&[(header::AUTHORIZATION, value)])).map(str::to_owned);
        assert_eq!(of("Bearer T").as_deref(), Some("T"));
        assert_eq!(of("bearer T").as_deref(), Some("T"));
        assert_eq!(of("T").as_deref(), Some("T"));
        assert_eq!(of("Basic T"), None);
    }

    #[test]
    fn a_cookie_is_of_one_port() {
        let at = |host: &str| headers(&[(header::HOST, host), (header::COOKIE, "a=b; ondat-telemetry-5705=T")]);
        assert_eq!(cookie(&at("localhost:5705")), Some("T"));
        assert_eq!(cookie(&at("localhost:5706")), None);
        assert!(set_cookie(&at("h:5705"), Some("T"), true).ends_with("HttpOnly; SameSite=Strict; Secure"));
        assert!(set_cookie(&at("h:5705"), Some("T"), false).ends_with("HttpOnly; SameSite=Strict"));
        let behind_tls = headers(&[(header::HOST, "h"), (header::ORIGIN, "https://h")]);
        assert!(set_cookie(&behind_tls, Some("T"), false).ends_with("; Secure"));
    }
}
