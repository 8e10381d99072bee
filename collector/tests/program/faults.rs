//! What was acknowledged is stored, whatever fails: the ledger of acknowledged ids is compared with what lies there.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::program::{Collector, Response, Scratch, skip};
use crate::reports::{LIMIT, MEDIA_TYPE, is_later, request};
use crate::s3::{self, Front, Gateway, Mood};
use crate::seal;

const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];

/// A collector that stores into the bucket behind this address.
fn edge(scratch: &Scratch, behind: SocketAddr, more: &[&str]) -> Collector {
    let store = s3::store();
    let arguments = [&HTTP[..], &["--store", &store], more].concat();
    Collector::start_with(scratch, &arguments, &s3::environment(behind))
}

fn put(collector: &Collector, number: u32, sealed: &[u8]) -> Response {
    collector.http(&request(&seal::id_of(number), MEDIA_TYPE, &seal::with_id(sealed, number)))
}

/// The ids of what is stored, once each.
fn ids(paths: &[String]) -> BTreeSet<String> {
    let ids: BTreeSet<String> = paths.iter().map(|path| path[path.len() - 36..path.len() - 4].to_owned()).collect();
    assert_eq!(ids.len(), paths.len(), "each is stored once: {paths:?}");
    ids
}

/// Sends reports from several threads while `disturb` runs, each until it is acknowledged. The ids of those that were.
fn load(addresses: &Mutex<Vec<SocketAddr>>, sealed: &[u8], disturb: impl FnOnce(&AtomicU32)) -> BTreeSet<String> {
    let (next, acknowledged, is_over) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    let ledger = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (next, acknowledged, is_over, ledger) = (&next, &acknowledged, &is_over, &ledger);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let (id, body) = (seal::id_of(number), seal::with_id(sealed, number));
                    while !is_over.load(Ordering::SeqCst) {
                        let address = {
                            let addresses = addresses.lock().unwrap();
                            addresses[thread % addresses.len()]
                        };
                        let Ok(response) = Collector::try_http(address, &request(&id, MEDIA_TYPE, &body)) else {
                            continue;
                        };
                        assert!(matches!(response.status, 201 | 208 | 503), "{response:?}");
                        if response.status != 503 {
                            ledger.lock().unwrap().insert(id.clone());
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                            break;
                        }
                    }
                }
            });
        }
        disturb(&acknowledged);
        is_over.store(true, Ordering::SeqCst);
    });
    ledger.into_inner().unwrap()
}

/// Kills an edge under load so many times, each time after it has taken some reports.
fn kill_under_load(times: usize, start: impl Fn() -> Collector, sealed: &[u8]) -> BTreeSet<String> {
    let first = start();
    let addresses = Mutex::new(vec![first.address("http")]);
    load(&addresses, sealed, |acknowledged| {
        let mut edge = first;
        for _ in 0..times {
            let before = acknowledged.load(Ordering::SeqCst);
            while acknowledged.load(Ordering::SeqCst) < before + 15 {
                std::thread::yield_now();
            }
            edge.stop(Signal::SIGKILL);
            edge = start();
            *addresses.lock().unwrap() = vec![edge.address("http")];
        }
        let before = acknowledged.load(Ordering::SeqCst);
        while acknowledged.load(Ordering::SeqCst) < before + 15 {
            std::thread::yield_now();
        }
    })
}

#[test]
fn a_folder_keeps_what_was_acknowledged_before_a_kill() {
    let scratch = Scratch::new();
    let sealed = seal::x25519().frame(2048);
    let ledger = kill_under_load(20, || Collector::start(&scratch, &HTTP), &sealed);
    let stored = scratch.stored(".otr");
    assert!(ledger.len() >= 20 * 15 && ledger.is_subset(&ids(&stored)), "{} {}", ledger.len(), stored.len());
    for path in &stored {
        let bytes = std::fs::read(scratch.data().join(path)).unwrap();
        assert_eq!((bytes.len(), &bytes[34..]), (sealed.len(), &sealed[34..]), "{path} is whole");
    }
    drop(Collector::start(&scratch, &[]));
    let locks = scratch.stored("lock");
    assert!(scratch.is_swept() && locks.len() == 1, "what the killed ones left is removed: {locks:?}");
}

