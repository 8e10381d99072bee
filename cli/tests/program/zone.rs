//! `zone`: what BIND's checker and the library's judge say of the output.

use std::process::Command;

use ondat_telemetry_protocol::answer::{Answer, Judge, VersionKey};
use ondat_telemetry_protocol::query::version_label;

use crate::program::{Place, command, finish, run};
use crate::servers;

const ZONE: &str = "latest.example.com";
const NOW: i64 = 1_800_000_000;
const RELEASE: &str = "zone = \"latest.example.com\"\nlatest = \"2.9.0\"\nrecommended = \"2.8.3\"\nrequired = \"2.7.0\"\n\
                       expires_days = 10\nns = [\"ns1.example.org.\", \"ns2.example.org.\"]\n\
                       [[override]]\nversion = \"2.8.1\"\nstatus = 3\nadvisory = \"ODT-1\"\nreplayable = true\n\
                       [[override]]\nversion = \"2.6.9\"\nstatus = 1\n";

/// Makes a version key and returns its private file's path and its public half.
pub(crate) fn version_key(place: &Place, name: &str) -> (String, String) {
    let out = place.at(name);
    run(&["keygen", "version", "--out", &out]).with(0);
    let public = std::fs::read_to_string(format!("{out}/version.pub")).unwrap();
    (format!("{out}/version.key"), public.trim().to_owned())
}

/// Owner names and texts, as BIND reads them.
fn records(place: &Place, zone: &str) -> Vec<(String, String)> {
    records_in(ZONE, place, zone)
}

fn records_in(name: &str, place: &Place, zone: &str) -> Vec<(String, String)> {
    let file = place.with("zone", zone);
    let checked = Command::new("named-checkzone").args(["-i", "local", "-D", "-q", "-o", "-", name, &file]).output();
    let checked = checked.expect("named-checkzone (package bind9-utils) is needed for this test");
    let dump = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{dump}{}", String::from_utf8_lossy(&checked.stderr));
    let txt = dump.lines().filter_map(|line| line.split_once(" IN TXT\t"));
    txt.map(|(head, text)| {
        let owner = head.split_whitespace().next().unwrap().to_owned();
        (owner, text.trim().trim_matches('"').to_owned())
    })
    .collect()
}

fn judged(text: &str, key: &str, label: &str) -> Result<Answer, String> {
    let keys = [VersionKey::parse(key).unwrap()];
    let judge = Judge { zone: ZONE, version_label: label, keys: &keys, now: NOW + 1, newest_issued: 0 };
    judge.first_acceptable(&[text.as_bytes().to_vec()]).map(|(answer, _)| answer).map_err(|error| error.to_string())
}

#[test]
fn bind_and_the_library_read_what_was_meant() {
    let place = Place::new("zone-accepted");
    let (old, old_public) = version_key(&place, "old");
    let (new, new_public) = version_key(&place, "new");
    let release = place.with("release.toml", RELEASE);
    let now = NOW.to_string();
    let arguments = ["zone", &release, "--key", &old, "--key", &new, "--now", &now];
    let zone = run(&arguments).with(0).stdout;
    assert_eq!(zone, run(&arguments).with(0).stdout, "signing is deterministic");

    let records = records(&place, &zone);
    assert_eq!(records.len(), 6, "three answers by two keys: {zone}");
    let override_label = version_label(&"2.8.1".parse().unwrap());
    let other_label = version_label(&"2.8.2".parse().unwrap());
    for key in [&old_public, &new_public] {
        let accepted = |owner: &str, label: &str| {
            let owner = format!("{owner}.{ZONE}.");
            let texts = records.iter().filter(|(name, _)| *name == owner).map(|(_, text)| text);
            let answers: Vec<_> = texts.filter_map(|text| judged(text, key, label).ok()).collect();
            assert_eq!(answers.len(), 1, "{owner} by {key}");
            answers[0].clone()
        };
        let general = accepted("*.o1", &other_label);
        assert_eq!(general.latest.to_string(), "2.9.0");
        assert_eq!((general.status, general.issued, general.expires), (None, NOW, NOW + 10 * 86_400));
        let special = accepted(&format!("*.{override_label}.o1"), &override_label);
        assert_eq!((special.status, special.advisory.as_deref()), (Some(3), Some("ODT-1")));
        assert_eq!(special.required.map(|version| version.to_string()).as_deref(), Some("2.7.0"));
        assert!(special.authenticated);
    }
}

