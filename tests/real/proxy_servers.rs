//! Proxies of others in the foreground, with their files in a folder of the test, on free ports of this machine.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Server, TempDir, free_port, program, root, server};

/// The host that every proxy may connect to. Go's rules would let a name or an address of this machine go direct.
pub(crate) const HOST: &str = "collector.test";
pub(crate) const USER: &str = "ondat";
pub(crate) const PASSWORD: &str = "s3cret.of-the_proxy";
/// The same as crypt(3) has it.
const PASSWORD_CRYPT: &str =
    "$6$ondat$E5p0pMpuFK04bM9lyYb7lR6sAXg6P5NA4zvoFZfmt4iRecuVCTX79gXo1URctmXampV5hE7XM.SGTUrzOI0Pz1";

/// Where [`HOST`] is this machine: processes in here see another /etc/hosts, and shared memory of their own.
pub(crate) struct World {
    hosts: PathBuf,
}

impl World {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { hosts: written(folder, "hosts", &format!("127.0.0.1 localhost {HOST}\n")) }
    }

    /// As [`program`], in here.
    pub(crate) fn program(&self, path: impl AsRef<OsStr>) -> Command {
        self.enter(program("unshare"), path)
    }

    /// As [`server`], in here.
    fn server(&self, path: impl AsRef<OsStr>) -> Command {
        self.enter(server("unshare"), path)
    }

    fn enter(&self, mut unshare: Command, path: impl AsRef<OsStr>) -> Command {
        let enter = "mount --bind \"$1\" /etc/hosts && mount -t tmpfs memory /dev/shm && shift && exec \"$@\"";
        unshare.args(["--mount", "sh", "-c", enter, "sh"]).arg(&self.hosts).arg(path);
        unshare
    }
}

/// A proxy that writes down what it does.
pub(crate) struct ProxyServer {
    kind: Kind,
    log: PathBuf,
    _server: Server,
    _folder: TempDir,
}

enum Kind {
    Squid,
    Tinyproxy,
    Microsocks,
    Mitmproxy,
}

impl ProxyServer {
    /// How many connections to this host and port it has made for others until now.
    pub(crate) fn connections(&self, target: &str) -> usize {
        match self.kind {
            Kind::Squid => self.lines_with(&["TCP_TUNNEL/200", &format!("CONNECT {target} ")]),
            Kind::Tinyproxy => {
                let host = target.split(':').next().unwrap();
                self.lines_with(&[&format!("Established connection to host \"{host}\"")])
            }
            Kind::Microsocks => self.lines_with(&[&format!("connected to {target}")]),
            Kind::Mitmproxy => self.lines_with(&[&format!("server connect {target} ")]),
        }
    }

