//! Connections under ureq: sockets that the host may close, or give their number to something else, without harm to either.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::time::Instant;

use nix::poll::PollFlags;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
};

use super::wait::{Interrupt, Patience, Stream};
use crate::sys::descriptor::Gaps;

/// Makes connections that end when they are interrupted.
#[derive(Debug)]
pub struct Tcp {
    interrupt: Arc<Interrupt>,
}

impl Tcp {
    /// Ended by this.
    pub fn new(interrupt: Arc<Interrupt>) -> Self {
        Self { interrupt }
    }
}

impl<In: Transport> Connector<In> for Tcp {
    type Out = Either<In, Connection>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        if let Some(chained) = chained {
            return Ok(Some(Either::A(chained)));
        }
        let patience = patience(&self.interrupt, details.timeout);
        let mut failure = Error::ConnectionFailed;
        for (number, address) in details.addrs.iter().enumerate() {
            // A silent one leaves as much to each of the others.
            let untried = u32::try_from(details.addrs.len() - number).unwrap_or(1);
            let share = patience.deadline.saturating_duration_since(Instant::now()) / untried;
            match patience.at_most(share).connect(*address) {
                Ok(stream) => {
                    let buffers =
                        LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
                    let interrupt = Arc::clone(&self.interrupt);
                    return Ok(Some(Either::B(Connection { stream, buffers, interrupt })));
                }
                Err(error) => failure = in_time(error, details.timeout),
            }
            if patience.is_over() {
                break;
            }
        }
        Err(failure)
    }
}

/// A connection to a server or a proxy.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    buffers: LazyBuffers,
    interrupt: Arc<Interrupt>,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let patience = patience(&self.interrupt, timeout);
        let written = patience.write_all(&mut self.stream, &self.buffers.output()[..amount]);
        written.map_err(|error| in_time(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let patience = patience(&self.interrupt, timeout);
        let input = self.buffers.input_append_buf();
        let read = patience.until_done(&mut self.stream, PollFlags::POLLIN, |stream| stream.read(input));
        let read = read.map_err(|error| in_time(error, timeout))?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Each request has a connection of its own.
    fn is_open(&mut self) -> bool {
        false
    }
}

fn patience(interrupt: &Interrupt, timeout: NextTimeout) -> Patience<'_> {
    /// A time that ureq does not bound: its own bound of the whole request holds all the same.
    const LONG: std::time::Duration = std::time::Duration::from_secs(3600);
    Patience { interrupt, deadline: Instant::now() + (*timeout.after).min(LONG) }
}

fn in_time(error: io::Error, timeout: NextTimeout) -> Error {
    if error.kind() == ErrorKind::TimedOut { Error::Timeout(timeout.reason) } else { Error::Io(error) }
}

/// A connector that makes sockets by itself, none of which becomes standard input, output or error.
#[derive(Debug)]
pub struct WithoutGaps<C>(pub C);

impl<In: Transport, C: Connector<In>> Connector<In> for WithoutGaps<C> {
    type Out = C::Out;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        use ureq::ProxyProtocol::{Socks4, Socks4A, Socks5, Socks5h};
        let protocol = details.config.proxy().map(|proxy| proxy.protocol());
        let is_needed = matches!(protocol, Some(Socks4 | Socks4A | Socks5 | Socks5h));
        let _gaps = is_needed.then(Gaps::fill);
        self.0.connect(details, chained)
    }
}