#[test]
fn keys_may_stand_in_the_release_file() {
    let place = Place::new("zone-keys");
    let (old, _) = version_key(&place, "old");
    version_key(&place, "new");
    let now = NOW.to_string();
    let release = place.with("release.toml", RELEASE);
    let both = ["zone", &release, "--key", &old, "--key", &place.at("new/version.key"), "--now", &now];
    let expected = run(&both).with(0).stdout;
    let named = RELEASE.replacen("[[override]]", "keys = [\"old/version.key\", \"new/version.key\"]\n[[override]]", 1);
    let named = place.with("named.toml", &named);
    assert_eq!(run(&["zone", &named, "--now", &now]).with(0).stdout, expected);
    std::fs::remove_file(place.at("new/version.key")).unwrap();
    let ended = run(&["zone", &named, "--now", &now]).with(2);
    assert!(ended.stderr.contains("new/version.key"), "{}", ended.stderr);
}

#[test]
fn one_changed_byte_is_refused() {
    let place = Place::new("zone-changed");
    let (key, public) = version_key(&place, "key");
    let release = place.with("release.toml", RELEASE);
    let zone = run(&["zone", &release, "--key", &key, "--now", &NOW.to_string()]).with(0).stdout;
    let (_, text) = records(&place, &zone).into_iter().find(|(owner, _)| *owner == format!("*.o1.{ZONE}.")).unwrap();
    let label = version_label(&"2.8.2".parse().unwrap());
    judged(&text, &public, &label).unwrap();
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 1;
        let changed = String::from_utf8(changed).unwrap();
        assert!(judged(&changed, &public, &label).is_err(), "byte {at}: {changed}");
    }
}

#[test]
fn a_mistake_is_one_line_that_names_file_and_field() {
    let place = Place::new("zone-mistake");
    let (key, _) = version_key(&place, "key");
    let release = place.with("release.toml", &RELEASE.replace("\"2.9.0\"", "\"2.9\""));
    let ended = run(&["zone", &release, "--key", &key]).with(2);
    assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1));
    assert!(ended.stderr.starts_with(&format!("ondat-telemetry: {release}: latest: \"2.9\" is not a SemVer version")));
    let nothing = run(&["zone", &place.with("release.toml", RELEASE)]).with(2);
    assert!(nothing.stderr.contains("nothing to sign with"), "{}", nothing.stderr);
    let twice = place.with("release.toml", RELEASE);
    let ended = run(&["zone", &twice, "--key", &key, "--key", &key]).with(2);
    assert!(ended.stderr.contains("the same key is given twice"), "{}", ended.stderr);
}

#[test]
fn the_example_of_the_documentation_works() {
    let place = Place::new("zone-example");
    let (_, public) = version_key(&place, "keys");
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/version-zone.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let release = place.with("release.toml", rest.split_once("```").unwrap().0);
    let zone = run(&["zone", &release, "--now", &NOW.to_string()]).with(0).stdout;
    let records = records(&place, &zone);
    assert_eq!(records.len(), 3, "{zone}");
    for (version, status) in [("2.6.9", Some(1)), ("2.8.1", Some(2)), ("2.8.0", None)] {
        let label = version_label(&version.parse().unwrap());
        let own = format!("*.{label}.o1.{ZONE}.");
        let general = format!("*.o1.{ZONE}.");
        let owner = if status.is_some() { own } else { general };
        let (_, text) = records.iter().find(|(name, _)| *name == owner).unwrap();
        assert_eq!(judged(text, &public, &label).unwrap().status, status, "{version}");
    }
}

