//! The version check against the DNS servers that operators run, with the zone file that `ondat-telemetry zone` prints.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::dns_servers::{
    Authority, AuthorityKind, DNSMASQ_STALE_TTL, Resolver, ResolverKind, UNBOUND_STALE_TTL, ZONE,
};
use crate::support::{
    CLUSTER_ID, NODE_ID, Said, TempDir, VERSION, both, compile, ondat, program, python, run, status,
    stay_within_one_day, succeed, wait_for,
};

/// A release with an answer for all versions and one for this one.
const OVERRIDDEN_VERSION: &str = "2.7.3";
const RELEASE: &str = "latest = '2.9.0'\nrecommended = '2.7.0'\nadvisory = 'ODT-2026-001'\n\
                       [[override]]\nversion = '2.7.3'\nstatus = 3\nadvisory = 'ODT-2026-007'\nreplayable = true\n";
const OUTDATED: i64 = 2;
const UPGRADE_REQUIRED: i64 = 4;
/// What `probe` gives a call, and some time for the process around it.
const PROBE_TIME: Duration = Duration::from_secs(8 + 4);

/// A folder with a version key, the zones signed by it, and `probe`.
struct Vendor {
    folder: TempDir,
    probe: PathBuf,
}

impl Vendor {
    fn new() -> Self {
        let folder = TempDir::new();
        let probe = compile("probe.c", &folder);
        let vendor = Self { folder, probe };
        vendor.make_key("key");
        vendor
    }

    fn make_key(&self, name: &str) {
        succeed(ondat(&["keygen", "version", "--out"]).arg(self.folder.join(name)));
    }

    /// A key that queries are sealed for: its private file, and the public key.
    fn make_seal_key(&self, name: &str) -> (PathBuf, String) {
        succeed(ondat(&["keygen", "version-seal", "--out"]).arg(self.folder.join(name)));
        let file = |name_of_file: &str| self.folder.join(name).join(name_of_file);
        let public = std::fs::read_to_string(file("version-seal.pub")).unwrap();
        (file("version-seal.key"), public.trim().to_owned())
    }

    fn public_key(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.join(name).join("version.pub")).unwrap();
        text.trim().to_owned()
    }

    /// The zone file of a release.
    fn sign(&self, keys: &[&str], release: &str, zone_arguments: &[&str]) -> PathBuf {
        let file = self.folder.join("release.toml");
        std::fs::write(&file, format!("zone = \"{ZONE}\"\n{release}")).unwrap();
        let mut command = ondat(&["zone"]);
        command.arg(file).args(zone_arguments);
        for key in keys {
            command.arg("--key").arg(self.folder.join(key).join("version.key"));
        }
        let zone_file = self.folder.join("zone");
        std::fs::write(&zone_file, succeed(&mut command).stdout).unwrap();
        // BIND's own opinion, which also shows that a failure to load is not what a test sees.
        succeed(program("named-checkzone").arg(ZONE).arg(&zone_file));
        zone_file
    }

    fn authority(&self, kind: AuthorityKind, zone_file: &Path) -> Authority {
        Authority::start(kind, &self.folder.join(&format!("{kind:?}")), zone_file)
    }

    fn resolver(&self, kind: ResolverKind, authority: &Authority) -> Resolver {
        Resolver::start(kind, &self.folder.join(&format!("{kind:?}")), authority.port)
    }

    /// Signs a release with a key and serves it with BIND.
    fn serve(&self, key: &str, release: &str, zone_arguments: &[&str]) -> Authority {
        self.authority(AuthorityKind::Bind, &self.sign(&[key], release, zone_arguments))
    }

    /// One check in a process of its own, without any memory of earlier ones.
    fn check(&self, zone: &str, port: u16, public_key: &str) -> Said {
        self.check_as(VERSION, NODE_ID, zone, port, public_key)
    }

    fn check_as(&self, version: &str, node_id: &str, zone: &str, port: u16, public_key: &str) -> Said {
        Said::of(&run(&mut self.probe_as(version, node_id, zone, port, public_key)))
    }

    fn check_sealed(&self, version: &str, node_id: &str, port: u16, public_key: &str, seal_key: &str) -> Said {
        let mut command = self.probe_as(version, node_id, ZONE, port, public_key);
        Said::of(&run(command.env("ONDAT_TELEMETRY_VERSION_SEAL_KEY", seal_key)))
    }

    fn probe_as(&self, version: &str, node_id: &str, zone: &str, port: u16, public_key: &str) -> Command {
        let mut command = program(&self.probe);
        command.arg("check");
        command.env("ONDAT_TELEMETRY_VERSION", version);
        command.env("ONDAT_TELEMETRY_CLUSTER_ID", CLUSTER_ID).env("ONDAT_TELEMETRY_NODE_ID", node_id);
        command.env("ONDAT_TELEMETRY_VERSION_ZONE", zone).env("ONDAT_TELEMETRY_VERSION_KEY", public_key);
        command.env("ONDAT_TELEMETRY_NAMESERVERS", format!("127.0.0.1:{port}"));
        command
    }
}

