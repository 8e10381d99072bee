//! Which DNS servers are asked, and how: resolv.conf(5) as glibc reads it (res_init(3), version 2.36), as bytes. Lines
//! count from their first column, the last `search` or `domain` wins, options are recognised by their beginning, and
//! three servers are used. The environment (`LOCALDOMAIN`, `RES_OPTIONS`) is not read: it belongs to the host.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::net::if_::if_nametoindex;

use super::deadline::Deadline;

/// The place of the file.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The port of DNS servers, RFC 1035, 4.2.
const PORT: u16 = 53;
/// What is kept of one line: a search list longer than this is cut.
const LINE_BYTES: usize = 32 * 1024;
/// `MAXNS`, `RES_MAXNDOTS`, `RES_MAXRETRANS` and `RES_MAXRETRY` of <resolv.h>.
const MOST_SERVERS: usize = 3;
const MOST_DOTS: i32 = 15;
const LONGEST_TIMEOUT: i32 = 30;
const MOST_ATTEMPTS: i32 = 5;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers, in their order: at least one.
    pub servers: Vec<SocketAddr>,
    /// What is appended to names, in bytes; without `search` and `domain` the domain of this machine's name.
    pub search: Vec<Vec<u8>>,
    /// A name with at least so many dots is tried as it is at first.
    pub dots: usize,
    /// How long one server is waited for, where the file says so.
    pub timeout: Option<Duration>,
    /// How often the servers are tried, where the file says so.
    pub attempts: Option<usize>,
    /// The servers take turns.
    pub rotate: bool,
    /// EDNS is spoken.
    pub edns: bool,
    /// TCP is spoken from the first.
    pub tcp_only: bool,
    /// IPv6 addresses are not asked for.
    pub no_ipv6: bool,
    /// A name without a dot is not tried as it is.
    pub no_bare_name: bool,
}

impl ResolvConf {
    /// What the file says now; what it says where it is not there. [`ErrorKind::TimedOut`] where the deadline comes first.
    pub fn read(deadline: &Deadline<'_>) -> io::Result<Self> {
        let mut reader = Reader::default();
        let read = deadline.read_file(Path::new(RESOLV_CONF), |bytes| {
            reader.push(bytes);
            ControlFlow::Continue(())
        });
        match read {
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(error),
            _ => Ok(reader.finish(own_domain)),
        }
    }
}

#[cfg(test)]
impl ResolvConf {
    /// What a file of these bytes says, on a machine without a domain.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut reader = Reader::default();
        reader.push(bytes);
        reader.finish(|| None)
    }
}

/// The domain of this machine's name.
fn own_domain() -> Option<Vec<u8>> {
    let name = nix::unistd::gethostname().ok()?;
    let name = name.as_bytes();
    name.iter().position(|byte| *byte == b'.').map(|dot| name[dot + 1..].to_vec())
}

/// Reads the file as it comes.
#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    servers: Vec<SocketAddr>,
    search: Option<Vec<Vec<u8>>>,
    options: Options,
}

#[derive(Clone, Copy, Default)]
struct Options {
    dots: Option<i32>,
    timeout: Option<i32>,
    attempts: Option<i32>,
    rotate: bool,
    edns: bool,
    tcp_only: bool,
    no_ipv6: bool,
    no_bare_name: bool,
}

impl Reader {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let content = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = LINE_BYTES - self.line.len();
            self.line.extend_from_slice(&content[..content.len().min(room)]);
            if content.len() < piece.len() {
                self.take_line();
            }
        }
    }

    fn finish(mut self, own_domain: impl FnOnce() -> Option<Vec<u8>>) -> ResolvConf {
        self.take_line();
        if self.servers.is_empty() {
            self.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        let options = self.options;
        let positive = |number: i32| u64::try_from(number).unwrap_or(0).max(1);
        ResolvConf {
            servers: self.servers,
            search: self.search.unwrap_or_else(|| own_domain().into_iter().collect()),
            dots: usize::try_from(options.dots.unwrap_or(1)).unwrap_or(0),
            timeout: options.timeout.map(|seconds| Duration::from_secs(positive(seconds))),
            attempts: options.attempts.map(|times| usize::try_from(positive(times)).unwrap_or(1)),
            rotate: options.rotate,
            edns: options.edns,
            tcp_only: options.tcp_only,
            no_ipv6: options.no_ipv6,
            no_bare_name: options.no_bare_name,
        }
    }

    fn take_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        // A NUL ends what C reads of it.
        let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let Some((keyword, rest)) = line.iter().position(is_blank).map(|at| line.split_at(at)) else { return };
        let mut words = rest.split(is_blank).filter(|word| !word.is_empty());
        match keyword {
            b"nameserver" => {
                if let Some(server) = words.next().and_then(server)
                    && self.servers.len() < MOST_SERVERS
                {
                    self.servers.push(server);
                }
            }
            // With nothing behind it, what was said before holds.
            b"domain" => {
                if let Some(domain) = words.next() {
                    self.search = Some(vec![domain.to_vec()]);
                }
            }
            b"search" => {
                let search: Vec<Vec<u8>> = words.map(<[u8]>::to_vec).collect();
                if !search.is_empty() {
                    self.search = Some(search);
                }
            }
            b"options" => words.for_each(|word| self.options.take(word)),
            // Comments too.
            _ => {}
        }
    }
}

