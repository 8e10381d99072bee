//! Limits of what is received at once: connections, their times, and bodies.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ondat_telemetry_service::body::Limits;
use ondat_telemetry_service::places::{OneMore, Places, network};
use ondat_telemetry_service::refusal::Refusal;
use ondat_telemetry_service::terms::Terms;

/// The most connections at once.
const MOST: u64 = 8192;
/// The descriptors of a connection: the connection and the file for its body.
const DESCRIPTORS_OF_ONE: u64 = 2;
/// The most connections of operators.
const OPERATIONS_PLACES: usize = 16;
/// The descriptors of everything else.
const OTHER_DESCRIPTORS: u64 = 64;
/// One network may have this fraction of all places, a sixteenth, so that a sender with one network leaves room for others.
const PART_OF_ONE: usize = 16;

/// How long requests in progress may take when the program ends.
pub(crate) const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// The limits of every connection.
pub(crate) const TERMS: Terms = Terms {
    handshake_time: Duration::from_secs(10),
    first_time: None,
    head_time: Duration::from_secs(15),
    // This is longer than the largest body may take.
    connection_time: Some(Duration::from_secs(300)),
    longest_head: 64 << 10,
    most_fields: 64,
    // Title case is for people who read a capture.
    has_title_case: true,
    // Senders know whether they use TLS.
    says_tls: false,
};

/// Returns the limits of a body of at most this many bytes. A slightly larger body is read to its end before it is refused.
pub(crate) const fn body(longest: u64) -> Limits {
    Limits {
        longest,
        dropped: longest * 2,
        refuses_unread: true,
        time: Duration::from_secs(240),
        piece_time: Duration::from_secs(10),
        slowest: 512,
    }
}

/// The range of Retry-After in seconds. The value is random, so that not all senders come back at once.
const LATER: std::ops::Range<u64> = 300..3600;

/// The answer to a sender that should come back later.
pub(crate) fn later(why: &str) -> Refusal {
    let mut bytes = [0; 8];
    // Without random numbers all senders come back at the same time, which is late enough.
    let _ = getrandom::fill(&mut bytes);
    let after = LATER.start + u64::from_le_bytes(bytes) % (LATER.end - LATER.start);
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).after(after)
}

/// The networks whose connections count together. A load balancer's connections belong to all its senders, so they have no
/// bound of their own.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    load_balancers: Vec<IpAddr>,
}

impl Networks {
    /// Creates it with the addresses of load balancers.
    pub(crate) fn new(load_balancers: &[IpAddr]) -> Self {
        Self { load_balancers: load_balancers.iter().map(IpAddr::to_canonical).collect() }
    }

    /// Returns the network of an address. None: the address has no bound of its own.
    pub(crate) fn of(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        (!self.load_balancers.contains(&address)).then(|| network(address, 24, 48))
    }
}

/// Creates as many places as this process may have descriptors for.
pub(crate) fn places(networks: &Networks) -> Arc<Places> {
    let most = usize::try_from(descriptors().saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_OF_ONE);
    let most = most.unwrap_or(usize::MAX).clamp(PART_OF_ONE, MOST as usize);
    Places::with_exempt(most, most / PART_OF_ONE, OneMore::Waits, networks.load_balancers.clone())
}

/// Creates the places of operators.
pub(crate) fn operations_places() -> Arc<Places> {
    Places::new(OPERATIONS_PLACES, OPERATIONS_PLACES, OneMore::Displaces)
}

/// Raises the limit of descriptors as far as possible, and returns it.
fn descriptors() -> u64 {
    let wanted = MOST * DESCRIPTORS_OF_ONE + OTHER_DESCRIPTORS;
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let wanted = wanted.min(most);
    if now >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, most).is_err() {
        return now;
    }
    wanted
}
