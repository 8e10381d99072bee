//! DNS: one TXT question for an absolute name, and host names for HTTPS. The messages are hickory's, the exchange is
//! ours: hickory's resolver follows aliases to other names, asks servers in an order of its own, repeats a question
//! after a third of a second and gives up after the first server's refusal.
//!
//! Partial results are used. The two questions for a name's addresses are asked at the same time. Once one of them has
//! addresses, the other is waited for briefly, and its silence, refusal or damage changes nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use nix::poll::PollFlags;

use super::deadline::{Deadline, Interrupt, Stream};
use super::hosts;
use super::resolv_conf::ResolvConf;
use crate::error::Error;
use crate::switches::Permit;
use crate::sys::descriptor;

/// One try of one server, where resolv.conf does not say.
const TRY: Duration = Duration::from_secs(2);
/// How often a silent server is tried, where resolv.conf does not say.
const TRIES: usize = 3;
/// What the other family of addresses is waited for once one has come.
const GRACE: Duration = Duration::from_secs(1);
/// The largest datagram that is asked for: it crosses the Internet in one piece (DNS flag day 2020).
const LARGEST_DATAGRAM: u16 = 1232;
/// The most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 256;

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
        let deadline = Deadline::after(&interrupt, timeout);
        let over = || match interrupt.is_raised() {
            true => Error::Disabled("turned off while it was being asked".to_owned()),
            false => Error::TimedOut(format!("no DNS answer within {} ms", timeout.as_millis())),
        };
        let system = System::new(self.nameservers.as_deref(), &deadline).map_err(|_| over())?;
        let question = [Query::query(absolute, RecordType::TXT)];
        let [asked] = system.ask(question, &deadline);
        match asked.answer {
            // Records of other names are not what was asked for, whatever an alias says.
            Some(answer) => {
                let own = answer.answers.iter().filter(|record| record.name == *asked.question.name());
                Ok(own.filter_map(text).collect())
            }
            None if deadline.is_over() => Err(over()),
            None => Err(asked.failure.into_error("the version zone")),
        }
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
    deadline: &Deadline<'_>,
) -> Result<Vec<IpAddr>, Error> {
    let over = |_| Error::TimedOut(format!("{host} was not found in time"));
    if hosts::is_localhost(host) {
        return Ok(hosts::loopback());
    }
    let known = hosts::lookup(host, deadline).map_err(over)?;
    if !known.is_empty() {
        return Ok(known);
    }
    let no_name = |_| Error::Network(format!("{host} is not a name that DNS can have"));
    let name = Name::from_ascii(host).map_err(no_name)?;
    let system = System::new(nameservers, deadline).map_err(over)?;
    let mut failure = None;
    for candidate in system.candidates(&name) {
        let ask = |kind| Query::query(candidate.clone(), kind);
        let asked = if system.file.no_ipv6 {
            system.ask([ask(RecordType::A)], deadline).to_vec()
        } else {
            system.ask([ask(RecordType::A), ask(RecordType::AAAA)], deadline).to_vec()
        };
        let mut found = Vec::new();
        for ip in asked.iter().flat_map(Asked::addresses).take(MOST_ADDRESSES) {
            if !found.contains(&ip) {
                found.push(ip);
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        if deadline.is_over() {
            return Err(Error::TimedOut(format!("{host}: no DNS server answered in time")));
        }
        // That one family has failed says more than that the other is not there.
        failure = asked.into_iter().find(|asked| asked.answer.is_none()).map(|asked| asked.failure).or(failure);
    }
    Err(failure
        .map_or_else(|| Error::Network(format!("{host}: no such name in DNS")), |failure| failure.into_error(host)))
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
    file: ResolvConf,
}

impl System {
    /// What /etc/resolv.conf says now, but for the servers where others are configured.
    fn new(configured: Option<&[SocketAddr]>, deadline: &Deadline<'_>) -> io::Result<Self> {
        let file = ResolvConf::read(deadline)?;
        let mut servers = configured.map_or_else(|| file.servers.clone(), <[SocketAddr]>::to_vec);
        if file.rotate && servers.len() > 1 {
            let first = getrandom::u32().unwrap_or(0) as usize % servers.len();
            servers.rotate_left(first);
        }
        Ok(Self { servers, edns: configured.is_some() || file.edns, file })
    }

    /// The absolute names that a host name may stand for, in the order in which they are asked, resolv.conf(5).
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() {
            return vec![absolute];
        }
        let searched = self.file.search.iter().filter_map(|domain| {
            let mut name = name.clone().append_domain(&domain_name(domain)?).ok()?;
            name.set_fqdn(true);
            Some(name)
        });
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let mut candidates: Vec<Name> = if dots >= self.file.dots {
            std::iter::once(absolute).chain(searched).collect()
        } else {
            let searched: Vec<Name> = searched.collect();
            let is_bare_tried = dots > 0 || self.file.search.is_empty() || !self.file.no_bare_name;
            searched.into_iter().chain(is_bare_tried.then_some(absolute)).collect()
        };
        let mut seen = Vec::new();
        candidates.retain(|name| {
            !seen.contains(name) && {
                seen.push(name.clone());
                true
            }
        });
        candidates
    }

    /// What becomes of these questions: one server after the other in their order, and the silent ones again, until there
    /// is an answer to each, or to one of them what its asker can do with.
    fn ask<const N: usize>(&self, questions: [Query; N], deadline: &Deadline<'_>) -> [Asked; N] {
        let mut all = questions.map(|question| Asked::new(question, self.edns));
        for _ in 0..self.file.attempts.unwrap_or(TRIES) {
            for (number, server) in self.servers.iter().enumerate() {
                let mut open: Vec<&mut Asked> = all.iter_mut().filter(|asked| asked.is_open_at(number)).collect();
                if open.is_empty() {
                    continue;
                }
                // A silent server leaves as much to each of the others.
                let untried = u32::try_from(self.servers.len() - number).unwrap_or(1);
                let try_ = self.file.timeout.unwrap_or(TRY).min(deadline.left() / untried);
                Exchange { server: *server, number, edns: self.edns }.ask(
                    &mut open,
                    deadline.at_most(try_),
                    self.file.tcp_only,
                );
                let is_enough = all.iter().any(Asked::has_addresses) || all.iter().all(|asked| asked.answer.is_some());
                if is_enough || deadline.is_over() {
                    return all;
                }
            }
        }
        all
    }
}

/// A domain of the search list; none where no host can have it.
fn domain_name(domain: &[u8]) -> Option<Name> {
    let domain = std::str::from_utf8(domain).ok()?;
    let may_be_in_a_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if domain.bytes().all(may_be_in_a_name) { Name::from_ascii(domain).ok() } else { None }
}

/// One question, and what has come of it.
#[derive(Clone)]
struct Asked {
    question: Query,
    request: Request,
    answer: Option<Message>,
    /// One that was cut, of which the rest could not be had.
    part: Option<Message>,
    failure: Failure,
    /// The servers that have said that they will not answer it.
    refused_by: Vec<usize>,
}

/// Why there is no answer.
#[derive(Clone)]
enum Failure {
    Silence,
    Refusal(ResponseCode),
    Unreachable(String),
}

impl Failure {
    fn into_error(self, what: &str) -> Error {
        match self {
            Self::Silence => Error::TimedOut(format!("{what}: no DNS server answered")),
            Self::Refusal(code) => Error::Network(format!("{what}: DNS answered {}", code.to_str())),
            Self::Unreachable(why) => Error::Network(format!("{what}: no DNS server can be reached: {why}")),
        }
    }
}

impl Asked {
    fn new(question: Query, edns: bool) -> Self {
        Self {
            request: Request::new(&question, edns),
            question,
            answer: None,
            part: None,
            failure: Failure::Silence,
            refused_by: Vec::new(),
        }
    }

    fn is_open_at(&self, server: usize) -> bool {
        self.answer.is_none() && !self.refused_by.contains(&server)
    }

    /// The servers follow aliases: whatever name bears them, these are the addresses.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.answer.iter().chain(&self.part).flat_map(|message| &message.answers).filter_map(address)
    }

    fn has_addresses(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.answers.iter().any(|record| address(record).is_some()))
    }

    fn failed(&mut self, server: usize, failure: Failure) {
        self.failure = failure;
        self.refused_by.push(server);
    }

    /// Takes an answer. What is to be done next with this server.
    fn take(&mut self, server: usize, answer: Message) -> Next {
        match answer.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain if answer.truncation => {
                self.part = Some(answer);
                Next::OverTcp
            }
            ResponseCode::NoError | ResponseCode::NXDomain => {
                self.part = None;
                self.answer = Some(answer);
                Next::Nothing
            }
            // RFC 6891, 7: a server that does not know EDNS.
            ResponseCode::FormErr | ResponseCode::NotImp if self.request.has_edns => {
                self.request = Request::new(&self.question, false);
                Next::Again
            }
            code => {
                self.failed(server, Failure::Refusal(code));
                Next::Nothing
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    Again,
    OverTcp,
}

/// One try of one server.
struct Exchange {
    server: SocketAddr,
    number: usize,
    edns: bool,
}

impl Exchange {
    fn ask(&self, open: &mut [&mut Asked], deadline: Deadline<'_>, tcp_only: bool) {
        for asked in &mut *open {
            asked.request = Request::new(&asked.question, self.edns);
        }
        if !tcp_only {
            return self.over_udp(open, deadline);
        }
        for at in 0..open.len() {
            let deadline = self.deadline_beside(open, deadline);
            self.over_tcp(open[at], &deadline);
        }
    }

    fn over_tcp(&self, asked: &mut Asked, deadline: &Deadline<'_>) {
        match asked.request.over_tcp(&asked.question, self.server, deadline) {
            Ok(answer) if answer.truncation => {
                asked.failed(self.number, Failure::Unreachable("an answer was cut over TCP too".to_owned()));
            }
            Ok(answer) => {
                if asked.take(self.number, answer) == Next::Again
                    && let Ok(answer) = asked.request.over_tcp(&asked.question, self.server, deadline)
                {
                    asked.take(self.number, answer);
                }
            }
            Err(error) => self.note(asked, &error),
        }
    }

    /// Once one question has addresses, the others are waited for a little only.
    fn deadline_beside<'a>(&self, open: &[&mut Asked], deadline: Deadline<'a>) -> Deadline<'a> {
        if open.iter().any(|asked| asked.has_addresses()) { deadline.at_most(GRACE) } else { deadline }
    }

    fn note(&self, asked: &mut Asked, error: &io::Error) {
        if error.kind() == ErrorKind::TimedOut {
            asked.failure = Failure::Silence;
        } else {
            asked.failed(self.number, Failure::Unreachable(error.to_string()));
        }
    }

    /// All at once, each from a socket of its own: some servers answer only the first of two questions that come from one
    /// port (resolv.conf(5), `single-request-reopen`). One whose answer was cut is asked again over TCP at once.
    fn over_udp(&self, open: &mut [&mut Asked], mut deadline: Deadline<'_>) {
        let mut waiting = Vec::new();
        for (at, asked) in open.iter_mut().enumerate() {
            match asked.request.send_to(self.server, &deadline) {
                Ok(socket) => waiting.push((at, socket)),
                Err(error) => self.note(asked, &error),
            }
        }
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut is_shortened = false;
        while !waiting.is_empty() {
            if !is_shortened && open.iter().any(|asked| asked.has_addresses()) {
                deadline = deadline.at_most(GRACE);
                is_shortened = true;
            }
            let sockets: Vec<&Stream> = waiting.iter().map(|(_, socket)| socket).collect();
            if let Err(error) = deadline.wait_for_any(&sockets, PollFlags::POLLIN) {
                for (at, _) in &waiting {
                    self.note(open[*at], &error);
                }
                break;
            }
            waiting.retain_mut(|(at, socket)| {
                let asked = &mut *open[*at];
                let answer = match socket.read(&mut buffer) {
                    Ok(length) => asked.request.answer(&asked.question, &buffer[..length]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
                    Err(error) => {
                        self.note(asked, &error);
                        return false;
                    }
                };
                // What is something else is no answer.
                let Some(answer) = answer else { return true };
                match asked.take(self.number, answer) {
                    Next::Nothing => false,
                    Next::OverTcp => {
                        // Some of the time is left for what else is waited for.
                        self.over_tcp(asked, &deadline.at_most(deadline.left() / 2));
                        false
                    }
                    Next::Again => socket.write(&asked.request.bytes).is_ok(),
                }
            });
        }
    }
}

