//! `serve`, the receiving process: its options, its start and its end.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use data_encoding::HEXLOWER;
use hickory_server::Server;
use ondat_telemetry::config::setting;
use ondat_telemetry::error::Error;
use ondat_telemetry_command::plain;
use ondat_telemetry_protocol::answer::VersionKey;
use ondat_telemetry_protocol::identity::is_hex_id;
use ondat_telemetry_protocol::limits::SEALED_REPORT_BYTES;
use ondat_telemetry_service::listen::{Listening, bind, cannot_listen};
use ondat_telemetry_service::refusal::Refusal;
use ondat_telemetry_service::signals::{Asked, Signals};
use ondat_telemetry_service::tls::Certificate;
use serde::Serialize;
use tokio::net::{TcpListener, UdpSocket};

use crate::budget::Budget;
use crate::complaints::Complaints;
use crate::counters::Counters;
use crate::dns::ZoneServer;
use crate::dns_rate::Rates;
use crate::dns_tcp;
use crate::fault::{self, disk, internal, printed};
use crate::forward::Forwarder;
use crate::keeping::Keeper;
use crate::key_rules::KeyRules;
use crate::layout::{CRASHES, SEALED, UNSENT};
use crate::limits::{self, Networks};
use crate::operations::{self, Operations};
use crate::published::{self, Published};
use crate::reports::{self, ReportIntake};
use crate::sentry::{self, CrashIntake, PROJECT};
use crate::storage::Storage;
use crate::storage::bucket::Bucket;
use crate::storage::folder::{Folder, Room};
use crate::store::{self, Store};
use crate::tls::{self, Identity};
use crate::zone::Zone;

const SENTRY_KEY: &str = "sentry-key";
/// The file with the id that distinguishes this edge from others that forward crash reports from one bucket.
const EDGE_ID: &str = "edge-id";
/// How long DNS questions in progress may take when the program ends.
const DNS_GOODBYE_TIME: Duration = Duration::from_secs(1);
/// How many ports are tried if the system's choice for TCP is taken for UDP.
const PORT_TRIES: usize = 16;

/// The options of `serve`.
#[derive(clap::Args)]
pub(crate) struct ServeOptions {
    /// Where the collector's own files are, and what it receives unless --store says otherwise; made on the first start.
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
    /// Answers a second over UDP that a network gets (/24 of IPv4, /56 of IPv6); beyond it is asked to use TCP. 0: no bound.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    dns_rate: u32,
    /// The version zone, a BIND master file. Without it every question is refused.
    #[arg(long, value_name = "FILE")]
    zone: Option<PathBuf>,
    /// A bucket for what is received: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX. Credentials, region
    /// and endpoint come from the environment, under the names of the provider's own tools.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Seconds after which a store that does not answer has not stored it.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=300))]
    store_time: u64,
    /// Bytes that may be received into --data, such as 100GiB; without it as many as the disk has.
    #[arg(long, value_name = "BYTES", value_parser = bytes, conflicts_with = "store")]
    most_stored: Option<u64>,
    /// Bytes that stay free on the disk of --data; without it a twentieth of the disk, at most 1GiB.
    #[arg(long, value_name = "BYTES", value_parser = bytes, conflicts_with = "store")]
    keep_free: Option<u64>,
    /// Bytes of reports that are received and not yet stored, at least 64MiB.
    #[arg(long, value_name = "BYTES", default_value = "256MiB", value_parser = bytes)]
    most_in_flight: u64,
    /// The key set senders use; its member "destroyed" lists ids of keys that nobody has any more, whose reports are
    /// refused. Without a key set reports are taken whatever key they are sealed for.
    #[arg(long, value_name = "FILE")]
    report_keys: Option<PathBuf>,
    /// Bytes a day of reports for keys that are not in --report-keys: a new key may reach senders before this edge.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    unknown_key_bytes: u64,
    /// The key set as `ondat-telemetry sign-keys` prints it, for GET /v1/keys; SIGHUP reads it anew.
    #[arg(long, value_name = "FILE", requires = "version_keys")]
    signed_keys: Option<PathBuf>,
    /// A public version key in base64 that --signed-keys is signed with. May be repeated.
    #[arg(long = "version-key", value_name = "KEY", value_parser = VersionKey::parse, requires = "signed_keys")]
    version_keys: Vec<VersionKey>,
    /// Sends crash reports on to this DSN once they are stored: https://KEY@HOST/PROJECT.
    #[arg(long, value_name = "DSN")]
    forward_crashes: Option<String>,
    /// The address of a load balancer in front: its connections are those of all senders. May be repeated.
    #[arg(long = "load-balancer", value_name = "IP")]
    load_balancers: Vec<IpAddr>,
    /// Where /metrics and /ready are answered, without TLS: an address that only you can reach.
    #[arg(long, value_name = "ADDR")]
    operations: Option<SocketAddr>,
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

/// A number of bytes: `1048576`, `1MiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("", 0)];
    let unit = units.into_iter().find_map(|(unit, shift)| text.strip_suffix(unit).map(|number| (number, shift)));
    let number = unit.and_then(|(number, shift)| number.parse::<u64>().ok()?.checked_mul(1 << shift));
    number.ok_or_else(|| "expected a number of bytes, with or without KiB, MiB, GiB or TiB".to_owned())
}

