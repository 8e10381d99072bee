//! Removes what is stored for a switch that was turned off: what happened before is never sent.

use crate::error::Error;
use crate::state::StateDir;
use crate::switch::Switch;
use crate::{crash, report};

/// Removes it, also the administrator's copies of reports.
pub fn purge(dir: &StateDir, switch: Switch) -> Result<(), Error> {
    match switch {
        Switch::VersionCheck => Ok(()),
        Switch::DailyReport => report::delivery::purge(dir),
        Switch::CrashReports => crash::delivery::purge(dir),
    }
}
