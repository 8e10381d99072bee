//! A client of HTTPS, and servers with a script for each connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ondat_telemetry::error::Error;
use ondat_telemetry::switch::Switch;
use ondat_telemetry::switches::{Permit, Switches};
use ondat_telemetry::transport::https::{Content, Https, HttpsSettings, Request, Response, UreqHttps};
use ondat_telemetry::transport::proxy::ProxySettings;

/// What a request may take that nothing holds up.
pub(crate) const AMPLE: Duration = Duration::from_secs(600);
/// What one may take that would never end.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
/// What servers answer with in most tests.
pub(crate) const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nOndat-Telemetry: 1\r\nContent-Length: 0\r\n\r\n";

/// Switches that are on.
pub(crate) fn switches() -> Switches {
    Switches::new(Switch::ALL_BITS, Vec::new(), None)
}

pub(crate) fn permit() -> Permit {
    switches().permit(Switch::DailyReport).unwrap()
}

/// Through this proxy, or directly.
pub(crate) fn settings(proxy: &str) -> HttpsSettings {
    let proxy = ProxySettings { explicit: Some(proxy.to_owned()), ..ProxySettings::default() };
    HttpsSettings { proxy, ..HttpsSettings::default() }
}

/// Puts this body to the URL.
pub(crate) fn put(settings: &HttpsSettings, url: &str, body: &[u8], timeout: Duration) -> Result<Response, Error> {
    let request = Request {
        method: "PUT",
        url,
        headers: &[("Content-Type", "application/octet-stream")],
        content: Content::Bytes(body),
        wants: &["Ondat-Telemetry", "Retry-After"],
        timeout,
    };
    UreqHttps::new(settings.clone()).send(permit(), &request)
}

/// Gives every connection to the script, each in a thread of its own, for as long as the test runs.
pub(crate) fn serve(script: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (connection, script) = (connection.unwrap(), script.clone());
            std::thread::spawn(move || script(connection));
        }
    });
    address
}

/// Reads a head, and what came with it of what follows.
pub(crate) fn read_head(stream: &mut impl Read) -> (String, Vec<u8>) {
    let mut got = Vec::new();
    loop {
        if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = got.split_off(end + 4);
            return (String::from_utf8(got).unwrap(), rest);
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap_or(0);
        if read == 0 {
            return (String::from_utf8_lossy(&got).into_owned(), Vec::new());
        }
        got.extend_from_slice(&piece[..read]);
    }
}

/// Reads a whole request; the body.
pub(crate) fn read_request(stream: &mut impl Read) -> Vec<u8> {
    let (head, mut body) = read_head(stream);
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    while body.len() < length.unwrap_or(0) {
        let mut piece = vec![0; 65_536];
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => body.extend_from_slice(&piece[..read]),
            _ => break,
        }
    }
    body
}

/// Reads the request, says this and closes.
pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> impl Fn(TcpStream) + Clone + Send + 'static {
    let answer = answer.into();
    move |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(&answer);
    }
}

/// Says this, and then this byte now and then, until the other side hangs up.
pub(crate) fn drip(mut stream: impl Write, first: &[u8], byte: u8) {
    let _ = stream.write_all(first).and_then(|()| stream.flush());
    while stream.write_all(&[byte]).and_then(|()| stream.flush()).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}
