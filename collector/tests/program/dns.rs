use std::fs;

use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::{DNSClass, RecordType};

use crate::program::{Collector, Scratch, question};

const ZONE: &str = "\
$ORIGIN latest.example.
$TTL 3600
@\tIN\tSOA\tns.latest.example. hostmaster.latest.example. 1 3600 600 1209600 300
@\tIN\tNS\tns.latest.example.
ns\tIN\tA\t192.0.2.1
*.o1\tIN\tTXT\t\"o1 v=* l=2.8.2 e=1800000000 g=xyz\"
*.68n3gbg.o1\tIN\tTXT\t\"o1 v=68n3gbg s=3\" \" a=OND-1\"
";

fn start(scratch: &Scratch) -> Collector {
    let zone = scratch.file("zone", ZONE);
    Collector::start(scratch, &["--zone", zone.to_str().unwrap()])
}

fn texts(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

fn no_data(message: &Message) -> bool {
    message.metadata.response_code == ResponseCode::NoError
        && message.answers.is_empty()
        && message.authorities.len() == 1
        && message.authorities[0].record_type() == RecordType::SOA
        && message.authorities[0].ttl == 300
}

#[test]
fn the_general_answer_is_given_to_every_version_and_blob() {
    let scratch = Scratch::new();
    let collector = start(&scratch);
    let name = format!("{}.68n3gbi.o1.latest.example.", "v".repeat(63));
    for message in [collector.ask(&name, RecordType::TXT), collector.ask_tcp(&name, RecordType::TXT)] {
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.metadata.authoritative && !message.metadata.recursion_available);
        assert_eq!(texts(&message), ["o1 v=* l=2.8.2 e=1800000000 g=xyz"]);
        assert_eq!(message.answers[0].ttl, 3600);
    }
}

#[test]
fn an_override_comes_first_and_nothing_below_it_falls_back() {
    let scratch = Scratch::new();
    let collector = start(&scratch);
    assert_eq!(texts(&collector.ask("b.68n3gbg.o1.latest.example.", RecordType::TXT)), ["o1 v=68n3gbg s=3 a=OND-1"]);
    assert!(no_data(&collector.ask("b.68n3gbg.o1.latest.example.", RecordType::A)));
    // An existing wildcard name is the closest encloser of what is below it, and it has no wildcard of its own.
    let below = collector.ask("b.*.68n3gbg.o1.latest.example.", RecordType::TXT);
    assert_eq!((below.metadata.response_code, below.answers.len()), (ResponseCode::NXDomain, 0));
}