    /// How many lines of its log have all of these words.
    pub(crate) fn lines_with(&self, words: &[&str]) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

/// One Squid with three doors.
pub(crate) struct Squid {
    pub(crate) proxy: ProxyServer,
    /// For everybody.
    pub(crate) open: u16,
    /// For those who know the password.
    pub(crate) guarded: u16,
    /// Likewise, over TLS.
    pub(crate) guarded_tls: u16,
}

impl Squid {
    /// `identity` is a folder with `server.pem` and `server.key`.
    pub(crate) fn start(world: &World, identity: &Path) -> Self {
        let folder = TempDir::new();
        // It gives up root's rights, and reads and writes here without them.
        let user = nix::unistd::User::from_name("proxy").unwrap().unwrap();
        let owned = |path: &Path| nix::unistd::chown(path, Some(user.uid), Some(user.gid)).unwrap();
        owned(folder.path());
        for name in ["server.pem", "server.key"] {
            std::fs::copy(identity.join(name), folder.join(name)).unwrap();
            owned(&folder.join(name));
        }
        let home = folder.path().display();
        written(folder.path(), "passwords", &format!("{USER}:{PASSWORD_CRYPT}\n"));
        let config = |[open, guarded, guarded_tls]: [u16; 3]| {
            format!(
                "http_port 127.0.0.1:{open} name=open
http_port 127.0.0.1:{guarded} name=guarded
https_port 127.0.0.1:{guarded_tls} name=guarded_tls tls-cert={home}/server.pem tls-key={home}/server.key
visible_hostname localhost
pid_filename none
coredump_dir {home}
access_log stdio:{home}/access.log
cache_log {home}/cache.log
cache deny all
dns_nameservers 127.0.0.1
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
auth_param basic program /usr/lib/squid/basic_ncsa_auth {home}/passwords
auth_param basic children 1 startup=1
acl open myportname open
acl known proxy_auth REQUIRED
http_access allow open
http_access allow known
http_access deny all
"
            )
        };
        let ([open, guarded, guarded_tls], server) = start(folder.path(), |ports| {
            let config = written(folder.path(), "squid.conf", &config(ports));
            let mut squid = world.server("squid");
            squid.args(["-N", "-f"]).arg(config);
            squid
        });
        let log = folder.join("access.log");
        let proxy = ProxyServer { kind: Kind::Squid, log, _server: server, _folder: folder };
        Self { proxy, open, guarded, guarded_tls }
    }
}

/// A Tinyproxy and its port.
pub(crate) fn tinyproxy(world: &World, is_guarded: bool) -> (ProxyServer, u16) {
    let folder = TempDir::new();
    let log = folder.join("tinyproxy.log");
    let guard = if is_guarded { format!("BasicAuth {USER} {PASSWORD}\n") } else { String::new() };
    let ([port], server) = start(folder.path(), |[port]| {
        let text = format!("Listen 127.0.0.1\nPort {port}\nLogFile \"{}\"\nLogLevel Connect\n{guard}", log.display());
        let config = written(folder.path(), "tinyproxy.conf", &text);
        let mut tinyproxy = world.server("tinyproxy");
        tinyproxy.args(["-d", "-c"]).arg(config);
        tinyproxy
    });
    (ProxyServer { kind: Kind::Tinyproxy, log, _server: server, _folder: folder }, port)
}

/// A MicroSocks, which speaks SOCKS 5, and its port.
pub(crate) fn microsocks(world: &World, is_guarded: bool) -> (ProxyServer, u16) {
    let folder = TempDir::new();
    let ([port], server) = start(folder.path(), |[port]| {
        let mut microsocks = world.server("microsocks");
        microsocks.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
        if is_guarded {
            microsocks.args(["-u", USER, "-P", PASSWORD]);
        }
        microsocks
    });
    let log = folder.join("output");
    (ProxyServer { kind: Kind::Microsocks, log, _server: server, _folder: folder }, port)
}

/// A mitmproxy, which opens what goes through it, its port and its authority. It trusts this one itself.
pub(crate) fn mitmproxy(world: &World, ca_file: &str) -> (ProxyServer, u16, PathBuf) {
    let folder = TempDir::new();
    let program = root().join("target/mitmproxy/bin/mitmdump");
    assert!(program.exists(), "{} is missing\nrun tools/setup test first", program.display());
    let home = folder.join("home");
    let ([port], server) = start(folder.path(), |[port]| {
        let mut mitmdump = world.server(&program);
        mitmdump.args(["--listen-host", "127.0.0.1", "--listen-port", &port.to_string()]);
        // Its log is not to wait for a full buffer.
        mitmdump.env("PYTHONUNBUFFERED", "1");
        mitmdump.arg("--set").arg(format!("confdir={}", home.display()));
        mitmdump.arg("--set").arg(format!("ssl_verify_upstream_trusted_ca={ca_file}"));
        mitmdump
    });
    let (log, authority) = (folder.join("output"), home.join("mitmproxy-ca-cert.pem"));
    (ProxyServer { kind: Kind::Mitmproxy, log, _server: server, _folder: folder }, port, authority)
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Starts a server on ports of its own, with what it says in the folder's file `output`, and waits until it listens.
fn start<const N: usize>(folder: &Path, command: impl Fn([u16; N]) -> Command) -> ([u16; N], Server) {
    let said = || std::fs::read_to_string(folder.join("output")).unwrap_or_default();
    // Another process may take a port between the choice and the server's start: then others are chosen.
    for _ in 0..5 {
        let ports = [(); N].map(|()| free_port());
        let output = File::create(folder.join("output")).unwrap();
        let mut server = Server::spawn(command(ports).stdout(output.try_clone().unwrap()).stderr(output));
        let deadline = Instant::now() + DEADLINE;
        while server.ended().is_none() {
            if ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
                return (ports, server);
            }
            assert!(Instant::now() < deadline, "{} does not listen: {}", folder.display(), said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("{} does not start: {}", folder.display(), said());
}
