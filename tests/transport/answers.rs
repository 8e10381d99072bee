//! Answers as others write them, and answers that come before the request is whole.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;

use nix::sys::socket::{setsockopt, sockopt};

use crate::scene::{AMPLE, CREATED, answering, put, read_head, serve, settings};

/// Far beyond what sockets and buffers on the way hold.
const LARGE: usize = 24 << 20;

fn answered(answer: impl Into<Vec<u8>>) -> Result<(u16, String, String), String> {
    let server = serve(answering(answer));
    let answer =
        put(&settings(""), &format!("http://{server}/x"), b"body", AMPLE).map_err(|error| error.to_string())?;
    let headers: Vec<String> = answer.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok((answer.status, headers.join("|"), String::from_utf8_lossy(&answer.body).into_owned()))
}

#[test]
fn answers_as_others_write_them_are_taken() {
    let many = "X-Header: some value\r\n".repeat(5_000);
    let long = "y".repeat(300_000);
    for (answer, expected) in [
        ("HTTP/1.1 201 Created\r\nOndat-Telemetry: 1\r\nContent-Length: 0\r\n\r\n".to_owned(), (201, "ondat-telemetry=1", "")),
        ("HTTP/1.1 100 Continue\r\nServer: x\r\nDate: y\r\n\r\nHTTP/1.1 201 C\r\n\r\n".to_owned(), (201, "", "")),
        ("HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: a\r\n\r\nHTTP/1.1 100 C\r\nA: b\r\n\r\nHTTP/1.1 204 N\r\n\r\n".to_owned(), (204, "", "")),
        (format!("HTTP/1.1 503 S\r\n{many}Retry-After: 7\r\n\r\n"), (503, "retry-after=7", "")),
        (format!("HTTP/1.1 503 S\r\nX: {long}\r\nRetry-After: 7\r\n\r\n"), (503, "retry-after=7", "")),
        ("HTTP/1.1 503 S\r\nX-Folded: a\r\n b\r\n\tc\r\nRetry-After:\r\n  7\r\n\r\n".to_owned(), (503, "retry-after=7", "")),
        ("HTTP/1.1 503\nRetry-After : 7\n\n".to_owned(), (503, "retry-after=7", "")),
        ("HTTP/1.0 200 OK\r\nOndat-Telemetry: 1\r\n\r\n".to_owned(), (200, "ondat-telemetry=1", "")),
        ("HTTP/1.1 201 C\r\nOndat-Telemetry: \u{1}1\r\nno colon\r\n\r\n".to_owned(), (201, "ondat-telemetry=1", "")),
        ("HTTP/1.1 302 F\r\nLocation: http://elsewhere.test/\r\n\r\n".to_owned(), (302, "", "")),
        ("HTTP/1.1 400 B\r\nContent-Length: 2\r\n\r\nno".to_owned(), (400, "", "no")),
        ("HTTP/1.1 400 B\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nno\r\n1\r\n!\r\n0\r\nT: u\r\n\r\n".to_owned(), (400, "", "no!")),
        ("HTTP/1.1 400 B\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nno more".to_owned(), (400, "", "no")),
        ("HTTP/1.1 400 B\r\n\r\nuntil the end".to_owned(), (400, "", "until the end")),
        // A body that breaks off changes nothing, and what came of it counts.
        ("HTTP/1.1 403 F\r\nContent-Length: 999\r\n\r\n{\"detail\":1}".to_owned(), (403, "", "{\"detail\":1}")),
        ("HTTP/1.1 403 F\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{}".to_owned(), (403, "", "{}")),
    ] {
        let expected = (expected.0, expected.1.to_owned(), expected.2.to_owned());
        assert_eq!(answered(answer.as_str()), Ok(expected), "{:?}", answer.chars().take(100).collect::<String>());
    }
}

