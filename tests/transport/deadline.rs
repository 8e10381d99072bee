//! One deadline for a whole call, whoever dribbles; and an end as soon as it is turned off.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;

use ondat_telemetry::error::Error;
use ondat_telemetry::switch::Switch;
use ondat_telemetry::transport::https::{Content, Https, Request, UreqHttps};

use crate::scene::{AMPLE, SHORT, drip, put, read_head, read_request, serve, settings, switches};

/// A proxy's scheme or none, the server's, and what is done on a connection with one of the two.
type Case = (&'static str, &'static str, fn(TcpStream));

#[test]
fn whoever_dribbles_the_call_ends() {
    let endless: [Case; 8] = [
        ("", "http", |mut stream| {
            read_request(&mut stream);
            drip(stream, b"HTTP/1.1 200 OK\r\nX: ", b'y');
        }),
        ("", "http", |mut stream| {
            read_request(&mut stream);
            // As fast as it goes.
            while stream.write_all(&b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n".repeat(100)).is_ok() {}
        }),
        ("", "http", |mut stream| {
            read_request(&mut stream);
            drip(stream, b"HTTP/1.1 200 OK\r\nX: y\r\n", b' ');
        }),
        ("", "https", |stream| drip(stream, b"\x16\x03\x03\x40\x00", 2)),
        ("http://", "http", |mut stream| {
            read_head(&mut stream);
            drip(stream, b"HTTP/1.1 200 Connection established\r\nX-Note: ", b'y');
        }),
        ("http://", "https", |mut stream| {
            read_head(&mut stream);
            drip(stream, b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03\x40\x00", 2);
        }),
        ("https://", "http", |stream| drip(stream, b"\x16\x03\x03\x40\x00", 2)),
        ("socks5://", "http", |mut stream| {
            let _ = stream.read(&mut [0; 3]);
            drip(stream, b"\x05\x00\x05\x00\x00\x03\xff", b'x');
        }),
    ];
    for (number, (proxy, scheme, script)) in endless.into_iter().enumerate() {
        let server = serve(script);
        let outcome = if proxy.is_empty() {
            put(&settings(""), &format!("{scheme}://{server}/x"), b"body", SHORT)
        } else {
            put(&settings(&format!("{proxy}{server}")), &format!("{scheme}://127.0.0.1:9/x"), b"body", SHORT)
        };
        assert!(matches!(outcome, Err(Error::TimedOut(_))), "{number}: {outcome:?}");
    }
}

#[test]
fn an_answer_whose_body_never_ends_counts_at_the_deadline() {
    let server = serve(|mut stream: TcpStream| {
        read_request(&mut stream);
        drip(stream, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n{", b' ');
    });
    let answer = put(&settings(""), &format!("http://{server}/x"), b"body", SHORT).unwrap();
    assert_eq!((answer.status, answer.body.first()), (403, Some(&b'{')));
}

#[test]
fn a_server_that_reads_nothing_holds_nobody() {
    // Not even accepted: the kernel takes what its buffers hold.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let outcome = put(&settings(""), &url, &vec![0; 64 << 20], SHORT);
    assert!(matches!(outcome, Err(Error::TimedOut(_))), "{outcome:?}");
}

/// What is done on a connection before nothing is done any more.
type Script = fn(&mut TcpStream);

#[test]
fn turning_off_ends_a_request_wherever_it_is() {
    let silent: [(&str, &str, Script); 5] = [
        ("", "http", |stream| drop(read_head(stream))),
        ("", "http", |stream| {
            read_request(stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        }),
        ("", "https", |stream| drop(stream.read(&mut [0; 5]))),
        ("http://", "https", |stream| drop(read_head(stream))),
        ("socks5://", "https", |stream| drop(stream.read(&mut [0; 3]))),
    ];
    for (number, (proxy, scheme, script)) in silent.into_iter().enumerate() {
        let (reached, there) = channel();
        let server = serve(move |mut stream: TcpStream| {
            script(&mut stream);
            reached.send(()).unwrap();
            // Until the client hangs up.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let (settings, url) = if proxy.is_empty() {
            (settings(""), format!("{scheme}://{server}/x"))
        } else {
            (settings(&format!("{proxy}{server}")), format!("{scheme}://127.0.0.1:9/x"))
        };
        let switches = switches();
        let permit = switches.permit(Switch::DailyReport).unwrap();
        let outcome = std::thread::scope(|scope| {
            let request = scope.spawn(|| {
                let content = Content::Bytes(b"body");
                let request = Request { method: "PUT", url: &url, headers: &[], content, wants: &[], timeout: AMPLE };
                UreqHttps::new(settings).send(permit, &request)
            });
            there.recv().unwrap();
            switches.set_host(Switch::ALL_BITS & !2);
            request.join().unwrap()
        });
        assert!(matches!(outcome, Err(Error::Disabled(_))), "{number}: {outcome:?}");
    }
}
