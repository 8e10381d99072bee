//! The system's resolvers, each test in a network of its own with its own /etc/resolv.conf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ondat_telemetry::error::{Error, Status};
use ondat_telemetry::transport::deadline::{Deadline, Interrupt};
use ondat_telemetry::transport::dns;

use crate::programs::{TempDir, succeed};
use crate::scene::{AMPLE, SHORT, assert_good, assert_one_name, check, client, good};
use crate::server::{Question, Reply, Server, Transport};
use crate::vendor::{Vendor, ZONE};
use crate::wire::{A, ASKED, NXDOMAIN, answer, record, with_code};

const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const FIRST_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A machine of one thread: nobody else uses its ports, and /etc/resolv.conf and /etc/hosts are files of the test.
struct Machine {
    folder: TempDir,
    resolv_conf: PathBuf,
}

impl Machine {
    /// Runs a test in it.
    fn run(test: fn(&Self)) {
        let inside = std::thread::spawn(move || test(&Self::new()));
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }

    /// For this thread and the threads and processes that it starts.
    #[allow(unsafe_code, reason = "there is no safe call that leaves the namespaces of the process")]
    fn new() -> Self {
        // SAFETY: a system call on numbers, which changes what this thread alone sees.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
        assert_eq!(left, 0, "no namespaces: {}\nrun the tests as root", std::io::Error::last_os_error());
        let folder = TempDir::new();
        let resolv_conf = folder.join("resolv.conf");
        std::fs::write(&resolv_conf, "").unwrap();
        succeed(Command::new("ip").args(["link", "set", "lo", "up"]));
        // Without this, the mount would show outside.
        succeed(Command::new("mount").args(["--make-rprivate", "/"]));
        succeed(Command::new("mount").arg("--bind").arg(&resolv_conf).arg("/etc/resolv.conf"));
        std::fs::write(folder.join("hosts"), "").unwrap();
        succeed(Command::new("mount").arg("--bind").arg(folder.join("hosts")).arg("/etc/hosts"));
        Self { folder, resolv_conf }
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.resolv_conf, text).unwrap();
        assert_eq!(std::fs::read_to_string("/etc/resolv.conf").unwrap(), text);
    }

    /// Datagrams that came to a port where nobody listens.
    fn unheard() -> u64 {
        let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let mut lines = counters.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|name| name == "NoPorts").unwrap();
        values.split(' ').nth(at).unwrap().parse().unwrap()
    }
}

fn says_good(vendor: &Vendor) -> impl FnMut(&Question) -> Vec<Reply> + Send + use<> {
    let text = vendor.recommends("2.9.0");
    move |question| vec![good(question, &text)]
}

#[test]
fn one_name_is_asked_whatever_search_and_ndots_say() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        machine.write(
            "# a machine of a cluster, and an administrator's mistakes\nnameserver nowhere\nnonsense 7\n\
             search a.example b.example svc.cluster.local\nnameserver 127.0.0.1\n\
             options ndots:15 timeout:30 attempts:9 trust-ad unknown:1\n",
        );
        // A name that there is not, so that whoever searches goes on to search.
        let server =
            Server::start_at(FIRST, |question| vec![Reply::Message(with_code(answer(question, &[]), NXDOMAIN))]);
        let error = check(&client(&vendor, None), AMPLE).err().unwrap();
        assert_eq!(error.status(), Status::Untrusted, "{error:?}");
        let asked = server.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_one_name(&asked);

        server.set_script(says_good(&vendor));
        assert_good(&check(&client(&vendor, None), AMPLE).unwrap());
        assert_one_name(&server.asked());
        assert!(server.asked()[0].name().ends_with(&format!(".o1.{ZONE}.")));
    });
}

#[test]
fn a_name_server_may_have_an_ipv6_address() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        machine.write("nameserver ::1\n");
        let server = Server::start_at(FIRST_V6, says_good(&vendor));
        assert_good(&check(&client(&vendor, None), AMPLE).unwrap());
        assert_eq!(server.asked().len(), 1);
    });
}

#[test]
fn the_file_is_read_for_every_question() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        let (first, second) =
            (Server::start_at(FIRST, says_good(&vendor)), Server::start_at(SECOND, says_good(&vendor)));
        let asked = || (first.asked().len(), second.asked().len());
        let client = client(&vendor, None);
        machine.write("nameserver 127.0.0.1\n");
        check(&client, AMPLE).unwrap();
        assert_eq!(asked(), (1, 0));
        machine.write("nameserver 127.0.0.2\n");
        check(&client, AMPLE).unwrap();
        assert_eq!(asked(), (1, 1));

        // Without a server, this machine is asked.
        machine.write("search a.example\n");
        check(&client, AMPLE).unwrap();
        assert_eq!(asked(), (2, 1));
    });
}

#[test]
fn tcp_is_spoken_from_the_first_where_the_file_says_so() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        let server = Server::start_at(FIRST, says_good(&vendor));
        machine.write("nameserver 127.0.0.1\noptions use-vc\n");
        assert_good(&check(&client(&vendor, None), AMPLE).unwrap());
        let asked: Vec<Transport> = server.asked().iter().map(|question| question.transport).collect();
        assert_eq!(asked, [Transport::Tcp]);
    });
}

#[test]
fn servers_take_turns_where_the_file_says_so() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        machine.write("nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions rotate\n");
        let (first, second) =
            (Server::start_at(FIRST, says_good(&vendor)), Server::start_at(SECOND, says_good(&vendor)));
        let client = client(&vendor, None);
        for _ in 0..64 {
            check(&client, AMPLE).unwrap();
        }
        let asked = (first.asked().len(), second.asked().len());
        assert_eq!(asked.0 + asked.1, 64);
        // Once in 2^63 runs chance takes one of them 64 times.
        assert!(asked.0 > 0 && asked.1 > 0, "{asked:?}");
    });
}

