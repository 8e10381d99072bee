use crate::program::{Collector, Request, Response, Scratch};
use crate::seal::{self, REPORT_ID};

pub(crate) const MEDIA_TYPE: &str = "application/vnd.ondat.telemetry-report";
pub(crate) const LIMIT: usize = 64 << 20;

pub(crate) fn id() -> String {
    data_encoding::HEXLOWER.encode(&REPORT_ID)
}

pub(crate) fn request<'a>(id: &str, media_type: &str, body: &'a [u8]) -> Request<'a> {
    let headers = vec![("Content-Type", media_type.to_owned())];
    Request { line: format!("PUT /v1/reports/{id}"), headers, body }
}

fn put(collector: &Collector, id: &str, media_type: &str, body: &[u8]) -> Response {
    let response = collector.https(&request(id, media_type, body));
    assert!(response.head.contains("\r\nOndat-Telemetry: 1"), "{}", response.head);
    response
}

fn refused(response: &Response, status: u16, why: &str) {
    assert_eq!(response.status, status, "{response:?}");
    assert!(response.json()["error"].as_str().unwrap().contains(why), "{}", response.body);
}

#[test]
fn a_report_that_comes_again_is_stored_once() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let sealed = seal::x25519().seal(b"1");
    assert_eq!(put(&collector, &id(), MEDIA_TYPE, &sealed).status, 201);
    assert_eq!(put(&collector, &id(), MEDIA_TYPE, &sealed).status, 208);
    assert_eq!(scratch.only(".otr"), sealed);
    let path = &scratch.stored(".otr")[0];
    // 0xab is 171, and so 3 of 24.
    assert!(path.starts_with("sealed/v1/20") && path.ends_with(&format!("/03/{}.otr", id())), "{path}");
    assert!(scratch.is_swept());
}

#[test]
fn other_bodies_of_an_id_are_kept_beside_the_first_up_to_three() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &["--operations", "127.0.0.1:0"]);
    let keys = seal::x25519();
    // Of the same length, so that only the bytes tell them apart, and of another one.
    let bodies = [keys.seal(b"1"), keys.seal(b"2"), keys.frame(4096)];
    let all = || bodies.iter().map(|body| put(&collector, &id(), MEDIA_TYPE, body).status).collect::<Vec<_>>();
    assert_eq!((all(), all()), (vec![201; 3], vec![208; 3]));
    assert_eq!(put(&collector, &id(), MEDIA_TYPE, &keys.seal(b"4")).status, 208, "the day has its report");
    let stored = scratch.stored(".otr");
    let read = |path: &String| std::fs::read(scratch.data().join(path)).unwrap();
    assert_eq!((stored.len(), read(&stored[0])), (3, bodies[0].clone()));
    for (path, body) in stored[1..].iter().zip(&bodies[1..]).chain(stored[1..].iter().zip(bodies[1..].iter().rev())) {
        let hash = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(body)[..4]);
        assert_eq!(path.ends_with(&format!("{}~{hash}.otr", id())), read(path) == *body, "{path}");
    }
    let counted = ["stored", "stored_beside", "duplicate", "one_body_too_many"]
        .map(|outcome| collector.metric(&format!("reports_total{{outcome=\"{outcome}\"}}")));
    assert_eq!(counted, [1, 2, 3, 1]);
}

#[test]
fn what_is_no_report_is_refused_for_the_first_reason_that_holds() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let sealed = seal::x25519().seal(b"1");
    refused(&put(&collector, &id().to_uppercase(), "text/plain", b"x"), 400, "32 lower-case hex");
    refused(&put(&collector, "%ff", MEDIA_TYPE, &sealed), 400, "32 lower-case hex");
    refused(&put(&collector, &id(), "text/plain", b"x"), 415, MEDIA_TYPE);
    refused(&put(&collector, &id(), MEDIA_TYPE, b""), 400, "shorter");
    refused(&put(&collector, &id(), MEDIA_TYPE, &sealed[..36]), 400, "shorter");
    refused(&put(&collector, &id(), MEDIA_TYPE, &sealed[1..]), 400, "OTR1");
    refused(&put(&collector, &"0".repeat(32), MEDIA_TYPE, &sealed), 400, "not the path's");
    assert!(scratch.stored(".otr").is_empty() && scratch.is_swept());
}

