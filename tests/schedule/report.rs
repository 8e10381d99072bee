//! When a client makes and delivers daily reports.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use ondat_telemetry::client::{Client, Surroundings};
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::Setting;
use ondat_telemetry::error::Error;
use ondat_telemetry::outcome;
use ondat_telemetry::schedule::{Pace, Reported, next_report, slot};
use ondat_telemetry::switch::Switch;
use ondat_telemetry::switches::Permit;
use ondat_telemetry::sys::clock::{Moment, Uptime};
use ondat_telemetry::transport::dns::Dns;
use ondat_telemetry::transport::https::{Https, Request, Response};
use ondat_telemetry_protocol::identity::Identity;
use ondat_telemetry_protocol::keys::{Kem, generate_key, key_id};
use serde_json::json;

use crate::machine::{DAY, HOUR, Host, Machine, START, StateDir, draw, gaps, live, pseudo_random};

/// The collector. It notes what it is sent, and when.
#[derive(Clone)]
struct Collector {
    machine: Machine,
    status: Arc<Mutex<u16>>,
    headers: Arc<Mutex<Vec<(String, String)>>>,
    tries: Arc<Mutex<Vec<Delivery>>>,
}

#[derive(Clone, Debug)]
struct Delivery {
    at: i64,
    id: String,
    is_taken: bool,
}

impl Collector {
    fn new(machine: &Machine) -> Self {
        Self {
            machine: machine.clone(),
            status: Arc::new(Mutex::new(201)),
            headers: Arc::new(Mutex::new(vec![("ondat-telemetry".to_owned(), "1".to_owned())])),
            tries: Arc::default(),
        }
    }

    fn answer_with(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn tries(&self) -> Vec<Delivery> {
        self.tries.lock().unwrap().clone()
    }

    /// When reports were taken, in seconds really passed.
    fn taken(&self) -> Vec<i64> {
        self.tries().iter().filter(|delivery| delivery.is_taken).map(|delivery| delivery.at).collect()
    }

    fn ids(&self) -> Vec<String> {
        self.tries().into_iter().filter(|delivery| delivery.is_taken).map(|delivery| delivery.id).collect()
    }
}

impl Https for Collector {
    fn send(&self, _: Permit, request: &Request<'_>) -> Result<Response, Error> {
        let status = *self.status.lock().unwrap();
        let id = request.url.rsplit('/').next().unwrap().to_owned();
        let is_taken = status < 300 && !self.headers.lock().unwrap().is_empty();
        self.tries.lock().unwrap().push(Delivery { at: self.machine.elapsed(), id, is_taken });
        Ok(Response { status, headers: self.headers.lock().unwrap().clone(), body: Vec::new() })
    }
}

struct NoDns;

impl Dns for NoDns {
    fn txt(&self, _: Permit, name: &str, _: Duration) -> Result<Vec<Vec<u8>>, Error> {
        panic!("{name} was asked: no version check is in these tests");
    }
}

fn report_keys(not_after: i64) -> String {
    let public = generate_key(Kem::X25519).1;
    let (id, public) = (HEXLOWER.encode(&key_id(&public)), BASE64.encode(&public));
    json!({"keys": [{"id": id, "kem": "X25519", "public": public, "not_before": 0, "not_after": not_after}]})
        .to_string()
}

fn start(host: &Host, machine: &Machine, collector: &Collector, dir: Option<&StateDir>) -> Client {
    start_until(i64::MAX, host, machine, collector, dir)
}

/// The same with keys that are valid until then.
fn start_until(
    not_after: i64,
    host: &Host,
    machine: &Machine,
    collector: &Collector,
    dir: Option<&StateDir>,
) -> Client {
    let mut builder = ConfigBuilder::new();
    builder.set(Setting::Component, "test");
    builder.set(Setting::Version, "2.8.1");
    builder.set(Setting::ClusterId, "cluster");
    builder.set(Setting::NodeId, "node");
    builder.set(Setting::ReportUrl, "https://collector.example.com/");
    builder.set(Setting::ReportKeys, &report_keys(not_after));
    if let Some(dir) = dir {
        builder.set(Setting::StateDir, dir.0.to_str().unwrap());
    }
    host.listen(&mut builder);
    builder.set_on_report(Arc::new(|report| report.set_cluster_json(b"{\"k8s_in_k8s\":true}").unwrap()));
    let surroundings = Surroundings {
        dns: Box::new(NoDns),
        https: Box::new(collector.clone()),
        clock: Box::new(machine.clone()),
        random: pseudo_random,
    };
    Client::with_surroundings(builder.build().unwrap(), surroundings).unwrap()
}

#[test]
fn a_report_goes_out_once_a_day_in_its_slot() {
    let (machine, host) = (Machine::new(), Host::default());
    let collector = Collector::new(&machine);
    live(&start(&host, &machine, &collector, None), &machine, 30 * DAY);
    let taken = collector.taken();
    assert!((29..=31).contains(&taken.len()), "{taken:?}");
    assert!(taken[0] >= 300, "not within the first five minutes: {taken:?}");
    let slot = slot(&Identity::from_cluster_id("cluster"), "node");
    for at in &taken[1..] {
        assert!((at - slot).rem_euclid(DAY).min((slot - at).rem_euclid(DAY)) <= 300, "{slot} {taken:?}");
    }
    assert_eq!(collector.ids().iter().collect::<BTreeSet<_>>().len(), taken.len());
}

#[test]
fn processes_on_one_state_directory_and_restarts_make_one() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let collector = Collector::new(&machine);
    let mut clients: Vec<Client> = (0..4).map(|_| start(&host, &machine, &collector, Some(&dir))).collect();
    for round in 0..5 * DAY / 600 {
        for client in &mut clients {
            if round % 7 == 0 {
                *client = start(&host, &machine, &collector, Some(&dir));
            }
            client.work().unwrap();
        }
        machine.pass(600);
    }
    let taken = collector.taken();
    // A process must live for five minutes and may wait for an hour to make up for a slot.
    assert!((4..=6).contains(&taken.len()), "{taken:?}");
    assert_eq!(collector.ids().iter().collect::<BTreeSet<_>>().len(), taken.len());
}