/// The name of a question says who asks, by Python.
fn assert_says(name: &str, version: &str, node_id: &str, days: RangeInclusive<u64>, seal_key: Option<&Path>) {
    let mut decode = python("decode_query.py");
    // Resolvers may change the case of a name, which means nothing in DNS (RFC 4343).
    decode.args([&name.to_ascii_lowercase(), ZONE]).args(seal_key);
    let read: Value = serde_json::from_slice(&succeed(&mut decode).stdout).unwrap();
    let output = succeed(python("ids.py").args([CLUSTER_ID, node_id]));
    let ids: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&read["format"], &read["sealed"]), (&json!(1), &json!(seal_key.is_some())), "{read}");
    assert_eq!(read["check_holds"], true, "{read}");
    assert_eq!(read["version"], version, "{read}");
    assert_eq!(read["cluster"], ids["cluster"], "{read}");
    assert_eq!(read["node"], ids["node"], "{read}");
    let day = read["day"].as_u64().unwrap();
    assert!(days.contains(&day), "{read}");
}

fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400
}

#[test]
fn a_signed_answer_of_bind_is_believed_and_the_question_says_who_asks() {
    let vendor = Vendor::new();
    let named = vendor.serve("key", "latest = '2.9.0'\nrecommended = '2.7.0'\n", &[]);
    let day_before = today();
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::OK, "{said:?}");
    assert_eq!((said.number("verdict"), said.text("latest")), (OUTDATED, "2.9.0"), "{said:?}");
    assert_eq!((said.text("running"), said.text("advisory")), (VERSION, "-"), "{said:?}");
    assert_eq!(said.number("authenticated"), 1, "{said:?}");

    let asked = named.asked_txt();
    assert_eq!(asked.len(), 1, "one check is one TXT query: {asked:?}");
    assert_says(&asked[0], VERSION, NODE_ID, day_before..=today(), None);
    for raw in [CLUSTER_ID, NODE_ID] {
        assert!(!asked[0].contains(raw), "{asked:?}");
    }

    // The next check is the next question.
    vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(named.asked_txt(), [asked[0].clone(), asked[0].clone()]);
}

#[test]
fn an_override_for_the_running_version_requires_the_upgrade() {
    let vendor = Vendor::new();
    let release = "latest = '2.9.0'\nadvisory = 'ODT-2026-001'\n\
                   [[override]]\nversion = '2.8.1'\nstatus = 3\nadvisory = 'ODT-2026-007'\nreplayable = true\n";
    let named = vendor.serve("key", release, &[]);
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::OK, "{said:?}");
    assert_eq!(said.number("verdict"), UPGRADE_REQUIRED, "{said:?}");
    assert_eq!((said.text("latest"), said.text("advisory")), ("2.9.0", "ODT-2026-007"), "{said:?}");
    assert_eq!(said.number("authenticated"), 1, "{said:?}");
    assert_eq!(named.asked_txt().len(), 1);
}

#[test]
fn an_answer_signed_by_another_key_is_untrusted() {
    let vendor = Vendor::new();
    vendor.make_key("other");
    let named = vendor.serve("other", "latest = '2.9.0'\n", &[]);
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::UNTRUSTED, "{said:?}");
    assert_eq!(named.asked_txt().len(), 1);
    // The same answer is believed by who has the other key: it was whole.
    let said = vendor.check(ZONE, named.port, &vendor.public_key("other"));
    assert_eq!(said.number("check_version"), status::OK, "{said:?}");
}

#[test]
fn an_expired_answer_is_untrusted() {
    let vendor = Vendor::new();
    let three_days_ago = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 3 * 86_400).to_string();
    let named = vendor.serve("key", "latest = '2.9.0'\nexpires_days = 2\n", &["--now", &three_days_ago]);
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::UNTRUSTED, "{said:?}");
    assert!(said.text("check_version_why").contains("expired"), "{said:?}");
    assert_eq!(named.asked_txt().len(), 1);
}

