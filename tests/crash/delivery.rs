//! What becomes of a report when it is to be sent.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::process::Process;
use crate::sink::{Sink, accept, answer, head};
use crate::support::{TempDir, succeed};
use crate::tls::{Authority, NAME};
use crate::victim::{
    Around, Victim, assert_event, end_with, ended_by, events, files_below, send, sent_by_next_run, state_variable,
    stored_event,
};

#[test]
fn a_refusing_endpoint_leaves_the_report_in_the_spool() {
    let dir = TempDir::new();
    let sink = Sink::start(503);
    let (name, state) = state_variable(&dir);
    let (status, reports) = ended_by(|victim| send(victim.child.id(), libc::SIGKILL), &sink, &dir, &[(name, &state)]);
    assert_eq!(status, libc::SIGKILL);
    assert_eq!(reports.len(), 1, "one try");
    let stored = files_below(Path::new(&state));
    assert_eq!(stored, [format!("{}.json", reports[0]["event_id"].as_str().unwrap())]);
    // Why is remembered until one is delivered.
    let failure = Path::new(&state).join("failures/crash_reports");
    let why: Value = serde_json::from_slice(&std::fs::read(&failure).unwrap()).unwrap();
    let why = why["text"].as_str().unwrap();
    assert!(why.ends_with("/api/1/envelope/ answered HTTP 503"), "{why}");
    let taking = Sink::start(200);
    let (_, reports) = ended_by(|victim| send(victim.child.id(), libc::SIGSEGV), &taking, &dir, &[(name, &state)]);
    assert!(!reports.is_empty());
    assert!(!failure.exists());
}

#[test]
fn a_crash_loop_is_reported_five_times_and_the_rest_is_counted() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    for _ in 0..8 {
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
        victim.go();
        assert_eq!(victim.end().0, libc::SIGSEGV);
    }
    assert_eq!(sink.bodies().len(), 5);
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new(), "what is held back is not in the spool");
    let memory = std::fs::read_to_string(Path::new(&state).join("crash.json")).unwrap();
    let memory: Value = serde_json::from_str(&memory).unwrap();
    let kinds: Vec<&Value> = memory["kinds"].as_object().unwrap().values().collect();
    assert_eq!(kinds.len(), 1, "{memory}");
    assert_eq!(kinds[0]["held"], 3, "{memory}");
    // Another kind of ending is not held back by it.
    let mut victim = Victim::start("abort", Some(&library), dir.path(), &Around::default());
    victim.go();
    assert_eq!(victim.end().0, libc::SIGABRT);
    assert_eq!(sink.bodies().len(), 6);
}

#[test]
fn a_server_that_wants_no_more_gets_no_more() {
    let (dir, sink) = (TempDir::new(), Sink::with_headers(200, "X-Sentry-Rate-Limits: 3600:error:key\r\n"));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    for _ in 0..2 {
        let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
        victim.go();
        assert_eq!(victim.end().0, libc::SIGSEGV);
    }
    assert_eq!(sink.bodies().len(), 1, "the server was asked although it wants nothing for an hour");
    assert_eq!(files_below(Path::new(&state)).len(), 1, "the second report is not stored");
}

/// What keeps an answer from coming: the settings that lead there, and how many connections came, where that is known.
struct Trouble {
    what: &'static str,
    settings: Vec<(&'static str, String)>,
    connections: Option<Arc<AtomicUsize>>,
}

impl Trouble {
    fn at(what: &'static str, dsn: &str) -> Self {
        Self { what, settings: vec![("ONDAT_TELEMETRY_SENTRY_DSN", dsn.to_owned())], connections: None }
    }

    /// A server that does this with every connection.
    fn of(what: &'static str, scheme: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        let address = accept(move |stream| {
            counted.fetch_add(1, Ordering::Relaxed);
            serve(stream);
        });
        Self { connections: Some(connections), ..Self::at(what, &format!("{scheme}://key@{address}/1")) }
    }

    fn and(mut self, name: &'static str, value: &str) -> Self {
        self.settings.push((name, value.to_owned()));
        self
    }
}

/// Reads until the other side gives up.
fn swallow(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Answers so, without having read to the end.
fn say(mut stream: TcpStream, bytes: &[u8]) {
    let mut head = [0; 16];
    let _ = stream.read(&mut head).and_then(|_| stream.write_all(bytes));
}

/// Reads a little and hangs up with data unread, which is a reset, tcp(7).
fn reset(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 16]);
}

