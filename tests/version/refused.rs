//! Whole messages that say no, say nothing, or say what is not to be believed.

use std::sync::mpsc;

use ondat_telemetry::error::Status;
use ondat_telemetry_protocol::query::version_label;

use crate::scene::{AMPLE, SHORT, Scene, check, good};
use crate::server::{Question, Reply};
use crate::vendor::{DAY, Vendor, news, now, statement};
use crate::wire::{
    ASKED, CNAME, FORMERR, NOTAUTH, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, answer, name, record, txt, txt_of, with_code,
};

#[test]
fn a_name_that_does_not_exist_has_no_answer() {
    for (case, code) in [("NXDOMAIN", NXDOMAIN), ("no records", 0)] {
        let says_no = move |question: &Question| vec![Reply::Message(with_code(answer(question, &[]), code))];
        let (why, asked) = Scene::fails(case, AMPLE, &[Status::Untrusted], says_no);
        assert!(why.contains("no answer for this name"), "{case}: {why}");
        assert_eq!(asked.len(), 1, "{case} is an answer: {asked:?}");
    }
}

#[test]
fn a_server_that_cannot_answer_is_a_network_failure() {
    for code in [FORMERR, SERVFAIL, NOTIMP, REFUSED, NOTAUTH] {
        let cannot = move |question: &Question| vec![Reply::Message(with_code(answer(question, &[]), code))];
        let (why, _) = Scene::fails(&format!("response code {code}"), AMPLE, &[Status::Network], cannot);
        assert!(why.contains("DNS answered"), "{code}: {why}");
    }
}

#[test]
fn a_silent_server_is_given_up_when_the_time_is_over() {
    let (why, _) = Scene::fails("silence", SHORT, &[Status::TimedOut], |_| Vec::new());
    assert!(why.contains("300 ms"), "{why}");
}

#[test]
fn a_silent_server_is_given_up_after_some_tries() {
    // By itself, long before this much time is over.
    let (why, asked) = Scene::fails("silence", 2 * AMPLE, &[Status::TimedOut], |_| Vec::new());
    assert!(why.contains("no DNS server answered"), "{why}");
    assert!(asked.len() > 1, "{asked:?}");
}

#[test]
fn turning_off_interrupts_a_question() {
    let scene = Scene::after_a_good_answer();
    let (send, asked) = mpsc::channel();
    scene.server.set_script(move |_| {
        send.send(()).unwrap();
        Vec::new()
    });
    let client = scene.client.clone();
    let asker = std::thread::spawn(move || check(&client, 2 * AMPLE));
    asked.recv().unwrap();
    scene.client.set_switches(0).unwrap();
    let error = asker.join().unwrap().err().unwrap();
    assert_eq!(error.status(), Status::Disabled, "{error:?}");
}

#[test]
fn an_alias_is_not_followed() {
    let news = news();
    let target = name("parking.example.net");
    let alone = [record(ASKED, CNAME, &target)];
    let with_its_target = [record(ASKED, CNAME, &target), txt_of(&target, &news)];
    for (case, records) in [("an alias", &alone[..]), ("an alias and its target", &with_its_target)] {
        let (records, news) = (records.to_vec(), news.clone());
        let (_, asked) = Scene::fails(case, AMPLE, &[Status::Untrusted], move |question| {
            let is_for_target = question.name().starts_with("parking.");
            let records = if is_for_target { vec![txt(&news)] } else { records.clone() };
            vec![Reply::Message(answer(question, &records))]
        });
        assert_eq!(asked.len(), 1, "{case}: {asked:?}");
    }
}

#[test]
fn a_record_of_another_name_is_no_answer() {
    let news = txt_of(&name("another.example.com"), &news());
    for (case, records) in [("alone", vec![news.clone()]), ("after one of the asked name", vec![txt("v=spf1"), news])] {
        let says = move |question: &Question| vec![Reply::Message(answer(question, &records))];
        Scene::fails(case, AMPLE, &[Status::Untrusted], says);
    }
}

/// A text and a part of the reason for which it is refused.
fn unbelievable() -> Vec<(&'static str, String, &'static str)> {
    let (vendor, stranger) = (Vendor::new(1), Vendor::new(2));
    let (now, soon) = (now(), now() + 3600);
    let signed = |text: String| vendor.sign(&text);
    let good = news();
    let signature = good.rsplit_once(" g=").unwrap().1;
    let another_version = version_label(&"2.8.3".parse().unwrap());
    vec![
        ("parking", "v=spf1 -all".to_owned(), "no `o1` prefix"),
        ("nothing", "o1 ".to_owned(), "no scope"),
        ("not signed", statement("6.6.6", now), "not signed"),
        ("signed by a stranger", stranger.recommends("6.6.6"), "not configured"),
        ("signed by a stranger in our name", under_our_name(&stranger.recommends("6.6.6"), &good), "does not verify"),
        ("another version than was signed", good.replace("l=6.6.6", "l=6.6.7"), "does not verify"),
        ("signed for another zone", vendor.sign_for("latest.example.net", &statement("6.6.6", now)), "does not verify"),
        ("a signature that is cut off", good[..good.len() - 1].to_owned(), "not 64 bytes"),
        ("a field after the signature", format!("{good} l=6.6.7"), "not the last field"),
        ("the signature twice", format!("{good} g={signature}"), "does not verify"),
        ("expired", signed(format!("o1 v=* l=6.6.6 t={} e={}", now - 9 * DAY, now - 1)), "expired"),
        ("from the future", signed(statement("6.6.6", now + DAY + 3600)), "in the future"),
        ("replayed", signed(statement("6.6.6", now - DAY)), "a replay"),
        ("for another version", signed(format!("o1 v={another_version} l=6.6.6 t={now} e={soon}")), "another version"),
        ("without a scope", signed(format!("o1 l=6.6.6 t={now} e={soon}")), "no scope"),
        ("without a version", signed(format!("o1 v=* t={now} e={soon}")), "no latest version"),
        ("without an issue", signed(format!("o1 v=* l=6.6.6 e={soon}")), "no `t`"),
        ("without an end", signed(format!("o1 v=* l=6.6.6 t={now}")), "no `e`"),
        ("no SemVer", signed(format!("o1 v=* l=6.6 t={now} e={soon}")), "`l` is not"),
        ("an advisory of two lines", signed(format!("o1 v=* l=6.6.6 a=x\ny t={now} e={soon}")), "`a` is not"),
        ("a status that there is not", signed(format!("o1 v=* l=6.6.6 s=4 t={now} e={soon}")), "`s` is not"),
        ("a time past all numbers", signed(format!("o1 v=* l=6.6.6 t={now} e={}", "9".repeat(40))), "`e` is not"),
    ]
}

/// A text with the key id of our own.
fn under_our_name(text: &str, ours: &str) -> String {
    let key_id = |text: &str| text.split(' ').find(|field| field.starts_with("k=")).unwrap().to_owned();
    text.replace(&key_id(text), &key_id(ours))
}

#[test]
fn a_text_that_is_not_to_be_believed_is_untrusted() {
    for (case, text, reason) in unbelievable() {
        let says = move |question: &Question| vec![good(question, &text)];
        let (why, asked) = Scene::fails(case, AMPLE, &[Status::Untrusted], says);
        assert!(why.contains(reason), "{case}: {why}");
        assert_eq!(asked.len(), 1, "{case}: {asked:?}");
    }
}
