//! What is known of a name is used, whatever becomes of the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ondat_telemetry::transport::deadline::{Deadline, Interrupt};
use ondat_telemetry::transport::dns;

use crate::scene::{AMPLE, SHORT};
use crate::server::{Question, Reply, Server, Transport};
use crate::wire::{A, ASKED, FORMERR, NXDOMAIN, REFUSED, SERVFAIL, answer, record, truncated, with_code};

const NAME: &str = "collector.names.test";

/// What a server says to one kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Address,
    Nothing,
    Silence,
    Code(u8),
    Garbage,
    /// Cut over UDP, and nobody answers over TCP.
    CutWithoutTcp,
    /// Cut over UDP, and the connection ends in the middle over TCP.
    CutAndBroken,
    /// Cut over UDP, whole over TCP.
    Cut,
    /// Somebody else's answer.
    OtherQuestion,
}

fn reply(question: &Question, says: Says) -> Vec<Reply> {
    let (kind, _) = question.kind();
    let data: &[u8] = if kind == A { &[127, 0, 0, 1] } else { &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] };
    let whole = answer(question, &[record(ASKED, kind, data)]);
    let message = |message| vec![Reply::Message(message)];
    match (says, question.transport) {
        (Says::Address, _) | (Says::Cut, Transport::Tcp) => message(whole),
        (Says::Nothing, _) => message(answer(question, &[])),
        (Says::Silence, _) | (Says::CutWithoutTcp, Transport::Tcp) => Vec::new(),
        (Says::Code(code), _) => message(with_code(answer(question, &[]), code)),
        (Says::Garbage, _) => message(whole[..20].to_vec()),
        (Says::CutAndBroken, Transport::Tcp) => vec![Reply::Stream(vec![0, 200, 1, 2, 3])],
        (Says::Cut | Says::CutWithoutTcp | Says::CutAndBroken, Transport::Udp) => {
            message(truncated(answer(question, &[])))
        }
        (Says::OtherQuestion, _) => {
            let mut other = whole;
            other[14] ^= 1;
            message(other)
        }
    }
}

fn server(v4: Says, v6: Says) -> Server {
    Server::start(move |question| reply(question, if question.kind().0 == A { v4 } else { v6 }))
}

fn looked_up(servers: &[SocketAddr], timeout: std::time::Duration) -> Result<Vec<IpAddr>, String> {
    let interrupt = Interrupt::new().unwrap();
    dns::addresses(NAME, Some(servers), &Deadline::after(&interrupt, timeout)).map_err(|error| error.to_string())
}

const FAILURES: [Says; 9] = [
    Says::Nothing,
    Says::Silence,
    Says::Code(NXDOMAIN),
    Says::Code(SERVFAIL),
    Says::Code(REFUSED),
    Says::Garbage,
    Says::CutWithoutTcp,
    Says::CutAndBroken,
    Says::OtherQuestion,
];

#[test]
fn an_address_that_came_is_used_whatever_becomes_of_the_other_family() {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let mut cases = vec![(Says::Address, Says::Address, vec![v4, v6]), (Says::Cut, Says::Cut, vec![v4, v6])];
    for failure in FAILURES {
        cases.push((Says::Address, failure, vec![v4]));
        cases.push((failure, Says::Address, vec![v6]));
        cases.push((Says::Cut, failure, vec![v4]));
    }
    std::thread::scope(|scope| {
        for (says_v4, says_v6, expected) in cases {
            scope.spawn(move || {
                let server = server(says_v4, says_v6);
                let found = looked_up(&[server.address], AMPLE);
                assert_eq!(found, Ok(expected), "A {says_v4:?}, AAAA {says_v6:?}");
            });
        }
    });
}

#[test]
fn a_server_that_does_not_answer_is_followed_by_the_next() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::thread::scope(|scope| {
        for failure in FAILURES.into_iter().filter(|says| !matches!(says, Says::Nothing | Says::Code(NXDOMAIN))) {
            scope.spawn(move || {
                let (bad, good) = (server(failure, failure), server(Says::Address, Says::Nothing));
                let found = looked_up(&[bad.address, good.address], AMPLE);
                assert_eq!(found.map(|found| found.len()), Ok(1), "{failure:?}");
            });
        }
        // One family here, the other there.
        scope.spawn(|| {
            let (one, other) =
                (server(Says::Code(SERVFAIL), Says::Nothing), server(Says::Address, Says::Code(REFUSED)));
            assert_eq!(looked_up(&[one.address, other.address], AMPLE).map(|found| found.len()), Ok(1));
        });
        scope.spawn(|| {
            let good = server(Says::Nothing, Says::Address);
            assert_eq!(looked_up(&[nobody, good.address], AMPLE).map(|found| found.len()), Ok(1));
        });
        // Long before a silent one would have been given up.
        scope.spawn(|| {
            let (silent, good) = (server(Says::Silence, Says::Silence), server(Says::Address, Says::Nothing));
            assert_eq!(looked_up(&[silent.address, good.address], SHORT).map(|found| found.len()), Ok(1));
        });
    });
}

#[test]
fn a_name_that_is_not_there_is_said_in_words() {
    for (v4, v6, words) in [
        (Says::Nothing, Says::Nothing, "no such name"),
        (Says::Code(NXDOMAIN), Says::Nothing, "no such name"),
        (Says::Code(SERVFAIL), Says::Code(SERVFAIL), "Server Failure"),
        (Says::Nothing, Says::Code(REFUSED), "Refused"),
        (Says::Code(FORMERR), Says::Code(FORMERR), "Form"),
    ] {
        let server = server(v4, v6);
        let error = looked_up(&[server.address], AMPLE).unwrap_err();
        assert!(error.contains(words) && error.contains(NAME), "{v4:?}, {v6:?}: {error}");
    }
}

#[test]
fn localhost_is_never_asked_for() {
    let server = server(Says::Address, Says::Address);
    let interrupt = Interrupt::new().unwrap();
    for name in ["localhost", "LOCALHOST", "localhost.", "a.b.localhost"] {
        let found = dns::addresses(name, Some(&[server.address]), &Deadline::after(&interrupt, AMPLE)).unwrap();
        assert_eq!(found, [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)], "{name}");
    }
    assert!(server.end().is_empty());
}