#[test]
fn a_zone_without_name_servers_of_its_own_is_said_to_be_one() {
    let place = Place::new("zone-no-ns");
    let (key, _) = version_key(&place, "key");
    let without = RELEASE.replace("ns = [\"ns1.example.org.\", \"ns2.example.org.\"]\n", "");
    let release = place.with("release.toml", &without);
    let ended = run(&["zone", &release, "--key", &key]).with(0);
    assert!(ended.stderr.contains("release.toml: `ns` is missing: the zone names localhost."), "{}", ended.stderr);
    assert_eq!((ended.stderr.lines().count(), records(&place, &ended.stdout).len()), (1, 3));
    assert_eq!(run(&["zone", &release, "--key", &key, "--records-only"]).with(0).stderr, "");
    let release = place.with("release.toml", RELEASE);
    assert_eq!(run(&["zone", &release, "--key", &key]).with(0).stderr, "");
    let release = place.with("release.toml", &RELEASE.replace("ns = [", "ns = [] #"));
    assert!(run(&["zone", &release, "--key", &key]).with(2).stderr.contains("ns: at least one name server"));
}

#[test]
fn the_answers_alone_fit_into_a_zone_that_somebody_hosts() {
    let place = Place::new("zone-records");
    let (key, _) = version_key(&place, "key");
    let release = place.with("release.toml", RELEASE);
    let now = NOW.to_string();
    let print = |more: &[&str]| run(&[&["zone", &release, "--key", &key, "--now", &now], more].concat());
    let whole = records(&place, &print(&[]).with(0).stdout);
    for (hosted, more) in [
        (ZONE, &["--records-only"][..]),
        ("example.com", &["--records-only"]),
        (ZONE, &["--records-only", "--origin", ZONE]),
        ("example.com", &["--records-only", "--origin", "Example.com."]),
        ("com", &["--records-only", "--origin", "com"]),
    ] {
        let answers = print(more).with(0).stdout;
        assert!(!answers.contains("SOA") && !answers.contains(" NS "), "{answers}");
        let head = format!(
            "$ORIGIN {hosted}.\n@ 60 IN SOA ns1.example.org. h.example.org. 1 2 3 4 5\n@ 60 IN NS ns1.example.org.\n"
        );
        assert_eq!(records_in(hosted, &place, &(head + &answers)), whole, "{hosted} {more:?}");
    }
    // Relative to the zone that is named, as a provider's page wants them.
    let relative = print(&["--records-only", "--origin", "example.com"]).with(0).stdout;
    assert!(relative.starts_with("$ORIGIN example.com.\n*.o1.latest 3600 IN TXT \"o1 v=* "), "{relative}");
    let absolute = print(&["--records-only"]).with(0).stdout;
    assert!(absolute.starts_with("*.o1.latest.example.com. 3600 IN TXT \"o1 v=* "), "{absolute}");
    for (origin, why) in
        [("example.org", "is not in the zone"), ("ample.com", "is not in the zone"), ("a..b", "--origin:")]
    {
        let said = print(&["--records-only", "--origin", origin]).with(2).stderr;
        assert!(said.contains(why), "{origin}: {said}");
    }
    assert!(print(&["--origin", "example.com"]).with(2).stderr.contains("--records-only"));
}

