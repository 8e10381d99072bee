//! A client, its vendor, and the server that it asks.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ondat_telemetry::callbacks::VersionInfo;
use ondat_telemetry::client::Client;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::Setting;
use ondat_telemetry::error::{Error, Status};
use ondat_telemetry::version::verdict::Verdict;
use ondat_telemetry_protocol::query::Query;

use crate::programs::DEADLINE;
use crate::server::{Question, Reply, Server, Transport};
use crate::vendor::{Vendor, ZONE};
use crate::wire::{TXT, answer, truncated, txt};

pub(crate) const VERSION: &str = "2.8.2";
/// Enough for every answer that comes.
pub(crate) const AMPLE: Duration = Duration::from_secs(10);
/// Enough where nothing comes.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// Statuses of a check whose question found no good answer.
pub(crate) const NO_ANSWER: [Status; 3] = [Status::Network, Status::TimedOut, Status::Untrusted];

pub(crate) struct Scene {
    pub(crate) vendor: Vendor,
    pub(crate) server: Server,
    pub(crate) client: Arc<Client>,
}

impl Scene {
    /// The server says what the script makes of a good answer's text.
    pub(crate) fn new(script: impl Fn(&Question, &str) -> Vec<Reply> + Send + 'static) -> Self {
        let vendor = Vendor::new(1);
        let text = vendor.recommends("2.9.0");
        let server = Server::start(move |question| script(question, &text));
        let client = client(&vendor, Some(&[server.address]));
        Self { vendor, server, client }
    }

    /// After one good answer, what is known and what is asked next count from there.
    pub(crate) fn after_a_good_answer() -> Self {
        let scene = Self::new(|question, text| vec![good(question, text)]);
        scene.succeeds(AMPLE);
        scene
    }

    pub(crate) fn check(&self, timeout: Duration) -> Result<VersionInfo, Error> {
        check(&self.client, timeout)
    }

    /// A check that must end with the good answer.
    pub(crate) fn succeeds(&self, timeout: Duration) {
        let outcome = self.check(timeout);
        let asked = self.server.asked();
        let info = outcome.unwrap_or_else(|why| panic!("{why:?} after {asked:?}"));
        assert_good(&info);
        assert_one_name(&asked);
    }

    /// A check after a good answer, with this script, that must fail with one of these statuses and leave what is
    /// known as it is. Returns the error's text and what was asked.
    pub(crate) fn fails(
        case: &str,
        timeout: Duration,
        expected: &[Status],
        script: impl FnMut(&Question) -> Vec<Reply> + Send + 'static,
    ) -> (String, Vec<Question>) {
        let scene = Self::after_a_good_answer();
        let known = scene.client.latest_version();
        scene.server.set_script(script);
        let outcome = scene.check(timeout);
        let Scene { server, client, .. } = scene;
        let asked = server.end();
        assert!(!asked.is_empty(), "{case}: nothing was asked");
        let error = outcome.err().unwrap_or_else(|| panic!("{case} was accepted"));
        assert!(expected.contains(&error.status()), "{case}: {error:?} after {asked:?}");
        assert_one_name(&asked);
        assert_eq!(client.latest_version(), known, "{case} changed what is known");
        (error.to_string(), asked)
    }
}

/// A hostile reply and then a good one over this transport, after a good answer: the first is ignored or an error and
/// nothing else, and what is known stays.
pub(crate) fn is_not_believed(case: &str, transport: Transport, hostile: impl Fn(&Question) -> Reply + Send + 'static) {
    let scene = Scene::after_a_good_answer();
    let text = scene.vendor.recommends("2.9.0");
    scene.server.set_script(move |question| {
        if question.transport == transport {
            vec![hostile(question), good(question, &text)]
        } else {
            vec![use_tcp(question)]
        }
    });
    let outcome = scene.check(AMPLE);
    let asked = scene.server.asked();
    assert!(asked.iter().any(|question| question.transport == transport), "{case}: {asked:?}");
    if let Err(error) = outcome {
        assert!(NO_ANSWER.contains(&error.status()), "{case}: {error:?} after {asked:?}");
    }
    assert_good(&scene.client.latest_version());
    assert_one_name(&asked);
}

/// A client of this vendor that asks these servers; without any, those of /etc/resolv.conf.
pub(crate) fn client(vendor: &Vendor, servers: Option<&[SocketAddr]>) -> Arc<Client> {
    let mut builder = ConfigBuilder::new();
    builder.set(Setting::Component, "dataplane");
    builder.set(Setting::Version, VERSION);
    builder.set(Setting::ClusterId, "cluster-1");
    builder.set(Setting::NodeId, "node-1");
    builder.set(Setting::VersionZone, ZONE);
    builder.set(Setting::VersionKey, &vendor.public());
    if let Some(servers) = servers {
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        builder.set(Setting::Nameservers, &servers.join(","));
    }
    Arc::new(Client::new(builder.build().unwrap()).unwrap())
}

/// A check on a thread of its own, so that one that hangs fails the test.
pub(crate) fn check(client: &Arc<Client>, timeout: Duration) -> Result<VersionInfo, Error> {
    let (send, outcome) = mpsc::channel();
    let client = Arc::clone(client);
    std::thread::spawn(move || send.send(client.check_version(timeout)));
    outcome.recv_timeout(DEADLINE).expect("the check hangs or has panicked")
}

/// Says that the answer is too long for a datagram.
pub(crate) fn use_tcp(question: &Question) -> Reply {
    Reply::Message(truncated(answer(question, &[])))
}

/// The whole answer with this text.
pub(crate) fn good(question: &Question, text: &str) -> Reply {
    Reply::Message(answer(question, &[txt(text)]))
}

pub(crate) fn assert_good(info: &VersionInfo) {
    let seen = (info.latest.as_deref(), info.verdict, info.advisory.as_deref(), info.authenticated);
    assert_eq!(seen, (Some("2.9.0"), Verdict::UpgradeRecommended, Some("ODT-2026-014"), true));
}

/// Whatever was tried, one name was asked for, and it is a version query's.
pub(crate) fn assert_one_name(asked: &[Question]) {
    let first = asked.first().expect("nothing was asked");
    for question in asked {
        assert_eq!(question.kind(), (TXT, 1), "{question:?}");
        assert_eq!(question.name(), first.name(), "{asked:?}");
    }
    let read = Query::decode(&first.name(), Some(ZONE)).unwrap_or_else(|| panic!("{first:?} is no version query"));
    assert_eq!(read.version_text().as_deref(), Some(VERSION));
}
