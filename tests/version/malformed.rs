//! Messages that are no messages, and more than anybody would send: ignored or an error, never believed.

use crate::scene::{AMPLE, NO_ANSWER, Scene, is_not_believed, use_tcp};
use crate::server::{Question, Reply, Transport};
use crate::vendor::news;
use crate::wire::{
    ANSWERS, ASKED, CNAME, EDNS, HEADER, QUESTIONS, TXT, answer, name, record, strings, truncated, txt, with,
    with_additional,
};

type Malform = fn(&Question, &str) -> Vec<u8>;

/// Most of them hold a text that would be accepted in a whole message.
const MALFORMED: [(&str, Malform); 24] = [
    ("a header alone", |question, _| with(question.bytes[..HEADER].to_vec(), 2, &[0x81, 0x80, 0, 0, 0, 1, 0, 0, 0, 0])),
    ("the question sent back", |question, _| question.bytes.clone()),
    ("no answer where one is counted", |question, _| with(answer(question, &[]), ANSWERS, &[0, 1])),
    ("65535 answers counted", |question, text| with(answer(question, &[txt(text)]), ANSWERS, &[0xff, 0xff])),
    ("65535 questions counted", |question, text| with(answer(question, &[txt(text)]), QUESTIONS, &[0xff, 0xff])),
    ("an owner that points to itself", |question, text| {
        let here = u16::try_from(answer(question, &[]).len()).unwrap();
        answer(question, &[owned(&pointer(here), text)])
    }),
    ("two owners that point to each other", |question, text| {
        let first = u16::try_from(answer(question, &[]).len()).unwrap();
        let second = first + u16::try_from(owned(&pointer(first), text).len()).unwrap();
        answer(question, &[owned(&pointer(second), text), owned(&pointer(first), text)])
    }),
    ("an owner that points forward to the root", |question, text| {
        // The first byte of the type is zero.
        let at = u16::try_from(answer(question, &[]).len()).unwrap() + 2;
        answer(question, &[owned(&pointer(at), text)])
    }),
    ("an owner that points past the end", |question, text| answer(question, &[owned(&pointer(0x3fff), text)])),
    ("an owner that points into the header", |question, text| answer(question, &[owned(&pointer(0), text)])),
    ("a label and a pointer back to it", |question, text| {
        let here = u16::try_from(answer(question, &[]).len()).unwrap();
        answer(question, &[owned(&[&[1, b'a'], &pointer(here)[..]].concat(), text)])
    }),
    ("a question that points to itself", |question, text| with(answer(question, &[txt(text)]), HEADER, &pointer(12))),
    ("a label of a type that there is not", |question, text| answer(question, &[owned(&[0x80, 1, 0], text)])),
    ("an owner of 300 bytes", |question, text| answer(question, &[owned(&name(&["abcdefghi"; 30].join(".")), text)])),
    ("an owner that does not end", |question, _| answer(question, &[vec![63, b'a', b'b']])),
    ("data longer than the message", |question, text| with_data_length(question, text, 0xffff)),
    ("data one byte longer than the message", |question, text| {
        with_data_length(question, text, u16::try_from(data_of(text).len()).unwrap() + 1)
    }),
    ("data shorter than its string", |question, text| {
        with_data_length(question, text, u16::try_from(data_of(text).len()).unwrap() - 1)
    }),
    ("no data", |question, text| with_data_length(question, text, 0)),
    ("a string longer than its data", |question, text| {
        let data = [&[255][..], text.as_bytes()].concat();
        answer(question, &[record(ASKED, TXT, &data)])
    }),
    ("an empty string", |question, _| answer(question, &[txt_of_strings(&[b""])])),
    ("a text that is not UTF-8", |question, text| {
        answer(question, &[txt_of_strings(&[&[text.as_bytes(), b"\xff"].concat()])])
    }),
    ("an OPT record whose data is cut off", |question, text| {
        let edns = with(EDNS.to_vec(), EDNS.len() - 2, &[0, 99]);
        with_additional(answer(question, &[txt(text)]), &edns)
    }),
    ("two OPT records", |question, text| with_additional(with_additional(answer(question, &[txt(text)]), EDNS), EDNS)),
];

fn owned(owner: &[u8], text: &str) -> Vec<u8> {
    record(owner, TXT, &data_of(text))
}

