//! Connects to the first address of a host that accepts a connection.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use super::deadline::{Deadline, Stream};
use super::dns;

/// Connects to a host, which is a name or an address, in brackets where it is of IPv6.
pub fn connect(
    host: &str,
    port: u16,
    nameservers: Option<&[SocketAddr]>,
    deadline: &Deadline<'_>,
) -> Result<Stream, String> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let addresses = match bare.parse() {
        Ok(ip) => vec![ip],
        Err(_) => dns::addresses(bare, nameservers, deadline).map_err(|error| error.to_string())?,
    };
    connect_to_any(&in_turn(addresses), port, deadline).map_err(|error| match error.kind() {
        ErrorKind::TimedOut => "no connection in time".to_owned(),
        _ => format!("no connection: {error}"),
    })
}

/// Whatever is wrong with one of them, the next is tried.
fn connect_to_any(addresses: &[IpAddr], port: u16, deadline: &Deadline<'_>) -> io::Result<Stream> {
    let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
    for (number, ip) in addresses.iter().enumerate() {
        // A silent one leaves as much to each of the others, and to what comes after the connection.
        let shares = u32::try_from(addresses.len() - number).unwrap_or(u32::MAX).saturating_add(1);
        let is_last = number + 1 == addresses.len();
        let own = if is_last { *deadline } else { deadline.at_most(deadline.left() / shares) };
        match own.connect(SocketAddr::new(*ip, port)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
        if deadline.is_over() {
            break;
        }
    }
    Err(failure)
}

/// IPv4 and IPv6 by turns, so that a family that goes nowhere does not use the time up (RFC 8305, 4).
fn in_turn(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let is_v4_first = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (ones, others): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(|ip| ip.is_ipv4() == is_v4_first);
    let (mut ones, mut others) = (ones.into_iter(), others.into_iter());
    let mut all = Vec::new();
    loop {
        match (ones.next(), others.next()) {
            (None, None) => return all,
            (one, other) => all.extend(one.into_iter().chain(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::transport::deadline::Interrupt;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn families_take_turns() {
        let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"].map(ip).to_vec();
        assert_eq!(in_turn(all), ["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3"].map(ip));
        assert_eq!(in_turn(vec![ip("::1"), ip("127.0.0.1")]), ["::1", "127.0.0.1"].map(ip));
        assert!(in_turn(Vec::new()).is_empty());
    }

    #[test]
    fn an_address_that_cannot_be_connected_to_is_followed_by_the_next() {
        let interrupt = Interrupt::new().unwrap();
        let deadline = Deadline::after(&interrupt, Duration::from_secs(600));
        let listener = TcpListener::bind("127.0.0.9:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Refused, no such route or no such address here, not allowed.
        for bad in ["127.0.0.8", "2001:db8::1", "fe80::1", "255.255.255.255", "0.0.0.1"] {
            assert!(
                connect_to_any(&[ip(bad), ip("127.0.0.9")], port, &deadline.at_most(Duration::from_secs(30))).is_ok(),
                "{bad}"
            );
        }
        let error = connect_to_any(&[ip("127.0.0.8"), ip("127.0.0.7")], port, &deadline).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