/// A byte now and then, for ever.
fn drip(mut stream: TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
    while stream.write_all(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A name server that answers so, or not at all.
fn name_server(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            if let Some(answer) = answer(&question[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    address
}

/// The same question with the code of a name that there is not, RFC 1035.
fn no_such_name(question: &[u8]) -> Option<Vec<u8>> {
    let mut answer = question.to_vec();
    answer.get_mut(2..4)?.copy_from_slice(&[0x81, 0x83]);
    Some(answer)
}

/// The report is stored, the monitor gives up by itself, and the next run sends the same event.
fn stored_and_sent_later(trouble: &Trouble) {
    let what = trouble.what;
    let dir = TempDir::new();
    let (name, state) = state_variable(&dir);
    let mut library = vec![("ONDAT_TELEMETRY_TIMEOUT_MS", "300"), (name, state.as_str())];
    library.extend(trouble.settings.iter().map(|(name, value)| (*name, value.as_str())));
    let (installed, end) = end_with("segv", &library, &Around::default());
    assert_eq!((installed.as_str(), end.0), ("installed 0", libc::SIGSEGV), "{what}");
    let stored = stored_event(&state);
    let value = "victim killed by SIGSEGV (address not mapped)";
    assert_event(&stored, "SIGSEGV", value, "address not mapped", "false");
    if let Some(connections) = &trouble.connections {
        assert_eq!(connections.load(Ordering::Relaxed), 1, "{what}: one try");
    }
    assert_eq!(sent_by_next_run(&state), [stored], "{what}");
}

#[test]
fn a_server_in_trouble_gets_the_report_later() {
    for trouble in [
        // Where nobody listens, nor ever does.
        Trouble::at("refuses", "http://key@127.0.0.1:1/1"),
        Trouble::of("never answers", "http", swallow),
        Trouble::of("never answers in TLS", "https", swallow),
        Trouble::of("drips", "http", drip),
        Trouble::of("resets", "http", reset),
        Trouble::of("breaks off", "http", |stream| say(stream, b"HTTP/1.1 20")),
        Trouble::of("speaks another language", "http", |stream| say(stream, b"SSH-2.0-server\r\n")),
        Trouble::of("speaks no TLS", "https", |stream| say(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    ] {
        stored_and_sent_later(&trouble);
    }
}

#[test]
fn a_server_without_a_good_certificate_gets_nothing() {
    let authority = Authority::new();
    for (what, tls) in [
        ("expired", authority.expired()),
        ("for another name", authority.misnamed()),
        ("self-signed", authority.self_signed()),
    ] {
        let sink = Sink::with_tls(tls, 200);
        stored_and_sent_later(&Trouble::at(what, &sink.dsn()).and("ONDAT_TELEMETRY_CA_FILE", &authority.ca_file()));
        assert_eq!(sink.bodies(), Vec::<String>::new(), "{what}");
    }
    // The same with nothing wrong is delivered, but not where nobody trusts the authority.
    let sink = Sink::with_tls(authority.good(), 200);
    stored_and_sent_later(&Trouble::at("untrusted", &sink.dsn()));
    assert_eq!(sink.bodies(), Vec::<String>::new());
    for variable in ["ONDAT_TELEMETRY_CA_FILE", "SSL_CERT_FILE"] {
        let sink = Sink::with_tls(authority.good(), 200);
        let (dsn, ca_file) = (sink.dsn(), authority.ca_file());
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (variable, ca_file.as_str())];
        assert_eq!(end_with("segv", &library, &Around::default()).1.0, libc::SIGSEGV);
        assert_eq!(sink.bodies().len(), 1, "{variable}");
    }
}

#[test]
fn a_server_whose_name_is_not_found_gets_the_report_later() {
    let dsn = format!("https://key@{NAME}/1");
    let silent = name_server(|_| None);
    let unknown = name_server(no_such_name);
    for (what, server) in [("no such name", unknown), ("no answer", silent)] {
        stored_and_sent_later(&Trouble::at(what, &dsn).and("ONDAT_TELEMETRY_NAMESERVERS", &server));
    }
}

#[test]
fn a_server_that_does_not_answer_holds_the_monitor_and_not_the_host() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let slow = Sink::answering(move |_| {
        let _ = released.lock().unwrap().recv();
        Some(answer(200, "", "{}"))
    });
    let dsn = slow.dsn();
    let (name, state) = state_variable(&dir);
    // Far above what the test takes.
    let library = [
        ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
        (name, state.as_str()),
        ("ONDAT_TELEMETRY_TIMEOUT_MS", "600000"),
    ];
    let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
    let monitor = victim.monitor.take().unwrap();
    victim.go();
    let (status, _) = victim.end();
    assert_eq!(status, libc::SIGSEGV);
    assert!(!monitor.has_ended(), "the monitor did not wait for the answer");
    release.send(()).unwrap();
    monitor.wait();
    assert_eq!(slow.bodies().len(), 1);
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
    assert_eq!(sink.bodies(), Vec::<String>::new());
}

/// What is in the state directory after one crash whose report was answered so, and for how long the server wants no
/// more.
fn after(answer: String) -> (usize, Value) {
    let dir = TempDir::new();
    let sink = Sink::answering(move |_| Some(answer.clone()));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    assert_eq!(end_with("segv", &library, &Around::default()).1.0, libc::SIGSEGV);
    assert_eq!(sink.bodies().len(), 1);
    let memory = std::fs::read_to_string(Path::new(&state).join("crash.json")).unwrap();
    let memory: Value = serde_json::from_str(&memory).unwrap();
    (files_below(Path::new(&state)).len(), memory["pause"]["wait"].clone())
}

#[test]
fn each_answer_deletes_or_keeps_the_report_as_agreed() {
    let (sentry, detail) = ("X-Sentry-Error: why\r\n", r#"{"detail": "why"}"#);
    let page = "<html>blocked</html>";
    for (status, headers, body, kept, pause) in [
        (200, "", "{}", 0, None),
        (202, "", "", 0, None),
        // A page of something else on the way.
        (302, "Location: https://127.0.0.1:1/\r\n", "", 1, None),
        (400, sentry, "", 0, None),
        (400, "", page, 1, None),
        (401, "", detail, 0, None),
        (401, "", page, 1, None),
        (403, "", detail, 0, None),
        (403, "", page, 1, None),
        (404, "", detail, 0, None),
        (404, "", page, 1, None),
        (413, "", page, 0, None),
        (429, "", "", 1, Some(60)),
        (429, "Retry-After: 7\r\n", detail, 1, Some(7)),
        (429, "X-Sentry-Rate-Limits: 90:error:key\r\nRetry-After: 7\r\n", "", 1, Some(90)),
        (429, "X-Sentry-Rate-Limits: 90:transaction:key\r\n", "", 1, None),
        (500, "", detail, 1, None),
        (503, "Retry-After: 7\r\n", page, 1, None),
        (503, "X-Sentry-Rate-Limits: 90:error:key\r\n", page, 1, Some(90)),
    ] {
        let what = format!("{status} {headers:?} {body}");
        let pause = pause.map_or(Value::Null, Value::from);
        assert_eq!(after(answer(status, headers, body)), (kept, pause), "{what}");
    }
}

#[test]
fn a_limit_that_cannot_be_read_limits_nothing_and_a_huge_one_a_day() {
    for (header, pause) in [
        (" 5 : error : key ", Some(5)),
        ("1.5:error:key", Some(2)),
        ("nan:error:key", None),
        ("inf:error:key", None),
        ("-5:error:key", None),
        ("99999999999999999999:error:key", Some(86_400)),
        (":::,,;", None),
        ("x", None),
    ] {
        let pause = pause.map_or(Value::Null, Value::from);
        let answer = answer(200, &format!("X-Sentry-Rate-Limits: {header}\r\n"), "{}");
        assert_eq!(after(answer), (0, pause), "{header:?}");
    }
    for header in ["nan", "-5", "1.5", " ", "soon", "99999999999999999999"] {
        let (kept, pause) = after(answer(429, &format!("Retry-After: {header}\r\n"), "{}"));
        assert_eq!(kept, 1, "{header:?}");
        assert!((1..=86_400).contains(&pause.as_i64().unwrap()), "{header:?}: {pause}");
    }
}

#[test]
fn a_lost_answer_is_a_second_try_with_the_same_id() {
    let sink = Sink::answering(|_| None);
    stored_and_sent_later(&Trouble::at("hangs up", &sink.dsn()));
    assert_eq!(sink.bodies().len(), 1, "the report was received");
}

#[test]
fn a_monitor_killed_between_sending_and_deleting_is_a_second_try_with_the_same_id() {
    let dir = TempDir::new();
    let monitor = Arc::<OnceLock<Process>>::default();
    let known = Arc::clone(&monitor);
    let sink = Sink::answering(move |_| {
        known.get().unwrap().signal(libc::SIGKILL);
        known.get().unwrap().wait();
        Some(answer(200, "", "{}"))
    });
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    let mut victim = Victim::start("segv", Some(&library), dir.path(), &Around::default());
    assert!(monitor.set(victim.monitor.take().unwrap()).is_ok());
    victim.go();
    assert_eq!(victim.end().0, libc::SIGSEGV);
    monitor.get().unwrap().wait();
    assert_eq!(events(&sink), sent_by_next_run(&state));
}

/// A spool with this many reports.
fn spool_with(dir: &TempDir, count: usize) -> String {
    let (name, state) = state_variable(dir);
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", "http://key@127.0.0.1:1/1"), (name, state.as_str())];
    // At most five of a kind.
    for scenario in ["segv", "abort"].into_iter().cycle().take(count) {
        end_with(scenario, &library, &Around::default());
    }
    assert_eq!(files_below(Path::new(&state)).len(), count);
    state
}

#[test]
fn two_processes_on_one_spool_send_each_report_once() {
    let dir = TempDir::new();
    let state = spool_with(&dir, 6);
    // The first two requests are there at the same time, one of each process.
    let (both, first) = (Barrier::new(2), AtomicUsize::new(0));
    let sink = Sink::answering(move |_| {
        if first.fetch_add(1, Ordering::Relaxed) < 2 {
            both.wait();
        }
        Some(answer(200, "", "{}"))
    });
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", state.as_str())];
    let mut victims = [(); 2].map(|()| Victim::start("flush", Some(&library), dir.path(), &Around::default()));
    victims.iter_mut().for_each(Victim::go);
    for victim in victims {
        assert_eq!(victim.end(), (0, "flushed 0".to_owned()));
    }
    let mut ids: Vec<String> = events(&sink).iter().map(|event| event["event_id"].to_string()).collect();
    assert_eq!(ids.len(), 6);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "one was sent twice");
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
}

#[test]
fn a_full_spool_lets_the_oldest_go() {
    let dir = TempDir::new();
    let (name, state) = state_variable(&dir);
    let spool = Path::new(&state).join("spool/crashes");
    std::fs::create_dir_all(&spool).unwrap();
    for age in 0..50 {
        let file = std::fs::File::create(spool.join(format!("{age:032x}.json"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600 * (age + 1))).unwrap();
    }
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", "http://key@127.0.0.1:1/1"), (name, state.as_str())];
    assert_eq!(end_with("segv", &library, &Around::default()).1.0, libc::SIGSEGV);
    assert_eq!(files_below(&spool).len(), 50);
    assert!(!spool.join(format!("{:032x}.json", 49)).exists(), "the oldest");
    assert!(spool.join(format!("{:032x}.json", 48)).exists());
}

/// The event in the only body that a server has received, byte for byte.
fn received(sink: &Sink) -> String {
    let bodies = sink.bodies();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    bodies[0].lines().nth(2).unwrap().to_owned()
}

#[test]
fn what_the_server_got_is_kept_for_the_administrator_the_last_hundred_times() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    let sent = Path::new(&state).join("sent/crashes");
    std::fs::create_dir_all(&sent).unwrap();
    // A report's copy, which is older than all of them.
    let report = Path::new(&state).join("sent/2026-11-24-00112233445566778899aabbccddeeff.jsonl");
    let age = |path: &Path, hours: u64| {
        let file = std::fs::File::create(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600 * hours)).unwrap();
    };
    age(&report, 1_000);
    (0..100).for_each(|hours| age(&sent.join(format!("{hours:032x}.json")), hours + 1));
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    assert_eq!(end_with("segv", &library, &Around::default()).1.0, libc::SIGSEGV);

    let event = received(&sink);
    let id = events(&sink)[0]["event_id"].as_str().unwrap().to_owned();
    let kept = sent.join(format!("{id}.json"));
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), event);
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(files_below(&sent).len(), 100);
    assert!(!sent.join(format!("{:032x}.json", 99)).exists(), "the oldest");
    assert!(sent.join(format!("{:032x}.json", 98)).exists());
    assert!(report.exists());
    assert_eq!(files_below(Path::new(&state)), Vec::<String>::new(), "it waits no more");
}

#[test]
fn what_the_next_run_delivers_is_kept_and_what_is_refused_is_not() {
    for (status, headers, kept) in [(200, "", 1), (400, "X-Sentry-Error: why\r\n", 0)] {
        let dir = TempDir::new();
        let state = spool_with(&dir, 1);
        let sent = Path::new(&state).join("sent/crashes");
        assert!(!sent.exists(), "nothing was delivered yet");
        let sink = Sink::with_headers(status, headers);
        let dsn = sink.dsn();
        let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", state.as_str())];
        assert_eq!(end_with("flush", &library, &Around::default()).1.0, 0);
        let event = received(&sink);
        assert_eq!(files_below(Path::new(&state)), Vec::<String>::new());
        let copies = if sent.exists() { files_below(&sent) } else { Vec::new() };
        assert_eq!(copies.len(), kept, "{status}");
        for copy in copies {
            assert_eq!(std::fs::read_to_string(sent.join(copy)).unwrap(), event);
        }
    }
}

#[test]
fn what_cannot_be_kept_is_delivered_all_the_same() {
    let (dir, sink) = (TempDir::new(), Sink::start(200));
    let dsn = sink.dsn();
    let (name, state) = state_variable(&dir);
    std::fs::write(Path::new(&state).join("sent"), "a file in the way").unwrap();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), (name, state.as_str())];
    assert_eq!(end_with("segv", &library, &Around::default()).1.0, libc::SIGSEGV);
    received(&sink);
    assert_eq!(files_below(Path::new(&state)), ["sent"], "only what was in the way");
}

