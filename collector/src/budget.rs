//! Bounds the bytes of bodies that are in memory at once: of all senders together, and of the senders in one network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use object_store::PutPayload;

use crate::storage::Pieces;

/// The size at which a piece of a body is closed and the next one begins, in bytes.
const PIECE: usize = 256 << 10;
/// One network may hold this fraction of the budget: a quarter.
const PART_OF_ONE: u64 = 4;

/// The budget of this process.
pub(crate) struct Budget {
    most: u64,
    most_of_network: u64,
    held: AtomicU64,
    networks: Mutex<HashMap<IpAddr, u64>>,
}

/// There is no room for more bytes now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

impl Budget {
    /// Creates a budget of `most` bytes. One network may hold a part of them, but always enough for a body of `longest` bytes.
    pub(crate) fn new(most: u64, longest: u64) -> Arc<Self> {
        let most_of_network = (most / PART_OF_ONE).max(longest);
        Arc::new(Self { most, most_of_network, held: AtomicU64::new(0), networks: Mutex::default() })
    }

    /// The bytes that are held now.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Starts a body from this network. None: the sender has no bound of its own.
    pub(crate) fn body(self: &Arc<Self>, network: Option<IpAddr>) -> Body {
        Body { budget: Arc::clone(self), network, length: 0, done: Vec::new(), last: Vec::new() }
    }

    fn take(&self, network: Option<IpAddr>, bytes: u64) -> Result<(), Exhausted> {
        if self.held.fetch_add(bytes, Ordering::Relaxed) + bytes > self.most {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Exhausted);
        }
        if let Some(network) = network {
            let mut networks = self.networks();
            let held = networks.entry(network).or_default();
            if *held + bytes > self.most_of_network {
                self.held.fetch_sub(bytes, Ordering::Relaxed);
                return Err(Exhausted);
            }
            *held += bytes;
        }
        Ok(())
    }

    fn give_back(&self, network: Option<IpAddr>, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        let Some(network) = network else { return };
        let mut networks = self.networks();
        if let Some(held) = networks.get_mut(&network) {
            *held -= bytes;
            if *held == 0 {
                networks.remove(&network);
            }
        }
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body in memory. Dropping it frees its part of the budget.
pub(crate) struct Body {
    budget: Arc<Budget>,
    network: Option<IpAddr>,
    length: u64,
    done: Vec<bytes::Bytes>,
    last: Vec<u8>,
}

impl Body {
    /// Adds bytes. Bytes count when they arrive, not when they are announced, so that a sender who announces much and sends
    /// nothing holds nothing.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Exhausted> {
        let length = bytes.len() as u64;
        self.budget.take(self.network, length)?;
        self.length += length;
        self.last.extend_from_slice(bytes);
        if self.last.len() >= PIECE {
            self.done.push(std::mem::take(&mut self.last).into());
        }
        Ok(())
    }

    /// Frees its part of the budget. Nothing is added to it afterwards.
    pub(crate) fn clear(&mut self) {
        self.budget.give_back(self.network, std::mem::take(&mut self.length));
        self.done = Vec::new();
        self.last = Vec::new();
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Returns its bytes. They count in the budget until the body is dropped.
    pub(crate) fn pieces(&mut self) -> Pieces {
        if !self.last.is_empty() {
            self.done.push(std::mem::take(&mut self.last).into());
        }
        self.done.iter().cloned().collect::<PutPayload>()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 0)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 3, 0)));

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let budget = Budget::new(100, 10);
        let mut bodies: Vec<Body> = (0..10).map(|_| budget.body(None)).collect();
        assert!(bodies.iter_mut().all(|body| body.push(&[1; 10]).is_ok()));
        assert_eq!(budget.body(None).push(&[1]), Err(Exhausted));
        bodies.pop();
        assert_eq!(budget.held(), 90);
        assert!(budget.body(None).push(&[1; 10]).is_ok());
        drop(bodies);
        assert_eq!((budget.held(), budget.networks().len()), (0, 0));
    }

    #[test]
    fn one_network_leaves_room_for_others() {
        let budget = Budget::new(100, 10);
        let (mut first, mut second, mut other) = (budget.body(HERE), budget.body(HERE), budget.body(THERE));
        assert_eq!((first.push(&[1; 20]), second.push(&[1; 5]), second.push(&[1])), (Ok(()), Ok(()), Err(Exhausted)));
        assert!(other.push(&[1; 25]).is_ok());
        first.clear();
        assert!(second.push(&[1; 20]).is_ok());
        drop((first, second, other));
        assert_eq!((budget.held(), budget.networks().len()), (0, 0));
        assert!(Budget::new(100, 60).body(HERE).push(&[1; 60]).is_ok(), "one body always fits");
    }

    #[test]
    fn pieces_are_what_was_pushed() {
        let budget = Budget::new(1 << 30, 1);
        let bytes: Vec<u8> = (0..PIECE * 2 + 77).map(|at| (at % 251) as u8).collect();
        let mut body = budget.body(None);
        for part in bytes.chunks(1000) {
            body.push(part).unwrap();
        }
        assert_eq!(body.length(), bytes.len() as u64);
        assert_eq!(bytes::Bytes::from(body.pieces()), bytes);
    }
}
