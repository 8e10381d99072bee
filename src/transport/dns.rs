//! DNS over hickory-resolver: one TXT question for an absolute name, and host names for HTTPS.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData};
use tokio::sync::Notify;

use crate::error::Error;
use crate::switches::Permit;

/// One try of one server.
const TRY: Duration = Duration::from_secs(2);

/// Asks DNS. A trait, so that the client's owner decides what is behind it.
pub trait Dns: Send + Sync {
    /// The TXT records of an absolute name, the strings of each joined; none where the name has none.
    fn txt(&self, permit: Permit, name: &str, timeout: Duration) -> Result<Vec<Vec<u8>>, Error>;
}

/// DNS by the system's resolvers, or by those that were configured.
pub struct ResolverDns {
    nameservers: Option<Vec<SocketAddr>>,
}

impl ResolverDns {
    /// With these servers; none: those of /etc/resolv.conf at the time of each question.
    pub fn new(nameservers: Option<Vec<SocketAddr>>) -> Self {
        Self { nameservers }
    }
}

impl Dns for ResolverDns {
    fn txt(&self, permit: Permit, name: &str, timeout: Duration) -> Result<Vec<Vec<u8>>, Error> {
        let absolute = Name::from_ascii(name).map_err(|_| Error::Internal(format!("not a DNS name: {name}")))?;
        let interrupt = Arc::new(Notify::new());
        let revoked = Arc::clone(&interrupt);
        permit.on_revoke(move || revoked.notify_one());
        run(timeout, &interrupt, async {
            let resolver = resolver(self.nameservers.as_deref(), ResolveHosts::Never)?;
            match resolver.txt_lookup(absolute).await {
                Ok(lookup) => Ok(lookup.answers().iter().filter_map(|record| text(&record.data)).collect()),
                Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(Vec::new()),
                Err(error) => Err(failed(&error, "the version zone")),
            }
        })
    }
}

fn text(data: &RData) -> Option<Vec<u8>> {
    match data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    }
}

/// The addresses of a host, by /etc/hosts and DNS.
pub fn addresses(host: &str, nameservers: Option<&[SocketAddr]>, timeout: Duration) -> Result<Vec<IpAddr>, Error> {
    run(timeout, &Notify::new(), async {
        let resolver = resolver(nameservers, ResolveHosts::Always)?;
        let lookup = resolver.lookup_ip(host).await.map_err(|error| failed(&error, host))?;
        Ok(lookup.iter().collect())
    })
}

fn resolver(nameservers: Option<&[SocketAddr]>, hosts: ResolveHosts) -> Result<TokioResolver, Error> {
    let unusable = |_: NetError| {
        Error::Network("/etc/resolv.conf names no usable DNS server; add one, or set nameservers".to_owned())
    };
    let mut builder = match nameservers {
        Some(servers) => {
            let servers = servers.iter().map(|server| name_server(*server)).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
        None => TokioResolver::builder_tokio().map_err(unusable)?,
    };
    let defaults = ResolverOpts::default();
    let options = builder.options_mut();
    options.timeout = TRY;
    options.attempts = 3;
    options.cache_size = 0;
    options.use_hosts_file = hosts;
    // One server after the other: a check is one question, not a race of two.
    options.num_concurrent_reqs = 1;
    options.try_tcp_on_error = defaults.try_tcp_on_error;
    builder.build().map_err(unusable)
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = address.port();
    tcp.port = address.port();
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}

/// Own words: the resolver's would print whole messages, and their code alone is tens of kilobytes.
fn failed(error: &NetError, what: &str) -> Error {
    match error {
        NetError::Timeout => Error::TimedOut(format!("{what}: no DNS server answered")),
        NetError::Io(error) => Error::Network(format!("{what}: no DNS server can be reached: {error}")),
        NetError::NoConnections => Error::Network(format!("{what}: no DNS server can be reached")),
        NetError::Dns(DnsError::ResponseCode(code)) => {
            Error::Network(format!("{what}: DNS answered {}", code.to_str()))
        }
        NetError::Dns(DnsError::NoRecordsFound(_)) => Error::Network(format!("{what}: no such name in DNS")),
        NetError::Proto(_) => Error::Network(format!("{what}: a DNS answer that cannot be read")),
        _ => Error::Network(format!("{what}: the DNS question failed")),
    }
}

/// Runs to the end, the timeout or the interruption, on a runtime of its own that leaves nothing behind.
fn run<T>(timeout: Duration, interrupt: &Notify, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Network(format!("no descriptors for a DNS question: {error}")))?;
    let limited = async {
        tokio::time::timeout(timeout, work)
            .await
            .unwrap_or_else(|_| Err(Error::TimedOut(format!("no DNS answer within {} ms", timeout.as_millis()))))
    };
    runtime.block_on(async {
        let (mut work, mut interrupted) = (pin!(limited), pin!(interrupt.notified()));
        std::future::poll_fn(|context| {
            if interrupted.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Error::Disabled("turned off while it was being asked".to_owned())));
            }
            work.as_mut().poll(context)
        })
        .await
    })
}
