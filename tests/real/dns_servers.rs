//! DNS servers of others in the foreground, with their files in a folder of the test: authorities that serve a zone
//! file, and resolvers that ask one of them. They are told of no address but this machine's.

use std::fs::File;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Server, free_port, server, wait_for};

pub(crate) const ZONE: &str = "latest.example.com";
/// What Unbound gives out as the TTL of an answer that has expired.
pub(crate) const UNBOUND_STALE_TTL: u32 = 77;
/// What dnsmasq gives out for such an answer.
pub(crate) const DNSMASQ_STALE_TTL: u32 = 0;

/// The first label of a question that marks a place in a log.
const MARKER: &str = "marker-";
const SOA: u8 = 6;
const TXT: u8 = 16;

/// What serves the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthorityKind {
    Bind,
    Nsd,
    Knot,
    PowerDns,
}

/// A server that has the zone and logs what it is asked.
pub(crate) struct Authority {
    pub(crate) port: u16,
    kind: AuthorityKind,
    log: PathBuf,
    // Above what reads its log: the order here is the order of their ends.
    server: Server,
    _tap: Option<Server>,
}

/// A question as it stands in a log, in the case in which it came.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) record_type: String,
}

impl Authority {
    pub(crate) fn start(kind: AuthorityKind, folder: &Path, zone_file: &Path) -> Self {
        std::fs::create_dir(folder).unwrap();
        let (log, tap) = match kind {
            AuthorityKind::Bind => (folder.join("queries.log"), None),
            // These two have no log of questions but dnstap.
            AuthorityKind::Nsd | AuthorityKind::Knot => (folder.join("dnstap.log"), Some(start_tap(folder))),
            AuthorityKind::PowerDns => (folder.join("output"), None),
        };
        let (port, server) = start(folder, |port| match kind {
            AuthorityKind::Bind => bind(folder, zone_file, port),
            AuthorityKind::Nsd => nsd(folder, zone_file, port),
            AuthorityKind::Knot => knot(folder, zone_file, port),
            AuthorityKind::PowerDns => power_dns(folder, zone_file, port),
        });
        Self { port, kind, log, server, _tap: tap }
    }

    pub(crate) fn stop(self) {
        self.server.stop();
    }

    /// Lets questions wait.
    pub(crate) fn pause(&self) {
        self.server.pause();
    }

    /// Answers them.
    pub(crate) fn resume(&self) {
        self.server.resume();
    }

    /// Whether a question waits, by the kernel's list of sockets.
    pub(crate) fn has_waiting(&self) -> bool {
        let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
        // Address and port in hexadecimal, the state behind the other address, then the queues for sending:receiving.
        let ours = format!("0100007F:{:04X}", self.port);
        let mut queues = sockets.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[1] == ours).then(|| words[4].to_owned())
        });
        queues.any(|queue| !queue.ends_with(":00000000"))
    }

    /// What it was asked until now, by its own log.
    pub(crate) fn asked(&self) -> Vec<Question> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        // Logs are written behind the answers, in the order of the questions: one that has a question that is asked
        // now has everything before.
        let marker = format!("{MARKER}{}.{ZONE}", COUNTER.fetch_add(1, Ordering::Relaxed));
        wait_for("an answer of the authority", || ask(self.port, &marker, TXT));
        let mut asked = wait_for("the authority's log", || {
            let logged = self.logged();
            logged.iter().any(|question| question.name == marker).then_some(logged)
        });
        asked.retain(|question| !question.name.starts_with(MARKER));
        asked
    }

    /// The names for which TXT was asked.
    pub(crate) fn asked_txt(&self) -> Vec<String> {
        let asked = self.asked().into_iter();
        asked.filter(|question| question.record_type == "TXT").map(|question| question.name).collect()
    }

    /// The file with its log, as it is.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    fn logged(&self) -> Vec<Question> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be half written.
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let question = |line| match self.kind {
            AuthorityKind::Bind => between(line, " query: ", " IN ", " "),
            AuthorityKind::Nsd | AuthorityKind::Knot => between(line, " \"", ".\" IN ", "\n"),
            AuthorityKind::PowerDns => between(line, " wants '", "|", "'"),
        };
        whole.lines().filter_map(question).collect()
    }
}

/// The name after `start`, and the type between `middle` and `end`.
fn between(line: &str, start: &str, middle: &str, end: &str) -> Option<Question> {
    let (name, rest) = line.split_once(start)?.1.split_once(middle)?;
    let record_type = rest.split(end).next()?;
    Some(Question { name: name.to_owned(), record_type: record_type.to_owned() })
}

