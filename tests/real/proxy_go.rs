//! Which proxy a request takes, compared with what Go says for the same environment and URL.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::BASE64;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::Setting;
use ondat_telemetry::transport::proxy::ProxySettings;
use serde_json::{Value, json};
use ureq::http::Uri;

use crate::support::{TempDir, both, program, root, succeed};

const SEED: u64 = 20_261_124;
const ENVIRONMENTS: usize = 400;
const URLS: usize = 60;
const PROXY_VARIABLES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];

type Environment = BTreeMap<&'static str, String>;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Through { scheme: String, host: String, port: u16, credentials: Option<(String, String)> },
    Refused,
}

/// The whole difference between the two: Go hands on whatever it could read of a proxy's value and fails later, or
/// drops what it could not read and connects directly. This library says at once that it cannot use the value.
fn expected(value: &str, go: Option<&Value>, is_selected: Option<&Value>) -> Way {
    match (go, is_selected) {
        (_, None) => Way::Direct,
        // A CGI program: an error for Go as well.
        (_, Some(selected)) if selected.get("error").is_some() => Way::Refused,
        // Dropped.
        (None, Some(_)) => Way::Refused,
        (Some(go), Some(_)) => usable(value, go).unwrap_or(Way::Refused),
    }
}

/// A proxy that this library can use, out of what Go has read.
fn usable(value: &str, go: &Value) -> Option<Way> {
    let (scheme, host) = (go["scheme"].as_str()?, go["host"].as_str()?);
    // What cannot be read is read once more by Go behind `http://`: `http://a b` becomes the proxy `http`.
    if value.starts_with(&format!("{host}/")) && host.ends_with(':') {
        return None;
    }
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        "socks5" | "socks5h" => 1080,
        _ => return None,
    };
    let (name, port) = match host.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((name, "")) => (name, default_port),
        Some((name, port)) => (name, port.parse().ok()?),
        None => (host, default_port),
    };
    let is_host = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
    };
    if !is_host || port == 0 {
        return None;
    }
    let text = |name: &str| {
        let bytes = BASE64.decode(go["credentials"][name].as_str()?.as_bytes()).unwrap();
        String::from_utf8(bytes).ok()
    };
    let credentials = match &go["credentials"] {
        Value::Null => None,
        _ => Some((text("user")?, text("password")?)),
    };
    Some(Way::Through { scheme: scheme.to_owned(), host: name.to_owned(), port, credentials })
}

fn way(settings: &ProxySettings, url: &Uri) -> Way {
    match settings.choose(url) {
        Err(_) => Way::Refused,
        Ok(None) => Way::Direct,
        Ok(Some(proxy)) => {
            Way::Through { scheme: proxy.scheme, host: proxy.host, port: proxy.port, credentials: proxy.credentials }
        }
    }
}

/// What the library reads from these variables: a cluster's `spec.environment` is read as the process's is.
fn settings(environment: &Environment) -> ProxySettings {
    let mut builder = ConfigBuilder::new();
    for (setting, value) in [
        (Setting::Component, "probe"),
        (Setting::Version, "1.0.0"),
        (Setting::ClusterId, "cluster"),
        (Setting::NodeId, "node"),
    ] {
        builder.set(setting, value);
    }
    builder.load_cluster_spec(&json!({ "spec": { "environment": environment } }).to_string());
    builder.build().unwrap_or_else(|why| panic!("{environment:?}: {why}")).given.https.proxy
}

/// Go, asked.
struct Go {
    oracle: PathBuf,
    /// Where it is not, as in Go 1.19, a value with a scheme before something else than `http`, `https` or `socks5` and
    /// a host was read in another way, and nothing can be learnt from Go's answer.
    is_current: bool,
}

