//! Authorities and certificates as companies have them: taken, or refused in words that a person can act on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use ondat_telemetry::transport::https::HttpsSettings;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::programs::{TempDir, succeed};
use crate::scene::{AMPLE, CREATED, put, read_head, read_request, serve, settings};

type Secured = StreamOwned<ServerConnection, TcpStream>;

/// Keys and certificates of one test.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        Self(TempDir::new())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn openssl(&self, words: &str) {
        succeed(Command::new("openssl").current_dir(self.0.join(".")).args(words.split(' ')));
    }

    /// A key and a certificate, `NAME.key` and `NAME.pem`: of this kind, with these extensions, signed by `issuer` or itself.
    fn make(&self, name: &str, kind: &str, issuer: &str, more: &str, extensions: &str) {
        self.openssl(&format!("genpkey -algorithm {kind} -out {name}.key"));
        std::fs::write(self.file("ext"), extensions).unwrap();
        self.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        let signer = if issuer == name {
            format!("-signkey {name}.key")
        } else {
            format!("-CA {issuer}.pem -CAkey {issuer}.key")
        };
        self.openssl(&format!("x509 -req -in {name}.csr {signer} -set_serial 7 -extfile ext {more} -out {name}.pem"));
    }

    fn server(&self, name: &str, chain: &[&str]) -> std::net::SocketAddr {
        self.serving(name, chain, |stream| {
            read_request(stream);
            let _ = stream.write_all(CREATED);
        })
    }

    /// A server that shows this certificate and those behind it, and does this with each connection.
    fn serving(
        &self,
        name: &str,
        chain: &[&str],
        script: impl Fn(&mut Secured) + Clone + Send + 'static,
    ) -> std::net::SocketAddr {
        let read = |name: &&str| CertificateDer::from_pem_file(self.file(&format!("{name}.pem"))).unwrap();
        let chain = std::iter::once(&name).chain(chain).map(read).collect();
        let key = PrivateKeyDer::from_pem_file(self.file(&format!("{name}.key"))).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(chain, key).unwrap());
        serve(move |stream| {
            stream.set_nodelay(true).unwrap();
            script(&mut StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream));
        })
    }

    fn trusting(&self, ca: &str) -> HttpsSettings {
        HttpsSettings { ca_files: vec![self.file(ca)], ..settings("") }
    }
}

const P256: &str = "EC -pkeyopt ec_paramgen_curve:P-256";
const P384: &str = "EC -pkeyopt ec_paramgen_curve:P-384";
const P521: &str = "EC -pkeyopt ec_paramgen_curve:P-521";
const CA: &str = "basicConstraints=critical,CA:TRUE";
const HERE: &str = "subjectAltName=IP:127.0.0.1";

fn asked(settings: &HttpsSettings, server: std::net::SocketAddr) -> Result<u16, String> {
    let answer = put(settings, &format!("https://{server}/x"), b"body", AMPLE);
    let answer = answer.map(|answer| answer.status).map_err(|error| error.to_string());
    if let Err(error) = &answer {
        // What Rust's debug text looks like.
        let is_debug = ["Context", "{ ", "Error(", "Other(", "CaUsed", "[4", "OtherError", "\n"];
        assert!(!is_debug.iter().any(|sign| error.contains(sign)), "{error}");
    }
    answer
}