#[test]
fn the_published_zone_is_judged_by_how_long_it_is_good() {
    let place = Place::new("zone-published");
    let (key, public) = version_key(&place, "key");
    let (_, other) = version_key(&place, "other");
    let release = place.with("release.toml", RELEASE);
    let signed = |more: &[&str]| {
        let zone = run(&[&["zone", &release, "--key", &key], more].concat()).with(0).stdout;
        let text = zone.lines().find_map(|line| line.strip_prefix("*.o1 IN TXT \"")).unwrap();
        servers::dns(text.trim_end_matches('"')).to_string()
    };
    let verify = |server: &str, key: &str, more: &[&str]| {
        let ask = [
            "zone",
            "--verify",
            "Latest.Example.com.",
            "--timeout-ms",
            "5000",
            "--nameservers",
            server,
            "--version-key",
            key,
        ];
        run(&[&ask, more].concat())
    };
    // Good for ten days, but for an hour.
    let hour_ago = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 3600;
    let server = signed(&["--now", &hour_ago.to_string()]);
    let said = verify(&server, &public, &[]).with(0).stdout;
    assert!(said.starts_with("zone         latest.example.com\nlatest       2.9.0\nrecommended  2.8.3\n"), "{said}");
    assert!(said.contains(", in 9 days\nsignature    verified\n"), "{said}");
    verify(&server, &public, &["--within-days", "9"]).with(0);
    let said = verify(&server, &public, &["--within-days", "10"]).with(1).stdout;
    assert!(said.contains("in 9 days: sign and publish it again"), "{said}");
    let said = verify(&server, &public, &["--json", "--within-days", "3650"]).with(1).json();
    assert_eq!((&said["expires_soon"], &said["latest"], &said["zone"]), (&true.into(), &"2.9.0".into(), &ZONE.into()));
    let left = said["seconds_left"].as_i64().unwrap();
    assert!((9 * 86_400..10 * 86_400).contains(&left), "{said}");
    // Issued a year ago.
    let said = verify(&signed(&["--now", "1764000000"]), &public, &["--within-days", "0"]).with(1).stdout;
    assert!(said.contains("it has expired: sign and publish it again"), "{said}");
    // By another key, by only one of two, by none, or something else altogether.
    verify(&server, &other, &[]).with(5);
    verify(&server, &format!("{public},{other}"), &[]).with(5);
    for text in
        ["o1 v=* l=2.9.0 t=1 e=9999999999", "v=spf1 -all", "o1 v=* l=2.9.0 t=1 e=2 g=x", "o1 e=-9223372036854775808"]
    {
        let ended = verify(&servers::dns(text).to_string(), &public, &[]).with(5);
        assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1), "{text}");
    }
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_eq!(verify(&nobody, &public, &[]).with(4).stderr.lines().count(), 1);
    let off = ["zone", "--verify", ZONE, "--nameservers", &server, "--version-key", &public];
    finish(command(&off).env("DISABLE_VERSION_CHECK", "true")).with(3);
}

#[test]
fn wrong_words_about_the_published_zone_are_refused() {
    let place = Place::new("zone-verify-refused");
    let (key, public) = version_key(&place, "key");
    let release = place.with("release.toml", RELEASE);
    for (arguments, why) in [
        (&["zone"][..], "<RELEASE.toml>"),
        (&["zone", "--verify"], "--verify"),
        (&["zone", "--verify", ZONE], "set --version-key or ONDAT_TELEMETRY_VERSION_KEY"),
        (&["zone", "--verify", "a..b", "--version-key", &public], "--verify: \"a..b\" is not a DNS name"),
        (&["zone", "--verify", ZONE, "--version-key", "?"], "not base64"),
        (&["zone", "--verify", ZONE, "--version-key", &public, "--nameservers", "x"], "nameservers"),
        (&["zone", "--verify", ZONE, "--within-days=-1"], "--within-days"),
        (&["zone", "--verify", ZONE, "--within-days", "3651"], "--within-days"),
        (&["zone", &release, "--key", &key, "--within-days", "3"], "--within-days"),
        (&["zone", &release, "--verify", ZONE], "--verify"),
        (&["zone", "--verify", ZONE, "--records-only"], "--records-only"),
    ] {
        let ended = run(arguments).with(2);
        assert!(ended.stderr.contains(why) && ended.stderr.lines().count() == 1, "{arguments:?}: {}", ended.stderr);
    }
}