/// What stands between the library and the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResolverKind {
    Unbound,
    /// Random case in names, one label more a question, and expired answers rather than none.
    UnboundCareful,
    Dnsmasq,
    /// Keeps TXT answers too, and gives them out when they have expired. Debian 12's dnsmasq has no random case.
    DnsmasqStale,
}

/// A server that asks the authority.
pub(crate) struct Resolver {
    pub(crate) port: u16,
    _server: Server,
}

impl Resolver {
    pub(crate) fn start(kind: ResolverKind, folder: &Path, authority: u16) -> Self {
        std::fs::create_dir(folder).unwrap();
        let careful = format!(
            "use-caps-for-id: yes
    qname-minimisation: yes
    qname-minimisation-strict: yes
    serve-expired: yes
    serve-expired-reply-ttl: {UNBOUND_STALE_TTL}"
        );
        let (port, server) = start(folder, |port| match kind {
            ResolverKind::Unbound => unbound(folder, authority, port, ""),
            ResolverKind::UnboundCareful => unbound(folder, authority, port, &careful),
            ResolverKind::Dnsmasq => dnsmasq(folder, authority, port, &[]),
            ResolverKind::DnsmasqStale => dnsmasq(folder, authority, port, &["--use-stale-cache", "--cache-rr=TXT"]),
        });
        Self { port, _server: server }
    }

    /// The TTL with which it gives out the answer for a name.
    pub(crate) fn ttl(&self, name: &str) -> Option<u32> {
        let answer = ask(self.port, name, TXT).filter(|answer| has_records(answer))?;
        // RFC 1035, 4.1: the header, the question, then the owner, type and class of the first record.
        let after_question = after_name(&answer, 12) + 4;
        let ttl = after_name(&answer, after_question) + 4;
        Some(u32::from_be_bytes(answer[ttl..ttl + 4].try_into().unwrap()))
    }
}

fn bind(folder: &Path, zone_file: &Path, port: u16) -> Server {
    let (home, zone_file) = (folder.display(), zone_file.display());
    let text = format!(
        r#"options {{
    directory "{home}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file "{home}/named.pid";
    session-keyfile "{home}/session.key";
    recursion no;
    dnssec-validation no;
    notify no;
    querylog yes;
}};
controls {{ }};
logging {{
    channel queries {{ file "{home}/queries.log"; }};
    category queries {{ queries; }};
}};
zone "{ZONE}" {{ type primary; file "{zone_file}"; }};
"#
    );
    let config = written(folder, "named.conf", &text);
    let mut command = server("named");
    command.args(["-f", "-4", "-n", "1", "-c"]).arg(config).arg("-L").arg(folder.join("output"));
    Server::spawn(&mut command)
}

fn nsd(folder: &Path, zone_file: &Path, port: u16) -> Server {
    let (home, zone_file) = (folder.display(), zone_file.display());
    let text = format!(
        r#"server:
    ip-address: 127.0.0.1@{port}
    server-count: 1
    username: ""
    chroot: ""
    database: ""
    zonesdir: "{home}"
    xfrdir: "{home}"
    logfile: "{home}/output"
    pidfile: "{home}/nsd.pid"
    xfrdfile: "{home}/xfrd.state"
    zonelistfile: "{home}/zone.list"
    cookie-secret-file: "{home}/cookies"
dnstap:
    dnstap-enable: yes
    dnstap-socket-path: "{home}/dnstap"
    dnstap-log-auth-query-messages: yes
remote-control:
    control-enable: no
zone:
    name: {ZONE}
    zonefile: "{zone_file}"
"#
    );
    let config = written(folder, "nsd.conf", &text);
    spawn(folder, server("nsd").args(["-d", "-c"]).arg(config))
}

fn knot(folder: &Path, zone_file: &Path, port: u16) -> Server {
    let (home, zone_file) = (folder.display(), zone_file.display());
    // One worker: the questions stand in the log in the order in which they came.
    let text = format!(
        r#"server:
    listen: 127.0.0.1@{port}
    rundir: "{home}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "{home}/database"
mod-dnstap:
  - id: questions
    sink: "unix:{home}/dnstap"
    log-responses: off
template:
  - id: default
    global-module: mod-dnstap/questions
zone:
  - domain: {ZONE}
    file: "{zone_file}"
    journal-content: none
"#
    );
    let config = written(folder, "knot.conf", &text);
    spawn(folder, server("knotd").arg("-c").arg(config))
}