#[test]
fn what_can_be_verified_is_taken() {
    let authority = Authority::new();
    for (number, (kind, digest)) in [
        (P256, "-sha256"),
        (P384, "-sha384"),
        (P384, "-sha256"),
        ("RSA -pkeyopt rsa_keygen_bits:2048", "-sha512"),
        ("ED25519", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let (root, leaf) = (format!("root{number}"), format!("leaf{number}"));
        let more = format!("-days 2 {digest}");
        authority.make(&root, kind, &root, more.trim_end(), CA);
        authority.make(&leaf, P256, &root, more.trim_end(), HERE);
        assert_eq!(asked(&authority.trusting(&format!("{root}.pem")), authority.server(&leaf, &[])), Ok(201), "{kind}");
    }
}

#[test]
fn a_server_s_own_certificate_may_stand_in_a_ca_file() {
    let authority = Authority::new();
    authority.make("own", P256, "own", "-days 2", &format!("{HERE}\n{CA}"));
    authority.make("plain", P256, "plain", "-days 2", HERE);
    for own in ["own", "plain"] {
        assert_eq!(asked(&authority.trusting(&format!("{own}.pem")), authority.server(own, &[])), Ok(201), "{own}");
    }
}

#[test]
fn what_cannot_be_verified_is_said_in_words() {
    let authority = Authority::new();
    authority.make("root", P256, "root", "-days 2", CA);
    authority.make("other", P256, "other", "-days 2", CA);
    authority.make("sha512", P384, "sha512", "-days 2 -sha512", CA);
    authority.make("p521", P521, "p521", "-days 2 -sha512", CA);
    authority.make("good", P256, "root", "-days 2", HERE);
    authority.make("elsewhere", P256, "root", "-days 2", "subjectAltName=DNS:a.test,DNS:b.test");
    authority.make("nameless", P256, "root", "-days 2", "keyUsage=digitalSignature");
    authority.make("expired", P256, "root", "-days -1", HERE);
    authority.make("client", P256, "root", "-days 2", &format!("{HERE}\nextendedKeyUsage=clientAuth"));
    authority.make("own", P256, "own", "-days 2", &format!("{HERE}\n{CA}"));
    authority.make("ownelse", P256, "ownelse", "-days 2", &format!("subjectAltName=DNS:a.test\n{CA}"));
    authority.make("ownold", P256, "ownold", "-days -1", &format!("{HERE}\n{CA}"));
    authority.make("ca-as-server", P256, "root", "-days 2", &format!("{HERE}\n{CA}"));
    authority.make("below512", P256, "sha512", "-days 2 -sha512", HERE);
    authority.make("below521", P256, "p521", "-days 2 -sha512", HERE);
    for (leaf, ca, words) in [
        ("good", "other.pem", &["\"good\"", "\"root\"", "not trusted", "ca_file"][..]),
        ("elsewhere", "root.pem", &["\"elsewhere\"", "a.test, b.test", "127.0.0.1"]),
        ("nameless", "root.pem", &["\"nameless\"", "127.0.0.1"]),
        ("expired", "root.pem", &["\"expired\"", "expired on 20", "clock says 20"]),
        ("client", "root.pem", &["not for servers"]),
        ("own", "root.pem", &["\"own\"", "CA:TRUE", "CA:FALSE"]),
        ("ownelse", "ownelse.pem", &["\"ownelse\"", "CA:TRUE", "CA:FALSE"]),
        ("ownold", "ownold.pem", &["\"ownold\""]),
        ("ca-as-server", "root.pem", &["\"ca-as-server\"", "CA:TRUE", "CA:FALSE"]),
        ("below512", "sha512.pem", &["\"below512\"", "ECDSA with SHA-512", "can be verified"]),
        ("below521", "p521.pem", &["\"below521\"", "ECDSA with SHA-512", "can be verified"]),
    ] {
        let error = asked(&authority.trusting(ca), authority.server(leaf, &[])).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{leaf}: no {word:?} in {error}");
        }
    }
    let http = serve(|mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    assert!(asked(&settings(""), http).unwrap_err().contains("TLS"));
}

#[test]
fn the_others_of_a_bundle_count() {
    let authority = Authority::new();
    authority.make("root", P256, "root", "-days 2", CA);
    authority.make("leaf", P256, "root", "-days 2", HERE);
    let root = std::fs::read_to_string(authority.file("root.pem")).unwrap();
    let (begin, end) = ("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n");
    let server = authority.server("leaf", &[]);
    for (number, bad) in [
        format!("{begin}this is not base64\n{end}"),
        format!("{begin}AAAA\n{end}"),
        format!("{begin}{end}"),
        format!("{begin}MIIB\n"),
        format!("{begin}{}\n{end}", "A".repeat(1_000_000)),
        begin.replace("BEGIN", "BEGIN TRUSTED") + "MIIB\n" + &end.replace("END", "END TRUSTED"),
        begin.replace("CERTIFICATE", "PRIVATE KEY") + "MIIB\n" + &end.replace("CERTIFICATE", "PRIVATE KEY"),
        "Z\u{fc}rich\r\n\0\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        for text in [format!("{bad}{root}"), format!("{root}{bad}"), format!("{bad}{}", root.replace('\n', "\r\n"))] {
            std::fs::write(authority.file("bundle.pem"), text).unwrap();
            assert_eq!(asked(&authority.trusting("bundle.pem"), server), Ok(201), "{number}");
        }
        std::fs::write(authority.file("bundle.pem"), bad).unwrap();
        let error = asked(&authority.trusting("bundle.pem"), server).unwrap_err();
        assert!(error.contains("bundle.pem is passed over"), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_read_holds_nobody_and_the_others_count() {
    let authority = Authority::new();
    authority.make("root", P256, "root", "-days 2", CA);
    authority.make("leaf", P256, "root", "-days 2", HERE);
    let server = authority.server("leaf", &[]);
    nix::unistd::mkfifo(&authority.file("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for bad in ["fifo", "missing", ".", "/dev/zero"] {
        let ca_files = vec![authority.file(bad), authority.file("root.pem")];
        assert_eq!(asked(&HttpsSettings { ca_files, ..settings("") }, server), Ok(201), "{bad}");
    }
    let ca_dirs = vec![authority.file("missing"), authority.file("root.pem"), authority.file(".")];
    assert_eq!(asked(&HttpsSettings { ca_dirs, ..settings("") }, server), Ok(201));
}

#[test]
fn an_answer_counts_that_comes_before_the_body_was_sent() {
    const BUSY: &[u8] = b"HTTP/1.1 429 Busy\r\nOndat-Telemetry: 1\r\nRetry-After: 7200\r\nContent-Length: 0\r\n\r\n";
    let authority = Authority::new();
    authority.make("root", P256, "root", "-days 2", CA);
    authority.make("leaf", P256, "root", "-days 2", HERE);
    let closes = authority.serving("leaf", &[], |stream| {
        read_head(stream);
        stream.write_all(BUSY).unwrap();
    });
    let reads_on = authority.serving("leaf", &[], |stream| {
        read_head(stream);
        stream.write_all(BUSY).unwrap();
        while stream.read(&mut [0; 65_536]).is_ok_and(|read| read > 0) {}
    });
    let later = authority.serving("leaf", &[], |stream| {
        stream.write_all(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n").unwrap();
        std::io::copy(&mut Read::by_ref(stream).take(1 << 20), &mut std::io::sink()).unwrap();
        stream.write_all(BUSY).unwrap();
    });
    for server in [closes, reads_on, later] {
        let answer = put(&authority.trusting("root.pem"), &format!("https://{server}/x"), &vec![7; 24 << 20], AMPLE);
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.header("Retry-After")), (429, Some("7200")));
    }
}
