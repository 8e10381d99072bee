//! Reports and crash reports on their way through proxies that others have written: Squid, Tinyproxy, MicroSocks and
//! mitmproxy. The proxy's own log says what went through it, the collector's folder what arrived.

use std::cell::Cell;
use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use data_encoding::BASE64;

use crate::proxy_servers::{HOST, PASSWORD, ProxyServer, Squid, USER, World, microsocks, mitmproxy, tinyproxy};
use crate::support::{
    Collector, NODE_ID, Said, TempDir, VERSION, both, built, bytes_of, command, compile, files_below, files_in, holds,
    ondat, run, status, stay_within_one_day, succeed, wait_for,
};

/// Percent-encoded where it need not be.
const ESCAPED_PASSWORD: &str = "s3cret%2Eof%2dthe%5Fproxy";
const WRONG_PASSWORD: &str = "w0rd-of-another-proxy";

/// Variables of the environment.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// A collector that a product can reach through a proxy, and without one as well.
struct Scene {
    folder: TempDir,
    world: World,
    collector: Collector,
    /// Its host and port.
    target: String,
    outlive: PathBuf,
    probe: PathBuf,
    clusters: Cell<u32>,
}

/// A cluster whose dataplane has sent a report, or tried to, and has crashed.
struct Cluster<'a> {
    scene: &'a Scene,
    id: String,
    said: String,
}

impl Scene {
    fn new() -> Self {
        stay_within_one_day();
        let folder = TempDir::new();
        succeed(ondat(&["keygen", "report", "--out"]).arg(folder.join("keys")));
        let keys = folder.join("keys/report-keys.json");
        let collector = Collector::serve_named(&folder.join("collector"), &keys, HOST);
        let (outlive, probe) = (compile("outlive.c", &folder), compile("probe.c", &folder));
        let target = collector.url.trim_start_matches("https://").to_owned();
        Self { world: World::new(folder.path()), folder, collector, target, outlive, probe, clusters: Cell::new(0) }
    }

    /// How many reports and crash reports have arrived.
    fn arrived(&self) -> (usize, usize) {
        (self.collector.reports().len(), self.collector.crashes().len())
    }

