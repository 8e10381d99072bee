//! Listening: HTTP/1.1 on one port or several, over TLS where there is a certificate, until the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{AddrListener, Address, Control, Handle, Server};
use ondat_telemetry::error::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::door::{Arrival, Door};
use crate::places::{OneMore, Places};
use crate::terms::Terms;
use crate::tls::Certificate;

/// Listens there. The option is what its administrator would choose another address with.
pub async fn bind(option: &str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(option, address, &error))
}

/// What is said where that is not possible.
pub fn cannot_listen(option: &str, address: SocketAddr, error: &io::Error) -> Error {
    Error::InvalidConfig(format!("cannot listen on {address}: {error}; choose another address with {option}"))
}

/// All that listens, which ends at once.
#[derive(Default)]
pub struct Listening {
    control: Control,
    tasks: Vec<JoinHandle<io::Result<()>>>,
}

impl Listening {
    /// Begins to serve these routes. Each request has its connection's [`Place`](crate::places::Place) as an extension, and
    /// the other side's address as `ConnectInfo<SocketAddr>`.
    pub fn serve(
        &mut self,
        tcp: TcpListener,
        certificate: Option<&Certificate>,
        routes: Router,
        places: &Arc<Places>,
        terms: Terms,
    ) {
        let server = Server::<Peer>::from_listener(Listener { tcp, places: Arc::clone(places) });
        let mut server = server.http1_only().first_request_timeout(terms.first_time);
        let mut builder = server.http_builder().http1();
        builder.header_read_timeout(terms.head_time).max_buf_size(terms.longest_head).max_headers(terms.most_fields);
        builder.title_case_headers(terms.has_title_case);
        let server = server.handle(Handle::with_control(self.control.clone()));
        let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
        let door = Door { terms, has_tls: certificate.is_some() };
        self.tasks.push(match certificate {
            None => tokio::spawn(server.acceptor(door).serve(routes)),
            Some(certificate) => {
                let acceptor = RustlsAcceptor::new(certificate.config()).handshake_timeout(terms.handshake_time);
                tokio::spawn(server.acceptor(acceptor.acceptor(door)).serve(routes))
            }
        });
    }

    /// Takes no more connections and ends those that are idle. Requests in progress may take so long; what is not done by
    /// then is cut off.
    pub async fn end(self, time: Duration) -> Result<(), Error> {
        let failed = |why: String| Error::Internal(format!("the server failed: {why}"));
        self.control.graceful_shutdown(Some(time));
        for task in self.tasks {
            task.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }
}

/// Where a connection comes from, as a type of ours: axum-server takes a listener of ours with it, and not with a plain address.
#[derive(Clone)]
struct Peer(SocketAddr);

impl Address for Peer {
    type Stream = Arrival;
    type Listener = Listener;
}

impl Connected<Peer> for SocketAddr {
    fn connect_info(peer: Peer) -> Self {
        peer.0
    }
}

/// Accepts connections as there are places for them. axum-server itself accepts whatever comes, and hands it to an acceptor
/// later: there one more could not wait in the system's queue.
struct Listener {
    tcp: TcpListener,
    places: Arc<Places>,
}

impl AddrListener<Arrival, Peer> for Listener {
    /// Never called: a listener is made with its places.
    async fn bind_to(_: Peer) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn accept_stream(&self) -> io::Result<(Arrival, Peer)> {
        loop {
            let arrived = match self.places.one_more() {
                OneMore::Displaces => {
                    let (stream, address) = self.tcp.accept().await?;
                    let entered = self.places.enter(stream, address.ip());
                    Some((entered.map_or_else(Arrival::OneTooMany, Arrival::Placed), address))
                }
                OneMore::Waits => {
                    let permit = self.places.free().await.ok_or(io::ErrorKind::BrokenPipe)?;
                    let (stream, address) = self.tcp.accept().await?;
                    // One too many of a network is closed at once: its senders try again.
                    self.places.give(permit, stream, address.ip()).ok().map(|place| (Arrival::Placed(place), address))
                }
            };
            if let Some((arrival, address)) = arrived {
                return Ok((arrival, Peer(address)));
            }
        }
    }

    fn get_local_addr(&self) -> io::Result<Peer> {
        self.tcp.local_addr().map(Peer)
    }
}
