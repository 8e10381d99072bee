//! What every request passes: the right host, the right origin, a login where one is needed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::log::Level;
use super::refusal::Refusal;
use super::sessions::{Kind, csrf};
use super::{App, blocking};
use crate::administration::Actor;

/// The page runs its own script and nothing else, and no other page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// On every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The header that a page sends with its cookie.
const CSRF: &str = "x-csrf-token";

/// Whoever is logged in.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Who.
    pub(crate) user: String,
    /// The token, and how it came.
    pub(crate) token: String,
    /// How it came.
    pub(crate) kind: Kind,
    /// From where.
    pub(crate) address: SocketAddr,
}

impl Caller {
    /// For the audit file.
    pub(crate) fn actor(&self) -> Actor {
        let via = match self.kind {
            Kind::Header => "api",
            Kind::Cookie => "page",
        };
        Actor { via, user: self.user.clone(), address: Some(self.address.ip().to_canonical().to_string()) }
    }
}

/// Around every request: is it for us, and how the answer is to be treated.
pub(crate) async fn enter(
    State(app): State<Arc<App>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    let mut response = match is_for_us(request.headers(), &app.host_names) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    app.log.say(Level::Debug, &format!("{} {what}: {}", address.ip().to_canonical(), response.status().as_u16()));
    response
}

/// A name that is not ours is somebody else's that points here (DNS rebinding); an address cannot be rebound.
fn is_for_us(headers: &HeaderMap, names: &[String]) -> Result<(), Refusal> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).ok_or_else(|| Refusal::bad("the request has no Host header"))?;
    let name = host_name(host);
    let is_ours = name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name));
    if !is_ours {
        let why = "this server does not answer to the host name in the request: start it with --host-name NAME";
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, why));
    }
    // Absent where no page has sent it.
    let origin = text(header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |(_, authority)| authority));
    if origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(host)) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "a page of another origin may not ask this"));
    }
    Ok(())
}

/// The host of `host`, `host:port`, `[address]:port`, without the root's dot.
fn host_name(host: &str) -> &str {
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return if rest.is_empty() || rest.starts_with(':') { address } else { "" };
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// In front of what needs a login: finds out who it is.
pub(crate) async fn log_in(
    State(app): State<Arc<App>>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    // Read from the disk, so not on the thread that answers others.
    let headers = request.headers().clone();
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    match blocking(move || caller(&app, &headers, is_reading, address)).await.and_then(|caller| caller) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn caller(app: &App, headers: &HeaderMap, is_reading: bool, address: SocketAddr) -> Result<Caller, Refusal> {
    let (token, kind) = match (token(headers), cookie(headers)) {
        (Some(token), _) => (token, Kind::Header),
        (None, Some(token)) => (token, Kind::Cookie),
        (None, None) => return Err(Refusal::login()),
    };
    let user =
        app.sessions.user(token, kind, |user| app.password_of(user), Instant::now()).ok_or_else(Refusal::login)?;
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

/// The token in the Authorization header: the operators say Bearer, the command line of the product does not.
fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ').unwrap_or(("Bearer", value));
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}

/// The name of the page's cookie. Cookies are shared by all ports of a host, so the port is in it: several clusters may be
/// looked at through one forwarding machine.
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

/// The header that sets the page's cookie, or takes it away.
pub(crate) fn set_cookie(headers: &HeaderMap, token: Option<&str>, has_tls: bool) -> String {
    let name = cookie_name(headers);
    let secure = if has_tls { "; Secure" } else { "" };
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

    #[test]
    fn only_our_names_are_answered_to() {
        let names = ["telemetry.example".to_owned()];
        let host = |host: &str| is_for_us(&headers(&[(header::HOST, host)]), &names).is_ok();
        for ours in [
            "127.0.0.1:5705",
            "[::1]:5705",
            "[::1]",
            "192.0.2.7",
            "localhost:1",
            "LOCALHOST",
            "localhost.",
            "Telemetry.example:443",
        ] {
            assert!(host(ours), "{ours}");
        }
        for foreign in
            ["", ":5705", "evil.example", "localhost.evil.example:5705", "127.0.0.1.evil.example", "[::1].evil"]
        {
            assert!(!host(foreign), "{foreign}");
        }
        assert!(is_for_us(&HeaderMap::new(), &names).is_err());
    }

    #[test]
    fn a_page_of_another_origin_asks_in_vain() {
        let of = |origin: &str| headers(&[(header::HOST, "localhost:5705"), (header::ORIGIN, origin)]);
        assert!(is_for_us(&of("http://localhost:5705"), &[]).is_ok());
        for origin in ["http://localhost:8080", "http://evil.example", "null", "https://localhost"] {
            assert!(is_for_us(&of(origin), &[]).is_err(), "{origin}");
        }
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
    }
}