#[test]
fn names_between_are_empty_and_exist() {
    let scratch = Scratch::new();
    let collector = start(&scratch);
    for name in ["o1.latest.example.", "68n3gbg.o1.latest.example.", "latest.example."] {
        assert!(no_data(&collector.ask(name, RecordType::TXT)), "{name}");
    }
    // QNAME minimisation asks for A along the way.
    for name in ["o1.latest.example.", "68n3gbi.o1.latest.example."] {
        assert!(no_data(&collector.ask(name, RecordType::A)), "{name}");
    }
    assert_eq!(collector.ask("o2.latest.example.", RecordType::TXT).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn upper_and_lower_case_come_back_as_asked() {
    let scratch = Scratch::new();
    let collector = start(&scratch);
    let name = "BlOb.68N3gBi.O1.LaTeSt.eXaMpLe.";
    let message = collector.ask(name, RecordType::TXT);
    assert_eq!(message.queries[0].name().to_ascii(), name);
    assert_eq!(message.answers[0].name.to_ascii(), name);
}

#[test]
fn other_zones_classes_and_transfers_are_refused() {
    let scratch = Scratch::new();
    let collector = start(&scratch);
    let refused = |message: Message| assert_eq!(message.metadata.response_code, ResponseCode::Refused);
    refused(collector.ask("example.", RecordType::TXT));
    refused(collector.ask("www.elsewhere.", RecordType::A));
    refused(collector.ask_class("a.b.o1.latest.example.", RecordType::TXT, DNSClass::CH));
    refused(collector.ask_tcp("latest.example.", RecordType::AXFR));
}

#[test]
fn without_a_zone_everything_is_refused() {
    let scratch = Scratch::new();
    let collector = Collector::start(&scratch, &[]);
    let message = collector.ask("a.b.o1.latest.example.", RecordType::TXT);
    assert_eq!(message.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn the_apex_and_the_name_server_are_answered() {
    let scratch = Scratch::new();
    let collector = start(&scratch);
    assert_eq!(texts(&collector.ask("latest.example.", RecordType::NS)), ["ns.latest.example."]);
    assert_eq!(texts(&collector.ask("ns.latest.example.", RecordType::A)), ["192.0.2.1"]);
    assert_eq!(collector.ask("latest.example.", RecordType::SOA).answers.len(), 1);
}

#[test]
fn text_questions_below_the_zone_are_noted_without_the_asker() {
    let scratch = Scratch::new();
    let collector = start(&scratch);
    collector.ask("Blob.ver.o1.latest.example.", RecordType::TXT);
    collector.ask("blob.ver.o1.latest.example.", RecordType::A);
    collector.ask("latest.example.", RecordType::TXT);
    collector.ask("blob.ver.o1.elsewhere.", RecordType::TXT);
    let log = fs::read_to_string(scratch.data().join("queries.jsonl")).unwrap();
    let [line] = log.lines().collect::<Vec<_>>()[..] else { panic!("{log}") };
    let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
    assert_eq!(line["name"], "blob.ver.o1.latest.example.");
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(line.len(), 2);
}

#[test]
fn a_network_that_asks_too_often_is_sent_to_tcp_and_is_no_amplifier() {
    use std::net::UdpSocket;
    use std::time::Duration;
    let scratch = Scratch::new();
    let zone = scratch.file("zone", ZONE);
    let arguments = ["--zone", zone.to_str().unwrap(), "--dns-rate", "1", "--operations", "127.0.0.1:0"];
    let collector = Collector::start(&scratch, &arguments);
    let name = "a.b.o1.latest.example.";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let question = question(name, RecordType::TXT, DNSClass::IN);
    for _ in 0..60 {
        socket.send_to(&question, collector.address("dns")).unwrap();
    }
    let counts = || {
        ["answered", "truncated", "dropped"]
            .map(|outcome| collector.metric(&format!("dns_questions_total{{outcome=\"{outcome}\"}}")))
    };
    collector.until(|_| counts().iter().sum::<u64>() == 60);
    let [answered, truncated, dropped] = counts();
    assert!(answered < 20 && truncated > 15 && dropped > 15, "{answered} {truncated} {dropped}");
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for _ in 0..answered + truncated {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        let message = Message::from_vec(&bytes[..length]).unwrap();
        assert_eq!(message.answers.is_empty(), message.metadata.truncation, "{message:?}");
        assert!(!message.metadata.truncation || length <= question.len(), "no more than was sent");
    }
    assert_eq!(texts(&collector.ask_tcp(name, RecordType::TXT)), ["o1 v=* l=2.8.2 e=1800000000 g=xyz"]);
    let log = fs::read_to_string(scratch.data().join("queries.jsonl")).unwrap();
    assert_eq!(log.lines().count() as u64, answered + 1, "what is dropped is not noted");
}

#[test]
fn idle_connections_of_one_network_leave_dns_and_reports_to_others() {
    use std::io::Read;
    use std::net::TcpStream;
    let scratch = Scratch::new();
    let collector = start(&scratch);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connect = |number: u8| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(std::net::SocketAddr::from(([127, 66, 0, number], 0))).unwrap();
        let stream = runtime.block_on(socket.connect(collector.address("dns"))).unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    };
    let mut held: Vec<TcpStream> = (0..40).map(|number| connect(number + 1)).collect();
    // One too many is closed at once; those before are waited for.
    assert_eq!(held.last_mut().unwrap().read(&mut [0]).unwrap_or(0), 0);
    held[0].set_nonblocking(true).unwrap();
    assert!(held[0].read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    let name = "a.b.o1.latest.example.";
    assert_eq!(texts(&collector.ask_tcp(name, RecordType::TXT)).len(), 1);
    assert_eq!(texts(&collector.ask(name, RecordType::TXT)).len(), 1);
}

#[test]
fn several_questions_may_come_on_one_connection_and_what_is_none_ends_it() {
    use std::io::{Read, Write};
    let scratch = Scratch::new();
    let collector = start(&scratch);
    let question = question("a.b.o1.latest.example.", RecordType::TXT, DNSClass::IN);
    let framed = [&u16::try_from(question.len()).unwrap().to_be_bytes(), question.as_slice()].concat();
    let mut stream = std::net::TcpStream::connect(collector.address("dns")).unwrap();
    stream.write_all(&framed.repeat(3)).unwrap();
    for _ in 0..3 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(texts(&Message::from_vec(&answer).unwrap()).len(), 1);
    }
    stream.write_all(b"\xff\xffGET / HTTP/1.1\r\n").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}