#[test]
fn the_largest_report_is_taken_and_a_larger_one_is_not() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    // 63 MiB is the longest padded length of which the sealed report is not beyond the limit.
    let largest = seal::x25519().frame(63 << 20);
    assert!(largest.len() < LIMIT);
    assert_eq!(put(&collector, &id(), MEDIA_TYPE, &largest).status, 201);
    let larger = seal::x25519().frame(64 << 20);
    refused(&put(&collector, &id(), MEDIA_TYPE, &larger), 413, "at most");
    // Size comes before what is inside.
    refused(&put(&collector, &id(), MEDIA_TYPE, &vec![0; LIMIT + 1]), 413, "at most");
}

#[test]
fn what_is_no_whole_report_is_refused() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let whole = seal::x25519().frame(3 * 65_536);
    for cut in [37, 37 + 32, 37 + 32 + 2, 37 + 32 + 4, 100, 90_000, whole.len() - 1] {
        refused(&put(&collector, &id(), MEDIA_TYPE, &whole[..cut]), 400, "whole");
    }
    refused(&put(&collector, &id(), MEDIA_TYPE, &[&whole[..], b"x"].concat()), 400, "whole");
    assert!(scratch.stored(".otr").is_empty());
    assert_eq!(put(&collector, &id(), MEDIA_TYPE, &whole).status, 201);
}

#[test]
fn a_size_that_is_far_too_big_is_refused_unread() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let mut far_too_big = request("00000000000000000000000000000000", MEDIA_TYPE, b"");
    far_too_big.headers.push(("Content-Length", "99999999999".to_owned()));
    refused(&collector.https(&far_too_big), 413, "at most");
    let mut polite = request("00000000000000000000000000000000", MEDIA_TYPE, b"");
    polite.headers.push(("Content-Length", (LIMIT + 1).to_string()));
    polite.headers.push(("Expect", "100-continue".to_owned()));
    refused(&collector.https(&polite), 413, "at most");
}

#[test]
fn a_report_in_pieces_of_unknown_number_is_taken() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let sealed = seal::x25519().seal(b"1");
    let (a, b) = sealed.split_at(20);
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let body = [chunk(a), chunk(b), b"0\r\n\r\n".to_vec()].concat();
    let mut chunked = request("", MEDIA_TYPE, &body);
    chunked.line = format!("PUT /v1/reports/{}", id());
    chunked.headers.push(("Transfer-Encoding", "chunked".to_owned()));
    assert_eq!(collector.https(&chunked).status, 201);
    assert_eq!(scratch.only(".otr"), sealed);
}

#[test]
fn unknown_keys_have_a_quota_and_only_destroyed_ones_are_refused() {
    let scratch = Scratch::new();
    let [ours, new, gone] = [0; 3].map(|_| seal::x25519());
    let mut set: serde_json::Value = serde_json::from_str(&ours.key_set()).unwrap();
    let gone_set: serde_json::Value = serde_json::from_str(&gone.key_set()).unwrap();
    set["destroyed"] = serde_json::json!([gone_set["keys"][0]["id"]]);
    let keys = scratch.file("keys.json", set.to_string());
    let sealed = new.seal(b"1");
    let quota = (sealed.len() * 2).to_string();
    let arguments = ["--report-keys", keys.to_str().unwrap(), "--unknown-key-bytes", &quota];
    let collector = Collector::start(&scratch, &[&arguments[..], &["--operations", "127.0.0.1:0"]].concat());
    let send = |number: u32, sealed: &[u8]| {
        let sealed = seal::with_id(sealed, number);
        put(&collector, &seal::id_of(number), MEDIA_TYPE, &sealed)
    };
    refused(&send(0, &gone.seal(b"1")), 421, "was destroyed");
    assert_eq!([1, 1, 2].map(|number| send(number, &sealed).status), [201, 208, 201], "a duplicate takes nothing");
    let refusal = send(3, &sealed);
    refused(&refusal, 503, "unknown here");
    assert!(is_later(&refusal), "{}", refusal.head);
    assert_eq!(send(4, &ours.seal(b"1")).status, 201, "known keys have no quota");
    assert_eq!((collector.metric("unknown_key_reports_total"), scratch.stored(".otr").len()), (2, 3));
    for (wrong, why) in [(serde_json::json!(["x"]), "16 lower-case hex"), (set["keys"][0]["id"].clone(), "destroyed")] {
        set["destroyed"] = if wrong.is_array() { wrong } else { serde_json::json!([wrong]) };
        scratch.file("keys.json", set.to_string());
        assert!(scratch.refused(2, &["serve", "--report-keys", keys.to_str().unwrap()]).contains(why));
    }
}

