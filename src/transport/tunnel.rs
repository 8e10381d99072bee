//! A way through a proxy: CONNECT of HTTP (RFC 9110, 9.3.6) and SOCKS 5 (RFC 1928, RFC 1929). Errors are texts.

use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;

use data_encoding::BASE64;
use nix::poll::PollFlags;

use super::deadline::Deadline;
use super::head::HeadReader;
use super::proxy::Proxy;
use super::wire::Wire;

/// How much of an answer is read at a time.
const PIECE_BYTES: usize = 4096;

/// Has the proxy connect to the target, whose host is in brackets where it is an IPv6 address.
pub fn open(
    wire: &mut Wire,
    proxy: &Proxy,
    user_agent: &str,
    host: &str,
    port: u16,
    deadline: &Deadline<'_>,
) -> Result<(), String> {
    match proxy.scheme.as_str() {
        // Go lets the proxy look the name up with both.
        "socks5" | "socks5h" => socks5(wire, proxy.credentials.as_ref(), host, port, deadline),
        _ => connect(wire, proxy.credentials.as_ref(), user_agent, &format!("{host}:{port}"), deadline),
    }
}

type Credentials = (String, String);

fn connect(
    wire: &mut Wire,
    credentials: Option<&Credentials>,
    user_agent: &str,
    target: &str,
    deadline: &Deadline<'_>,
) -> Result<(), String> {
    let mut request = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {user_agent}\r\nProxy-Connection: Keep-Alive\r\n"
    );
    if let Some((user, password)) = credentials {
        let encoded = BASE64.encode(format!("{user}:{password}").as_bytes());
        request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
    }
    request.push_str("\r\n");
    deadline.write_all(wire, request.as_bytes()).map_err(broken)?;
    let mut reader = HeadReader::new(&[]);
    let mut piece = vec![0; PIECE_BYTES];
    let status = loop {
        let read = deadline.until_done(wire, PollFlags::POLLIN, |wire| wire.read(&mut piece)).map_err(broken)?;
        if read == 0 {
            return Err("the proxy closed the connection without an answer".to_owned());
        }
        let (used, head) = reader.push(&piece[..read]).map_err(|why| format!("the proxy: {why}"))?;
        if let Some(head) = head {
            // What follows is the server's already; an answer to CONNECT has no body.
            wire.unread(&piece[used..read]);
            break head.status;
        }
    };
    match status {
        200..=299 => Ok(()),
        401 | 407 => Err(format!("the proxy wants a user name and a password that it knows (HTTP {status})")),
        _ => Err(format!("the proxy refused (HTTP {status})")),
    }
}

fn socks5(
    wire: &mut Wire,
    credentials: Option<&Credentials>,
    host: &str,
    port: u16,
    deadline: &Deadline<'_>,
) -> Result<(), String> {
    const VERSION: u8 = 5;
    const NO_PASSWORD: u8 = 0;
    const PASSWORD: u8 = 2;
    const CONNECT: u8 = 1;
    let greeting: &[u8] =
        if credentials.is_some() { &[VERSION, 2, NO_PASSWORD, PASSWORD] } else { &[VERSION, 1, NO_PASSWORD] };
    deadline.write_all(wire, greeting).map_err(broken)?;
    match (receive::<2>(wire, deadline)?, credentials) {
        ([VERSION, NO_PASSWORD], _) => {}
        ([VERSION, PASSWORD], Some((user, password))) => {
            let too_long = |_| "its user name or password is longer than SOCKS allows (255 bytes)".to_owned();
            let mut request = vec![1];
            for text in [user, password] {
                request.push(u8::try_from(text.len()).map_err(too_long)?);
                request.extend_from_slice(text.as_bytes());
            }
            deadline.write_all(wire, &request).map_err(broken)?;
            let [_, status] = receive::<2>(wire, deadline)?;
            if status != 0 {
                return Err("the proxy does not know this user name and password".to_owned());
            }
        }
        ([VERSION, _], None) => return Err("the proxy wants a user name and a password".to_owned()),
        ([VERSION, _], Some(_)) => return Err("the proxy takes no user name and password".to_owned()),
        _ => return Err(NOT_SOCKS.to_owned()),
    }
    let mut request = vec![VERSION, CONNECT, 0];
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse() {
        Ok(IpAddr::V4(ip)) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        Err(_) => {
            let length =
                u8::try_from(bare.len()).map_err(|_| "the host's name is longer than SOCKS allows".to_owned())?;
            request.extend_from_slice(&[3, length]);
            request.extend_from_slice(bare.as_bytes());
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    deadline.write_all(wire, &request).map_err(broken)?;
    let [version, reply, _, kind] = receive::<4>(wire, deadline)?;
    if version != VERSION {
        return Err(NOT_SOCKS.to_owned());
    }
    if reply != 0 {
        return Err(format!("the proxy refused: {}", refusal(reply)));
    }
    // The address that it uses, and the port.
    let length = match kind {
        1 => 4,
        3 => usize::from(receive::<1>(wire, deadline)?[0]),
        4 => 16,
        _ => return Err(NOT_SOCKS.to_owned()),
    };
    for _ in 0..length + 2 {
        receive::<1>(wire, deadline)?;
    }
    Ok(())
}

const NOT_SOCKS: &str = "the proxy does not speak SOCKS 5";

/// RFC 1928, 6.
fn refusal(reply: u8) -> String {
    match reply {
        1 => "it has failed".to_owned(),
        2 => "its rules do not allow it".to_owned(),
        3 => "the server's network cannot be reached".to_owned(),
        4 => "the server cannot be reached".to_owned(),
        5 => "the server refused the connection".to_owned(),
        6 => "it took too long".to_owned(),
        7 => "it makes no connections".to_owned(),
        8 => "it does not take this kind of address".to_owned(),
        other => format!("number {other}"),
    }
}

fn receive<const N: usize>(wire: &mut Wire, deadline: &Deadline<'_>) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    deadline.read_exact(wire, &mut bytes).map_err(broken)?;
    Ok(bytes)
}

fn broken(error: io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut => "the proxy did not answer in time".to_owned(),
        ErrorKind::UnexpectedEof => "the proxy closed the connection".to_owned(),
        _ => format!("the connection to the proxy broke: {}", super::tls::in_words(&error)),
    }
}
