//! DNS: one TXT question for an absolute name, and host names for HTTPS. Messages and the hosts file are hickory's, the
//! exchange is not: its resolver follows aliases to other names, asks servers in an order of its own, repeats a question
//! after a third of a second and gives up after the first server's refusal.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use nix::net::if_::if_nametoindex;
use nix::poll::PollFlags;
use resolv_conf::ScopedIp;

use super::wait::{Interrupt, Patience, Stream};
use crate::error::Error;
use crate::switches::Permit;
use crate::sys::descriptor;

/// One try of one server.
const TRY: Duration = Duration::from_secs(2);
/// How often a silent server is tried.
const TRIES: usize = 3;
/// The largest datagram that is asked for: it crosses the Internet in one piece (DNS flag day 2020).
const LARGEST_DATAGRAM: u16 = 1232;
/// The port of DNS servers, RFC 1035, 4.2.
const PORT: u16 = 53;
/// The place of the system's servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Names that are known without DNS, hosts(5).
const HOSTS: &str = "/etc/hosts";

/// Asks DNS. A trait, so that the client's owner decides what is behind it.
pub trait Dns: Send + Sync {
    /// The TXT records of an absolute name, the strings of each joined; none where the name has none.
    fn txt(&self, permit: Permit, name: &str, timeout: Duration) -> Result<Vec<Vec<u8>>, Error>;
}

/// DNS by the system's servers, or by those that were configured.
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
        let interrupt = Arc::new(interrupt()?);
        let revoked = Arc::clone(&interrupt);
        permit.on_revoke(move || revoked.raise());
        let system = System::new(self.nameservers.as_deref())?;
        let question = Query::query(absolute, RecordType::TXT);
        let answer = system.ask(&question, "the version zone", &Limit::new(&interrupt, timeout))?;
        // Records of other names are not what was asked for, whatever an alias says.
        let own = answer.answers.iter().filter(|record| record.name == *question.name());
        Ok(own.filter_map(text).collect())
    }
}

fn text(record: &Record) -> Option<Vec<u8>> {
    match &record.data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    }
}

/// What ends a question, or a request, from another thread.
pub fn interrupt() -> Result<Interrupt, Error> {
    Interrupt::new().map_err(|error| Error::Network(format!("no descriptors for a request: {error}")))
}

