//! How much is taken in at once: connections, what each may take, and bodies.

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
/// What a connection takes: itself, and the file that its body goes to.
const DESCRIPTORS_OF_ONE: u64 = 2;
/// Connections of those who run it.
const OPERATIONS_PLACES: usize = 16;
/// What everything else takes.
const OTHER_DESCRIPTORS: u64 = 64;
/// A network may have this part of all places: whoever has one network to connect from leaves the rest to others.
const PART_OF_ONE: usize = 16;

/// For requests in progress when the program ends.
pub(crate) const GOODBYE_TIME: Duration = Duration::from_secs(5);

/// What every connection is held to.
pub(crate) const TERMS: Terms = Terms {
    handshake_time: Duration::from_secs(10),
    first_time: None,
    head_time: Duration::from_secs(15),
    // Longer than the largest body may take.
    connection_time: Some(Duration::from_secs(300)),
    longest_head: 64 << 10,
    most_fields: 64,
    // For people who read along.
    has_title_case: true,
    // Senders know what they speak.
    says_tls: false,
};

/// What a body of at most so many bytes may take. One somewhat too big is read to its end.
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

/// When a sender is asked to come again, in seconds: at random, so that not all come at once.
const LATER: std::ops::Range<u64> = 300..3600;

/// What is answered where the same may be taken later.
pub(crate) fn later(why: &str) -> Refusal {
    let mut bytes = [0; 8];
    // Without random numbers all come at the same time, which is late enough.
    let _ = getrandom::fill(&mut bytes);
    let after = LATER.start + u64::from_le_bytes(bytes) % (LATER.end - LATER.start);
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).after(after)
}

/// Whose connections count together. Those of a load balancer are those of all its senders, and have no bound of their own.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    load_balancers: Vec<IpAddr>,
}

impl Networks {
    /// These are load balancers.
    pub(crate) fn new(load_balancers: &[IpAddr]) -> Self {
        Self { load_balancers: load_balancers.iter().map(IpAddr::to_canonical).collect() }
    }

    /// The network of an address; none where it has no bound of its own.
    pub(crate) fn of(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        (!self.load_balancers.contains(&address)).then(|| network(address, 24, 48))
    }
}

/// As many places as this process may have descriptors for.
pub(crate) fn places(networks: &Networks) -> Arc<Places> {
    let most = usize::try_from(descriptors().saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_OF_ONE);
    let most = most.unwrap_or(usize::MAX).clamp(PART_OF_ONE, MOST as usize);
    Places::with_exempt(most, most / PART_OF_ONE, OneMore::Waits, networks.load_balancers.clone())
}

/// Places for those who run it.
pub(crate) fn operations_places() -> Arc<Places> {
    Places::new(OPERATIONS_PLACES, OPERATIONS_PLACES, OneMore::Displaces)
}

/// How many descriptors this process may have, after it has asked for as many as it may ask for.
fn descriptors() -> u64 {
    let wanted = MOST * DESCRIPTORS_OF_ONE + OTHER_DESCRIPTORS;
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let wanted = wanted.min(most);
    if now >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, most).is_err() {
        return now;
    }
    wanted
}
