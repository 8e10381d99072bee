//! Answers to what was not asked: they are as if they had not come.

use ondat_telemetry::error::Status;

use crate::scene::{AMPLE, SHORT, Scene, good, use_tcp};
use crate::server::{Question, Reply, Transport};
use crate::vendor::news;
use crate::wire::{A, CHAOS, IN, TXT, answer, answer_to, name, section, txt, txt_of, with};

type Forge = fn(&Question, &str) -> Vec<u8>;

/// Each would be believed if it were an answer to what was asked.
const FORGED: [(&str, Forge); 9] = [
    ("an id that differs in one bit", |question, text| with_id(question, 1, text)),
    ("an id that differs in all bits", |question, text| with_id(question, 0xffff, text)),
    ("another name", |question, text| asking(question, &[&another(TXT, IN)], text)),
    ("a name that differs in one letter", |question, text| {
        let first = if question.name().starts_with('0') { "1" } else { "0" };
        let other = name(&format!("{first}{}", &question.name()[1..]));
        asking(question, &[&section(&other, TXT, IN)], text)
    }),
    ("another type", |question, text| asking(question, &[&section(question.name_bytes(), A, IN)], text)),
    ("another class", |question, text| asking(question, &[&section(question.name_bytes(), TXT, CHAOS)], text)),
    ("no question", |question, text| asking(question, &[], text)),
    ("two questions", |question, text| asking(question, &[question.section(), &another(TXT, IN)], text)),
    ("one byte", |question, _| question.bytes[..1].to_vec()),
];

fn with_id(question: &Question, difference: u16, text: &str) -> Vec<u8> {
    let id = u16::from_be_bytes([question.bytes[0], question.bytes[1]]) ^ difference;
    with(answer(question, &[txt(text)]), 0, &id.to_be_bytes())
}

fn another(kind: u16, class: u16) -> Vec<u8> {
    section(&name("another.example.com"), kind, class)
}

/// The right id and a record of the name that was asked, with other questions.
fn asking(question: &Question, sections: &[&[u8]], text: &str) -> Vec<u8> {
    answer_to(question, sections, &[txt_of(question.name_bytes(), text)])
}

#[test]
fn a_forged_answer_is_ignored_and_the_right_one_taken() {
    for (case, forge) in FORGED {
        let news = news();
        let scene =
            Scene::new(move |question, text| vec![Reply::Message(forge(question, &news)), good(question, text)]);
        let info = scene.check(AMPLE).unwrap_or_else(|why| panic!("{case}: {why:?}"));
        assert_eq!(info.latest.as_deref(), Some("2.9.0"), "{case} was believed");
        assert_eq!(scene.server.asked().len(), 1, "{case}");
    }
}

#[test]
fn a_forged_answer_over_tcp_is_ignored_and_the_right_one_taken() {
    for (case, forge) in FORGED {
        let news = news();
        let scene = Scene::new(move |question, text| match question.transport {
            Transport::Udp => vec![use_tcp(question)],
            Transport::Tcp => vec![Reply::Message(forge(question, &news)), good(question, text)],
        });
        let info = scene.check(AMPLE).unwrap_or_else(|why| panic!("{case}: {why:?}"));
        assert_eq!(info.latest.as_deref(), Some("2.9.0"), "{case} was believed");
        assert_eq!(scene.server.asked().len(), 2, "{case}");
    }
}

#[test]
fn an_answer_from_another_port_is_ignored_and_the_right_one_taken() {
    let news = news();
    let scene = Scene::new(move |question, text| {
        vec![Reply::FromElsewhere(answer(question, &[txt(&news)])), good(question, text)]
    });
    scene.succeeds(AMPLE);
    assert_eq!(scene.server.asked().len(), 1);
}

#[test]
fn forged_answers_alone_are_no_answer() {
    for (case, forge) in FORGED {
        let news = news();
        let forged = move |question: &Question| vec![Reply::Message(forge(question, &news))];
        Scene::fails(case, SHORT, &[Status::TimedOut], forged);
    }
    let news = news();
    let elsewhere = move |question: &Question| vec![Reply::FromElsewhere(answer(question, &[txt(&news)]))];
    Scene::fails("another port", SHORT, &[Status::TimedOut], elsewhere);
}