#[test]
fn whatever_the_clock_does_reports_are_20_to_48_hours_apart_and_of_different_days() {
    for round in 0..30 {
        let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
        let collector = Collector::new(&machine);
        let mut history = Vec::new();
        let mut client = start(&host, &machine, &collector, Some(&dir));
        for _ in 0..50 {
            let (what, by) = (draw(4), draw(6 * DAY) - 3 * DAY);
            history.push((what, by));
            match what {
                0 => machine.set_clock_by(by),
                1 => client = start(&host, &machine, &collector, Some(&dir)),
                // The machine sleeps: nothing wakes anybody.
                2 => machine.pass(by.rem_euclid(HOUR)),
                _ => {}
            }
            live(&client, &machine, draw(30 * HOUR));
        }
        let taken = collector.taken();
        assert!(taken.len() > 5, "round {round}: {taken:?}");
        for gap in gaps(&taken) {
            // After a restart or a sleep over the end of the 48 hours, five minutes and the sleep come on top.
            assert!((20 * HOUR..=50 * HOUR).contains(&gap), "round {round}: {gap} in {taken:?}, {history:?}");
        }
        // A day comes twice only where a clock that was ahead had used it up, and two days have passed since then.
        let ids = collector.ids();
        for at in 1..ids.len() {
            let is_new = !ids[..at].contains(&ids[at]);
            assert!(is_new || taken[at] - taken[at - 1] >= 2 * DAY, "round {round}: {ids:?} at {taken:?}, {history:?}");
        }
    }
}

#[test]
fn a_clock_set_back_by_weeks_finds_its_days_still_used_up() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let collector = Collector::new(&machine);
    let client = start(&host, &machine, &collector, Some(&dir));
    live(&client, &machine, 25 * DAY);
    let before = collector.taken();
    machine.set_clock_by(-20 * DAY);
    live(&client, &machine, 3 * DAY);
    let (taken, ids) = (collector.taken(), collector.ids());
    let again = before.len();
    assert!(ids[..again].contains(&ids[again]), "the day was had before: {ids:?}");
    assert!(taken[again] - taken[again - 1] >= 2 * DAY, "{taken:?}");
}

