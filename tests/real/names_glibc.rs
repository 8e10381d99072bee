//! Names as glibc finds them: hundreds of pairs of resolv.conf and hosts, made at random from what stands in such files and
//! what does not belong there, and `getent ahosts`, which asks getaddrinfo(3), about the same name in the same namespaces.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ondat_telemetry::transport::deadline::{Deadline, Interrupt};
use ondat_telemetry::transport::dns;

use crate::support::{TempDir, succeed};

const PAIRS: u64 = 400;
const A: u16 = 1;
const AAAA: u16 = 28;
const DATE: u16 = 60;

/// Chance that is the same in every run (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[usize::try_from(self.next() % all.len() as u64).unwrap()]
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

/// What is looked up.
const NAMES: [&str; 9] =
    ["a.test", "b.test", "A.Test", "c", "deep.b.c.test", "a-b.test", "a_b.test", "a.test.", "nowhere.test"];

fn hosts(chance: &mut Chance) -> Vec<u8> {
    let addresses: [&[u8]; 22] = [
        b"192.0.2.1",
        b"192.0.2.2",
        b"127.0.0.1",
        b"2001:db8::1",
        b"2001:DB8:0:0::2",
        b"::1",
        b"::ffff:192.0.2.9",
        b"fe80::1",
        b"fe80::1%lo",
        b"127.1",
        b"0x7f000001",
        b"192.0.2.01",
        b"256.1.1.1",
        b"1.2.3",
        b"1.2.3.4.5",
        b"::ffff:1.2.3",
        b"x",
        b"\xff\xfe",
        b"1:2:3:4:5:6:7::",
        b"1:2:3:4:5:6:7:8:9",
        b"00001::1",
        b"192.0.2.3/24",
    ];
    let names: [&[u8]; 15] = [
        b"a.test",
        b"b.test",
        b"A.TEST",
        b"c",
        b"deep.b.c.test",
        b"a-b.test",
        b"a_b.test",
        b"a.test.",
        b"xa.test",
        b"a.testx",
        b"Z\xfcrich",
        b"\xc3\xbc.test",
        b"a.test#b.test",
        b"#",
        b"a.test#\0b.test",
    ];
    let blanks: [&[u8]; 7] = [b" ", b"\t", b"  \t ", b"\x0b", b"\x0c", b"\r", b" "];
    let ends: [&[u8]; 6] = [b"\n", b"\n", b"\r\n", b" \n", b" # a.test\n", b"\n\n"];
    let mut file = Vec::new();
    for _ in 0..chance.next() % 12 {
        if chance.one_in(8) {
            file.extend_from_slice(chance.of(&[
                &b"# Z\xfcrich a.test\n"[..],
                b"\n",
                b"   \n",
                b"\0\n",
                b"#\n",
                b";192.0.2.7 a.test\n",
            ]));
            continue;
        }
        if chance.one_in(6) {
            file.extend_from_slice(chance.of(&blanks));
        }
        file.extend_from_slice(chance.of(&addresses));
        for _ in 0..1 + chance.next() % 3 {
            file.extend_from_slice(chance.of(&blanks));
            file.extend_from_slice(chance.of(&names));
        }
        file.extend_from_slice(chance.of(&ends));
    }
    if chance.one_in(4) {
        file.extend_from_slice(b"192.0.2.77 a.test");
    }
    if chance.one_in(40) {
        file.extend(b"0.0.0.0 ads.test\n".repeat(3000));
        file.extend(b"192.0.2.78 ");
        file.extend(b"x".repeat(20_000));
        file.extend(b" b.test\n");
    }
    file
}