impl Options {
    fn take(&mut self, word: &[u8]) {
        let number = |prefix: &str, most: i32| word.strip_prefix(prefix.as_bytes()).map(|text| atoi(text).min(most));
        if let Some(dots) = number("ndots:", MOST_DOTS) {
            self.dots = Some(dots);
        } else if let Some(timeout) = number("timeout:", LONGEST_TIMEOUT) {
            self.timeout = Some(timeout);
        } else if let Some(attempts) = number("attempts:", MOST_ATTEMPTS) {
            self.attempts = Some(attempts);
        } else if word.starts_with(b"rotate") {
            self.rotate = true;
        } else if word.starts_with(b"edns0") {
            self.edns = true;
        } else if word.starts_with(b"use-vc") {
            self.tcp_only = true;
        } else if word.starts_with(b"no-aaaa") {
            self.no_ipv6 = true;
        } else if word.starts_with(b"no_tld_query") || word.starts_with(b"no-tld-query") {
            self.no_bare_name = true;
        }
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// As atoi(3).
fn atoi(text: &[u8]) -> i32 {
    let text = text.trim_ascii_start();
    let (is_negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0_i32, |number, digit| number.saturating_mul(10).saturating_add(i32::from(digit - b'0')));
    if is_negative { -number } else { number }
}

/// A server's address. The scope says on which link a link-local one is (RFC 4007, 11), by name or number; one that is not
/// understood is as good as none.
fn server(word: &[u8]) -> Option<SocketAddr> {
    let word = std::str::from_utf8(word).ok()?;
    if let Some(ip) = inet_aton(word) {
        return Some(SocketAddr::new(IpAddr::V4(ip), PORT));
    }
    let (address, scope) = word.split_once('%').unwrap_or((word, ""));
    let ip: Ipv6Addr = address.parse().ok()?;
    let is_of_a_link = ip.is_unicast_link_local() || ip.segments()[0] & 0xff0f == 0xff02;
    let by_name = || if is_of_a_link { if_nametoindex(scope).ok() } else { None };
    let by_number = || Some(scope).filter(|scope| scope.bytes().all(|b| b.is_ascii_digit()))?.parse().ok();
    Some(SocketAddrV6::new(ip, PORT, 0, by_name().or_else(by_number).unwrap_or(0)).into())
}

/// As inet_aton(3): one to four numbers, decimal, octal or hexadecimal, of which the last fills what is left.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, firsts) = parts.split_last()?;
    if firsts.len() > 3 || firsts.iter().any(|part| *part > 0xff) {
        return None;
    }
    let bits = 32 - 8 * u32::try_from(firsts.len()).ok()?;
    if bits < 32 && *last >> bits != 0 {
        return None;
    }
    let high = firsts.iter().enumerate().map(|(at, part)| part << (24 - 8 * at)).sum::<u32>();
    Some(Ipv4Addr::from(high | last))
}

fn number(text: &str) -> Option<u32> {
    let (digits, base) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) { None } else { u32::from_str_radix(digits, base).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8]) -> ResolvConf {
        let mut whole = Reader::default();
        whole.push(file);
        let whole = whole.finish(|| Some(b"own.example".to_vec()));
        let mut reader = Reader::default();
        file.iter().for_each(|byte| reader.push(&[*byte]));
        assert_eq!(reader.finish(|| Some(b"own.example".to_vec())), whole);
        whole
    }

    fn servers(file: &str) -> String {
        read(file.as_bytes()).servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn servers_as_glibc_takes_them() {
        let loopback = if_nametoindex("lo").unwrap();
        for (file, expected) in [
            ("nameserver 192.0.2.1\n", "192.0.2.1:53"),
            ("nameserver\t192.0.2.1 trailing words", "192.0.2.1:53"),
            ("nameserver 192.0.2.1#5353\n", "127.0.0.1:53"),
            ("nameserver 127.1\n", "127.0.0.1:53"),
            ("nameserver 0x7f.0.0.2\nnameserver 0300.0.2.1\n", "127.0.0.2:53 192.0.2.1:53"),
            ("nameserver 256.0.0.1\nnameserver nowhere\n", "127.0.0.1:53"),
            (" nameserver 192.0.2.1\n", "127.0.0.1:53"),
            ("#nameserver 192.0.2.1\n;nameserver 192.0.2.1\n", "127.0.0.1:53"),
            ("NAMESERVER 192.0.2.1\nnameserver192.0.2.1\nnameserver\n", "127.0.0.1:53"),
            ("", "127.0.0.1:53"),
            (
                "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
                "192.0.2.1:53 192.0.2.2:53 192.0.2.3:53",
            ),
            ("nameserver 2001:db8::1\n", "[2001:db8::1]:53"),
            ("nameserver fe80::1%7\n", "[fe80::1%7]:53"),
            ("nameserver fe80::1%no-such-link\n", "[fe80::1]:53"),
            ("nameserver 2001:db8::1%lo\n", "[2001:db8::1]:53"),
            ("nameserver 192.0.2.1\0 \nnameserver 192.0.2.2\n", "192.0.2.1:53 192.0.2.2:53"),
            ("nameserver 192.0.2.1\r\n", "127.0.0.1:53"),
        ] {
            assert_eq!(servers(file), expected, "{file:?}");
        }
        assert_eq!(servers("nameserver fe80::1%lo\n"), format!("[fe80::1%{loopback}]:53"));
    }

    #[test]
    fn the_last_search_list_holds() {
        for (file, expected) in [
            ("search a.example b.example\n", "a.example b.example"),
            ("search a.example\nsearch b.example\n", "b.example"),
            ("search a.example\ndomain b.example c.example\n", "b.example"),
            ("domain b.example\nsearch a.example\t c.example\n", "a.example c.example"),
            ("search a.example\nsearch\nsearch \ndomain \n", "a.example"),
            ("", "own.example"),
            ("search .\n", "."),
        ] {
            assert_eq!(String::from_utf8_lossy(&read(file.as_bytes()).search.join(&b' ')), expected, "{file:?}");
        }
    }

    #[test]
    fn options_are_known_by_how_they_begin() {
        let options = |text: &str| read(format!("options {text}\n").as_bytes());
        assert_eq!(options("ndots:5 timeout:7 attempts:4").dots, 5);
        assert_eq!(options("ndots:99").dots, 15);
        assert_eq!(options("ndots:x").dots, 0);
        assert_eq!(options("timeout:7").timeout, Some(Duration::from_secs(7)));
        assert_eq!(options("timeout:0 timeout:-4").timeout, Some(Duration::from_secs(1)));
        assert_eq!(options("timeout:99999999999").timeout, Some(Duration::from_secs(30)));
        assert_eq!((options("attempts:4").attempts, options("attempts:9").attempts), (Some(4), Some(5)));
        let many = options("rotate edns0\tuse-vc no-aaaa no-tld-query trust-ad unknown");
        assert!(many.rotate && many.edns && many.tcp_only && many.no_ipv6 && many.no_bare_name);
        assert!(options("use-vcx").tcp_only && !options("xuse-vc").tcp_only && !options("USE-VC").tcp_only);
        let none = read(b"options\n options use-vc\noptionsuse-vc\n");
        assert!(!none.tcp_only && none.timeout.is_none() && none.attempts.is_none() && none.dots == 1);
    }

    #[test]
    fn bytes_are_bytes_and_memory_does_not_follow_them() {
        let mut file = b"# Z\xfcrich\nsearch \xff\xfe.example ok.example\n".to_vec();
        file.extend(b"nameserver 192.0.2.1 \xff\n");
        file.extend(b"x".repeat(3_000_000));
        file.extend(b"\nnameserver 192.0.2.2");
        assert_eq!(read(&file).servers.len(), 2);
        assert_eq!(read(&file).search, [&b"\xff\xfe.example"[..], b"ok.example"]);
    }
}
