//! `sign-keys`: what it prints is accepted by who has the public half, and by nobody else.

use ondat_telemetry_protocol::answer::VersionKey;
use ondat_telemetry_protocol::signed_keys::SignedKeys;

use crate::program::{Place, run};
use crate::zone::version_key;

#[test]
fn a_key_set_is_signed_by_every_key_that_is_given() {
    let place = Place::new("sign-keys");
    let out = place.at("report");
    run(&["keygen", "report", "--out", &out]).with(0);
    let set = format!("{out}/report-keys.json");
    let ((old, old_public), (new, new_public)) = (version_key(&place, "old"), version_key(&place, "new"));
    let printed = run(&["sign-keys", &set, "--key", &old, "--key", &new, "--now", "1800000000"]).with(0).stdout;
    for public in [&old_public, &new_public] {
        let read = SignedKeys::parse(&printed, &[VersionKey::parse(public).unwrap()]).unwrap();
        assert_eq!((read.issued, read.keys.ids().count()), (1_800_000_000, 1));
    }
    let (_, stranger) = version_key(&place, "stranger");
    assert!(SignedKeys::parse(&printed, &[VersionKey::parse(&stranger).unwrap()]).is_err());
    assert!(!printed.contains("private"));
    run(&["sign-keys", &old, "--key", &old]).with(2);
    run(&["sign-keys", &set, "--key", &set]).with(2);
    run(&["sign-keys", &set]).with(2);
}