fn resolv_conf(chance: &mut Chance) -> Vec<u8> {
    let servers: [&[u8]; 13] = [
        b"127.0.0.1",
        b"127.0.0.2",
        b"127.1",
        b"0x7f.0.0.2",
        b"0177.0.0.1",
        b"::1",
        b"127.0.0.1#53",
        b"127.0.0.2 words",
        b"nowhere",
        b"127.0.0.3\t# comment",
        b"::1%lo",
        b"127.0.0.2\r",
        b"\xfc",
    ];
    let domains: [&[u8]; 6] = [b"test", b"b.c.test", b"Test.", b".", b"\xfc.test", b"other.test"];
    let options: [&[u8]; 14] = [
        b"ndots:0",
        b"ndots:2",
        b"ndots:99",
        b"ndots:x",
        b"timeout:2",
        b"attempts:2",
        b"edns0",
        b"use-vc",
        b"no-aaaa",
        b"rotate",
        b"no-tld-query",
        b"unknown:1",
        b"use-vcx",
        b"Z\xfcrich",
    ];
    let mut file = Vec::new();
    for _ in 0..chance.next() % 8 {
        if chance.one_in(10) {
            file.extend_from_slice(chance.of(&[&b" "[..], b"\t", b"#", b";", b"\0", b"x"]));
        }
        let (keyword, words, most): (&[u8], &[&[u8]], u64) = match chance.next() % 7 {
            0..=2 => (b"nameserver", &servers, 1),
            3 => (b"search", &domains, 3),
            4 => (b"domain", &domains, 2),
            5 => (b"options", &options, 3),
            // glibc 2.36 never comes back from a word here that is no address.
            _ => (b"sortlist", &[b"192.0.2.0"], 1),
        };
        file.extend_from_slice(keyword);
        for _ in 0..1 + chance.next() % most {
            file.extend_from_slice(chance.of(&[&b" "[..], b"\t", b"  "]));
            file.extend_from_slice(chance.of(words));
        }
        file.extend_from_slice(chance.of(&[&b"\n"[..], b"\n", b"\n", b" \n", b"\t\n", b"\n\n"]));
    }
    // What glibc waits for takes time.
    if !file.windows(8).any(|part| part == b"timeout:") {
        file.extend_from_slice(b"options timeout:1 attempts:1\n");
    }
    file
}

/// A question: to whom, over what, which name and type.
type Asked = (IpAddr, bool, String, u16);

/// Servers at the places that resolv.conf may name. What they say of a name is in the name alone.
struct Servers(Arc<Mutex<BTreeSet<Asked>>>);

impl Servers {
    fn start() -> Self {
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let here =
            [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)].map(IpAddr::V4);
        for ip in here.into_iter().chain([IpAddr::V6(Ipv6Addr::LOCALHOST)]) {
            let (udp, tcp) = (UdpSocket::bind((ip, 53)).unwrap(), TcpListener::bind((ip, 53)).unwrap());
            let (by_udp, by_tcp) = (Arc::clone(&asked), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut bytes = [0; 65_536];
                while let Ok((length, asker)) = udp.recv_from(&mut bytes) {
                    let _ = udp.send_to(&reply(&by_udp, ip, false, &bytes[..length]), asker);
                }
            });
            std::thread::spawn(move || {
                for stream in tcp.incoming() {
                    let (mut stream, asked) = (stream.unwrap(), Arc::clone(&by_tcp));
                    // glibc asks both questions on one connection.
                    std::thread::spawn(move || {
                        let mut length = [0; 2];
                        while stream.read_exact(&mut length).is_ok() {
                            let mut bytes = vec![0; u16::from_be_bytes(length).into()];
                            stream.read_exact(&mut bytes).unwrap();
                            let reply = reply(&asked, ip, true, &bytes);
                            let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                            stream.write_all(&[&length, reply.as_slice()].concat()).unwrap();
                        }
                    });
                }
            });
        }
        Self(asked)
    }

    /// What was asked since the last time.
    fn asked(&self) -> BTreeSet<Asked> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn reply(asked: &Mutex<BTreeSet<Asked>>, ip: IpAddr, is_tcp: bool, question: &[u8]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap();
    let kind = u16::from_be_bytes([question[end + 1], question[end + 2]]);
    let mut name = String::new();
    let mut at = 12;
    while at < end {
        let length = usize::from(question[at]);
        name.push_str(&String::from_utf8_lossy(&question[at + 1..=at + length]).to_ascii_lowercase());
        name.push('.');
        at += 1 + length;
    }
    asked.lock().unwrap().insert((ip, is_tcp, name.clone(), kind));
    // Where a name has addresses, and which.
    let hash = name.bytes().fold(7_u8, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte));
    // What no host can have is not there: glibc takes no answer for it, and then goes no further in the search list.
    let hash = if name.is_ascii() { hash } else { 4 };
    let data: Vec<Vec<u8>> = match (hash % 5, kind) {
        (0 | 1, A) => vec![vec![198, 51, 100, hash]],
        (2, A) => vec![vec![198, 51, 100, hash], vec![198, 51, 101, hash]],
        (1..=3, AAAA) => vec![[&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[hash]].concat()],
        _ => Vec::new(),
    };
    let code = if hash % 5 == 4 { 3 } else { 0 };
    let mut reply =
        [&question[..2], &[0x81, 0x80 | code, 0, 1, 0, u8::try_from(data.len()).unwrap(), 0, 0, 0, 0]].concat();
    reply.extend_from_slice(&question[12..end + 5]);
    for data in data {
        let length = u8::try_from(data.len()).unwrap();
        reply.extend_from_slice(&[0xc0, 12, 0, u8::try_from(kind).unwrap(), 0, 1, 0, 0, 0, DATE as u8, 0, length]);
        reply.extend(data);
    }
    reply
}