fn data_of(text: &str) -> Vec<u8> {
    strings(&[text.as_bytes()])
}

fn txt_of_strings(parts: &[&[u8]]) -> Vec<u8> {
    record(ASKED, TXT, &strings(parts))
}

fn pointer(to: u16) -> [u8; 2] {
    (0xc000 | to).to_be_bytes()
}

/// A good record but for the length of its data.
fn with_data_length(question: &Question, text: &str, length: u16) -> Vec<u8> {
    let at = txt(text).len() - data_of(text).len() - 2;
    answer(question, &[with(txt(text), at, &length.to_be_bytes())])
}

#[test]
fn malformed_messages_are_no_answers() {
    for (case, malform) in MALFORMED {
        for transport in [Transport::Udp, Transport::Tcp] {
            let news = news();
            let hostile = move |question: &Question| Reply::Message(malform(question, &news));
            is_not_believed(&format!("{case} over {transport:?}"), transport, hostile);
        }
    }
}

#[test]
fn an_answer_that_is_cut_off_anywhere_is_none() {
    let news = news();
    let scene = Scene::after_a_good_answer();
    let length = answer(&scene.server.asked()[0], &[txt(&news)]).len();
    for end in 0..length {
        let news = news.clone();
        let cut_off = move |question: &Question| Reply::Message(answer(question, &[txt(&news)])[..end].to_vec());
        is_not_believed(&format!("the first {end} bytes"), Transport::Udp, cut_off);
    }
}

#[test]
fn a_stream_that_is_cut_off_is_no_answer() {
    type Cut = fn(Vec<u8>) -> Vec<u8>;
    let streams: [(&str, Cut); 5] = [
        ("a length alone", |message| framed(message.len())),
        ("half a length", |_| vec![1]),
        ("a length of zero", |_| framed(0)),
        ("half a message", |message| [&framed(message.len()), &message[..message.len() / 2]].concat()),
        ("a length past the end", |message| [framed(message.len() + 1), message].concat()),
    ];
    for (case, cut) in streams {
        let news = news();
        let (_, asked) = Scene::fails(case, AMPLE, &NO_ANSWER, move |question| match question.transport {
            Transport::Udp => vec![use_tcp(question)],
            Transport::Tcp => vec![Reply::Stream(cut(answer(question, &[txt(&news)])))],
        });
        assert!(asked.iter().any(|question| question.transport == Transport::Tcp), "{case}: {asked:?}");
    }
}

fn framed(length: usize) -> Vec<u8> {
    u16::try_from(length).unwrap().to_be_bytes().to_vec()
}

#[test]
fn an_answer_that_is_truncated_over_tcp_too_is_none() {
    let news = news();
    let (_, asked) = Scene::fails("truncated over TCP", AMPLE, &NO_ANSWER, move |question| {
        vec![Reply::Message(truncated(answer(question, &[txt(&news)])))]
    });
    assert!(asked.iter().any(|question| question.transport == Transport::Tcp), "{asked:?}");
}

#[test]
fn more_than_anybody_would_send_is_no_answer() {
    let parking = "v=spf1 -all";
    let long = vec![b'a'; 255];
    let cases: [(&str, Vec<Vec<u8>>); 5] = [
        ("1000 strings", vec![txt_of_strings(&vec![parking.as_bytes(); 1000])]),
        ("1000 empty strings", vec![txt_of_strings(&vec![&b""[..]; 1000])]),
        ("60 kilobytes of strings", vec![txt_of_strings(&vec![&long[..]; 234])]),
        ("1000 records", vec![txt(parking); 1000]),
        ("a long chain of aliases", (0..1000).map(alias).collect()),
    ];
    for (case, records) in cases {
        let (_, asked) = Scene::fails(case, AMPLE, &NO_ANSWER, move |question| match question.transport {
            Transport::Udp => vec![use_tcp(question)],
            Transport::Tcp => vec![Reply::Message(answer(question, &records))],
        });
        assert!(asked.iter().any(|question| question.transport == Transport::Tcp), "{case}: {asked:?}");
    }
}

/// One of a chain that leads from the asked name through names of this number.
fn alias(number: usize) -> Vec<u8> {
    let owner = if number == 0 { ASKED.to_vec() } else { name(&format!("a{number}.example.com")) };
    record(&owner, CNAME, &name(&format!("a{}.example.com", number + 1)))
}
