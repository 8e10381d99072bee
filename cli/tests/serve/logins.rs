//! Many logins: what they cost, and that nobody keeps out who has the right password.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::server::{Answer, PASSWORD, PATIENCE, Server, run, set_password, state_dir};

fn body(user: &str, password: &str) -> String {
    serde_json::json!({ "username": user, "password": password }).to_string()
}

/// A login, written out.
fn request(user: &str, password: &str) -> String {
    let body = body(user, password);
    let length = body.len();
    format!(
        "POST /v2/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn log_in(server: &Server, user: &str, password: &str) -> Answer {
    Answer::read(&mut {
        let mut stream = server.connect();
        stream.write_all(request(user, password).as_bytes()).unwrap();
        stream
    })
}

/// What the process holds of its own, in KiB.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_stays_whatever_logs_in_and_64_mib_are_enough() {
    let state = state_dir("memory");
    set_password(&state, PASSWORD);
    let program = env!("CARGO_BIN_EXE_ondat-telemetry");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 65536 && exec \"$@\"", "sh", program, "serve", "--listen", "127.0.0.1:0"]);
    let server = Server::spawn(limited.arg("--state-dir").arg(&state), &state);
    log_in(&server, "admin", PASSWORD).with(200);
    let before = resident(&server);
    for round in 0..40 {
        log_in(&server, "admin", PASSWORD).with(200);
        // Each for a user of its own: nobody is held back.
        log_in(&server, &format!("user {round}"), "wrong").with(401);
        server.ask("POST", "/v2/auth/login", "", "{\"username\"").with(400);
        let mut given_up = server.connect();
        given_up.write_all(request("admin", "given up").as_bytes()).unwrap();
        drop(given_up);
    }
    let after = resident(&server);
    assert!(after < before + 2048, "{before} KiB, then {after} KiB");
}

#[test]
fn sixty_right_ones_at_once_are_right() {
    let server = Server::start("sixty");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..60).map(|_| scope.spawn(|| log_in(&server, "admin", PASSWORD).status)).collect();
        let statuses: Vec<u16> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(statuses, [200; 60]);
    });
}

#[test]
fn who_guesses_is_slowed_down_and_the_right_one_gets_through() {
    let server = Server::start("guessing");
    // A user that is not there is treated as one who is.
    for user in ["admin", "nobody"] {
        let mut wrong = 0;
        let refused = loop {
            let begun = Instant::now();
            let answer = log_in(&server, user, &format!("guess {wrong}"));
            if answer.status == 429 {
                assert!(begun.elapsed().as_millis() >= 750, "it is not even looked at before");
                break answer;
            }
            assert_eq!(answer.with(401).error(), "the user or the password is wrong");
            wrong += 1;
        };
        // On a slow machine some are forgotten meanwhile.
        assert!((10..100).contains(&wrong), "{wrong}");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=7).contains(&wait), "{wait}");
        assert!(refused.error().contains("too many wrong passwords"));
    }
    // From the same address, and for the page too.
    log_in(&server, "admin", PASSWORD).with(200);
    server.ask("POST", "/v1/session", "", &body("admin", PASSWORD)).with(200);
    // Others there are not slowed down.
    log_in(&server, "other", "wrong").with(401);
    let (_, log) = server.stop();
    assert!(log.contains("a wrong password or user from 127.0.0.1, and more that are not written down"), "{log}");
    assert!(!log.contains("guess "), "{log}");
}

/// Runs attackers until the work is done. How many rounds they made.
fn under_attack<T>(attackers: usize, attack: impl Fn(usize) + Sync, work: impl FnOnce() -> T) -> (usize, T) {
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..attackers {
            let (attack, is_over, rounds) = (&attack, &is_over, &rounds);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    attack(number);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while rounds.load(Ordering::Relaxed) < attackers * 2 {
            std::thread::yield_now();
        }
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        (rounds.load(Ordering::Relaxed), done)
    })
}

/// Says this and reads whatever comes until it is closed.
fn say(server: &Server, text: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(server.address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).ok()?;
    Some(stream)
}

#[test]
fn a_right_password_gets_through_beside_guesses_for_the_same_user() {
    let server = Server::start("beside-guesses");
    let attack = |_| drop(log_in(&server, "admin", "guess"));
    under_attack(8, attack, || (0..3).for_each(|_| drop(log_in(&server, "admin", PASSWORD).with(200))));
}

#[test]
fn a_right_password_gets_through_beside_guesses_for_users_without_end() {
    let server = Server::start("beside-names");
    let names = AtomicUsize::new(0);
    let attack = |_| {
        let name = format!("user {}", names.fetch_add(1, Ordering::Relaxed));
        log_in(&server, &name, "guess").with(401);
    };
    under_attack(16, attack, || (0..3).for_each(|_| drop(log_in(&server, "admin", PASSWORD).with(200))));
}

#[test]
fn a_right_password_gets_through_beside_logins_that_are_given_up() {
    let server = Server::start("given-up");
    // The second has more to say, which hides from HTTP's own code that it has gone.
    for more in ["", "\r\nGET / HTTP/1.1\r\n"] {
        let attack = |_| drop(say(&server, &(request("admin", "guess") + more)));
        under_attack(8, attack, || (0..3).for_each(|_| drop(log_in(&server, "admin", PASSWORD).with(200))));
    }
}

#[test]
fn a_right_password_gets_through_beside_connections_that_say_nothing_or_half() {
    let server = Server::start("beside-connections");
    let half = "POST /v2/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    for text in ["", "GET / HT", half] {
        let held: Vec<_> = (0..600).map(|_| say(&server, text)).collect();
        log_in(&server, "admin", PASSWORD).with(200);
        drop(held);
    }
}

#[test]
fn hashes_that_ask_for_too_much_are_refused_in_words() {
    let state = state_dir("costly");
    set_password(&state, PASSWORD);
    let users = state.join("users.json");
    let known = fs::read_to_string(&users).unwrap();
    let costly = known.replace("m=19456", "m=4194304");
    assert_ne!(costly, known);
    fs::write(&users, &costly).unwrap();
    let refused = run(&state, &["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    for words in ["users.json", "user \"admin\"", "m=4194304", "m=19456", "`ondat-telemetry password`"] {
        assert!(said.contains(words), "{said}");
    }
    // While it runs, such a user cannot log in, and the others can.
    fs::write(&users, &known).unwrap();
    let server = Server::start_in(&state, &[]);
    let both = known.replace("{\"users\":{", "{\"users\":{\"operator\":\"$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$wGv2pDl1z8N+TQOF7O+XVqmPdEGsCI9zk9bP3Uu63iI\",");
    assert_ne!(both, known);
    fs::write(&users, both).unwrap();
    log_in(&server, "operator", PASSWORD).with(401);
    log_in(&server, "admin", PASSWORD).with(200);
    let (_, log) = server.stop();
    assert!(log.contains("user \"operator\" cannot be used") && log.contains("m=4194304"), "{log}");
    // What is said to do does it.
    fs::write(&users, costly).unwrap();
    set_password(&state, PASSWORD);
    Server::start_in(&state, &[]).log_in();
}
