//! When a client asks for the latest version, what it remembers, and what it says about it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signer, SigningKey};
use ondat_telemetry::client::{Client, Surroundings};
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::Setting;
use ondat_telemetry::error::Error;
use ondat_telemetry::outcome;
use ondat_telemetry::switch::Switch;
use ondat_telemetry::switches::Permit;
use ondat_telemetry::transport::dns::Dns;
use ondat_telemetry::transport::https::{Https, Request, Response};
use ondat_telemetry::version::memory::VersionMemory;
use ondat_telemetry::version::verdict::Verdict;
use ondat_telemetry_protocol::answer::{key_id, signed_message};

use crate::machine::{
    DAY, HOUR, Host, INFO, Machine, NOTICE, START, StateDir, WARNING, draw, gaps, live, pseudo_random,
};

const ZONE: &str = "latest.example.com";

/// The version zone. It notes when it was asked.
#[derive(Clone)]
struct Zone {
    machine: Machine,
    says: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<i64>>>,
}

impl Zone {
    fn new(machine: &Machine) -> Self {
        Self { machine: machine.clone(), says: Arc::default(), asked: Arc::default() }
    }

    /// From now on the zone has this to say about versions, signed now and good for so many days.
    fn publish(&self, about: &str, days: i64) {
        let now = self.machine.unix();
        *self.says.lock().unwrap() = vec![signed(&format!("o1 v=* {about} t={now} e={}", now + days * DAY))];
    }

    fn be_silent(&self) {
        self.says.lock().unwrap().clear();
    }

    /// The seconds, really passed, at which it was asked.
    fn asked(&self) -> Vec<i64> {
        self.asked.lock().unwrap().clone()
    }
}

impl Dns for Zone {
    fn txt(&self, _: Permit, name: &str, _: Duration) -> Result<Vec<Vec<u8>>, Error> {
        assert!(name.ends_with(&format!(".o1.{ZONE}.")), "{name}");
        self.asked.lock().unwrap().push(self.machine.elapsed());
        let says = self.says.lock().unwrap().clone();
        if says.is_empty() {
            return Err(Error::TimedOut("nobody answers".to_owned()));
        }
        Ok(says.into_iter().map(String::into_bytes).collect())
    }
}

struct NoHttps;

