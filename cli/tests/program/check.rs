//! `check-version`: the exit status is the verdict.

use crate::program::{Place, command, finish, run};
use crate::servers;
use crate::zone::version_key;

/// A signed answer for `zone`, and the key that signed it.
fn answer(place: &Place, release: &str) -> (String, String) {
    let (key, public) = version_key(place, "key");
    let release = place.with("release.toml", &format!("zone = \"z.example\"\n{release}"));
    let zone = run(&["zone", &release, "--key", &key]).with(0).stdout;
    let record = zone.lines().find_map(|line| line.strip_prefix("*.o1 IN TXT \"")).unwrap();
    (record.trim_end_matches('"').to_owned(), public)
}

fn check<'a>(version: &'a str, nameserver: &'a str, key: &'a str) -> Vec<&'a str> {
    let ask = ["check-version", "--version-zone", "z.example", "--nameservers", nameserver, "--version-key", key];
    let identity = ["--product-version", version, "--cluster-id", "c-1", "--node-id", "n-1", "--timeout-ms", "5000"];
    ask.into_iter().chain(identity).collect()
}

#[test]
fn every_verdict_has_its_exit_status() {
    let place = Place::new("check-verdicts");
    let release = "latest = \"2.9.0\"\nrecommended = \"2.8.3\"\nrequired = \"2.7.0\"\nadvisory = \"ODT-7\"";
    let (text, key) = answer(&place, release);
    let server = servers::dns(&text).to_string();
    for (version, code) in [("2.9.0", 0), ("2.8.3", 10), ("2.8.2", 11), ("2.6.0", 12), ("2.8.2-dev", 13)] {
        run(&check(version, &server, &key)).with(code);
    }
    let said = run(&check("2.8.2", &server, &key)).with(11).stdout;
    let expires: i64 = text.split_once(" e=").unwrap().1.split(' ').next().unwrap().parse().unwrap();
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(expires.try_into().unwrap());
    let moment = humantime::format_rfc3339_seconds(moment);
    assert_eq!(
        said,
        format!(
            "running    2.8.2\nlatest     2.9.0\nverdict    upgrade recommended\nadvisory   ODT-7\n\
             expires    {moment}\nsignature  verified\n"
        )
    );
    let mut json = check("2.8.2", &server, &key);
    json.push("--json");
    let said = run(&json).with(11).json();
    assert_eq!((said["verdict"].as_str(), said["authenticated"].as_bool()), (Some("upgrade_recommended"), Some(true)));
    assert_eq!(said["expires"], expires);
}

#[test]
fn an_answer_by_another_key_is_untrusted() {
    let place = Place::new("check-untrusted");
    let (text, _) = answer(&place, "latest = \"2.9.0\"");
    let (_, other) = version_key(&place, "other");
    let server = servers::dns(&text).to_string();
    let ended = run(&check("2.8.2", &server, &other)).with(5);
    assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1));
}

#[test]
fn the_verdict_is_remembered_for_status() {
    let place = Place::new("check-remembered");
    let (text, key) = answer(&place, "latest = \"2.9.0\"\nrecommended = \"2.8.3\"");
    let server = servers::dns(&text).to_string();
    let state = place.at("");
    let mut asking = check("2.8.2", &server, &key);
    asking.extend(["--state-dir", &state]);
    run(&asking).with(11);
    let before = place.listing();
    let status = run(&["status", "--json", "--state-dir", &state, "--version-key", &key]).with(0).json();
    let told = &status["version_check"]["told"][0];
    assert_eq!((told["version"].as_str(), told["verdict"].as_str()), (Some("2.8.2"), Some("upgrade_recommended")));
    assert_eq!((told["authenticated"].as_bool(), told["failures"].as_u64()), (Some(true), Some(0)));
    assert!(told["next_due"].as_i64() > told["checked_at"].as_i64(), "{told}");
    // Whoever looks need not have the key: the one who asked had it.
    let status = ["status", "--state-dir", &state];
    let text = run(&status).with(0).stdout;
    assert!(text.contains("verdict      upgrade recommended, the latest is 2.9.0, signature verified"), "{text}");
    assert_eq!(place.listing(), before);
    // By another key it does not count, for this command.
    let (_, other) = version_key(&place, "other");
    let text = run(&["status", "--state-dir", &state, "--version-key", &other]).with(0).stdout;
    assert!(text.contains("verdict      unknown: ") && !text.contains("signature verified"), "{text}");
    // An older version has not remembered it.
    let memory = std::fs::read_to_string(place.path().join("version.json")).unwrap();
    place.with("version.json", &memory.replace("\"authenticated\":true,", ""));
    let text = run(&status).with(0).stdout;
    assert!(text.contains("whether its signature was verified is not known"), "{text}");
    let told = run(&[&status[..], &["--json"]].concat()).with(0).json()["version_check"]["told"][0].clone();
    assert_eq!(told["authenticated"], serde_json::Value::Null);
    place.with("version.json", &memory.replace("\"authenticated\":true,", "\"authenticated\":false,"));
    assert!(run(&status).with(0).stdout.contains("signature not verified"));
}

