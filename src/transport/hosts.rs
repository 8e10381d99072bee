//! Names that are known without DNS, hosts(5), as glibc reads the file: as bytes, and every line that contains the
//! name. The file is read once and only the addresses are kept, so memory does not grow with it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::path::Path;

use super::deadline::Deadline;

/// The place of the file.
const HOSTS: &str = "/etc/hosts";
/// The longest text of an address, with room to spare; what is longer is none.
const ADDRESS_BYTES: usize = 64;
/// The most addresses that one name may have: more than anybody tries.
const MOST_ADDRESSES: usize = 64;

/// The addresses of this name, in the order of the file; none where the file does not know it, or is not there.
/// [`ErrorKind::TimedOut`] where the deadline comes first.
pub fn lookup(name: &str, deadline: &Deadline<'_>) -> io::Result<Vec<IpAddr>> {
    let mut search = Search::new(name.as_bytes());
    let read = deadline.read_file(Path::new(HOSTS), |bytes| {
        search.push(bytes);
        if search.found.len() < MOST_ADDRESSES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    match read {
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(error),
        // Without the file, or with a part of it, what is known is used.
        _ => Ok(search.finish()),
    }
}

/// Whether this is a name of this machine, which is never looked up (RFC 6761, 6.3).
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Where this machine is.
pub fn loopback() -> Vec<IpAddr> {
    vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

/// One name, and what has been read of the file.
struct Search<'a> {
    name: &'a [u8],
    found: Vec<IpAddr>,
    place: Place,
}

/// Where in a line.
enum Place {
    /// Before or in the address.
    Address(Vec<u8>),
    /// Between names.
    Between(IpAddr),
    /// In a name, of which so many bytes are those of the one that is looked for; none where one is not.
    Name(IpAddr, Option<usize>),
    /// In what does not count.
    Rest,
}

impl<'a> Search<'a> {
    fn new(name: &'a [u8]) -> Self {
        Self { name, found: Vec::new(), place: Place::Address(Vec::new()) }
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.take(*byte);
        }
    }

    /// What was found, with the last line, which may have no end.
    fn finish(mut self) -> Vec<IpAddr> {
        self.take(b'\n');
        self.found
    }

    fn take(&mut self, byte: u8) {
        // A NUL ends what C reads of the line.
        let ends_content = matches!(byte, b'#' | b'\n' | 0);
        // isspace(3).
        let is_space = ends_content || matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c);
        match &mut self.place {
            Place::Rest => {}
            Place::Address(text) if is_space => {
                if !text.is_empty() {
                    self.place = address(text).map_or(Place::Rest, Place::Between);
                }
            }
            Place::Address(text) if text.len() < ADDRESS_BYTES => text.push(byte),
            Place::Address(_) => self.place = Place::Rest,
            Place::Between(address) => {
                if !is_space {
                    self.place = Place::Name(*address, self.same(0, byte));
                }
            }
            Place::Name(address, same) => {
                let (address, same) = (*address, *same);
                if !is_space {
                    self.place = Place::Name(address, same.and_then(|at| self.same(at, byte)));
                } else if same == Some(self.name.len()) {
                    if self.found.len() < MOST_ADDRESSES {
                        self.found.push(address);
                    }
                    // The line has said what it has to say.
                    self.place = Place::Rest;
                } else {
                    self.place = Place::Between(address);
                }
            }
        }
        if byte == b'\n' {
            self.place = Place::Address(Vec::new());
        } else if ends_content {
            self.place = Place::Rest;
        }
    }

    fn same(&self, at: usize, byte: u8) -> Option<usize> {
        self.name.get(at).filter(|own| own.eq_ignore_ascii_case(&byte)).map(|_| at + 1)
    }
}

/// As inet_pton(3) reads it: without a scope, and an IPv4 address whole.
fn address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &[u8], name: &str) -> String {
        let whole = {
            let mut search = Search::new(name.as_bytes());
            search.push(file);
            search.finish()
        };
        let mut search = Search::new(name.as_bytes());
        file.iter().for_each(|byte| search.push(&[*byte]));
        assert_eq!(search.finish(), whole);
        whole.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_name_is_found_on_every_line_it_stands_on() {
        let file =
            b"127.0.0.1 localhost\n192.0.2.1\ta.test  b.test\n 192.0.2.2 c.test\x0bB.TEST # b.test\n2001:db8::1 b.test";
        assert_eq!(found(file, "b.test"), "192.0.2.1 192.0.2.2 2001:db8::1");
        assert_eq!(found(file, "A.test"), "192.0.2.1");
        assert_eq!(found(file, "test"), "");
        assert_eq!(found(file, "a.tes"), "");
        assert_eq!(found(file, "a.test."), "");
        assert_eq!(found(b"192.0.2.1 a a a\n", "a"), "192.0.2.1");
    }

    #[test]
    fn bytes_are_bytes() {
        for (file, is_found) in [
            (&b"# Z\xfcrich\n192.0.2.1 a\n"[..], true),
            (b"192.0.2.1 Z\xfcrich a\n", true),
            (b"\xff\xfe\n192.0.2.1 a # Z\xfcrich", true),
            (b"192.0.2.1 a\r\n", true),
            (b"\xef\xbb\xbf192.0.2.1 a\n", false),
            (b"192.0.2.1 b\0a\n", false),
            (b"\0\n192.0.2.1 a\0\n", true),
            (b"192.0.2.1 b\0\r192.0.2.2 a\n", false),
            (b"192.0.2.1 a\xfc\n", false),
            (b"192.0.2.1 b#a a\n", false),
            (b"192.0.2.1 a#b\n", true),
            (b"#192.0.2.1 a\n", false),
            (b"192.0.2.1#a a\n", false),
        ] {
            assert_eq!(!found(file, "a").is_empty(), is_found, "{file:?}");
        }
    }

    #[test]
    fn what_is_no_address_makes_no_line() {
        for text in [
            "127.1",
            "127.0.0.01",
            "0x7f.0.0.1",
            "fe80::1%lo",
            "fe80::1%1",
            "1.2.3.4.5",
            "::ffff:1.2.3",
            "a",
            ":::",
            "00001::1",
        ] {
            assert_eq!(found(format!("{text} a\n").as_bytes(), "a"), "", "{text}");
        }
        let long = format!("{} a\n192.0.2.1 a\n", "1".repeat(100_000));
        assert_eq!(found(long.as_bytes(), "a"), "192.0.2.1");
        assert_eq!(found(b"::ffff:192.0.2.1 a\n", "a"), "::ffff:192.0.2.1");
    }

    #[test]
    fn memory_does_not_follow_the_file() {
        let mut search = Search::new(b"a");
        for _ in 0..50_000 {
            search.push(b"0.0.0.0 ads.example a\n");
        }
        search.push(&b"x".repeat(1_000_000));
        assert_eq!(search.finish().len(), MOST_ADDRESSES);
    }

    #[test]
    fn localhost_and_what_is_below_it_is_this_machine() {
        for name in ["localhost", "LocalHost", "localhost.", "a.localhost", "a.b.localhost."] {
            assert!(is_localhost(name), "{name}");
        }
        for name in ["localhost.example", "alocalhost", "localhost.localdomain", "", "."] {
            assert!(!is_localhost(name), "{name}");
        }
    }
}