#[test]
fn a_bucket_keeps_what_was_acknowledged_before_a_kill() {
    let scratch = Scratch::new();
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let sealed = seal::x25519().frame(2048);
    let ledger = kill_under_load(6, || edge(&scratch, gateway.address, &[]), &sealed);
    let stored = gateway.stored(".otr");
    assert!(ledger.len() >= 6 * 15 && ledger.is_subset(&ids(&stored)), "{} {}", ledger.len(), stored.len());
    for path in &stored {
        assert_eq!(gateway.read(path)[34..], sealed[34..], "{path} is whole");
    }
    assert!(scratch.stored(".otr").is_empty(), "nothing lies in the folder");
}

#[test]
fn two_edges_store_what_both_are_sent_once() {
    let (scratch, other, folder) = (Scratch::new(), Scratch::new(), Scratch::new());
    let sealed = seal::x25519().frame(2048);
    let both = |edges: [&Collector; 2], may_be_busy: bool| {
        let (created, seen) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for thread in 0..10_u32 {
                let (edges, created, seen, sealed) = (edges, &created, &seen, &sealed);
                scope.spawn(move || {
                    // Each in an order of its own.
                    for at in 0..20 {
                        let number = (at * (2 * thread + 1) + thread) % 20;
                        // A store that is busy with the same name may not say what became of it: the sender comes again.
                        let answers = (0..100).map(|_| put(edges[(thread % 2) as usize], number, sealed).status);
                        match answers.into_iter().find(|status| *status != 503 || !may_be_busy) {
                            Some(201) => created.fetch_add(1, Ordering::SeqCst),
                            Some(208) => seen.fetch_add(1, Ordering::SeqCst),
                            status => panic!("{status:?}"),
                        };
                    }
                });
            }
        });
        (created.into_inner(), created_and_seen(&seen))
    };
    let expected: BTreeSet<String> = (0..20).map(seal::id_of).collect();
    let [one, two] = [0; 2].map(|_| Collector::start(&folder, &HTTP));
    let (created, seen) = both([&one, &two], false);
    assert_eq!((created + seen, ids(&folder.stored(".otr"))), (200, expected.clone()));
    assert_eq!(created, 20, "each is created once");
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let (one, two) = (edge(&scratch, gateway.address, &[]), edge(&other, gateway.address, &[]));
    let (created, seen) = both([&one, &two], true);
    // One that was created may be found by its own edge, which asked again because the store did not answer.
    assert_eq!((created + seen, ids(&gateway.stored(".otr"))), (200, expected));
    assert!(created <= 20, "{created}");
}

fn created_and_seen(seen: &AtomicU32) -> u32 {
    seen.load(Ordering::SeqCst)
}

#[test]
fn other_bodies_of_an_id_lie_beside_the_first_in_a_bucket() {
    let scratch = Scratch::new();
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let collector = edge(&scratch, gateway.address, &[]);
    let keys = seal::x25519();
    let bodies = [keys.seal(b"1"), keys.seal(b"2"), keys.frame(4096), keys.seal(b"4")];
    let all = || bodies.iter().map(|body| put(&collector, 1, body).status).collect::<Vec<_>>();
    assert_eq!((all(), all()), (vec![201, 201, 201, 208], vec![208; 4]));
    let names = gateway.stored(".otr");
    let name = |at: usize| names[at].rsplit_once('/').unwrap().1.strip_prefix(&seal::id_of(1)).unwrap();
    assert!(
        name(0) == ".otr" && [1, 2].iter().all(|at| name(*at).len() == 13 && name(*at).starts_with('~')),
        "{names:?}"
    );
    let mut found: Vec<_> = names.iter().map(|path| gateway.read(path)).collect();
    let mut expected: Vec<_> = bodies[..3].iter().map(|body| seal::with_id(body, 1)).collect();
    found.sort();
    expected.sort();
    assert!(found == expected);
    assert!(gateway.stored("").iter().all(|path| path.ends_with(".otr")), "the probe is gone");
}