/// Whether a refusal says when to come again, at random.
pub(crate) fn is_later(response: &Response) -> bool {
    let after = response.header("Retry-After").and_then(|after| after.parse::<u64>().ok());
    response.status == 503 && after.is_some_and(|after| (300..=3600).contains(&after))
}

#[test]
fn there_is_a_bound_for_bytes_in_flight_and_others_are_served() {
    use std::io::{Read, Write};
    let scratch = Scratch::new();
    let arguments = ["--http", "127.0.0.1:0", "--most-in-flight", "64MiB", "--operations", "127.0.0.1:0"];
    let collector = Collector::start(&scratch, &arguments);
    let large = seal::x25519().frame(63 << 20);
    // All of it but the last byte.
    let mut held = std::net::TcpStream::connect(collector.address("http")).unwrap();
    let head = format!("PUT /v1/reports/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", id());
    let head = format!("{head}Content-Type: {MEDIA_TYPE}\r\nContent-Length: {}\r\n\r\n", large.len());
    held.write_all(head.as_bytes()).unwrap();
    held.write_all(&large[..large.len() - 1]).unwrap();
    collector.until(|collector| collector.metric("bytes_in_flight") == large.len() as u64 - 1);
    let second =
        collector.http(&request(&seal::id_of(1), MEDIA_TYPE, &seal::with_id(&seal::x25519().frame(2 << 20), 1)));
    refused(&second, 503, "too many reports at once");
    assert!(is_later(&second), "{}", second.head);
    let small = seal::with_id(&seal::x25519().seal(b"1"), 2);
    assert_eq!(collector.http(&request(&seal::id_of(2), MEDIA_TYPE, &small)).status, 201);
    held.write_all(&large[large.len() - 1..]).unwrap();
    let mut answer = String::new();
    held.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!((collector.metric("bytes_in_flight"), scratch.stored(".otr").len()), (0, 2));
    assert_eq!(collector.metric("reports_total{outcome=\"over_budget\"}"), 1);
    assert!(scratch.refused(2, &["serve", "--most-in-flight", "1MiB"]).contains("--most-in-flight"));
}

#[test]
fn every_answer_is_marked() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &["--http", "127.0.0.1:0"]);
    let ask = |line: String| {
        let response = collector.http(&Request { line, headers: Vec::new(), body: b"" });
        assert!(response.head.contains("\r\nOndat-Telemetry: 1"), "{}", response.head);
        response
    };
    refused(&ask("GET /v1/keys".to_owned()), 404, "nothing here");
    refused(&ask(format!("GET /v1/reports/{}", id())), 405, "PUT");
    assert_eq!(ask("GET /".to_owned()).status, 404);
    ask("POST /api/1/envelope/".to_owned());
    ask("GET /api/1/envelope/".to_owned());
}

#[test]
fn slow_senders_of_one_network_leave_places_to_others_and_are_given_up() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &["--http", "127.0.0.1:0"]);
    let address = collector.text("http").strip_prefix("http://").unwrap().parse().unwrap();
    let head = format!("PUT /v1/reports/{} HTTP/1.1\r\nHost: x\r\nContent-Type: {MEDIA_TYPE}\r\n", "0".repeat(32));
    let head = format!("{head}Content-Length: 100000\r\n\r\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = async |number: u8| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(std::net::SocketAddr::from(([127, 66, 0, number], 0))).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // One too many is closed, maybe before it has written.
        let _ = stream.write_all(head.as_bytes()).await;
        stream
    };
    let mut held = runtime.block_on(async {
        let mut held = Vec::new();
        for number in 0..540_u16 {
            held.push(connect((number % 250 + 1).try_into().unwrap()).await);
        }
        held
    });
    let sealed = seal::x25519().seal(b"1");
    assert_eq!(collector.http(&request(&id(), MEDIA_TYPE, &sealed)).status, 201);
    runtime.block_on(async {
        // The last one has no place. The first one has, and sends a byte now and then.
        let mut answer = Vec::new();
        assert_eq!(held.last_mut().unwrap().read_to_end(&mut answer).await.unwrap_or(0), 0);
        let first = &mut held[0];
        let mut buffer = [0; 1024];
        for _ in 0..30 {
            first.write_all(b"O").await.unwrap();
            let read = tokio::time::timeout(std::time::Duration::from_secs(1), first.read(&mut buffer)).await;
            if let Ok(Ok(length)) = read {
                answer.extend_from_slice(&buffer[..length]);
                break;
            }
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    });
}
