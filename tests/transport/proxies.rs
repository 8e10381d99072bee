//! Proxies as others write them: CONNECT and SOCKS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use crate::scene::{AMPLE, CREATED, put, read_head, read_request, serve, settings};

/// A proxy that reads CONNECT, says this and is the server from then on; and the heads that it got.
fn connecting(answer: impl Into<Vec<u8>>) -> (SocketAddr, Receiver<String>) {
    let answer = answer.into();
    let (head, heads) = channel();
    let address = serve(move |mut stream: TcpStream| {
        let _ = head.send(read_head(&mut stream).0);
        stream.write_all(&answer).unwrap();
        read_request(&mut stream);
        let _ = stream.write_all(CREATED);
    });
    (address, heads)
}

fn through(proxy: &str) -> Result<u16, String> {
    let answer = put(&settings(proxy), "http://127.0.0.1:9/x", b"body", AMPLE);
    answer.map(|answer| answer.status).map_err(|error| error.to_string())
}

#[test]
fn a_tunnel_stands_whatever_comes_with_the_2xx() {
    for answer in [
        "HTTP/1.1 200 Connection established\r\n\r\n".to_owned(),
        "HTTP/1.0 200\r\n\r\n".to_owned(),
        "HTTP/1.1 299 Fine\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Header: value\r\n".repeat(25)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Header: value\r\n".repeat(3_000)),
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(200_000)),
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n".to_owned(),
        "HTTP/1.1 102 Processing\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\n\n".to_owned(),
    ] {
        let (proxy, heads) = connecting(answer.as_str());
        assert_eq!(through(&format!("http://{proxy}")), Ok(201), "{:?}", &answer[..answer.len().min(80)]);
        let head = heads.recv().unwrap();
        assert!(head.starts_with("CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n"), "{head}");
        assert!(!head.contains("Proxy-Authorization"), "{head}");
    }
}

#[test]
fn what_a_proxy_refuses_is_said_in_words() {
    for (answer, words) in [
        ("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", "user name and a password"),
        ("HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!", "refused (HTTP 403)"),
        ("HTTP/1.1 502 Bad\r\n\r\n", "refused (HTTP 502)"),
        ("SSH-2.0-x\r\n\r\n", "not HTTP"),
    ] {
        let error = through(&format!("http://{}", connecting(answer).0)).unwrap_err();
        assert!(error.contains(words), "{answer:?}: {error}");
    }
    let hangs_up = serve(drop);
    assert!(through(&format!("http://{hangs_up}")).unwrap_err().contains("proxy"));
}

#[test]
fn credentials_go_to_the_proxy_and_a_missing_password_is_an_empty_one() {
    // user:pass, token: and nothing else.
    for (credentials, encoded) in [("user:pass@", "dXNlcjpwYXNz"), ("token@", "dG9rZW46"), ("token:@", "dG9rZW46")] {
        let (proxy, heads) = connecting("HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(through(&format!("http://{credentials}{proxy}")), Ok(201));
        let head = heads.recv().unwrap();
        assert!(head.contains(&format!("\r\nProxy-Authorization: Basic {encoded}\r\n")), "{head}");
    }
}

/// What a SOCKS proxy does.
#[derive(Clone)]
struct Socks {
    method: u8,
    login: u8,
    reply: Vec<u8>,
}

fn socks(socks: Socks) -> (SocketAddr, Receiver<Vec<u8>>) {
    let (said, heard) = channel();
    let address = serve(move |mut stream: TcpStream| {
        let exact = |stream: &mut TcpStream, length: usize| {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).unwrap();
            let _ = said.send(bytes.clone());
            bytes
        };
        let count = exact(&mut stream, 2)[1];
        exact(&mut stream, count.into());
        stream.write_all(&[5, socks.method]).unwrap();
        if socks.method == 2 {
            let user = exact(&mut stream, 2)[1];
            exact(&mut stream, user.into());
            let password = exact(&mut stream, 1)[0];
            exact(&mut stream, password.into());
            stream.write_all(&[1, socks.login]).unwrap();
            if socks.login != 0 {
                return;
            }
        }
        if socks.method == 0xff {
            return;
        }
        exact(&mut stream, 4 + 4 + 2);
        stream.write_all(&socks.reply).unwrap();
        read_request(&mut stream);
        let _ = stream.write_all(CREATED);
    });
    (address, heard)
}

const FINE: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

#[test]
fn socks_as_rfc_1928_has_it() {
    let by_name = [&[5, 0, 0, 3, 7][..], b"outside", &[1, 2]].concat();
    let by_v6 = [&[5, 0, 0, 4][..], &[0; 18]].concat();
    for reply in [FINE.to_vec(), by_name, by_v6] {
        let (proxy, heard) = socks(Socks { method: 0, login: 0, reply });
        assert_eq!(through(&format!("socks5://{proxy}")), Ok(201));
        let said: Vec<u8> = heard.try_iter().flatten().collect();
        assert_eq!(said, [5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 9]);
    }
    for (credentials, user, password) in [("token@", "token", ""), ("u:p%40ss@", "u", "p@ss")] {
        let (proxy, heard) = socks(Socks { method: 2, login: 0, reply: FINE.to_vec() });
        assert_eq!(through(&format!("socks5h://{credentials}{proxy}")), Ok(201));
        let said: Vec<Vec<u8>> = heard.try_iter().collect();
        assert_eq!(said[1], [0, 2]);
        assert_eq!((said[3].as_slice(), said[5].as_slice()), (user.as_bytes(), password.as_bytes()));
    }
    // Offered both, a proxy may want none.
    let (proxy, _) = socks(Socks { method: 0, login: 0, reply: FINE.to_vec() });
    assert_eq!(through(&format!("socks5://user:pass@{proxy}")), Ok(201));
}

#[test]
fn what_a_socks_proxy_refuses_is_said_in_words() {
    let refused = |reply: u8| vec![5, reply, 0, 1, 0, 0, 0, 0, 0, 0];
    for (credentials, method, login, reply, words) in [
        ("", 0xff, 0, FINE.to_vec(), "wants a user name"),
        ("", 2, 0, FINE.to_vec(), "wants a user name"),
        ("u:p@", 0xff, 0, FINE.to_vec(), "takes no user name"),
        ("u:p@", 2, 1, FINE.to_vec(), "does not know"),
        ("", 0, 0, refused(2), "rules"),
        ("", 0, 0, refused(5), "refused the connection"),
        ("", 0, 0, refused(99), "number 99"),
        ("", 0, 0, b"HTTP/1.1 4".to_vec(), "does not speak SOCKS"),
    ] {
        let (proxy, _) = socks(Socks { method, login, reply });
        let error = through(&format!("socks5://{credentials}{proxy}")).unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
}
