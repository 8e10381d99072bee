//! The crash reports that a client makes itself: of children, and of earlier runs.

use data_encoding::HEXLOWER;

use super::{Core, priority};
use crate::crash::delivery::{new_event_id, store_event};
use crate::crash::event::{Crash, Subject, event};
use crate::crash::exit::{CoreDump, Ending};
use crate::crash::{marker, signals};
use crate::error::Error;

impl Core {
    /// Stores what earlier runs on this state directory left behind.
    pub(super) fn report_leftovers(&self) -> Result<(), Error> {
        let Some(dir) = &self.config.state_dir else { return Ok(()) };
        marker::take_leftovers(dir, |leftover| {
            let record = leftover.record;
            let ending = match record {
                Some(record) => Ending::Killed { signal: record.signal, core_dump: CoreDump::Unknown },
                None => Ending::Unknown,
            };
            let class = record.and_then(|record| signals::cause(record.signal, record.code));
            let at = record.map_or_else(|| self.now(), |record| record.at);
            let crash = Crash { event_id: &new_event_id()?, at, ending, class, text: None };
            self.store_crash(&leftover.component, &leftover.version, &crash)
        })
    }

    pub(super) fn store_crash(&self, component: &str, version: &str, crash: &Crash<'_>) -> Result<(), Error> {
        let cluster_id = HEXLOWER.encode(&self.config.cluster);
        let node_id = HEXLOWER.encode(&self.config.node);
        let subject = Subject { component, version, cluster_id: &cluster_id, node_id: &node_id };
        let dropped = store_event(&self.crashes, crash.event_id, &event(&subject, crash))?.1;
        if dropped > 0 {
            self.log(
                priority::WARNING,
                &format!("{dropped} undelivered crash reports were dropped: the spool is full"),
            );
        }
        Ok(())
    }
}