impl Https for NoHttps {
    fn send(&self, _: Permit, request: &Request<'_>) -> Result<Response, Error> {
        panic!("{} was asked: no report and no crash is in these tests", request.url);
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn signed(text: &str) -> String {
    let covered = format!("{text} k={}", key_id(&key().verifying_key().to_bytes()));
    let signature = key().sign(&signed_message(ZONE, &covered));
    format!("{covered} g={}", BASE64URL_NOPAD.encode(&signature.to_bytes()))
}

impl Host {
    /// A process that starts.
    fn start(&self, machine: &Machine, zone: &Zone, dir: Option<&StateDir>) -> Client {
        self.start_as("2.8.1", machine, zone, dir, &key())
    }

    fn start_as(
        &self,
        version: &str,
        machine: &Machine,
        zone: &Zone,
        dir: Option<&StateDir>,
        key: &SigningKey,
    ) -> Client {
        let mut builder = ConfigBuilder::new();
        builder.set(Setting::Component, "test");
        builder.set(Setting::Version, version);
        builder.set(Setting::ClusterId, "cluster");
        builder.set(Setting::NodeId, "node");
        builder.set(Setting::VersionZone, ZONE);
        builder.set(Setting::VersionKey, &BASE64.encode(&key.verifying_key().to_bytes()));
        if let Some(dir) = dir {
            builder.set(Setting::StateDir, dir.0.to_str().unwrap());
        }
        self.listen(&mut builder);
        let surroundings = Surroundings {
            dns: Box::new(zone.clone()),
            https: Box::new(NoHttps),
            clock: Box::new(machine.clone()),
            random: pseudo_random,
        };
        Client::with_surroundings(builder.build().unwrap(), surroundings).unwrap()
    }
}

#[test]
fn it_asks_within_a_minute_and_then_in_its_slot() {
    let (machine, host) = (Machine::new(), Host::default());
    let zone = Zone::new(&machine);
    zone.publish("l=2.8.1", 365);
    live(&host.start(&machine, &zone, None), &machine, 30 * DAY);
    let asked = zone.asked();
    assert!(asked[0] <= 60, "{asked:?}");
    let gaps = gaps(&asked);
    assert!((DAY / 2..=DAY * 3 / 2).contains(&gaps[0]), "{asked:?}");
    assert!(gaps[1..].iter().all(|gap| *gap == DAY), "{asked:?}");
    assert!((29..=31).contains(&asked.len()), "{asked:?}");
}

#[test]
fn a_crash_loop_of_a_hundred_restarts_asks_once() {
    for answers in [true, false] {
        let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
        let zone = Zone::new(&machine);
        if answers {
            zone.publish("l=2.9.0", 30);
        }
        for _ in 0..100 {
            live(&host.start(&machine, &zone, Some(&dir)), &machine, 30);
        }
        assert_eq!(zone.asked().len(), 1, "answers: {answers}, at {:?}", zone.asked());
    }
}

#[test]
fn processes_on_one_state_directory_ask_once_a_day_and_all_know() {
    let (machine, dir) = (Machine::new(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.9.0 a=ODT-1", 30);
    let hosts: Vec<Host> = (0..5).map(|_| Host::default()).collect();
    let clients: Vec<Client> = hosts.iter().map(|host| host.start(&machine, &zone, Some(&dir))).collect();
    for _ in 0..3 * DAY / 300 {
        for client in &clients {
            client.work().unwrap();
        }
        machine.pass(300);
    }
    let asked = zone.asked();
    assert!((3..=4).contains(&asked.len()), "{asked:?}");
    for (host, client) in hosts.iter().zip(&clients) {
        assert_eq!(client.latest_version().verdict, Verdict::Outdated);
        assert_eq!(host.lines(NOTICE).len(), 1, "each process says it once");
        assert_eq!(host.news().len(), 1);
    }
}

#[test]
fn failures_back_off_to_a_day_and_are_said_once() {
    let (machine, host) = (Machine::new(), Host::default());
    let zone = Zone::new(&machine);
    let client = host.start(&machine, &zone, None);
    live(&client, &machine, 12 * DAY);
    let gaps = gaps(&zone.asked());
    for (gap, hours) in gaps.iter().zip([1, 2, 4, 8, 16, 24, 24]) {
        assert!((hours * HOUR..=hours * HOUR * 5 / 4).contains(gap), "{gaps:?}");
    }
    assert!(gaps.len() >= 12, "{gaps:?}");
    let lines: Vec<String> = host.lines(INFO).into_iter().filter(|line| line.contains("version check")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("nobody answers"), "{lines:?}");
    assert_eq!(host.news(), []);

    zone.publish("l=2.8.1", 30);
    live(&client, &machine, 2 * DAY);
    assert_eq!(host.lines(INFO), ["version check: answered again"]);
    zone.publish("nonsense", 30);
    live(&client, &machine, 5 * DAY);
    let lines = host.lines(WARNING);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("not accepted"), "{lines:?}");
}

#[test]
fn why_there_was_no_answer_is_remembered_until_there_is_one() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    let state = ondat_telemetry::state::StateDir::open(&dir.0).unwrap();
    let why = || outcome::failure(&state, Switch::VersionCheck);
    let authenticated = || VersionMemory::load(&state).unwrap().0.told[0].authenticated;
    assert_eq!(why(), serde_json::Value::Null);
    let client = host.start(&machine, &zone, Some(&dir));
    live(&client, &machine, HOUR / 2);
    let failed = why();
    assert_eq!((&failed["text"], authenticated()), (&"nobody answers".into(), None));
    let at = failed["at"].as_i64().unwrap();
    assert!((START..START + HOUR).contains(&at), "{at}");
    // Another process that only starts does not lose it.
    let other = host.start(&machine, &zone, Some(&dir));
    live(&other, &machine, HOUR / 4);
    assert_eq!(why(), failed);
    zone.publish("l=2.8.1", 30);
    live(&client, &machine, DAY);
    assert_eq!((why(), authenticated()), (serde_json::Value::Null, Some(true)));
    zone.be_silent();
    live(&client, &machine, 2 * DAY);
    assert_eq!((&why()["text"], authenticated()), (&"nobody answers".into(), Some(true)));
    // What is something else is nothing.
    for damaged in ["", "{", "\u{0}"] {
        std::fs::write(dir.0.join("failures/version_check"), damaged).unwrap();
        assert_eq!(why(), serde_json::Value::Null, "{damaged:?}");
    }
}

#[test]
fn a_clock_that_is_set_by_days_neither_silences_it_nor_makes_it_ask_twice() {
    for round in 0..40 {
        let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
        let zone = Zone::new(&machine);
        zone.publish("l=2.8.1", 3_650);
        let mut history = Vec::new();
        let mut client = host.start(&machine, &zone, Some(&dir));
        for _ in 0..60 {
            let (what, by) = (draw(4), draw(12 * DAY) - 6 * DAY);
            history.push((what, by));
            match what {
                0 => machine.set_clock_by(by),
                1 => client = host.start(&machine, &zone, Some(&dir)),
                // The machine sleeps: nothing wakes anybody.
                2 => machine.pass(by.rem_euclid(2 * HOUR)),
                _ => {}
            }
            // An answer's own time must stay believable whatever the clock says.
            zone.publish("l=2.8.1", 3_650);
            live(&client, &machine, draw(20 * HOUR));
        }
        let asked = zone.asked();
        for gap in gaps(&asked) {
            // A clock set back makes the answer older than one already accepted: refused, and asked for again later.
            assert!(gap >= HOUR, "round {round}: {gap} s between {asked:?} in {history:?}");
            assert!(gap <= 2 * DAY, "round {round}: {gap} s between {asked:?} in {history:?}");
        }
    }
}

#[test]
fn an_accepted_answer_is_not_asked_for_twice_within_half_a_day_whatever_the_clock_does() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.8.1", 3_650);
    let mut client = host.start(&machine, &zone, Some(&dir));
    for step in (1..200).map(|_| draw(6 * DAY)) {
        // Forwards, and back to where it was: the answer stays good, the clock jumps by days.
        machine.set_clock_by(step);
        live(&client, &machine, draw(9 * HOUR));
        machine.set_clock_by(-step);
        if step % 3 == 0 {
            client = host.start(&machine, &zone, Some(&dir));
        }
        live(&client, &machine, draw(9 * HOUR));
    }
    let gaps = gaps(&zone.asked());
    assert!(gaps.len() > 40, "{gaps:?}");
    assert!(gaps.iter().all(|gap| (DAY / 2..=DAY * 3 / 2 + 60).contains(gap)), "{gaps:?}");
}

#[test]
fn a_reboot_keeps_the_schedule_and_a_lost_clock_does_not_silence_it() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.8.1", 3_650);
    live(&host.start(&machine, &zone, Some(&dir)), &machine, HOUR);
    for _ in 0..10 {
        machine.reboot();
        live(&host.start(&machine, &zone, Some(&dir)), &machine, HOUR);
    }
    assert_eq!(zone.asked().len(), 1, "{:?}", zone.asked());
    // The battery is empty: after the reboot it is years ago.
    machine.reboot();
    machine.set_clock_by(-3_000 * DAY);
    live(&host.start(&machine, &zone, Some(&dir)), &machine, HOUR);
    assert_eq!(zone.asked().len(), 2, "{:?}", zone.asked());
}

