//! Answers DNS questions from the version zone, and notes the version queries.

use std::sync::Arc;

use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, LowerQuery, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry_command::plain;
use ondat_telemetry_protocol::time::rfc3339;
use serde::Serialize;

use crate::fault;
use crate::store::Store;
use crate::zone::{Answer, Zone};

/// The largest UDP answer: what passes without fragments (DNS flag day 2020).
const UDP_BYTES: u16 = 1232;

/// The handler behind hickory-server.
pub(crate) struct ZoneServer {
    zone: Option<Zone>,
    store: Arc<Store>,
}

/// A line of the query log. There is no place in it for the sender's address.
#[derive(Serialize)]
struct LoggedQuery<'a> {
    time: &'a str,
    name: &'a str,
}

/// What goes into a response.
struct Reply<'a> {
    code: ResponseCode,
    answers: Vec<Record>,
    negative: Option<&'a Record>,
    is_authoritative: bool,
}

impl Reply<'_> {
    fn error(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), negative: None, is_authoritative: false }
    }
}

impl ZoneServer {
    /// Serves this zone, or refuses everything without one.
    pub(crate) fn new(zone: Option<Zone>, store: Arc<Store>) -> Self {
        Self { zone, store }
    }

    fn reply(&self, request: &Request) -> Reply<'_> {
        if request.metadata.op_code != OpCode::Query {
            return Reply::error(ResponseCode::NotImp);
        }
        if request.version() > 0 {
            return Reply::error(ResponseCode::BADVERS);
        }
        let [query] = request.queries.queries() else { return Reply::error(ResponseCode::FormErr) };
        match &self.zone {
            Some(zone) => self.reply_from(zone, query),
            None => Reply::error(ResponseCode::Refused),
        }
    }

    fn reply_from<'a>(&self, zone: &'a Zone, query: &LowerQuery) -> Reply<'a> {
        let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if is_transfer || query.query_class() != DNSClass::IN {
            return Reply::error(ResponseCode::Refused);
        }
        if query.query_type() == RecordType::TXT && zone.is_below(query.name()) {
            self.log(query);
        }
        let negative =
            |code| Reply { code, answers: Vec::new(), negative: Some(zone.negative()), is_authoritative: true };
        match zone.answer(&query.original().name, query.query_type()) {
            Answer::Records(answers) => {
                Reply { code: ResponseCode::NoError, answers, negative: None, is_authoritative: true }
            }
            Answer::NoData => negative(ResponseCode::NoError),
            Answer::NoName => negative(ResponseCode::NXDomain),
            Answer::OtherZone => Reply::error(ResponseCode::Refused),
        }
    }

    fn log(&self, query: &LowerQuery) {
        let time = rfc3339(unix_now());
        let logged = LoggedQuery { time: &time, name: &query.name().to_string() };
        // The question is answered also when the disk is full; the loss is said where the administrator looks.
        let noted = plain::json(&logged).map_err(Into::into).and_then(|line| self.store.log_query(&line));
        if let Err(why) = noted {
            fault::complain(&format!("cannot note a version query: {why}"));
        }
    }
}

#[async_trait]
impl RequestHandler for ZoneServer {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let reply = self.reply(request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.is_authoritative;
        let edns = request.edns.as_ref().map(|_| answer_edns(request.max_payload()));
        let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            &reply.answers,
            [],
            reply.negative,
            [],
        );
        match handle.send_response(response).await {
            Ok(info) => info,
            // The asker is gone, or asks again.
            Err(_) => ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() }),
        }
    }
}

fn answer_edns(asked_bytes: u16) -> Edns {
    let mut edns = Edns::new();
    // hickory-server cuts the answer at what it announces, so this is the smaller of both sides' sizes.
    edns.set_max_payload(asked_bytes.min(UDP_BYTES)).set_version(0);
    edns
}
