//! `zone`: what BIND's checker and the library's judge say of the output.

use std::process::Command;

use ondat_telemetry::version::answer::{Answer, Judge, VersionKey};
use ondat_telemetry::version::query::version_label;

use crate::program::{Place, run};

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
    let file = place.with("zone", zone);
    let checked = Command::new("named-checkzone").args(["-i", "local", "-D", "-q", "-o", "-", ZONE, &file]).output();
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