#[test]
fn a_known_recommendation_outlives_failure_restart_and_expiry() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.9.0 r=2.8.2 a=ODT-2026-014", 3);
    live(&host.start(&machine, &zone, Some(&dir)), &machine, HOUR);
    assert_eq!(
        host.lines(NOTICE),
        ["a newer version is available: 2.9.0, running 2.8.1: upgrade recommended, advisory ODT-2026-014"]
    );
    let told = host.news();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].verdict, told[0].authenticated), (Verdict::UpgradeRecommended, true));

    zone.be_silent();
    let client = host.start(&machine, &zone, Some(&dir));
    assert_eq!(client.latest_version(), told[0], "right after a restart, without asking");
    live(&client, &machine, 10 * DAY);
    assert!(zone.asked().len() > 5, "it did ask: {:?}", zone.asked());
    assert_eq!(client.latest_version(), told[0]);
    assert_eq!((host.lines(NOTICE), host.news()), (Vec::new(), Vec::new()));
}

#[test]
fn current_decays_when_the_answer_expires() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.8.1", 3);
    let client = host.start(&machine, &zone, Some(&dir));
    live(&client, &machine, HOUR);
    assert_eq!(host.lines(NOTICE), ["version 2.8.1 is running, the latest is 2.8.1: current"]);
    zone.be_silent();
    live(&client, &machine, 2 * DAY);
    assert_eq!(client.latest_version().verdict, Verdict::Current);
    live(&client, &machine, DAY);
    assert_eq!(client.latest_version().verdict, Verdict::Unknown);
    assert_eq!(host.lines(NOTICE), ["version 2.8.1 is running, the latest is 2.8.1: unknown"]);
    assert_eq!(host.news().last().map(|info| info.verdict), Some(Verdict::Unknown));
    assert_eq!(host.start(&machine, &zone, Some(&dir)).latest_version().verdict, Verdict::Unknown);
}

