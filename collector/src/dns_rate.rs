//! Limits the answers that a network gets over UDP. The sender of a question over UDP can forge its address, and the answer
//! goes to the owner of that address. Beyond the rate, an answer is no longer than its question.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ondat_telemetry_service::places::network;

/// The most networks that are remembered. They take about 1 MiB.
const NETWORKS: usize = 16_384;
/// How many seconds' worth of answers a network may get at once, because resolvers ask in bursts.
const BURST: f64 = 2.0;
/// Beyond the rate, one in this many questions is answered with the truncation bit. The client then asks over TCP, where an
/// address cannot be forged.
const SLIP: u32 = 2;

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// With its answer.
    Answered,
    /// With the truncation bit only: the client is to ask over TCP.
    Truncated,
    /// Not at all.
    Dropped,
}

/// The rates of all networks.
pub(crate) struct Rates {
    /// The answers a second. None: there is no bound.
    rate: Option<f64>,
    networks: Mutex<HashMap<IpAddr, Bucket>>,
}

/// The answers that a network may still get.
struct Bucket {
    left: f64,
    at: Instant,
    beyond: u32,
}

impl Rates {
    /// Allows `rate` answers a second for each /24 of IPv4 and /56 of IPv6. Zero means no bound.
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate: (rate > 0).then(|| f64::from(rate)), networks: Mutex::default() }
    }

    /// Decides how the next question from this address is answered.
    pub(crate) fn turn(&self, address: IpAddr, now: Instant) -> Turn {
        let Some(rate) = self.rate else { return Turn::Answered };
        let full = rate * BURST;
        let left_at = |bucket: &Bucket| {
            let since = now.saturating_duration_since(bucket.at);
            (bucket.left + since.as_secs_f64() * rate).min(full)
        };
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if networks.len() >= NETWORKS {
            // A network that has not used any of its answers need not be remembered.
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
