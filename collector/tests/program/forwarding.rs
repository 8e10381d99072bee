//! Crash reports go on to Sentry's server: what is acknowledged arrives there, whenever it can.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::crashes::{auth, envelope, event, post};
use crate::program::{Collector, Scratch};
use crate::s3::{self, Front, Gateway, Mood};

/// Sentry's server: it answers what a test wants, and accepts afterwards.
struct Sentry {
    address: SocketAddr,
    answers: Arc<Mutex<VecDeque<String>>>,
    got: Arc<Mutex<Vec<(String, String)>>>,
}

impl Sentry {
    fn start() -> Self {
        Self::at(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    fn at(listener: TcpListener) -> Self {
        let sentry = Self { address: listener.local_addr().unwrap(), answers: Arc::default(), got: Arc::default() };
        let (answers, got) = (sentry.answers.clone(), sentry.got.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
                let (head, body) = loop {
                    let read = stream.read(&mut piece).unwrap_or(0);
                    bytes.extend_from_slice(&piece[..read]);
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length = head.to_lowercase();
                        let length = length.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
                        if body.len() == length.parse::<usize>().unwrap() {
                            break (head.to_owned(), body.to_owned());
                        }
                    }
                    assert!(read > 0, "a request is cut off: {text}");
                };
                let answer = answers.lock().unwrap().pop_front();
                got.lock().unwrap().push((head, body));
                let answer = answer.unwrap_or_else(|| "200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned());
                let (status, rest) = answer.split_once("\r\n").unwrap();
                stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n{rest}").as_bytes()).unwrap();
            }
        });
        sentry
    }

    fn answers(&self, answer: &str) {
        self.answers.lock().unwrap().push_back(answer.to_owned());
    }

    fn dsn(&self) -> String {
        format!("http://abc@{}/7", self.address)
    }

    fn got(&self) -> Vec<(String, String)> {
        self.got.lock().unwrap().clone()
    }

    /// The ids of the events that came, in their order.
    fn ids(&self) -> Vec<String> {
        let events = self.got().into_iter().map(|(_, body)| body.lines().nth(2).unwrap().to_owned());
        let events = events.map(|event| serde_json::from_str::<Value>(&event).unwrap());
        events.map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
    }
}

fn start(scratch: &Scratch, dsn: &str) -> Collector {
    Collector::start(scratch, &["--forward-crashes", dsn, "--operations", "127.0.0.1:0"])
}

fn id(number: u32) -> String {
    format!("{number:032x}")
}

fn send(collector: &Collector, number: u32) -> u16 {
    let mut event = event();
    event["event_id"] = json!(id(number));
    event["user"] = json!({ "ip_address": "192.0.2.77" });
    let body = envelope(&json!({}), &event);
    post(collector, "/api/1/envelope/", auth(&collector.sentry_key()), &body).status
}

/// Nothing is left to be forwarded, and all of it is stored.
fn is_done(scratch: &Scratch, stored: usize) -> bool {
    let names = scratch.stored("");
    let in_folder = |folder: &str| names.iter().filter(|name| name.starts_with(folder)).count();
    (in_folder("unsent/"), in_folder("crashes/")) == (0, stored)
}

#[test]
fn a_crash_report_goes_on_with_its_id_and_without_its_sender() {
    let (scratch, sentry) = (Scratch::new(), Sentry::start());
    let collector = start(&scratch, &sentry.dsn());
    assert_eq!([send(&collector, 1), send(&collector, 1)], [200, 200]);
    collector.until(|_| is_done(&scratch, 1));
    assert_eq!(send(&collector, 1), 200);
    assert_eq!(send(&collector, 2), 200);
    collector.until(|_| is_done(&scratch, 2));
    assert_eq!(sentry.ids(), [id(1), id(2)], "each once");
    let (head, body) = &sentry.got()[0];
    assert!(head.starts_with("POST /api/7/envelope/ HTTP/1.1\r\n"), "{head}");
    let names: Vec<String> = head.lines().skip(1).map(|line| line.split(':').next().unwrap().to_lowercase()).collect();
    let expected = ["content-type", "x-sentry-auth", "accept", "user-agent", "host", "content-length"];
    assert!(names.iter().all(|name| expected.contains(&name.as_str())), "{head}");
    assert!(!body.contains("192.0.2.77") && !head.contains("127.0.0.1;") && body.contains("ondat@2.8.2"), "{body}");
    assert_eq!(collector.metric("crashes_forwarded_total{outcome=\"delivered\"}"), 2);
}