#[test]
fn no_answer_of_a_store_is_passed_on() {
    let scratch = Scratch::new();
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let front = Front::start(gateway.address, Mood::Good);
    let collector = edge(&scratch, front.address, &["--store-time", "2", "--operations", "127.0.0.1:0"]);
    let sealed = seal::x25519().seal(b"1");
    let moods = [409, 503, 500, 403, 404, 301, 400].map(Mood::Says).into_iter().chain([Mood::Hangs]);
    let mut refused = 0;
    for (mood, number) in moods.zip(0..) {
        front.turns(mood);
        let before = front.created();
        let response = put(&collector, number, &sealed);
        assert!(is_later(&response), "{mood:?}: {response:?}");
        assert_eq!(response.json()["error"], "the report could not be stored");
        assert!(
            front.created() > before && gateway.stored(".otr").len() == usize::try_from(number).unwrap(),
            "{mood:?}"
        );
        refused += 1;
        front.turns(Mood::Good);
        assert_eq!(put(&collector, number, &sealed).status, 201, "{mood:?}: afterwards it is stored");
    }
    assert_eq!(collector.metric("reports_total{outcome=\"store_failed\"}"), refused);
    assert_eq!(collector.metric("bytes_in_flight"), 0);
    // What was stored although nobody said so is found, and only then called stored.
    front.turns(Mood::CutsAnswer);
    let response = put(&collector, 100, &sealed);
    assert_eq!(response.status, 208, "it is looked for at once");
    front.turns(Mood::KeepsAnswer);
    assert!(is_later(&put(&collector, 101, &sealed)));
    front.turns(Mood::Slow(Duration::from_millis(300)));
    assert_eq!([100, 101, 102].map(|number| put(&collector, number, &sealed).status), [208, 208, 201]);
    assert_eq!(gateway.stored(".otr").len(), 8 + 3);
    let said = std::fs::read_to_string(scratch.0.join("said")).unwrap();
    assert!(said.lines().count() < 4 && said.contains("cannot store a report: "), "once a minute: {said}");
    assert!(!said.contains("not-a-secret"), "{said}");
}

#[test]
fn what_is_taken_is_looked_at_before_it_is_called_stored() {
    let scratch = Scratch::new();
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let front = Front::start(gateway.address, Mood::Good);
    let collector = edge(&scratch, front.address, &[]);
    let sealed = seal::x25519().seal(b"1");
    assert_eq!(put(&collector, 1, &sealed).status, 201);
    let asked = || front.asked().iter().filter(|line| line.starts_with("HEAD ") && line.contains(".otr")).count();
    assert_eq!(asked(), 0, "a new one costs one request");
    assert_eq!((put(&collector, 1, &sealed).status, asked()), (208, 1));
}

#[test]
fn a_kill_between_store_and_answer_leaves_one_report() {
    let scratch = Scratch::new();
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let front = Front::start(gateway.address, Mood::KeepsAnswer);
    let first = edge(&scratch, front.address, &[]);
    let (sealed, address) = (seal::x25519().seal(b"1"), first.address("http"));
    let body = seal::with_id(&sealed, 1);
    let lost = std::thread::scope(|scope| {
        let sending = scope.spawn(|| Collector::try_http(address, &request(&seal::id_of(1), MEDIA_TYPE, &body)));
        first.until(|_| gateway.stored(".otr").len() == 1);
        first.stop(Signal::SIGKILL);
        sending.join().unwrap()
    });
    assert!(lost.is_err(), "{lost:?}");
    front.turns(Mood::Good);
    assert_eq!(put(&edge(&scratch, front.address, &[]), 1, &sealed).status, 208);
    assert_eq!(gateway.stored(".otr").len(), 1);
}

#[test]
fn a_store_that_overwrites_is_refused() {
    let scratch = Scratch::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let front = Front::start(nowhere, Mood::IgnoresConditions);
    let said = refused(&scratch, &s3::store(), &s3::environment(front.address));
    assert!(said.contains("ignores If-None-Match") && said.contains(&s3::store()), "{said}");
    let created = front.asked().iter().filter(|line| line.starts_with("PUT ")).count();
    assert_eq!(created, 2, "{:?}", front.asked());
}

/// What a collector says that does not start with this store, in one line.
fn refused(scratch: &Scratch, store: &str, environment: &[(&str, String)]) -> String {
    let output = crate::program::command()
        .args(["serve", "--https", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--store", store, "--data"])
        .arg(scratch.data())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.status.signal().is_none() && output.stdout.is_empty());
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!said.contains("not-a-secret") && said.len() < 600, "{said}");
    said
}

