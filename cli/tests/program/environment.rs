//! The settings file: that it is read as systemd reads it, what goes before it, and that nothing is turned on by it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{IDENTITY, Place, command, finish, run};

const OFF: &str = "DISABLE_TELEMETRY=true\n";

/// `status --json` with this settings file, named.
fn status(file: &str) -> Value {
    run(&["status", "--json", "--env-file", file]).with(0).json()
}

/// Why the daily report is off.
fn off_by(status: &Value) -> Vec<String> {
    let sources = status["switches"]["daily_report"]["off_by"].as_array().unwrap();
    sources.iter().map(|source| source.as_str().unwrap().to_owned()).collect()
}

/// Pseudo-random numbers below a bound, the same in every run.
fn dice() -> impl FnMut(usize) -> usize {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % bound
    }
}

#[test]
fn systemd_reads_the_same() {
    let place = Place::new("environment-systemd");
    let pieces: [&[u8]; 20] = [
        b"ONDAT_TELEMETRY_STATE_DIR=",
        b"ONDAT_TELEMETRY_STATE_DIR",
        b"=",
        b"a",
        b"b c",
        b" ",
        b"\t",
        b"\n",
        b"\n",
        b"\r\n",
        b"'",
        b"'",
        b"\"",
        b"\"",
        b"\\",
        b"\\\n",
        b"#",
        b";",
        b"$`",
        "ä".as_bytes(),
    ];
    let mut roll = dice();
    let files: Vec<String> = (0..240)
        .map(|number| {
            let mut bytes = b"ONDAT_TELEMETRY_STATE_DIR=".to_vec();
            (0..roll(14)).for_each(|_| bytes.extend_from_slice(pieces[roll(pieces.len())]));
            // Before version 254 systemd took the line after such a comment for a part of it.
            let text = String::from_utf8(bytes).unwrap();
            let is_comment = |line: &str| line.trim_start().starts_with(['#', ';']) && line.contains('\\');
            let text = if text.lines().any(is_comment) { text.replace('\\', "") } else { text };
            let ending: &[u8] = [&b""[..], b"\n", b"\n", b"\n", b"\nX=\xff\n", b"\0"][roll(6)];
            fs::write(place.path().join(format!("{number}.env")), [text.as_bytes(), ending].concat()).unwrap();
            place.at(&format!("{number}.env"))
        })
        .collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/environment.py");
    let said = Command::new("python3").args(["-B", script]).args(&files).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.lines().count(), files.len());
    let (mut refused, mut set) = (0, 0);
    for (file, variables) in files.iter().zip(said.lines()) {
        let variables: Value = serde_json::from_str(variables).unwrap();
        let text = || String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
        let arguments = ["status", "--json", "--env-file", file.as_str()];
        let ended = finish(command(&arguments).current_dir(place.path()));
        if variables.is_null() {
            assert_eq!((ended.code, ended.stderr.lines().count()), (2, 1), "{:?} {}", text(), ended.stderr);
            refused += 1;
            continue;
        }
        let value = variables["ONDAT_TELEMETRY_STATE_DIR"].as_str().unwrap_or_default();
        let expected = Some(value).filter(|value| !value.is_empty()).map(|value| place.at(value));
        assert_eq!(ended.with(0).json()["state_dir"], json!(expected), "{:?}", text());
        set += usize::from(expected.is_some());
    }
    assert!(refused > 20 && set > 80, "{refused} {set}");
}

#[test]
fn the_state_directory_has_one_and_another_one_can_be_named() {
    let place = Place::new("environment-places");
    let state = place.at("");
    let own = place.with("settings.env", "ONDAT_TELEMETRY_VERSION_ZONE=own.example\n");
    let seen = run(&["status", "--json", "--state-dir", &state]).with(0).json();
    assert_eq!((&seen["version_check"]["zone"], &seen["settings_file"]), (&json!("own.example"), &json!(own)));
    let text = run(&["status", "--state-dir", &state]).with(0).stdout;
    assert!(text.contains(&format!("settings file    {own}\n")), "{text}");
    // As a volume of a ConfigMap has it: a symlink. The state directory stands in it too.
    let named = format!("ONDAT_TELEMETRY_STATE_DIR={state}\nONDAT_TELEMETRY_CLUSTER_ID=c-1\n");
    place.with("data.env", &named);
    symlink(place.at("data.env"), place.at("link.env")).unwrap();
    let seen = status(&place.at("link.env"));
    assert_eq!((&seen["version_check"]["zone"], seen["cluster_id"].is_string()), (&json!(null), true));
    run(&["disable", "telemetry", "--env-file", &place.at("link.env")]).with(0);
    assert!(place.path().join("switches.json").exists());
}

