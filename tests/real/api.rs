//! The administrator's API as its clients use it: what goes over the wire is written out here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{DEADLINE, Server, command, ondat, server};

pub(crate) const USER: &str = "storageos";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A `serve` on a state directory.
pub(crate) struct Api {
    /// Host and port.
    pub(crate) address: String,
    _server: Server,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map_or_else(|| panic!("no {name} in {self:?}"), |(_, value)| value)
    }

    /// The JSON of an answer that must be a success.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Api {
    /// With one user, whose password was set as an administrator sets it.
    pub(crate) fn serve(state_dir: &Path) -> Self {
        let mut password = ondat(&["password", USER, "--state-dir"]);
        password.arg(state_dir).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = password.spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
        assert!(child.wait().unwrap().success());
        let mut serve = server(command("ondat-telemetry"));
        serve.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"]).arg(state_dir).stderr(Stdio::null());
        let url = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["url"].as_str()?.to_owned());
        let (server, url) = Server::start(&mut serve, url);
        Self { address: url.trim_start_matches("http://").to_owned(), _server: server }
    }

    /// What a browser opens. A closure that asks for it holds the server, too.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What Go's HTTP client sends for this, byte for byte, and what is answered.
    fn call(&self, agent: &str, line: &str, token: Option<&str>, body: Option<&str>) -> Answer {
        let mut request = format!("{line} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {agent}\r\n", self.address);
        if let Some(body) = body {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "Accept: application/json\r\n";
        if let Some(token) = token {
            request += &format!("Authorization: {token}\r\n");
        }
        if body.is_some() {
            request += "Content-Type: application/json\r\n";
        }
        request += "Accept-Encoding: gzip\r\n\r\n";
        request += body.unwrap_or_default();
        let mut connection = TcpStream::connect(&self.address).unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        read_answer(connection)
    }
}

fn read_answer(connection: TcpStream) -> Answer {
    let mut lines = BufReader::new(connection);
    let mut line = || {
        let mut text = String::new();
        lines.read_line(&mut text).unwrap();
        text.trim_end().to_owned()
    };
    let status = line().split(' ').nth(1).expect("no status line").parse().unwrap();
    let mut headers = Vec::new();
    while let Some((name, value)) = line().split_once(": ") {
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let mut body = vec![0; length.parse().unwrap()];
    lines.read_exact(&mut body).unwrap();
    Answer { status, headers, body: String::from_utf8(body).unwrap() }
}

/// The product's operators, with their Go client of version 2.4.0.
pub(crate) struct Operator<'a> {
    api: &'a Api,
    token: String,
}

/// The client library of the product's command line, version 2.4.2.
pub(crate) struct CommandLine<'a> {
    api: &'a Api,
    pub(crate) token: String,
}

const LOGIN: &str = "POST /v2/auth/login";

fn credentials() -> String {
    // Go's encoder ends what it writes with a newline.
    format!("{{\"username\":\"{USER}\",\"password\":\"{PASSWORD}\"}}\n")
}

impl<'a> Operator<'a> {
    const AGENT: &'static str = "OpenAPI-Generator/2.4.0/go";

    /// The token is what follows the space in the answer's header.
    pub(crate) fn log_in(api: &'a Api) -> Self {
        let answer = api.call(Self::AGENT, LOGIN, None, Some(&credentials()));
        assert_eq!(answer.status, 200, "{answer:?}");
        let token = answer.header("authorization").split(' ').nth(1).expect("a panic of the client").to_owned();
        Self { api, token: format!("Bearer {token}") }
    }

    pub(crate) fn read(&self) -> Value {
        self.api.call(Self::AGENT, "GET /v2/cluster", Some(&self.token), None).json()
    }

    /// Their client leaves out what is false. The version is what was read.
    pub(crate) fn write(&self, disabled: &[&str], version: &str) -> Answer {
        let switches: String = disabled.iter().map(|name| format!("\"{name}\":true,")).collect();
        let body = format!("{{{switches}\"logLevel\":\"info\",\"logFormat\":\"json\",\"version\":\"{version}\"}}\n");
        self.api.call(Self::AGENT, "PUT /v2/cluster", Some(&self.token), Some(&body))
    }
}

impl<'a> CommandLine<'a> {
    const AGENT: &'static str = "storageos-cli/2.4.2";

    /// The token is in the body, and is sent without a scheme.
    pub(crate) fn log_in(api: &'a Api) -> Self {
        let answer = api.call(Self::AGENT, LOGIN, None, Some(&credentials())).json();
        Self { api, token: answer["session"]["token"].as_str().unwrap().to_owned() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.api.call(Self::AGENT, &format!("GET {path}"), Some(&self.token), None)
    }

    pub(crate) fn read(&self) -> Value {
        self.api.call(Self::AGENT, "GET /v2/cluster", Some(&self.token), None).json()
    }

    /// Whatever the version.
    pub(crate) fn force(&self, disabled: &[&str]) -> Answer {
        let switches: String = disabled.iter().map(|name| format!("\"{name}\":true,")).collect();
        let body = format!("{{{switches}\"logLevel\":\"info\",\"logFormat\":\"json\"}}\n");
        self.api.call(Self::AGENT, "PUT /v2/cluster?ignore-version=true", Some(&self.token), Some(&body))
    }

    /// Our own call, which no client of the product knows.
    pub(crate) fn set_switches(&self, switches: &Value) -> Answer {
        self.api.call(Self::AGENT, "PUT /v1/switches", Some(&self.token), Some(&switches.to_string()))
    }

    pub(crate) fn switches(&self) -> Value {
        self.api.call(Self::AGENT, "GET /v1/switches", Some(&self.token), None).json()
    }
}
