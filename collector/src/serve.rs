//! `serve`: the receiving process, from its options to its end.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use hickory_server::Server;
use ondat_telemetry::config::setting;
use ondat_telemetry::error::Error;
use ondat_telemetry_command::plain;
use ondat_telemetry_protocol::identity::is_hex_id;
use ondat_telemetry_protocol::keys::KeySet;
use ondat_telemetry_service::listen::{Listening, bind, cannot_listen};
use ondat_telemetry_service::signals::{Asked, Signals};
use ondat_telemetry_service::tls::Certificate;
use serde::Serialize;
use tokio::net::{TcpListener, UdpSocket};

use crate::dns::ZoneServer;
use crate::fault::{disk, internal, printed, unusable};
use crate::limits;
use crate::reports::{self, ReportIntake};
use crate::sentry::{self, CrashIntake, PROJECT};
use crate::store::{self, Store};
use crate::tls::{self, Identity};
use crate::zone::Zone;

const SENTRY_KEY: &str = "sentry-key";
/// An idle DNS connection over TCP is closed after this long.
const DNS_TCP_TIME: Duration = Duration::from_secs(5);
/// Answers waiting on one DNS connection.
const DNS_TCP_ANSWERS: usize = 32;
/// For DNS connections when the program ends.
const DNS_GOODBYE_TIME: Duration = Duration::from_secs(1);
/// How often another port is tried when the one the system gave for TCP is taken for UDP.
const PORT_TRIES: usize = 16;

/// The options of `serve`.
#[derive(clap::Args)]
pub(crate) struct ServeOptions {
    /// Where everything is kept; made on the first start.
    #[arg(long, value_name = "DIR", default_value = store::DEFAULT_FOLDER)]
    data: PathBuf,
    /// Where reports and crash reports are taken. Port 0 is any free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    https: SocketAddr,
    /// The same without TLS, on a loopback address only, for trying things out.
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Where DNS questions are answered, over UDP and TCP.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5300")]
    dns: SocketAddr,
    /// The version zone, a BIND master file. Without it every question is refused.
    #[arg(long, value_name = "FILE")]
    zone: Option<PathBuf>,
    /// The key set senders use. Without it reports are taken whatever key they are sealed for.
    #[arg(long, value_name = "FILE")]
    report_keys: Option<PathBuf>,
    /// A host name or address to put into the server certificate besides the local ones; the first one is also
    /// used in the addresses printed. May be repeated.
    #[arg(long = "name", value_name = "HOST", value_parser = host)]
    names: Vec<String>,
    /// The server's certificate with its chain, in PEM, instead of one of the collector's own; SIGHUP reads it anew.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The certificate's key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

/// A name or an address that can stand in a certificate and in a URL.
fn host(text: &str) -> Result<String, String> {
    let is_host = text.parse::<IpAddr>().is_ok() || setting::zone(text).is_ok();
    if is_host { Ok(text.to_owned()) } else { Err("not a host name or an address".to_owned()) }
}

/// The line printed when everything listens.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    https: String,
    http: Option<String>,
    dns: String,
    /// None where the certificate was given.
    ca_file: Option<PathBuf>,
    sentry_dsn: String,
    sentry_dsn_http: Option<String>,
}

struct Listeners {
    https: TcpListener,
    http: Option<TcpListener>,
    dns_tcp: TcpListener,
    dns_udp: UdpSocket,
}