#[test]
fn what_is_no_answer_is_said_in_words() {
    for (answer, words) in [
        ("", "closed before an answer"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "closed before an answer"),
        ("HTTP/1.1 200 OK\r\nX: y\r\n", "closed before an answer"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        ("\u{16}\u{3}\u{1}", "closed before an answer"),
        ("HTTP/1.1 fine\r\n\r\n", "not HTTP"),
    ] {
        let error = answered(answer).unwrap_err();
        assert!(error.contains(words), "{answer:?}: {error}");
    }
}

/// Whether the other side has sent its last byte, and everything has come that fits.
fn is_hung_up(stream: &TcpStream) -> bool {
    let info = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let (own, other) = (stream.local_addr().unwrap().port(), stream.peer_addr().unwrap().port());
    let ends = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_it = words.get(1).is_some_and(|local| local.ends_with(&format!(":{own:04X}")))
            && words.get(2).is_some_and(|remote| remote.ends_with(&format!(":{other:04X}")));
        // ESTABLISHED.
        is_it && words[3] == "01"
    };
    !info.lines().any(ends)
}

/// What is answered where the server has read the head alone.
fn early(script: impl Fn(TcpStream) + Clone + Send + 'static) -> (u16, String) {
    let server = serve(move |mut stream: TcpStream| {
        let (head, _) = read_head(&mut stream);
        assert!(head.starts_with("PUT "));
        script(stream);
    });
    let answer = put(&settings(""), &format!("http://{server}/x"), &vec![7; LARGE], AMPLE).unwrap();
    (answer.status, answer.header("Retry-After").unwrap_or_default().to_owned())
}

const BUSY: &[u8] = b"HTTP/1.1 429 Busy\r\nRetry-After: 7200\r\nContent-Length: 0\r\n\r\n";

#[test]
fn an_answer_counts_that_comes_before_the_body_was_sent() {
    let busy = (429, "7200".to_owned());
    assert_eq!(early(|mut stream| stream.write_all(BUSY).unwrap()), busy, "and then a reset");
    let still_open = |mut stream: TcpStream| {
        stream.write_all(BUSY).unwrap();
        // Reads no more until the client has hung up.
        while !is_hung_up(&stream) {
            std::thread::yield_now();
        }
    };
    assert_eq!(early(still_open), busy, "and then nothing");
    let slowly = |mut stream: TcpStream| {
        // What the kernel holds back until something before it is acknowledged is lost with the close.
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n").unwrap();
        std::io::copy(&mut Read::by_ref(&mut stream).take(1 << 20), &mut std::io::sink()).unwrap();
        for piece in BUSY.chunks(20) {
            stream.write_all(piece).unwrap();
        }
    };
    assert_eq!(early(slowly), busy, "in the middle of the body");
    let half_closed = |mut stream: TcpStream| {
        stream.write_all(BUSY).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    };
    assert_eq!(early(half_closed), busy, "and then the end of its side");
}

#[test]
fn without_an_answer_a_reset_is_an_error_and_the_request_ends() {
    let server = serve(|mut stream: TcpStream| {
        read_head(&mut stream);
        setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    });
    let error = put(&settings(""), &format!("http://{server}/x"), &vec![7; LARGE], AMPLE).unwrap_err();
    assert!(error.to_string().contains("reset") || error.to_string().contains("pipe"), "{error}");
}

#[test]
fn somebody_who_says_yes_early_still_gets_everything() {
    let (whole, received) = channel();
    let server = serve(move |mut stream: TcpStream| {
        let (_, mut body) = read_head(&mut stream);
        stream.write_all(CREATED).unwrap();
        while body.len() < LARGE {
            let mut piece = vec![0; 65_536];
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "the body broke off");
            body.extend_from_slice(&piece[..read]);
        }
        whole.send(body.iter().all(|byte| *byte == 7)).unwrap();
    });
    let answer = put(&settings(""), &format!("http://{server}/x"), &vec![7; LARGE], AMPLE).unwrap();
    assert_eq!(answer.status, 201);
    assert!(received.recv().unwrap());
}