#[test]
fn a_restart_tells_a_known_newer_version_once_more() {
    let dir = StateDir::new();
    for (about, told) in [
        ("l=2.9.0", Some("a newer version is available: 2.9.0, running 2.8.1: outdated")),
        (
            "l=2.9.0 r=2.8.3 a=ODT-1",
            Some("a newer version is available: 2.9.0, running 2.8.1: upgrade recommended, advisory ODT-1"),
        ),
        (
            "l=2.9.0 m=2.8.2 a=ODT-1",
            Some("a newer version is available: 2.9.0, running 2.8.1: upgrade required, advisory ODT-1"),
        ),
        // Nobody need act on that.
        ("l=2.8.1 a=ODT-1", None),
    ] {
        let machine = Machine::new();
        let zone = Zone::new(&machine);
        zone.publish(about, 30);
        live(&Host::default().start(&machine, &zone, Some(&dir)), &machine, 2 * DAY);

        let host = Host::default();
        let client = host.start(&machine, &zone, Some(&dir));
        assert_eq!(host.lines(NOTICE), Vec::<String>::new(), "not before it starts");
        client.start().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut news = Vec::new();
        while told.is_some() && news.is_empty() && Instant::now() < deadline {
            news = host.news();
            std::thread::yield_now();
        }
        client.close(Duration::from_secs(60));
        news.extend(host.news());
        assert_eq!(host.lines(NOTICE), told.into_iter().collect::<Vec<_>>(), "{about}");
        assert_eq!(news.len(), usize::from(told.is_some()), "{about}");
        std::fs::remove_file(dir.0.join("version.json")).unwrap();
    }
}

#[test]
fn a_change_is_said_once_and_an_advisory_is_a_change() {
    let (machine, host) = (Machine::new(), Host::default());
    let zone = Zone::new(&machine);
    let client = host.start(&machine, &zone, None);
    let mut lines = Vec::new();
    for about in
        ["l=2.8.1", "l=2.9.0", "l=2.9.0", "l=2.9.0 r=2.9.0 a=ODT-1", "l=2.9.0 r=2.9.0 a=ODT-2", "l=2.9.1 m=2.9.0"]
    {
        zone.publish(about, 30);
        live(&client, &machine, 2 * DAY);
        lines.push(host.lines(NOTICE).join("; "));
    }
    assert_eq!(
        lines,
        [
            "version 2.8.1 is running, the latest is 2.8.1: current",
            "a newer version is available: 2.9.0, running 2.8.1: outdated",
            "",
            "a newer version is available: 2.9.0, running 2.8.1: upgrade recommended, advisory ODT-1",
            "a newer version is available: 2.9.0, running 2.8.1: upgrade recommended, advisory ODT-2",
            "a newer version is available: 2.9.1, running 2.8.1: upgrade required",
        ]
    );
    assert_eq!(host.news().len(), 5);
}

#[test]
fn a_replay_is_refused_by_another_version_on_the_same_node_too() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.9.0", 30);
    let old = zone.says.lock().unwrap().clone();
    machine.pass(DAY);
    zone.publish("l=2.9.0 m=2.8.5", 30);
    live(&host.start(&machine, &zone, Some(&dir)), &machine, HOUR);
    *zone.says.lock().unwrap() = old;
    let other = host.start_as("2.8.2", &machine, &zone, Some(&dir), &key());
    let error = other.check_version(Duration::from_secs(1)).err().unwrap();
    assert!(error.to_string().contains("a replay"), "{error}");
    assert_eq!(other.latest_version().verdict, Verdict::Unknown);
}