impl Go {
    fn build(folder: &TempDir) -> Self {
        let oracle = folder.join("proxy_oracle");
        // Go's library is compiled once and kept with what else is built for tests.
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        let mut build = program("go");
        build.current_dir(root().join("tests/real/proxy_oracle"));
        build.args(["build", "-buildvcs=false", "-gcflags=all=-N -l", "-o"]).arg(&oracle).arg(".");
        build.env("HOME", &kept).env("GOCACHE", kept.join("cache")).env("GOPATH", kept.join("path"));
        build.envs([("CGO_ENABLED", "0"), ("GOENV", "off"), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
        succeed(&mut build);
        let go = Self { oracle, is_current: true };
        let socks5h = Environment::from([("HTTPS_PROXY", "socks5h://proxy".to_owned())]);
        let answers = go.ask(&socks5h, &["https://example.com".to_owned()]);
        let is_current = answers[0].as_ref().unwrap()["scheme"] == "socks5h";
        Self { is_current, ..go }
    }

    /// Whether every Go reads the value in the same way, or this one in the current way.
    fn is_judge_of(&self, value: &str) -> bool {
        let scheme_end = value.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
        let has_scheme = scheme_end.is_some_and(|end| value[end..].starts_with(':'));
        let lower = value.to_lowercase();
        let is_well_known = ["http://", "https://", "socks5://"].iter().any(|scheme| lower.starts_with(scheme));
        self.is_current || !has_scheme || is_well_known
    }

    fn ask(&self, environment: &Environment, urls: &[String]) -> Vec<Option<Value>> {
        let mut command = Command::new(&self.oracle);
        command.env_clear().envs(environment).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Less than a pipe holds: it is written before the first answer is read.
        child.stdin.take().unwrap().write_all((urls.join("\n") + "\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
        let answers = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<Option<Value>> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), urls.len());
        answers
    }
}

/// Chance that comes out the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % most as u64).unwrap()
    }

    fn one_in(&mut self, most: usize) -> bool {
        self.below(most) == 0
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    fn word(&mut self, words: &str) -> String {
        self.pick(&words.split(' ').collect::<Vec<_>>()).to_owned()
    }

    fn case(&mut self, text: String) -> String {
        if self.one_in(4) { text.to_uppercase() } else { text }
    }
}

/// What one environment and its URLs have in common: without that, no item of NO_PROXY would ever match.
struct Subject {
    /// In ASCII, for URLs.
    name: &'static str,
    /// As people write it, for NO_PROXY.
    written: &'static str,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

const NAMES: [(&str, &str); 8] = [
    ("example.com", "example.com"),
    ("host-1.example.com", "host-1.example.com"),
    ("intranet", "intranet"),
    ("node_1.test", "node_1.test"),
    ("xn--bcher-kva.example", "b\u{fc}cher.example"),
    ("xn--r8jz45g.xn--zckzah", "\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}"),
    ("xn--e1afmkfd.test", "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.test"),
    ("xn--mgbh0fb.test", "\u{645}\u{62b}\u{627}\u{644}.test"),
];
/// Without zones, which no URL of this library may have, and of which Go has not always thought the same.
const HOSTS: &str = "localhost LOCALHOST localhost. sub.localhost 127.0.0.1 127.255.255.254 127.1 0177.0.0.1 2130706433 \
    0.0.0.0 255.255.255.255 010.1.2.3 1.2.3.4.5 [::1] [0:0:0:0:0:0:0:1] [::] [::ffff:127.0.0.1] \
    [::FFFF:7f00:1] [::127.0.0.1] [64:ff9b::10.1.2.3] [fe80::1] example.org com 10.1.2.3.example.com - \
    a..b";
const ITEMS: &str = "* *. . .. .* ** *:443 :443 : []:443 [ ] [:443 % / /8 0.0.0.0/0 ::/0 ::ffff:0:0/96 ::ffff:0:0/95 \
    127.0.0.0/8 localhost com .com *.com 10. 10.* http://example.com fe80::1%eth0 ::1:443";

impl Subject {
    fn new(dice: &mut Dice) -> Self {
        let (name, written) = NAMES[dice.below(NAMES.len())];
        let v4 = Ipv4Addr::from_bits(u32::try_from(dice.below(1 << 32)).unwrap());
        let v6 = Ipv6Addr::from_bits((0x2001_0db8 << 96) | dice.below(usize::MAX) as u128);
        Self { name, written, v4, v6 }
    }

