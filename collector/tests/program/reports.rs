use std::fs;

use crate::program::{Collector, Request, Response, Scratch};
use crate::seal::{self, REPORT_ID};

const MEDIA_TYPE: &str = "application/vnd.ondat.telemetry-report";
const LIMIT: usize = 64 << 20;

fn id() -> String {
    data_encoding::HEXLOWER.encode(&REPORT_ID)
}

fn request<'a>(id: &str, media_type: &str, body: &'a [u8]) -> Request<'a> {
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
fn a_new_report_is_stored_and_the_second_of_the_same_id_is_not() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let keys = seal::x25519();
    let (first, second) = (keys.seal(b"1"), keys.seal(b"2"));
    assert_eq!(put(&collector, &id(), MEDIA_TYPE, &first).status, 201);
    assert_eq!(put(&collector, &id(), MEDIA_TYPE, &second).status, 208);
    assert_eq!(fs::read(scratch.data().join(format!("reports/{}.otr", id()))).unwrap(), first);
    assert_eq!(fs::read_dir(scratch.data().join("incoming")).unwrap().count(), 0);
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
    assert_eq!(fs::read_dir(scratch.data().join("reports")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(scratch.data().join("incoming")).unwrap().count(), 0);
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
    assert_eq!(fs::read_dir(scratch.data().join("reports")).unwrap().count(), 0);
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
    assert_eq!(fs::read(scratch.data().join(format!("reports/{}.otr", id()))).unwrap(), sealed);
}

#[test]
fn with_a_key_set_other_keys_are_refused() {
    let scratch = Scratch::new();
    let (ours, theirs) = (seal::x25519(), seal::x25519());
    let keys = scratch.file("keys.json", ours.key_set());
    let collector = Collector::start(&scratch, &["--report-keys", keys.to_str().unwrap()]);
    refused(&put(&collector, &id(), MEDIA_TYPE, &theirs.seal(b"1")), 421, "not one of ours");
    assert_eq!(put(&collector, &id(), MEDIA_TYPE, &ours.seal(b"1")).status, 201);
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