#[test]
fn over_reboots_too_no_day_has_two() {
    for _ in 0..10 {
        let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
        let collector = Collector::new(&machine);
        for _ in 0..40 {
            machine.reboot();
            machine.set_clock_by(draw(3) * (draw(2 * HOUR) - HOUR));
            live(&start(&host, &machine, &collector, Some(&dir)), &machine, draw(20 * HOUR));
        }
        let ids = collector.ids();
        assert!(ids.len() > 10, "{ids:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }
}

#[test]
fn why_no_report_is_made_is_remembered_until_one_is() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let collector = Collector::new(&machine);
    let state = ondat_telemetry::state::StateDir::open(&dir.0).unwrap();
    let error = || outcome::failure(&state, Switch::DailyReport);
    let client = start_until(START, &host, &machine, &collector, Some(&dir));
    live(&client, &machine, DAY);
    let failed = error();
    assert_eq!(failed["text"], "report_keys: no key is valid now; nothing was sent");
    assert!(failed["at"].as_i64() > Some(START) && failed["next"].as_i64() > failed["at"].as_i64(), "{failed}");
    let client = start(&host, &machine, &collector, Some(&dir));
    live(&client, &machine, DAY);
    assert_eq!((error(), collector.ids().is_empty()), (serde_json::Value::Null, false));
}

#[test]
fn a_collector_that_is_down_gets_the_days_reports_later_and_is_not_pressed() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let collector = Collector::new(&machine);
    collector.answer_with(503);
    let mut client = start(&host, &machine, &collector, Some(&dir));
    for _ in 0..5 {
        live(&client, &machine, DAY);
        client = start(&host, &machine, &collector, Some(&dir));
    }
    let tries = collector.tries();
    for (first, delivery) in tries.iter().enumerate() {
        let within_a_day = tries[first..].iter().filter(|other| other.at < delivery.at + DAY).count();
        assert!(within_a_day <= 12, "{within_a_day}: {tries:?}");
    }
    assert!(tries.len() > 20, "it does try: {tries:?}");
    collector.answer_with(201);
    live(&client, &machine, DAY / 2);
    let ids = collector.ids();
    assert!((4..=6).contains(&ids.len()), "{ids:?}");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

#[test]
fn what_a_server_asks_to_wait_is_waited_also_after_a_restart() {
    let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
    let collector = Collector::new(&machine);
    collector.answer_with(429);
    collector.headers.lock().unwrap().push(("retry-after".to_owned(), (20 * HOUR).to_string()));
    let client = start(&host, &machine, &collector, Some(&dir));
    live(&client, &machine, 2 * HOUR + DAY);
    let first = collector.tries()[0].at;
    collector.answer_with(201);
    machine.set_clock_by(5 * DAY);
    let client = start(&host, &machine, &collector, Some(&dir));
    live(&client, &machine, first + 20 * HOUR - machine.elapsed() - 1);
    assert!(
        collector.tries().iter().skip(1).all(|delivery| delivery.at >= first + 20 * HOUR),
        "{:?}",
        collector.tries()
    );
    live(&client, &machine, 6 * HOUR);
    assert!(!collector.taken().is_empty(), "{:?}", collector.tries());
}

#[test]
fn what_does_not_judge_a_report_is_given_time_and_loses_nothing() {
    // The collector itself, in ways that judge nothing, and a box on the way, whatever it says.
    let ours = [302, 401, 403, 404, 407, 409, 421].map(|status| (status, true));
    let boxes = [200, 204, 302, 400, 409, 413, 422, 429, 503].map(|status| (status, false));
    for (status, is_ours) in ours.into_iter().chain(boxes) {
        let (machine, host, dir) = (Machine::new(), Host::default(), StateDir::new());
        let collector = Collector::new(&machine);
        collector.answer_with(status);
        let marker = std::mem::take(&mut *collector.headers.lock().unwrap());
        if is_ours {
            collector.headers.lock().unwrap().clone_from(&marker);
        }
        let client = start(&host, &machine, &collector, Some(&dir));
        live(&client, &machine, 2 * DAY);
        let tries = collector.tries();
        assert!((5..=14).contains(&tries.len()), "{status}: {tries:?}");
        let at: Vec<i64> = tries.iter().map(|delivery| delivery.at).collect();
        for (gap, hours) in gaps(&at).iter().zip([1, 2, 4, 6, 6, 6]) {
            assert!((hours * HOUR..=7 * HOUR).contains(gap), "{status}: {tries:?}");
        }
        collector.answer_with(201);
        *collector.headers.lock().unwrap() = marker;
        live(&client, &machine, DAY);
        assert!(collector.ids().contains(&tries[0].id), "{status}: {:?}", collector.tries());
    }
}

/// How many of the fleet's clusters do something in the fullest minute of these, and in the mean one.
fn fullest_and_mean(moments: &[i64], from: i64, minutes: i64) -> (i64, i64) {
    let mut counts = vec![0; usize::try_from(minutes).unwrap()];
    for moment in moments {
        let minute = (moment - from).div_euclid(60);
        if let Ok(minute) = usize::try_from(minute)
            && let Some(count) = counts.get_mut(minute)
        {
            *count += 1;
        }
    }
    (*counts.iter().max().unwrap(), counts.iter().sum::<i64>() / minutes)
}

const FLEET: u32 = 100_000;

/// The slot of each cluster's reporting node.
fn slots() -> Vec<i64> {
    (0..FLEET).map(|cluster| slot(&Identity::from_cluster_id(&format!("cluster {cluster}")), "node")).collect()
}

fn up_since(unix: i64, seconds: i64) -> Moment {
    Moment { unix: unix + seconds, boot: Some(Uptime { id: "boot".to_owned(), seconds }) }
}

#[test]
fn a_fleet_is_spread_over_the_day_and_over_the_hour_after_an_outage() {
    let slots = slots();
    // All have reported yesterday, and run since.
    let midnight = up_since(START, 0);
    let made = Moment { unix: START - DAY / 2, boot: None };
    let reported = Reported { days: vec![START / DAY - 1], last: Some(made) };
    let started = Moment { unix: START - 2 * DAY, boot: None };
    let due: Vec<i64> =
        slots.iter().map(|slot| next_report(&midnight, &started, *slot, &reported, pseudo_random()).0).collect();
    let (fullest, mean) = fullest_and_mean(&due, START, DAY / 60);
    assert!(mean >= i64::from(FLEET) / (DAY / 60) - 1, "{mean}");
    assert!(fullest <= 2 * mean, "{fullest} in a minute, {mean} in the mean one");

    // Power was off for the first half of the day, and comes back everywhere in the same second.
    let power = up_since(START + DAY / 2, 0);
    let due: Vec<i64> =
        slots.iter().map(|slot| next_report(&power, &power, *slot, &reported, pseudo_random()).0).collect();
    let (fullest, mean) = fullest_and_mean(&due, power.unix + 300, 60);
    assert!(mean > 800, "half the fleet makes up for it: {mean}");
    assert!(fullest <= 2 * mean, "{fullest} in a minute, {mean} in the mean one");
}

#[test]
fn a_fleet_that_found_the_collector_down_for_half_a_day_does_not_come_all_at_once() {
    // Each cluster had its report ready at its slot within the outage, and has tried since.
    let outage = DAY / 2;
    let mut deliveries = Vec::new();
    for slot in slots().into_iter().filter(|slot| *slot < outage) {
        let (mut at, mut pace) = (slot, Pace::default());
        while at < outage {
            at += pace.failed(&up_since(START, at), 0, pseudo_random());
        }
        deliveries.push(at);
    }
    // What comes at its slot comes as well.
    deliveries.extend(slots().into_iter().filter(|slot| *slot >= outage));
    let waiting = i64::try_from(deliveries.len()).unwrap();
    let (fullest, mean) = fullest_and_mean(&deliveries, outage, 6 * 60);
    assert!(fullest <= waiting / 50, "{fullest} of {waiting} in a minute, {mean} in the mean one");
}