/// Namespaces of this thread, and of the threads and programs that it starts.
#[allow(unsafe_code, reason = "there is no safe call that leaves the namespaces of the process")]
fn enter_namespaces(folder: &TempDir) {
    // SAFETY: a system call on numbers, which changes what this thread alone sees.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWUTS) };
    assert_eq!(left, 0, "no namespaces: {}\nrun the tests as root", std::io::Error::last_os_error());
    succeed(Command::new("ip").args(["link", "set", "lo", "up"]));
    succeed(Command::new("hostname").arg("machine.own.test"));
    succeed(Command::new("mount").args(["--make-rprivate", "/"]));
    for (name, text) in
        [("resolv.conf", ""), ("hosts", ""), ("nsswitch.conf", "hosts: files dns\n"), ("host.conf", "multi on\n")]
    {
        std::fs::write(folder.join(name), text).unwrap();
        let place = Path::new("/etc").join(name);
        if place.exists() {
            succeed(Command::new("mount").arg("--bind").arg(folder.join(name)).arg(place));
        }
    }
}

fn by_glibc(name: &str) -> BTreeSet<IpAddr> {
    let output = Command::new("timeout")
        .args(["20", "getent", "ahosts", name])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.split([' ', '%']).next().unwrap().parse().unwrap()).collect()
}

fn by_us(name: &str) -> BTreeSet<IpAddr> {
    let interrupt = Interrupt::new().unwrap();
    let deadline = Deadline::after(&interrupt, Duration::from_secs(20));
    dns::addresses(name, None, &deadline).map(|found| found.into_iter().collect()).unwrap_or_default()
}

#[test]
fn names_are_found_as_glibc_finds_them() {
    let inside = std::thread::spawn(|| {
        let folder = TempDir::new();
        enter_namespaces(&folder);
        let servers = Servers::start();
        let mut differences = Vec::new();
        for number in 0..PAIRS {
            let mut chance = Chance(number);
            let (hosts, resolv_conf, name) = (hosts(&mut chance), resolv_conf(&mut chance), chance.of(&NAMES));
            std::fs::write(folder.join("hosts"), &hosts).unwrap();
            std::fs::write(folder.join("resolv.conf"), &resolv_conf).unwrap();
            servers.asked();
            let theirs = (by_glibc(name), asked_of(&servers, &resolv_conf));
            let ours = (by_us(name), asked_of(&servers, &resolv_conf));
            if theirs != ours {
                differences.push(format!(
                    "{number}: {name}\nhosts {}\nresolv.conf {}\nglibc {theirs:?}\nhere  {ours:?}",
                    hosts[..hosts.len().min(600)].escape_ascii(),
                    resolv_conf.escape_ascii()
                ));
            }
        }
        assert!(differences.is_empty(), "{} of {PAIRS}:\n{}", differences.len(), differences.join("\n\n"));
    });
    inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Where servers take turns, chance says which one was asked.
fn asked_of(servers: &Servers, resolv_conf: &[u8]) -> BTreeSet<Asked> {
    let is_by_turns = resolv_conf.windows(6).any(|part| part == b"rotate");
    let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    // A search domain that no host can have is not asked here. glibc asks, and takes no answer.
    let asked = servers.asked().into_iter().filter(|(_, _, name, _)| name.is_ascii());
    asked.map(|(ip, tcp, name, kind)| (if is_by_turns { anywhere } else { ip }, tcp, name, kind)).collect()
}
