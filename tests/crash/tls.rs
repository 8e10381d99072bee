//! A certificate authority of the test's own, by openssl.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::{TempDir, succeed};

/// The name in the certificates, besides 127.0.0.1.
pub(crate) const NAME: &str = "crash.example";

const CONFIG: &str = "
[req]
prompt = no
distinguished_name = subject
[subject]
CN = authority
[authority]
basicConstraints = critical, CA:TRUE
[server]
subjectAltName = IP:127.0.0.1, DNS:crash.example
[other]
subjectAltName = DNS:other.example
[ca]
default_ca = own
[own]
database = index
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
private_key = ca.key
certificate = ca.pem
[any]
commonName = supplied
";

pub(crate) struct Authority(TempDir);

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self(TempDir::new());
        std::fs::write(authority.0.join("config"), CONFIG).unwrap();
        std::fs::write(authority.0.join("index"), "").unwrap();
        authority.request("ca", &["-x509", "-extensions", "authority", "-days", "2", "-out", "ca.pem"]);
        authority
    }

    /// What a client has to trust.
    pub(crate) fn ca_file(&self) -> String {
        self.0.join("ca.pem").to_str().unwrap().to_owned()
    }

    /// A server whose certificate is good.
    pub(crate) fn good(&self) -> Arc<ServerConfig> {
        self.signed("server", "20200101000000Z", "21000101000000Z")
    }

    pub(crate) fn expired(&self) -> Arc<ServerConfig> {
        self.signed("server", "20200101000000Z", "20200201000000Z")
    }

    /// One for another name.
    pub(crate) fn misnamed(&self) -> Arc<ServerConfig> {
        self.signed("other", "20200101000000Z", "21000101000000Z")
    }

    /// One that nobody has signed but its owner.
    pub(crate) fn self_signed(&self) -> Arc<ServerConfig> {
        self.request("server", &["-x509", "-extensions", "server", "-days", "2", "-out", "server.pem"]);
        self.server()
    }

    fn signed(&self, extensions: &str, from: &str, to: &str) -> Arc<ServerConfig> {
        self.request("server", &["-subj", "/CN=server", "-out", "server.csr"]);
        let mut sign = self.openssl("ca");
        sign.args(["-batch", "-notext", "-in", "server.csr", "-out", "server.pem", "-extensions", extensions]);
        succeed(sign.args(["-startdate", from, "-enddate", to]));
        self.server()
    }

    fn request(&self, name: &str, arguments: &[&str]) {
        let mut request = self.openssl("req");
        request.args(["-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        succeed(request.args(["-keyout", &format!("{name}.key")]).args(arguments));
    }

    fn openssl(&self, what: &str) -> Command {
        let mut command = Command::new("openssl");
        command.args([what, "-config", "config"]).current_dir(self.0.path());
        command
    }

    fn server(&self) -> Arc<ServerConfig> {
        let file = |name: &str| -> PathBuf { self.0.join(name) };
        let certificate = CertificateDer::from_pem_file(file("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(config.with_single_cert(vec![certificate], key).unwrap())
    }
}