#[test]
fn the_environment_goes_before_the_file_and_options_before_both() {
    let place = Place::new("environment-order");
    let file = place.with("a.env", "ONDAT_TELEMETRY_VERSION_ZONE=file.example\nONDAT_TELEMETRY_REPORT_URL=nonsense\n");
    let zone = |environment: &[(&str, &str)], options: &[&str]| {
        let arguments = [&["status", "--json", "--env-file", &file], options].concat();
        finish(command(&arguments).envs(environment.iter().copied()))
    };
    // What is wrong in the file is said with its place, unless the environment goes before it.
    let why = zone(&[], &[]).with(2).stderr;
    assert!(why.starts_with(&format!("ondat-telemetry: settings file {file}: report_url: ")), "{why}");
    assert_eq!(why.lines().count(), 1);
    let keys = ("ONDAT_TELEMETRY_REPORT_URL", "http://127.0.0.1:9/");
    let keyring = run(&["keygen", "report", "--out", &place.at("keys")]).with(0);
    assert!(keyring.stdout.contains("public keys"));
    let keyring = ["--report-keys", &place.at("keys/report-keys.json")].map(str::to_owned);
    let keyring = keyring.each_ref().map(String::as_str);
    let seen = zone(&[keys], &keyring).with(0).json();
    assert_eq!(seen["version_check"]["zone"], json!("file.example"));
    assert_eq!(seen["daily_report"]["url"], json!("http://127.0.0.1:9/"));
    let both = [keys, ("ONDAT_TELEMETRY_VERSION_ZONE", "environment.example")];
    assert_eq!(zone(&both, &keyring).with(0).json()["version_check"]["zone"], json!("environment.example"));
    let option = [&keyring[..], &["--version-zone", "option.example"]].concat();
    assert_eq!(zone(&both, &option).with(0).json()["version_check"]["zone"], json!("option.example"));
}

#[test]
fn nothing_is_turned_on_by_a_file() {
    let place = Place::new("environment-switches");
    let state = place.at("");
    let off = place.with("off.env", OFF);
    assert_eq!(off_by(&status(&off)), [format!("settings file {off} DISABLE_TELEMETRY")]);
    // Neither by the environment that says otherwise, nor by a later line, nor by an empty one.
    let mut asked = command(&["status", "--json", "--env-file", &off]);
    let seen = finish(asked.env("DISABLE_TELEMETRY", "false")).with(0).json();
    assert_eq!(off_by(&seen).len(), 1);
    for again in ["false", "", "0"] {
        let twice = place.with("twice.env", &format!("{OFF}DISABLE_TELEMETRY={again}\n"));
        assert_eq!(off_by(&status(&twice)).len(), 1, "{again}");
    }
    // Nor does a file that says "on" lift what others say.
    let on = place.with("on.env", "DISABLE_TELEMETRY=false\nDO_NOT_TRACK=0\n");
    let mut asked = command(&["status", "--json", "--env-file", &on]);
    let seen = finish(asked.env("DISABLE_TELEMETRY", "true")).with(0).json();
    assert_eq!(off_by(&seen), ["environment DISABLE_TELEMETRY"]);
    // Another file goes in place of settings.env, but not for what that one turns off.
    place.with("settings.env", &format!("{OFF}ONDAT_TELEMETRY_VERSION_ZONE=own.example\n"));
    let seen = run(&["status", "--json", "--env-file", &on, "--state-dir", &state]).with(0).json();
    assert_eq!(off_by(&seen), [format!("settings file {} DISABLE_TELEMETRY", place.at("settings.env"))]);
    assert_eq!(seen["version_check"]["zone"], json!(null));
    // Nothing is sent then, whoever runs the command.
    let document = place.with("report.json", "{}");
    let submit = [
        "report",
        "submit",
        &document,
        "--env-file",
        &on,
        "--state-dir",
        &state,
        "--report-url",
        "http://127.0.0.1:9/",
    ];
    run(&["keygen", "report", "--out", &place.at("keys")]).with(0);
    let keys = place.at("keys/report-keys.json");
    let why = run(&[&submit[..], &IDENTITY, &["--report-keys", &keys]].concat()).with(3).stderr;
    assert!(why.contains("daily_report is turned off by settings file"), "{why}");
    // What cannot be read is no leave to send.
    place.with("settings.env", "DISABLE_TELEMETRY=true\0");
    let why = run(&["status", "--state-dir", &state]).with(2).stderr;
    assert!(why.contains("settings.env: line 1: a zero byte"), "{why}");
    // And turning off needs no file at all.
    let ended = run(&["disable", "all", "--state-dir", &state, "--env-file", &place.at("absent")]).with(0);
    assert!(ended.stderr.contains("absent: No such file"), "{}", ended.stderr);
}