/// The addresses of a host, by /etc/hosts and DNS, with the search list of /etc/resolv.conf as resolv.conf(5) has it.
pub fn addresses(
    host: &str,
    nameservers: Option<&[SocketAddr]>,
    interrupt: &Interrupt,
    timeout: Duration,
) -> Result<Vec<IpAddr>, Error> {
    let no_name = |_| Error::Network(format!("{host} is not a name that DNS can have"));
    let name = Name::from_ascii(host).map_err(no_name)?;
    let mut hosts = Hosts::default();
    if let Ok(text) = descriptor::read(HOSTS) {
        // As where the file is not there.
        let _ = hosts.read_hosts_conf(&*text);
    }
    let known =
        [RecordType::A, RecordType::AAAA].map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
    let known: Vec<IpAddr> = known.iter().flatten().flat_map(|found| found.answers()).filter_map(address).collect();
    if !known.is_empty() {
        return Ok(known);
    }
    let system = System::new(nameservers)?;
    let limit = Limit::new(interrupt, timeout);
    let mut failure = None;
    for candidate in system.candidates(&name) {
        let mut found = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            match system.ask(&Query::query(candidate.clone(), kind), host, &limit) {
                Ok(answer) => {
                    // The servers follow aliases: whatever name bears them, these are the addresses.
                    found.extend(answer.answers.iter().filter_map(address));
                    if answer.response_code == ResponseCode::NXDomain {
                        break;
                    }
                }
                Err(error) if limit.patience.is_over() => return Err(error),
                Err(error) => failure = Some(error),
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(failure.unwrap_or_else(|| Error::Network(format!("{host}: no such name in DNS"))))
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

/// Whom to ask, and how.
struct System {
    servers: Vec<SocketAddr>,
    /// Whether EDNS is spoken at first.
    edns: bool,
    search: Vec<Name>,
    dots: usize,
}

impl System {
    /// What /etc/resolv.conf says now, but for the servers where others are configured.
    fn new(configured: Option<&[SocketAddr]>) -> Result<Self, Error> {
        // Where others are configured, the file may be missing.
        let text = descriptor::read(RESOLV_CONF).unwrap_or_default();
        let (file, _) = resolv_conf::Config::parse_with_errors(&text);
        let servers: Vec<SocketAddr> = match configured {
            Some(servers) => servers.to_vec(),
            None => file.nameservers.iter().filter_map(server).collect(),
        };
        if servers.is_empty() {
            return Err(Error::Network(format!(
                "{RESOLV_CONF} names no usable DNS server; add one, or set nameservers"
            )));
        }
        let search = file.get_last_search_or_domain().filter_map(|domain| Name::from_ascii(domain).ok());
        Ok(Self {
            servers,
            edns: configured.is_some() || file.edns0,
            search: search.collect(),
            dots: usize::try_from(file.ndots).unwrap_or(1),
        })
    }

    /// The absolute names that a host name may stand for, in the order in which they are asked, resolv.conf(5).
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() {
            return vec![absolute];
        }
        let searched = self.search.iter().filter_map(|domain| {
            let mut name = name.clone().append_domain(domain).ok()?;
            name.set_fqdn(true);
            Some(name)
        });
        let has_dots_enough = usize::from(name.num_labels()) > self.dots;
        if has_dots_enough {
            std::iter::once(absolute).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(absolute)).collect()
        }
    }

    /// The first answer: one server after the other in their order, and the silent ones again. `what` is who is looked
    /// for, in an error.
    fn ask(&self, question: &Query, what: &str, limit: &Limit<'_>) -> Result<Message, Error> {
        let mut failure = Error::Network(format!("{what}: no DNS server can be reached"));
        let mut servers = self.servers.clone();
        for _ in 0..TRIES {
            let mut silent = Vec::new();
            for server in servers {
                match self.ask_one(server, question, limit.patience.at_most(TRY)) {
                    Ok(answer) => match answer.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => return Ok(answer),
                        code => failure = Error::Network(format!("{what}: DNS answered {}", code.to_str())),
                    },
                    Err(_) if limit.patience.is_over() => return Err(limit.error()),
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        failure = Error::TimedOut(format!("{what}: no DNS server answered"));
                        silent.push(server);
                    }
                    Err(error) => {
                        failure = Error::Network(format!("{what}: no DNS server can be reached: {error}"));
                    }
                }
            }
            servers = silent;
        }
        Err(failure)
    }

    fn ask_one(&self, server: SocketAddr, question: &Query, patience: Patience<'_>) -> io::Result<Message> {
        let answer = exchange(server, question, self.edns, patience)?;
        // RFC 6891, 7: a server that does not know EDNS.
        if self.edns && matches!(answer.response_code, ResponseCode::FormErr | ResponseCode::NotImp) {
            return exchange(server, question, false, patience);
        }
        Ok(answer)
    }
}

/// How long a question may take in all.
struct Limit<'a> {
    patience: Patience<'a>,
    timeout: Duration,
}

impl<'a> Limit<'a> {
    /// From now on.
    fn new(interrupt: &'a Interrupt, timeout: Duration) -> Self {
        Self { patience: Patience { interrupt, deadline: Instant::now() + timeout }, timeout }
    }

    /// What has ended it.
    fn error(&self) -> Error {
        if self.patience.interrupt.is_raised() {
            return Error::Disabled("turned off while it was being asked".to_owned());
        }
        Error::TimedOut(format!("no DNS answer within {} ms", self.timeout.as_millis()))
    }
}

/// A server of resolv.conf. The scope says on which link a link-local address is (RFC 4007, 11), by name or number.
fn server(address: &ScopedIp) -> Option<SocketAddr> {
    Some(match address {
        ScopedIp::V4(ip) => SocketAddr::new((*ip).into(), PORT),
        ScopedIp::V6(ip, scope) => {
            let scope = match scope.as_deref() {
                None => 0,
                Some(scope) => scope.parse().ok().or_else(|| if_nametoindex(scope).ok())?,
            };
            SocketAddrV6::new(*ip, PORT, 0, scope).into()
        }
    })
}

/// One question and its answer: by UDP, and by TCP where that was too small.
fn exchange(server: SocketAddr, question: &Query, edns: bool, patience: Patience<'_>) -> io::Result<Message> {
    let request = Request::new(question, edns)?;
    let answer = request.over_udp(server, patience)?;
    if !answer.truncation {
        return Ok(answer);
    }
    let answer = request.over_tcp(server, patience)?;
    if answer.truncation {
        return Err(io::Error::other("an answer that is truncated over TCP"));
    }
    Ok(answer)
}