    fn url(&self, dice: &mut Dice) -> String {
        let scheme = dice.pick(&["https", "https", "https", "https", "http", "http", "http", "ftp", "wss"]);
        let host = match dice.below(10) {
            0..=4 => {
                let before = dice.pick(&["", "", "", "www.", "a.b.", "not", "."]);
                let after = dice.pick(&["", "", "", "", ".", ".net"]);
                dice.case(format!("{before}{}{after}", self.name))
            }
            5 => {
                let address = self.v4_nearby(dice);
                if dice.one_in(3) { format!("[::ffff:{address}]") } else { address.to_string() }
            }
            6 => {
                let address = self.v6_nearby(dice);
                let address = spelled(dice, address);
                dice.case(format!("[{address}]"))
            }
            _ => dice.word(HOSTS),
        };
        let port = dice.pick(&["", "", "", ":", ":443", ":80", ":8443", ":0443", ":1", ":65535"]);
        format!("{scheme}://{host}{port}{}", dice.pick(&["", "/", "/v1/reports/1"]))
    }

    /// The address, or one that differs in one bit.
    fn v4_nearby(&self, dice: &mut Dice) -> Ipv4Addr {
        let bit = if dice.one_in(2) { 1 << dice.below(32) } else { 0 };
        Ipv4Addr::from_bits(self.v4.to_bits() ^ bit)
    }

    fn v6_nearby(&self, dice: &mut Dice) -> Ipv6Addr {
        let bit = if dice.one_in(2) { 1 << dice.below(128) } else { 0 };
        Ipv6Addr::from_bits(self.v6.to_bits() ^ bit)
    }

    fn no_proxy(&self, dice: &mut Dice) -> String {
        let items = (0..dice.below(5)).map(|_| {
            let item = match dice.below(8) {
                0..=3 => {
                    let before = dice.pick(&["", "", ".", "*.", "*", "www.", "www", "b."]);
                    let name = if dice.one_in(3) { self.name } else { self.written };
                    let after = dice.pick(&[
                        "", "", "", "", ".", ":443", ":80", ":8443", ":0443", ":", ":https", ":443:80", "/", "/8",
                        "]:443",
                    ]);
                    format!("{before}{name}{after}")
                }
                4 => self.v4_item(dice),
                5 => self.v6_item(dice),
                _ => dice.word(ITEMS),
            };
            let (before, after) = (dice.pick(&["", "", " ", "\t", "\u{a0}"]), dice.pick(&["", "", " ", " \n"]));
            format!("{before}{}{after}", dice.case(item))
        });
        items.collect::<Vec<_>>().join(dice.pick(&[",", ",", ",", ",,", ", ", " ", ";"]))
    }

    fn v4_item(&self, dice: &mut Dice) -> String {
        let address = self.v4_nearby(dice);
        match dice.below(8) {
            0 => address.to_string(),
            1 => format!("::ffff:{address}"),
            2 => format!("[{address}]:443"),
            3 => format!("{address}{}", dice.pick(&[":443", ":80", ":", "/", "/33", "/-1", "/+8", "/8:443", "/ 8"])),
            4 => format!("::ffff:{address}/{}", 90 + dice.below(40)),
            _ => format!("{address}/{}{}", dice.pick(&["", "", "0"]), dice.below(34)),
        }
    }

