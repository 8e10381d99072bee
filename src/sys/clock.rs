//! Two clocks: the one that people set, and the one that only the kernel advances.

use std::time::SystemTime;

use nix::time::{ClockId, clock_gettime};
use ondat_telemetry_protocol::time;
use serde::{Deserialize, Serialize};

use super::descriptor;

/// A moment on both clocks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Unix seconds, by a clock that anybody may set.
    pub unix: i64,
    /// Since when the machine is up; none where the kernel does not say.
    pub boot: Option<Uptime>,
}

impl Moment {
    /// Whether both are known to be of one boot, this one the earlier. A boot's clock does not go back: where it seems to,
    /// a process was moved to another machine or restored from an image (time_namespaces(7)), and the two do not compare.
    pub fn is_of_boot(&self, other: &Self) -> bool {
        matches!((&self.boot, &other.boot), (Some(one), Some(other)) if one.id == other.id && one.seconds <= other.seconds)
    }

    /// Seconds from `earlier` to this: within one boot, whatever became of the clock in between; over a reboot only the
    /// clock tells. None where that says that time went backwards: it was wrong then, or is wrong now.
    pub fn seconds_since(&self, earlier: &Self) -> Option<i64> {
        match (&earlier.boot, &self.boot) {
            (Some(then), Some(now)) if earlier.is_of_boot(self) => Some(now.seconds.saturating_sub(then.seconds)),
            _ => Some(self.unix.saturating_sub(earlier.unix)).filter(|seconds| *seconds >= 0),
        }
    }
}

/// How long one boot of the machine lasts already.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Uptime {
    /// The kernel's id of the boot, random(4); never sent.
    pub id: String,
    /// Seconds of CLOCK_BOOTTIME: it cannot be set, and it goes on while the machine sleeps (clock_gettime(2)). As the machine
    /// counts them, without what a time namespace adds: processes of several share a state directory.
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
    /// What the time namespace adds to CLOCK_BOOTTIME, in seconds.
    added: i64,
}

impl SystemClock {
    /// Reads the boot's id and the time namespace once: software that restores a process elsewhere makes its clocks go on
    /// (time_namespaces(7)).
    pub fn new() -> Self {
        Self { boot_id: boot_id(), added: added_by_namespace() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).ok().filter(|_| !self.boot_id.is_empty());
        Moment {
            unix: unix_now(),
            boot: uptime
                .map(|uptime| Uptime { id: self.boot_id.clone(), seconds: uptime.tv_sec().saturating_sub(self.added) }),
        }
    }
}

/// Unix seconds by the clock that people set; 0 before 1970.
pub fn unix_now() -> i64 {
    time::unix_seconds(SystemTime::now()).unwrap_or(0)
}

/// The kernel's id of this boot; empty where there is no /proc.
pub fn boot_id() -> String {
    // Not kept: a child that was forked while another thread read it would wait for that thread for ever.
    descriptor::read_text("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// What the time namespace of this process adds to the boot's clock, in seconds.
fn added_by_namespace() -> i64 {
    let namespace = |name| std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
    // The file is about the namespace of children to come.
    if namespace("time") != namespace("time_for_children") {
        return 0;
    }
    let offsets = descriptor::read_text("/proc/self/timens_offsets").unwrap_or_default();
    let boot = offsets.lines().find_map(|line| line.strip_prefix("boottime"));
    boot.and_then(|offset| offset.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn moment(unix: i64, boot: &str, seconds: i64) -> Moment {
        Moment { unix, boot: Some(Uptime { id: boot.to_owned(), seconds }) }
    }

    #[test]
    fn a_boots_clock_that_went_back_is_not_believed() {
        let then = moment(1_000_000, "b", 500_000);
        assert_eq!(moment(1_000_060, "b", 500_050).seconds_since(&then), Some(50));
        assert_eq!(moment(1_000_060, "b", 40).seconds_since(&then), Some(60), "the other clock tells");
        assert!(!then.is_of_boot(&moment(1_000_060, "b", 40)));
        assert_eq!(moment(999_000, "b", 40).seconds_since(&then), None, "neither tells");
    }

    #[test]
    fn what_a_time_namespace_adds_is_not_counted() {
        // Needs a privilege; where it is missing there is nothing to be seen.
        let program = std::env::current_exe().unwrap();
        if std::env::var_os("ONDAT_TELEMETRY_TEST_UPTIME").is_some() {
            writeln!(std::io::stdout(), "uptime {}", SystemClock::new().now().boot.unwrap().seconds).unwrap();
            return;
        }
        let inside = std::process::Command::new("unshare")
            .args(["--time", "--boottime", "864000", "--fork"])
            .arg(program)
            .args(["--exact", "sys::clock::tests::what_a_time_namespace_adds_is_not_counted", "--nocapture"])
            .env("ONDAT_TELEMETRY_TEST_UPTIME", "1")
            .output()
            .unwrap();
        let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
        let Some((_, seconds)) = inside.split_once("uptime ") else { return };
        let seconds: i64 = seconds.split_ascii_whitespace().next().unwrap().parse().unwrap();
        let outside = SystemClock::new().now().boot.unwrap().seconds;
        assert!((0..864_000).contains(&(outside - seconds)), "{inside}: {outside}");
    }
}