/// A question on its way.
struct Request<'a> {
    question: &'a Query,
    id: u16,
    bytes: Vec<u8>,
}

impl<'a> Request<'a> {
    fn new(question: &'a Query, edns: bool) -> io::Result<Self> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.queries.push(question.clone());
        if edns {
            message.edns.get_or_insert_with(Edns::new).set_max_payload(LARGEST_DATAGRAM);
        }
        Ok(Self { question, id: message.metadata.id, bytes: message.to_vec().map_err(io::Error::other)? })
    }

    /// One datagram, and the first one back that answers it.
    fn over_udp(&self, server: SocketAddr, patience: Patience<'_>) -> io::Result<Message> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::from(descriptor::make(|| UdpSocket::bind((any, 0)))?);
        // Connected, it takes from nobody else, and learns that nobody listens.
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let mut socket = Stream::new(socket.into())?;
        patience.until_done(&mut socket, PollFlags::POLLOUT, |socket| socket.write(&self.bytes))?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let length = patience.until_done(&mut socket, PollFlags::POLLIN, |socket| socket.read(&mut buffer))?;
            if let Some(answer) = self.answer(&buffer[..length]) {
                return Ok(answer);
            }
        }
    }

    fn over_tcp(&self, server: SocketAddr, patience: Patience<'_>) -> io::Result<Message> {
        let mut stream = patience.connect(server)?;
        let length = u16::try_from(self.bytes.len()).unwrap_or(0).to_be_bytes();
        patience.write_all(&mut stream, &[&length, self.bytes.as_slice()].concat())?;
        loop {
            let mut length = [0; 2];
            patience.read_exact(&mut stream, &mut length)?;
            let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
            patience.read_exact(&mut stream, &mut buffer)?;
            if let Some(answer) = self.answer(&buffer) {
                return Ok(answer);
            }
        }
    }

    /// An answer to this question; none where it is something else.
    fn answer(&self, bytes: &[u8]) -> Option<Message> {
        let message = Message::from_vec(bytes).ok()?;
        let is_answer = message.metadata.message_type == MessageType::Response && message.metadata.id == self.id;
        (is_answer && message.queries == [self.question.clone()]).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(resolv_conf: &str, host: &str) -> Vec<String> {
        let (file, _) = resolv_conf::Config::parse_with_errors(resolv_conf.as_bytes());
        let search = file.get_last_search_or_domain().filter_map(|domain| Name::from_ascii(domain).ok()).collect();
        let system = System { servers: Vec::new(), edns: false, search, dots: file.ndots as usize };
        system.candidates(&Name::from_ascii(host).unwrap()).iter().map(Name::to_string).collect()
    }

    #[test]
    fn the_search_list_is_that_of_resolv_conf() {
        let kubernetes = "search ns.svc.cluster.local svc.cluster.local\noptions ndots:5\n";
        let service = ["c.svc.ns.svc.cluster.local.", "c.svc.svc.cluster.local.", "c.svc."];
        assert_eq!(candidates(kubernetes, "c.svc"), service);
        assert_eq!(candidates(kubernetes, "c.svc."), ["c.svc."]);
        assert_eq!(candidates("search a.example\n", "c.example.com"), ["c.example.com.", "c.example.com.a.example."]);
        assert_eq!(candidates("domain a.example\n", "c"), ["c.a.example.", "c."]);
        assert_eq!(candidates("", "c"), ["c."]);
    }

    #[test]
    fn a_scope_is_a_link_by_name_or_number() {
        let server = |line: &str| {
            let (file, _) = resolv_conf::Config::parse_with_errors(line.as_bytes());
            file.nameservers.first().and_then(server)
        };
        assert_eq!(server("nameserver 192.0.2.1"), Some("192.0.2.1:53".parse().unwrap()));
        assert_eq!(server("nameserver fe80::1%7"), Some("[fe80::1%7]:53".parse().unwrap()));
        let loopback = if_nametoindex("lo").unwrap();
        assert_eq!(server("nameserver fe80::1%lo"), Some(format!("[fe80::1%{loopback}]:53").parse().unwrap()));
        assert_eq!(server("nameserver fe80::1%no-such-link"), None);
    }
}