    fn v6_item(&self, dice: &mut Dice) -> String {
        let address = self.v6_nearby(dice);
        let address = spelled(dice, address);
        match dice.below(6) {
            0 => address,
            1 => format!("[{address}]"),
            2 => format!("[{address}]{}", dice.pick(&[":443", ":80", ":", ":0443", "443"])),
            3 => format!("{address}%eth0"),
            _ => format!("{address}/{}", dice.below(130)),
        }
    }
}

/// The same address, in short or in full.
fn spelled(dice: &mut Dice, address: Ipv6Addr) -> String {
    if dice.one_in(2) {
        return address.to_string();
    }
    address.segments().map(|segment| format!("{segment:04x}")).join(":")
}

fn proxy_value(dice: &mut Dice) -> String {
    if dice.one_in(12) {
        return dice.pick(&ODD_VALUES).to_owned();
    }
    let is_plain = dice.one_in(2);
    let mut pick = |plain: &[&'static str], odd: &[&'static str]| {
        if is_plain || dice.one_in(2) { dice.pick(plain) } else { dice.pick(odd) }
    };
    let scheme = pick(
        &["", "http://", "https://", "socks5://", "socks5h://", "HTTP://"],
        &["ftp://", "socks4://", "socks://", "quic+1://", "ht_tp://", "://", "http:", "http:/", "//", "http:///"],
    );
    let user = pick(
        &["", "", "user@", "user:pass@", "us%40er:p%3aw%2F%25@", "user:@", ":pass@", "u!$&'()*+,;=~:x@"],
        &["@", ":@", "us er:pw@", "u:p%zz@", "u:p%4@", "\u{fc}:pw@", "us@er:p:w@", "u:%ff@", "a\"b:c@", "u:%c3%bc%00@"],
    );
    let host = pick(
        &["proxy", "proxy.example", "Proxy.Example", "10.9.8.7", "[2001:db8::8]", "[::ffff:10.0.0.1]", "my_proxy"],
        &[
            "",
            "[fe80::1%25eth0]",
            "[proxy]",
            "[10.0.0.1]",
            "[]",
            "pro xy",
            "pr\u{f6}xy",
            "p%72oxy",
            "pr%C3%B6xy",
            "2001:db8::8",
            "proxy.",
            "-",
            "a,b",
            "*",
            "[::1",
            "::1]",
            "p]roxy",
            "localhost",
            "127.0.0.1",
        ],
    );
    let port = pick(
        &["", ":3128", ":8080", ":", ":80", ":65535"],
        &[":0", ":65536", ":99999", ":03128", ":http", ":+80", ":80 ", ":-1", ":3128:80", ":3128]"],
    );
    let rest = pick(
        &["", "", "", "/"],
        &["/path", "/%zz", "/%41", "/a b", "?q=%zz", "#f", "#%zz", "\n", "/\t", "#\t", "/x://y"],
    );
    let mut value = format!("{scheme}{user}{host}{port}{rest}");
    if !is_plain && dice.one_in(3) {
        // One character more, less, or another one.
        let mut characters: Vec<char> = value.chars().collect();
        let at = dice.below(characters.len() + 1);
        let end = if at < characters.len() { at + dice.below(2) } else { at };
        characters
            .splice(at..end, dice.pick(&["", ":", "/", "@", "[", "]", "%", "?", "#", " ", "a", "\u{e9}"]).chars());
        value = characters.into_iter().collect();
    }
    value
}

const ODD_VALUES: [&str; 24] = [
    "http://",
    "http:///proxy",
    "http:proxy:80",
    "http:80",
    "http:/proxy:3128",
    "http://a b:1",
    "http://proxy:3128 ",
    " http://proxy:3128",
    "://proxy",
    "//proxy:80",
    "/proxy",
    "proxy:/",
    "u@proxy:/",
    "1.2.3.4://x",
    "socks5:1080",
    "proxy:3128/x://y",
    "user:pass@proxy:80",
    "user:p\u{e4}ss@proxy:80",
    "direct",
    " ",
    "*",
    "?",
    "#",
    "%",
];

fn environment(dice: &mut Dice, subject: &Subject, go: &Go) -> Environment {
    let mut environment = Environment::new();
    for names in PROXY_VARIABLES.chunks(2).chain([&["NO_PROXY", "no_proxy"][..]]) {
        for name in names {
            // One of two is there, and a tenth of those is empty.
            if dice.one_in(2) {
                continue;
            }
            let value = match *name {
                _ if dice.one_in(10) => String::new(),
                "NO_PROXY" | "no_proxy" => subject.no_proxy(dice),
                _ => std::iter::repeat_with(|| proxy_value(dice)).find(|value| go.is_judge_of(value)).unwrap(),
            };
            environment.insert(name, value);
        }
    }
    if dice.one_in(8) {
        environment.insert("REQUEST_METHOD", dice.pick(&["", "GET", "GET"]).to_owned());
    }
    environment
}

/// The value that counts for this URL.
fn value_for<'a>(environment: &'a Environment, url: &Uri) -> &'a str {
    let names = if url.scheme_str() == Some("https") { &PROXY_VARIABLES[2..] } else { &PROXY_VARIABLES[..2] };
    names.iter().filter_map(|name| environment.get(name)).find(|value| !value.is_empty()).map_or("", String::as_str)
}

