//! Serves DNS over TCP on a bounded number of connections. hickory-server (0.26.3) has no bound.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::MessageType;
use hickory_server::proto::rr::Record;
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use ondat_telemetry_service::places::{OneMore, Place, Places};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// The most connections at once. They are counted apart from HTTP, so that a client who fills them does not stop reports.
const MOST: usize = 256;
/// The most connections of one network.
const MOST_OF_NETWORK: usize = 32;
/// How long a connection may be idle, or take for a question or an answer.
const IDLE_TIME: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// The longest question in bytes.
const QUESTION_BYTES: usize = 4096;
/// The pause after a system error, such as a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped. A connection beyond the bound is closed at once. Its client tries again, or asks another server.
pub(crate) async fn serve<H: RequestHandler>(listener: TcpListener, handler: Arc<H>) {
    let places = Places::new(MOST, MOST_OF_NETWORK, OneMore::Waits);
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        if let Ok(place) = places.enter(stream, address.ip()) {
            tokio::spawn(answer_all(place, address, Arc::clone(&handler)));
        }
    }
}

async fn answer_all<H: RequestHandler>(place: Arc<Place>, address: SocketAddr, handler: Arc<H>) {
    let mut stream = place.connection(Some(CONNECTION_TIME));
    while let Ok(Some(())) = timeout(IDLE_TIME, answer_one(&mut stream, address, &*handler)).await {}
}

/// Reads a question and answers it. None: the connection has ended, or the bytes are no question.
async fn answer_one<H: RequestHandler>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    address: SocketAddr,
    handler: &H,
) -> Option<()> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length > QUESTION_BYTES {
        return None;
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await.ok()?;
    let request = Request::from_bytes(question, address, Protocol::Tcp).ok()?;
    if request.metadata.message_type == MessageType::Response {
        return None;
    }
    let answer = Answer::default();
    handler.handle_request::<_, TokioTime>(&request, answer.clone()).await;
    let bytes = std::mem::take(&mut *answer.0.lock().unwrap_or_else(PoisonError::into_inner));
    let length = u16::try_from(bytes.len()).ok().filter(|length| *length > 0)?;
    // Length and answer are written together, because some clients read both at once.
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await.ok()
}

/// Collects the bytes of an answer.
#[derive(Clone, Default)]
struct Answer(Arc<Mutex<Vec<u8>>>);

#[async_trait]
impl ResponseHandler for Answer {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::new();
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(info)
    }
}
