//! How many answers over UDP a network gets. The address of a question over UDP can be forged, and the answer goes to whoever has
//! it: beyond the rate a network gets no more than it has sent.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ondat_telemetry_service::places::network;

/// Networks that are remembered; about 1 MiB.
const NETWORKS: usize = 16_384;
/// How many seconds' answers may come at once: resolvers ask in bursts.
const BURST: f64 = 2.0;
/// Every so many questions beyond the rate are answered with the word that there is more over TCP, where no address is forged.
const SLIP: u32 = 2;

/// What a question gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Its answer.
    Answered,
    /// No more than the word to ask over TCP.
    Truncated,
    /// Nothing.
    Dropped,
}

/// The rates of all networks.
pub(crate) struct Rates {
    /// Answers a second; as many as are asked for without.
    rate: Option<f64>,
    networks: Mutex<HashMap<IpAddr, Bucket>>,
}

/// What is left for a network.
struct Bucket {
    left: f64,
    at: Instant,
    beyond: u32,
}

impl Rates {
    /// So many answers a second for a /24 of IPv4 or a /56 of IPv6; zero is no bound.
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate: (rate > 0).then(|| f64::from(rate)), networks: Mutex::default() }
    }

    /// The next question from this address.
    pub(crate) fn turn(&self, address: IpAddr, now: Instant) -> Turn {
        let Some(rate) = self.rate else { return Turn::Answered };
        let full = rate * BURST;
        let left_at = |bucket: &Bucket| {
            let since = now.saturating_duration_since(bucket.at);
            (bucket.left + since.as_secs_f64() * rate).min(full)
        };
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if networks.len() >= NETWORKS {
            // Those that have all of it left need not be remembered.
            networks.retain(|_, bucket| left_at(bucket) < full);
            if networks.len() >= NETWORKS {
                networks.clear();
            }
        }
        let bucket = networks.entry(network(address, 24, 56)).or_insert(Bucket { left: full, at: now, beyond: 0 });
        bucket.left = left_at(bucket);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Turn::Answered;
        }
        bucket.beyond = bucket.beyond.wrapping_add(1);
        if bucket.beyond.is_multiple_of(SLIP) { Turn::Truncated } else { Turn::Dropped }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn count(rates: &Rates, address: &str, now: Instant, questions: usize) -> [usize; 3] {
        let turns: Vec<Turn> = (0..questions).map(|_| rates.turn(address.parse().unwrap(), now)).collect();
        [Turn::Answered, Turn::Truncated, Turn::Dropped].map(|kind| turns.iter().filter(|turn| **turn == kind).count())
    }

    #[test]
    fn a_network_has_its_rate_and_others_have_theirs() {
        let (rates, start) = (Rates::new(10), Instant::now());
        assert_eq!(count(&rates, "192.0.2.1", start, 120), [20, 50, 50]);
        assert_eq!(count(&rates, "192.0.2.200", start, 2), [0, 1, 1], "the same network");
        assert_eq!(count(&rates, "192.0.3.1", start, 5), [5, 0, 0]);
        assert_eq!(count(&rates, "2001:db8::1", start, 20), [20, 0, 0]);
        assert_eq!(count(&rates, "2001:db8:0:00ff::1", start, 1)[0], 0, "the same /56");
        assert_eq!(count(&rates, "2001:db8:0:0100::1", start, 1)[0], 1);
        assert_eq!(count(&rates, "192.0.2.1", start + Duration::from_secs(1), 100)[0], 10);
        assert_eq!(count(&rates, "192.0.2.1", start + Duration::from_secs(3), 100)[0], 20);
    }

    #[test]
    fn memory_is_bounded_whoever_asks() {
        let (rates, start) = (Rates::new(1), Instant::now());
        for number in 0..40_000_u32 {
            rates.turn(IpAddr::from((number << 8).to_be_bytes()), start);
            assert!(rates.networks.lock().unwrap().len() <= NETWORKS);
        }
    }

    #[test]
    fn without_a_rate_all_are_answered() {
        assert_eq!(count(&Rates::new(0), "192.0.2.1", Instant::now(), 1000), [1000, 0, 0]);
    }
}