#[test]
fn what_is_no_report_does_not_hold_up_the_others() {
    let dir = TempDir::new();
    let state = spool_with(&dir, 1);
    let stored = stored_event(&state);
    let spool = Path::new(&state).join("spool/crashes");
    let half = &stored.to_string()[..40];
    let foreign: [(&str, &[u8]); 4] = [
        ("0000-cut.json", half.as_bytes()),
        ("0001-empty.json", b""),
        ("0002-binary", &[0xff; 64]),
        ("0003-no-event.json", b"[]"),
    ];
    for (name, bytes) in foreign {
        std::fs::write(spool.join(name), bytes).unwrap();
        let file = std::fs::File::options().write(true).open(spool.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
    }
    std::fs::File::create(spool.join("0004-huge")).unwrap().set_len(1 << 30).unwrap();
    std::fs::create_dir(spool.join("0005-folder")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", spool.join("0006-symlink")).unwrap();
    succeed(Command::new("mkfifo").arg(spool.join("0007-fifo")));

    let sink = Sink::start(200);
    let dsn = sink.dsn();
    let library = [("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()), ("ONDAT_TELEMETRY_STATE_DIR", state.as_str())];
    let (_, (status, _)) = end_with("flush", &library, &Around::default());
    assert_eq!(status, 0);
    assert_eq!(events(&sink), [stored]);
    for name in ["0000-cut.json", "0001-empty.json", "0002-binary", "0003-no-event.json", "0004-huge"] {
        assert!(spool.join(format!(".damaged-{name}")).exists(), "{name} was not set aside");
    }
}

/// A proxy that connects every request for a tunnel to one place, and keeps what was asked.
fn proxy(to: SocketAddr) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&asked);
    let address = accept(move |client| {
        let mut reader = BufReader::new(client.try_clone().unwrap());
        kept.lock().unwrap().extend(head(&mut reader).into_iter().flatten().next());
        let mut client = client;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let server = TcpStream::connect(to).unwrap();
        let (mut up, mut down) = (server.try_clone().unwrap(), server);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut reader, &mut up);
            let _ = up.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut down, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    });
    (format!("http://{address}"), asked)
}

#[test]
fn the_monitor_goes_through_the_hosts_proxy() {
    let authority = Authority::new();
    let (dsn, ca_file) = (format!("https://key@{NAME}/1"), authority.ca_file());
    for variable in ["HTTPS_PROXY", "https_proxy", "ONDAT_TELEMETRY_PROXY"] {
        let sink = Sink::with_tls(authority.good(), 200);
        let (proxy, asked) = proxy(sink.address);
        let library = [
            ("ONDAT_TELEMETRY_SENTRY_DSN", dsn.as_str()),
            ("ONDAT_TELEMETRY_CA_FILE", ca_file.as_str()),
            (variable, proxy.as_str()),
        ];
        assert_eq!(end_with("segv", &library, &Around::default()).1.0, libc::SIGSEGV);
        assert_eq!(*asked.lock().unwrap(), [format!("CONNECT {NAME}:443 HTTP/1.1")], "{variable}");
        assert_eq!(sink.bodies().len(), 1, "{variable}");
    }
}