fn power_dns(folder: &Path, zone_file: &Path, port: u16) -> Server {
    let (home, zone_file) = (folder.display(), zone_file.display());
    written(folder, "named.conf", &format!("zone \"{ZONE}\" {{ type native; file \"{zone_file}\"; }};\n"));
    // It would ask its makers about its own version.
    let text = format!(
        "launch=bind
bind-config={home}/named.conf
local-address=127.0.0.1
local-port={port}
socket-dir={home}
write-pid=no
daemon=no
guardian=no
disable-syslog=yes
log-dns-queries=yes
loglevel=5
receiver-threads=1
distributor-threads=1
security-poll-suffix=
"
    );
    written(folder, "pdns.conf", &text);
    spawn(folder, server("pdns_server").arg(format!("--config-dir={home}")))
}

fn unbound(folder: &Path, authority: u16, port: u16, settings: &str) -> Server {
    let home = folder.display();
    // A stub, not a forwarder: it then asks the zone's server itself, as it would on the Internet. The address from
    // which it asks leads nowhere else.
    let text = format!(
        r#"server:
    interface: 127.0.0.1@{port}
    outgoing-interface: 127.0.0.1
    do-not-query-localhost: no
    directory: "{home}"
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    {settings}
stub-zone:
    name: {ZONE}
    stub-addr: 127.0.0.1@{authority}
"#
    );
    let config = written(folder, "unbound.conf", &text);
    spawn(folder, server("unbound").args(["-d", "-c"]).arg(config))
}

fn dnsmasq(folder: &Path, authority: u16, port: u16, options: &[&str]) -> Server {
    let mut command = server("dnsmasq");
    // In the foreground as the user who starts it, and without the files of this machine.
    command.args(["--keep-in-foreground", "--log-facility=-", "--pid-file=", "--user=root"]);
    command.args(["--conf-file=/dev/null", "--no-hosts", "--no-resolv"]);
    command.args(["--listen-address=127.0.0.1", "--bind-interfaces"]).arg(format!("--port={port}"));
    command.arg(format!("--server=/{ZONE}/127.0.0.1#{authority}")).args(options);
    spawn(folder, &mut command)
}

/// The reader of dnstap: takes the questions from a socket and writes each as a line.
fn start_tap(folder: &Path) -> Server {
    let socket = folder.join("dnstap");
    let mut command = server("dnstap");
    command.arg("-q").arg("-u").arg(&socket).stdout(File::create(folder.join("dnstap.log")).unwrap());
    let tap = Server::spawn(command.stderr(File::create(folder.join("dnstap.output")).unwrap()));
    wait_for("the reader of dnstap", || socket.exists().then_some(()));
    tap
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Starts it with what it says in the folder's file `output`.
fn spawn(folder: &Path, command: &mut Command) -> Server {
    let output = File::create(folder.join("output")).unwrap();
    Server::spawn(command.stdout(output.try_clone().unwrap()).stderr(output))
}

/// Starts a server on a port of its own and waits until the zone is answered there.
fn start(folder: &Path, spawn: impl Fn(u16) -> Server) -> (u16, Server) {
    let said = || std::fs::read_to_string(folder.join("output")).unwrap_or_default();
    // Another process may take the port between the choice and the server's start: then another one is chosen.
    for _ in 0..5 {
        let port = free_port();
        let mut server = spawn(port);
        let deadline = Instant::now() + DEADLINE;
        while server.ended().is_none() {
            if ask(port, ZONE, SOA).is_some_and(|answer| has_records(&answer)) {
                return (port, server);
            }
            assert!(Instant::now() < deadline, "{} does not answer: {}", folder.display(), said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("{} does not start: {}", folder.display(), said());
}

/// The answer of a server of this machine, if it gives one.
fn ask(port: u16, name: &str, record_type: u8) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // RFC 1035, 4.1: id 0x4f44, recursion desired, one question.
    let mut question = vec![0x4f, 0x44, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend_from_slice(label.as_bytes());
    }
    const CLASS_IN: [u8; 2] = [0, 1];
    question.extend_from_slice(&[0, 0, record_type]);
    question.extend_from_slice(&CLASS_IN);
    let mut answer = vec![0; 512];
    // Connected: it is told at once when nobody listens.
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.send(&question).ok()?;
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    (length > 12 && answer[..2] == question[..2]).then_some(answer)
}

/// Whether it says no error and has a record.
fn has_records(answer: &[u8]) -> bool {
    answer[3] & 0x0f == 0 && answer[7] > 0
}

/// The place after a name, which ends with an empty label or a pointer (RFC 1035, 4.1.4).
fn after_name(message: &[u8], mut at: usize) -> usize {
    const POINTER: u8 = 0xc0;
    while message[at] != 0 {
        if message[at] & POINTER == POINTER {
            return at + 2;
        }
        at += 1 + usize::from(message[at]);
    }
    at + 1
}
