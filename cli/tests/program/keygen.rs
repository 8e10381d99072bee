//! `keygen`: permissions, forms, and that nothing is overwritten.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use data_encoding::BASE64;
use ondat_telemetry_protocol::answer::VersionKey;
use ondat_telemetry_protocol::keys::KeySet;
use ondat_telemetry_protocol::message::MessageKey;
use serde_json::Value;

use crate::program::{Place, run};

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_version_key_is_private_and_stays() {
    let place = Place::new("keygen-version");
    let out = place.at("keys");
    let (private, public) = (format!("{out}/version.key"), format!("{out}/version.pub"));
    let ended = run(&["keygen", "version", "--out", &out]).with(0);
    assert_eq!((mode(&out), mode(&private)), (0o700, 0o600));
    let key = json(&private);
    assert_eq!(key["algorithm"], "Ed25519");
    assert_eq!(key["id"].as_str().map(str::len), Some(8));
    let seed = key["private"].as_str().unwrap();
    assert_eq!(BASE64.decode(seed.as_bytes()).unwrap().len(), 32);
    VersionKey::parse(&fs::read_to_string(&public).unwrap()).unwrap();
    assert!(ended.stdout.contains(&public) && !ended.stdout.contains(seed), "{}", ended.stdout);

    let before = fs::read(&private).unwrap();
    let again = run(&["keygen", "version", "--out", &out]).with(2);
    assert!(again.stderr.contains("version.key exists and is not overwritten"), "{}", again.stderr);
    assert_eq!(fs::read(&private).unwrap(), before);
    fs::remove_file(&private).unwrap();
    let again = run(&["keygen", "version", "--out", &out]).with(2);
    assert!(again.stderr.contains("version.pub exists and is not overwritten"), "{}", again.stderr);
    assert!(!fs::exists(&private).unwrap(), "no half of a pair is left behind");
}

#[test]
fn a_report_key_is_private_and_its_public_half_is_a_key_set() {
    for (kem, private_bytes) in [("X25519", 32), ("X-Wing", 32)] {
        let place = Place::new(&format!("keygen-report-{kem}"));
        let out = place.at("keys");
        let ended = run(&["keygen", "report", "--out", &out, "--kem", kem, "--valid-days", "7"]).with(0);
        let (private, public) = (format!("{out}/report.key"), format!("{out}/report-keys.json"));
        assert_eq!(mode(&private), 0o600);
        let key = json(&private);
        assert_eq!((key["kem"].as_str(), key["id"].as_str().map(str::len)), (Some(kem), Some(16)));
        let secret = key["private"].as_str().unwrap();
        assert_eq!(BASE64.decode(secret.as_bytes()).unwrap().len(), private_bytes);
        assert!(!ended.stdout.contains(secret));
        let set = json(&public);
        assert_eq!(set["keys"][0]["id"], key["id"]);
        let (from, to) =
            (set["keys"][0]["not_before"].as_i64().unwrap(), set["keys"][0]["not_after"].as_i64().unwrap());
        assert_eq!(to - from, 8 * 86_400, "seven days, and one back for clocks that are behind");
        assert!(KeySet::parse(&set.to_string()).unwrap().current(from + 86_400).is_some());
        run(&["keygen", "report", "--out", &out]).with(2);
        assert_eq!(json(&private), key);
    }
}

#[test]
fn a_seal_key_for_version_queries_is_private_and_stays() {
    let place = Place::new("keygen-version-seal");
    let out = place.at("keys");
    let (private, public) = (format!("{out}/version-seal.key"), format!("{out}/version-seal.pub"));
    let ended = run(&["keygen", "version-seal", "--out", &out]).with(0);
    assert_eq!(mode(&private), 0o600);
    let secret = json(&private)["private"].as_str().unwrap().to_owned();
    assert!(!ended.stdout.contains(&secret));
    MessageKey::parse(&fs::read_to_string(&public).unwrap()).unwrap();
    run(&["keygen", "version-seal", "--out", &out]).with(2);
    assert_eq!(json(&private)["private"], secret);
}