#[test]
fn a_damaged_memory_is_moved_aside_and_said_and_a_running_process_keeps_what_it_knows() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.9.0 m=2.8.2", 30);
    let client = host.start(&machine, &zone, Some(&dir));
    live(&client, &machine, HOUR);
    std::fs::write(dir.file("version.json"), "{\"told\": [{").unwrap();
    live(&client, &machine, 10);
    assert_eq!(client.latest_version().verdict, Verdict::UpgradeRequired);
    let warnings = host.lines(WARNING);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("version.json was damaged"), "{warnings:?}");
    assert_eq!(std::fs::read(dir.file("version.json.damaged")).unwrap(), b"{\"told\": [{");
    live(&client, &machine, 2 * DAY);
    assert_eq!(host.lines(WARNING), Vec::<String>::new(), "said once");

    // It is written again, and damage that a process finds at its start is said as well.
    std::fs::write(dir.file("version.json"), "\0\0\0").unwrap();
    let client = host.start(&machine, &zone, Some(&dir));
    assert_eq!(client.latest_version().verdict, Verdict::Unknown);
    assert_eq!(host.lines(WARNING).len(), 1);
    live(&client, &machine, 120);
    assert_eq!(client.latest_version().verdict, Verdict::UpgradeRequired);

    // So is what the library cannot have written.
    std::fs::remove_file(dir.file("version.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.file("version.json")).unwrap();
    let _ = host.start(&machine, &zone, Some(&dir));
    let warnings = host.lines(WARNING);
    assert!(warnings.len() == 1 && warnings[0].contains("a symlink"), "{warnings:?}");
    assert!(dir.file("version.json.damaged").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn an_answer_of_a_key_that_is_gone_does_not_count_and_that_is_said() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.9.0 m=2.8.2", 30);
    live(&host.start(&machine, &zone, Some(&dir)), &machine, HOUR);
    let before = zone.asked().len();
    host.lines(WARNING);
    let other_key = SigningKey::from_bytes(&[8; 32]);
    let client = host.start_as("2.8.1", &machine, &zone, Some(&dir), &other_key);
    assert_eq!(client.latest_version().verdict, Verdict::Unknown);
    let warnings = host.lines(WARNING);
    assert!(warnings.len() == 1 && warnings[0].contains("signed by a key that is not configured"), "{warnings:?}");
    // It asks at once and not in a day, but once, whatever number of times it is started.
    for _ in 0..20 {
        live(&host.start_as("2.8.1", &machine, &zone, Some(&dir), &other_key), &machine, 90);
    }
    assert_eq!(zone.asked().len(), before + 1, "{:?}", zone.asked());
}

#[test]
fn a_state_directory_that_is_lost_does_not_make_it_ask_again_and_again() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.9.0", 30);
    let client = host.start(&machine, &zone, Some(&dir));
    // Nothing can be written where there is no directory any more.
    std::fs::remove_dir_all(&dir.0).unwrap();
    live(&client, &machine, 3 * DAY);
    assert!((3..=4).contains(&zone.asked().len()), "{:?}", zone.asked());
    assert_eq!(client.latest_version().verdict, Verdict::Outdated);
    let warnings = host.lines(WARNING);
    assert!(!warnings.is_empty() && warnings.iter().all(|line| line.contains("remembered")), "{warnings:?}");
}

#[test]
fn the_administrator_is_told_once_before_anything_is_sent() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let zone = Zone::new(&machine);
    zone.publish("l=2.8.1", 30);
    let client = host.start(&machine, &zone, Some(&dir));
    assert_eq!(host.notices(), 0, "nothing is about to be sent");
    live(&client, &machine, 120);
    assert_eq!((zone.asked().len(), host.notices()), (1, 1));
    live(&host.start(&machine, &zone, Some(&dir)), &machine, 3 * DAY);
    assert!(zone.asked().len() > 1);
    assert_eq!(host.notices(), 1, "once in a state directory");
    // Where nothing can be noted, each process says it.
    live(&host.start(&machine, &zone, None), &machine, 120);
    assert_eq!(host.notices(), 2);
}