#[test]
fn a_name_that_does_not_exist_is_no_answer() {
    let vendor = Vendor::new();
    let named = vendor.serve("key", "latest = '2.9.0'\n", &[]);
    let absent = format!("absent.{ZONE}");
    let said = vendor.check(&absent, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::UNTRUSTED, "{said:?}");
    assert!(said.text("check_version_why").contains("no answer"), "{said:?}");
    let asked = named.asked_txt();
    assert!(matches!(asked.as_slice(), [name] if name.ends_with(&format!(".o1.{absent}"))), "{asked:?}");
}

#[test]
fn a_server_that_is_gone_is_a_network_failure_within_the_timeout() {
    let vendor = Vendor::new();
    let named = vendor.serve("key", "latest = '2.9.0'\n", &[]);
    let said = vendor.check(ZONE, named.port, &vendor.public_key("key"));
    assert_eq!(said.number("check_version"), status::OK, "it was there: {said:?}");

    let port = named.port;
    named.stop();
    let started = Instant::now();
    let said = vendor.check(ZONE, port, &vendor.public_key("key"));
    let took = started.elapsed();
    let outcome = said.number("check_version");
    assert!([status::NETWORK, status::TIMED_OUT].contains(&outcome), "{said:?}");
    assert!(took < PROBE_TIME, "{took:?}");
}

/// Forwarders pass on every question that they get, also a repeated one.
#[test]
fn a_slow_answer_is_waited_for_with_one_question() {
    let vendor = Vendor::new();
    let named = vendor.serve("key", "latest = '2.9.0'\n", &[]);
    let public_key = vendor.public_key("key");
    named.pause();
    let said = std::thread::scope(|scope| {
        let check = scope.spawn(|| vendor.check(ZONE, named.port, &public_key));
        wait_for("a question that waits", || named.has_waiting().then_some(()));
        // Nothing is to happen now, which cannot be waited for.
        std::thread::sleep(Duration::from_millis(800));
        assert!(!check.is_finished(), "a check was over without an answer");
        named.resume();
        check.join().unwrap()
    });
    assert_eq!((said.number("check_version"), said.text("latest")), (status::OK, "2.9.0"), "{said:?}");
    let asked = named.asked_txt();
    assert_eq!(asked.len(), 1, "one check is one TXT query, also when it takes its time: {asked:?}");
}

/// The way of a question to the authority: none for the direct one.
const WAYS: [Option<ResolverKind>; 5] = [
    None,
    Some(ResolverKind::Unbound),
    Some(ResolverKind::UnboundCareful),
    Some(ResolverKind::Dnsmasq),
    Some(ResolverKind::DnsmasqStale),
];