#[test]
fn what_is_no_settings_file_is_refused_in_a_line() {
    let place = Place::new("environment-refused");
    nix::unistd::mkfifo(place.at("fifo").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(place.at("folder")).unwrap();
    place.with("long", &"#\n".repeat(600_000));
    place.with("export", "A=1\n\nexport DISABLE_TELEMETRY=true\n");
    fs::write(place.at("latin"), b"# caf\xe9\nX=1\nONDAT_TELEMETRY_CLUSTER_ID=caf\xe9\n").unwrap();
    fs::write(place.at("zero"), b"X=1\nY=\0\n").unwrap();
    for (name, expected) in [
        ("fifo", "it is not a regular file"),
        ("folder", "it is not a regular file"),
        ("absent", "No such file or directory"),
        ("long", "longer than 1048576 bytes"),
        ("export", "line 3: `export` is a word of shells, and no shell reads this file: write NAME=VALUE"),
        ("latin", "line 3: the value of ONDAT_TELEMETRY_CLUSTER_ID is not UTF-8"),
        ("zero", "line 2: a zero byte"),
    ] {
        let file = place.at(name);
        let why = run(&["status", "--env-file", &file]).with(2).stderr;
        assert!(why.starts_with(&format!("ondat-telemetry: settings file {file}: {expected}")), "{name}: {why}");
        assert_eq!(why.lines().count(), 1, "{why}");
        // The program runs all the same.
        let ran = run(&["exec", "--env-file", &file, "--", "echo", "it ran"]).with(0);
        assert_eq!(ran.stdout, "it ran\n", "{}", ran.stderr);
    }
    // In the state directory it is refused as well, a link too.
    let state = Place::new("environment-refused-own");
    symlink(place.at("export"), state.at("settings.env")).unwrap();
    let why = run(&["status", "--state-dir", &state.at("")]).with(2).stderr;
    assert!(why.contains("settings.env") && why.lines().count() == 1, "{why}");
}

#[test]
fn exec_takes_its_settings_from_the_file_and_hands_none_on() {
    let place = Place::new("environment-exec");
    let file = place.with(
        "a.env",
        "ONDAT_TELEMETRY_VERSION=2.8.2\nONDAT_TELEMETRY_CLUSTER_ID=c-1\nONDAT_TELEMETRY_NODE_ID=n-1\n\
         ONDAT_TELEMETRY_SENTRY_DSN=http://key@127.0.0.1:9/1\nONDAT_TELEMETRY_MONITOR_PATH=/absent/monitor\n",
    );
    let ended = run(&["exec", "--env-file", &file, "--", "env"]).with(0);
    assert!(!ended.stdout.contains("ONDAT_TELEMETRY"), "{}", ended.stdout);
    // Nothing is missing but the monitor that the file names.
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("unsupervised") && ended.stderr.contains("/absent/monitor"), "{}", ended.stderr);
    let without = run(&["exec", "--", "env"]).with(0);
    assert!(without.stderr.contains("the running product's version is required"), "{}", without.stderr);
}