#[test]
fn why_there_is_no_answer_is_remembered_until_there_is_one() {
    let place = Place::new("check-failed");
    let (text, key) = answer(&place, "latest = \"2.9.0\"");
    let (_, other) = version_key(&place, "other");
    let state = place.at("");
    let ask = |server: &str, key: &str| {
        let mut asking = check("2.8.2", server, key);
        asking.extend(["--state-dir", &state]);
        run(&asking)
    };
    let status = || run(&["status", "--json", "--state-dir", &state]).with(0).json()["version_check"].clone();
    let server = servers::dns(&text).to_string();
    ask(&server, &other).with(5);
    let failed = status();
    let error = failed["last_error"]["text"].as_str().unwrap();
    assert!(error.starts_with("version answer from zone z.example not accepted: "), "{error}");
    assert!(failed["next_try"].as_i64() > failed["last_error"]["at"].as_i64(), "{failed}");
    assert_eq!((&failed["last_success"], &failed["waiting"]), (&serde_json::Value::Null, &0.into()));
    let shown = run(&["status", "--state-dir", &state]).with(0).stdout;
    assert!(shown.contains(&format!("Z: {error}\n")), "{shown}");
    ask(&server, &key).with(10);
    let answered = status();
    assert_eq!(
        (&answered["last_error"], &answered["last_success"]),
        (&serde_json::Value::Null, &answered["told"][0]["checked_at"])
    );
    // Off, there is no next try.
    run(&["disable", "version-check", "--state-dir", &state]).with(0);
    assert_eq!(status()["next_try"], serde_json::Value::Null);
}

#[test]
fn turned_off_by_the_environment_nothing_is_asked() {
    let arguments = check("2.8.2", "127.0.0.1:9", "ayL0s5TA8tJuS8HZ7x0DW3MIng7alTPOXU/+mdi1gps=");
    let ended = finish(command(&arguments).env("DO_NOT_TRACK", "1")).with(3);
    assert_eq!(
        ended.stderr,
        "ondat-telemetry: version_check is turned off by environment DO_NOT_TRACK; nothing was sent or stored\n"
    );
}

#[test]
fn settings_come_from_the_environment_and_options_override_them() {
    let place = Place::new("check-environment");
    let (text, key) = answer(&place, "latest = \"2.9.0\"");
    let mut asking = command(&["check-version", "--product-version", "2.9.0"]);
    asking.env("ONDAT_TELEMETRY_VERSION", "2.8.2").env("ONDAT_TELEMETRY_CLUSTER_ID", "c-1");
    asking.env("ONDAT_TELEMETRY_VERSION_ZONE", "z.example").env("ONDAT_TELEMETRY_VERSION_KEY", &key);
    asking.env("ONDAT_TELEMETRY_NAMESERVERS", servers::dns(&text).to_string());
    let ended = finish(&mut asking).with(2);
    assert!(ended.stderr.contains("the node id is required: set --node-id or ONDAT_TELEMETRY_NODE_ID"));
    finish(asking.env("ONDAT_TELEMETRY_NODE_ID", "n-1")).with(0);
}
