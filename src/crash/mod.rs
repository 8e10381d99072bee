//! Crash reports: death is the trigger, not the signal. The handler adds detail, the monitor reads the kernel's wait
//! status, and one definition of a report serves both the monitor and a parent that reaps.

pub mod cores;
pub mod delivery;
pub mod host;
pub mod limit;
pub mod marker;
pub mod monitor;
pub mod output;
pub mod record;
pub mod sentry;
pub mod setup;
pub mod witness;