#[test]
fn an_outage_loses_nothing_and_neither_does_a_kill() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let dsn = format!("http://abc@{address}/7");
    let collector = start(&scratch, &dsn);
    assert!([1, 2, 3].iter().all(|number| send(&collector, *number) == 200));
    collector.until(|collector| collector.metric("crashes_forwarded_total{outcome=\"later\"}") > 0);
    collector.stop(Signal::SIGKILL);
    let sentry = Sentry::at(TcpListener::bind(address).unwrap());
    sentry.answers("503 Busy\r\nContent-Length: 0\r\n\r\n");
    let collector = start(&scratch, &dsn);
    collector.until(|_| is_done(&scratch, 3));
    let mut ids = sentry.ids();
    assert_eq!(ids.len(), 4, "one is tried again: {ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids, [1, 2, 3].map(id));
}

#[test]
fn limits_are_kept_and_refusals_are_final() {
    let (scratch, sentry) = (Scratch::new(), Sentry::start());
    let detail = "{\"detail\":\"no\"}";
    sentry.answers(&format!("400 Bad\r\nContent-Length: {}\r\n\r\n{detail}", detail.len()));
    sentry.answers("429 Slow\r\nX-Sentry-Rate-Limits: 2:error:organization\r\nContent-Length: 0\r\n\r\n");
    let collector = start(&scratch, &sentry.dsn());
    assert_eq!(send(&collector, 1), 200);
    collector.until(|_| is_done(&scratch, 1));
    let began = std::time::Instant::now();
    assert_eq!(send(&collector, 2), 200);
    collector.until(|_| sentry.got().len() == 2);
    // A new one does not break the pause.
    assert_eq!(send(&collector, 3), 200);
    collector.until(|_| is_done(&scratch, 3));
    assert!(began.elapsed() >= std::time::Duration::from_secs(2));
    assert_eq!(sentry.ids(), [1, 2, 2, 3].map(id));
    let outcome = |outcome: &str| collector.metric(&format!("crashes_forwarded_total{{outcome=\"{outcome}\"}}"));
    assert_eq!(["delivered", "rejected", "later"].map(outcome), [2, 1, 1]);
}

#[test]
fn a_bucket_holds_what_is_to_be_forwarded() {
    let (scratch, sentry) = (Scratch::new(), Sentry::start());
    let Some(gateway) = Gateway::start(&scratch) else { return };
    let front = Front::start(gateway.address, Mood::Good);
    sentry.answers("503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    let (store, dsn) = (s3::store(), sentry.dsn());
    let arguments = ["--store", &store, "--forward-crashes", &dsn];
    let collector = Collector::start_with(&scratch, &arguments, &s3::environment(front.address));
    assert_eq!(send(&collector, 1), 200);
    let puts: Vec<String> = front.asked().into_iter().filter(|line| line.starts_with("PUT ")).collect();
    let [note, event] = &puts[2..] else { panic!("after two of the probe: {puts:?}") };
    assert!(note.contains("/unsent/") && event.contains("/crashes/20"), "the note comes first: {puts:?}");
    collector.until(|_| gateway.stored("").iter().all(|name| name.starts_with("crashes/")));
    assert_eq!(sentry.ids(), [id(1), id(1)]);
    assert_eq!(gateway.stored(".json").len(), 1);
}

#[test]
fn a_dsn_that_is_none_is_refused() {
    let scratch = Scratch::new();
    for (dsn, why) in [("x", "expected https"), ("https://host/1", "public key"), ("http://a@192.0.2.1/1", "https")] {
        let said = scratch.refused(2, &["serve", "--forward-crashes", dsn]);
        assert!(said.contains("--forward-crashes") && said.contains(why), "{said}");
    }
}
