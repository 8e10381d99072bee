//! Several servers, slow ones, and such as know little.

use crate::scene::{AMPLE, Scene, assert_good, check, client, good};
use crate::server::{Reply, Server};
use crate::wire::{FORMERR, NOTIMP, REFUSED, SERVFAIL, answer, with_code};

#[test]
fn a_server_that_does_not_know_edns_is_asked_without() {
    for code in [FORMERR, NOTIMP] {
        let scene = Scene::new(move |question, text| {
            if question.has_edns() {
                return vec![Reply::Message(with_code(answer(question, &[]), code))];
            }
            vec![good(question, text)]
        });
        scene.succeeds(AMPLE);
        assert_eq!(scene.server.asked().len(), 2, "response code {code}");
    }
}

#[test]
fn a_slow_server_is_asked_once() {
    let scene = Scene::new(|question, text| {
        // Slower than a good network, faster than the two seconds of a try.
        std::thread::sleep(std::time::Duration::from_secs(1));
        vec![good(question, text)]
    });
    scene.succeeds(AMPLE);
    assert_eq!(scene.server.end().len(), 1);
}

#[test]
fn the_second_server_answers_where_the_first_cannot() {
    for code in [SERVFAIL, NOTIMP, REFUSED] {
        let scene = Scene::new(|question, text| vec![good(question, text)]);
        let first = Server::start(move |question| vec![Reply::Message(with_code(answer(question, &[]), code))]);
        let client = client(&scene.vendor, Some(&[first.address, scene.server.address]));
        let outcome = check(&client, AMPLE);
        assert!(!first.asked().is_empty(), "response code {code}: the first server was not asked");
        assert_good(&outcome.unwrap_or_else(|why| panic!("response code {code}: {why:?}")));
    }
}
