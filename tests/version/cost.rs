//! What a version check leaves behind in its process: nothing.

use std::net::SocketAddr;
use std::process::Command;

use crate::programs::{TempDir, compile, root, succeed};
use crate::scene::{assert_one_name, good, use_tcp};
use crate::server::{Server, Transport};
use crate::vendor::{Vendor, ZONE};

/// What the process had at one moment.
#[derive(Debug)]
struct Held {
    descriptors: u64,
    threads: u64,
    allocated: u64,
    resident_kib: u64,
}

/// What more is no leak. A block may be cut a little larger than the last time; one block a check, the smallest of 32
/// bytes, is far above this.
const SLACK_BYTES: u64 = 1024;
/// Pages of code and of freed blocks.
const SLACK_KIB: u64 = 1024;

/// Makes this many checks of one client in a process of its own and returns what it held after a tenth of them and
/// after all.
fn check(checks: u32, timeout_ms: u32, expected_status: u32, server: SocketAddr) -> [Held; 2] {
    let folder = TempDir::new();
    let flags = ["-std=gnu99", "-Wall", "-Wextra", "-Werror"];
    let program = compile("gcc", &root().join("tests/c/version_cost.c"), &folder.join("version_cost"), &flags);
    let mut command = Command::new(program);
    command.args([checks, timeout_ms, expected_status].map(|number| number.to_string())).env_clear();
    // Freed blocks that glibc keeps aside for the thread would count as allocated.
    command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
    command.env("ONDAT_TELEMETRY_VERSION_ZONE", ZONE).env("ONDAT_TELEMETRY_VERSION_KEY", Vendor::new(1).public());
    command.env("ONDAT_TELEMETRY_NAMESERVERS", server.to_string());
    let output = String::from_utf8(succeed(&mut command).stdout).unwrap();
    let held: Vec<Held> = output.lines().map(Held::read).collect();
    held.try_into().unwrap_or_else(|held| panic!("{held:?}"))
}

impl Held {
    fn read(line: &str) -> Self {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [descriptors, threads, allocated, resident_kib] = numbers[..] else { panic!("{line}") };
        Self { descriptors, threads, allocated, resident_kib }
    }

    fn assert_as(&self, before: &Self) {
        let is_as = self.threads == 1
            && self.descriptors == before.descriptors
            && self.allocated <= before.allocated + SLACK_BYTES
            && self.resident_kib <= before.resident_kib + SLACK_KIB;
        assert!(is_as, "before {before:?}\nafter {self:?}");
    }
}

#[test]
fn ten_thousand_checks_into_a_black_hole_leave_nothing_behind() {
    const TIMED_OUT: u32 = 7;
    let hole = Server::start(|_| Vec::new());
    let [before, after] = check(10_000, 1, TIMED_OUT, hole.address);
    let asked = hole.end();
    // On a busy machine a millisecond can be over before the question is on its way.
    assert!(asked.len() > 5000, "only {} questions fell into the hole", asked.len());
    // The name of each, as the day may change in between.
    asked.chunks(1).for_each(assert_one_name);
    after.assert_as(&before);
}

#[test]
fn a_thousand_answers_over_udp_and_tcp_leave_nothing_behind() {
    const OK: u32 = 0;
    let text = Vendor::new(1).recommends("2.9.0");
    let server = Server::start(move |question| match question.transport {
        Transport::Udp => vec![use_tcp(question)],
        Transport::Tcp => vec![good(question, &text)],
    });
    let [before, after] = check(1000, 10_000, OK, server.address);
    assert_eq!(server.asked().len(), 2000);
    after.assert_as(&before);
}
