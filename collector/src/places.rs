//! Limits on connections: a number in total, and a number from one network. A place is free again when its connection
//! ends.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most connections at once.
const MOST: u64 = 8192;
/// What a connection takes: itself, and the file that its body goes to.
const DESCRIPTORS_OF_ONE: u64 = 2;
/// What everything else takes.
const OTHER_DESCRIPTORS: u64 = 64;
/// A network may have this part of all places: whoever has one network to connect from leaves the rest to others.
const PART_OF_ONE: usize = 16;

/// The places for connections.
pub(crate) struct Places {
    all: Arc<Semaphore>,
    most_of_one: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place that is taken.
pub(crate) struct Place {
    places: Arc<Places>,
    network: IpAddr,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    /// As many as this process may have descriptors for.
    pub(crate) fn new() -> Self {
        let most = usize::try_from(descriptors().saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_OF_ONE);
        let most = most.unwrap_or(usize::MAX).clamp(PART_OF_ONE, MOST as usize);
        Self { all: Arc::new(Semaphore::new(most)), most_of_one: most / PART_OF_ONE, taken: Mutex::default() }
    }

    /// Waits until there is a place.
    pub(crate) async fn one(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all).acquire_owned().await.ok()
    }

    /// Gives a place to a connection from this address. None where its network has its part already.
    pub(crate) fn give(self: &Arc<Self>, of_all: OwnedSemaphorePermit, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(network).or_default();
        if *count == self.most_of_one {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), network, _of_all: of_all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

/// A /24 of IPv4, a /48 of IPv6: what one sender can have all addresses of.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 80 << 80).into(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_network_gets_its_part_and_gives_it_back() {
        let places = Arc::new(Places { all: Arc::new(Semaphore::new(4)), most_of_one: 2, taken: Mutex::default() });
        let take = async |address: &str| {
            let one = places.one().await.unwrap();
            places.give(one, address.parse().unwrap())
        };
        let first = take("192.0.2.1").await;
        let second = take("::ffff:192.0.2.200").await;
        assert!(first.is_some() && second.is_some() && take("192.0.2.77").await.is_none());
        assert!(take("192.0.3.1").await.is_some());
        let other = take("2001:db8:0:1::1").await;
        assert!(take("2001:db8:0:ffff::2").await.is_some() && take("2001:db8:1::1").await.is_some());
        assert_eq!(places.all.available_permits(), 1);
        drop((first, second, other));
        assert_eq!((places.all.available_permits(), places.taken.lock().unwrap().len()), (4, 0));
    }
}
