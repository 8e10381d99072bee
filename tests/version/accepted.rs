//! Answers that are good, however odd their way or their company.

use std::sync::mpsc;

use ondat_telemetry_protocol::query::version_label;

use crate::scene::{AMPLE, Scene, VERSION, use_tcp};
use crate::server::{Question, Reply, Transport};
use crate::vendor::{Vendor, ZONE, news, now, statement};
use crate::wire::{
    ASKED, EDNS, IN, TXT, answer, answer_to, name, record, section, strings, truncated, txt, txt_of, with_additional,
};

/// What one check may cost everybody on the way, in bytes of DNS.
const LARGEST_QUESTION: usize = 130;
const LARGEST_ANSWER: usize = 400;

#[test]
fn one_check_is_one_small_question_and_one_small_answer() {
    assert_eq!((ZONE, VERSION), ("latest.example.com", "2.8.2"));
    let (send, sizes) = mpsc::channel();
    let scene = Scene::new(move |question, text| {
        let message = with_additional(answer(question, &[txt(text)]), EDNS);
        send.send(message.len()).unwrap();
        vec![Reply::Message(message)]
    });
    scene.succeeds(AMPLE);
    let asked = scene.server.end();
    assert!(matches!(asked.as_slice(), [question] if question.transport == Transport::Udp), "{asked:?}");
    assert!(asked[0].bytes.len() <= LARGEST_QUESTION, "the question takes {} bytes", asked[0].bytes.len());
    let sizes: Vec<usize> = sizes.iter().collect();
    assert!(matches!(sizes.as_slice(), [size] if *size <= LARGEST_ANSWER), "the answer takes {sizes:?} bytes");
}

#[test]
fn an_answer_may_come_with_edns_or_without() {
    for with_edns in [true, false] {
        let scene = Scene::new(move |question, text| {
            let message = answer(question, &[txt(text)]);
            vec![Reply::Message(if with_edns { with_additional(message, EDNS) } else { message })]
        });
        scene.succeeds(AMPLE);
        let asked = scene.server.asked();
        assert!(matches!(asked.as_slice(), [question] if question.has_edns()), "{asked:?}");
    }
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    let news = news();
    let scene = Scene::new(move |question, text| match question.transport {
        // What it holds is not to be used (RFC 2181, 9).
        Transport::Udp => vec![Reply::Message(truncated(answer(question, &[txt(&news)])))],
        Transport::Tcp => vec![Reply::Message(answer(question, &[txt(text)]))],
    });
    scene.succeeds(AMPLE);
    let transports: Vec<Transport> = scene.server.asked().iter().map(|question| question.transport).collect();
    assert_eq!(transports, [Transport::Udp, Transport::Tcp]);
}

/// Letters in the other case: forwarders hide a few bits there.
fn swap_case(bytes: &[u8]) -> Vec<u8> {
    let swap = |byte: &u8| if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { *byte };
    bytes.iter().map(swap).collect()
}

#[test]
fn a_forwarder_may_change_the_case_of_the_name() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let scene = Scene::new(move |question, text| {
            if question.transport != transport {
                return vec![use_tcp(question)];
            }
            let name = swap_case(question.name_bytes());
            assert_ne!(name, question.name_bytes());
            vec![Reply::Message(answer_to(question, &[&section(&name, TXT, IN)], &[txt_of(&name, text)]))]
        });
        scene.succeeds(AMPLE);
        let asked = scene.server.asked();
        assert_eq!(asked.last().map(|question| question.transport), Some(transport), "{asked:?}");
    }
}

type Records = fn(&str) -> Vec<Vec<u8>>;

/// What stands around the good text, or how it is cut.
const COMPANY: [(&str, Records); 6] = [
    ("the second of two records", |text| vec![txt("v=spf1 -all"), txt(text)]),
    ("after one that is not signed", |text| vec![txt(&statement("6.6.6", now())), txt(text)]),
    ("after an empty one", |text| vec![record(ASKED, TXT, &strings(&[b""])), txt(text)]),
    ("after a record of another type", |text| vec![record(ASKED, 1, &[127, 0, 0, 1]), txt(text)]),
    ("in strings of one byte", |text| {
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        vec![record(ASKED, TXT, &strings(&bytes))]
    }),
    ("in strings with empty ones between them", |text| {
        let (first, second) = text.as_bytes().split_at(100);
        vec![record(ASKED, TXT, &strings(&[b"", first, b"", b"", second, b""]))]
    }),
];

#[test]
fn a_good_answer_is_found_in_any_company() {
    for (case, records) in COMPANY {
        let scene = Scene::new(move |question, text| vec![Reply::Message(answer(question, &records(text)))]);
        scene.succeeds(AMPLE);
        assert_eq!(scene.server.asked().len(), 1, "{case}");
    }
}

#[test]
fn a_good_answer_is_found_at_the_end_of_a_thousand_records() {
    let scene = Scene::new(|question: &Question, text| match question.transport {
        Transport::Udp => vec![use_tcp(question)],
        Transport::Tcp => {
            let mut records = vec![txt("v=spf1 -all"); 1000];
            records.push(txt_of(&name(&question.name()), text));
            vec![Reply::Message(answer(question, &records))]
        }
    });
    scene.succeeds(AMPLE);
}

#[test]
fn keys_that_nobody_knows_and_the_own_version_as_scope() {
    let vendor = Vendor::new(1);
    let own = version_label(&VERSION.parse().unwrap());
    for text in [
        vendor.sign(&format!("{} x=1 flag zz=a=b", statement("2.9.0", now()))),
        vendor.sign(&statement("2.9.0", now()).replace("v=*", &format!("v={own}"))),
    ] {
        Scene::new(move |question, _| vec![Reply::Message(answer(question, &[txt(&text)]))]).succeeds(AMPLE);
    }
}
