//! Decides when something counts as received. A sender forgets what was acknowledged, so a wrong acknowledgement loses data.
//! Only what was seen to be in the store counts as stored, whatever the store answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::layout::ReportPlace;
use crate::storage::{Created, Found, Pieces, Storage, StorageFault};

/// The most bodies that are kept under one report id.
const MOST_BODIES: usize = 3;

/// The result of keeping a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is stored.
    New,
    /// It is stored beside another body of the same id.
    Beside,
    /// It had been stored before.
    AlreadyThere,
    /// It is not stored, because [`MOST_BODIES`] other bodies of this id are.
    OneTooMany,
}

/// Keeps what was received, within the time that a sender waits.
#[derive(Clone)]
pub(crate) struct Keeper {
    storage: Arc<dyn Storage>,
    time: Duration,
}

impl Keeper {
    /// Creates a keeper for this storage. After `time` something counts as not stored. If it was stored after all, the sender's
    /// next try finds it.
    pub(crate) fn new(storage: Arc<dyn Storage>, time: Duration) -> Self {
        Self { storage, time }
    }

    /// Keeps a report.
    pub(crate) async fn keep_report(&self, place: &ReportPlace, body: &Pieces) -> Result<Kept, StorageFault> {
        self.in_time(async {
            let first = place.first();
            match self.keep(&first, body).await? {
                Found::Nothing => return Ok(Kept::New),
                Found::Same => return Ok(Kept::AlreadyThere),
                Found::Other => {}
            }
            let name = place.other(body);
            let others = self.storage.beginning(&place.folder, &place.others(), MOST_BODIES).await?;
            let is_there = others.iter().any(|other| name.ends_with(other));
            // The first body counts too. Bodies that race may each see a free place. A few more do no harm.
            if !is_there && others.len() + 1 >= MOST_BODIES {
                return Ok(Kept::OneTooMany);
            }
            Ok(match self.keep(&name, body).await? {
                Found::Nothing => Kept::Beside,
                Found::Same => Kept::AlreadyThere,
                // Somebody has made another body with the same four bytes of hash.
                Found::Other => Kept::OneTooMany,
            })
        })
        .await
    }

    /// Stores this, or compares it with what already has the name. `Nothing` means that the name was free and that this is
    /// stored now.
    async fn keep(&self, name: &str, body: &Pieces) -> Result<Found, StorageFault> {
        let why = match self.storage.create(name, body.clone()).await {
            Ok(Created::New) => return Ok(Found::Nothing),
            Ok(Created::Refused) => StorageFault(format!("{name}: the store says that it is there, and it is not")),
            // Some stores refuse a name before they have read a large body, and close the connection. Their answer is lost, and
            // would be lost on each try.
            Err(why) => why,
        };
        match self.storage.compare(name, body).await {
            Ok(Found::Nothing) | Err(_) => Err(why),
            found => found,
        }
    }

    /// Keeps a crash report. The first report of an id stays. If it is new, `before` is stored before it.
    pub(crate) async fn keep_crash(
        &self,
        name: &str,
        event: &Pieces,
        before: Option<(&str, &Pieces)>,
    ) -> Result<(), StorageFault> {
        self.in_time(async {
            if let Some((note, text)) = before {
                // The note about a stored event was stored before the event.
                if self.storage.has(name).await? {
                    return Ok(());
                }
                self.keep(note, text).await?;
            }
            self.keep(name, event).await.map(drop)
        })
        .await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StorageFault>>) -> Result<T, StorageFault> {
        let late = |_| Err(StorageFault(format!("the store did not answer within {} s", self.time.as_secs())));
        timeout(self.time, work).await.unwrap_or_else(late)
    }
}