#[test]
fn a_store_that_cannot_be_used_is_named_in_one_line() {
    let scratch = Scratch::new();
    for (store, why) in [
        ("received/x", "expected s3://BUCKET/PREFIX"),
        ("ftp://received/x", "expected s3://BUCKET/PREFIX"),
        ("s3://", "expected s3://BUCKET/PREFIX"),
        ("file:///tmp", "expected s3://BUCKET/PREFIX"),
        ("s3://key:not-a-secret@received/x", "credentials belong into the environment"),
        ("s3://received/x?versionId=1", "only a bucket and a prefix"),
    ] {
        let said = refused(&scratch, store, &[]);
        assert!(said.contains(why) && said.contains("--store"), "{store}: {said}");
    }
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let said = refused(&scratch, "s3://received/x", &s3::environment(nobody));
    assert!(said.contains("s3://received/x") && said.contains("127.0.0.1:9"), "{said}");
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let mut wrong = s3::environment(gateway.address);
    let said = refused(&scratch, "s3://absent/x", &wrong);
    assert!(said.contains("s3://absent/x") && said.contains("NoSuchBucket"), "{said}");
    wrong.push(("AWS_SECRET_ACCESS_KEY", "wrong".to_owned()));
    let said = refused(&scratch, "s3://received/x", &wrong);
    assert!(said.contains("s3://received/x") && said.contains("SignatureDoesNotMatch"), "{said}");
    wrong.push(("AWS_ACCESS_KEY_ID", "nobody".to_owned()));
    let said = refused(&scratch, "s3://received/x", &wrong);
    assert!(said.contains("s3://received/x") && said.contains("access key"), "{said}");
}

#[test]
fn a_disk_without_room_is_no_loss() {
    let scratch = Scratch::new();
    let sealed = seal::x25519().frame(2048);
    let collector = Collector::start(&scratch, &[&HTTP[..], &["--keep-free", "1024TiB"]].concat());
    assert!(is_later(&put(&collector, 1, &sealed)) && scratch.stored(".otr").is_empty() && scratch.is_swept());
    let ready = crate::program::Request { line: "GET /ready".to_owned(), headers: Vec::new(), body: b"" };
    assert_eq!(collector.http(&ready).status, 503);
    collector.stop(Signal::SIGTERM);
    let most = (sealed.len() * 3).to_string();
    let arguments = [&HTTP[..], &["--most-stored", &most, "--operations", "127.0.0.1:0"]].concat();
    for (start, expected) in [(0, vec![201, 201, 201, 503, 503]), (10, vec![503; 5])] {
        // What was there at the start counts.
        let collector = Collector::start(&scratch, &arguments);
        let statuses: Vec<u16> = (start..start + 5).map(|number| put(&collector, number, &sealed).status).collect();
        assert_eq!((statuses, put(&collector, 0, &sealed).status), (expected, 208), "what is there needs no room");
        collector.stop(Signal::SIGTERM);
    }
    assert_eq!((scratch.stored(".otr").len(), scratch.is_swept()), (3, true));
}

#[test]
fn a_full_disk_is_no_loss() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.data()).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(scratch.data()).output();
    match mounted {
        Ok(output) if output.status.success() => {}
        _ => return skip("a small disk needs root"),
    }
    let _unmount = Unmount(&scratch);
    let sealed = seal::x25519().frame(65_536);
    let collector = Collector::start(&scratch, &[&HTTP[..], &["--keep-free", "0"]].concat());
    let statuses: Vec<u16> = (0..30).map(|number| put(&collector, number, &sealed).status).collect();
    let stored = scratch.stored(".otr");
    assert!(stored.len() > 5 && statuses.iter().filter(|status| **status == 201).count() == stored.len());
    assert!(statuses.iter().all(|status| matches!(status, 201 | 503)), "{statuses:?}");
    for path in &stored {
        assert_eq!(std::fs::metadata(scratch.data().join(path)).unwrap().len(), sealed.len() as u64, "{path} is whole");
    }
    std::fs::remove_file(scratch.data().join(&stored[0])).unwrap();
    let again: Vec<u16> = (0..30).map(|number| put(&collector, number, &sealed).status).collect();
    assert_eq!(again.iter().filter(|status| **status == 201).count(), 1, "{again:?}");
    assert!(scratch.is_swept());
}

struct Unmount<'a>(&'a Scratch);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.data()).output();
    }
}

#[test]
fn the_largest_report_goes_into_a_bucket() {
    let scratch = Scratch::new();
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let collector = edge(&scratch, gateway.address, &[]);
    let largest = seal::x25519().frame(63 << 20);
    assert!(largest.len() < LIMIT);
    let statuses = [put(&collector, 1, &largest).status, put(&collector, 1, &largest).status];
    let said = std::fs::read_to_string(scratch.0.join("said")).unwrap();
    assert_eq!(statuses, [201, 208], "{said}");
    assert!(gateway.read(&gateway.stored(".otr")[0]) == seal::with_id(&largest, 1));
}
