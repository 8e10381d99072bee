//! Two clocks: the one that people set, and the one that only the kernel moves.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::descriptor;

/// A moment on both clocks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Unix seconds, as right as whoever sets the clock.
    pub unix: i64,
    /// Since when the machine is up; none where the kernel does not say.
    pub boot: Option<Uptime>,
}

impl Moment {
    /// Whether both are known to be of one boot.
    pub fn is_of_boot(&self, other: &Self) -> bool {
        matches!((&self.boot, &other.boot), (Some(one), Some(other)) if one.id == other.id)
    }

    /// Seconds from `earlier` to this: within one boot, whatever became of the clock in between; over a reboot only the
    /// clock tells. None where that says that time went backwards: it was wrong then, or is wrong now.
    pub fn seconds_since(&self, earlier: &Self) -> Option<i64> {
        match (&earlier.boot, &self.boot) {
            (Some(then), Some(now)) if then.id == now.id => Some(now.seconds.saturating_sub(then.seconds)),
            _ => Some(self.unix.saturating_sub(earlier.unix)).filter(|seconds| *seconds >= 0),
        }
    }
}

/// How long one boot of the machine lasts already.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Uptime {
    /// The kernel's id of the boot, random(4); never sent.
    pub id: String,
    /// Seconds of CLOCK_BOOTTIME: it cannot be set, and it goes on while the machine sleeps (clock_gettime(2)).
    pub seconds: i64,
}

/// Tells the time. A trait, so that the client's owner decides what is behind it.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Moment;
}

/// The kernel's clocks.
pub struct SystemClock {
    boot_id: String,
}

impl SystemClock {
    /// Reads the boot's id once: it outlives the process.
    pub fn new() -> Self {
        Self { boot_id: boot_id() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).ok().filter(|_| !self.boot_id.is_empty());
        Moment {
            unix: i64::try_from(unix).unwrap_or(i64::MAX),
            boot: uptime.map(|uptime| Uptime { id: self.boot_id.clone(), seconds: uptime.tv_sec() }),
        }
    }
}

/// The kernel's id of this boot; empty where there is no /proc.
pub fn boot_id() -> String {
    // Not kept: a child that was forked while another thread read it would wait for that thread for ever.
    descriptor::read_text("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