/// What was compared, for the count.
fn kinds<'a>(expected: &'a Way, go: Option<&Value>) -> Vec<&'a str> {
    match (expected, go) {
        (Way::Direct, _) => vec!["direct"],
        (Way::Through { scheme, credentials: None, .. }, _) => vec![scheme],
        (Way::Through { scheme, credentials: Some(_), .. }, _) => vec![scheme, "with credentials"],
        (Way::Refused, None) => vec!["dropped"],
        (Way::Refused, Some(go)) if go.get("error").is_some() => vec!["CGI"],
        (Way::Refused, Some(_)) => vec!["unusable"],
    }
}

#[test]
fn requests_take_the_proxy_that_go_chooses() {
    let folder = TempDir::new();
    let go = Go::build(&folder);
    let mut dice = Dice(SEED);
    let (mut compared, mut differences) = (BTreeMap::<String, usize>::new(), Vec::new());
    for _ in 0..ENVIRONMENTS {
        let subject = Subject::new(&mut dice);
        let environment = environment(&mut dice, &subject, &go);
        let urls: Vec<String> = (0..URLS).map(|_| subject.url(&mut dice)).collect();
        let settings = settings(&environment);
        // Whether there is a proxy for a URL at all, whatever its value: also where Go drops what it cannot read.
        let mut readable = environment.clone();
        for (_, value) in
            readable.iter_mut().filter(|(name, value)| PROXY_VARIABLES.contains(name) && !value.is_empty())
        {
            *value = "http://readable".to_owned();
        }
        let (answers, selected) = (go.ask(&environment, &urls), go.ask(&readable, &urls));
        for ((text, go), selected) in urls.iter().zip(&answers).zip(&selected) {
            let url: Uri = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            let expected = expected(value_for(&environment, &url), go.as_ref(), selected.as_ref());
            let way = way(&settings, &url);
            if way != expected {
                differences.push(format!("{text}: {way:?}, expected {expected:?}, Go {go:?}\nwith {environment:?}"));
            }
            for kind in kinds(&expected, go.as_ref()) {
                *compared.entry(kind.to_owned()).or_default() += 1;
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences[..differences.len().min(9)].join("\n")
    );
    // Every kind of answer was there, and often.
    for (kind, least) in [
        ("direct", 5000),
        ("http", 1000),
        ("https", 200),
        ("socks5", 200),
        ("socks5h", if go.is_current { 200 } else { 0 }),
        ("with credentials", 1000),
        ("unusable", 1000),
        ("dropped", 500),
        ("CGI", 100),
    ] {
        assert!(compared.get(kind).copied().unwrap_or_default() >= least, "{kind}: {compared:?}");
    }
}