/// Receives until SIGTERM or SIGINT.
pub(crate) fn run(options: ServeOptions) -> Result<(), Error> {
    if let Some(http) = options.http.filter(|http| !http.ip().is_loopback()) {
        return Err(Error::InvalidArgument(format!(
            "--http {http} is not a loopback address: without TLS reports are taken on this machine only, use --https"
        )));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|why| internal("cannot start", why))?;
    let outcome = runtime.block_on(receive(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn receive(options: ServeOptions) -> Result<(), Error> {
    // First, so that an early signal is not lost.
    let mut signals = Signals::new()?;
    let zone = options.zone.as_deref().map(Zone::read).transpose()?;
    let keys = options.report_keys.as_deref().map(read_keys).transpose()?;
    let store = Arc::new(Store::create(options.data.clone())?);
    let public_key = public_key(&store)?;
    let identity = identity(&store, &options)?;
    let certificate = Certificate::read(&identity.certificate, &identity.key)?;
    let listeners = Listeners::bind(&options).await?;
    let ready = ready(&listeners, &options, &public_key, &identity)?;

    let routes = reports::routes(Arc::new(ReportIntake { store: Arc::clone(&store), keys }))
        .merge(sentry::routes(Arc::new(CrashIntake { store: Arc::clone(&store), public_key })))
        .layer(axum::middleware::map_response(reports::mark));
    let mut dns = Server::new(ZoneServer::new(zone, store));
    dns.register_socket(listeners.dns_udp);
    dns.register_listener(listeners.dns_tcp, DNS_TCP_TIME, DNS_TCP_ANSWERS);
    let places = limits::places();
    let mut listening = Listening::default();
    listening.serve(listeners.https, Some(&certificate), routes.clone(), &places, limits::TERMS);
    if let Some(http) = listeners.http {
        listening.serve(http, None, routes, &places, limits::TERMS);
    }

    announce(&ready)?;
    while signals.next().await == Asked::Reload {
        if let Err(why) = certificate.renew() {
            crate::complain(&format!("the certificate of before stays: {why}"));
        }
    }

    // Nothing is lost with a DNS connection: the asker asks again.
    let dns = tokio::time::timeout(DNS_GOODBYE_TIME, dns.shutdown_gracefully());
    let (ended, _) = tokio::join!(listening.end(limits::GOODBYE_TIME), dns);
    ended
}

impl Listeners {
    async fn bind(options: &ServeOptions) -> Result<Self, Error> {
        let https = bind("--https", options.https).await?;
        let http = match options.http {
            Some(address) => Some(bind("--http", address).await?),
            None => None,
        };
        let (dns_tcp, dns_udp) = bind_dns(options.dns).await?;
        Ok(Self { https, http, dns_tcp, dns_udp })
    }
}

/// The keys that senders may seal for.
fn read_keys(path: &Path) -> Result<KeySet, Error> {
    let text = std::fs::read_to_string(path).map_err(|why| unusable("use the report keys in", path, why))?;
    KeySet::parse(&text).map_err(|why| unusable("use the report keys in", path, why))
}

/// UDP and TCP on the same port, whichever it is.
async fn bind_dns(address: SocketAddr) -> Result<(TcpListener, UdpSocket), Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let tcp = bind("--dns", address).await?;
        let same_port = local_address(&tcp)?;
        match UdpSocket::bind(same_port).await {
            Ok(udp) => return Ok((tcp, udp)),
            Err(why) if why.kind() == io::ErrorKind::AddrInUse && address.port() == 0 && tries < PORT_TRIES => {}
            Err(why) => return Err(cannot_listen("--dns", same_port, &why)),
        }
    }
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|why| internal("cannot ask for a listener's address", why))
}

/// The certificate that was given, or one of the collector's own.
fn identity(store: &Store, options: &ServeOptions) -> Result<Identity, Error> {
    match (&options.tls_certificate, &options.tls_key) {
        (Some(certificate), Some(key)) => {
            Ok(Identity { certificate: certificate.clone(), key: key.clone(), ca_file: None })
        }
        _ => tls::identity(store, options.https.ip(), &options.names),
    }
}

/// The public key of the DSN, made on the first start.
fn public_key(store: &Store) -> Result<String, Error> {
    if let Some(kept) = store.read(SENTRY_KEY)? {
        let kept = kept.trim().to_owned();
        if is_hex_id(&kept) {
            return Ok(kept);
        }
        let path = store.path(SENTRY_KEY);
        return Err(disk("use the key in", &path, "expected 32 hex digits; delete it to get a new one"));
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|why| internal("no random numbers", why))?;
    let key = HEXLOWER.encode(&bytes);
    store.write(SENTRY_KEY, format!("{key}\n").as_bytes())?;
    Ok(key)
}

fn ready(listeners: &Listeners, options: &ServeOptions, key: &str, identity: &Identity) -> Result<Ready, Error> {
    let https = match options.names.first() {
        Some(name) => format!("{}:{}", bracketed(name), local_address(&listeners.https)?.port()),
        None => reachable(local_address(&listeners.https)?).to_string(),
    };
    let http = listeners.http.as_ref().map(local_address).transpose()?;
    Ok(Ready {
        ready: true,
        https: format!("https://{https}"),
        http: http.map(|address| format!("http://{address}")),
        dns: reachable(local_address(&listeners.dns_tcp)?).to_string(),
        ca_file: identity.ca_file.clone(),
        sentry_dsn: format!("https://{key}@{https}/{PROJECT}"),
        sentry_dsn_http: http.map(|address| format!("http://{key}@{address}/{PROJECT}")),
    })
}

/// An address to which a client on this machine can connect.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A host as it stands in a URL.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn announce(ready: &Ready) -> Result<(), Error> {
    let line = plain::json(ready).map_err(|why| internal("the line for the start", why))?;
    let mut stdout = io::stdout().lock();
    printed(writeln!(stdout, "{line}").and_then(|()| stdout.flush())).map(drop)
}