    /// Lets a new cluster's dataplane report and crash.
    fn crash(&self, variables: Variables<'_>) -> Cluster<'_> {
        self.clusters.set(self.clusters.get() + 1);
        let id = format!("cluster-{}", self.clusters.get());
        let mut cluster = Cluster { scene: self, id, said: String::new() };
        std::fs::create_dir(cluster.state_dir()).unwrap();
        let output = run(cluster.command(&self.outlive, variables).arg(built("dataplane")).arg("crash"));
        cluster.said = both(&output);
        assert!(
            cluster.said.ends_with("wait_status 139 processes 2\n"),
            "no dataplane and its monitor: {}",
            cluster.said
        );
        cluster.assert_discreet(&cluster.said);
        cluster
    }

    /// Both reports arrive.
    fn assert_delivers(&self, variables: Variables<'_>) {
        let (reports, crashes) = self.arrived();
        let cluster = self.crash(variables);
        assert_eq!(self.arrived(), (reports + 1, crashes + 1), "{variables:?}: {}", cluster.said);
        assert_eq!(cluster.stored(), (0, 0), "delivered and still stored");
    }

    /// Both reports are stored, nothing arrives, and each is told why.
    fn assert_stores(&self, variables: Variables<'_>, why: &str) -> Cluster<'_> {
        let arrived = self.arrived();
        let cluster = self.crash(variables);
        assert_says(&cluster.said, "daily report: the report is stored", why);
        let flushed = cluster.flush(variables);
        assert_eq!(flushed.number("flush"), status::QUEUED, "{flushed:?}");
        assert_says(flushed.text("flush_why"), "the crash report is stored", why);
        assert_eq!((self.arrived(), cluster.stored()), (arrived, (1, 1)), "{variables:?}");
        cluster
    }
}

impl Cluster<'_> {
    fn state_dir(&self) -> PathBuf {
        self.scene.folder.join(&self.id)
    }

    fn command(&self, path: impl AsRef<OsStr>, variables: Variables<'_>) -> Command {
        let (scene, keys) = (self.scene, bytes_of(&self.scene.folder.join("keys/report-keys.json")));
        let mut command = scene.world.program(path);
        // A core file stays where everything else is.
        command.current_dir(scene.folder.path());
        command.env("ONDAT_TELEMETRY_VERSION", VERSION).env("ONDAT_TELEMETRY_STATE_DIR", self.state_dir());
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", &self.id).env("ONDAT_TELEMETRY_NODE_ID", NODE_ID);
        command.env("ONDAT_TELEMETRY_REPORT_URL", &scene.collector.url);
        command.env("ONDAT_TELEMETRY_REPORT_KEYS", String::from_utf8(keys).unwrap());
        command.env("ONDAT_TELEMETRY_SENTRY_DSN", &scene.collector.sentry_dsn);
        command.env("ONDAT_TELEMETRY_CA_FILE", &scene.collector.ca_file);
        command.envs(variables.iter().copied());
        command
    }

    /// How many reports and crash reports wait.
    fn stored(&self) -> (usize, usize) {
        let stored = |name: &str| files_in(&self.state_dir().join("spool").join(name)).len();
        (stored("reports"), stored("crashes"))
    }

    /// Tries to deliver what is stored.
    fn flush(&self, variables: Variables<'_>) -> Said {
        let output = run(self.command(&self.scene.probe, variables).arg("flush"));
        let status = succeed(self.command(command("ondat-telemetry"), variables).arg("status"));
        self.assert_discreet(&both(&output));
        self.assert_discreet(&both(&status));
        Said::of(&output)
    }

    /// What is stored arrives after all.
    fn assert_delivers(&self, variables: Variables<'_>) {
        let (reports, crashes) = self.scene.arrived();
        let said = self.flush(variables);
        assert_eq!(said.number("flush"), status::OK, "{said:?}");
        assert_eq!((self.scene.arrived(), self.stored()), ((reports + 1, crashes + 1), (0, 0)), "{said:?}");
    }

    /// No password stands in what was said, or in what is kept.
    fn assert_discreet(&self, said: &str) {
        let basic = |password: &str| BASE64.encode(format!("{USER}:{password}").as_bytes());
        let (right, wrong) = (basic(PASSWORD), basic(WRONG_PASSWORD));
        for secret in [PASSWORD, ESCAPED_PASSWORD, WRONG_PASSWORD, &right, &wrong] {
            assert!(!said.contains(secret), "{secret:?} stands in {said}");
            for path in files_below(&self.state_dir()) {
                assert!(!holds(&bytes_of(&path), secret), "{secret:?} stands in {}", path.display());
            }
        }
    }
}

/// There is a line with both.
fn assert_says(said: &str, what: &str, why: &str) {
    assert!(
        said.lines().any(|line| line.contains(what) && line.contains(why)),
        "no line with {what:?} and {why:?}: {said}"
    );
}

/// The proxy's log comes to this many connections to the target, and not to more.
fn assert_connections(proxy: &ProxyServer, target: &str, expected: usize) {
    let connections =
        wait_for("the proxy's log", || Some(proxy.connections(target)).filter(|count| *count >= expected));
    assert_eq!(connections, expected, "connections to {target}");
}

fn url(scheme: &str, credentials: Option<&str>, port: u16) -> String {
    match credentials {
        Some(password) => format!("{scheme}://{USER}:{password}@127.0.0.1:{port}"),
        None => format!("{scheme}://127.0.0.1:{port}"),
    }
}

/// A port where connections are refused as long as the two are kept: the second has it, and does not listen there.
fn refusing_port() -> ((TcpListener, TcpStream), u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let port = stream.local_addr().unwrap().port();
    ((listener, stream), port)
}

#[test]
fn squid_carries_both() {
    let scene = Scene::new();
    let squid = Squid::start(&scene.world, &scene.collector.data);
    let open = url("http", None, squid.open);
    scene.assert_delivers(&[]);
    scene.assert_delivers(&[("HTTPS_PROXY", &*open), ("NO_PROXY", ".example, collector.test")]);
    scene.assert_delivers(&[("HTTP_PROXY", &*open), ("ALL_PROXY", &*open)]);
    assert_connections(&squid.proxy, &scene.target, 0);

    scene.assert_delivers(&[("HTTPS_PROXY", &*open), ("NO_PROXY", "collector.example")]);
    assert_connections(&squid.proxy, &scene.target, 2);
    scene.assert_delivers(&[("https_proxy", &*url("http", Some(ESCAPED_PASSWORD), squid.guarded))]);
    assert_connections(&squid.proxy, &scene.target, 4);
    // The certificate is the collector's: it is made for this machine's names as well.
    scene.assert_delivers(&[("HTTPS_PROXY", &*url("https", Some(PASSWORD), squid.guarded_tls))]);
    assert_connections(&squid.proxy, &scene.target, 6);
}

#[test]
fn squid_turns_away_who_does_not_know_the_password() {
    let scene = Scene::new();
    let squid = Squid::start(&scene.world, &scene.collector.data);
    for (scheme, port, password) in [
        ("http", squid.guarded, None),
        ("http", squid.guarded, Some(WRONG_PASSWORD)),
        ("https", squid.guarded_tls, Some(WRONG_PASSWORD)),
    ] {
        let why = format!("through the proxy {scheme}://127.0.0.1:{port}: the proxy wants a user name and a password");
        let cluster = scene.assert_stores(&[("HTTPS_PROXY", &*url(scheme, password, port))], &why);
        assert_says(&cluster.said, &why, "(HTTP 407)");
        assert_connections(&squid.proxy, &scene.target, 0);
        if password.is_some() {
            cluster.assert_delivers(&[("NO_PROXY", HOST)]);
        }
    }
    let refused = squid.proxy.lines_with(&["TCP_DENIED/407", &format!("CONNECT {} ", scene.target)]);
    // Each of the two at once, and both once more.
    assert!(refused >= 3 * 4, "{refused} were refused");
}

#[test]
fn the_configured_proxy_goes_before_the_environment() {
    let scene = Scene::new();
    let squid = Squid::start(&scene.world, &scene.collector.data);
    let target = scene.target.replace(HOST, "127.0.0.1");
    let (report_url, dsn) = (format!("https://{target}"), scene.collector.sentry_dsn.replace(HOST, "127.0.0.1"));
    let (_taken, port) = refusing_port();
    let nowhere = url("http", None, port);
    let (right, wrong) = (url("http", Some(PASSWORD), squid.guarded), url("http", Some(WRONG_PASSWORD), squid.guarded));
    let with = |proxy: &'static str, value| {
        let local = [("ONDAT_TELEMETRY_REPORT_URL", &*report_url), ("ONDAT_TELEMETRY_SENTRY_DSN", &*dsn)];
        [&local[..], &[("HTTPS_PROXY", &*nowhere), (proxy, value)]].concat()
    };
    // An address of this machine: direct, by Go's rules.
    scene.assert_delivers(&with("HTTP_PROXY", &nowhere));
    assert_connections(&squid.proxy, &target, 0);
    scene.assert_delivers(&with("ONDAT_TELEMETRY_PROXY", &right));
    assert_connections(&squid.proxy, &target, 2);
    let cluster = scene.assert_stores(&with("ONDAT_TELEMETRY_PROXY", &wrong), "a password that it knows (HTTP 407)");
    cluster.assert_delivers(&with("ONDAT_TELEMETRY_PROXY", &right));
    assert_connections(&squid.proxy, &target, 4);
}