#[test]
fn what_is_odd_about_a_file_is_said() {
    let place = Place::new("environment-odd");
    let file = place.with(
        "a.env",
        "PATH=/bin\nREQUEST_METHOD=GET\nnonsense\n1A=2\nONDAT_TELEMETRY_REPORT_ULR=x\ndisable_telemetry=true\nLD_PRELOAD=x\n",
    );
    let ended = run(&["status", "--env-file", &file]).with(0);
    let lines: Vec<_> = ended.stderr.lines().collect();
    let said = format!("ondat-telemetry: warning: settings file {file}: ");
    assert_eq!(
        lines,
        [
            format!("{said}not of the form NAME=VALUE and passed over: line 3, 4"),
            format!(
                "{said}no setting and passed over: ONDAT_TELEMETRY_REPORT_ULR (line 5), disable_telemetry (line 6)"
            ),
        ]
    );
    let many = place.with("many.env", &"nonsense\n".repeat(100_000));
    let ended = run(&["status", "--env-file", &many]).with(0);
    assert!(ended.stderr.ends_with("line 1, 2, 3, 4, 5 and 99995 more\n"), "{}", ended.stderr);
}

#[test]
fn a_file_with_the_identity_key_is_for_its_owner() {
    let place = Place::new("environment-secret");
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let file = place.with("a.env", &format!("ONDAT_TELEMETRY_IDENTITY_KEY={key}\nONDAT_TELEMETRY_CLUSTER_ID=c-1\n"));
    let with_mode = |mode: u32| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        run(&["status", "--json", "--env-file", &file]).with(0)
    };
    assert_eq!(with_mode(0o640).stderr, "");
    assert!(with_mode(0o644).stderr.contains("everybody may read the identity key in it (mode 0644): chmod o-r"));
    assert!(with_mode(0o602).stderr.contains("everybody may change it (mode 0602): chmod o-w"));
    // It makes the ids, and a new identity.key would change nothing.
    let identity = ondat_telemetry_protocol::identity::Identity::from_key([0; 32]);
    let id = identity.anonymise_hex(ondat_telemetry_protocol::identity::Purpose::Cluster, "c-1");
    assert_eq!(with_mode(0o600).json()["cluster_id"], json!(id));
    let reset = ["reset-identity", "--state-dir", &place.at("state"), "--env-file", &file];
    let why = run(&reset).with(2).stderr;
    assert!(why.contains("IDENTITY_KEY is set in ") && !why.contains(key), "{why}");
}

#[test]
fn proxies_and_roots_are_taken_and_the_proxys_password_is_not_shown() {
    let place = Place::new("environment-proxy");
    run(&["keygen", "report", "--out", &place.at("keys")]).with(0);
    let keys = fs::read_to_string(place.at("keys/report-keys.json")).unwrap();
    let state = place.at("state");
    let file = place.with(
        "a.env",
        &format!(
            "ONDAT_TELEMETRY_REPORT_KEYS='{}'\nONDAT_TELEMETRY_REPORT_URL=https://collector.example.com/\n\
             ONDAT_TELEMETRY_STATE_DIR=\"{state}\"\nHTTPS_PROXY=http://somebody:hunter2@127.0.0.1:9\n\
             ONDAT_TELEMETRY_VERSION=2.8.2\nONDAT_TELEMETRY_CLUSTER_ID=c-1\nONDAT_TELEMETRY_NODE_ID=n-1\n",
            keys.trim()
        ),
    );
    let document = place.with("report.json", "{}");
    let ended = run(&["report", "submit", &document, "--env-file", &file]).with(6);
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("hunter2"));
    let tries = run(&["report", "history", "--json", "--env-file", &file]).with(0).json()["tries"].clone();
    assert_eq!(tries[0]["proxy"], json!("http://127.0.0.1:9"));
    // The other way round a bundle of roots that is none is said.
    let file = place.with("b.env", "ONDAT_TELEMETRY_CA_FILE=/dev/null\n");
    let why = run(&["status", "--env-file", &file]).with(2).stderr;
    assert!(why.contains(&format!("settings file {file}: ca_file: ")), "{why}");
}
