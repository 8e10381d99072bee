//! Answers DNS questions from the version zone, and notes the version queries.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, LowerQuery, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use ondat_telemetry::sys::clock::unix_now;
use ondat_telemetry_command::plain;
use ondat_telemetry_protocol::time::rfc3339;
use serde::Serialize;

use crate::counters::{Count, Counters};
use crate::dns_rate::{Rates, Turn};
use crate::fault;
use crate::store::Store;
use crate::zone::{Answer, Zone};

/// The largest UDP answer: what passes without fragments (DNS flag day 2020).
const UDP_BYTES: u16 = 1232;

/// The handler behind hickory-server.
pub(crate) struct ZoneServer {
    zone: Option<Arc<Zone>>,
    store: Arc<Store>,
    rates: Arc<Rates>,
    counters: Arc<Counters>,
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
    is_truncated: bool,
}

impl Reply<'_> {
    fn error(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), negative: None, is_authoritative: false, is_truncated: false }
    }
}

impl ZoneServer {
    /// Serves this zone, or refuses everything without one.
    pub(crate) fn new(zone: Option<Arc<Zone>>, store: Arc<Store>, rates: Arc<Rates>, counters: Arc<Counters>) -> Self {
        Self { zone, store, rates, counters }
    }

    /// What a question gets, before anything is done for it.
    fn turn(&self, request: &Request) -> Turn {
        match request.protocol() {
            Protocol::Udp => self.rates.turn(request.src().ip(), Instant::now()),
            // Nobody forges an address over TCP.
            _ => Turn::Answered,
        }
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
        let negative = |code| Reply { negative: Some(zone.negative()), is_authoritative: true, ..Reply::error(code) };
        match zone.answer(&query.original().name, query.query_type()) {
            Answer::Records(answers) => {
                Reply { answers, is_authoritative: true, ..Reply::error(ResponseCode::NoError) }
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
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let reply = match self.turn(request) {
            Turn::Answered => {
                self.counters.add(Count::Query);
                self.reply(request)
            }
            // It is asked again over TCP, and noted then.
            Turn::Truncated => {
                self.counters.add(Count::QuerySlipped);
                Reply { is_truncated: true, ..Reply::error(ResponseCode::NoError) }
            }
            Turn::Dropped => {
                self.counters.add(Count::QueryDropped);
                return ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
            }
        };
        metadata.truncation = reply.is_truncated;
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