/// One authority, asked by every way about both answers of the release: each check has the same verdict and is one TXT
/// query in the authority's log.
fn the_same_verdict_by_every_way(kind: AuthorityKind) {
    let vendor = Vendor::new();
    vendor.make_key("next");
    let authority = vendor.authority(kind, &vendor.sign(&["key", "next"], RELEASE, &[]));
    // Each answer is there once for each key: the client has to find the one that it can believe.
    let public_key = vendor.public_key("next");
    let (seal_key, public_seal_key) = vendor.make_seal_key("seal");
    let (day_before, mut checks) = (today(), Vec::new());
    for way in WAYS {
        let resolver = way.map(|kind| vendor.resolver(kind, &authority));
        let port = resolver.as_ref().map_or(authority.port, |resolver| resolver.port);
        for (version, verdict, advisory) in
            [(VERSION, OUTDATED, "-"), (OVERRIDDEN_VERSION, UPGRADE_REQUIRED, "ODT-2026-007")]
        {
            let node_id = format!("node behind {way:?}");
            for is_sealed in [false, true] {
                let said = if is_sealed {
                    vendor.check_sealed(version, &node_id, port, &public_key, &public_seal_key)
                } else {
                    vendor.check_as(version, &node_id, ZONE, port, &public_key)
                };
                let case = format!("{kind:?}, {way:?}, sealed {is_sealed}: {said:?}");
                assert_eq!(said.number("check_version"), status::OK, "{case}");
                assert_eq!(said.number("verdict"), verdict, "{case}");
                assert_eq!(said.text("latest"), "2.9.0", "{case}");
                assert_eq!(said.text("advisory"), advisory, "{case}");
                assert_eq!(said.number("authenticated"), 1, "{case}");
                checks.push((way, version, node_id.clone(), is_sealed));
            }
        }
    }

    let (asked_txt, others): (Vec<_>, Vec<_>) =
        authority.asked().into_iter().partition(|question| question.record_type == "TXT");
    assert_eq!(asked_txt.len(), checks.len(), "{kind:?}: one check is one TXT query: {asked_txt:?}");
    for (question, (way, version, node_id, is_sealed)) in asked_txt.iter().zip(&checks) {
        let seal_key = is_sealed.then_some(seal_key.as_path());
        assert_says(&question.name, version, node_id, day_before..=today(), seal_key);
        let is_random_case = *way == Some(ResolverKind::UnboundCareful);
        assert!(!is_random_case || has_upper_case(&question.name), "{kind:?}, {way:?}: {question:?}");
    }
    // Both Unbounds have gone down to the name label by label.
    for is_random_case in [false, true] {
        let short = others.iter().find(|question| {
            question.name.eq_ignore_ascii_case(&format!("o1.{ZONE}"))
                && has_upper_case(&question.name) == is_random_case
        });
        assert!(short.is_some(), "{kind:?}, random case {is_random_case}: {others:?}");
    }

    // The release manager's own reader finds the same in the log as it is.
    let mut decode = ondat(&["decode-query", "--json", "--from-log"]);
    let read = succeed(decode.arg(authority.log()).arg("--key").arg(&seal_key));
    let read: Vec<Value> =
        String::from_utf8(read.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let read: Vec<_> = read.iter().map(|said| (said["version"].as_str(), said["sealed"].as_bool())).collect();
    let expected: Vec<_> = checks.iter().map(|(_, version, _, is_sealed)| (Some(*version), Some(*is_sealed))).collect();
    assert_eq!(read, expected, "{kind:?}");
}

/// Signs zones, publishes them by this server, and has the release manager's own command look at them.
fn the_published_zone_is_seen(kind: AuthorityKind) {
    let vendor = Vendor::new();
    vendor.make_key("other");
    let verify = |authority: &Authority, keys: &str, more: &[&str]| {
        let mut command = ondat(&["zone", "--verify", ZONE, "--json", "--timeout-ms", "10000", "--version-key", keys]);
        command.args(["--nameservers", &format!("127.0.0.1:{}", authority.port)]).args(more);
        let output = run(&mut command);
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    let (key, other) = (vendor.public_key("key"), vendor.public_key("other"));
    let authority =
        vendor.authority(kind, &vendor.sign(&["key", "other"], &format!("expires_days = 8\n{RELEASE}"), &[]));
    let (code, said) = verify(&authority, &format!("{key},{other}"), &[]);
    assert_eq!((code, &said["latest"], &said["status"]), (Some(0), &json!("2.9.0"), &Value::Null), "{kind:?}: {said}");
    assert_eq!(verify(&authority, &key, &["--within-days", "8"]).0, Some(1), "{kind:?}");
    // An override is the answer for its version, and no answer for another's.
    let (code, said) = verify(&authority, &key, &["--product-version", OVERRIDDEN_VERSION]);
    assert_eq!((code, &said["status"], &said["advisory"]), (Some(0), &json!(3), &json!("ODT-2026-007")), "{kind:?}");
    vendor.make_key("third");
    assert_eq!(verify(&authority, &vendor.public_key("third"), &[]).0, Some(5), "{kind:?}");
    // Nobody has counted these questions as a client's.
    let mut decode = ondat(&["decode-query", "--summary", "--json", "--from-log"]);
    authority.asked();
    let read: Value = serde_json::from_slice(&succeed(decode.arg(authority.log())).stdout).unwrap();
    assert_eq!(read["queries"], 0, "{kind:?}: {read}");
    let port = authority.port;
    authority.stop();
    let mut command = ondat(&["zone", "--verify", ZONE, "--timeout-ms", "500", "--version-key", &key]);
    assert_eq!(run(command.args(["--nameservers", &format!("127.0.0.1:{port}")])).status.code(), Some(4), "{kind:?}");
}

#[test]
fn the_zone_that_bind_publishes_is_seen() {
    the_published_zone_is_seen(AuthorityKind::Bind);
}

#[test]
fn the_zone_that_nsd_publishes_is_seen() {
    the_published_zone_is_seen(AuthorityKind::Nsd);
}

#[test]
fn the_zone_that_knot_publishes_is_seen() {
    the_published_zone_is_seen(AuthorityKind::Knot);
}

#[test]
fn the_zone_that_power_dns_publishes_is_seen() {
    the_published_zone_is_seen(AuthorityKind::PowerDns);
}

fn has_upper_case(name: &str) -> bool {
    name.chars().any(|c| c.is_ascii_uppercase())
}

#[test]
fn bind_has_the_same_verdict_by_every_way() {
    the_same_verdict_by_every_way(AuthorityKind::Bind);
}

#[test]
fn nsd_has_the_same_verdict_by_every_way() {
    the_same_verdict_by_every_way(AuthorityKind::Nsd);
}

#[test]
fn knot_has_the_same_verdict_by_every_way() {
    the_same_verdict_by_every_way(AuthorityKind::Knot);
}

#[test]
fn power_dns_has_the_same_verdict_by_every_way() {
    the_same_verdict_by_every_way(AuthorityKind::PowerDns);
}

#[test]
fn the_checkers_of_the_servers_accept_the_zone_file() {
    let vendor = Vendor::new();
    vendor.make_key("next");
    let zone_file = vendor.sign(&["key", "next"], RELEASE, &[]);
    let text = std::fs::read_to_string(&zone_file).unwrap();
    assert_eq!(text.matches(" TXT ").count(), 4, "two answers by two keys: {text}");
    let broken_file = vendor.folder.join("broken");
    let broken: Vec<&str> = text.lines().filter(|line| !line.contains(" SOA ")).collect();
    std::fs::write(&broken_file, broken.join("\n") + "\n").unwrap();
    for checker in [&["named-checkzone", ZONE][..], &["kzonecheck", "--origin", ZONE], &["nsd-checkzone", ZONE]] {
        let check = |file: &Path| run(program(checker[0]).args(&checker[1..]).arg(file));
        let output = check(&zone_file);
        assert!(output.status.success(), "{checker:?}: {}\n{text}", both(&output));
        assert!(!check(&broken_file).status.success(), "{checker:?} accepts a zone without SOA");
    }
}

/// The authority is gone, the answer's time is over, and the resolver gives it out nevertheless.
fn a_stale_answer_is_as_good(kind: ResolverKind, stale_ttl: u32) {
    stay_within_one_day();
    let vendor = Vendor::new();
    let zone_file = vendor.sign(&["key"], RELEASE, &[]);
    let text = std::fs::read_to_string(&zone_file).unwrap();
    let brief = text.replace("$TTL 3600", "$TTL 1");
    assert_ne!(brief, text);
    std::fs::write(&zone_file, brief).unwrap();
    let authority = vendor.authority(AuthorityKind::Bind, &zone_file);
    let resolver = vendor.resolver(kind, &authority);
    let check = || vendor.check_as(OVERRIDDEN_VERSION, NODE_ID, ZONE, resolver.port, &vendor.public_key("key"));
    let fresh = check();
    assert_eq!(fresh.number("verdict"), UPGRADE_REQUIRED, "{fresh:?}");
    let asked = authority.asked_txt();
    assert_eq!(asked.len(), 1, "{asked:?}");

    authority.stop();
    wait_for("the answer to be stale", || (resolver.ttl(&asked[0]) == Some(stale_ttl)).then_some(()));
    assert_eq!(check(), fresh);
}

#[test]
fn a_stale_answer_of_unbound_is_as_good_as_a_fresh_one() {
    a_stale_answer_is_as_good(ResolverKind::UnboundCareful, UNBOUND_STALE_TTL);
}

#[test]
fn a_stale_answer_of_dnsmasq_is_as_good_as_a_fresh_one() {
    a_stale_answer_is_as_good(ResolverKind::DnsmasqStale, DNSMASQ_STALE_TTL);
}

/// Within one day a check asks for the same name again.
#[test]
fn a_resolver_answers_the_second_check_of_a_day_itself() {
    stay_within_one_day();
    let vendor = Vendor::new();
    let authority = vendor.authority(AuthorityKind::Bind, &vendor.sign(&["key"], RELEASE, &[]));
    let resolver = vendor.resolver(ResolverKind::Unbound, &authority);
    let check = || vendor.check(ZONE, resolver.port, &vendor.public_key("key"));
    let first = check();
    assert_eq!((first.number("check_version"), first.number("verdict")), (status::OK, OUTDATED), "{first:?}");
    assert_eq!(check(), first);
    let asked = authority.asked_txt();
    assert_eq!(asked.len(), 1, "two checks, one TXT query at the authority: {asked:?}");
    authority.stop();
    assert_eq!(check(), first);
}