/// The line printed when everything listens.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    https: String,
    http: Option<String>,
    dns: String,
    /// The file of the collector's own authority. None: the certificate was given.
    ca_file: Option<PathBuf>,
    sentry_dsn: String,
    sentry_dsn_http: Option<String>,
    operations: Option<String>,
}

struct Listeners {
    https: TcpListener,
    http: Option<TcpListener>,
    operations: Option<TcpListener>,
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
    if options.most_in_flight < SEALED_REPORT_BYTES {
        let (given, least) = (options.most_in_flight, SEALED_REPORT_BYTES);
        let why = format!("--most-in-flight {given}: a report may have {least} bytes, give at least as many");
        return Err(Error::InvalidArgument(why));
    }
    // Requests to stores and to Sentry's server use this provider. An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|why| internal("cannot start", why))?;
    let outcome = runtime.block_on(receive(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn receive(options: ServeOptions) -> Result<(), Error> {
    // The handlers come first, so that an early signal is not lost.
    let mut signals = Signals::new()?;
    let zone = options.zone.as_deref().map(Zone::read).transpose()?.map(Arc::new);
    let keys = match &options.report_keys {
        Some(path) => KeyRules::read(path, options.unknown_key_bytes)?,
        None => KeyRules::any(),
    };
    let store = Arc::new(Store::create(options.data.clone())?);
    let published = match options.signed_keys.clone() {
        Some(path) => Some(Published::read(path, options.version_keys.clone(), Arc::clone(&store))?),
        None => None,
    };
    let public_key = public_key(&store)?;
    let identity = identity(&store, &options)?;
    let certificate = Certificate::read(&identity.certificate, &identity.key)?;
    let storage = storage(&store, &options).await?;
    let counters = Arc::new(Counters::default());
    let forwarder = match &options.forward_crashes {
        Some(dsn) => Some(Forwarder::new(Arc::clone(&storage), dsn, edge_id(&store)?, Arc::clone(&counters))?),
        None => None,
    };
    let listeners = Listeners::bind(&options).await?;
    let ready = ready(&listeners, &options, &public_key, &identity)?;

    let networks = Networks::new(&options.load_balancers);
    let places = limits::places(&networks);
    let budget = Budget::new(options.most_in_flight, SEALED_REPORT_BYTES);
    let keeper = Keeper::new(Arc::clone(&storage), Duration::from_secs(options.store_time));
    let operations = Arc::new(Operations::new(storage, &counters, &budget, &places));
    let reports = ReportIntake {
        keeper: keeper.clone(),
        keys,
        budget,
        networks,
        counters: Arc::clone(&counters),
        complaints: Complaints::default(),
    };
    let crashes = CrashIntake {
        keeper,
        public_key,
        forwarder: forwarder.clone(),
        counters: Arc::clone(&counters),
        complaints: Complaints::default(),
    };
    let keys = published.clone().map(published::routes).unwrap_or_default();
    let v1 = reports::routes(Arc::new(reports)).merge(keys).fallback(nothing_here);
    let routes = Router::new()
        .nest("/v1", v1)
        .merge(sentry::routes(Arc::new(crashes)))
        .merge(operations::ready_route(Arc::clone(&operations)))
        .layer(axum::middleware::map_response(reports::mark));
    let rates = Arc::new(Rates::new(options.dns_rate));
    let zone = || ZoneServer::new(zone.clone(), Arc::clone(&store), Arc::clone(&rates), Arc::clone(&counters));
    let mut dns = Server::new(zone());
    dns.register_socket(listeners.dns_udp);
    // Nothing is lost with a connection that ends with the process: the asker asks again.
    drop(tokio::spawn(dns_tcp::serve(listeners.dns_tcp, Arc::new(zone()))));
    let mut listening = Listening::default();
    listening.serve(listeners.https, Some(&certificate), routes.clone(), &places, limits::TERMS);
    if let Some(http) = listeners.http {
        listening.serve(http, None, routes, &places, limits::TERMS);
    }
    if let Some(listener) = listeners.operations {
        // Places of its own: who looks what is wrong gets in when all others are taken.
        let routes = operations::routes(operations);
        listening.serve(listener, None, routes, &limits::operations_places(), limits::TERMS);
    }
    if let Some(forwarder) = forwarder {
        // What it is at when the process ends is done again by the next one.
        drop(tokio::spawn(forwarder.run()));
    }

    announce(&ready)?;
    while signals.next().await == Asked::Reload {
        if let Err(why) = certificate.renew() {
            fault::complain(&format!("the certificate of before stays: {why}"));
        }
        if let Some(Err(why)) = published.as_ref().map(|published| published.renew()) {
            fault::complain(&format!("the signed keys of before stay: {why}"));
        }
    }

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
        let operations = match options.operations {
            Some(address) => Some(bind("--operations", address).await?),
            None => None,
        };
        let (dns_tcp, dns_udp) = bind_dns(options.dns).await?;
        Ok(Self { https, http, operations, dns_tcp, dns_udp })
    }
}

async fn nothing_here() -> axum::response::Response {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing here").line()
}

/// Where what is received goes.
async fn storage(store: &Store, options: &ServeOptions) -> Result<Arc<dyn Storage>, Error> {
    if let Some(address) = &options.store {
        let bucket = Bucket::new(address)?;
        bucket.probe().await?;
        return Ok(Arc::new(bucket));
    }
    let room = Room { most: options.most_stored, reserve: options.keep_free };
    let folder = Folder::open(store.root(), &[SEALED, CRASHES, UNSENT], room);
    Ok(Arc::new(folder.map_err(|why| disk("use the folder", store.root(), why))?))
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

/// The public key of the DSN.
fn public_key(store: &Store) -> Result<String, Error> {
    random_id(store, SENTRY_KEY)
}

/// What tells this edge from others.
fn edge_id(store: &Store) -> Result<String, Error> {
    random_id(store, EDGE_ID)
}

/// A random id in a file of its own, made on the first start.
fn random_id(store: &Store, name: &str) -> Result<String, Error> {
    if let Some(kept) = store.read(name)? {
        let kept = kept.trim().to_owned();
        if is_hex_id(&kept) {
            return Ok(kept);
        }
        let path = store.path(name);
        return Err(disk("use the key in", &path, "expected 32 hex digits; delete it to get a new one"));
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|why| internal("no random numbers", why))?;
    let id = HEXLOWER.encode(&bytes);
    store.write(name, format!("{id}\n").as_bytes())?;
    Ok(id)
}

fn ready(listeners: &Listeners, options: &ServeOptions, key: &str, identity: &Identity) -> Result<Ready, Error> {
    let https = match options.names.first() {
        Some(name) => format!("{}:{}", bracketed(name), local_address(&listeners.https)?.port()),
        None => reachable(local_address(&listeners.https)?).to_string(),
    };
    let http = listeners.http.as_ref().map(local_address).transpose()?;
    let operations = listeners.operations.as_ref().map(local_address).transpose()?;
    Ok(Ready {
        ready: true,
        https: format!("https://{https}"),
        http: http.map(|address| format!("http://{address}")),
        dns: reachable(local_address(&listeners.dns_tcp)?).to_string(),
        ca_file: identity.ca_file.clone(),
        sentry_dsn: format!("https://{key}@{https}/{PROJECT}"),
        sentry_dsn_http: http.map(|address| format!("http://{key}@{address}/{PROJECT}")),
        operations: operations.map(|address| format!("http://{}", reachable(address))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(
            (bytes("77"), bytes("1KiB"), bytes("2MiB"), bytes("3GiB")),
            (Ok(77), Ok(1024), Ok(2 << 20), Ok(3 << 30))
        );
        for text in ["", "MiB", "1MB", "-1", "1.5GiB", "1 MiB", "99999999TiB"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
    }
}