/// A question on its way.
#[derive(Clone)]
struct Request {
    id: u16,
    has_edns: bool,
    bytes: Vec<u8>,
}

impl Request {
    fn new(question: &Query, edns: bool) -> Self {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.queries.push(question.clone());
        if edns {
            message.edns.get_or_insert_with(Edns::new).set_max_payload(LARGEST_DATAGRAM);
        }
        // A name and a type always fit.
        Self { id: message.metadata.id, has_edns: edns, bytes: message.to_vec().unwrap_or_default() }
    }

    /// Sends one datagram. The socket is connected, so it accepts datagrams of this server only and learns if no server listens.
    fn send_to(&self, server: SocketAddr, deadline: &Deadline<'_>) -> io::Result<Stream> {
        let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::from(descriptor::make(|| UdpSocket::bind((any, 0)))?);
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let mut socket = Stream::new(socket.into())?;
        deadline.until_done(&mut socket, PollFlags::POLLOUT, |socket| socket.write(&self.bytes))?;
        Ok(socket)
    }

    fn over_tcp(&self, question: &Query, server: SocketAddr, deadline: &Deadline<'_>) -> io::Result<Message> {
        let mut stream = deadline.connect(server)?;
        let length = u16::try_from(self.bytes.len()).unwrap_or(0).to_be_bytes();
        deadline.write_all(&mut stream, &[&length, self.bytes.as_slice()].concat())?;
        loop {
            let mut length = [0; 2];
            deadline.read_exact(&mut stream, &mut length)?;
            let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
            deadline.read_exact(&mut stream, &mut buffer)?;
            if let Some(answer) = self.answer(question, &buffer) {
                return Ok(answer);
            }
        }
    }

    /// An answer to this question; none where it is something else.
    fn answer(&self, question: &Query, bytes: &[u8]) -> Option<Message> {
        let message = Message::from_vec(bytes).ok()?;
        let is_answer = message.metadata.message_type == MessageType::Response && message.metadata.id == self.id;
        (is_answer && message.queries == [question.clone()]).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(resolv_conf: &str, host: &str) -> Vec<String> {
        let file = ResolvConf::of(resolv_conf.as_bytes());
        let system = System { servers: Vec::new(), edns: false, file };
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
        assert_eq!(candidates("search .\n", "c"), ["c."]);
        assert_eq!(candidates("search a.example\noptions no-tld-query\n", "c"), ["c.a.example."]);
        assert_eq!(candidates("search a.example\noptions ndots:0\n", "c"), ["c.", "c.a.example."]);
        assert_eq!(candidates("search \u{fc}.example a.example\n", "c"), ["c.a.example.", "c."]);
    }
}