#[test]
fn tinyproxy_carries_both_for_who_knows_the_password() {
    let scene = Scene::new();
    let (open, port) = tinyproxy(&scene.world, false);
    scene.assert_delivers(&[("HTTPS_PROXY", &*format!("127.0.0.1:{port}"))]);
    assert_connections(&open, &scene.target, 2);

    let (guarded, port) = tinyproxy(&scene.world, true);
    for (password, status) in [(None, "(HTTP 407)"), (Some(WRONG_PASSWORD), "(HTTP 401)")] {
        let cluster = scene.assert_stores(&[("HTTPS_PROXY", &*url("http", password, port))], status);
        assert_says(&cluster.said, &format!("through the proxy http://127.0.0.1:{port}: "), "a password that it knows");
        assert_connections(&guarded, &scene.target, 0);
    }
    scene.assert_delivers(&[("HTTPS_PROXY", &*url("http", Some(ESCAPED_PASSWORD), port))]);
    assert_connections(&guarded, &scene.target, 2);
}

#[test]
fn microsocks_carries_both_for_who_knows_the_password() {
    let scene = Scene::new();
    let (open, port) = microsocks(&scene.world, false);
    scene.assert_delivers(&[("HTTPS_PROXY", &*url("socks5", None, port))]);
    assert_connections(&open, &scene.target, 2);

    let (guarded, port) = microsocks(&scene.world, true);
    for (scheme, password, why) in [
        ("socks5", None, "the proxy wants a user name and a password"),
        ("socks5h", Some(WRONG_PASSWORD), "the proxy does not know this user name and password"),
    ] {
        let why = format!("through the proxy {scheme}://127.0.0.1:{port}: {why}");
        scene.assert_stores(&[("HTTPS_PROXY", &*url(scheme, password, port))], &why);
        assert_connections(&guarded, &scene.target, 0);
    }
    for (connections, scheme) in [(2, "socks5"), (4, "socks5h")] {
        scene.assert_delivers(&[("HTTPS_PROXY", &*url(scheme, Some(ESCAPED_PASSWORD), port))]);
        assert_connections(&guarded, &scene.target, connections);
    }
}