#[test]
fn servers_are_tried_as_often_as_the_file_says() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        machine.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
        let server = Server::start_at(FIRST, |_| Vec::new());
        let error = check(&client(&vendor, None), AMPLE).err().unwrap();
        assert_eq!(error.status(), Status::TimedOut, "{error:?}");
        assert_eq!(server.end().len(), 1);
    });
}

#[test]
fn bytes_that_are_no_text_do_no_harm() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        let server = Server::start_at(SECOND, says_good(&vendor));
        std::fs::write(&machine.resolv_conf, b"# Z\xfcrich\nsearch \xff\nnameserver 127.0.0.2 \xfc\n").unwrap();
        assert_good(&check(&client(&vendor, None), AMPLE).unwrap());
        assert_eq!(server.asked().len(), 1);
    });
}

#[test]
fn edns_is_spoken_where_the_file_says_so() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        let server = Server::start_at(FIRST, says_good(&vendor));
        for (options, expected) in [("options edns0\n", true), ("", false)] {
            machine.write(&format!("nameserver 127.0.0.1\n{options}"));
            assert_good(&check(&client(&vendor, None), AMPLE).unwrap());
            let asked = server.asked();
            assert_eq!(asked.last().map(Question::has_edns), Some(expected), "{options:?}");
        }
    });
}

#[test]
fn the_servers_are_asked_in_the_order_of_the_file() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        machine.write("nameserver 127.0.0.1\nnameserver 127.0.0.2\n");
        let (first, second) =
            (Server::start_at(FIRST, says_good(&vendor)), Server::start_at(SECOND, says_good(&vendor)));
        let client = client(&vendor, None);
        for _ in 0..8 {
            check(&client, AMPLE).unwrap();
        }
        assert_eq!((first.asked().len(), second.asked().len()), (8, 0));
    });
}

#[test]
fn the_second_server_answers_where_nobody_listens_at_the_first() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        machine.write("nameserver 127.0.0.1\nnameserver 127.0.0.2\n");
        let second = Server::start_at(SECOND, says_good(&vendor));
        assert_good(&check(&client(&vendor, None), AMPLE).unwrap());
        assert_one_name(&second.asked());
        assert!(Machine::unheard() > 0, "the first server was not asked");
    });
}

#[test]
fn the_second_server_answers_where_the_first_is_silent() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        machine.write("nameserver 127.0.0.1\nnameserver 127.0.0.2\n");
        let (first, second) = (Server::start_at(FIRST, |_| Vec::new()), Server::start_at(SECOND, says_good(&vendor)));
        assert_good(&check(&client(&vendor, None), AMPLE).unwrap());
        assert_one_name(&second.asked());
        assert!(!first.end().is_empty(), "the first server was not asked");
    });
}

#[test]
fn nobody_is_asked_who_is_not_in_the_file() {
    Machine::run(|machine| {
        let vendor = Vendor::new(1);
        machine.write("nameserver 127.0.0.1\n");
        let (first, second) = (Server::start_at(FIRST, |_| Vec::new()), Server::start_at(SECOND, says_good(&vendor)));
        let error = check(&client(&vendor, None), SHORT).err().unwrap();
        assert_eq!(error.status(), Status::TimedOut, "{error:?}");
        assert!(!first.end().is_empty(), "the server of the file was not asked");
        assert!(second.asked().is_empty(), "{:?}", second.asked());
    });
}

fn addresses(name: &str, timeout: Duration) -> Result<Vec<IpAddr>, Error> {
    let interrupt = Interrupt::new().unwrap();
    dns::addresses(name, None, &Deadline::after(&interrupt, timeout))
}

#[test]
fn a_hosts_file_of_a_million_lines_is_read_or_left_in_time() {
    Machine::run(|machine| {
        let mut lines: String =
            (0..1_000_000).map(|n| format!("0.0.0.0 ads{n}.tracker{}.example\n", n % 977)).collect();
        lines.push_str("192.0.2.9 last.test\n");
        std::fs::write(machine.folder.join("hosts"), lines).unwrap();
        assert_eq!(addresses("last.test", AMPLE).unwrap(), [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9))]);
        let error = addresses("last.test", Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.status(), Status::TimedOut, "{error:?}");
        // One that has no end, or so it seems.
        std::fs::File::options().write(true).open(machine.folder.join("hosts")).unwrap().set_len(1 << 42).unwrap();
        let error = addresses("nowhere.test", SHORT).unwrap_err();
        assert_eq!(error.status(), Status::TimedOut, "{error:?}");
    });
}

#[test]
fn what_is_no_file_holds_nobody() {
    Machine::run(|machine| {
        machine.write("nameserver 127.0.0.1\noptions no-aaaa\n");
        let server = Server::start_at(FIRST, |question| {
            vec![Reply::Message(answer(question, &[record(ASKED, A, &[192, 0, 2, 7])]))]
        });
        let fifo = machine.folder.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        succeed(Command::new("mount").arg("--bind").arg(&fifo).arg("/etc/hosts"));
        assert_eq!(addresses("a.test", AMPLE).unwrap().len(), 1);
        assert!(server.asked().iter().all(|question| question.kind().0 == A), "no-aaaa: {:?}", server.asked());
        succeed(Command::new("mount").arg("--bind").arg(&fifo).arg("/etc/resolv.conf"));
        assert_eq!(addresses("a.test", AMPLE).unwrap().len(), 1, "127.0.0.1 is asked, as without the file");
    });
}
