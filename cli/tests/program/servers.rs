//! A DNS server, a collector and a crash server, as small as they can be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, channel};

/// Answers every question with this TXT string. Lives as long as the tests.
pub(crate) fn dns(text: &str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let text = text.as_bytes().to_vec();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            // The question: labels up to the empty one, then type and class.
            let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut answer = query[..2].to_vec();
            answer.extend_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend_from_slice(&query[12..end]);
            // The same name, TXT, IN, a TTL of 60 s.
            answer.extend_from_slice(&[0xc0, 0x0c, 0, 16, 0, 1, 0, 0, 0, 60]);
            let string = u8::try_from(text.len()).unwrap();
            answer.extend_from_slice(&(u16::from(string) + 1).to_be_bytes());
            answer.push(string);
            answer.extend_from_slice(&text);
            socket.send_to(&answer, peer).unwrap();
        }
    });
    address
}

/// Takes every envelope and hands its text on.
pub(crate) fn sentry() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (taken, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            taken.send(String::from_utf8(request(&mut stream).1).unwrap()).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
        }
    });
    (address, received)
}

/// Head and body of a request.
fn request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap().trim().to_owned();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

/// Answers every request with this status and, where `is_ours`, the collector's header.
pub(crate) fn collector(status: u16, is_ours: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (_, body) = request(&mut stream);
            assert!(body.starts_with(b"OTR1"), "nothing but sealed reports arrives here");
            let marker = if is_ours { "Ondat-Telemetry: 1\r\n" } else { "" };
            let answer = format!("HTTP/1.1 {status} X\r\n{marker}Content-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}