#[test]
fn mitmproxy_is_trusted_with_its_authority_and_not_without() {
    let scene = Scene::new();
    let (proxy, port, authority) = mitmproxy(&scene.world, &scene.collector.ca_file);
    let (proxy_url, authority) = (url("http", None, port), authority.to_str().unwrap());
    let opened = |method: &str, path: &str| {
        wait_for("mitmproxy's log", || {
            Some(proxy.lines_with(&[method, &format!("https://{}/{path}", scene.target)])).filter(|count| *count > 0)
        })
    };
    let why = format!("through the proxy {proxy_url}: TLS: the certificate of ");
    let cluster = scene.assert_stores(&[("HTTPS_PROXY", &*proxy_url)], &why);
    wait_for("mitmproxy's log", || (proxy.lines_with(&["Client TLS handshake failed."]) >= 4).then_some(()));
    assert!(proxy.connections(&scene.target) >= 4, "it went on to the collector each time");
    assert_eq!(proxy.lines_with(&["PUT"]) + proxy.lines_with(&["POST"]), 0, "nothing was said to it");

    cluster.assert_delivers(&[("HTTPS_PROXY", &*proxy_url), ("SSL_CERT_FILE", authority)]);
    assert_eq!((opened("PUT", "v1/reports/"), opened("POST", "api/")), (1, 1));
    scene.assert_delivers(&[("HTTPS_PROXY", &*proxy_url), ("ONDAT_TELEMETRY_CA_FILE", authority)]);
    wait_for("mitmproxy's log", || (opened("PUT", "v1/reports/") + opened("POST", "api/") == 4).then_some(()));
}

#[test]
fn nothing_goes_past_a_proxy_that_is_down_or_cannot_be_used() {
    let scene = Scene::new();
    let (_taken, down) = refusing_port();
    let address = format!("{USER}:{PASSWORD}@127.0.0.1:{down}");
    for (value, why) in [
        (
            format!("http://{address}"),
            format!("through the proxy http://127.0.0.1:{down}: no connection: Connection refused"),
        ),
        (
            format!("https://{address}"),
            format!("through the proxy https://127.0.0.1:{down}: no connection: Connection refused"),
        ),
        (
            format!("socks5h://{address}"),
            format!("through the proxy socks5h://127.0.0.1:{down}: no connection: Connection refused"),
        ),
        (format!("ftp://{address}"), "HTTPS_PROXY is not a usable proxy address (its scheme is not".to_owned()),
        (format!("http://{address}0000"), "HTTPS_PROXY is not a usable proxy address (its port is not".to_owned()),
        // Go drops this one, and connects directly.
        (format!("{address}\n"), "HTTPS_PROXY is not a usable proxy address (it has a control".to_owned()),
    ] {
        let cluster = scene.assert_stores(&[("HTTPS_PROXY", &*value)], &why);
        cluster.assert_delivers(&[]);
    }
    // One that is configured and not taken from the environment is refused at once.
    let cluster = scene.crash(&[]);
    let refused =
        run(cluster.command(&scene.probe, &[("ONDAT_TELEMETRY_PROXY", &*format!("ftp://{address}"))]).arg("flush"));
    assert_says(
        &both(&refused),
        "init_why proxy: the configured proxy is not a usable proxy address",
        "its scheme is not",
    );
    cluster.assert_discreet(&both(&refused));
}
